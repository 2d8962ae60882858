"""Annotation files drawn at random: read or refused by name; what is read measures itself as perfect, however it is told."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference

from cocofile import SQUARE, H, W, annotation, content, read, rle, square_bits
from seanet.data import annotations as checks
from seanet.data.coco import CocoData, to_rle
from seanet.data.plain import Plain, plain
from seanet.errors import AnnotationError
from seanet.evaluation.assess import assess
from seanet.evaluation.results import read_results
from seanet.polygons import ring_area

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR", "ARs", "ARm", "ARl")
KINDS = ("bbox", "segm", "boundary")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fuzz")
    for i in range(1, 9):
        Image.new("RGB", (W, H)).save(path / f"{i}.png")
    return path


def own_results(data: CocoData) -> list[dict[str, Any]]:
    """Its objects, crowd regions aside, as a perfect model would find them."""
    return [
        {
            "image_id": image.id,
            "category_id": data.categories.ids[a.label - 1],
            "bbox": [a.box[0], a.box[1], a.box[2] - a.box[0], a.box[3] - a.box[1]],
            "segmentation": text(to_rle(a, H, W)),
            "score": 1.0,
        }
        for image in data.images
        for a in image.annotations
        if not a.crowd
    ]


def text(code: dict[str, Any]) -> dict[str, Any]:
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.floats(), max_size=5)
COORDINATE = st.integers(-30, 90) | st.floats(-30, 90).map(lambda v: round(v, 2)) | st.sampled_from([0, H, W, 1e5, 2e5])
RING = st.lists(COORDINATE, min_size=5, max_size=14) | st.lists(st.integers(0, H), min_size=6, max_size=8)
RUNS = st.lists(st.integers(0, 900), min_size=1, max_size=6).map(lambda runs: [*runs, max(H * W - sum(runs), 0)])
PACKED = st.text(st.characters(min_codepoint=48, max_codepoint=112), max_size=8)
SIZE = st.sampled_from([[H, W], [H, W], [H, W], [W, H], [H], None])
SHAPE = st.lists(RING, max_size=3) | RING | st.fixed_dictionaries({"size": SIZE, "counts": RUNS | PACKED | ODD})
SHAPE |= st.sampled_from([rle(square_bits()), rle(square_bits(), compressed=False), [SQUARE * 2], [SQUARE]])
FIELDS = {
    "id": st.integers(0, 3),
    "image_id": st.integers(1, 3),
    "category_id": st.sampled_from([3, 3, 5, 4]),
    "bbox": st.lists(COORDINATE, min_size=4, max_size=4),
    "area": st.floats(0, 3000),
    "iscrowd": st.integers(0, 1),
    "segmentation": SHAPE,
}
ENTRY = st.fixed_dictionaries(
    {"segmentation": SHAPE}, optional={k: v for k, v in FIELDS.items() if k != "segmentation"}
)


@st.composite
def entries(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Annotations with fields of the right kind; at times one of any kind."""
    found = [annotation(i + 1) | entry for i, entry in enumerate(draw(st.lists(ENTRY, min_size=1, max_size=6)))]
    if draw(st.integers(0, 3)) == 0:
        found[draw(st.integers(0, len(found) - 1))][draw(st.sampled_from(list(FIELDS)))] = draw(ODD)
    return found


@settings(max_examples=120, deadline=None)
@given(entries())
def test_any_annotations(folder, annotations):
    try:
        data = read(folder, content() | {"annotations": annotations})
    except AnnotationError as error:
        assert str(folder / "data.json") in str(error)  # noqa: PT017
        assert f"annotation {error.annotation_id} of image {error.image_id} " in str(error)  # noqa: PT017
        return
    skipped = data.repairs.count("skipped") + data.repairs.count("dropped")
    kept = [a for image in data.images for a in image.annotations]
    assert len(kept) + skipped == len(annotations) == data.repairs.annotations
    assert sorted(a.id for a in kept) == list(range(1, len(kept) + 1))
    if all(a.crowd for a in kept):
        return
    (folder / "own.json").write_text(json.dumps(own_results(data)))
    metrics = assess(data, read_results(folder / "own.json", data), 100).metrics
    assert [metrics[kind]["AP"] for kind in KINDS] == [1, 1, 1]


NEAR = st.sampled_from([-0.0, 0.01, -0.5, 1, -1, 1.01, 3.25, -20])
SPAN = st.tuples(st.sampled_from([0, 7, 20.5]), st.sampled_from([21.5, 29.03, H]))
OFF = ["nothing", "nothing", "ring", "all rings", "box", "area", "share", "crowd", "corners"]


