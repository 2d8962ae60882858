"""What a box cuts off its object: no mask drawn inside the box can win it back.  Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seanet.data.bitmaps import Bitmap
from seanet.data.coco import CocoData, to_bitmap
from seanet.evaluation.coco import RANGES
from seanet.evaluation.matching import greedy
from seanet.evaluation.overlap import LEAST, box_ious, same_class

LOSSES = (0.01, 0.05, 0.1)


@dataclass(frozen=True)
class Clipping:
    """One row for each object that is no crowd region, image by image."""

    area: np.ndarray  # (n,) pixels, as the data say; decides between small, medium and large
    loss: np.ndarray  # (n,) share of the object's pixels outside its detection's box, nan where no box found it

    def summary(self, rows: np.ndarray | None = None) -> dict[str, Any]:
        """Mean and median loss of the objects found, and the shares of them that lose more than 1, 5 and 10 %.

        ``rows`` is (n,) bool, all when left out; None stands where no object was found.
        """
        loss = self.loss if rows is None else self.loss[rows]
        known = loss[~np.isnan(loss)]
        found: dict[str, Any] = {"objects": len(loss), "found": len(known)}
        found |= {"mean": _of(np.mean, known), "median": _of(np.median, known)}
        return found | {f"over {limit:.0%}": _of(np.mean, known > limit) for limit in LOSSES}

    def by_size(self) -> dict[str, Any]:
        """``summary`` of all objects and of COCO's three ranges of areas."""
        ranges = {name: (self.area >= least) & (self.area <= most) for name, (least, most) in RANGES.items()}
        return {"all": self.summary()} | {name: self.summary(rows) for name, rows in ranges.items()}


def _of(statistic, values: np.ndarray) -> float | None:
    return float(statistic(values)) if len(values) else None


def clipping(data: CocoData, listed: list[list[dict]]) -> Clipping:
    """Losses of the objects of ``data``; ``listed`` are the entries of each image that count.

    An object's detection is the one that COCO's matching gives it, in its class at a box IoU of .5, boxes ranked by
    ``box_score`` where there is one.  The loss counts the share of each pixel that the box leaves out.
    """
    area, loss = [], []
    for image, entries in zip(data.images, listed, strict=True):
        ranked = sorted(entries, key=lambda entry: -entry.get("box_score", entry["score"]))
        same = same_class(ranked, image.annotations, data.categories.ids)
        ious = np.where(same, box_ious(ranked, image.annotations), 0.0)
        crowd = np.array([a.crowd for a in image.annotations], bool)
        boxes = {g: ranked[d]["bbox"] for d, g in enumerate(greedy(ious, crowd, np.array([LEAST]))[0]) if g >= 0}
        for g, annotation in enumerate(image.annotations):
            if annotation.crowd:
                continue
            area.append(annotation.area)
            mask = to_bitmap(annotation, image.height, image.width)
            loss.append(share_outside(mask, boxes[g]) if g in boxes else np.nan)
    return Clipping(np.array(area, np.float64), np.array(loss, np.float64))


def share_outside(mask: Bitmap, bbox: list[float]) -> float:
    """Share of a mask's area outside a box (x, y, width, height); nan for a mask without a pixel."""
    x, y, width, height = bbox
    columns = _cover(x, x + width, mask.x0, mask.bits.shape[1])
    rows = _cover(y, y + height, mask.y0, mask.bits.shape[0])
    return 1 - float(rows @ mask.bits @ columns) / mask.area if mask.area else np.nan


def _cover(low: float, high: float, first: int, pixels: int) -> np.ndarray:
    """(pixels,) share of each pixel, from ``first`` on, that lies between ``low`` and ``high``."""
    sides = np.arange(first, first + pixels)
    return np.clip(np.minimum(sides + 1, high) - np.maximum(sides, low), 0, 1)
