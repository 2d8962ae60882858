"""All that is measured of results: AP of boxes, masks and boundaries, and every object's boundary.  Free of torch.

Some thousand masks at a time are bits of words; a row for each object and detection stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import mask as codec

from seanet.data.coco import CocoData
from seanet.evaluation import coco
from seanet.evaluation.boundary import NAMES, RATIO, boundary_width
from seanet.evaluation.coco import RANGES
from seanet.evaluation.columns import Objects, Ranked, rows_in_image
from seanet.evaluation.lvis import in_place_of_coco
from seanet.evaluation.matching import LEAST, Hits, Near, hits, mask_areas, near_boxes, near_masks
from seanet.evaluation.pairs import Pairs, empty_pairs, match, measure
from seanet.evaluation.rims import ious, rims, stack
from seanet.evaluation.runs import unpack
from seanet.evaluation.threshold import best_f1

AT_ONCE = 2000  # pairs of masks


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
    ``width``.  ``bands`` holds the summaries of ``Pairs`` for all, small, medium and large objects and ``per_class``;
    ``best_f1`` the threshold of ``evaluation.threshold`` for masks.
    """
    listed = by_image(data, entries)
    results = coco.within(data, entries)  # as they came: ties of score are for the library to break
    objects = Objects.of(data)
    scores = coco.by_kind(data, objects, results, max_detections)
    ranked = Ranked.of(data, results, max_detections, "box_score")
    boxes = np.array([results[e]["bbox"] for e in ranked.entry.tolist()], np.float64).reshape(-1, 4)
    found = {"bbox": hits(data, objects, ranked, near_boxes(objects, ranked, boxes))}
    ranked = Ranked.of(data, results, max_detections)
    masks = [entry["segmentation"] for entry in results]
    near = near_masks(objects, ranked, masks)
    lowered = lower(data, objects, ranked, near, masks)
    found |= {kind: hits(data, objects, ranked, n) for kind, n in (("segm", near), ("boundary", lowered))}
    area = mask_areas(ranked, masks)
    sized = [hits(data, objects, ranked, lowered, limits, area) for limits in coco.AREAS.values()]
    pairs = _pairs(data, objects, ranked, near, results, max_detections)
    boundary = coco.summarise(coco.averages_of(sized, ranked.rank, max_detections), data.categories.names)
    metrics = scores | {"boundary": boundary | {"width": _boundary_widths(data)}, "bands": bands(data, pairs)}
    metrics |= {"best_f1": best_f1(found["segm"])}
    metrics |= coco.facts(data, len(results), max_detections)
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


def lower(data: CocoData, objects: Objects, found: Ranked, near: Near, masks: list[dict]) -> Near:
    """Pairs of masks with Boundary IoU where it is smaller, of objects; a crowd region keeps its own."""
    iou = near.iou.copy()
    sizes, widths = _sizes(data), np.array([boundary_width((i.height, i.width)) for i in data.images])
    rows = np.flatnonzero(~objects.crowd[near.truth])
    for part in (rows[begin : begin + AT_ONCE] for begin in range(0, len(rows), AT_ONCE)):
        truths, t = np.unique(near.truth[part], return_inverse=True)
        founds, f = np.unique(near.found[part], return_inverse=True)
        image = np.empty(len(truths) + len(founds), np.int64)
        image[: len(truths)] = objects.image[truths]
        image[len(truths) + f] = objects.image[near.truth[part]]
        texts = [objects.masks[g]["counts"] for g in truths.tolist()]
        texts += [masks[e]["counts"] for e in found.entry[founds].tolist()]
        bands = rims(stack(unpack(texts), sizes[image, 0]), widths[image])
        iou[part] = np.minimum(iou[part], ious(bands, t, len(truths) + f))
    return Near(near.found, near.truth, iou).at(np.flatnonzero(iou >= LEAST))


def _pairs(data: CocoData, objects: Objects, found: Ranked, near: Near, results: list[dict], limit: int) -> Pairs:
    """A row for each object, in the order of the data."""
    pairs, row_in_image = empty_pairs(data), rows_in_image(data, results)
    near = near.at(np.flatnonzero(row_in_image[found.entry[near.found]] < limit))
    detection, iou = match(objects, found, near)
    order = np.lexsort((objects.number, objects.image))
    order = order[~objects.crowd[order]]
    sizes = _sizes(data)
    area = np.asarray(codec.area([objects.masks[g] for g in order.tolist()]))
    pairs.outlined[:] = area != sizes.prod(1)[objects.image[order]]
    rows = np.flatnonzero(detection[order] >= 0)
    g, entries = order[rows], found.entry[detection[order[rows]]]
    pairs.iou[rows], pairs.result[rows] = iou[g], row_in_image[entries]
    pairs.score[rows] = found.score[detection[g]]
    # Those of images of one size are measured together.
    by_size = np.lexsort(sizes[objects.image[g]].T)
    for part in (by_size[begin : begin + AT_ONCE] for begin in range(0, len(rows), AT_ONCE)):
        own = sizes[objects.image[g[part]]]
        texts = [objects.masks[k]["counts"] for k in g[part].tolist()]
        texts += [results[e]["segmentation"]["counts"] for e in entries[part].tolist()]
        masks, n = stack(unpack(texts), np.tile(own[:, 0], 2)), len(part)
        measure(pairs, rows[part], masks, np.arange(n), np.arange(n, 2 * n), own)
    return pairs


def _sizes(data: CocoData) -> np.ndarray:
    """(I, 2) height and width."""
    return np.array([(image.height, image.width) for image in data.images], np.int64).reshape(-1, 2)
