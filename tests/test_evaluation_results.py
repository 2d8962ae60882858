"""Results of anybody's model: what is read, and what is refused in one sentence."""

import json

import numpy as np
import pytest
from faster_coco_eval.core import mask as codec

from found import detections, rle, write
from seanet.data.coco import CocoData, read_coco
from seanet.errors import UserError
from seanet.evaluation.assess import assess
from seanet.evaluation.results import read_results


@pytest.fixture
def data(tmp_path) -> CocoData:
    return write(tmp_path, images=4)


def saved(data: CocoData, content: object) -> str:
    file = data.file.with_name("results.json")
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def test_entries_stay_as_they_are(data):
    found = detections(data)
    assert read_results(saved(data, found), data) == found
    factors = {"box_score": 0.5, "cls_score": 0.6, "box_iou": 0.7, "mask_iou": 0.8}
    extra = [entry | factors | {"id": 3, "area": 7} for entry in found]
    assert read_results(saved(data, extra), data) == [entry | factors for entry in found]


def test_no_entries_are_a_result(data):
    assert read_results(saved(data, []), data) == []


def test_boxes_come_from_masks(data):
    found = detections(data)
    bare = [{k: v for k, v in entry.items() if k != "bbox"} for entry in found]
    for entry, given in zip(read_results(saved(data, bare), data), found, strict=True):
        assert entry["bbox"] == given["bbox"]  # of the codec


def test_other_spellings_of_masks(data):
    """Counts as a list, polygons, and polygons without a pixel, which are masks without one."""
    image = data.images[0]
    size = [image.height, image.width]
    ring = [10.0, 20.0, 40.0, 20.0, 40.0, 50.0, 10.0, 50.0]
    mask = np.zeros(size, np.uint8)
    mask[20:50, 10:40] = 1
    empty = np.zeros(size, np.uint8)
    counts = np.diff(np.flatnonzero(np.diff(mask.ravel("F"), prepend=2, append=2))).tolist()
    far = [900.0, 900.0, 950.0, 900.0, 950.0, 950.0]
    shapes = [
        ([ring], mask),
        ({"size": size, "counts": counts}, mask),
        ([], empty),
        ([far], empty),
        (rle(empty), empty),
    ]
    entries = [{"image_id": image.id, "category_id": 2, "score": 0.5, "segmentation": shape} for shape, _ in shapes]
    for entry, (_, wanted) in zip(read_results(saved(data, entries), data), shapes, strict=True):
        np.testing.assert_array_equal(codec.decode(entry["segmentation"]), wanted)
    assert assess(data, read_results(saved(data, entries), data), 100).metrics["detections"] == len(entries)


def changed(data: CocoData, **changes: object) -> str:
    """A file whose third entry has other values; None takes one away."""
    found = detections(data)
    entry = found[2] | changes
    found[2] = {k: v for k, v in entry.items() if v is not None}
    return saved(data, found)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["is not JSON", "export"]),
        ("\x1f\x8b", ["is not JSON"]),
        ({"images": [], "annotations": []}, ["an annotation file", "list of results"]),
        (7, ["the number 7", "list of results"]),
        ([{"image_id": 1}, 5], ["result #1", "the number 5"]),
    ],
)
def test_files_that_are_no_results(data, content, words):
    file = saved(data, content)
    with pytest.raises(UserError) as error:
        read_results(file, data)
    assert all(word in str(error.value) for word in [file, *words])


def test_a_missing_file(data):
    with pytest.raises(UserError, match=r"nothing\.json: does not exist"):
        read_results(data.file.with_name("nothing.json"), data)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": 77}, ["1 of ", "one image_id", "77", "has 4 images", "1, 2, 3, 4"]),
        ({"image_id": "1"}, ["image_id", "'1'"]),
        ({"image_id": True}, ["image_id", "True"]),
        ({"category_id": 3}, ["one category_id", "ids 3", "has 4 of them", "2, 5, 11, 90"]),
        ({"category_id": None}, ["category_id", "None"]),
        ({"score": None}, ["result #2 (image 1)", "has no score", "finite number"]),
        ({"score": float("nan")}, ["result #2", "score nan"]),
        ({"score": "0.5"}, ["result #2", "score '0.5'"]),
        ({"box_score": float("inf")}, ["result #2", "box_score inf"]),
        ({"segmentation": None}, ["result #2", "no segmentation"]),
        ({"segmentation": {"size": [5, 4], "counts": [20]}}, ["result #2", "size [5, 4]", "[height, width]"]),
        ({"segmentation": [[1.0, 2.0, 3.0]]}, ["result #2", "polygon of fewer than three points"]),
        ({"segmentation": [[1e300] * 8]}, ["result #2", "not finite"]),
        ({"bbox": [1, 2, 3]}, ["result #2", "bbox [1, 2, 3]", "finite x, y, width and height"]),
        ({"bbox": [1, 2, 3, float("nan")]}, ["result #2", "finite x, y"]),
        ({"bbox": [1, 2, -3, 4]}, ["result #2", "neither side below 0"]),
    ],
)
def test_entries_that_cannot_be_measured(data, changes, words):
    file = changed(data, **changes)
    with pytest.raises(UserError) as error:
        read_results(file, data)
    assert all(word in str(error.value) for word in [file, *words]), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("counts", ["???", "\u00e9", [3, -3], [1, 2], "", {}, [1.5]])
def test_run_lengths_that_would_break_the_codec(data, counts):
    image = data.images[0]
    file = changed(data, segmentation={"size": [image.height, image.width], "counts": counts})
    with pytest.raises(UserError, match=r"result #2 \(image 1\) has run lengths"):
        read_results(file, data)


def test_results_of_another_split_say_how_many(data):
    found = [entry | {"image_id": entry["image_id"] + 1000} for entry in detections(data)]
    with pytest.raises(UserError, match=rf"{len(found)} of {len(found)} results have \d+ image_id values"):
        read_results(saved(data, found), data)


def test_data_without_objects(tmp_path):
    write(tmp_path, images=1)
    with pytest.raises(UserError, match="no object"):
        read_results(
            saved(read_coco(tmp_path / "truth.json", tmp_path), []), read_coco(tmp_path / "truth.json", tmp_path)
        )
