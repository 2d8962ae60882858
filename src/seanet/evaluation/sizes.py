"""What mask AP of small, medium and large objects is made of.  T IoU thresholds, D detections, G objects.

For a range of areas COCO sets aside the objects outside it, the detections that take one of them, and those that take
nothing and lie outside it themselves; neither counts for or against a model.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from faster_coco_eval.core import mask as codec

from seanet.data.coco import CocoData, ImageRecord, to_rle
from seanet.evaluation.assess import RANGES, Assessment
from seanet.evaluation.matching import THRESHOLDS, Hits


def hits_by_size(data: CocoData, assessment: Assessment, limit: int) -> dict[str, Hits]:
    """``Hits`` of masks for each range of ``RANGES``; ``limit`` is that of detections an image."""
    found: dict[str, list[_Part]] = {name: [] for name in RANGES}
    objects = {name: np.zeros((len(data.images), len(data.categories)), np.int64) for name in RANGES}
    for i in sorted(range(len(data.images)), key=lambda i: data.images[i].id):
        for label, areas, crowd, ious, scores, sizes in _classes(data, data.images[i], assessment.entries[i], limit):
            for name, (least, most) in RANGES.items():
                aside = crowd | (areas < least) | (areas > most)
                true, ignored = take(ious, crowd, aside, THRESHOLDS)
                ignored |= ~true & ((sizes < least) | (sizes > most))
                objects[name][i, label - 1] = np.count_nonzero(~aside)
                found[name].append((i, label, scores, true, ignored))
    return {name: _joined(found[name], objects[name]) for name in RANGES}


def take(ious: np.ndarray, crowd: np.ndarray, aside: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, D) whether each detection takes an object, and whether it takes one that is set ``aside`` (G,), crowds included.

    Detections choose best first: the free object of largest IoU, or else what is set aside; only crowds are shared.
    """
    limits = np.minimum(limits, 1 - 1e-10)
    true, ignored = np.zeros((2, len(limits), len(ious)), bool)
    free = np.ones((len(limits), len(crowd)), bool)
    for d in np.flatnonzero(ious.max(1, initial=0) >= limits.min()):
        for group, noted in ((~aside, true), (aside, ignored)):
            values = np.where(group & (free | crowd), ious[d], -1.0)
            best = values.shape[1] - 1 - values[:, ::-1].argmax(1)  # of equal ones the last, as COCO's code does
            hit = np.flatnonzero((values.max(1) >= limits) & ~true[:, d])
            noted[hit, d] = True
            free[hit, best[hit]] = False
    return true, ignored


_Part = tuple[int, int, np.ndarray, np.ndarray, np.ndarray]
"""Image, label, (D,) scores, (T, D) true, (T, D) ignored."""


def _classes(data: CocoData, image: ImageRecord, entries: list[dict], limit: int) -> Iterator[tuple]:
    """Label, objects' areas and crowds, IoUs (D, G), scores and areas of the detections, of each class in an image."""
    by_label: dict[int, list[dict]] = {}
    for entry in entries:
        by_label.setdefault(data.categories.label(entry["category_id"]), []).append(entry)
    for label in sorted(by_label.keys() | {a.label for a in image.annotations}):
        objects = [a for a in image.annotations if a.label == label]
        kept = by_label.get(label, [])[:limit]
        shapes = [_coded(entry["segmentation"]) for entry in kept]
        crowd = np.array([a.crowd for a in objects], bool)
        ious = np.zeros((len(kept), len(objects)))
        if ious.size:
            truth = [to_rle(a, image.height, image.width) for a in objects]
            ious = np.asarray(codec.iou(shapes, truth, crowd.astype(np.uint8).tolist()))
        areas, sizes = np.array([a.area for a in objects]), np.array([float(codec.area(s)) for s in shapes])
        yield label, areas, crowd, ious, np.array([entry["score"] for entry in kept]), sizes


def _coded(rle: dict) -> dict:
    counts = rle["counts"]
    return {"size": rle["size"], "counts": counts.encode("ascii") if isinstance(counts, str) else counts}


def _joined(parts: list[_Part], objects: np.ndarray) -> Hits:
    lengths = [len(part[2]) for part in parts]
    empty = np.zeros((len(THRESHOLDS), 0), bool)
    return Hits(
        image=np.repeat(np.array([part[0] for part in parts], np.int64), lengths),
        label=np.repeat(np.array([part[1] for part in parts], np.int64), lengths),
        score=np.concatenate([np.zeros(0), *(part[2] for part in parts)]),
        true=np.concatenate([empty, *(part[3] for part in parts)], 1),
        ignored=np.concatenate([empty, *(part[4] for part in parts)], 1),
        objects=objects,
    )
