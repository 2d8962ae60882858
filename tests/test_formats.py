"""Data sets converted to other formats and back: the same pixels, and what a format cannot hold is said."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as codec

from command import seanet
from seanet.data.coco import find_split, mask_bits, read_coco
from seanet.data.formats.bridges import join, outline
from seanet.polygons import mask_polygons

HEIGHT, WIDTH = 40, 60
NAMES = {3: "cat", 7: "dog: big", 12: "née, small"}

Masks = dict[Path, Counter[tuple[str, bool, bytes]]]


def frame() -> np.ndarray:
    """A square with a hole."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:20, 5:20] = 1
    mask[9:14, 9:14] = 0
    return mask


def pair() -> np.ndarray:
    """Two parts; one touches the border of the image, and itself at a corner."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[25:30, 30:40] = mask[0:4, 50:60] = 1
    mask[4:8, 46:50] = 1
    return mask


def runs(mask: np.ndarray) -> dict:
    rle = codec.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def triangle(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y + 0.25 * side, x + 0.5, y + side]


def content(names: list[str], first: int) -> dict:
    """On the first image all kinds of masks, apart from each other; on the second a crowd region; none on the third."""
    images = [{"id": first + n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)]
    shapes = [
        (first, 3, runs(frame()), 0),
        (first, 7, runs(pair()), 0),
        (first, 7, [triangle(24.31, 3.5, 11.7)], 0),
        (first, 12, [triangle(2, 26, 5), triangle(9.5, 27.25, 6)], 0),
        (first + 1, 3, runs(frame()[::-1].copy()), 1),
        (first + 1, 12, [triangle(40.1, 20.3, 13.9)], 0),
    ]
    annotations = []
    for id, (image, category, shape, crowd) in enumerate(shapes, 1):
        rle = shape if isinstance(shape, dict) else codec.merge(codec.frPyObjects(shape, HEIGHT, WIDTH))
        measures = {"bbox": codec.toBbox(rle).tolist(), "area": int(codec.area(rle)), "iscrowd": crowd}
        annotations.append({"id": id, "image_id": image, "category_id": category, "segmentation": shape, **measures})
    categories = [{"id": id, "name": name} for id, name in NAMES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def save(root: Path, split: str, content: dict) -> None:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for entry in content["images"]:
        file = root / "images" / split / entry["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (entry["width"], entry["height"])).save(file)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Names of images in folders, with dots, spaces and letters beyond ASCII, and alike in two splits."""
    root = tmp_path / "coco"
    save(root, "train", content(["street/1.5 a.jpg", "é.png", "empty.jpg"], 1))
    save(root, "val", content(["a.jpg", "é.png", "empty.jpg"], 1000))
    return root


def masks(root: Path, split: str) -> Masks:
    """Class, crowd and pixels of every object, by the file of its image; the data must read without a finding."""
    data = read_coco(*find_split(root, split))
    assert data.repairs.summary() == []
    found: Masks = {}
    for record in data.images:
        own = found.setdefault(record.path.resolve(), Counter())
        for a in record.annotations:
            bits, (x0, y0, x1, y1) = mask_bits(a, record.height, record.width)
            mask = np.zeros((record.height, record.width), np.uint8)
            mask[y0:y1, x0:x1] = bits
            own[data.categories.names[a.label - 1], a.crowd, mask.tobytes()] += 1
    return found


def there_and_back(kind: str, coco: Path, tmp_path: Path) -> tuple[dict, Path]:
    other, back = tmp_path / kind, tmp_path / "back"
    said = json.loads(seanet("data", "convert", f"to-{kind}", coco, other, "--json").stdout)["splits"]
    if kind == "labels":
        sources: list[object] = [other / "images", other / "labels", back, "--table", other / "objects.csv"]
    else:
        sources = [other, back]
    seanet("data", "convert", kind, *sources)
    return said, back


def without_crowds(found: Masks) -> Masks:
    return {file: Counter({key: n for key, n in own.items() if not key[1]}) for file, own in found.items()}


