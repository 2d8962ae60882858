"""Do predicted IoUs tell how well a box or a mask lies?  Predictions beside the true IoUs.  Free of torch.

The true IoU of a detection is that with the object of its class that it overlaps best, 0 if there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seanet.data.coco import CocoData
from seanet.evaluation.overlap import LEAST, box_ious, mask_ious, same_class

BINS = 10
PREDICTIONS = {"box_iou": "box", "mask_iou": "mask", "score": "mask"}
"""What an entry may predict -> whose true IoU it is held against; the score is the baseline of the other two."""


@dataclass(frozen=True)
class TrueIous:
    """Rows are the detections of all images, one image after the other."""

    box: np.ndarray  # (n,)
    mask: np.ndarray  # (n,)
    on_crowd: np.ndarray  # (n,) bool: overlaps a crowd region of its class and no object: nothing is known of it


def calibrate(data: CocoData, listed: list[list[dict]]) -> dict[str, Any]:
    """``reliability`` of all that the entries predict, and None for what none of them holds.

    Under ``located`` the same of the detections whose true IoU is at least .5: predicted IoUs do not know of wrong
    classes and of detections of nothing, which have the true IoU 0.  ``listed`` are the entries of each image of ``data``.
    Detections on crowd regions are left out and counted.
    """
    ious = true_ious(data, listed)
    entries = [entry for found in listed for entry in found]
    scores: dict[str, Any] = {}
    for name, part in PREDICTIONS.items():
        rows = [i for i, entry in enumerate(entries) if name in entry and not ious.on_crowd[i]]
        predicted, true = np.array([entries[i][name] for i in rows], np.float64), getattr(ious, part)[rows]
        located = true >= LEAST
        scores[name] = reliability(predicted, true)
        if scores[name]:
            scores[name]["located"] = reliability(predicted[located], true[located])
    return scores | {"on_crowd": int(ious.on_crowd.sum())}


def true_ious(data: CocoData, listed: list[list[dict]]) -> TrueIous:
    """Of the entries of each image of ``data``."""
    parts: dict[str, list[np.ndarray]] = {"box": [np.zeros(0)], "mask": [np.zeros(0)], "on_crowd": [np.zeros(0, bool)]}
    for image, entries in zip(data.images, listed, strict=True):
        same = same_class(entries, image.annotations, data.categories.ids)
        crowd = np.array([a.crowd for a in image.annotations], bool)
        boxes, masks = (box_ious(entries, image.annotations), mask_ious(entries, image.annotations, image))
        box, mask = (_largest(ious, same & ~crowd) for ious in (boxes, masks))
        parts["box"].append(box)
        parts["mask"].append(mask)
        parts["on_crowd"].append((_largest(boxes, same & crowd) >= LEAST) & (box < LEAST))
    return TrueIous(**{name: np.concatenate(part) for name, part in parts.items()})


def _largest(ious: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(D, G) -> (D,), 0 where nothing is allowed."""
    return np.where(allowed, ious, 0.0).max(1, initial=0.0)


def reliability(predicted: np.ndarray, true: np.ndarray) -> dict[str, Any] | None:
    """(n,) and (n,): rank correlation, bias, and ten equal bins of the prediction with their calibration error.

    ``bias`` is the mean of predicted - true; ``ece`` the mean distance of a bin's two means, weighted by its count
    (Naeini et al. 2015).  Predictions outside 0..1 can be ranked but have no bins: ``bins`` and ``ece`` are None.
    None if there is nothing to measure.
    """
    if not len(predicted):
        return None
    found: dict[str, Any] = {
        "detections": len(predicted),
        "spearman": spearman(predicted, true),
        "bias": float((predicted - true).mean()),
        "ece": None,
        "bins": None,
    }
    if predicted.min() < 0 or predicted.max() > 1:
        return found
    place = np.minimum((predicted * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, values, minlength=BINS) for values in (predicted, true)]
    means = [np.divide(s, count, out=np.full(BINS, np.nan), where=count > 0) for s in sums]
    bins = [
        {"from": i / BINS, "to": (i + 1) / BINS, "count": int(count[i]), "predicted": means[0][i], "true": means[1][i]}
        for i in range(BINS)
    ]
    return found | {"ece": float(np.abs(sums[0] - sums[1]).sum() / len(predicted)), "bins": bins}


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Correlation of the ranks of (n,) and (n,), ties at their mean rank; None where one of them does not vary."""
    if not len(a) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[group]
