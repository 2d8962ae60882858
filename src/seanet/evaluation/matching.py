"""Which detection takes which object, by COCO's rule.  T IoU thresholds, D detections, G objects, I images, K classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seanet.data.coco import CocoData, ImageRecord

THRESHOLDS = np.linspace(0.5, 0.95, 10)
Ious = Mapping[tuple[int, int], np.ndarray]
"""By (image id, category id), where there are both: (D, G), detections best first, objects in the order of the data."""


@dataclass(frozen=True)
class Hits:
    """What AP is made of, for one kind and all classes: enough to compute it for any choice of the images.

    Rows stand class by class, within a class image by image by rising id, within an image best first: a stable sort by
    falling score within a class is the order in which AP ranks them.
    """

    image: np.ndarray  # (D,) index into data.images
    label: np.ndarray  # (D,) 1..K
    score: np.ndarray  # (D,)
    true: np.ndarray  # (T, D) bool: took an object
    ignored: np.ndarray  # (T, D) bool: took a crowd region
    objects: np.ndarray  # (I, K) non-crowd objects of each image and class


def greedy(ious: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The column that each detection takes at each threshold, -1 for none: (D, G), (G,) bool, (T,) -> (T, D).

    Detections choose best first: the free object of largest IoU not below the threshold, else a crowd region, which any
    number may share.  Of equal IoUs the last column is taken, as COCO's code does.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)
    taken = np.full((len(limits), len(ious)), -1)
    near = np.flatnonzero((ious >= limits.min()).any(1))
    if not len(near):
        return taken
    free = np.broadcast_to(~crowd, (len(limits), len(crowd))).copy()
    rank = np.arange(len(limits))
    for d in near:
        best = _last_best(np.where(free, ious[d], -1.0))
        hit = np.where(free[rank, best], ious[d, best], -1.0) >= limits
        free[rank[hit], best[hit]] = False
        if crowd.any():
            region = _last_best(np.where(crowd, ious[d], -1.0)[None])[0]
            taken[:, d] = np.where(hit, best, np.where(ious[d, region] >= limits, region, -1))
        else:
            taken[:, d] = np.where(hit, best, -1)
    return taken


def _last_best(values: np.ndarray) -> np.ndarray:
    return values.shape[1] - 1 - values[:, ::-1].argmax(1)


def hits(data: CocoData, entries: list[list[dict]], ious: Ious, limit: int, rank: str = "score") -> Hits:
    """``entries`` of each image of ``data``, ranked by ``rank`` where they have it, else by score."""
    ids = data.categories.ids
    scores = [_scores(found, rank, limit) for found in entries]
    crowds = [_crowds(image, ids) for image in data.images]
    order = sorted(range(len(data.images)), key=lambda i: data.images[i].id)
    cells = [(label, i) for label in range(1, len(ids) + 1) for i in order if ids[label - 1] in scores[i]]
    lengths = [len(scores[i][ids[label - 1]]) for label, i in cells]
    true = np.zeros((len(THRESHOLDS), sum(lengths)), bool)
    ignored = np.zeros_like(true)
    start = 0
    for (label, i), length in zip(cells, lengths, strict=True):
        key = data.images[i].id, ids[label - 1]
        if key in ious:
            crowd = crowds[i][ids[label - 1]]
            taken = greedy(ious[key], crowd, THRESHOLDS)
            on_crowd = (taken >= 0) & crowd[taken]
            true[:, start : start + length] = (taken >= 0) & ~on_crowd
            ignored[:, start : start + length] = on_crowd
        start += length
    objects = np.array([[np.sum(~found[id]) if id in found else 0 for id in ids] for found in crowds], np.int64)
    return Hits(
        image=np.repeat(np.array([i for _, i in cells], np.int64), lengths),
        label=np.repeat(np.array([label for label, _ in cells], np.int64), lengths),
        score=np.concatenate([np.zeros(0), *(scores[i][ids[label - 1]] for label, i in cells)]),
        true=true,
        ignored=ignored,
        objects=objects.reshape(len(data.images), len(ids)),
    )


def _scores(entries: list[dict], rank: str, limit: int) -> dict[int, np.ndarray]:
    """Of the best ``limit`` entries of each category, falling."""
    found: dict[int, list[float]] = {}
    for entry in entries:
        found.setdefault(entry["category_id"], []).append(entry.get(rank, entry["score"]))
    return {category: -np.sort(-np.array(scores, np.float64))[:limit] for category, scores in found.items()}


def _crowds(image: ImageRecord, ids: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Category id -> (G,) bool, which of its annotations are crowd regions."""
    found: dict[int, list[bool]] = {}
    for annotation in image.annotations:
        found.setdefault(ids[annotation.label - 1], []).append(annotation.crowd)
    return {category: np.array(crowd) for category, crowd in found.items()}
