"""Which detections to keep: the score above which found and missed, right and wrong balance best.  Free of torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from seanet.evaluation.matching import THRESHOLDS, Hits

IOU = 0.5


def best_f1(hits: Hits) -> dict[str, Any]:
    """The threshold of the largest F1 at an IoU of .5, of all classes together: ``score``, ``F1``, ``precision``, ``recall``.

    F1 is the harmonic mean of precision and recall.  ``score`` lies half-way between the last score that is kept and the
    first that is not (0 if all are kept, or less where scores are not positive): what scores more is kept.  All are None
    where nothing was found that was there.
    """
    row = int(np.argmin(np.abs(THRESHOLDS - IOU)))
    counted = ~hits.ignored[row]
    order = np.argsort(-hits.score[counted], kind="stable")
    score, true = hits.score[counted][order], hits.true[row, counted][order]
    last = np.flatnonzero(np.diff(score, append=-np.inf))  # of each score: those with the same one are kept together
    right, kept, objects = np.cumsum(true)[last], last + 1, hits.objects.sum()
    if not right.any():
        return dict.fromkeys(("score", "F1", "precision", "recall"))
    f1 = 2 * right / (kept + objects)
    best = int(f1.argmax())
    least = score[last[best]]
    lowest = 0.0 if least > 0 else least - 1  # of other programs: their scores may be logarithms
    below = score[last[best] + 1] if best + 1 < len(last) else lowest
    return {
        "score": float(least + below) / 2,
        "F1": float(f1[best]),
        "precision": float(right[best] / kept[best]),
        "recall": float(right[best] / objects),
    }
