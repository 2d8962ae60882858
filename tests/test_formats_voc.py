"""Pascal VOC's segmentation, written by hand after its development kit, and what is wrong with some of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import seanet
from pictures import HEIGHT, WIDTH, equal, objects, picture, rectangle, text
from seanet.data.coco import find_split, read_coco
from seanet.data.formats import voc
from seanet.errors import AnnotationError


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
    indexed(voc_set / "SegmentationObject/2007_000032.png", numbers, {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0)})
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
    text(lists, "2007_000032")
    other = picture(voc_set / "JPEGImages/2007_000032.png")
    with pytest.raises(AnnotationError, match=r"2007_000032.png have one name but for their endings"):
        voc.convert(voc_set)
    other.unlink()
    text(lists, "2007_000033")
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
