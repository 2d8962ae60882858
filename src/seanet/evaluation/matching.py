"""Which detection takes which object, by COCO's rule.  T IoU thresholds, D detections, G objects, I images, K classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seanet.data.coco import CocoData, ImageRecord

THRESHOLDS = np.linspace(0.5, 0.95, 10)
Ious = Mapping[tuple[int, int], np.ndarray]
"""By (image id, category id), where there are both: (D, G), detections best first, objects in the order of the data."""


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


class Cell(NamedTuple):
    """The detections of one class in one image, best first: the rows of ``Hits`` that they are."""

    image: int
    label: int
    score: np.ndarray  # (D,)
    true: np.ndarray  # (T, D)
    ignored: np.ndarray  # (T, D)


def greedy(ious: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray, aside: np.ndarray | None = None) -> np.ndarray:
    """The column that each detection takes at each threshold, -1 for none: (D, G), (G,) bool, (T,) -> (T, D).

    Detections choose best first: the free object of largest IoU not below the threshold, else a crowd region, which any
    number may share, or a free object that is set ``aside`` (G,).  Of equal IoUs the last column is taken, as COCO's
    code does.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)
    taken = np.full((len(limits), len(ious)), -1)
    near = np.flatnonzero((ious >= limits.min()).any(1))
    if not len(near):
        return taken
    later = crowd if aside is None else crowd | aside
    groups = (~later, later) if later.any() else (~later,)
    free, rank = np.ones((len(limits), len(crowd)), bool), np.arange(len(limits))
    for d in near:
        for group in groups:
            values = np.where(group & free, ious[d], -1.0)
            best = values.shape[1] - 1 - values[:, ::-1].argmax(1)
            hit = np.flatnonzero((values[rank, best] >= limits) & (taken[:, d] < 0))
            taken[hit, d] = best[hit]
            free[hit, best[hit]] = crowd[best[hit]]
    return taken


def judged(taken: np.ndarray, aside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections of ``greedy`` are true, and which took what counts neither way, ``aside`` (G,): (T, D) each."""
    ignored = np.append(aside, False)[taken]  # -1 is the one that was added
    return (taken >= 0) & ~ignored, ignored


def hits(data: CocoData, entries: list[list[dict]], ious: Ious, limit: int, rank: str = "score") -> Hits:
    """``entries`` of each image of ``data``, ranked by ``rank`` where they have it, else by score.

    Those of categories that the data do not have are no part of it, as they are none of AP.
    """
    cells: list[Cell] = []
    objects = np.zeros((len(data.images), len(data.categories)), np.int64)
    for i in by_id(data):
        crowds = _crowds(data.images[i])
        for label, crowd in crowds.items():
            objects[i, label - 1] = np.count_nonzero(~crowd)
        scores = _scores(entries[i], rank, limit)
        for label, category in enumerate(data.categories.ids, 1):
            if category not in scores:
                continue
            matrix = ious.get((data.images[i].id, category))
            true = ignored = np.zeros((len(THRESHOLDS), len(scores[category])), bool)
            if matrix is not None:
                true, ignored = judged(greedy(matrix, crowds[label], THRESHOLDS), crowds[label])
            cells.append(Cell(i, label, scores[category], true, ignored))
    return joined(cells, objects)


def by_id(data: CocoData) -> list[int]:
    """The images of ``data`` in the order in which the library goes through them."""
    return sorted(range(len(data.images)), key=lambda i: data.images[i].id)


def joined(cells: list[Cell], objects: np.ndarray) -> Hits:
    lengths = [len(cell.score) for cell in cells]
    none = np.zeros((len(THRESHOLDS), 0), bool)
    return Hits(
        image=np.repeat(np.array([cell.image for cell in cells], np.int64), lengths),
        label=np.repeat(np.array([cell.label for cell in cells], np.int64), lengths),
        score=np.concatenate([np.zeros(0), *(cell.score for cell in cells)]),
        true=np.concatenate([none, *(cell.true for cell in cells)], 1),
        ignored=np.concatenate([none, *(cell.ignored for cell in cells)], 1),
        objects=objects,
    )


def _scores(entries: list[dict], rank: str, limit: int) -> dict[int, np.ndarray]:
    """Of the best ``limit`` entries of each category, falling."""
    found: dict[int, list[float]] = {}
    for entry in entries:
        found.setdefault(entry["category_id"], []).append(entry.get(rank, entry["score"]))
    return {category: -np.sort(-np.array(scores, np.float64))[:limit] for category, scores in found.items()}


def _crowds(image: ImageRecord) -> dict[int, np.ndarray]:
    """Label -> (G,) bool, which of its annotations are crowd regions."""
    found: dict[int, list[bool]] = {}
    for annotation in image.annotations:
        found.setdefault(annotation.label, []).append(annotation.crowd)
    return {label: np.array(crowd) for label, crowd in found.items()}
