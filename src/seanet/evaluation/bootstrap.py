"""How far figures of an evaluation would move with other images: bootstrap over images (Efron 1979).  Free of torch.

Images are drawn with replacement as often as there are images; an image's objects and detections come along as often as
the image was drawn.  All models are measured on the same draws, so the interval of a difference is a paired one: what
makes an image hard for every model cancels.  Letters: B draws, I images, K classes, T IoU thresholds, D detections.
"""

import numpy as np

from seanet.evaluation.matching import Hits

RECALLS = np.linspace(0, 1, 101)  # where COCO reads a precision-recall curve
AT_ONCE = 4_000_000  # numbers of one array; draws that do not fit are taken in turns


def draws(images: int, number: int, seed: int) -> np.ndarray:
    """(B, I) int32: how often each image is drawn; every row sums to I."""
    if not images:
        return np.zeros((number, 0), np.int32)
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=number).astype(np.int32)


def mean_precision(hits: Hits, weights: np.ndarray) -> np.ndarray:
    """COCO's AP at each IoU threshold, mean over classes, if every image counted ``weights`` (B, I) times: (B, T).

    Equal to scoring a data set in which images stand that often, except for the order among equal scores.  Classes
    without objects in a draw have no part in its mean; without any class that has, it is nan.
    """
    thresholds = len(hits.true)
    order = np.lexsort((-hits.score, hits.label))  # stable: equal scores stay in the order of images, as in COCO
    first = np.searchsorted(hits.label[order], np.arange(1, hits.objects.shape[1] + 2))
    size = max(1, AT_ONCE // max(1, *np.diff(first)))
    parts = []
    for begin in range(0, len(weights), size):
        part = weights[begin : begin + size]
        objects = part @ hits.objects  # (b, K)
        total = np.zeros((len(part), thresholds))
        for k in np.flatnonzero(objects.any(0)):
            rows = order[first[k] : first[k + 1]]
            exists = objects[:, k] > 0
            found = class_precision(hits, rows, part[exists], objects[exists, k])
            total[exists] += found
        classes = (objects > 0).sum(1)
        parts.append(np.divide(total, classes[:, None], out=np.full(total.shape, np.nan), where=classes[:, None] > 0))
    return np.concatenate(parts) if parts else np.zeros((0, thresholds))


def class_precision(hits: Hits, rows: np.ndarray, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """AP of one class, (b, T); ``rows`` are its detections, best first, and ``objects`` (b,) > 0 its objects."""
    times = weights.take(hits.image[rows], 1)  # (b, D)
    passed = times.cumsum(1, dtype=np.int32)
    found = np.zeros((len(weights), len(hits.true)))
    for t, (true, ignored) in enumerate(zip(hits.true[:, rows], hits.ignored[:, rows], strict=True)):
        at, gone = np.flatnonzero(true), np.flatnonzero(ignored)
        # Precision peaks where something is found, so the curve is needed there alone.
        taken = times.take(at, 1).cumsum(1, dtype=np.int32)
        counted = passed.take(at, 1)
        if len(gone):
            before = np.pad(times.take(gone, 1).cumsum(1, dtype=np.int32), ((0, 0), (1, 0)))
            counted -= before.take(np.searchsorted(gone, at), 1)
        precision = taken / np.maximum(counted, 1)
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, taken / objects[:, None], side="right")
        found[:, t] = (best_from_here * np.diff(reached, axis=1, prepend=0)).sum(1) / len(RECALLS)
    return found


def curve(hits: Hits, threshold: int) -> np.ndarray:
    """Precision at ``RECALLS``, mean over the classes with objects: the curve whose mean is AP there; nan without any."""
    curves = []
    for label in np.flatnonzero(hits.objects.any(0)) + 1:
        rows = np.flatnonzero(hits.label == label)
        rows = rows[np.argsort(-hits.score[rows], kind="stable")]
        true, counted = hits.true[threshold, rows], ~hits.ignored[threshold, rows]
        taken = true.cumsum()
        precision = np.r_[taken / np.maximum(counted.cumsum(), 1), 0.0]
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        recall = taken / hits.objects[:, label - 1].sum()
        curves.append(best_from_here[np.searchsorted(recall, RECALLS)])
    return np.mean(curves, axis=0) if curves else np.full(len(RECALLS), np.nan)


def means(values: np.ndarray, image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over objects of each column of ``values`` (n, M), objects counted as often as their images: (B, M).

    nan values are left out; the mean of none is nan.  ``image`` (n,) says whose the objects are.
    """
    exists = np.isfinite(values)
    images, columns = weights.shape[1], values.shape[1]
    sums, counts = np.zeros((images, columns)), np.zeros((images, columns))
    np.add.at(sums, image, np.where(exists, values, 0))
    np.add.at(counts, image, exists)
    number = weights @ counts
    return np.divide(weights @ sums, number, out=np.full(number.shape, np.nan), where=number > 0)


def interval(values: np.ndarray, share: float = 0.95) -> tuple[float, float]:
    """The middle ``share`` of what the draws gave (percentiles); draws without a value are left out, nan if all are."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