@pytest.mark.parametrize("kind", ["labelme", "labels"])
def test_masks_and_crowd_regions_come_back_pixel_by_pixel(kind: str, coco: Path, tmp_path: Path):
    said, back = there_and_back(kind, coco, tmp_path)
    for split in ("train", "val"):
        assert masks(back, split) == masks(coco, split)
        assert said[split] == {"images": 3, "objects": 5, "crowds": 1, "notes": []}


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        (
            "yolo",
            [
                "3 objects joined: parts and holes by bridges of zero width (ids 1, 2, 4)",
                "1 crowd region left out: not known to YOLO (id 5)",
            ],
        ),
        ("voc", ["1 crowd region made void: not known to VOC (id 5)"]),
    ],
)
def test_masks_come_back_pixel_by_pixel(kind: str, notes: list[str], coco: Path, tmp_path: Path):
    said, back = there_and_back(kind, coco, tmp_path)
    for split in ("train", "val"):
        found = masks(coco, split)
        assert masks(back, split) == without_crowds(found) != found
        assert said[split] == {"images": 3, "objects": 5, "crowds": 1, "notes": notes}


def overlapping(coco: Path) -> None:
    """Two rectangles of which the smaller lies on the larger, a third that is covered, a crowd region beneath."""
    large, small, hidden, crowd = np.zeros((4, HEIGHT, WIDTH), np.uint8)
    large[0:20, 0:30] = small[10:25, 20:32] = hidden[12:14, 22:24] = hidden[14:18, 26:30] = crowd[:, 20:60] = 1
    cover = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(2)]
    cover[0][12:14, 22:24] = cover[1][14:18, 26:30] = 1
    shapes = [(large, 0), (small, 0), (hidden, 0), (crowd, 1), (cover[0], 0), (cover[1], 0)]
    annotations = [
        {"id": id, "image_id": 1, "category_id": 3, "segmentation": runs(mask), "iscrowd": is_crowd}
        | {"area": int(mask.sum()), "bbox": codec.toBbox(runs(mask)).tolist()}
        for id, (mask, is_crowd) in enumerate(shapes, 11)
    ]
    save(coco, "train", content(["a.png"], 1) | {"annotations": annotations})


@pytest.mark.parametrize("kind", ["voc", "labels"])
def test_the_smaller_of_two_objects_has_the_pixels_of_both(kind: str, coco: Path, tmp_path: Path):
    (coco / "annotations" / "instances_val.json").unlink()
    overlapping(coco)
    said, back = there_and_back(kind, coco, tmp_path)
    assert "1 object lost: covered by others (id 13)" in said["train"]["notes"]
    assert "2 objects cut: covered in part by smaller objects (ids 11, 12)" in said["train"]["notes"]
    data = read_coco(*find_split(back, "train"))
    areas = sorted(a.area for a in data.images[0].annotations if not a.crowd)
    assert areas == [4, 16, 15 * 12 - 20, 20 * 30 - 10 * 10]
    crowds = [a.area for a in data.images[0].annotations if a.crowd]
    assert crowds == ([] if kind == "voc" else [40 * 40 - 15 * 12 - 10 * 10])  # less what lies on it
    assert ("1 crowd region cut: covered in part by smaller objects (id 14)" in said["train"]["notes"]) == (
        kind == "labels"
    )


def test_a_folder_with_files_is_not_written_to(coco: Path):
    for kind in ("yolo", "labelme", "voc", "labels"):
        assert "is not empty" in seanet("data", "convert", f"to-{kind}", coco, coco / "images", code=2).stderr
        assert "is a file: name a folder" in seanet("data", "convert", f"to-{kind}", coco, __file__, code=2).stderr


def test_splits_with_other_classes(coco: Path, tmp_path: Path):
    file = coco / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace('"cat"', '"lynx"'))
    stderr = seanet("data", "convert", "to-yolo", coco, tmp_path / "x", code=2).stderr
    assert f"{file}: its classes are not those of" in stderr
    seanet("data", "convert", "to-yolo", coco, tmp_path / "x", "--split", "val")