@st.composite
def nearly_plain(draw: st.DrawFn) -> dict[str, Any]:
    """What the file of a careful author says, in which one thing is off at times."""
    spans = draw(st.lists(st.tuples(SPAN, SPAN), min_size=1, max_size=3))
    rings = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float) for (x0, x1), (y0, y1) in spans]
    off = draw(st.sampled_from(OFF))
    rings[0] += draw(NEAR) if off == "ring" else 0
    rings[0][:, 1] = rings[0][draw(st.permutations(range(4))) if off == "corners" else range(4), 1]
    points = np.concatenate(rings) + (draw(NEAR) if off == "all rings" else 0)
    box = np.array([*points.min(0), *np.ptp(points, 0)])
    box[draw(st.integers(0, 3))] += draw(NEAR) if off == "box" else 0
    area = sum(abs(ring_area(ring)) for ring in rings)
    area *= draw(st.sampled_from([0.81, 0.79, 1.19, 1.21, -1])) if off == "share" else 1
    area += draw(NEAR) if off == "area" else 0
    crowd = draw(st.sampled_from([1, False, 0.0, None])) if off == "crowd" else 0
    shape = [[int(v) if v == v // 1 else v for v in ring.ravel().tolist()] for ring in points.reshape(-1, 4, 2)]
    return annotation(draw(st.integers(0, 9)), segmentation=shape, bbox=box.tolist(), area=float(area), iscrowd=crowd)


def read_both_ways(folder: Path, annotations: list[dict[str, Any]]) -> tuple[CocoData, int]:
    """The same by the fast lane and without it; how many of its annotations the fast lane took."""
    passed: list[int] = []

    def counted(*args: Any) -> dict[int, Plain]:
        found = plain(*args)
        passed.append(len(found))
        return found

    told = content() | {"annotations": annotations}
    with mock.patch.object(checks, "plain", counted):
        fast = read(folder, told, tolerant=True)
    with mock.patch.object(checks, "plain", return_value={}):
        careful = read(folder, told, tolerant=True)
    assert fast == careful
    assert list(fast.repairs.found.items()) == list(careful.repairs.found.items())
    return fast, sum(passed)


@settings(max_examples=100, deadline=None)
@given(st.lists(nearly_plain() | ENTRY.map(lambda entry: annotation(7) | entry), min_size=1, max_size=8))
def test_many_together_as_each_alone(folder, annotations):
    data, passed = read_both_ways(folder, annotations)
    assert passed <= len(annotations) == data.repairs.annotations


SMALL = [10, 10, 12.5, 10, 12.5, 12.5, 10, 12.5]
ODDITIES = {
    "a text among them": {"segmentation": [[*SQUARE[:-1], "30"]]},
    "a number too large for a float": {"segmentation": [[*SQUARE[:-1], 10**400]]},
    "not a number": {"segmentation": [[*SQUARE[:-1], float("nan")]]},
    "a second ring beside the image": {"segmentation": [SQUARE, [0, 12, 0, 15, 0, 19]], "bbox": [0, 10, 30, 20]},
    "a second ring at the far edge": {"segmentation": [SQUARE, [W, 12, W, 15, W, 19]], "bbox": [10, 10, 50, 20]},
    "a second ring of two points": {"segmentation": [SQUARE, SQUARE[:4]]},
    "half a point": {"segmentation": [SQUARE[:7]]},
    "a box with a true": {"bbox": [10, 10, 20, True]},
    "a box beside the object": {"bbox": [31, 10, 20, 20]},
    "a box that shares less than half": {"bbox": [17.5, 10, 20, 20]},
    "a box just outside the image": {"bbox": [10, 10, 51.5, 20]},
    "an area of true": {"area": True},
    "an area below 0": {"segmentation": [SMALL], "bbox": [10, 10, 2.5, 2.5], "area": -1},
    "an area that is off": {"area": 481},
    "no area": {"area": None},
    "a crowd": {"iscrowd": 1},
    "an image that is not there": {"image_id": 3},
    "a category that is not there": {"category_id": 4},
}


@pytest.mark.parametrize("change", ODDITIES.values(), ids=ODDITIES)
def test_the_fast_lane_leaves_what_is_odd(folder, change):
    """It takes the entries beside it."""
    _, passed = read_both_ways(folder, [annotation(1), annotation(2, image_id=2) | change, annotation(3, image_id=2)])
    assert passed == 2


def test_the_fast_lane_packs_coordinates_of_any_fineness(folder):
    shapes = [[SQUARE], [[v + 1 / 3 for v in SQUARE]], [SQUARE, [40, 5, 50.25, 5, 50, 20]]]
    areas, widths = [400, 400, 477], [20, 20.5, 40]
    entries = [
        annotation(i + 1, segmentation=shape, area=area, bbox=[10, 5 * (i < 2) + 5, width, 25 - 5 * (i < 2)])
        for i, (shape, area, width) in enumerate(zip(shapes, areas, widths, strict=True))
    ]
    data, passed = read_both_ways(folder, entries)
    assert passed == 3
    kept = [a.segmentation for a in data.images[0].annotations]
    assert [[ring.tolist() for ring in rings] for rings in kept] == shapes


def scenes(seed: int) -> dict[str, Any]:
    """Polygons of three classes on eight images; a crowd region now and then; ids with gaps."""
    rng, annotations = np.random.default_rng(seed), []
    angle = np.arange(12) * np.pi / 6
    for image in range(1, 8):
        for _ in range(int(rng.integers(1, 5))):
            x, y, r = rng.uniform(8, W - 8), rng.uniform(8, H - 8), rng.uniform(3, 8, 12)
            ring = np.stack([x + r * np.cos(angle), y + r * np.sin(angle)], 1).round(2).clip(0, (W, H)).ravel()
            fields = {"image_id": image, "category_id": int(rng.choice([3, 5, 70])), "segmentation": [ring.tolist()]}
            crowd = int(rng.random() < 0.1)
            annotations.append(annotation(3 * len(annotations) + 1, bbox=None, area=None, iscrowd=crowd) | fields)
    images = [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in range(1, 9)]
    categories = [{"id": k, "name": f"class {k}"} for k in (3, 5, 70)]
    return {"images": images, "annotations": annotations, "categories": categories}


def numbers(data: CocoData, results: list[dict[str, Any]]) -> dict[str, Any]:
    metrics = assess(data, results, 100).metrics
    found = {(kind, name): metrics[kind][name] for kind in KINDS for name in NAMES}
    for kind in KINDS:
        for name, values in metrics[kind]["per_class"].items():
            found |= {(kind, name, each): value for each, value in values.items()}
    return found


def guesses(data: CocoData, seed: int) -> list[dict[str, Any]]:
    """Every object three times, moved by up to two pixels, with scores of their own."""
    rng, found = np.random.default_rng(seed), []
    for entry in own_results(data) * 3:
        bits = reference.decode(entry["segmentation"])
        bits = np.roll(bits, rng.integers(-2, 3, 2), (0, 1))
        found.append(entry | {"segmentation": rle(bits), "bbox": reference.toBbox(reference.encode(bits)).tolist()})
        found[-1]["score"] = float(rng.random())
    return found


def objects(data: CocoData) -> dict[int, list[tuple]]:
    """What training sees of each image, in no order."""
    return {
        image.id: sorted(
            (data.categories.names[a.label - 1], a.box, a.area, a.crowd, to_rle(a, H, W)["counts"])
            for a in image.annotations
        )
        for image in data.images
    }


@pytest.mark.parametrize("seed", range(4))
def test_order_and_ids_change_nothing(folder, seed):
    rng, told = np.random.default_rng(seed), scenes(seed)
    data = read(folder, told)
    results = guesses(data, seed)
    assert 0.05 < numbers(data, results)["segm", "AP"] < 0.95

    other = {part: [told[part][i] for i in rng.permutation(len(told[part]))] for part in rng.permutation(list(told))}
    ids = rng.permutation(1000)[: len(told["annotations"])].tolist()
    other["annotations"] = [a | {"id": id} for a, id in zip(other["annotations"], ids, strict=True)]
    shuffled = read(folder, other)
    assert objects(shuffled) == objects(data)
    assert numbers(shuffled, results) == pytest.approx(numbers(data, results), abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_ids_of_images_and_categories_are_but_names(folder, seed):
    rng, told = np.random.default_rng(seed), scenes(seed)
    data = read(folder, told)
    results = guesses(data, seed)
    images = dict(zip(range(1, 9), rng.permutation(100)[:8].tolist(), strict=True))
    classes = dict(zip((3, 5, 70), rng.permutation(100)[:3].tolist(), strict=True))

    def renamed(entry: dict[str, Any]) -> dict[str, Any]:
        return entry | {"image_id": images[entry["image_id"]], "category_id": classes[entry["category_id"]]}

    other = {
        "images": [image | {"id": images[image["id"]]} for image in told["images"]],
        "categories": [category | {"id": classes[category["id"]]} for category in told["categories"]],
        "annotations": list(map(renamed, told["annotations"])),
    }
    again = read(folder, other)
    assert objects(again) == {images[id]: found for id, found in objects(data).items()}
    assert numbers(again, list(map(renamed, results))) == pytest.approx(numbers(data, results), abs=1e-12)


@pytest.mark.parametrize("compressed", [False, True])
def test_polygons_and_their_run_lengths_are_the_same(folder, compressed):
    told = scenes(5)
    data = read(folder, told)
    results = guesses(data, 0)
    drawn = {a.source_id: (a, to_rle(a, H, W)) for image in data.images for a in image.annotations}
    for entry in told["annotations"]:
        kept, code = drawn[entry["id"]]
        entry["segmentation"] = text(code) if compressed else rle(reference.decode(code), compressed=False)
        entry |= {
            "area": kept.area,
            "bbox": [kept.box[0], kept.box[1], *np.subtract(kept.box[2:], kept.box[:2]).tolist()],
        }
    other = read(folder, told)
    plain, again = objects(data), objects(other)
    for id, found in plain.items():
        for before, after in zip(found, again[id], strict=True):
            assert before[0] == after[0]
            assert before[1] == pytest.approx(after[1], abs=1e-9)
            assert before[2:] == after[2:]
    assert numbers(other, results) == pytest.approx(numbers(data, results), abs=1e-9)
