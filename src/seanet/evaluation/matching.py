"""Which detection takes which object, by COCO's rule.  T IoU thresholds, D detections, G annotations, P near pairs of both.

All images are matched at once, in rounds: in round r the r-th detection of every cell (``columns``) chooses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from hotcoco import mask as codec
from hotcoco.primitives import mask_iou

from seanet.data.coco import CocoData
from seanet.evaluation.columns import Objects, Ranked, places, ranks, spread

THRESHOLDS = np.linspace(0.5, 0.95, 10)
LEAST = 0.5  # AP does not look at smaller IoUs
AT_ONCE = 2_000_000  # pairs of boxes


@dataclass(frozen=True)
class Near:
    """Pairs of a detection and an annotation of one cell whose IoU is at least ``LEAST``, by rising detection."""

    found: np.ndarray  # (P,) rows of the detections
    truth: np.ndarray  # (P,) rows of the annotations
    iou: np.ndarray  # (P,) a crowd region counts what of the detection lies in it

    def at(self, rows: np.ndarray) -> Near:
        return Near(self.found[rows], self.truth[rows], self.iou[rows])


@dataclass(frozen=True)
class Hits:
    """What AP is made of, for one kind and all classes: enough to compute it for any choice of the images.

    Rows stand image by image by rising id, those of a class within an image best first: a stable sort by falling score
    within a class is the order in which AP ranks them.
    """

    image: np.ndarray  # (D,) index into data.images
    label: np.ndarray  # (D,) 1..K
    score: np.ndarray  # (D,)
    true: np.ndarray  # (T, D) bool: took an object
    ignored: np.ndarray  # (T, D) bool: counts neither way, as what took a crowd region
    objects: np.ndarray  # (I, K) non-crowd objects of each image and class


def near_boxes(objects: Objects, found: Ranked, boxes: np.ndarray) -> Near:
    """``boxes`` (D, 4) of the detections: x, y, width, height."""
    truth = objects.boxes()
    parts = []
    for d, g in _candidates(objects, found):
        low = np.maximum(boxes[d, :2], truth[g, :2])
        high = np.minimum(boxes[d, :2] + boxes[d, 2:], truth[g, :2] + truth[g, 2:])
        common = np.maximum(high - low, 0).prod(1)
        area = boxes[d, 2:].prod(1)
        whole = np.where(objects.crowd[g], area, area + truth[g, 2:].prod(1) - common)
        iou = np.divide(common, whole, out=np.zeros_like(common), where=common > 0)
        near = iou >= LEAST
        parts.append((d[near], g[near], iou[near]))
    none = np.zeros(0, np.int64)
    d, g, iou = (np.concatenate(column) for column in zip((none, none, np.zeros(0)), *parts, strict=True))
    return Near(d, g, iou)


def _candidates(objects: Objects, found: Ranked) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of a cell, rows of the detections and of the annotations, some detections at a time."""
    first = np.searchsorted(objects.cell, found.cell)
    counts = np.searchsorted(objects.cell, found.cell, side="right") - first
    part = np.cumsum(counts) // AT_ONCE
    for begin, end in _runs(part):
        g, d = spread(first[begin:end], counts[begin:end])
        yield d + begin, g


def near_masks(objects: Objects, found: Ranked, masks: list[dict]) -> Near:
    """``masks`` are the run lengths of the entries that ``found`` numbers."""
    d, g, ious = [], [], []
    starts = np.searchsorted(objects.cell, found.cell)
    ends = np.searchsorted(objects.cell, found.cell, side="right")
    for begin, end in _runs(found.cell):
        first, last = int(starts[begin]), int(ends[begin])
        if first == last:
            continue
        own = [masks[e] for e in found.entry[begin:end].tolist()]
        matrix = mask_iou(own, objects.masks[first:last], objects.crowd[first:last])
        rows, columns = np.nonzero(matrix >= LEAST)
        d.append(rows + begin)
        g.append(columns + first)
        ious.append(matrix[rows, columns])
    none = np.zeros(0, np.int64)
    return Near(np.concatenate([none, *d]), np.concatenate([none, *g]), np.concatenate([np.zeros(0), *ious]))


