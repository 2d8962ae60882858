"""All that is measured of results: AP of boxes, masks and boundaries, and every object's boundary.  Free of torch.

Image by image: masks are packed while their image is at work, and a row for each object and detection stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec

from seanet.data.coco import CocoData, ImageRecord
from seanet.evaluation import coco
from seanet.evaluation.boundary import NAMES, RATIO, Rim, boundary_width, rim_iou
from seanet.evaluation.lvis import in_place_of_coco
from seanet.evaluation.matching import Hits, Ious, hits
from seanet.evaluation.packed import pack_rle
from seanet.evaluation.pairs import Pairs, by_class, empty_pairs, match, measure

LEAST = 0.5  # AP does not look at smaller IoUs
RANGES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}  # COCO's, both ends within


@dataclass(frozen=True)
class Assessment:
    metrics: dict[str, Any]  # JSON-ready
    pairs: Pairs
    hits: dict[str, Hits]  # of "bbox", "segm" and "boundary"
    entries: list[list[dict]]  # for each image of data.images its results, best first


def measure_results(data: CocoData, entries: list[dict], max_detections: int, boundary: bool = True) -> dict[str, Any]:
    """The metrics of ``assess``, or without ``boundary`` those of ``evaluation.coco.score``; of LVIS's data LVIS's AP."""
    metrics = assess(data, entries, max_detections).metrics if boundary else coco.score(data, entries, max_detections)
    return in_place_of_coco(metrics, data, entries, max_detections)


def assess(data: CocoData, entries: list[dict], max_detections: int) -> Assessment:
    """Everything about results, which are entries of a COCO results file with box and RLE.

    The metrics are those of ``evaluation.coco.score`` and, in the same form, ``boundary``: AP by Boundary IoU, with its
    ``width``.  ``bands`` holds the summaries of ``Pairs`` for all, small, medium and large objects and ``per_class``.
    """
    listed = by_image(data, entries)
    results = coco.within(data, entries)  # as they came: ties of score are for the library to break
    truth = coco.ground_truth(data)
    shapes = {a["id"]: a["segmentation"] for a in truth["annotations"]}
    boxes = coco.judge(truth, results, "bbox", max_detections)
    scores: dict[str, Any] = {"bbox": coco.summarise(boxes)}
    found = {"bbox": hits(data, listed, coco.matrices(boxes), max_detections, "box_score")}
    del boxes  # as large as the results
    masks = coco.judge(truth, results, "segm", max_detections)
    ious = coco.matrices(masks)
    pairs, lowered = _boundaries(data, listed, ious, shapes, max_detections)
    scores |= {"segm": coco.summarise(masks), "boundary": coco.summarise(coco.judge_again(masks, lowered))}
    scores["boundary"]["width"] = _boundary_widths(data)
    found |= {kind: hits(data, listed, m, max_detections) for kind, m in (("segm", ious), ("boundary", lowered))}
    metrics = scores | {"bands": bands(data, pairs)} | coco.facts(data, len(results), max_detections)
    return Assessment(metrics, pairs, found, listed)


def by_image(data: CocoData, entries: list[dict]) -> list[list[dict]]:
    """The entries of each image of ``data``, best first; those of other images are left out."""
    found: dict[int, list[dict]] = {image.id: [] for image in data.images}
    for entry in entries:
        if entry["image_id"] in found:
            found[entry["image_id"]].append(entry)
    return [sorted(found[image.id], key=lambda entry: -entry["score"]) for image in data.images]


def bands(data: CocoData, pairs: Pairs) -> dict[str, Any]:
    """Summaries of the objects' boundaries: of all, by size, by class, and the widths in pixels."""
    sizes = {name: (pairs.area >= least) & (pairs.area <= most) for name, (least, most) in RANGES.items()}
    classes = {name: pairs.label == label for label, name in enumerate(data.categories.names, 1)}
    ends = pairs.widths if len(pairs.widths) else np.full((1, len(NAMES)), np.nan)
    return {
        "widths": {name: [float(ends[:, i].min()), float(ends[:, i].max())] for i, name in enumerate(NAMES)},
        "all": pairs.summary(),
        **{name: pairs.summary(rows) for name, rows in sizes.items()},
        "per_class": {name: pairs.summary(rows) for name, rows in classes.items()},
    }


def _boundary_widths(data: CocoData) -> dict[str, float | int | None]:
    widths = [boundary_width((image.height, image.width)) for image in data.images]
    return {"ratio": RATIO, "smallest": min(widths, default=None), "largest": max(widths, default=None)}


def _boundaries(
    data: CocoData, listed: list[list[dict]], ious: Ious, shapes: Mapping[int, dict], limit: int
) -> tuple[Pairs, dict[tuple[int, int], np.ndarray]]:
    """Every object's row, and the matrices of mask IoU lowered to Boundary IoU where that matters."""
    pairs, row = empty_pairs(data), 0
    lowered: dict[tuple[int, int], np.ndarray] = {}
    for image, entries in zip(data.images, listed, strict=True):
        if not image.annotations:
            continue
        masks = _Masks(image, [shapes[a.id] for a in image.annotations], entries)
        classes = by_class(image, entries, data.categories.ids)
        for category, (columns, rows) in classes.items():
            matrix = ious[image.id, category]
            lowered[image.id, category] = _lower(masks, matrix, columns, rows)
        found = match(image, classes, ious, limit)
        filled = codec.area(masks.shapes) == image.height * image.width
        for g, annotation in enumerate(image.annotations):
            if annotation.crowd:
                continue
            pairs.outlined[row] = not filled[g]
            if g in found:
                d, pairs.iou[row] = found[g]
                pairs.result[row], pairs.score[row] = d, entries[d]["score"]
                measure(pairs, row, masks.truth(g), masks.found(d), masks.size)
            row += 1
    return pairs, lowered


def _lower(masks: _Masks, ious: np.ndarray, columns: list[int], rows: list[int]) -> np.ndarray:
    """A matrix of mask IoU with Boundary IoU where it is smaller, for objects; a crowd region keeps its own."""
    lowered = ious.copy()
    for d, g in zip(*np.nonzero(ious >= LEAST), strict=True):
        if not masks.image.annotations[columns[g]].crowd:
            lowered[d, g] = min(ious[d, g], rim_iou(masks.truth_rim(columns[g]), masks.found_rim(rows[d])))
    return lowered


class _Masks:
    """The masks of one image, each packed and eroded at most once, when it is first asked for."""

    def __init__(self, image: ImageRecord, shapes: list[dict], entries: list[dict]):
        self.image, self.shapes, self.size = image, shapes, (image.height, image.width)
        width = boundary_width(self.size)
        # They do not know this object: a cycle would keep the masks of many images until the collector comes round.
        self.truth = truth = cache(lambda g: pack_rle(shapes[g]))
        self.found = found = cache(lambda d: pack_rle(entries[d]["segmentation"]))
        self.truth_rim = cache(lambda g: Rim.of(truth(g), width))
        self.found_rim = cache(lambda d: Rim.of(found(d), width))