def test_images_of_one_name_cannot_share_their_labels(coco: Path, tmp_path: Path):
    save(coco, "train", content(["a.jpg", "b.jpg", "a.png"], 1))
    assert (
        "have one name but for their endings"
        in seanet("data", "convert", "to-yolo", coco, tmp_path / "x", code=2).stderr
    )


def test_links_within_links_are_not_made(coco: Path, tmp_path: Path):
    """OUT/images that leads to somebody's images is not written into."""
    seanet("data", "convert", "to-yolo", coco, tmp_path / "yolo")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").symlink_to(coco / "annotations")
    stderr = seanet("data", "convert", "yolo", tmp_path / "yolo", tmp_path / "out", code=2).stderr
    assert "is a link, and what it leads to is left alone" in stderr
    assert len(list((coco / "annotations").iterdir())) == 2


def test_images_in_folders_that_are_called_images(tmp_path: Path):
    """YOLO finds labels by the last folder of that name."""
    save(tmp_path / "coco", "train", content(["cam/images/1.jpg", "cam/images/2.jpg", "3.jpg"], 1))
    seanet("data", "convert", "to-yolo", tmp_path / "coco", tmp_path / "yolo")
    seanet("data", "convert", "yolo", tmp_path / "yolo", tmp_path / "back")
    assert masks(tmp_path / "back", "train") == without_crowds(masks(tmp_path / "coco", "train"))


def test_images_that_others_would_turn_are_refused(coco: Path, tmp_path: Path):
    turn = Image.Exif()
    turn[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(coco / "images/train/empty.jpg", exif=turn)
    stderr = seanet("data", "convert", "to-yolo", coco, tmp_path / "out", code=2).stderr
    assert "image 3 is said to be 60 x 40 pixels" in " ".join(stderr.split())
    assert "empty.jpg is 40 x 60" in " ".join(stderr.split())
    assert not (tmp_path / "out").exists()


def test_images_without_a_known_ending_are_refused(tmp_path: Path):
    save(tmp_path / "coco", "train", content(["1.jpe", "2.jfif", "3.jpg"], 1))
    seanet("data", "convert", "to-yolo", tmp_path / "coco", tmp_path / "yolo")
    seanet("data", "convert", "yolo", tmp_path / "yolo", tmp_path / "back")
    assert masks(tmp_path / "back", "train") == without_crowds(masks(tmp_path / "coco", "train"))
    (tmp_path / "coco/images/train/2.jfif").rename(tmp_path / "coco/images/train/2.data")
    file = tmp_path / "coco/annotations/instances_train.json"
    file.write_text(file.read_text().replace("2.jfif", "2.data"))
    stderr = seanet("data", "convert", "to-yolo", tmp_path / "coco", tmp_path / "out", code=2).stderr
    assert "image 2 is 2.data, by whose ending no image is found" in " ".join(stderr.split())


def test_a_split_without_its_images_is_not_passed_over(coco: Path, tmp_path: Path):
    (coco / "images/val").rename(tmp_path / "elsewhere")
    (coco / "images").rename(coco / "train_and_val")
    (coco / "train_and_val/train").rename(coco / "train")
    for command in (["check", coco], ["stats", coco], ["convert", "to-yolo", coco, tmp_path / "out"]):
        assert "found no annotations with images for 'val'" in seanet("data", *command, code=2).stderr
    seanet("data", "stats", coco, "--split", "train")


# Bridges

BITMAPS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1))


def winding(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    """Winding numbers of the pixels' centres: the sum of the angles under which they see the edges."""
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), 2)[:, :, None]
    ends = np.exp(1j * np.arctan2(*(ring - centres)[..., ::-1].transpose(3, 0, 1, 2)))
    return np.rint(np.angle(np.roll(ends, -1, axis=2) / ends).sum(2) / (2 * np.pi)).astype(int)


