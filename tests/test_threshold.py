"""The threshold of the best F1, beside what pycocotools matches when results below a threshold are taken away."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from found import detections, write
from seanet.evaluation.assess import assess
from seanet.evaluation.matching import THRESHOLDS, Hits
from seanet.evaluation.threshold import best_f1
from seanet.report.text import best_f1 as line


def theirs(truth: COCO, found: list[dict]) -> tuple[float, float, float]:
    """F1, precision and recall of all these results, of masks at an IoU of .5."""
    kept = [{k: v for k, v in f.items() if k != "bbox"} for f in found]
    evaluation = COCOeval(truth, truth.loadRes(kept), "segm")
    evaluation.params.areaRng = [[0, 1e10]]
    evaluation.evaluate()
    cells = [cell for cell in evaluation.evalImgs if cell]
    matched, ignored = (np.concatenate([c[key][0] for c in cells]) for key in ("dtMatches", "dtIgnore"))
    objects = sum((1 - np.asarray(c["gtIgnore"])).sum() for c in cells)
    right = ((matched > 0) & (ignored == 0)).sum()
    return 2 * right / ((ignored == 0).sum() + objects), right / (ignored == 0).sum(), right / objects


@pytest.mark.parametrize(("seed", "ties"), [(0, False), (1, True), (2, False)])
def test_no_threshold_is_better_by_pycocotools(tmp_path, seed, ties, capsys):
    data = write(tmp_path, seed=seed)
    found = detections(data, seed, ties)
    best = assess(data, found, 100).metrics["best_f1"]
    truth = COCO(str(data.file))
    kept = [f for f in found if f["score"] > best["score"]]
    assert theirs(truth, kept) == pytest.approx((best["F1"], best["precision"], best["recall"]), abs=1e-12)
    scores = sorted({f["score"] for f in found})
    others = [theirs(truth, [f for f in found if f["score"] >= score])[0] for score in scores]
    assert max(others) == pytest.approx(best["F1"], abs=1e-12)
    assert ties or sum(f["score"] <= best["score"] for f in found) > 1, "a threshold that takes something away"


def hits(score: list[float], true: list[bool], objects: int) -> Hits:
    count, wide = len(score), np.repeat(np.array([true], bool), len(THRESHOLDS), 0)
    zeros = np.zeros(count, np.int64)
    return Hits(zeros, zeros + 1, np.array(score), wide, np.zeros_like(wide), np.array([[objects]]))


@pytest.mark.parametrize(
    ("score", "true", "objects", "wanted"),
    [
        ([0.9, 0.8, 0.1], [True, True, False], 2, (0.45, 1.0, 1.0, 1.0)),
        ([0.1, 0.9, 0.8], [True, True, False], 2, (0.05, 0.8, 2 / 3, 1.0)),
        ([0.6, 0.6], [False, True], 4, (0.3, 1 / 3, 0.5, 0.25)),
        ([-2.0, -1.0], [True, True], 2, (-2.5, 1.0, 1.0, 1.0)),
        ([0.0], [True], 1, (-0.5, 1.0, 1.0, 1.0)),
    ],
)
def test_known_answers(score, true, objects, wanted):
    found = best_f1(hits(score, true, objects))
    assert tuple(found.values()) == pytest.approx(wanted)
    over, f1, precision, recall = (f"{value:.3f}" for value in wanted)
    assert line(found) == [
        f"best F1 of masks at IoU .5: {f1}, of what scores over {over} (precision {precision}, recall {recall})"
    ]


@pytest.mark.parametrize(("score", "true", "objects"), [([], [], 3), ([0.5], [False], 3), ([0.5], [False], 0)])
def test_nothing_right_has_no_threshold(score, true, objects):
    found = best_f1(hits(score, true, objects))
    assert set(found.values()) == {None}
    assert line(found) == line(None) == []
