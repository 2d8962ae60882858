"""Every kind of bad annotation file, category, image entry and annotation, and what becomes of it.

Refused: the sentence names the file and the ids, and the error's attributes say where and what.  Skipped, repaired and
noticed: a line counts it.  Accepted: no line at all.
"""

import json
import os
import unicodedata
from typing import Any, NamedTuple

import pytest
from PIL import Image

from cocofile import SQUARE, H, W, annotation, content, read, rle, square_bits, with_annotation, with_entry, without
from seanet.data.coco import Categories, mask_bits
from seanet.errors import AnnotationError

NAN, INF = float("nan"), float("inf")
JSON = json.dumps(content()).encode()
NFC = unicodedata.normalize("NFC", "é 😀\n.png")


@pytest.fixture
def folder(tmp_path):
    for name in ("1.png", "2.png", NFC, "Ä.png"):
        Image.new("RGB", (W, H)).save(tmp_path / name)
    (tmp_path / "text.png").write_text("<html>")
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


class Row(NamedTuple):
    data: Any
    words: str
    field: str | None = None
    value: object = None
    image: object = None
    annotation: object = None


def lacking(part: str) -> dict[str, Any]:
    return {key: value for key, value in content().items() if key != part}


def added(part: str, *entries: object) -> dict[str, Any]:
    data = content()
    data[part] += entries
    return data


def category(words: str, field: str, value: object) -> Row:
    return Row(with_entry("categories", **{field: value}), words, field, value)


def picture(words: str, field: str, value: object) -> Row:
    return Row(with_entry("images", **{field: value}), words, field, value, value if field == "id" else 1)


def named(words: str, value: object) -> Row:
    return picture(words, "file_name", value)


def unusable(words: str, value: str) -> Row:
    """The files that are not there are told together."""
    return Row(with_entry("images", file_name=value), words, "file_name", [f"{value!r} {words}"], 1)


def labelled(value: object) -> Row:
    return Row(with_annotation(category_id=value), f"category_id {value!r}", "category_id", value, 1, 7)


def bare(bbox: object) -> Row:
    return Row(with_annotation(bbox=bbox, segmentation=None), "and no segmentation", "bbox", bbox, 1, 7)


