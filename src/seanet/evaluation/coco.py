"""COCO's average precision of boxes and masks, computed by faster-coco-eval.  Free of torch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from seanet.data.coco import CocoData, to_rle
from seanet.evaluation.matching import Ious

Kind = Literal["bbox", "segm"]
KINDS: tuple[Kind, ...] = ("bbox", "segm")
AREAS = ("all", "small", "medium", "large")


def score(data: CocoData, results: list[dict], max_detections: int) -> dict[str, Any]:
    """AP and AR of results against the objects of ``data``, at the images' own resolution.

    ``results`` are entries of a COCO results file with box and RLE.  For both kinds: AP over IoU .50:.95, AP50, AP75,
    APs, APm, APl; AR1, AR10 and AR at one, ten and ``max_detections`` an image, ARs, ARm, ARl; ``per_class`` AP and
    AP50 by name.  Shares of one; None where the data hold no such object.
    """
    results, truth = within(data, results), ground_truth(data)
    scores: dict[str, Any] = {kind: summarise(judge(truth, results, kind, max_detections)) for kind in KINDS}
    return scores | facts(data, len(results), max_detections)


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


def ground_truth(data: CocoData) -> dict[str, Any]:
    """The content of an annotation file, every mask as run lengths."""
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


def judge(truth: dict[str, Any], results: list[dict], kind: Kind, limit: int) -> COCOeval_faster:
    """The library's evaluation, done.  Boxes are ranked by ``box_score`` where there is one."""
    # With a box at hand the library takes a mask's area from the box, which moves masks between small and large.
    shape, rank = ("bbox", "box_score") if kind == "bbox" else ("segmentation", "score")
    reference = COCO(truth)
    found = [{k: entry[k] for k in ("image_id", "category_id", shape)} for entry in results]
    for kept, entry in zip(found, results, strict=True):
        kept["score"] = entry.get(rank, entry["score"])
    evaluation = COCOeval_faster(reference, reference.loadRes(found), kind, print_function=_silent)
    return _run(evaluation, limit)


def matrices(evaluation: COCOeval_faster) -> Ious:
    """The IoUs of an evaluation, for each image and category with both objects and detections."""
    return {(int(image), int(category)): m for (image, category), m in evaluation.ious.items() if len(m)}


def judge_again(evaluation: COCOeval_faster, ious: Ious) -> COCOeval_faster:
    """The evaluation that another one of the same data and results would have been with these matrices."""
    again = _Given(evaluation, ious)
    return _run(again, evaluation.params.maxDets[-1])


class _Given(COCOeval_faster):
    """The library's matching and averages on matrices from elsewhere."""

    def __init__(self, other: COCOeval_faster, ious: Ious):
        super().__init__(other.cocoGt, other.cocoDt, "segm", print_function=_silent, rle_iou_max_workers=1)
        self.gt_dataset, self.dt_dataset = other.gt_dataset, other.dt_dataset
        self._given = ious

    def _prepare(self) -> None:
        """The other evaluation has."""

    def computeIoU(self, imgId: int | np.integer, catId: int | np.integer) -> list[float] | np.ndarray:
        return self._given.get((imgId, catId), [])


def _run(evaluation: COCOeval_faster, limit: int) -> COCOeval_faster:
    evaluation.params.maxDets = sorted({1, min(10, limit), limit})
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def summarise(evaluation: COCOeval_faster) -> dict[str, Any]:
    """AP and AR as ``score`` describes them."""
    names = {category["id"]: category["name"] for category in evaluation.cocoGt.dataset["categories"]}
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
            names[id]: {"AP": _mean(precision[:, :, k, 0, last]), "AP50": _mean(precision[at[0.5], :, k, 0, last])}
            for k, id in enumerate(evaluation.params.catIds)  # sorted, whatever the order of the data's labels
        }
    }


def _mean(values: np.ndarray) -> float | None:
    """The library marks what does not exist with -1."""
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def _silent(*_: object) -> None:
    pass
