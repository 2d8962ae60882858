"""What read_coco makes of a clean file, that masks are what pycocotools makes of them, and where data sets are found."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from cocofile import H, W, annotation, content, read, rle, with_annotation
from seanet.data import bitmaps, coco
from seanet.data.coco import Categories, find_split, read_coco
from seanet.errors import AnnotationError


@pytest.fixture
def folder(tmp_path) -> Path:
    for i in (1, 2):
        Image.new("RGB", (W, H)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_clean_file(folder):
    data = read(folder, content())
    assert data.categories == Categories((3, 5), ("cat", "dog"))
    assert data.categories.label(5) == 2
    first = data.images[0].annotations[0]
    assert (first.id, first.source_id, first.label, first.box, first.area, first.crowd) == (
        1,
        7,
        1,
        (10, 10, 30, 30),
        400,
        False,
    )
    assert data.repairs.skipped_share == 0
    assert data.repairs.summary() == ["1 category noticed: no annotation, so its AP will be n/a (dog)"]


def test_bow_tie_is_accepted(folder):
    data = read(folder, with_annotation(segmentation=[[10, 10, 30, 30, 30, 10, 10, 30]], area=200))
    bits, _ = coco.mask_bits(data.images[0].annotations[0], H, W)
    assert 180 <= bits.sum() <= 220


def test_missing_files_are_counted(folder):
    data = content()
    data["images"] += [{"id": i, "file_name": f"gone{i}.png", "width": 4, "height": 4} for i in range(3, 16)]
    with pytest.raises(AnnotationError, match="13 of 15 images") as caught:
        read(folder, data)
    assert str(caught.value).count("gone") == 10
    with pytest.raises(AnnotationError, match="does not exist"):
        read_coco(folder / "other.json", folder)
    with pytest.raises(AnnotationError, match="image folder"):
        read_coco(folder / "data.json", folder / "none")


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_are_exact(folder, seed):
    rng = np.random.default_rng(seed)
    bits = np.zeros((H, W), np.uint8)
    top, left = rng.integers(0, 20, 2)
    bits[top : top + 20, left : left + 30] = rng.random((20, 30)) < rng.uniform(0.1, 0.9)
    if seed == 0:
        bits[:] = 1
    for compressed in (True, False):
        data = read(folder, with_annotation(segmentation=rle(bits, compressed), bbox=None, area=int(bits.sum())))
        (found,) = data.images[0].annotations
        assert np.array_equal(reference.decode(coco.to_rle(found, H, W)), bits)
        assert np.array_equal(dense(coco.to_bitmap(found, H, W)), bits)
        assert found.area == bits.sum()


def test_counts_of_large_images_unpack():
    counts = [3, 100_000, 5, 7, 2_000_000, 1, 900]
    text = bitmaps.codec.frPyObjects({"size": [1, sum(counts)], "counts": counts}, 1, sum(counts))["counts"]
    assert bitmaps.unpack_counts(text).tolist() == counts


def dense(bitmap: bitmaps.Bitmap, height: int = H, width: int = W) -> np.ndarray:
    return bitmap.cut(0, 0, width, height).bits


@pytest.mark.parametrize("seed", range(6))
def test_polygons_are_drawn_as_pycocotools_draws_them(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.random((2, 12)) * 2 * np.pi)
    radii = rng.uniform(4, 25, (2, 12))
    centres = rng.uniform(5, 35, (2, 1, 2))
    points = centres + np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 2)
    rings = [ring.ravel().round(2) for ring in points]
    wanted = reference.decode(reference.merge(reference.frPyObjects([r.tolist() for r in rings], H, W)))
    assert np.count_nonzero(dense(bitmaps.rasterise(rings, H, W)) != wanted) <= 2
    clipped = [bitmaps.clip_ring(ring, H, W) for ring in rings]
    drawn = dense(bitmaps.rasterise([ring for ring in clipped if len(ring)], H, W))
    assert np.count_nonzero(drawn != wanted) <= 0.02 * wanted.sum() + 4


LAYOUTS = {
    "coco": ("annotations/instances_val2017.json", "val2017"),
    "coco, plain": ("annotations/instances_val.json", "images/val"),
    "coco, beside": ("annotations/instances_val.json", "val"),
    "coco, one folder": ("annotations/instances_val.json", "images"),
    "plain": ("val.json", "val"),
    "valid": ("valid.json", "valid"),
    "roboflow": ("valid/_annotations.coco.json", "valid"),
}


@pytest.mark.parametrize(("file", "images"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_are_found(tmp_path, file, images):
    for path in (tmp_path / file, tmp_path / "annotations" / "instances_val2017_panoptic.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / images).mkdir(parents=True, exist_ok=True)
    assert find_split(tmp_path, "val") == (tmp_path / file, tmp_path / images)


def test_missing_layout_says_what_is_there(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(AnnotationError, match=r"instances_train\*\.json.*there is pictures/"):
        find_split(tmp_path, "train")
    with pytest.raises(AnnotationError, match="is not a folder"):
        find_split(tmp_path / "none", "train")


@pytest.mark.parametrize(("split", "images", "objects"), [("train", 343, 2974), ("val", 206, 1786)])
def test_a_part_of_coco_needs_no_repair(coco_mini, split, images, objects):
    data = read_coco(*find_split(coco_mini, split))
    assert len(data.images) == images
    assert sum(len(image.annotations) for image in data.images) == objects
    assert {verb for _, verb, _ in data.repairs.found} <= {"noticed"}


def test_tolerant_reading_leaves_out_what_strict_reading_refuses(folder):
    data = content()
    data["images"] += [
        4,
        {"id": "three", "file_name": "1.png", "width": W, "height": H},
        {"id": 4, "file_name": "gone.png", "width": W, "height": H},
        {"id": 5, "file_name": "../1.png", "width": W, "height": H},
        {"id": 6, "file_name": "empty.png"},
        {"id": 2, "file_name": "1.png", "width": W, "height": H},
    ]
    (folder / "empty.png").touch()
    data["categories"] += [None, {"id": 5, "name": "cow"}, {"id": 8}]
    data["annotations"] += [
        "x",
        annotation(9, category_id="3"),
        annotation(10, image_id=4),
        annotation(11, bbox=None, segmentation=None),
    ]
    with pytest.raises(AnnotationError, match="`seanet data check` lists all"):
        read(folder, data)
    found = read(folder, data, tolerant=True)
    assert [[a.source_id for a in image.annotations] for image in found.images] == [[7], [8]]
    assert found.categories.names == ("cat", "dog")
    refused = {key[::2]: places for key, places in found.repairs.found.items() if key[1] == "refused"}
    assert {key: [place.id for place in places] for key, places in refused.items()} == {
        ("category", "no object"): ["#2"],
        ("category", "id of another category"): [5],
        ("category", "name not a text"): [8],
        ("image", "no object"): ["#2"],
        ("image", "id not a whole number"): ["three"],
        ("image", "its file does not exist"): [4],
        ("image", "file_name leads upwards"): [5],
        ("image", "no size, and its file cannot be read"): [6],
        ("image", "id of another image"): [2],
        ("annotation", "no object"): ["#2"],
        ("annotation", "category_id not a whole number from 0"): [9],
        ("annotation", "neither a bbox nor a segmentation"): [11],
    }
    assert all(str(found.file) in place.said for places in refused.values() for place in places)
    assert [place.image_id for place in refused["annotation", "neither a bbox nor a segmentation"]] == [1]
    assert found.repairs.found["annotation", "skipped", "its image is refused"][0].id == 10
