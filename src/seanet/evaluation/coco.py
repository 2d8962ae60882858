"""COCO's average precision of boxes and masks, computed by faster-coco-eval.  Free of torch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from seanet.data.coco import CocoData, to_rle

Kind = Literal["bbox", "segm"]
KINDS: tuple[Kind, ...] = ("bbox", "segm")
AREAS = ("all", "small", "medium", "large")


def score(data: CocoData, results: list[dict], max_detections: int) -> dict[str, Any]:
    """AP and AR of results against the objects of ``data``, at the images' own resolution.

    ``results`` are entries of a COCO results file with box and RLE.  For both kinds: AP over IoU .50:.95, AP50, AP75,
    APs, APm, APl; AR1, AR10 and AR at one, ten and ``max_detections`` an image, ARs, ARm, ARl; ``per_class`` AP and
    AP50 by name.  Shares of one; None where the data hold no such object.
    """
    truth = _ground_truth(data)
    known = {image.id for image in data.images}
    results = [entry for entry in results if entry["image_id"] in known]
    scores: dict[str, Any] = {kind: _score(truth, results, kind, max_detections, data) for kind in KINDS}
    return scores | {
        "images": len(data.images),
        "objects": sum(not a.crowd for image in data.images for a in image.annotations),
        "detections": len(results),
        "max_detections": max_detections,
        "crowded_images": crowded_images(data, max_detections),
    }


def crowded_images(data: CocoData, max_detections: int) -> int:
    """Images with more objects than detections are allowed: their AR, and so their AP, cannot reach one."""
    return sum(sum(not a.crowd for a in image.annotations) > max_detections for image in data.images)


def _ground_truth(data: CocoData) -> dict[str, Any]:
    return {
        "info": {},
        "images": [{"id": i.id, "width": i.width, "height": i.height, "file_name": i.path.name} for i in data.images],
        "categories": [
            {"id": i, "name": name} for i, name in zip(data.categories.ids, data.categories.names, strict=True)
        ],
        "annotations": [
            {
                "id": a.id,
                "image_id": image.id,
                "category_id": data.categories.ids[a.label - 1],
                "bbox": [a.box[0], a.box[1], a.box[2] - a.box[0], a.box[3] - a.box[1]],
                "segmentation": to_rle(a, image.height, image.width),
                "area": a.area,
                "iscrowd": int(a.crowd),
            }
            for image in data.images
            for a in image.annotations
        ],
    }


def _score(truth: dict[str, Any], results: list[dict], kind: Kind, limit: int, data: CocoData) -> dict[str, Any]:
    from faster_coco_eval import COCO, COCOeval_faster

    # With a box at hand the library takes a mask's area from the box, which moves masks between small and large.
    kept = ("image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation")
    reference = COCO(truth)
    found = reference.loadRes([{key: entry[key] for key in kept} for entry in results])
    evaluation = COCOeval_faster(reference, found, kind, print_function=_silent)
    evaluation.params.maxDets = sorted({1, min(10, limit), limit})
    evaluation.params.catIds = list(data.categories.ids)
    evaluation.evaluate()
    evaluation.accumulate()
    return _summary(evaluation, data.categories.names)


def _summary(evaluation, names: tuple[str, ...]) -> dict[str, Any]:
    precision = np.asarray(evaluation.eval["precision"])  # IoU, recall, class, area, detections
    recall = np.asarray(evaluation.eval["recall"])  # IoU, class, area, detections
    at = {iou: int(np.argmin(np.abs(evaluation.params.iouThrs - iou))) for iou in (0.5, 0.75)}
    last = len(evaluation.params.maxDets) - 1
    summary: dict[str, Any] = {
        "AP": _mean(precision[..., 0, last]),
        "AP50": _mean(precision[at[0.5], ..., 0, last]),
        "AP75": _mean(precision[at[0.75], ..., 0, last]),
    }
    summary |= {f"AP{AREAS[i][0]}": _mean(precision[..., i, last]) for i in (1, 2, 3)}
    summary |= {"AR1": _mean(recall[..., 0, 0]), "AR10": _mean(recall[..., 0, min(1, last)])}
    summary |= {"AR": _mean(recall[..., 0, last])}
    summary |= {f"AR{AREAS[i][0]}": _mean(recall[..., i, last]) for i in (1, 2, 3)}
    return summary | {
        "per_class": {
            name: {"AP": _mean(precision[:, :, k, 0, last]), "AP50": _mean(precision[at[0.5], :, k, 0, last])}
            for k, name in enumerate(names)
        }
    }


def _mean(values: np.ndarray) -> float | None:
    """The library marks what does not exist with -1."""
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def _silent(*_: object) -> None:
    pass
