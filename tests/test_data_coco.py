"""What read_coco refuses, repairs, skips and accepts, row by row, and that masks are what pycocotools makes of them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from seanet.data import bitmaps, coco
from seanet.data.coco import Categories, find_split, read_coco
from seanet.errors import AnnotationError

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
H, W = 40, 60


def content() -> dict:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in (1, 2)],
        "annotations": [annotation(7), annotation(8, image_id=2)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }


def annotation(id: int, **changes) -> dict:
    fields = {"id": id, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    return fields | {"segmentation": [SQUARE]} | changes


@pytest.fixture
def folder(tmp_path) -> Path:
    for i in (1, 2):
        Image.new("RGB", (W, H)).save(tmp_path / f"{i}.png")
    return tmp_path


def read(folder: Path, data: object, **options):
    file = folder / "data.json"
    file.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return read_coco(file, folder, **options)


def with_annotation(**changes) -> dict:
    data = content()
    data["annotations"][0] |= changes
    return data


def without(part: str, key: str) -> dict:
    data = content()
    del data[part][0][key]
    return data


def with_entry(part: str, **changes) -> dict:
    data = content()
    data[part][0] |= changes
    return data


def rle(bits: np.ndarray, compressed: bool = True) -> dict:
    if compressed:
        code = reference.encode(np.asfortranarray(bits))
        return {"size": list(bits.shape), "counts": code["counts"].decode()}
    edges = np.flatnonzero(np.diff(bits.ravel(order="F"))) + 1
    counts = np.diff([0, *edges, bits.size]).tolist()
    return {"size": list(bits.shape), "counts": counts if not bits.flat[0] else [0, *counts]}


def square_bits() -> np.ndarray:
    bits = np.zeros((H, W), np.uint8)
    bits[10:30, 10:30] = 1
    return bits


def test_clean_file(folder):
    data = read(folder, content())
    assert data.categories == Categories((3, 5), ("cat", "dog"))
    assert data.categories.label(5) == 2
    first = data.images[0].annotations[0]
    assert (first.id, first.source_id, first.label, first.box, first.area, first.crowd) == (
        1,
        7,
        1,
        (10, 10, 30, 30),
        400,
        False,
    )
    assert data.repairs.skipped_share == 0
    assert data.repairs.summary() == ["1 category noticed: no annotation, so its AP will be n/a (dog)"]


BROKEN_FILES = {
    "J1 cut": (json.dumps(content()).encode()[:100], "line 1, column"),
    "J1 utf-16": (json.dumps(content()).encode("utf-16"), "UTF-16"),
    "J1 latin": (b'{"images": "\xff\xe9"}', "not UTF-8"),
    "J1 gzip": (b"\x1f\x8b\x08\x00", "gunzip"),
    "J1 list": ([1, 2], "a list"),
    "J1 deep": (b'{"images": ' + b"[" * 200_000, "not JSON"),
    "J2 no images": ({k: v for k, v in content().items() if k != "images"}, "'images'"),
    "J2 no annotations": ({k: v for k, v in content().items() if k != "annotations"}, "'annotations'"),
    "J2 no categories": ({k: v for k, v in content().items() if k != "categories"}, "'categories'"),
    "J2 dict": (content() | {"images": {}}, "expected a list"),
    "J2 number": (content() | {"annotations": [3]}, "the number 3"),
    "J2 nan width": (with_entry("images", width=float("nan")), "width nan"),
    "C no category": (content() | {"categories": []}, "'categories' is empty"),
    "C2 twice": (content() | {"categories": [{"id": 3, "name": n} for n in "ab"]}, "id 3"),
    "C2 negative": (with_entry("categories", id=-1), "id -1"),
    "C2 text": (with_entry("categories", id="3"), "id '3'"),
    "C2 float": (with_entry("categories", id=3.5), "id 3.5"),
    "C2 bool": (with_entry("categories", id=True), "id True"),
    "C no name": (without("categories", "name"), "name None"),
}


@pytest.mark.parametrize(("data", "words"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_broken_file_is_refused(folder, data, words):
    with pytest.raises(AnnotationError) as caught:
        read(folder, data)
    assert words in str(caught.value)
    assert str(folder / "data.json") in str(caught.value)
    assert caught.value.file == folder / "data.json"


BROKEN_IMAGES = {
    "I1": (content() | {"images": [content()["images"][0] | {"file_name": n} for n in ("1.png", "2.png")]}, "id", 1),
    "I3 missing": (with_entry("images", file_name="none.png"), "file_name", 1),
    "I3 folder": (with_entry("images", file_name="sub"), "file_name", 1),
    "I3 pipe": (with_entry("images", file_name="pipe"), "file_name", 1),
    "I4 up": (with_entry("images", file_name="../1.png"), "file_name", 1),
    "I4 up, windows": (with_entry("images", file_name="a\\..\\..\\1.png"), "file_name", 1),
    "I4 absolute": (with_entry("images", file_name="/etc/passwd"), "file_name", 1),
    "I4 drive": (with_entry("images", file_name="C:\\1.png"), "file_name", 1),
    "I4 nul": (with_entry("images", file_name="1.png\0"), "file_name", 1),
    "I4 long": (with_entry("images", file_name="x" * 256), "file_name", 1),
    "I4 surrogate": (with_entry("images", file_name="\udc00\ud800.png"), "file_name", 1),
    "file_name number": (with_entry("images", file_name=4), "file_name", 1),
    "file_name missing": (without("images", "file_name"), "file_name", 1),
    "id text": (with_entry("images", id="one"), "id", "one"),
    "width 0": (with_entry("images", width=0), "width", 1),
    "height half": (with_entry("images", height=40.5), "height", 1),
    "width huge": (with_entry("images", width=10**9), "width", 1),
    "one side": (without("images", "height"), "height", 1),
}


@pytest.mark.parametrize(("data", "field", "image"), BROKEN_IMAGES.values(), ids=BROKEN_IMAGES)
def test_broken_image_is_refused(folder, data, field, image):
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(AnnotationError) as caught:
        read(folder, data)
    error = caught.value
    assert str(folder / "data.json") in str(error)
    assert str(image) in str(error)
    assert (error.image_id, error.field) == (image, field)


BROKEN_ANNOTATIONS = {
    "C2 text": ({"category_id": "3"}, "category_id"),
    "C2 negative": ({"category_id": -1}, "category_id"),
    "C2 float": ({"category_id": 3.0}, "category_id"),
    "C2 missing": ({"category_id": None}, "category_id"),
    "A3 nothing": ({"bbox": None, "segmentation": None}, "bbox"),
    "A3 text": ({"bbox": ["1", 2, 3, 4], "segmentation": []}, "bbox"),
}


@pytest.mark.parametrize(("changes", "field"), BROKEN_ANNOTATIONS.values(), ids=BROKEN_ANNOTATIONS)
def test_broken_annotation_is_refused(folder, changes, field):
    with pytest.raises(AnnotationError) as caught:
        read(folder, with_annotation(**changes))
    error = caught.value
    assert "annotation 7" in str(error)
    assert "image 1" in str(error)
    assert (error.image_id, error.annotation_id, error.field) == (1, 7, field)
    assert error.file == folder / "data.json"


NAN, INF = float("nan"), float("inf")
SKIPPED = {
    "A2": ({"image_id": 99}, "image_id of no image"),
    "C2 unknown": ({"category_id": 99}, "category_id of no category"),
    "A4 and no mask": ({"bbox": [1, 1, 0, 5], "segmentation": None}, "no segmentation"),
    "no mask": ({"segmentation": None}, "no segmentation"),
    "A5 wholly": ({"bbox": [100, 100, 5, 5]}, "bbox outside"),
    "A6 two points": ({"segmentation": [[1, 1, 2, 2]]}, "fewer than three points"),
    "A6 odd": ({"segmentation": [[*SQUARE, 1]]}, "odd number"),
    "A6 empty": ({"segmentation": [[]]}, "fewer than three points"),
    "A6 null": ({"segmentation": [None, []]}, "fewer than three points"),
    "A7 nan": ({"segmentation": [[NAN, *SQUARE[1:]]]}, "not finite"),
    "A7 inf": ({"segmentation": [[INF, *SQUARE[1:]]]}, "not finite"),
    "A7 far": ({"segmentation": [[1e6, *SQUARE[1:]]]}, "beyond"),
    "A7 huge": ({"segmentation": [[10**400, *SQUARE[1:]]]}, "not numbers"),
    "A7 text": ({"segmentation": [["1", *SQUARE[1:]]]}, "not numbers"),
    "A7 ragged": ({"segmentation": [[[1, 2], 3, 4, 5, 6, 7]]}, "not numbers"),
    "A8 outside": ({"segmentation": [[70, 1, 80, 1, 80, 9]]}, "outside the image"),
    "A8 line": ({"segmentation": [[10, 10, 30, 30, 20, 20]]}, "without area"),
    "A8 point": ({"segmentation": [[10, 10] * 4]}, "without area"),
    "A8 text": ({"segmentation": "10 10"}, "neither polygons nor run lengths"),
    "A9 short": ({"segmentation": {"size": [H, W], "counts": [10, 20]}}, "add up"),
    "A9 long": ({"segmentation": {"size": [H, W], "counts": [10, H * W]}}, "add up"),
    "A9 negative": ({"segmentation": {"size": [H, W], "counts": [-10, H * W + 10]}}, "negative"),
    "A9 huge": ({"segmentation": {"size": [H, W], "counts": [10**30]}}, "malformed"),
    "A9 half": ({"segmentation": {"size": [H, W], "counts": [1.5, H * W - 1.5]}}, "malformed"),
    "A9 text": ({"segmentation": {"size": [H, W], "counts": "\u00e9"}}, "malformed"),
    "A9 cut": ({"segmentation": {"size": [H, W], "counts": "XXXX"}}, "malformed"),
    "A9 endless": ({"segmentation": {"size": [H, W], "counts": "o" * 50 + "0"}}, "malformed"),
    "A9 no counts": ({"segmentation": {"size": [H, W]}}, "malformed"),
    "A9 size": ({"segmentation": {"size": [H - 1, W], "counts": [H * W]}}, "another size"),
    "A9 nothing": ({"segmentation": {"size": [H, W], "counts": [H * W]}}, "without a pixel"),
}


@pytest.mark.parametrize(("changes", "words"), SKIPPED.values(), ids=SKIPPED)
def test_bad_annotation_is_skipped_and_counted(folder, changes, words):
    data = read(folder, with_annotation(**changes))
    assert [a.source_id for image in data.images for a in image.annotations] == [8]
    (line,) = (line for line in data.repairs.summary() if "skipped" in line)
    assert line.startswith("1 annotation skipped: ")
    assert words in line
    assert line.endswith("(id 7)")
    assert data.repairs.skipped_share == 0.5
    with pytest.raises(AnnotationError, match=r"50\.0% of its annotations.*max_bad"):
        data.require_clean(0.01)


REPAIRED = {
    "A1 missing": ({"id": None}, "id missing"),
    "A1 zero": ({"id": 0}, "id 0"),
    "A1 twice": ({"id": 8}, "more than once"),
    "A3 missing": ({"bbox": None}, "taken from its mask"),
    "A3 length": ({"bbox": [10, 10, 20]}, "taken from its mask"),
    "A3 disagrees": ({"bbox": [40, 0, 20, 20]}, "disagrees"),
    "A4 zero": ({"bbox": [10, 10, 0, 20]}, "taken from its mask"),
    "A4 nan": ({"bbox": [10, NAN, 20, 20]}, "taken from its mask"),
    "A4 inf": ({"bbox": [10, 10, INF, 20]}, "taken from its mask"),
    "A6 one of two": ({"segmentation": [SQUARE, [1, 2]]}, "dropped as unusable"),
    "flat polygon": ({"segmentation": SQUARE}, "outer brackets"),
    "A10 missing": ({"iscrowd": None}, "iscrowd missing"),
    "A10 bool": ({"iscrowd": False}, "neither 0 nor 1"),
    "A10 text": ({"iscrowd": "no"}, "neither 0 nor 1"),
    "A11 missing": ({"area": None}, "area missing"),
    "A11 nan": ({"area": NAN}, "area missing"),
    "A11 wrong": ({"area": 900}, "area wrong"),
    "A11 class": ({"area": 9000}, "another size class"),
}


@pytest.mark.parametrize(("changes", "words"), REPAIRED.values(), ids=REPAIRED)
def test_repairable_annotation_is_kept_and_counted(folder, changes, words):
    data = read(folder, with_annotation(**changes))
    (kept,) = data.images[0].annotations
    assert (kept.id, kept.box, kept.area, kept.crowd) == (1, (10, 10, 30, 30), 400, False)
    assert any(words in line for line in data.repairs.summary())
    assert data.repairs.skipped_share == 0


def test_more_repairs(folder):
    crowd = read(folder, with_annotation(iscrowd=2))
    assert crowd.images[0].annotations[0].crowd
    assert sum("crowd" in line for line in crowd.repairs.summary()) == 2  # 2 for 1, and polygons

    clipped = read(folder, with_annotation(bbox=[-20, 10, 40, 20], segmentation=[[-20, 10, 20, 10, 20, 30, -20, 30]]))
    (kept,) = clipped.images[0].annotations
    assert kept.box == (0, 10, 20, 30)
    assert coco.mask_bits(kept, H, W)[1] == (0, 10, 20, 30)
    assert sum("reaches past" in line for line in clipped.repairs.summary()) == 2

    twice = content()
    twice["annotations"].append(annotation(9))
    twice["images"].append(twice["images"][0])
    data = read(folder, twice)
    assert [len(image.annotations) for image in data.images] == [1, 1]
    assert {line.split(":")[0] for line in data.repairs.summary()[:2]} == {"1 image repaired", "1 annotation dropped"}

    names = content()
    names["categories"][1]["name"] = "cat"
    assert read(folder, names).categories.names == ("cat", "cat (5)")

    unsized = content()
    del unsized["images"][0]["width"], unsized["images"][0]["height"]
    assert (lambda r: (r.width, r.height))(read(folder, unsized).images[0]) == (W, H)

    marked = read(folder, b"\xef\xbb\xbf" + json.dumps(content()).encode())
    assert "byte order mark" in marked.repairs.summary()[0]


JUNK = [
    None,
    True,
    -1,
    0,
    0.5,
    1e9,
    1e308,
    10**400,
    NAN,
    INF,
    -INF,
    "",
    "x",
    "\0",
    [],
    {},
    [[]],
    [None],
    {"size": 3},
    "3",
]


def mutate(node: object, rng: np.random.Generator) -> object:
    """The same tree with one branch replaced, left out or doubled."""
    if not isinstance(node, dict | list) or not node or rng.random() < 0.15:
        return JUNK[rng.integers(len(JUNK))]
    keys = list(node) if isinstance(node, dict) else range(len(node))
    key, copy = keys[rng.integers(len(keys))], node.copy()
    if rng.random() < 0.1:
        del copy[key]
    elif rng.random() < 0.1 and isinstance(node, list):
        copy.append(node[key])
    else:
        copy[key] = mutate(node[key], rng)
    return copy


def test_mutated_files_are_read_or_refused_by_name(folder):
    rng = np.random.default_rng(0)
    start = content()
    start["annotations"] += [annotation(9, segmentation=rle(square_bits(), c), bbox=[9, 9, 22, 22]) for c in (0, 1)]
    for _ in range(600):
        data = start
        for _ in range(rng.integers(1, 4)):
            data = mutate(data, rng)
        try:
            found = read(folder, data)
        except AnnotationError as error:
            assert str(folder) in str(error), error  # noqa: PT017
        else:
            for image in found.images:
                for each in image.annotations:
                    assert dense(coco.to_bitmap(each, image.height, image.width)).any()


def test_swapped_run_lengths(folder):
    upright = rle(square_bits()) | {"size": [W, H]}
    assert len(read(folder, with_annotation(segmentation=upright)).images[0].annotations) == 1
    elsewhere = with_annotation(segmentation=upright, bbox=[40, 0, 20, 10])
    assert not read(folder, elsewhere).images[0].annotations


def test_bow_tie_is_accepted(folder):
    data = read(folder, with_annotation(segmentation=[[10, 10, 30, 30, 30, 10, 10, 30]], area=200))
    bits, _ = coco.mask_bits(data.images[0].annotations[0], H, W)
    assert 180 <= bits.sum() <= 220


def test_categories_of_a_checkpoint_are_matched_by_name(folder):
    model = Categories((1, 2, 3), ("dog", "bird", "cat"))
    data = read(folder, content(), categories=model)
    assert data.categories is model
    assert data.images[0].annotations[0].label == 3
    with pytest.raises(AnnotationError, match=r"annotation 7 of image 1 is a 'cat', a category") as caught:
        read(folder, content(), categories=Categories((1,), ("dog",)))
    assert caught.value.annotation_id == 7


def test_missing_files_are_counted(folder):
    data = content()
    data["images"] += [{"id": i, "file_name": f"gone{i}.png", "width": 4, "height": 4} for i in range(3, 16)]
    with pytest.raises(AnnotationError, match="13 of 15 images") as caught:
        read(folder, data)
    assert str(caught.value).count("gone") == 10
    with pytest.raises(AnnotationError, match="does not exist"):
        read_coco(folder / "other.json", folder)
    with pytest.raises(AnnotationError, match="image folder"):
        read_coco(folder / "data.json", folder / "none")


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_are_exact(folder, seed):
    rng = np.random.default_rng(seed)
    bits = np.zeros((H, W), np.uint8)
    top, left = rng.integers(0, 20, 2)
    bits[top : top + 20, left : left + 30] = rng.random((20, 30)) < rng.uniform(0.1, 0.9)
    if seed == 0:
        bits[:] = 1
    for compressed in (True, False):
        data = read(folder, with_annotation(segmentation=rle(bits, compressed), bbox=None, area=int(bits.sum())))
        (found,) = data.images[0].annotations
        assert np.array_equal(reference.decode(coco.to_rle(found, H, W)), bits)
        assert np.array_equal(dense(coco.to_bitmap(found, H, W)), bits)
        assert found.area == bits.sum()


def test_counts_of_large_images_unpack():
    counts = [3, 100_000, 5, 7, 2_000_000, 1, 900]
    text = bitmaps.codec.frPyObjects({"size": [1, sum(counts)], "counts": counts}, 1, sum(counts))["counts"]
    assert bitmaps.unpack_counts(text).tolist() == counts


def dense(bitmap: bitmaps.Bitmap, height: int = H, width: int = W) -> np.ndarray:
    return bitmap.cut(0, 0, width, height).bits


@pytest.mark.parametrize("seed", range(6))
def test_polygons_are_drawn_as_pycocotools_draws_them(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.random((2, 12)) * 2 * np.pi)
    radii = rng.uniform(4, 25, (2, 12))
    centres = rng.uniform(5, 35, (2, 1, 2))
    points = centres + np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 2)
    rings = [ring.ravel().round(2) for ring in points]
    wanted = reference.decode(reference.merge(reference.frPyObjects([r.tolist() for r in rings], H, W)))
    assert np.count_nonzero(dense(bitmaps.rasterise(rings, H, W)) != wanted) <= 2
    clipped = [bitmaps.clip_ring(ring, H, W) for ring in rings]
    drawn = dense(bitmaps.rasterise([ring for ring in clipped if len(ring)], H, W))
    assert np.count_nonzero(drawn != wanted) <= 0.02 * wanted.sum() + 4


LAYOUTS = {
    "coco": ("annotations/instances_val2017.json", "val2017"),
    "coco, plain": ("annotations/instances_val.json", "images/val"),
    "coco, beside": ("annotations/instances_val.json", "val"),
    "coco, one folder": ("annotations/instances_val.json", "images"),
    "plain": ("val.json", "val"),
    "valid": ("valid.json", "valid"),
    "roboflow": ("valid/_annotations.coco.json", "valid"),
}


@pytest.mark.parametrize(("file", "images"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_are_found(tmp_path, file, images):
    for path in (tmp_path / file, tmp_path / "annotations" / "instances_val2017_panoptic.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / images).mkdir(parents=True, exist_ok=True)
    assert find_split(tmp_path, "val") == (tmp_path / file, tmp_path / images)


def test_missing_layout_says_what_is_there(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(AnnotationError, match=r"instances_train\*\.json.*there is pictures/"):
        find_split(tmp_path, "train")
    with pytest.raises(AnnotationError, match="is not a folder"):
        find_split(tmp_path / "none", "train")


@pytest.mark.parametrize(("split", "images", "objects"), [("train", 343, 2974), ("val", 206, 1786)])
def test_a_part_of_coco_needs_no_repair(coco_mini, split, images, objects):
    data = read_coco(*find_split(coco_mini, split))
    assert len(data.images) == images
    assert sum(len(image.annotations) for image in data.images) == objects
    assert {verb for _, verb, _ in data.repairs.found} <= {"noticed"}


def test_tolerant_reading_leaves_out_what_strict_reading_refuses(folder):
    data = content()
    data["images"] += [
        4,
        {"id": "three", "file_name": "1.png", "width": W, "height": H},
        {"id": 4, "file_name": "gone.png", "width": W, "height": H},
        {"id": 5, "file_name": "../1.png", "width": W, "height": H},
        {"id": 6, "file_name": "empty.png"},
        {"id": 2, "file_name": "1.png", "width": W, "height": H},
    ]
    (folder / "empty.png").touch()
    data["categories"] += [None, {"id": 5, "name": "cow"}, {"id": 8}]
    data["annotations"] += [
        "x",
        annotation(9, category_id="3"),
        annotation(10, image_id=4),
        annotation(11, bbox=None, segmentation=None),
    ]
    with pytest.raises(AnnotationError, match="`seanet data check` lists all"):
        read(folder, data)
    found = read(folder, data, tolerant=True)
    assert [[a.source_id for a in image.annotations] for image in found.images] == [[7], [8]]
    assert found.categories.names == ("cat", "dog")
    refused = {key[::2]: places for key, places in found.repairs.found.items() if key[1] == "refused"}
    assert {key: [place.id for place in places] for key, places in refused.items()} == {
        ("category", "no object"): ["#2"],
        ("category", "id of another category"): [5],
        ("category", "name not a text"): [8],
        ("image", "no object"): ["#2"],
        ("image", "id not a whole number"): ["three"],
        ("image", "its file does not exist"): [4],
        ("image", "file_name leads upwards"): [5],
        ("image", "no size, and its file cannot be read"): [6],
        ("image", "id of another image"): [2],
        ("annotation", "no object"): ["#2"],
        ("annotation", "category_id not a whole number from 0"): [9],
        ("annotation", "neither a bbox nor a segmentation"): [11],
    }
    assert all(str(found.file) in place.said for places in refused.values() for place in places)
    assert [place.image_id for place in refused["annotation", "neither a bbox nor a segmentation"]] == [1]
    assert found.repairs.found["annotation", "skipped", "its image is refused"][0].id == 10