REFUSED_FILES = {
    "cut off": Row(JSON[:100], "is not JSON: Unterminated string starting in line 1, column 96"),
    "empty": Row(b"", "is not JSON: Expecting value in line 1, column 1"),
    "not json": Row(b"<html></html>", "is not JSON: Expecting value in line 1, column 1"),
    "utf-16": Row(json.dumps(content()).encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
    "utf-32": Row(json.dumps(content()).encode("utf-32"), "save it as UTF-8"),
    "another encoding": Row(JSON.replace(b"cat", b"c\xe4t"), "is not UTF-8 text (line 1, byte"),
    "gzip": Row(b"\x1f\x8b\x08\x00", "is compressed: unpack it with gunzip"),
    "a list": Row([1, 2], "holds a list: expected an object with images", "file"),
    "a number": Row(b"3", "holds the number 3", "file"),
    "lists in lists without end": Row(b'{"images": ' + b"[" * 200_000, "is not JSON of a data set: maximum recursion"),
    "text behind its end": Row(JSON + b"x", "is not JSON: Extra data in line 1"),
    "the same list twice": Row(JSON[:-1] + b', "images": []}', "has two lists 'images'", "images"),
    "no images": Row(lacking("images"), "has no 'images'", "images"),
    "no annotations": Row(lacking("annotations"), "has no 'annotations'", "annotations"),
    "no categories": Row(lacking("categories"), "has no 'categories'", "categories"),
    "images by name": Row(content() | {"images": {}}, "'images' is an object: expected a list", "images", {}),
    "annotations null": Row(content() | {"annotations": None}, "'annotations' is null", "annotations"),
    "not one category": Row(content() | {"categories": []}, "'categories' is empty", "categories", []),
}
REFUSED_CATEGORIES = {
    "category a text": Row(added("categories", "cow"), "entry 2 of 'categories' is a text", "categories", "cow"),
    "category without id": Row(without("categories", "id"), "category 'cat' has the id None", "id"),
    "category id a text": category("has the id '3'", "id", "3"),
    "category id negative": category("has the id -1", "id", -1),
    "category id a fraction": category("has the id 3.5", "id", 3.5),
    "category id a float": category("has the id 3.0", "id", 3.0),
    "category id true": category("has the id True", "id", True),
    "category id infinite": category("has the id inf", "id", INF),
    "category id twice": Row(added("categories", {"id": 3, "name": "cow"}), "two categories have the id 3", "id", 3),
    "category without name": Row(without("categories", "name"), "category 3 has the name None", "name"),
    "category name a number": category("category 3 has the name 4", "name", 4),
    "category name half a character": category("category 3 has the name '\\ud800'", "name", "\ud800"),
    "category name empty": category("category 3 has the name ''", "name", ""),
}
SECOND = {"id": 1, "file_name": "2.png", "width": W, "height": H}
REFUSED_IMAGES = {
    "image a number": Row(added("images", 4), "entry 2 of 'images' is the number 4", "images", 4),
    "image without id": Row(without("images", "id"), "an image has the id None", "id"),
    "image id a text": picture("has the id 'one'", "id", "one"),
    "image id a float": picture("has the id 1.0", "id", 1.0),
    "image id twice": Row(added("images", SECOND), "two different images have the id 1", "id", 1, 1),
    "file missing": unusable("does not exist", "none.png"),
    "file a folder": unusable("is a folder", "sub"),
    "file a pipe": unusable("is not a regular file", "pipe"),
    "folder of the file missing": unusable("does not exist", "none/1.png"),
    "file name upwards": named("which leads upwards", "../1.png"),
    "file name upwards in the middle": named("which leads upwards", "sub/../1.png"),
    "file name upwards, windows": named("which leads upwards", "a\\..\\..\\1.png"),
    "file name absolute": named("which is an absolute path", "/etc/passwd"),
    "file name absolute, windows": named("which is an absolute path", "\\1.png"),
    "file name with a drive": named("which is an absolute path", "C:\\1.png"),
    "file name with NUL": named("which holds a NUL byte", "1.png\0"),
    "file name too long": named("which is longer than 255 bytes", "x" * 256),
    "file name too long in bytes": named("which is longer than 255 bytes", "ä" * 128),
    "file name half a character": named("which is not valid Unicode", "\udc00\ud800.png"),
    "file name a number": named("has the file_name 4", 4),
    "file name empty": named("has the file_name ''", ""),
    "file name missing": Row(without("images", "file_name"), "has the file_name None", "file_name", None, 1),
    "width nought": picture("has the width 0", "width", 0),
    "width negative": picture("has the width -60", "width", -60),
    "width a text": picture("has the width '60'", "width", "60"),
    "width NaN": picture("has the width nan", "width", NAN),
    "width infinite": picture("has the width inf", "width", INF),
    "width beyond sense": picture("has the width 1000000000", "width", 10**9),
    "width of 400 digits": picture("has the width 1000", "width", 10**400),
    "height a fraction": picture("has the height 40.5", "height", 40.5),
    "height missing": Row(without("images", "height"), "has the height None", "height", None, 1),
    "too many pixels": Row(
        with_entry("images", width=10**5, height=10**5), "cut it into tiles", "width", [10**5, 10**5], 1
    ),
    "no size, and no image in its file": Row(
        added("images", {"id": 3, "file_name": "text.png"}), "its file cannot be read", "width", None, 3
    ),
}
REFUSED_ANNOTATIONS = {
    "annotation null": Row(added("annotations", None), "entry 2 of 'annotations' is null", "annotations"),
    "category of it a text": labelled("3"),
    "category of it negative": labelled(-1),
    "category of it a float": labelled(3.0),
    "category of it true": labelled(True),
    "category of it missing": labelled(None),
    "neither box nor mask": bare(None),
    "box of texts, no mask": bare(["1", 2, 3, 4]),
    "box of three numbers, no mask": bare([1, 2, 3]),
}
REFUSED = REFUSED_FILES | REFUSED_CATEGORIES | REFUSED_IMAGES | REFUSED_ANNOTATIONS


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_refused(folder, row):
    with pytest.raises(AnnotationError) as caught:
        read(folder, row.data)
    error, text = caught.value, str(caught.value)
    assert text.startswith(f"{folder / 'data.json'}: ")
    assert row.words in text
    assert error.file == folder / "data.json"
    assert (error.image_id, error.annotation_id, error.field) == (row.image, row.annotation, row.field)
    assert error.value == row.value or (error.value != error.value and row.value != row.value)
    for id in filter(None, (row.image, row.annotation)):
        assert str(id) in text


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_refused_entries_are_listed_by_a_tolerant_reading(folder, row):
    if row in REFUSED_FILES.values():
        with pytest.raises(AnnotationError) as caught:
            read(folder, row.data, tolerant=True)
        assert row.words in str(caught.value)
        return
    found = read(folder, row.data, tolerant=True).repairs.found
    ((_, _, what), places), *more = (item for item in found.items() if item[0][1] == "refused")
    assert not more
    assert row.words in places[0].said
    assert (len(places), places[0].image_id) == (1, row.image)
    assert what[0].islower()
    assert str(folder) not in what


SKIPPED = {
    "image unknown": ({"image_id": 99}, "image_id of no image"),
    "image a text": ({"image_id": "1"}, "image_id of no image"),
    "image missing": ({"image_id": None}, "image_id of no image"),
    "category unknown": ({"category_id": 99}, "category_id of no category"),
    "no mask": ({"segmentation": None}, "no segmentation"),
    "empty mask": ({"segmentation": []}, "no segmentation"),
    "mask without fields": ({"segmentation": {}}, "no segmentation"),
    "box of no width, no mask": ({"bbox": [1, 1, 0, 5], "segmentation": None}, "bbox not finite or of no size, and no"),
    "box NaN, no mask": ({"bbox": [1, NAN, 3, 5], "segmentation": None}, "bbox not finite or of no size, and no"),
    "box outside": ({"bbox": [100, 100, 5, 5]}, "bbox outside the image"),
    "two points": ({"segmentation": [[1, 1, 2, 2]]}, "fewer than three points"),
    "half a point": ({"segmentation": [[*SQUARE, 1]]}, "odd number of coordinates"),
    "ring empty": ({"segmentation": [[]]}, "fewer than three points"),
    "rings null and empty": ({"segmentation": [None, []]}, "fewer than three points"),
    "coordinate NaN": ({"segmentation": [[NAN, *SQUARE[1:]]]}, "not finite"),
    "coordinate infinite": ({"segmentation": [[INF, *SQUARE[1:]]]}, "not finite"),
    "coordinate beyond sense": ({"segmentation": [[1e6, *SQUARE[1:]]]}, "beyond 100,000"),
    "coordinate of 400 digits": ({"segmentation": [[10**400, *SQUARE[1:]]]}, "not numbers"),
    "coordinate a text": ({"segmentation": [["1", *SQUARE[1:]]]}, "not numbers"),
    "coordinate null": ({"segmentation": [[None, *SQUARE[1:]]]}, "not numbers"),
    "coordinates true and false": ({"segmentation": [[True, False] * 4]}, "not numbers"),
    "pairs of coordinates": ({"segmentation": [[[1, 2], [3, 4], [5, 7]]]}, "not numbers"),
    "a pair and coordinates": ({"segmentation": [[[1, 2], 3, 4, 5, 6, 7]]}, "not numbers"),
    "one bad ring of two": ({"segmentation": [SQUARE, [NAN, *SQUARE[1:]]]}, "not finite"),
    "polygon outside": ({"segmentation": [[70, 1, 80, 1, 80, 9]]}, "polygon outside the image"),
    "polygon a line": ({"segmentation": [[10, 10, 30, 30, 20, 20]]}, "polygon without area"),
    "polygon a point": ({"segmentation": [[10, 10] * 4]}, "polygon without area"),
    "polygon in the rim around the image": (
        {"segmentation": [[0.38, 0, 0, 42, -3.0, 0]], "bbox": None},
        "polygon without area",
    ),
    "polygon drawn twice": ({"segmentation": [SQUARE * 2]}, "polygon without area"),
    "polygon drawn twice, by other points": (
        {"segmentation": [[*SQUARE, 10, 10, 20, 10, 30, 10, 30, 20, 30, 30, 20, 30, 10, 30]], "area": 800},
        "polygon without area",
    ),
    "polygon without end": ({"segmentation": [[*([0, 0, W, 0, W, H, 0, H] * 20_000)]]}, "outline of more than"),
    "mask a text": ({"segmentation": "10 10"}, "neither polygons nor run lengths"),
    "mask a number": ({"segmentation": 3}, "neither polygons nor run lengths"),
    "runs too short": ({"segmentation": {"size": [H, W], "counts": [10, 20]}}, "do not add up"),
    "runs too long": ({"segmentation": {"size": [H, W], "counts": [10, H * W]}}, "do not add up"),
    "run negative": ({"segmentation": {"size": [H, W], "counts": [-10, H * W + 10]}}, "malformed or negative"),
    "run of 30 digits": ({"segmentation": {"size": [H, W], "counts": [10**30]}}, "malformed or negative"),
    "run a fraction": ({"segmentation": {"size": [H, W], "counts": [1.5, H * W - 1.5]}}, "malformed or negative"),
    "runs null": ({"segmentation": {"size": [H, W], "counts": None}}, "malformed or negative"),
    "runs not of the alphabet": ({"segmentation": {"size": [H, W], "counts": "\u00e9"}}, "malformed or negative"),
    "runs cut off": ({"segmentation": {"size": [H, W], "counts": "XXXX"}}, "malformed or negative"),
    "run without end": ({"segmentation": {"size": [H, W], "counts": "o" * 50 + "0"}}, "malformed or negative"),
    "runs empty": ({"segmentation": {"size": [H, W], "counts": ""}}, "malformed or negative"),
    "runs missing": ({"segmentation": {"size": [H, W]}}, "malformed or negative"),
    "runs of another size": ({"segmentation": {"size": [H - 1, W], "counts": [H * W]}}, "another size than the image"),
    "runs of swapped size, elsewhere": (
        {"segmentation": rle(square_bits()) | {"size": [W, H]}, "bbox": [40, 0, 20, 10]},
        "another size than the image",
    ),
    "runs without a pixel": ({"segmentation": {"size": [H, W], "counts": [H * W]}}, "mask without a pixel"),
}


@pytest.mark.parametrize(("changes", "words"), SKIPPED.values(), ids=SKIPPED)
def test_skipped(folder, changes, words):
    data = read(folder, with_annotation(**changes))
    assert [a.source_id for image in data.images for a in image.annotations] == [8]
    (line,) = (line for line in data.repairs.summary() if "skipped" in line)
    assert line.startswith("1 annotation skipped: ")
    assert words in line
    assert line.endswith("(id 7)")
    assert data.repairs.skipped_share == 0.5
    with pytest.raises(AnnotationError, match=r"50\.0% of its annotations.*max_bad") as caught:
        data.require_clean(0.01)
    assert (caught.value.file, caught.value.field, caught.value.value) == (data.file, "annotations", 0.5)


REPAIRED = {
    "id missing": ({"id": None}, "renumbered: id missing or not a whole number (#0)"),
    "id a text": ({"id": "seven"}, "renumbered: id missing or not a whole number (#0)"),
    "id nought": ({"id": 0}, "renumbered: id 0 (id 0)"),
    "id twice": ({"id": 8}, "2 annotations renumbered: id used more than once (ids 8, 8)"),
    "box missing": ({"bbox": None}, "bbox missing or not four numbers, taken from its mask"),
    "box of three numbers": ({"bbox": [10, 10, 20]}, "bbox missing or not four numbers, taken from its mask"),
    "box of texts": ({"bbox": ["10", "10", "20", "20"]}, "bbox missing or not four numbers, taken from its mask"),
    "box elsewhere": ({"bbox": [40, 0, 20, 20]}, "bbox disagrees with its mask"),
    "box of no width": ({"bbox": [10, 10, 0, 20]}, "bbox not finite or of no size, taken from its mask"),
    "box of negative width": ({"bbox": [30, 10, -20, 20]}, "bbox not finite or of no size, taken from its mask"),
    "box NaN": ({"bbox": [10, NAN, 20, 20]}, "bbox not finite or of no size, taken from its mask"),
    "box infinite": ({"bbox": [10, 10, INF, 20]}, "bbox not finite or of no size, taken from its mask"),
    "one ring of two unusable": ({"segmentation": [SQUARE, [1, 2]]}, "some of its polygons dropped as unusable"),
    "one ring of two outside": (
        {"segmentation": [SQUARE, [70, 1, 80, 1, 80, 9]]},
        "some of its polygons dropped as unusable",
    ),
    "ring without brackets": ({"segmentation": SQUARE}, "polygon without its outer brackets"),
    "runs of swapped size": (
        {"segmentation": rle(square_bits()) | {"size": [W, H]}},
        "width and height of its run lengths swapped",
    ),
    "crowd missing": ({"iscrowd": None}, "iscrowd missing, read as 0"),
    "crowd false": ({"iscrowd": False}, "iscrowd neither 0 nor 1, read as 0"),
    "crowd a text": ({"iscrowd": "no"}, "iscrowd neither 0 nor 1, read as 0"),
    "area missing": ({"area": None}, "area missing or not a number, counted anew"),
    "area negative": ({"area": -400}, "area missing or not a number, counted anew"),
    "area NaN": ({"area": NAN}, "area missing or not a number, counted anew"),
    "area wrong": ({"area": 900}, "area wrong, counted anew (id 7)"),
    "area of another size class": ({"area": 9000}, "area wrong, counted anew, which moves it to another size class"),
}


@pytest.mark.parametrize(("changes", "words"), REPAIRED.values(), ids=REPAIRED)
def test_repaired(folder, changes, words):
    data = read(folder, with_annotation(**changes))
    (kept,) = data.images[0].annotations
    assert (kept.id, kept.box, kept.area, kept.crowd) == (1, (10, 10, 30, 30), 400, False)
    assert mask_bits(kept, H, W)[1] == (10, 10, 30, 30)
    assert any(words in line for line in data.repairs.summary())
    assert data.repairs.skipped_share == 0


PAST = {"bbox": [-20, 10, 40, 20], "segmentation": [[-20, 10, 20, 10, 20, 30, -20, 30]], "area": 400}
BOW = [10, 10, 30, 30, 30, 10, 10, 30]
TOLD = {
    "byte order mark": (b"\xef\xbb\xbf" + JSON, ["1 file repaired: byte order mark ignored (data.json)"]),
    "category name twice": (
        with_entry("categories", name="dog"),
        ["1 category renamed: its name 'dog' is taken, its id was added (id 5)"],
    ),
    "image listed twice": (added("images", content()["images"][0]), ["1 image repaired: listed twice (id 1)"]),
    "image without a size": (
        content() | {"images": [{"id": i, "file_name": f"{i}.png"} for i in (1, 2)]},
        ["2 images repaired: width and height missing, taken from its file (ids 1, 2)"],
    ),
    "file of two images": (
        with_entry("images", file_name="2.png"),
        ["1 image noticed: its file belongs to another image too (id 2)"],
    ),
    "file name composed otherwise": (
        with_entry("images", file_name=unicodedata.normalize("NFD", NFC)),
        ["1 image repaired: file_name in another Unicode form than its file (id 1)"],
    ),
    "annotation twice": (
        added("annotations", annotation(9)),
        ["1 annotation dropped: exact copy of another (id 9)"],
    ),
    "annotation twice, without ids": (
        content() | {"annotations": [annotation(8, image_id=2), *[{**annotation(7), "id": None}] * 2]},
        [
            "2 annotations renumbered: id missing or not a whole number (#1, #2)",
            "1 annotation dropped: exact copy of another (#2)",
        ],
    ),
    "box and polygon past the image": (
        with_annotation(**PAST),
        [
            "1 annotation clipped: polygon reaches past the image (id 7)",
            "1 annotation clipped: bbox reaches past the image (id 7)",
        ],
    ),
    "polygon that crosses itself": (
        with_annotation(segmentation=[BOW], area=200),
        ["1 annotation noticed: polygon that crosses itself (id 7)"],
    ),
    "crowd of polygons": (
        with_annotation(iscrowd=1),
        ["1 annotation noticed: crowd region drawn as polygons (id 7)"],
    ),
    "crowd two": (
        with_annotation(iscrowd=2),
        [
            "1 annotation repaired: iscrowd neither 0 nor 1, read as 1 (id 7)",
            "1 annotation noticed: crowd region drawn as polygons (id 7)",
        ],
    ),
    "crowd true": (
        with_annotation(iscrowd=True, segmentation=rle(square_bits())),
        ["1 annotation repaired: iscrowd neither 0 nor 1, read as 1 (id 7)"],
    ),
    "a thousand and one objects": (
        content()
        | {"annotations": [annotation(i, bbox=[10, 10, 20, 20 - i / 1000], image_id=1 + (not i)) for i in range(1003)]},
        ["1 annotation renumbered: id 0 (id 0)", "1 image noticed: more than 1,000 objects (id 1)"],
    ),
}
NO_DOG = "1 category noticed: no annotation, so its AP will be n/a (dog)"


@pytest.mark.parametrize(("data", "lines"), TOLD.values(), ids=TOLD)
def test_kept_and_told(folder, data, lines):
    found = read(folder, data)
    told = [line for line in found.repairs.summary() if "no annotation, so its AP" not in line]
    assert told == lines
    assert all(image.annotations for image in found.images)
    assert found.repairs.skipped_share == 0


ACCEPTED = {
    "nothing wrong": content(),
    "ids with gaps and unsorted": content() | {"annotations": [annotation(900), annotation(8, image_id=2)]},
    "id negative": with_annotation(id=-5),
    "id of 30 digits": with_annotation(id=10**30),
    "image ids negative and from nought": content()
    | {
        "images": [{"id": i, "file_name": "1.png", "width": W, "height": H} for i in (0,)],
        "annotations": [annotation(7, image_id=0), annotation(8, image_id=0, bbox=[10, 10, 19, 20])],
    },
    "lists in another order": dict(reversed(content().items())),
    "more lists and fields": content() | {"licenses": [1, None], "info": {"x": [[]]}, "annotations_2": {}},
    "an image without objects": added("images", {"id": 3, "file_name": "Ä.png", "width": W, "height": H}),
    "file name of many kinds of characters": with_entry("images", file_name=NFC),
    "sides as floats": with_entry("images", width=float(W), height=float(H)),
    "runs packed": with_annotation(segmentation=rle(square_bits())),
    "runs in numbers": with_annotation(segmentation=rle(square_bits(), compressed=False)),
    "points repeated": with_annotation(segmentation=[[10, 10, *SQUARE, 10, 30]]),
    "corner on the edge of the image": with_annotation(
        bbox=[0, 0, W, H], segmentation=[[0, 0, W, 0, W, H, 0, H]], area=W * H
    ),
    "past the image by a rounding": with_annotation(
        bbox=[-0.4, 0, W, H], segmentation=[[-0.4, 0, W + 0.4, 0, W, H, 0, H]], area=W * H
    ),
    "area by another rule": with_annotation(area=415),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(folder, data):
    found = read(folder, data)
    assert found.repairs.summary() == [NO_DOG]
    assert sum(len(image.annotations) for image in found.images) == 2
    assert [a.id for image in found.images for a in image.annotations] == [1, 2]


@pytest.mark.parametrize("ids", [(0, 1, 2), (7, 8, 9), (90, 2, 5), (0, 10**9, 44)])
def test_category_ids_of_any_kind_get_labels_from_one(folder, ids):
    data = content() | {"categories": [{"id": id, "name": f"class {id}"} for id in ids]}
    data["annotations"] = [annotation(i, category_id=id, bbox=[10, 10, 20, 20 - i]) for i, id in enumerate(ids, 1)]
    found = read(folder, data)
    assert found.categories == Categories(tuple(sorted(ids)), tuple(f"class {id}" for id in sorted(ids)))
    assert [found.categories.ids[a.label - 1] for a in found.images[0].annotations] == list(ids)
    assert {a.label for a in found.images[0].annotations} == {1, 2, 3}


def test_a_category_that_the_model_lacks_is_refused(folder):
    data = read(folder, content(), categories=Categories((1, 2, 3), ("dog", "bird", "cat")))
    assert data.images[0].annotations[0].label == 3
    with pytest.raises(AnnotationError, match=r"annotation 7 of image 1 is a 'cat', a category") as caught:
        read(folder, content(), categories=Categories((1,), ("dog",)))
    error = caught.value
    assert (error.image_id, error.annotation_id, error.field, error.value) == (1, 7, "category_id", 3)


def test_more_than_one_in_a_hundred_of_an_unknown_category_can_be_refused(folder):
    data = content()
    data["annotations"] = [annotation(i, bbox=[10, 10, 20, 20 - i / 200]) for i in range(1, 101)]
    data["annotations"][3]["category_id"] = 77
    read(folder, data).require_clean(0.01)
    data["annotations"][4]["category_id"] = 77
    with pytest.raises(
        AnnotationError, match=r"2\.0% .*\(2 annotations skipped: category_id of no category \(ids 4, 5\)"
    ):
        read(folder, data).require_clean(0.01)
