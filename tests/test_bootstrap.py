"""Resampled figures: AP equals pycocotools' on any multiset of images, intervals behave as statistics says."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seanet.evaluation.bootstrap import curve, draws, interval, mean_precision, means
from seanet.evaluation.matching import Hits

CLASSES = 4  # the last one never has objects


def scene(seed: int, images: int = 8) -> tuple[list[list[dict]], list[list[dict]]]:
    """Boxes of objects and detections of each image; some objects are crowds, some images and detections hit nothing."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for _ in range(images):
        boxes = [[*rng.uniform(0, 60, 2), *rng.uniform(10, 40, 2)] for _ in range(rng.integers(0, 6))]
        truth = [
            {"bbox": b, "category_id": int(rng.integers(1, CLASSES)), "iscrowd": int(rng.random() < 0.2)} for b in boxes
        ]
        shifted = [{**o, "bbox": list(np.add(o["bbox"], rng.normal(0, 2, 4)))} for o in truth * 2]
        stray = [{"bbox": [*rng.uniform(0, 60, 2), 20, 20], "category_id": int(rng.integers(1, 5))} for _ in range(4)]
        objects.append(truth)
        found.append(
            [{"bbox": d["bbox"], "category_id": d["category_id"], "score": rng.random()} for d in shifted + stray]
        )
    return objects, found


