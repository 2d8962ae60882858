"""YOLO's segments, written by hand after their description, and what is wrong with some of them."""

import json
from pathlib import Path

import pytest

from command import seanet
from pictures import equal, objects, picture, rectangle, text
from seanet.data.coco import find_split, read_coco
from seanet.data.formats import yolo
from seanet.errors import AnnotationError

DESCRIPTION = "train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"


@pytest.fixture
def yolo_set(tmp_path: Path) -> Path:
    """A rectangle from a quarter to a half of both sides; a box of a dog beside an outline; an image without labels."""
    root = tmp_path / "yolo"
    text(root / "data.yaml", DESCRIPTION)
    picture(root / "images/train/a.jpg")
    picture(root / "images/train/none.jpg")
    picture(root / "images/val/a.jpg")
    text(root / "labels/train/a.txt", "0 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n\n1 0.5 0.5 0.1 0.1\n")
    text(root / "labels/val/a.txt", "1 0.5 0.5 1.1 0.5 1.1 1 0.5 1")
    return root


def test_yolo(yolo_set: Path, tmp_path: Path):
    said = json.loads(seanet("data", "convert", "yolo", yolo_set, tmp_path / "out", "--json").stdout)
    train, val = (read_coco(*find_split(tmp_path / "out", split)) for split in ("train", "val"))
    assert equal(objects(train), [("cat", rectangle(15, 10, 30, 20))])
    assert [len(record.annotations) for record in train.images] == [1, 0]
    assert equal(objects(val), [("dog", rectangle(30, 20, 60, 40))])
    assert said["train"]["notes"] == [
        "1 object skipped: a box without an outline (labels/train/a.txt:3)",
        "1 image noticed: no file of labels, so no objects (none.jpg)",
    ]
    assert said["val"]["notes"] == ["1 object clipped: polygon reaches past the image (labels/val/a.txt:1)"]
    assert train.categories.names == val.categories.names == ("cat", "dog")


@pytest.mark.parametrize(
    "description",
    [
        "path: /home/somebody/datasets/yolo\n" + DESCRIPTION,
        "train: ../train/images\nval: ../valid/images\nnames: [cat, dog]",
        "path: ../elsewhere\ntrain: [images/train]\nval: val.txt\nnames: [cat, dog]",
    ],
)
def test_yolo_data_sets_that_were_moved(description: str, yolo_set: Path):
    text(yolo_set / "data.yaml", description)
    text(yolo_set / "val.txt", "./images/val/a.jpg\n")
    if "../train" in description:
        for kind in ("images", "labels"):
            for split, folder in (("train", "train"), ("val", "valid")):
                (yolo_set / folder).mkdir(exist_ok=True)
                (yolo_set / kind / split).rename(yolo_set / folder / kind)
    names, found = yolo.convert(yolo_set)
    assert names == ["cat", "dog"]
    assert {split: len(part.contents.annotations) for split, part in found.items()} == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0.1 0.1 cat 0.2 0.3 0.3", "a.txt:2: '0 0.1 0.1 cat 0.2 0.3 0.3' is no row of numbers"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.3", "a.txt:2: there is no class 2: data.yaml names 0 to 1"),
        ("0.5 0.1 0.1 0.2 0.2 0.3 0.3", "a.txt:2: there is no class 0.5"),
        ("nan 0.1 0.1 0.2 0.2 0.3 0.3", "a.txt:2: there is no class nan"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.9", "a.txt:2: has 7 numbers after the class"),
        ("0", "a.txt:2: has 0 numbers after the class"),
        ("0 12 10 40 10 40 30", "a.txt:2: expected shares of width and height, 0 to 1, not 40"),
        ("0 0.1 0.1 nan 0.2 0.3 0.3", "a.txt:2: expected shares of width and height, 0 to 1, not nan"),
        ("0 0.1 0.1 inf 0.2 0.3 0.3", "a.txt:2: expected shares of width and height, 0 to 1, not inf"),
    ],
)
def test_yolo_rows_that_are_none(row: str, message: str, yolo_set: Path):
    text(yolo_set / "labels/train/a.txt", f"0 0.25 0.25 0.5 0.25 0.5 0.5\n{row}\n")
    with pytest.raises(AnnotationError) as caught:
        yolo.convert(yolo_set)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [cat]", "names neither train nor val"),
        ("train: images/train", "has no list of names: expected a list"),
        ("train: images/train\nnames: [cat, cat]", "names the class 'cat' twice"),
        ("train: images/train\nnames: {0: cat, 2: dog}", "has names numbered 0, 2: expected"),
        ("train: images/train\nnames: [[cat]]", "has no list of names"),
        ("train: {images: train}\nnames: [cat]", "train is no text"),
        ("train: images/elsewhere\nnames: [cat, dog]", "'images/elsewhere' is not there"),
        ("train: /etc\nnames: [cat, dog]", "'/etc' is not there: expected a folder of images below"),
        ("train: ../..\nnames: [cat, dog]", "'../..' is not there"),
        ("train: labels\nnames: [cat, dog]", "there are no images in labels"),
        ("train: !!python/object/apply:os.getcwd []\nnames: [cat]", "is not YAML"),
        ("[", "is not YAML"),
        ("- cat", "holds no keys"),
    ],
)
def test_yolo_descriptions_that_are_none(content: str, message: str, yolo_set: Path):
    text(yolo_set / "data.yaml", content)
    with pytest.raises(AnnotationError) as caught:
        yolo.convert(yolo_set)
    assert str(yolo_set / "data.yaml") in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("names", ["[yes, 1.10]", "{0: yes, 1: 1.10}", "\n- yes\n- 1.10", "['yes', '1.10']"])
