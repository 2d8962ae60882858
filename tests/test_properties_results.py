"""Any file of results is measured or refused in a sentence that names it, never another exception."""

import copy
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import settings as quick
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from found import detections, write
from seanet.errors import UserError
from seanet.evaluation.assess import assess
from seanet.evaluation.results import read_results

quickly = quick(max_examples=250, deadline=None)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, -0.0, 1e308]),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.sampled_from(["size", "counts", "a"]), inner),
    max_leaves=9,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), images=3, objects=3)


@pytest.fixture(scope="module")
def entries(data):
    return detections(data)[:6]


def sound(found: list[dict], data) -> None:
    """What evaluation trusts: finite numbers, and run lengths of exactly the image's pixels."""
    sizes = {image.id: [image.height, image.width] for image in data.images}
    for entry in found:
        assert math.isfinite(entry["score"])
        assert len(entry["bbox"]) == 4
        assert all(map(math.isfinite, entry["bbox"]))
        assert min(entry["bbox"][2:]) >= 0
        mask = entry["segmentation"]
        assert mask["size"] == sizes[entry["image_id"]]
        assert coco_mask.decode(mask).shape == tuple(mask["size"])


def read(path, content: bytes, data) -> list[dict] | str:
    """Entries, or the words of the refusal; any other exception is the test's failure."""
    path.write_bytes(content)
    try:
        return read_results(path, data)
    except UserError as error:
        return f"{error.file}: {error}"


@st.composite
def changes(draw):
    """Which entry, which of its fields, within that which item, and what comes there instead."""
    fields = ["image_id", "category_id", "bbox", "segmentation", "score", "box_iou", "mask_iou"]
    inner = draw(st.none() | st.integers(0, 4) | st.sampled_from(["size", "counts"]))
    return draw(st.integers(0, 5)), draw(st.sampled_from(fields)), inner, draw(anything)


def changed(entries: list[dict], changes: list[tuple]) -> list[dict]:
    entries = copy.deepcopy(entries)
    for i, field, inner, value in changes:
        part = entries[i].get(field)
        known = part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        if inner in known:
            part[inner] = value
        else:
            entries[i][field] = value
    return entries


@quickly
@given(st.lists(changes(), min_size=1, max_size=3))
def test_changed_results_are_sound_or_refused(tmp_path_factory, data, entries, changes):
    path = tmp_path_factory.getbasetemp() / "results.json"
    found = read(path, json.dumps(changed(entries, changes)).encode(), data)
    if isinstance(found, str):
        assert str(path) in found
    else:
        sound(found, data)
        assert len(found) == len(entries)


texts = st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12)
numbers = st.integers(-3, 20_000) | st.integers(-(2**70), 2**70) | st.floats()


@quickly
@given(texts | st.lists(numbers, max_size=6) | st.lists(st.lists(numbers, max_size=9), max_size=3))
@example([[1e30, 0, 0, 1e30, 5, 5]])
@example([[math.nan] * 6])
@example([[0, 0, 50, 50, 50]])
@example([2**31, 2**31])
@example([0, 10**30])
@example("oooooooooooooooooo0")
@example("")
def test_any_mask_is_sound_or_refused(tmp_path_factory, data, entries, mask):
    path = tmp_path_factory.getbasetemp() / "results.json"
    entry = copy.deepcopy(entries[0])
    if isinstance(mask, list) and mask and isinstance(mask[0], list):
        entry["segmentation"] = mask
    else:
        entry["segmentation"]["counts"] = mask
    found = read(path, json.dumps([entry]).encode(), data)
    if isinstance(found, str):
        assert str(path) in found
    else:
        sound(found, data)


@quick(max_examples=100, deadline=None)
@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b"\xef\xbb\xbf[]")
@example(b"[NaN]")
@example(b"")
@example(b'{"annotations": []}')
@example(b"[{}]")
@example(b"9" * 5000)
def test_any_bytes_are_results_or_refused(tmp_path_factory, data, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    found = read(path, content, data)
    assert found == [] or str(path) in found


@quick(max_examples=15, deadline=None)
@given(st.lists(changes(), min_size=1, max_size=2))
def test_what_is_read_can_be_measured(tmp_path_factory, data, entries, changes):
    path = tmp_path_factory.getbasetemp() / "results.json"
    found = read(path, json.dumps(changed(entries, changes)).encode(), data)
    if not isinstance(found, str):
        metrics = assess(data, found, 100).metrics
        values = [value for kind in ("bbox", "segm", "boundary") for value in metrics[kind].values()]
        assert all(0 <= value <= 1 for value in values if isinstance(value, float))
