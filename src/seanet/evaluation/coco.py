"""COCO's average precision of boxes and masks, computed by hotcoco.  Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
from hotcoco import COCO, COCOeval
from hotcoco import mask as codec

from seanet.data.coco import CocoData
from seanet.evaluation.bootstrap import class_precision
from seanet.evaluation.columns import Objects, label_of, place_of, places
from seanet.evaluation.matching import THRESHOLDS, Hits

Kind = Literal["bbox", "segm"]
Table = tuple[list[dict], np.ndarray]
KINDS: tuple[Kind, ...] = ("bbox", "segm")
MOST = 1e10  # pixels: larger is nothing
RANGES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, MOST)}  # of areas, both ends within
AREAS = {"all": (0, MOST)} | RANGES


@dataclass(frozen=True)
class Averages:
    """Of T IoU thresholds, K classes in the order of the labels, A ranges of area, M limits of detections; nan if none."""

    precision: np.ndarray  # (T, K, A) at the last limit
    recall: np.ndarray  # (T, K, A, M)


def score(data: CocoData, results: list[dict], max_detections: int) -> dict[str, Any]:
    """AP and AR of results against the objects of ``data``, at the images' own resolution.

    ``results`` are entries of a COCO results file with box and RLE.  For both kinds: AP over IoU .50:.95, AP50, AP75,
    APs, APm, APl; AR1, AR10 and AR at one, ten and ``max_detections`` an image, ARs, ARm, ARl; ``per_class`` AP and
    AP50 by name.  Shares of one; None where the data hold no such object.
    """
    results = within(data, results)
    return by_kind(data, Objects.of(data), results, max_detections) | facts(data, len(results), max_detections)


def by_kind(data: CocoData, objects: Objects, results: list[dict], max_detections: int) -> dict[str, Any]:
    """The part of ``score`` that needs ``results`` of images of ``data`` alone."""
    truth = COCO(ground_truth(data, objects))
    names, table = data.categories.names, tabled(data, results)
    return {kind: summarise(judge(truth, table, kind, max_detections), names) for kind in KINDS}


def within(data: CocoData, results: list[dict]) -> list[dict]:
    """The results of images of ``data``, in their order."""
    known = {image.id for image in data.images}
    return [entry for entry in results if entry["image_id"] in known]


def facts(data: CocoData, detections: int, max_detections: int) -> dict[str, int]:
    return {
        "images": len(data.images),
        "objects": sum(not a.crowd for image in data.images for a in image.annotations),
        "detections": detections,
        "max_detections": max_detections,
        "crowded_images": crowded_images(data, max_detections),
    }


def crowded_images(data: CocoData, max_detections: int) -> int:
    """Images with more objects than detections are allowed: their AR, and so their AP, cannot reach one."""
    return sum(sum(not a.crowd for a in image.annotations) > max_detections for image in data.images)


def ground_truth(data: CocoData, objects: Objects) -> dict[str, Any]:
    """The content of an annotation file, every mask as run lengths.

    Images have their place by rising id as theirs, from 1, and categories their label: the library takes no negative ids.
    """
    place = (places(data) + 1).tolist()
    return {
        "images": [
            {"id": i, "width": image.width, "height": image.height, "file_name": image.path.name}
            for i, image in zip(place, data.images, strict=True)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(data.categories.names, 1)],
        "annotations": [
            {
                "id": number,
                "image_id": place[i],
                "category_id": a.label,
                "bbox": box,
                "segmentation": mask,
                "area": a.area,
                "iscrowd": int(a.crowd),
            }
            for number, (a, i, box, mask) in enumerate(
                zip(objects.annotations, objects.image.tolist(), objects.boxes().tolist(), objects.masks, strict=True),
                1,
            )
        ],
    }


def judge(truth: COCO, table: Table, kind: Kind, limit: int) -> Averages:
    """The library's, of ``ground_truth``.  Boxes are ranked by ``box_score`` where there is one."""
    evaluation = COCOeval(truth, numbered(truth, table, kind), kind)
    evaluation.params.max_dets = sorted({1, min(10, limit), limit})
    return averages(evaluation)


