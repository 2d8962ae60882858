"""Files of other formats, written by hand after their descriptions, and what is wrong with some of them."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import seanet
from seanet.data import labelme, labels, voc, yolo
from seanet.data.coco import CocoData, find_split, mask_bits, read_coco
from seanet.errors import AnnotationError, ImageError, UserError

HEIGHT, WIDTH = 40, 60


def picture(file: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(file)
    return file


def text(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def objects(data: CocoData, image: int = 0) -> list[tuple[str, np.ndarray]]:
    record, found = data.images[image], []
    for a in record.annotations:
        bits, (x0, y0, x1, y1) = mask_bits(a, record.height, record.width)
        mask = np.zeros((record.height, record.width), bool)
        mask[y0:y1, x0:x1] = bits
        found.append((data.categories.names[a.label - 1], mask))
    return found


def equal(found: list[tuple[str, np.ndarray]], wanted: list[tuple[str, np.ndarray]]) -> bool:
    same = [a == b and np.array_equal(m, n) for (a, m), (b, n) in zip(found, wanted, strict=True)]
    return all(same)


# YOLO

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
    assert said["train"]["notes"] == ["1 object skipped: a box without an outline (labels/train/a.txt:3)"]
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
        ("train: images/train", "has the names None"),
        ("train: images/train\nnames: [cat, cat]", "names the class 'cat' twice"),
        ("train: images/train\nnames: {0: cat, 2: dog}", "has the names {0: 'cat', 2: 'dog'}"),
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


def test_yolo_boxes_are_no_masks(yolo_set: Path, tmp_path: Path):
    for split in ("train", "val"):
        text(yolo_set / f"labels/{split}/a.txt", "0 0.5 0.5 0.1 0.1\n")
    stderr = seanet("data", "convert", "yolo", yolo_set, tmp_path / "out", code=2).stderr
    assert "its labels are 2 boxes without an outline" in stderr
    for split in ("train", "val"):
        (yolo_set / f"labels/{split}/a.txt").unlink()
    with pytest.raises(AnnotationError, match="none of its images has a file of labels"):
        yolo.convert(yolo_set)


# LabelMe


def shape(label: str, kind: str, points: list[list[float]], **more: object) -> dict:
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, "flags": {}, **more}


def of_labelme(shapes: list[object], image: str = "a.jpg", **more: object) -> dict:
    said = {"version": "5.5.0", "flags": {}, "imagePath": image, "imageData": None, "imageHeight": HEIGHT}
    return said | {"imageWidth": WIDTH, "shapes": shapes, **more}


def pixels(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_labelme(tmp_path: Path):
    """Corners of a rectangle in any order; a mask from its first corner to its last; parts that a group joins."""
    frame = np.ones((6, 8), bool)
    frame[2:4, 2:4] = False
    shapes: list[object] = [
        shape("cat", "rectangle", [[20, 15], [10, 5]]),
        shape("dog", "polygon", [[30, 5], [40, 5], [40, 10], [30, 10]], group_id=3),
        shape("cat", "mask", [[2, 30], [9, 35]], mask=pixels(frame)),
        shape("dog", "polygon", [[30, 20], [35, 20], [35, 25], [30, 25]], group_id=3),
        shape("dog", "mask", [[50, 20], [51, 20]], group_id=4, mask=pixels(np.ones((1, 2), bool))),
        shape("dog", "rectangle", [[55, 30], [57, 32]], group_id=4),
        shape("cat", "rectangle", [[50, 1], [52, 3]], group_id=3),
        shape("cat", "linestrip", [[0, 0], [9, 9]]),
        shape("_background_", "rectangle", [[0, 0], [9, 9]]),
    ]
    picture(tmp_path / "src/a.jpg")
    text(tmp_path / "src/a.json", of_labelme(shapes))
    said = json.loads(seanet("data", "convert", "labelme", tmp_path / "src", tmp_path / "out", "--json").stdout)
    data = read_coco(*find_split(tmp_path / "out", "train"))
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:36, 2:10] = frame
    assert equal(
        objects(data),
        [
            ("cat", rectangle(10, 5, 20, 15)),
            ("dog", rectangle(30, 5, 40, 10) | rectangle(30, 20, 35, 25)),
            ("cat", mask),
            ("dog", rectangle(50, 20, 52, 21) | rectangle(55, 30, 57, 32)),
            ("cat", rectangle(50, 1, 52, 3)),
        ],
    )
    assert said["train"]["notes"] == [
        "1 object skipped: a linestrip has no inside (a.json shape 7)",
        "1 object skipped: _background_ is ground (a.json shape 8)",
    ]


def test_labelme_circles_are_round(tmp_path: Path):
    picture(tmp_path / "a.jpg", (200, 200))
    circle = shape("cat", "circle", [[100, 90], [160, 90]])
    text(tmp_path / "a.json", of_labelme([circle], imageHeight=200, imageWidth=200))
    (entry,) = labelme.convert(tmp_path)["train"].contents.annotations
    assert entry["area"] == pytest.approx(np.pi * 60**2, rel=2e-3)
    assert entry["bbox"] == pytest.approx([40, 30, 120, 120], abs=0.05)


def test_labelme_images_inside_their_files_are_taken_out(tmp_path: Path):
    file = picture(tmp_path / "a.png")
    inside = base64.b64encode(file.read_bytes()).decode()
    text(tmp_path / "src/val/a.json", of_labelme([shape("cat", "rectangle", [[1, 1], [9, 9]])], imageData=inside))
    seanet("data", "convert", "labelme", tmp_path / "src", tmp_path / "out")
    assert (tmp_path / "out/images/val/a.jpg").read_bytes() == file.read_bytes()  # as imagePath calls it
    assert len(read_coco(*find_split(tmp_path / "out", "val")).images[0].annotations) == 1


def test_labelme_images_beside_the_folder_of_files(tmp_path: Path):
    picture(tmp_path / "src/images/x.jpg")
    text(tmp_path / "src/json/a.json", of_labelme([shape("cat", "rectangle", [[1, 1], [9, 9]])], "..\\images\\x.jpg"))
    (found,) = labelme.convert(tmp_path / "src")["train"].pictures
    assert found == labelme.Picture("json/a.jpg", tmp_path / "src/images/x.jpg")


BAD = base64.b64encode(b"no picture").decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a.json is not JSON: Expecting property name"),
        ([1], "a.json holds no JSON object: expected a file of LabelMe"),
        ("[" * 100_000, "a.json is not JSON"),
        ({"images": [], "annotations": []}, "has the imagePath None"),
        (of_labelme([], "../secret.jpg"), "has the imagePath '../secret.jpg', which leads upwards"),
        (of_labelme([], "/etc/passwd"), "has the imagePath '/etc/passwd', which is an absolute path"),
        (of_labelme([], "b.jpg"), "b.jpg does not exist, and imageData is empty"),
        (of_labelme([], "b.jpg", imageData="?"), "imageData is not base64"),
        (of_labelme([], "b.jpg", imageData=BAD), "imageData holds no image"),
        (of_labelme([], imageHeight=41), "says 60 x 41 pixels, but its image has 60 x 40"),
        (of_labelme([]) | {"shapes": 3}, "has no list of shapes"),
        (of_labelme([3]), "shape 0 has the label None"),
        (of_labelme([shape("cat", "polygon", [[0, 0], [1, "1"], [2, 2]])]), "shape 0 has points that are not pairs"),
        (of_labelme([shape("cat", "polygon", [[0, 0], [1, 1e9], [2, 2]])]), "shape 0 has points that are not pairs"),
        (of_labelme([shape("cat", "circle", [[5, 5]])]), "shape 0 is a circle of 1 points: expected two"),
        (of_labelme([shape("cat", "mask", [[0, 0], [1, 1]])]), "the mask of shape 0 is not base64"),
        (of_labelme([shape("cat", "mask", [[0, 0], [1, 1]], mask=BAD)]), "shape 0 is a mask, but no PNG"),
        (
            of_labelme([shape("cat", "mask", [[0, 0], [9, 9]], mask=pixels(np.ones((9, 10), bool)))]),
            "but no PNG of the size of its corners",
        ),
    ],
)
def test_labelme_files_that_are_none(content: object, message: str, tmp_path: Path):
    picture(tmp_path / "src/a.jpg")
    picture(tmp_path / "secret.jpg")
    file = text(tmp_path / "src/a.json", content)
    with pytest.raises(AnnotationError) as caught:
        labelme.convert(tmp_path / "src")
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_files_that_are_no_text(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'{"shapes": "\xff"}')
    with pytest.raises(AnnotationError) as caught:
        labelme.convert(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'a.json'} is not UTF-8 text: expected a file of LabelMe"


def test_labelme_polygons_without_inside_are_counted(tmp_path: Path):
    picture(tmp_path / "a.jpg")
    shapes: list[object] = [
        shape("cat", "polygon", [[0, 0], [9, 9]]),
        shape("cat", "polygon", [[90, 0], [99, 0], [99, 9]]),
    ]
    text(tmp_path / "a.json", of_labelme(shapes))
    found = labelme.convert(tmp_path)["train"].contents
    assert not found.annotations
    assert found.repairs.summary() == [
        "1 object skipped: polygon of fewer than three points, or with an odd number of coordinates (a.json shape 0)",
        "1 object skipped: polygon outside the image (a.json shape 1)",
    ]
    stderr = seanet("data", "convert", "labelme", tmp_path, tmp_path / "out", code=2).stderr
    assert "there is no object that a mask can be made of" in stderr


# Pascal VOC

AEROPLANE, PERSON = (128, 0, 0), (192, 128, 128)  # as the development kit colours them
VOID = (224, 224, 192)


def indexed(file: Path, numbers: np.ndarray, palette: dict[int, tuple[int, int, int]] | None = None) -> None:
    """A palette image, or with ``palette`` the same in colours."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if palette is not None:
        colours = np.zeros((256, 3), np.uint8)
        for number, colour in palette.items():
            colours[number] = colour
        Image.fromarray(colours[numbers]).save(file)
        return
    image = Image.fromarray(numbers.astype(np.uint8))
    image.putpalette(voc.colour_map().ravel().tolist())
    image.save(file)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Numbers and classes: an aeroplane, a person in two parts, void between them."""
    numbers, kinds = np.zeros((2, HEIGHT, WIDTH), int)
    numbers[5:15, 5:25], kinds[5:15, 5:25] = 1, 1
    numbers[20:30, 40:50], kinds[20:30, 40:50] = 2, 15
    numbers[35:38, 40:50], kinds[35:38, 40:50] = 2, 15
    numbers[5:15, 25:27] = kinds[5:15, 25:27] = 255
    return numbers, kinds


@pytest.fixture
def voc_set(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    picture(root / "JPEGImages/2007_000032.jpg")
    indexed(root / "SegmentationObject/2007_000032.png", scene()[0])
    indexed(root / "SegmentationClass/2007_000032.png", scene()[1])
    text(root / "ImageSets/Segmentation/val.txt", "2007_000032\n")
    return root


def test_voc_colours():
    """The first colours of the development kit's label colour map, and the last."""
    assert voc.colour_map()[[0, 1, 2, 15, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [224, 224, 192],
    ]


def expected() -> list[tuple[str, np.ndarray]]:
    return [
        ("aeroplane", rectangle(5, 5, 25, 15)),
        ("person", rectangle(40, 20, 50, 30) | rectangle(40, 35, 50, 38)),
    ]


def test_voc(voc_set: Path, tmp_path: Path):
    said = json.loads(seanet("data", "convert", "voc", voc_set.parent, tmp_path / "out", "--json").stdout)
    data = read_coco(*find_split(tmp_path / "out", "val"))
    assert equal(objects(data), expected())
    assert len(data.categories.names) == 20
    assert said["val"]["notes"] == ["1 image noticed: void pixels, which belong to no object (2007_000032)"]


def test_voc_in_colours_with_classes_of_its_own(voc_set: Path):
    text(voc_set / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbox: a:10,20,30::\n")
    numbers, _ = scene()
    numbers[numbers == 255] = 0
    indexed(voc_set / "SegmentationObject/2007_000032.png", numbers, {0: (0, 0, 0), 1: AEROPLANE, 2: (0, 128, 0)})
    indexed(voc_set / "SegmentationClass/2007_000032.png", np.minimum(numbers, 1), {1: (10, 20, 30)})
    names, found = voc.convert(voc_set)
    assert names == ["box: a"]
    assert [(a["category_id"], a["area"]) for a in found["val"].annotations] == [("box: a", 200), ("box: a", 130)]


XML = "<annotation><object><name>aeroplane</name></object><object><name>person</name></object></annotation>"


def test_voc_classes_from_xml(voc_set: Path):
    (voc_set / "SegmentationClass/2007_000032.png").unlink()
    text(voc_set / "Annotations/2007_000032.xml", XML)
    _, found = voc.convert(voc_set)
    assert [a["category_id"] for a in found["val"].annotations] == ["aeroplane", "person"]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation><object><name>&b;</name></object></annotation>'


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (BOMB, "is no annotation of VOC (it has a document type)"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>', "it has a document type"),
        ("<annotation>", "is no annotation of VOC (no element found"),
        ("<annotation/>", "the XML file of the image has no class for 2007_000032 object 1"),
        (XML.replace("aeroplane", " "), "has no class for 2007_000032 object 1"),
        (XML.replace("person", "spaceship"), "has no class for 2007_000032 object 2 that is known"),
    ],
)
def test_voc_xml_that_is_none(xml: str, message: str, voc_set: Path):
    (voc_set / "SegmentationClass/2007_000032.png").unlink()
    text(voc_set / "Annotations/2007_000032.xml", xml)
    with pytest.raises(AnnotationError) as caught:
        voc.convert(voc_set)
    assert message in str(caught.value)


def test_voc_with_parts_missing(voc_set: Path, tmp_path: Path):
    with pytest.raises(AnnotationError, match=r"expected one folder SegmentationObject in it, and found none"):
        voc.convert(tmp_path / "VOCdevkit" / "elsewhere")
    lists = voc_set / "ImageSets/Segmentation/val.txt"
    for content, message in (
        ("2007_000032\n2007_000032\n", "2007_000032 is listed twice"),
        ("../../x", "val.txt:1: '../../x' leads upwards"),
        ("2007_000033", r"2007_000033.jpg does not exist"),
    ):
        text(lists, content)
        with pytest.raises(AnnotationError, match=message):
            voc.convert(voc_set)
    picture(voc_set / "JPEGImages/2007_000033.jpg")
    with pytest.raises(AnnotationError, match=r"SegmentationObject/2007_000033.png does not exist"):
        voc.convert(voc_set)
    lists.unlink()
    with pytest.raises(AnnotationError, match=r"found neither train.txt nor val.txt"):
        voc.convert(voc_set)


def test_voc_images_that_contradict_each_other(voc_set: Path):
    numbers, kinds = scene()
    file = voc_set / "SegmentationClass/2007_000032.png"
    indexed(file, kinds * (kinds != 15))
    with pytest.raises(AnnotationError, match="2007_000032 object 2 has no class"):
        voc.convert(voc_set)
    indexed(file, np.where(kinds == 15, 21, kinds))
    with pytest.raises(AnnotationError, match=r"object 2 has the class 21, but there are 20: list it in labelmap.txt"):
        voc.convert(voc_set)
    kinds[20, 40:50] = 1
    indexed(file, kinds)
    _, found = voc.convert(voc_set)
    assert found["val"].annotations[1]["category_id"] == "person"
    notes = "1 object noticed: pixels of several classes, the most frequent counts (2007_000032 object 2)"
    assert notes in found["val"].repairs.summary()
    indexed(file, numbers, {1: (1, 2, 3)})
    with pytest.raises(AnnotationError, match="has the colour 1,2,3, which stands for nothing"):
        voc.convert(voc_set)
    indexed(file, kinds[:, :30])
    with pytest.raises(AnnotationError, match="is 30 x 40 pixels, but the image of objects 60 x 40"):
        voc.convert(voc_set)
    picture(voc_set / "JPEGImages/2007_000032.jpg", (50, HEIGHT))
    with pytest.raises(AnnotationError, match=r"is 60 x 40 pixels, but .*2007_000032.jpg is 50 x 40"):
        voc.convert(voc_set)


# Label images


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
        ("image,value,class,crowd\na,1,cat,2\n", "objects.csv:2: 'a,1,cat,2' is no row"),
    ],
)
def test_tables_of_classes_that_are_none(content: str, message: str, tmp_path: Path):
    with pytest.raises(AnnotationError) as caught:
        labels.by_table(text(tmp_path / "objects.csv", content))
    assert message in str(caught.value)


def test_names_of_classes_that_are_none(tmp_path: Path):
    for content in ({"cat": 1}, {"1": ""}, {"-1": "cat"}):
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
    with pytest.raises(AnnotationError, match="an image with 90,000 values is no label image"):
        list(labels.regions(noise))


def test_label_images_need_their_classes_named_once(tmp_path: Path):
    picture(tmp_path / "a.png")
    command = ["data", "convert", "labels", tmp_path, tmp_path, tmp_path / "out"]
    for options in ([], ["--class", "a", "--numbers", text(tmp_path / "n.json", {"1": "b"})]):
        assert "by exactly one of --class NAME" in seanet(*command, *options, code=2).stderr


def test_damaged_label_images(tmp_path: Path):
    file = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (HEIGHT, WIDTH)).astype(np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(UserError, match=r"a.png is (truncated or )?damaged"):
        labels.read_values(file)
