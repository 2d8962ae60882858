"""Cityscapes and LVIS converted: masks pixel by pixel, groups as crowd, what is missing; federated AP by hand."""

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as codec

from command import seanet
from seanet.data.coco import CocoData, find_split, mask_bits, read_coco
from seanet.data.formats.cityscapes import CLASSES, convert, find_frames, find_splits, objects, read_ids, results
from seanet.data.formats.lvis import split_of
from seanet.errors import AnnotationError, ImageError, UserError
from seanet.evaluation.assess import assess
from seanet.evaluation.lvis import in_place_of_coco, is_federated, score
from seanet.report.text import table

HEIGHT, WIDTH = 40, 60


# Cityscapes


def street() -> np.ndarray:
    """Two cars, one of them from the top to the bottom of the image, a person, a group of persons, and what is neither."""
    ids = np.full((HEIGHT, WIDTH), 7)
    ids[0:2, 0:60:2] = 11
    ids[:, 56:59] = 26000
    ids[5:15, 10:30] = 26001
    ids[8:12, 15:20] = 24000  # in front of the car
    ids[25:40, 0:12] = 24
    ids[20:24, 30:40] = 29000  # a caravan
    return ids


def save(folder: Path, split: str, name: str, ids: np.ndarray | dict) -> None:
    """A frame with its picture; ``ids`` are pixels, or the content of a file of polygons."""
    city = name.partition("_")[0]
    for kind in ("gtFine", "leftImg8bit"):
        (folder / kind / split / city).mkdir(parents=True, exist_ok=True)
    truth = folder / "gtFine" / split / city / f"{name}_gtFine"
    if isinstance(ids, dict):
        Path(f"{truth}_polygons.json").write_text(json.dumps(ids))
    else:
        Image.fromarray(ids.astype(np.uint16)).save(f"{truth}_instanceIds.png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    source = tmp_path / "cityscapes"
    save(source, "train", "aachen_000000_000019", street())
    save(source, "train", "bochum_000000_000313", np.full((HEIGHT, WIDTH), 11))
    save(source, "val", "frankfurt_000000_000294", street()[:, ::-1])
    return source


def dense(data: CocoData, image: int) -> dict[tuple[str, bool, int], np.ndarray]:
    """Masks of an image by class, crowd and area."""
    record = data.images[image]
    found = {}
    for a in record.annotations:
        bits, (x0, y0, x1, y1) = mask_bits(a, record.height, record.width)
        mask = np.zeros((record.height, record.width), bool)
        mask[y0:y1, x0:x1] = bits
        found[data.categories.names[a.label - 1], a.crowd, int(a.area)] = mask
    return found


def test_cityscapes_round_trip(cityscapes: Path, tmp_path: Path):
    out = tmp_path / "out"
    said = json.loads(seanet("data", "convert", "cityscapes", cityscapes, out, "--json").stdout)
    assert {k: v for k, v in said["train"].items() if k != "file"} == {
        "images": 2,
        "empty_images": 1,
        "objects": 3,
        "crowds": 1,
        "classes": {"car": 2, "person": 1},
    }
    for split, ids in (("train", street()), ("val", street()[:, ::-1])):
        data = read_coco(*find_split(out, split))
        assert not data.repairs.count("repaired") + data.repairs.count("skipped")
        assert data.categories.ids == (24, 25, 26, 27, 28, 31, 32, 33)
        assert data.images[0].path.resolve().is_relative_to(cityscapes.resolve() / "leftImg8bit" / split)
        assert dense(data, 0).keys() == {
            ("car", False, 120),
            ("car", False, 180),
            ("person", False, 20),
            ("person", True, 180),
        }
        masks = dense(data, 0)
        assert np.array_equal(masks["car", False, 120], ids == 26000)
        assert np.array_equal(masks["car", False, 180], ids == 26001)
        assert np.array_equal(masks["person", False, 20], ids == 24000)
        assert np.array_equal(masks["person", True, 180], ids == 24)


def test_cityscapes_says_what_was_converted(cityscapes: Path, tmp_path: Path):
    text = seanet("data", "convert", "cityscapes", cityscapes, tmp_path / "out").stdout
    assert "train: 2 images (1 without objects), 3 objects, 1 crowd region:" in text
    assert "car 2, person 1" in text
    seanet("data", "convert", "cityscapes", cityscapes, tmp_path / "out")  # again, over its own files


@given(
    arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 24, 26000, 26001]))
)
@settings(max_examples=50, deadline=None)
def test_objects_are_the_pixels_of_their_ids(ids: np.ndarray):
    found = list(objects(ids))
    assert len(found) == len(set(np.unique(ids)) - {0})
    for entry, id in zip(found, sorted(set(np.unique(ids).tolist()) - {0}), strict=True):
        rle = entry["segmentation"]
        assert np.array_equal(codec.decode(rle), ids == id)
        assert entry["area"] == (ids == id).sum()
        y, x = np.nonzero(ids == id)
        assert entry["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert entry["iscrowd"] == (id == 24)


def polygons() -> dict:
    """``street`` in the order of its layers; a licence plate and what was deleted cover nothing."""

    def rectangle(label: str, x0: int, y0: int, x1: int, y1: int, **more: object) -> dict:
        return {"label": label, "polygon": [[x0, y0], [x1 - 1, y0], [x1 - 1, y1 - 1], [x0, y1 - 1]], **more}

    layers = [rectangle("road", 0, 0, WIDTH, HEIGHT), rectangle("car", 56, 0, 59, HEIGHT)]
    layers += [rectangle("car", 10, 5, 30, 15), rectangle("license plate", 11, 6, 14, 7)]
    layers += [rectangle("person", 0, 0, 30, 30, deleted=1), rectangle("person", 15, 8, 20, 12)]
    layers += [rectangle("persongroup", 0, 25, 12, 40), rectangle("caravan", 30, 20, 40, 24)]
    return {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": layers}


def instances(ids: np.ndarray) -> np.ndarray:
    """Ids of the eight classes, everything else 0."""
    return np.where(np.isin(np.where(ids >= 1000, ids // 1000, ids), list(CLASSES)), ids, 0)


def test_cityscapes_polygons_are_drawn_where_ids_are_missing(tmp_path: Path):
    save(tmp_path, "val", "ulm_000000_000019", polygons())
    (frame,) = find_frames(tmp_path, "val")
    assert np.array_equal(read_ids(frame.truth), instances(street()))


def test_cityscapes_ids_win_over_polygons(cityscapes: Path):
    save(cityscapes, "val", "frankfurt_000000_000294", {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": []})
    assert len(convert(cityscapes, "val")["annotations"]) == 4


def test_cityscapes_draws_as_its_own_scripts(tmp_path: Path):
    pytest.importorskip("cityscapesscripts")
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2instanceImg import createInstanceImage

    rng = np.random.default_rng(0)
    labels = ["car", "cargroup", "person", "rider", "train", "caravan", "trailergroup", "building", "license plate"]
    shapes = [
        {"label": str(rng.choice(labels)), "polygon": rng.integers(-5, 65, (6, 2)).tolist(), "deleted": int(i % 7 == 3)}
        for i in range(60)
    ]
    file = tmp_path / "x_polygons.json"
    file.write_text(json.dumps({"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": shapes}))
    official = Annotation()
    official.fromJsonFile(str(file))
    assert np.array_equal(read_ids(file), instances(np.array(createInstanceImage(official, "ids"))))


def test_cityscapes_missing_halves_are_named(cityscapes: Path):
    picture = cityscapes / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    truth = cityscapes / "gtFine/train/bochum/bochum_000000_000313_gtFine_instanceIds.png"
    moved = picture.rename(picture.with_suffix(".away"))
    with pytest.raises(AnnotationError, match=r"1 annotations have no picture, aachen/aachen_000000_000019 first"):
        find_frames(cityscapes, "train")
    moved.rename(picture)
    truth.unlink()
    with pytest.raises(AnnotationError, match=r"1 pictures have no annotation, bochum/bochum_000000_000313 first"):
        find_frames(cityscapes, "train")
    assert find_splits(cityscapes) == ["train", "val"]


def test_cityscapes_elsewhere(tmp_path: Path):
    assert "gtFine_trainvaltest.zip" in seanet("data", "convert", "cityscapes", tmp_path, tmp_path / "x", code=2).stderr
    (tmp_path / "gtFine" / "val").mkdir(parents=True)
    with pytest.raises(AnnotationError, match=r"found no CITY/\*_gtFine_instanceIds.png"):
        find_frames(tmp_path, "val")


def test_cityscapes_files_that_are_something_else(cityscapes: Path):
    file = cityscapes / "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_instanceIds.png"
    Image.new("L", (WIDTH, HEIGHT)).save(file)
    with pytest.raises(ImageError, match=r"instanceIds.png holds pixels of mode L: expected instance ids of 16 bits"):
        convert(cityscapes, "val")
    file.write_bytes(file.read_bytes()[:30])
    with pytest.raises(ImageError, match=r"instanceIds.png is damaged"):
        convert(cityscapes, "val")
    file.unlink()
    save(cityscapes, "val", "frankfurt_000000_000294", {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": [{}]})
    with pytest.raises(AnnotationError, match=r"polygons.json: is no annotation of Cityscapes.*KeyError: 'label'"):
        convert(cityscapes, "val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"imgHeight": 30000, "imgWidth": 30000, "objects": []}', "more than 200,000,000 pixels"),
        ('{"imgHeight": 9, "imgWidth": 9, "objects": [{"label": "car", "polygon": [[0, 0], [NaN, 0]]}]}', "a point at"),
        ('{"imgHeight": 9, "imgWidth": 9, "objects": [{"label": "car", "polygon": [[0, 0], [1e9, 0]]}]}', "a point at"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_cityscapes_polygons_that_are_none(content: str, message: str, tmp_path: Path):
    file = tmp_path / "x_gtFine_polygons.json"
    file.write_text(content)
    with pytest.raises(AnnotationError, match=message):
        read_ids(file)


def test_cityscapes_ids_of_too_many_pixels(tmp_path: Path):
    file = tmp_path / "x_gtFine_instanceIds.png"
    Image.new("I;16", (1, 1)).save(file)
    data = bytearray(file.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    file.write_bytes(data)
    with pytest.raises(ImageError, match=r"instanceIds.png has .*pixels"):
        read_ids(file)


def test_cityscapes_pictures_of_another_size(cityscapes: Path):
    Image.new("RGB", (30, 20)).save(cityscapes / "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png")
    with pytest.raises(AnnotationError, match=r"is 60 x 40 pixels, but .*leftImg8bit.png is 30 x 20"):
        convert(cityscapes, "val")


def test_links_of_others_are_left_alone(cityscapes: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "images").symlink_to(tmp_path)
    assert "write to another folder" in seanet("data", "convert", "cityscapes", cityscapes, out, code=2).stderr
    assert not (out / "annotations").exists()
    (out / "images").unlink()
    (out / "images").mkdir()  # somebody's copy
    seanet("data", "convert", "cityscapes", cityscapes, out)
    assert not (out / "images").is_symlink()


def entry(image: int, category: int, mask: np.ndarray, confidence: float) -> dict:
    rle = codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = codec.toBbox(rle).tolist()
    found = {"image_id": image, "category_id": category, "bbox": box, "score": confidence}
    return found | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}


def predictions(out: Path) -> tuple[CocoData, list[dict]]:
    """One car is found exactly, with a false one above it; the other car and the person are missed; the group is found."""
    data, ids = read_coco(*find_split(out, "val")), street()[:, ::-1]
    nothing = np.zeros_like(ids, bool)
    nothing[16:19, 45:60] = True
    found = [entry(1, 26, ids == 26001, 0.5), entry(1, 26, nothing, 0.75), entry(1, 24, ids == 24, 0.875)]
    return data, found


def test_cityscapes_results_hold_the_detections(cityscapes: Path, tmp_path: Path):
    seanet("data", "convert", "cityscapes", cityscapes, tmp_path / "out")
    data, entries = predictions(tmp_path / "out")
    files = dict(results(data, entries))
    lines = files["frankfurt_000000_000294_pred.txt"].decode().splitlines()
    assert [line.split()[1:] for line in lines] == [
        ["26", "0.500000000"],
        ["26", "0.750000000"],
        ["24", "0.875000000"],
    ]
    for line, found in zip(lines, entries, strict=True):
        path = tmp_path / Path(line.split()[0]).name
        path.write_bytes(files[line.split()[0]])
        assert np.array_equal(np.array(Image.open(path).convert("L")) != 0, codec.decode(found["segmentation"]) == 1)
    assert set(files) == {line.split()[0] for line in lines} | {"frankfurt_000000_000294_pred.txt"}


def test_results_of_images_that_share_a_name_would_replace_each_other(cityscapes: Path, tmp_path: Path):
    seanet("data", "convert", "cityscapes", cityscapes, tmp_path / "out")
    data, entries = predictions(tmp_path / "out")
    (image,) = data.images
    twice = replace(data, images=(image, replace(image, id=2, path=image.path.parent / "b" / image.path.name)))
    with pytest.raises(UserError, match=r"2 images are called frankfurt_000000_000294_leftImg8bit.png"):
        list(results(twice, entries))


def test_cityscapes_results_from_a_results_file(cityscapes: Path, tmp_path: Path):
    out, file, to = tmp_path / "out", tmp_path / "found.json", tmp_path / "results"
    seanet("data", "convert", "cityscapes", cityscapes, out)
    data, entries = predictions(out)
    file.write_text(json.dumps(entries))
    said = json.loads(seanet("data", "convert", "cityscapes-results", file, out, to, "--json").stdout)
    assert (said["images"], said["detections"]) == (1, 3)
    for name, content in results(data, entries):
        assert (to / name).read_bytes() == content
    again = seanet("data", "convert", "cityscapes-results", file, out, to, code=2).stderr
    assert f"{to} is not empty: name a new or empty folder" in again


def test_cityscapes_results_of_other_data(lvis: CocoData, tmp_path: Path):
    (tmp_path / "found.json").write_text("[]")
    said = seanet(
        "data", "convert", "cityscapes-results", tmp_path / "found.json", tmp_path / "out", tmp_path / "x", code=2
    )
    assert "aardvark, bagel, cat is no class of Cityscapes: expected person, rider" in said.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) >= "2.3.0", reason="cityscapesscripts 2.3.0 needs numpy < 2.3")
def test_cityscapes_own_evaluation_reads_the_results(cityscapes: Path, tmp_path: Path, monkeypatch):
    pytest.importorskip("cityscapesscripts")
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official

    seanet("data", "convert", "cityscapes", cityscapes, tmp_path / "out")
    for name, content in results(*predictions(tmp_path / "out")):
        (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(tmp_path / "results"))
    args = official.args
    args.quiet, args.JSONOutput, args.gtInstancesFile = True, False, str(tmp_path / "instances.json")
    truth = [str(next((cityscapes / "gtFine" / "val").glob("*/*instanceIds.png")))]
    found = official.evaluateImgLists([official.getPrediction(truth[0], args)], truth, args)
    # Precision 1/2 at recall 1/2, 0 at recall 0; its steps reach half way to the neighbours: 1/2 x 1/4.
    assert found["averages"]["classes"]["car"]["ap"] == pytest.approx(1 / 8)
    assert np.isnan(found["averages"]["classes"]["person"]["ap"])  # smaller than 100 pixels: not counted there


# LVIS

CATEGORIES = [
    {"id": 3, "name": "aardvark", "frequency": "r"},
    {"id": 7, "name": "bagel", "frequency": "c"},
    {"id": 9, "name": "cat", "frequency": "f"},
]
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
NAMES = ("train2017/000000000009.jpg", "val2017/000000000139.jpg")


def lvis_content() -> dict:
    """An aardvark in image 9, where no bagel is; a bagel in image 139, where there may be more of them."""
    images = [
        {"id": id, "width": 60, "height": 40, "coco_url": f"http://images.cocodataset.org/{name}", **more}
        for id, name, more in (
            (9, NAMES[0], {"neg_category_ids": [7], "not_exhaustive_category_ids": []}),
            (139, NAMES[1], {"neg_category_ids": [], "not_exhaustive_category_ids": [7]}),
        )
    ]
    annotations = [
        {"id": 1, "image_id": 9, "category_id": 3, "segmentation": SQUARE, "area": 400, "bbox": [10, 10, 20, 20]},
        {"id": 2, "image_id": 139, "category_id": 7, "segmentation": SQUARE, "area": 400, "bbox": [10, 10, 20, 20]},
    ]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def lvis_files(folder: Path, content: dict) -> tuple[Path, Path]:
    for name in NAMES:
        (folder / "coco" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(folder / "coco" / name)
    file = folder / "lvis_v1_val.json"
    file.write_text(json.dumps(content))
    return file, folder / "coco"


@pytest.fixture
def lvis(tmp_path: Path) -> CocoData:
    return converted(tmp_path, lvis_content())


def converted(folder: Path, content: dict) -> CocoData:
    seanet("data", "convert", "lvis", *lvis_files(folder, content), folder / "out")
    return read_coco(*find_split(folder / "out", "val"))


def test_lvis_round_trip(lvis: CocoData, tmp_path: Path):
    assert [image.path.resolve() for image in lvis.images] == [(tmp_path / "coco" / name).resolve() for name in NAMES]
    assert lvis.categories.names == ("aardvark", "bagel", "cat")
    square = np.zeros((40, 60), bool)
    square[10:30, 10:30] = True
    assert np.array_equal(dense(lvis, 0)["aardvark", False, 400], square)
    assert not lvis.repairs.count("repaired") + lvis.repairs.count("skipped")
    assert is_federated(lvis.file)


def test_coco_files_are_not_federated(cityscapes: Path, tmp_path: Path):
    seanet("data", "convert", "cityscapes", cityscapes, tmp_path / "out")
    assert not is_federated(tmp_path / "out" / "annotations" / "instances_val.json")
    (tmp_path / "empty.json").touch()
    assert not is_federated(tmp_path / "empty.json")
    assert not is_federated(tmp_path)


def at(left: int, image: int, category: int, confidence: float) -> dict:
    mask = np.zeros((40, 60), bool)
    mask[10:30, left : left + 20] = True
    return entry(image, category, mask, confidence)


def detections() -> list[dict]:
    return [
        at(10, 9, 3, 0.9),  # the aardvark
        at(35, 9, 9, 0.95),  # a cat, for which nobody looked
        at(35, 9, 7, 0.9),  # a bagel, where there is none
        at(10, 139, 7, 0.5),  # the bagel
        at(35, 139, 7, 0.95),  # a bagel, where not all are outlined
    ]


def test_federated_ap_by_hand(lvis: CocoData):
    """Aardvark: 1.  Bagel: one false above one true, so precision 1/2 at every recall.  Cat: no object."""
    found = score(lvis, detections())
    for kind in ("bbox", "segm"):
        assert found[kind]["AP"] == pytest.approx(3 / 4)
        assert found[kind]["AP50"] == found[kind]["AP75"] == found[kind]["APs"] == pytest.approx(3 / 4)
        assert (found[kind]["APr"], found[kind]["APc"]) == (pytest.approx(1), pytest.approx(1 / 2))
        assert found[kind]["APf"] is found[kind]["APm"] is found[kind]["APl"] is None
        assert found[kind]["per_class"]["bagel"] == {"AP": pytest.approx(1 / 2), "AP50": pytest.approx(1 / 2)}
        assert found[kind]["per_class"]["cat"] == {"AP": None, "AP50": None}
        assert found[kind]["AR"] == pytest.approx(1)
    assert (found["unjudged"], found["detections"], found["images"], found["objects"]) == (1, 5, 2, 2)


@pytest.mark.parametrize(
    "address", ["http://x/../1.jpg", "http://x/a\0/1.jpg", f"http://x/{'a' * 300}/1.jpg", "1.jpg", "http://x//1.jpg", 3]
)
def test_lvis_addresses_that_name_no_image(address: object, tmp_path: Path):
    content = lvis_content()
    content["images"][0]["coco_url"] = address
    said = seanet("data", "convert", "lvis", *lvis_files(tmp_path, content), tmp_path / "out", code=2).stderr
    assert "image 9 has the coco_url" in " ".join(said.split())


def test_what_is_outlined_in_full_is_judged_in_full(tmp_path: Path):
    content = lvis_content()
    content["images"][0]["neg_category_ids"] = [7, 9]
    content["images"][1]["not_exhaustive_category_ids"] = []
    found = score(converted(tmp_path, content), detections())
    assert found["segm"]["APc"] == pytest.approx(1 / 3)  # two false bagels above the true one
    assert found["unjudged"] == 0


def test_an_image_that_was_searched_for_nothing(tmp_path: Path):
    content = lvis_content()
    content["images"][0]["neg_category_ids"] = []
    content["annotations"] = [
        entry for entry in content["annotations"] if entry["image_id"] != content["images"][0]["id"]
    ]
    data = converted(tmp_path, content)
    first = sum(entry["image_id"] == content["images"][0]["id"] for entry in detections())
    assert first > 0
    assert score(data, detections())["unjudged"] >= first


def test_the_limit_is_one_of_all_categories(lvis: CocoData):
    found = score(lvis, detections(), max_detections=1)
    assert found["segm"]["APr"] == 0  # the cat is the best of image 9, judged or not
    assert found["detections"] == 2
    assert score(lvis, detections(), max_detections=2)["segm"]["APr"] == 1


def test_categories_of_a_model_go_by_name(lvis: CocoData):
    """A model that counts its categories from 1 and knows one more."""
    from seanet.data.coco import Categories

    other = Categories((1, 2, 3, 4), ("zebra", "cat", "bagel", "aardvark"))
    data = read_coco(lvis.file, lvis.file.parent.parent / "images", categories=other)
    ids = {3: 4, 7: 3, 9: 2}
    moved = [found | {"category_id": ids[found["category_id"]]} for found in detections()]
    mine, own = score(data, moved), score(lvis, detections())
    assert {k: v for k, v in mine["segm"].items() if k != "per_class"} == {
        k: v for k, v in own["segm"].items() if k != "per_class"
    }
    assert mine["segm"]["per_class"] == own["segm"]["per_class"] | {"zebra": {"AP": None, "AP50": None}}


def test_nothing_found(lvis: CocoData):
    assert score(lvis, [])["segm"]["AP"] == 0


def test_lvis_ap_takes_the_place_of_coco_ap(lvis: CocoData, cityscapes: Path, tmp_path: Path):
    metrics = assess(lvis, detections(), 300).metrics
    found = in_place_of_coco(metrics, lvis, detections(), 300)
    assert metrics["segm"]["AP"] == pytest.approx((1 + 1 / 3) / 2)  # COCO counts both false bagels
    wanted = metrics | score(lvis, detections()) | {"boundary": {"width": metrics["boundary"]["width"]}}
    wanted.pop("best_f1")  # it counts both false bagels too
    assert found == wanted
    text = table(found)
    assert "APr" in text
    assert "unjudged: 1" in text
    assert "\nboundary  " not in text
    seanet("data", "convert", "cityscapes", cityscapes, tmp_path / "streets")
    assert in_place_of_coco(metrics, read_coco(*find_split(tmp_path / "streets", "val")), [], 300) is metrics


def test_federated_ap_equals_another_library(tmp_path: Path):
    """Random ellipses of six categories; more detections than count; ties in the scores."""
    rng = np.random.default_rng(3)
    file, folder = lvis_random(rng, tmp_path)
    data = read_coco(file, folder)
    entries = [
        entry(image.id, int(rng.integers(1, 7)), ellipse(rng), float(rng.integers(1, 40)) / 40)
        for image in data.images
        for _ in range(8)
    ]
    for image in data.images:
        for a in image.annotations:
            bits, (x0, y0, x1, y1) = mask_bits(a, image.height, image.width)
            mask = np.zeros((image.height, image.width), bool)
            mask[y0:y1, x0:x1] = bits
            shifted = np.roll(mask, int(rng.integers(0, 3)), 1)
            entries.append(entry(image.id, data.categories.ids[a.label - 1], shifted, float(rng.random())))
    expected, found = theirs(json.loads(file.read_text()), entries, 9), score(data, entries, max_detections=9)["segm"]
    assert 0.05 < expected["AP"] < 0.95
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def theirs(content: dict, entries: list[dict], limit: int) -> dict[str, float]:
    """Of masks, by faster-coco-eval, which has to be given the best of each image that were searched for."""
    searched = {image["id"]: set(image["neg_category_ids"]) for image in content["images"]}
    for a in content["annotations"]:
        searched[a["image_id"]].add(a["category_id"])
    best: list[dict] = []
    for image in searched:
        own = sorted((e for e in entries if e["image_id"] == image), key=lambda e: -e["score"])
        best += [e for e in own[:limit] if e["category_id"] in searched[image]]
    truth = COCO(content)
    shown = [{key: value for key, value in e.items() if key != "bbox"} for e in best]
    evaluation = COCOeval_faster(truth, truth.loadRes(shown), "segm", print_function=lambda *_: None, lvis_style=True)
    evaluation.params.maxDets = [limit]
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[name]) for name in ("precision", "recall"))
    frequency = np.array([c["frequency"] for c in sorted(content["categories"], key=lambda c: c["id"])])
    parts = {"AP": precision[:, :, :, 0], "AP50": precision[0, :, :, 0], "AP75": precision[5, :, :, 0]}
    parts |= {f"AP{name}": precision[:, :, :, i] for i, name in enumerate("sml", 1)}
    parts |= {f"AP{name}": precision[:, :, frequency == name, 0] for name in "rcf"}
    parts |= {f"AR{name}": recall[:, :, i] for i, name in enumerate(("", "s", "m", "l"))}
    return {name: float(part[part > -1].mean()) for name, part in parts.items()}


def ellipse(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:160, :220]
    cy, cx, ry, rx = rng.uniform(0, 160), rng.uniform(0, 220), *rng.uniform(5, 90, 2)
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1


def lvis_random(rng: np.random.Generator, folder: Path, count: int = 12) -> tuple[Path, Path]:
    images, annotations = [], []
    for id in range(1, count + 1):
        Image.new("RGB", (220, 160)).save(folder / f"{id}.png")
        own = rng.permutation(6) + 1
        images.append({"id": id, "file_name": f"{id}.png", "width": 220, "height": 160})
        images[-1] |= {"neg_category_ids": own[3:5].tolist(), "not_exhaustive_category_ids": own[:1].tolist()}
        for _ in range(5):
            found = entry(id, int(rng.choice(own[:3])), ellipse(rng), 1)
            area = int(codec.area(found["segmentation"]))
            annotations.append({**found, "id": len(annotations) + 1, "area": area, "iscrowd": 0})
    categories = [{"id": k, "name": f"class {k}", "frequency": "rccfff"[k - 1]} for k in range(1, 7)]
    file = folder / "truth.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file, folder


def test_lvis_without_its_pictures(tmp_path: Path):
    file, images = lvis_files(tmp_path, lvis_content())
    (images / NAMES[1]).unlink()
    said = seanet("data", "convert", "lvis", file, images, tmp_path / "out", code=2).stderr
    assert f"1 of its 2 images are not below {images} ({NAMES[1]} first)" in said
    assert "give the folder that holds all of train2017, val2017" in said
    assert not (tmp_path / "out").exists()


def test_lvis_of_another_version(tmp_path: Path):
    content = lvis_content()
    del content["images"][1]["coco_url"]
    file, images = lvis_files(tmp_path, content)
    said = seanet("data", "convert", "lvis", file, images, tmp_path / "out", code=2).stderr
    assert "image 139 has the coco_url None: expected LVIS v1" in said


def test_lvis_splits_go_by_the_name(tmp_path: Path):
    assert split_of(Path("lvis_v1_train.json")) == "train"
    assert split_of(Path("lvis_v1_minival.json")) == "val"
    with pytest.raises(UserError, match="say which it is with --split"):
        split_of(Path("lvis.json"))
    file, images = lvis_files(tmp_path, lvis_content())
    seanet("data", "convert", "lvis", file, images, tmp_path / "out", "--split", "train")
    assert find_split(tmp_path / "out", "train")[0].name == "instances_train.json"


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("categories", "frequency", None, "category 3 has the frequency None: expected r, c or f"),
        ("images", "neg_category_ids", "all", "image 9 has the neg_category_ids 'all': expected a list"),
        ("images", "not_exhaustive_category_ids", None, "image 9 has the not_exhaustive_category_ids None"),
    ],
)
def test_half_federated_files_are_refused(tmp_path: Path, part: str, field: str, value: object, message: str):
    content = json.loads(json.dumps(lvis_content()))
    content[part][0][field] = value
    data = converted(tmp_path, content)
    with pytest.raises(AnnotationError, match=message):
        score(data, detections())
