"""What mask AP of small, medium and large objects is made of.  T IoU thresholds, D detections, G objects.

For a range of areas COCO sets aside the objects outside it, the detections that take one of them, and those that take
nothing and lie outside it themselves; neither counts for or against a model.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from faster_coco_eval.core import mask as codec

from seanet.data.coco import CocoData, ImageRecord
from seanet.evaluation.assess import RANGES, Assessment
from seanet.evaluation.matching import THRESHOLDS, Cell, Hits, by_id, greedy, joined, judged
from seanet.evaluation.overlap import mask_ious


def hits_by_size(data: CocoData, assessment: Assessment, limit: int) -> dict[str, Hits]:
    """``Hits`` of masks for each range of ``RANGES``; ``limit`` is that of detections an image."""
    cells: dict[str, list[Cell]] = {name: [] for name in RANGES}
    objects = {name: np.zeros((len(data.images), len(data.categories)), np.int64) for name in RANGES}
    for i in by_id(data):
        for label, areas, crowd, ious, scores, sizes in _classes(data, data.images[i], assessment.entries[i], limit):
            for name, (least, most) in RANGES.items():
                aside = crowd | (areas < least) | (areas > most)
                true, ignored = judged(taken := greedy(ious, crowd, THRESHOLDS, aside), aside)
                ignored |= (taken < 0) & ((sizes < least) | (sizes > most))
                objects[name][i, label - 1] = np.count_nonzero(~aside)
                cells[name].append(Cell(i, label, scores, true, ignored))
    return {name: joined(cells[name], objects[name]) for name in RANGES}


def _classes(data: CocoData, image: ImageRecord, entries: list[dict], limit: int) -> Iterator[tuple]:
    """Label, objects' areas and crowds, IoUs (D, G), scores and areas of the detections, of each class in an image."""
    by_label: dict[int, list[dict]] = {}
    for entry in entries:
        by_label.setdefault(data.categories.label(entry["category_id"]), []).append(entry)
    for label in sorted(by_label.keys() | {a.label for a in image.annotations}):
        objects = [a for a in image.annotations if a.label == label]
        kept = by_label.get(label, [])[:limit]
        areas, crowd = np.array([a.area for a in objects]), np.array([a.crowd for a in objects], bool)
        scores = np.array([entry["score"] for entry in kept])
        sizes = np.array([float(codec.area(entry["segmentation"])) for entry in kept])
        yield label, areas, crowd, mask_ious(kept, objects, image), scores, sizes
