"""How detections of one image overlap its annotations.  D entries of a results file, G annotations.  Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from faster_coco_eval.core import mask as codec

from seanet.data.coco import Annotation, ImageRecord, to_rle

LEAST = 0.5  # IoU from which a detection belongs to an object


def box_ious(entries: Sequence[dict], annotations: Sequence[Annotation]) -> np.ndarray:
    """(D, G) IoU of boxes; a crowd region counts what of the detection lies in it, as COCO does."""
    found = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    truth = np.array([bbox_of(a) for a in annotations], np.float64).reshape(-1, 4)
    return _matrix(codec.iou(found, truth, _crowds(annotations)), entries, annotations)


def mask_ious(entries: Sequence[dict], annotations: Sequence[Annotation], image: ImageRecord) -> np.ndarray:
    """The same of masks."""
    found = [entry["segmentation"] for entry in entries]
    truth = [to_rle(a, image.height, image.width) for a in annotations]
    return _matrix(codec.iou(found, truth, _crowds(annotations)), entries, annotations)


def same_class(entries: Sequence[dict], annotations: Sequence[Annotation], ids: tuple[int, ...]) -> np.ndarray:
    """(D, G) bool; ``ids`` are the categories' own, label k stands for the k-th."""
    found = np.array([entry["category_id"] for entry in entries], np.int64)
    return found[:, None] == np.array([ids[a.label - 1] for a in annotations], np.int64)


def bbox_of(annotation: Annotation) -> list[float]:
    """x, y, width, height, as results files give boxes."""
    x0, y0, x1, y1 = annotation.box
    return [x0, y0, x1 - x0, y1 - y0]


def _crowds(annotations: Sequence[Annotation]) -> list[int]:
    return [int(a.crowd) for a in annotations]


def _matrix(ious: object, entries: Sequence, annotations: Sequence) -> np.ndarray:
    """The codec forgets the shape of what is empty."""
    return np.asarray(ious, np.float64).reshape(len(entries), len(annotations))