def pycocotools(objects: list[list[dict]], found: list[list[dict]]) -> COCOeval:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(len(objects))],
        "categories": [{"id": k, "name": str(k)} for k in range(1, CLASSES + 1)],
        "annotations": [
            {**o, "image_id": i, "id": 100 * i + j + 1, "area": o["bbox"][2] * o["bbox"][3]}
            for i, image in enumerate(objects)
            for j, o in enumerate(image)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        entries = [{**d, "image_id": i} for i, image in enumerate(found) for d in image]
        evaluation = COCOeval(truth, truth.loadRes(entries), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def hits_of(evaluation: COCOeval, objects: list[list[dict]]) -> Hits:
    """From pycocotools' own matches over objects of all sizes."""
    per_area = len(evaluation.params.areaRng) * len(objects)
    cells = [
        cell for k in range(CLASSES) for cell in evaluation.evalImgs[k * per_area : k * per_area + len(objects)] if cell
    ]
    sizes = [len(cell["dtScores"]) for cell in cells]
    ignored = np.concatenate([cell["dtIgnore"] for cell in cells], 1).astype(bool)
    counts = np.zeros((len(objects), CLASSES), np.int64)
    for i, image in enumerate(objects):
        for o in image:
            counts[i, o["category_id"] - 1] += not o["iscrowd"]
    return Hits(
        image=np.repeat([cell["image_id"] for cell in cells], sizes),
        label=np.repeat([cell["category_id"] for cell in cells], sizes),
        score=np.concatenate([cell["dtScores"] for cell in cells]),
        true=(np.concatenate([cell["dtMatches"] for cell in cells], 1) > 0) & ~ignored,
        ignored=ignored,
        objects=counts,
    )


def by_threshold(evaluation: COCOeval) -> np.ndarray:
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return np.array([p[p > -1].mean() for p in precision])


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed):
    objects, found = scene(seed)
    evaluation = pycocotools(objects, found)
    hits = hits_of(evaluation, objects)
    assert hits.ignored.any()
    ours = mean_precision(hits, np.ones((1, len(objects)), np.int32))[0]
    assert ours == pytest.approx(by_threshold(evaluation), abs=1e-12)
    assert 0.1 < ours.mean() < 0.9
    precision = evaluation.eval["precision"][5, :, :, 0, 2]
    assert curve(hits, 5) == pytest.approx(precision[:, precision[0] > -1].mean(1), abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_weights_are_copies_of_images(seed, times):
    objects, found = scene(seed)
    copies = np.repeat(np.arange(8), times)
    repeated = [[objects[i] for i in copies], [found[i] for i in copies]]
    if not any(not o["iscrowd"] for image in repeated[0] for o in image):
        return
    hits = hits_of(pycocotools(objects, found), objects)
    others = np.random.default_rng(seed).integers(0, 4, (3, 8))
    ours = mean_precision(hits, np.array([*others[:1], times, *others[1:]], np.int32))[1]
    assert ours == pytest.approx(by_threshold(pycocotools(*repeated)), abs=1e-12)


def test_among_equal_scores_copies_average_out():
    """One object; a hit and a stray detection of the same score in two images: either may come first."""
    both = np.array([0, 1])
    orders = [
        Hits(
            both[order],
            np.ones(2, np.int64),
            np.ones(2),
            true[None, order],
            np.zeros((1, 2), bool),
            np.array([[1], [0]]),
        )
        for true in [np.array([True, False])]
        for order in ([0, 1], [1, 0])
    ]
    assert [mean_precision(hits, np.ones((1, 2), np.int32))[0, 0] for hits in orders] == [1.0, 0.5]


def test_draws_without_a_class_leave_it_out():
    hits = Hits(
        np.array([0]),
        np.array([1]),
        np.array([0.5]),
        np.ones((1, 1), bool),
        np.zeros((1, 1), bool),
        np.eye(2, dtype=int),
    )
    found = mean_precision(hits, np.array([[1, 1], [2, 0], [0, 2], [0, 0]], np.int32))[:, 0]
    assert found.tolist()[:3] == [0.5, 1, 0]
    assert np.isnan(found[3])


def test_nothing_found():
    none = Hits(
        np.zeros(0, int),
        np.zeros(0, int),
        np.zeros(0),
        np.zeros((2, 0), bool),
        np.zeros((2, 0), bool),
        np.ones((3, 1), int),
    )
    assert (mean_precision(none, draws(3, 5, 0)) == 0).all()
    assert (curve(none, 0) == 0).all()
    nothing = Hits(none.image, none.label, none.score, none.true, none.ignored, np.zeros((3, 1), int))
    assert np.isnan(mean_precision(nothing, draws(3, 5, 0))).all()
    assert np.isnan(curve(nothing, 0)).all()


def test_results_do_not_depend_on_how_many_draws_fit_at_once(monkeypatch):
    objects, found = scene(1)
    hits, weights = hits_of(pycocotools(objects, found), objects), draws(8, 20, 0)
    whole = mean_precision(hits, weights)
    monkeypatch.setattr("seanet.evaluation.bootstrap.AT_ONCE", 3 * np.bincount(hits.label).max())
    assert (mean_precision(hits, weights) == whole).all()


def test_draws_are_images_with_replacement():
    found = draws(7, 4000, 3)
    assert (found.sum(1) == 7).all()
    assert (found == draws(7, 4000, 3)).all()
    assert (found != draws(7, 4000, 4)).any()
    assert found.mean(0) == pytest.approx(np.ones(7), abs=0.06)
    assert found.var(0) == pytest.approx(np.full(7, 6 / 7), abs=0.1)  # binomial: 7 times 1/7 times 6/7


def test_means_count_objects_as_often_as_their_images():
    nan = np.nan
    values = np.array([[1.0, nan], [3.0, 4.0], [8.0, nan]])
    found = means(values, np.array([0, 0, 1]), np.array([[1, 1], [0, 3], [2, 1]]))
    assert found[:, 0] == pytest.approx([12 / 3, 8, (2 * 1 + 2 * 3 + 8) / 5])
    assert found[[0, 2], 1] == pytest.approx([4, 4])
    assert np.isnan(found[1, 1])


def test_interval_of_a_mean_is_the_normal_one():
    """One object an image: the bootstrap's interval is mean -+ 1.96 standard errors."""
    values = np.random.default_rng(0).normal(5, 2, (400, 1))
    low, high = interval(means(values, np.arange(400), draws(400, 4000, 1))[:, 0])
    error = values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)


def test_interval_covers_as_often_as_it_says():
    """Objects of one image are alike: intervals over objects would be far too short, those over images are not."""
    rng, covered = np.random.default_rng(0), 0
    image = np.repeat(np.arange(60), 5)
    for trial in range(200):
        values = np.repeat(rng.normal(0, 1, 60), 5)[:, None] + rng.normal(0, 0.1, (300, 1))
        low, high = interval(means(values, image, draws(60, 300, trial))[:, 0])
        covered += low <= 0 <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_interval_leaves_out_draws_without_a_value():
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(interval(np.full(3, np.nan))).all()