@given(BITMAPS)
@settings(max_examples=100, deadline=None)
def test_a_joined_ring_encloses_the_pixels_of_all(bits: np.ndarray):
    if not bits.any():
        return
    height, width = bits.shape
    ring, joined = outline(bits, 0, 0)
    assert joined == sum(map(len, mask_polygons(bits)))
    assert ring is not None
    drawn = codec.decode(codec.frPyObjects([ring.ravel().tolist()], height, width))[:, :, 0]
    assert np.array_equal(drawn, bits)
    nudged = ring + np.array([0.001, 0.0007])  # no bridge may pass through a centre, where the angle has no sign
    assert np.array_equal(winding(nudged, height, width), bits)


def test_what_has_too_many_parts_is_left_out(coco: Path, tmp_path: Path):
    """Chessboards of 50 and of 5,000 parts: the second is too much for a row, though not for a mask."""
    boards = [(np.add.outer(np.arange(h), np.arange(w)) % 2).astype(np.uint8) for h, w in ((10, 10), (100, 100))]
    full = content(["a.png", "b.png"], 1) | {"annotations": []}
    for n, board in enumerate(boards):
        full["images"][n] |= {"width": len(board), "height": len(board)}
        entry = {"id": 5 + n, "image_id": 1 + n, "category_id": 3, "segmentation": runs(board), "iscrowd": 0}
        full["annotations"].append(entry | {"area": int(board.sum()), "bbox": [0, 0, len(board), len(board)]})
    save(coco, "train", full)
    command = ["data", "convert", "to-yolo", coco, tmp_path / "yolo", "--split", "train", "--json"]
    notes = json.loads(seanet(*command).stdout)["splits"]["train"]["notes"]
    assert "1 object left out: more parts and holes than one outline can join (id 6)" in notes
    assert (tmp_path / "yolo/labels/train/b.txt").read_text() == ""
    ring = np.array((tmp_path / "yolo/labels/train/a.txt").read_text().split()[1:], float) * 10
    assert np.array_equal(codec.decode(codec.frPyObjects([ring.tolist()], 10, 10))[:, :, 0], boards[0])


def test_what_voc_cannot_number_is_refused_before_anything_is_written(coco: Path, tmp_path: Path):
    full = content(["a.png"], 1)
    entry = full["annotations"][2] | {"image_id": 1}
    full["annotations"] = [entry | {"id": n, "segmentation": [triangle(n / 10, n / 20, 11.7)]} for n in range(255)]
    save(coco, "val", full)
    stderr = seanet("data", "convert", "to-voc", coco, tmp_path / "voc", code=2).stderr
    assert "instances_val.json: image 1 has 255 objects, and VOC holds 254: use to-labels" in stderr
    assert not (tmp_path / "voc").exists()


def test_bridges_are_short():
    """Squares in a row are joined side to side: the bridge between two of them is the gap, there and back."""
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    ring = join([square + np.array([9 * n, 0]) for n in range(5)])
    length = np.hypot(*(np.roll(ring, -1, axis=0) - ring).T).sum()
    assert length == 5 * 16 + 4 * 2 * 5


def test_a_split_without_images_is_told(coco: Path, tmp_path: Path):
    save(coco, "test", content([], 5000) | {"annotations": []})
    (coco / "images" / "test").mkdir(parents=True, exist_ok=True)
    for kind in ("yolo", "labelme", "voc", "labels"):
        said = json.loads(seanet("data", "convert", f"to-{kind}", coco, tmp_path / kind, "--json").stdout)["splits"]
        notes = {split: [note for note in found["notes"] if "no images" in note] for split, found in said.items()}
        assert notes == {"train": [], "val": [], "test": ["no images, so there is nothing of it"]}
    back = json.loads(seanet("data", "convert", "yolo", tmp_path / "yolo", tmp_path / "back", "--json").stdout)
    assert list(back) == ["train", "val"]