def test_names_are_the_words_that_stand_there(names: str, yolo_set: Path):
    """YAML itself would make them true and 1.1, and has an empty path be nothing."""
    text(yolo_set / "data.yaml", f"path:\ntrain: images/train\nval: ~\nnames: {names}\nnc: 2")
    found, splits = yolo.convert(yolo_set)
    assert found == ["yes", "1.10"]
    assert [a["category_id"] for a in splits["train"].contents.annotations] == ["yes"]


def test_yolo_descriptions_that_grow_without_bounds(yolo_set: Path):
    lines = ["a0: &a0 cat"] + [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(30)]
    for content in ("train: images/train\nnames: [*a30]", "train: [*a30]\nnames: [cat]"):
        text(yolo_set / "data.yaml", "\n".join([*lines, content]))
        with pytest.raises(AnnotationError, match="expected"):
            yolo.convert(yolo_set)


def test_folders_above_the_data_set_do_not_move_its_labels(tmp_path: Path):
    root = tmp_path / "images" / "set"
    picture(root / "train/a.jpg")
    text(root / "train/a.txt", "0 0 0 0.5 0 0.5 0.5")
    text(root / "data.yaml", "train: train\nnames: [cat]\n")
    _, found = yolo.convert(root)
    assert len(found["train"].contents.annotations) == 1


def test_yolo_boxes_are_no_masks(yolo_set: Path, tmp_path: Path):
    for split in ("train", "val"):
        text(yolo_set / f"labels/{split}/a.txt", "0 0.5 0.5 0.1 0.1\n")
    stderr = seanet("data", "convert", "yolo", yolo_set, tmp_path / "out", code=2).stderr
    assert "its labels are 2 boxes without an outline" in stderr
    for split in ("train", "val"):
        (yolo_set / f"labels/{split}/a.txt").unlink()
    with pytest.raises(AnnotationError, match="none of its images has a file of labels"):
        yolo.convert(yolo_set)


def test_yolo_labels_without_an_image_are_counted(yolo_set: Path):
    text(yolo_set / "labels/val/lost.txt", "0 0.1 0.1 0.2 0.2 0.3 0.3")
    _, found = yolo.convert(yolo_set)
    assert "1 file left out: labels without an image (labels/val/lost.txt)" in found["train"].contents.repairs.summary()
