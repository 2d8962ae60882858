"""LabelMe's files, written by hand, and what is wrong with some of them."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import seanet
from pictures import HEIGHT, WIDTH, equal, objects, picture, rectangle, text
from seanet.data.coco import find_split, read_coco
from seanet.data.formats import labelme
from seanet.errors import AnnotationError


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
        ({"images": [], "annotations": []}, "looks like COCO's: expected LabelMe's"),
        ({"shapes": []}, "has the imagePath None"),
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
        (of_labelme([shape("cat", "mask", [])]), "shape 0 is a mask of 0 points: expected two"),
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


def test_hidden_files_are_no_data(tmp_path: Path):
    picture(tmp_path / "a.jpg")
    text(tmp_path / "a.json", of_labelme([shape("cat", "rectangle", [[1, 1], [9, 9]])]))
    (tmp_path / "._a.json").write_bytes(b"\0\5\x16\7")
    assert len(labelme.convert(tmp_path)["train"].contents.annotations) == 1


def test_originals_behind_a_link_are_not_overwritten(tmp_path: Path):
    picture(tmp_path / "originals/a.png")
    before = (tmp_path / "originals/a.png").read_bytes()
    (tmp_path / "out/images").mkdir(parents=True)
    (tmp_path / "out/images/train").symlink_to(tmp_path / "originals")
    picture(tmp_path / "other.png")
    inside = base64.b64encode((tmp_path / "other.png").read_bytes()).decode()
    content = of_labelme([shape("cat", "polygon", [[0, 0], [9, 0], [9, 9]])], "a.png", imageData=inside)
    text(tmp_path / "labelme/a.json", json.dumps(content))
    stderr = seanet("data", "convert", "labelme", tmp_path / "labelme", tmp_path / "out", code=2).stderr
    assert "is a link, and what it leads to is left alone" in stderr
    assert (tmp_path / "originals/a.png").read_bytes() == before


def test_labelme_images_without_a_file_are_counted(tmp_path: Path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    text(tmp_path / "a.json", of_labelme([]))
    contents = labelme.convert(tmp_path)["train"].contents
    assert contents.repairs.summary() == ["1 image left out: no JSON file (b.jpg)"]


def test_a_split_beside_one_of_before(tmp_path: Path):
    picture(tmp_path / "in/a.jpg")
    text(tmp_path / "in/a.json", of_labelme([shape("cat", "rectangle", [[1, 1], [9, 9]])]))
    command = ["data", "convert", "labelme", tmp_path / "in", tmp_path / "out", "--split"]
    assert "before" not in seanet(*command, "train").stderr
    before = (tmp_path / "out/annotations/instances_train.json").read_bytes()
    assert "before" not in seanet(*command, "train").stderr
    assert (
        f"{tmp_path / 'out'} had train before: what was converted then stays as it was"
        in seanet(*command, "val").stderr
    )
    assert (tmp_path / "out/annotations/instances_train.json").read_bytes() == before
