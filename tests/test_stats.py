"""What a data set is made of: numbers by hand, lengths of outlines against pixels counted one by one."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as codec

from command import seanet
from seanet.data.coco import CocoData, read_coco
from seanet.data.segmentations import run_lengths
from seanet.data.stats import columns, pixel_edges, stats

BITMAPS = arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 1))


@given(BITMAPS)
@settings(max_examples=200, deadline=None)
def test_edges_of_pixels_are_those_of_differences(bits: np.ndarray):
    """An edge lies wherever two neighbours differ, with ground around the image."""
    padded = np.pad(bits, 1).astype(int)
    wanted = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    rle = codec.encode(np.asfortranarray(bits))
    assert pixel_edges(run_lengths(rle["counts"]), len(bits)) == wanted


def test_runs_with_nothing_between_them_are_one():
    """Background of length 0 within a column: four pixels, three and one, at the top of a column of ten."""
    assert pixel_edges(np.array([0, 3, 0, 1, 16]), 10) == 10


def runs(mask: np.ndarray) -> dict:
    rle = codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def save(root: Path, shapes: list[tuple[int, dict | list, int]], images: int = 2) -> CocoData:
    """Images of 400 x 200 pixels; shapes are (image, segmentation, iscrowd)."""
    entries = [{"id": n, "file_name": f"{n}.jpg", "width": 400, "height": 200} for n in range(images)]
    annotations = []
    for id, (image, shape, crowd) in enumerate(shapes, 1):
        rle = shape if isinstance(shape, dict) else codec.merge(codec.frPyObjects(shape, 200, 400))
        annotations.append(
            {"id": id, "image_id": image, "category_id": 1, "segmentation": shape, "iscrowd": crowd}
            | {"area": int(codec.area(rle)), "bbox": codec.toBbox(rle).tolist()}
        )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (root / "images").mkdir(parents=True)
    for entry in entries:
        Image.new("RGB", (400, 200)).save(root / "images" / entry["file_name"])
    file = root / "train.json"
    file.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))
    return read_coco(file, root / "images")


def rectangle(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def frame() -> np.ndarray:
    mask = np.zeros((200, 400), np.uint8)
    mask[10:110, 100:200] = 1
    mask[40:60, 120:140] = 0
    return mask


SHAPES: list[tuple[int, dict | list, int]] = [
    (0, rectangle(0, 0, 20, 20), 0),
    (0, rectangle(50, 50, 90, 140), 0),
    (0, runs(frame()), 0),
    (1, [*rectangle(0, 0, 10, 10), *rectangle(20, 0, 30, 10)], 0),
    (1, runs(np.ones((200, 400))), 1),
]


def test_stats_by_hand(tmp_path: Path):
    found = stats(save(tmp_path, SHAPES, images=3), short=400, long=1333, cells=20)
    assert {name: found[name] for name in ("images", "empty_images", "objects", "crowds")} == {
        "images": 3,
        "empty_images": 1,
        "objects": 4,
        "crowds": 1,
    }
    assert found["objects_per_image"] == {"min": 0, "q10": 0.2, "median": 1, "q90": 2.6, "max": 3}
    assert (found["short_side"]["median"], found["long_side"]["median"]) == (200, 400)
    cat, dog = found["classes"]["cat"], found["classes"]["dog"]
    assert (cat["objects"], cat["images_with"], cat["small"], cat["medium"], cat["large"]) == (4, 2, 0.5, 0.25, 0.25)
    assert (cat["area"]["min"], cat["area"]["max"]) == (200, 100 * 100 - 20 * 20)
    assert (cat["fill"]["min"], cat["fill"]["max"]) == (pytest.approx(2 / 3, abs=1e-4), 1)
    assert (dog["objects"], dog["area"], dog["thinness"]) == (0, None, None)
    assert found["outlines"] == {"looked_at": 4, "with_parts": 0.25, "with_holes": 0.25}
    # Twice as large at the network; sides are roots of 400, 3600, 10000 and 300.
    assert found["network"]["side"] == {"min": 34.641, "q10": 36.2487, "median": 80, "q90": 176, "max": 200}
    assert found["network"]["pixels_per_cell"]["max"] == 5
    assert found["network"]["coarser_than_image"] == 0.5
    assert found["network"]["below_eight_features"] == 0


def test_lengths_of_outlines(tmp_path: Path):
    lengths = columns(save(tmp_path, SHAPES)).length
    assert lengths == pytest.approx([80, 260, math.pi / 4 * (400 + 80), 80])


def test_a_disc_has_the_thinness_one_in_both_forms(tmp_path: Path):
    angle = np.arange(180) * (2 * np.pi / 180)
    ring = (100.0 + 80 * np.stack([np.cos(angle), np.sin(angle)], 1)).ravel().tolist()
    y, x = np.mgrid[:200, :400] + 0.5
    disc = (x - 300) ** 2 + (y - 100) ** 2 < 80**2
    data = save(tmp_path, [(0, [ring], 0), (0, runs(disc), 0)])
    assert columns(data).thinness == pytest.approx([1, 1], abs=0.03)


def test_nothing_has_stats(tmp_path: Path):
    found = stats(save(tmp_path, [], images=1))
    assert found["area"] is None
    assert found["outlines"]["looked_at"] == found["objects"] == 0
    text = seanet("data", "stats", tmp_path).stdout
    assert "train: 1 image (1 without objects), 0 objects, 0 crowd regions" in text


def test_stats_as_text_and_json(tmp_path: Path):
    data = save(tmp_path, SHAPES)
    text = seanet("data", "stats", tmp_path, "--cells", "20").stdout
    assert "train: 2 images (0 without objects), 4 objects, 1 crowd region" in text
    assert "of 4 objects looked at, 25% have several parts and 25% have holes" in text
    (row,) = (line.split() for line in text.splitlines() if line.startswith("cat "))
    assert row[1:6] == ["4", "2", "50%", "25%", "25%"]
    found = json.loads(seanet("data", "stats", tmp_path, "--json").stdout)
    assert found["train"] == stats(data)
