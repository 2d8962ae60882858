"""Label images of all kinds, the three ways to say their classes, and what is wrong with some of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import seanet
from pictures import HEIGHT, WIDTH, objects, picture, rectangle, text
from seanet.data.coco import find_split, read_coco
from seanet.data.formats import labels
from seanet.errors import AnnotationError, ImageError, UserError


def test_label_images_of_all_kinds(tmp_path: Path):
    values = np.zeros((HEIGHT, WIDTH), int)
    values[0:4, 0:9], values[10:20, 30:33], values[30:, 50:] = 1, 7, 255
    kinds = {
        "grey.png": Image.fromarray(values.astype(np.uint8)),
        "palette.png": Image.fromarray(values.astype(np.uint8)).convert("P"),
        "deep.png": Image.fromarray((values * 200).astype(np.uint16)),
        "wide.tif": Image.fromarray((values * 70000).astype(np.int32)),
        "colours.png": Image.fromarray(np.stack([values, values * 0, values % 2], 2).astype(np.uint8)),
    }
    wanted = [("cell", rectangle(0, 0, 9, 4)), ("cell", rectangle(30, 10, 33, 20)), ("cell", rectangle(50, 30, 60, 40))]
    for name, image in kinds.items():
        (tmp_path / "labels").mkdir(exist_ok=True)
        image.save(tmp_path / "labels" / name)
        picture(tmp_path / "images" / Path(name).with_suffix(".jpg").name)
    picture(tmp_path / "images" / "more.jpg")
    out = tmp_path / "out"
    command = ["data", "convert", "labels", tmp_path / "images", tmp_path / "labels", out]
    said = json.loads(seanet(*command, "--class", "cell", "--json").stdout)
    assert said["train"]["notes"] == ["1 image left out: no label image (more)"]
    data = read_coco(*find_split(out, "train"))
    assert data.repairs.summary() == []
    assert len(data.images) == 5
    for image, record in enumerate(data.images):
        found = objects(data, image)
        order = [0, 1, 2] if record.path.stem != "colours" else [1, 0, 2]  # 7 + 65536, 1 + 65536, 255 + 65536
        assert sorted(m.tobytes() for _, m in found) == sorted(wanted[n][1].tobytes() for n in order)


def test_label_images_with_classes_by_number(tmp_path: Path):
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    values[0:5, 0:5], values[0:5, 10:15], values[10:12, :], values[20, :] = 24001, 26000, 26, 7
    picture(tmp_path / "shown/train/a.jpg")
    (tmp_path / "truth/train").mkdir(parents=True)
    Image.fromarray(values).save(tmp_path / "truth/train/a_ids.png")
    names = text(tmp_path / "names.json", {"24": "person", "26": "car"})
    found = labels.convert(tmp_path / "shown", tmp_path / "truth", labels.by_number(names, 1000), ending="_ids")
    contents = found["train"].contents
    assert [(a["category_id"], a["iscrowd"], a["area"]) for a in contents.annotations] == [
        ("car", 1, 120),
        ("person", 0, 25),
        ("car", 0, 25),
    ]
    assert contents.repairs.summary() == ["1 object left out: value of no class (train/a value 7)"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "its first line is ''"),
        ("file,value\n", "its first line is 'file,value'"),
        ("image,value,class\na,1,cat\na,1,dog\n", "objects.csv:3: a value 1 is listed twice"),
        ("image,value,class\na,one,cat\n", "objects.csv:2: 'a,one,cat' is no row"),
        ("image,value,class\na,1\n", "objects.csv:2: 'a,1' is no row"),
        ("image,value,class\na," + "1" * 5000 + ",cat\n", "objects.csv:2: 'a,1111"),
        ("image,value,class\n" + "a" * 200_000 + ",1,cat\n", "objects.csv:2: is no CSV (field larger"),
        ("image,value,class,crowd\na,1,cat,2\n", "objects.csv:2: 'a,1,cat,2' is no row"),
    ],
)
def test_tables_of_classes_that_are_none(content: str, message: str, tmp_path: Path):
    with pytest.raises(AnnotationError) as caught:
        labels.by_table(text(tmp_path / "objects.csv", content))
    assert message in str(caught.value)


def test_names_of_classes_that_are_none(tmp_path: Path):
    for content in ({"cat": 1}, {"1": ""}, {"-1": "cat"}, {"1" * 5000: "cat"}):
        with pytest.raises(AnnotationError, match="expected a number and a name"):
            labels.by_number(text(tmp_path / "names.json", content), 1000)


def test_label_images_that_are_none(tmp_path: Path):
    file = tmp_path / "labels/a.png"
    picture(tmp_path / "images/a.jpg")
    picture(file, (50, HEIGHT))
    classes = labels.one_class("cell")
    with pytest.raises(AnnotationError, match=r"labels/a.png is 50 x 40 pixels, but .*images/a.jpg is 60 x 40"):
        labels.convert(tmp_path / "images", tmp_path / "labels", classes)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(tmp_path / "labels/a.tif")
    file.unlink()
    with pytest.raises(ImageError, match=r"a.tif holds pixels of mode F: expected whole numbers"):
        labels.convert(tmp_path / "images", tmp_path / "labels", classes)
    Image.fromarray(np.full((HEIGHT, WIDTH), -3, np.int32)).save(tmp_path / "labels/a.tif")
    with pytest.raises(ImageError, match=r"a.tif holds the value -3"):
        labels.convert(tmp_path / "images", tmp_path / "labels", classes)
    picture(tmp_path / "labels/a.tif").rename(tmp_path / "labels/b.tif")
    with pytest.raises(AnnotationError, match=r"b.tif: its image is missing: expected .*images/b.jpg"):
        labels.convert(tmp_path / "images", tmp_path / "labels", classes)
    noise = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    with pytest.raises(AnnotationError, match=r"noise.png has 90,000 values, which is no label image"):
        list(labels.regions(noise, Path("noise.png")))


def test_label_images_need_their_classes_named_once(tmp_path: Path):
    picture(tmp_path / "a.png")
    command = ["data", "convert", "labels", tmp_path, tmp_path, tmp_path / "out"]
    for options in ([], ["--class", "a", "--numbers", text(tmp_path / "n.json", {"1": "b"})]):
        assert "by exactly one of --class NAME" in seanet(*command, *options, code=2).stderr


def test_a_table_of_other_images(tmp_path: Path):
    Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(tmp_path / "a.png")
    table = text(tmp_path / "objects.csv", "image,value,class\ntrain/a,1,cat\n")
    said = seanet("data", "convert", "labels", tmp_path, tmp_path, tmp_path / "out", "--table", table, code=2).stderr
    assert "value of no class (a value 1)" in said
    assert "its image has no such value (train/a value 1)" in said


def test_damaged_label_images(tmp_path: Path):
    file = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (HEIGHT, WIDTH)).astype(np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(UserError, match=r"a.png is (truncated or )?damaged"):
        labels.read_values(file)


def test_rows_of_no_value_are_counted(tmp_path: Path):
    picture(tmp_path / "images/a.jpg")
    picture(tmp_path / "labels/a.png")
    table = labels.by_table(text(tmp_path / "objects.csv", "image,value,class\na,1,cat\n"))
    contents = labels.convert(tmp_path / "images", tmp_path / "labels", table)["train"].contents
    assert contents.repairs.summary() == ["1 row left out: its image has no such value (a value 1)"]


def test_label_images_of_several_pages_are_counted(tmp_path: Path):
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    first, second = (Image.new("L", (WIDTH, HEIGHT), value) for value in (3, 4))
    first.save(tmp_path / "labels/a.tif", save_all=True, append_images=[second])
    contents = labels.convert(tmp_path / "images", tmp_path / "labels", labels.one_class("cat"))["train"].contents
    assert [a["area"] for a in contents.annotations] == [WIDTH * HEIGHT]
    assert contents.repairs.summary() == [
        "1 image noticed: its label image has several pages, of which the first counts (a)"
    ]