def mask_areas(found: Ranked, masks: list[dict]) -> np.ndarray:
    """(D,) pixels of the detections; ``masks`` are those of the entries that ``found`` numbers."""
    return np.asarray(codec.area([masks[e] for e in found.entry.tolist()]), np.float64)


def _runs(keys: np.ndarray) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of equal keys."""
    ends = np.flatnonzero(np.diff(keys, append=keys[-1:] + 1)) + 1
    return zip([0, *ends.tolist()], ends.tolist(), strict=False)


def take(near: Near, cell: np.ndarray, crowd: np.ndarray, aside: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The annotation that each detection takes at each threshold, -1 for none: (D,), (G,), (G,), (T,) -> (T, D).

    The detections of a cell choose best first: the free object of largest IoU not below the threshold, else a crowd
    region, which any number may share, or a free object that is set ``aside``.  Of equal IoUs the last annotation is
    taken, as COCO's code does.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]
    aside = aside | crowd
    taken, free = np.full((len(limits), len(cell)), -1), np.ones((len(limits), len(crowd)), bool)
    # Within a detection from the worst choice to the best.
    near = near.at(np.lexsort((near.truth, near.iou, ~aside[near.truth], near.found)))
    rows, owner = np.unique(near.found, return_inverse=True)
    turn = ranks(cell[rows])[owner]
    order = np.argsort(turn, kind="stable")
    for begin, end in _runs(turn[order]):
        part = near.at(order[begin:end])
        starts = np.flatnonzero(np.diff(part.found, prepend=-1))
        open_ = (free[:, part.truth] | crowd[part.truth]) & (part.iou >= limits)
        best = np.maximum.reduceat(np.where(open_, np.arange(end - begin), -1), starts, axis=1)
        t, row = np.nonzero(best >= 0)
        chosen = part.truth[best[t, row]]
        taken[t, part.found[starts[row]]] = chosen
        free[t, chosen] = False
    return taken


def greedy(ious: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray, aside: np.ndarray | None = None) -> np.ndarray:
    """The column that each detection takes, as ``take`` has it, in one cell: (D, G), (G,) bool, (T,) -> (T, D)."""
    d, g = np.nonzero(ious >= thresholds.min(initial=1 - 1e-10))
    aside = crowd if aside is None else aside
    return take(Near(d, g, ious[d, g]), np.zeros(len(ious), np.int64), crowd, aside, thresholds)


def judged(taken: np.ndarray, aside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections of ``take`` are true, and which took what counts neither way, ``aside`` (G,): (T, D) each."""
    ignored = np.append(aside, False)[taken]  # -1 is the one that was added
    return (taken >= 0) & ~ignored, ignored


def hits(
    data: CocoData,
    objects: Objects,
    found: Ranked,
    near: Near,
    limits: tuple[float, float] = (0, np.inf),
    area: np.ndarray | None = None,
) -> Hits:
    """Of the objects whose area lies within ``limits``, ends included; ``area`` (D,) is that of the detections.

    Objects outside are set aside, and so are detections outside that take nothing.
    """
    least, most = limits
    aside = objects.crowd | (objects.area < least) | (objects.area > most)
    taken = take(near, found.cell, objects.crowd, aside, THRESHOLDS)
    true, ignored = judged(taken, aside)
    if area is not None:
        ignored |= (taken < 0) & ((area < least) | (area > most))
    images, classes = len(data.images), len(data.categories)
    order = np.argsort(places(data))
    counts = np.bincount(objects.cell[~aside], minlength=images * classes).reshape(images, classes)
    place, label = np.divmod(found.cell, classes)
    return Hits(order[place], label + 1, found.score, true, ignored, counts[places(data)])