def tabled(data: CocoData, results: list[dict]) -> Table:
    """Results of classes that the data have, and of each (D, 7) the image's place from 1, box, score and label."""
    label = label_of(data, results)
    known = np.flatnonzero(label)
    entries = results if len(known) == len(results) else [results[row] for row in known.tolist()]
    sides = np.fromiter(chain.from_iterable(entry["bbox"] for entry in entries), np.float64, 4 * len(entries))
    scores = np.array([entry["score"] for entry in entries], np.float64)
    return entries, np.column_stack([place_of(data, entries) + 1, sides.reshape(-1, 4), scores, label[known]])


def numbered(truth: COCO, table: Table, kind: Kind) -> COCO:
    """Results with the ids of ``ground_truth``."""
    entries, rows = table
    if kind == "bbox":
        rows = rows.copy()
        rows[:, 5] = [entry.get("box_score", entry["score"]) for entry in entries]
        return truth.load_res(rows)
    masks = [entry["segmentation"] for entry in entries]
    found = truth.load_res(rows, segmentation=masks)
    # With a box at hand the library takes a mask's area from the box, which moves masks between small and large.
    found.update_anns(ids=np.arange(1, len(masks) + 1), area=np.asarray(codec.area(masks), np.float64))
    return found


def averages(evaluation: COCOeval) -> Averages:
    """What the library, whose settings are made, has to say."""
    evaluation.evaluate()
    evaluation.accumulate()
    found = evaluation.eval
    assert found is not None
    precision = _known(found["precision"][..., -1])  # IoU, recall, class, area
    # COCO's code divides by what is counted and 2e-16 more, and so calls one of one a little less.
    precision[precision > 1 - 1e-15] = 1
    return Averages(precision.mean(1), _known(found["recall"]))


def _known(values: np.ndarray) -> np.ndarray:
    """The library marks what does not exist with -1."""
    return np.where(values < 0, np.nan, values)


def averages_of(hits: list[Hits], rank: np.ndarray, limit: int) -> Averages:
    """The same from the hits of each of ``AREAS``, best ``limit`` of each cell; ``rank`` (D,) is that within the cell."""
    limits = sorted({1, min(10, limit), limit})
    classes = hits[0].objects.shape[1]
    precision = np.full((len(THRESHOLDS), classes, len(hits)), np.nan)
    recall = np.full((*precision.shape, len(limits)), np.nan)
    for area, own in enumerate(hits):
        order = np.lexsort((-own.score, own.label))
        first = np.searchsorted(own.label[order], np.arange(1, classes + 2))
        once = np.ones((1, len(own.objects)), np.int32)
        for k in np.flatnonzero(own.objects.any(0)):
            rows, objects = order[first[k] : first[k + 1]], own.objects[:, k].sum()
            precision[:, k, area] = class_precision(own, rows, once, objects[None])[0]
            for m, most in enumerate(limits):
                recall[:, k, area, m] = own.true[:, rows[rank[rows] < most]].sum(1) / objects
    return Averages(precision, recall)


def summarise(averages: Averages, names: tuple[str, ...]) -> dict[str, Any]:
    """AP and AR as ``score`` describes them."""
    precision, recall = averages.precision, averages.recall
    at = {iou: int(np.argmin(np.abs(THRESHOLDS - iou))) for iou in (0.5, 0.75)}
    summary: dict[str, Any] = {
        "AP": mean(precision[..., 0]),
        "AP50": mean(precision[at[0.5], :, 0]),
        "AP75": mean(precision[at[0.75], :, 0]),
    }
    summary |= {f"AP{name[0]}": mean(precision[..., i]) for i, name in enumerate(RANGES, 1)}
    limits = recall.shape[-1]
    summary |= {"AR1": mean(recall[:, :, 0, 0]), "AR10": mean(recall[:, :, 0, min(1, limits - 1)])}
    summary |= {"AR": mean(recall[:, :, 0, -1])}
    summary |= {f"AR{name[0]}": mean(recall[:, :, i, -1]) for i, name in enumerate(RANGES, 1)}
    return summary | {
        "per_class": {
            name: {"AP": mean(precision[:, k, 0]), "AP50": mean(precision[at[0.5], k : k + 1, 0])}
            for k, name in enumerate(names)
        }
    }


def mean(values: np.ndarray) -> float | None:
    """Of what exists, the same in whatever order the classes stand."""
    values = values[~np.isnan(values)]
    return math.fsum(values.tolist()) / values.size if values.size else None
