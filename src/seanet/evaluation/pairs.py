"""Every object with the detection that found it, and how well their boundaries agree.  n objects, W band widths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from seanet.data.coco import CocoData, ImageRecord
from seanet.evaluation.boundary import NAMES, band_widths, compare
from seanet.evaluation.matching import Ious, greedy
from seanet.evaluation.packed import Packed

MATCHED = np.array([0.5])
MEASURES = ("trimap", "band_iou", "boundary_f")


@dataclass(frozen=True)
class Pairs:
    """One row for each non-crowd object, matched or not, image by image: a few numbers, whatever the size of its mask."""

    image: np.ndarray  # (n,) index into data.images
    annotation: np.ndarray  # (n,) ids within the data
    label: np.ndarray  # (n,) 1..K
    area: np.ndarray  # (n,) pixels, as the data say; decides between small, medium and large
    outlined: np.ndarray  # (n,) bool: has a boundary, which an object that fills its image has not
    result: np.ndarray  # (n,) row of the image's own list of entries, -1 if the object was missed
    score: np.ndarray  # (n,) nan where missed, as all that follow
    iou: np.ndarray  # (n,) of the masks
    trimap: np.ndarray  # (n, W)
    band_iou: np.ndarray  # (n, W)
    boundary_f: np.ndarray  # (n, W)
    offset: np.ndarray  # (n,) px
    hausdorff95: np.ndarray  # (n,) px
    widths: np.ndarray  # (n, W) px

    def summary(self, rows: np.ndarray | None = None) -> dict[str, Any]:
        """Means over the objects at ``rows`` (bool or indices; all when left out), by name of the width.

        ``TA`` over matched objects; ``TA@R`` is the sum of it over all objects, so that a missed one counts 0; None where
        there is nothing to measure.  Objects without a boundary count in neither.
        """
        rows = np.arange(len(self.image)) if rows is None else np.arange(len(self.image))[rows]
        matched, outlined = self.result[rows] >= 0, self.outlined[rows]
        found = {
            "TA": _by_width(self.trimap[rows]),
            "TA@R": _by_width(np.where(matched[:, None], self.trimap[rows], 0.0)[outlined]),
            "band_iou": _by_width(self.band_iou[rows]),
            "boundary_f": _by_width(self.boundary_f[rows]),
        }
        return found | {
            "offset": _mean(self.offset[rows]),
            "hausdorff95": _mean(self.hausdorff95[rows]),
            "iou": _mean(self.iou[rows]),
            "matched": int(matched.sum()),
            "objects": len(rows),
            "without_boundary": int((~outlined).sum()),
        }


def _by_width(values: np.ndarray) -> dict[str, float | None]:
    return {name: _mean(values[:, i]) for i, name in enumerate(NAMES)}


def _mean(values: np.ndarray) -> float | None:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def empty_pairs(data: CocoData) -> Pairs:
    """The objects of ``data``, all missed."""
    rows = [(i, a) for i, image in enumerate(data.images) for a in image.annotations if not a.crowd]
    n = len(rows)
    sizes = [(data.images[i].height, data.images[i].width) for i, _ in rows]
    return Pairs(
        image=np.array([i for i, _ in rows], np.int64),
        annotation=np.array([a.id for _, a in rows], np.int64),
        label=np.array([a.label for _, a in rows], np.int64),
        area=np.array([a.area for _, a in rows], np.float64),
        outlined=np.ones(n, bool),
        result=np.full(n, -1),
        score=np.full(n, math.nan),
        iou=np.full(n, math.nan),
        trimap=np.full((n, len(NAMES)), math.nan),
        band_iou=np.full((n, len(NAMES)), math.nan),
        boundary_f=np.full((n, len(NAMES)), math.nan),
        offset=np.full(n, math.nan),
        hausdorff95=np.full(n, math.nan),
        widths=np.array([band_widths(size) for size in sizes], np.float64).reshape(n, len(NAMES)),
    )


def by_class(image: ImageRecord, entries: list[dict], ids: tuple[int, ...]) -> dict[int, tuple[list[int], list[int]]]:
    """Category id -> rows of its annotations and rows of its entries, for those that have both."""
    columns: dict[int, list[int]] = {}
    rows: dict[int, list[int]] = {}
    for g, annotation in enumerate(image.annotations):
        columns.setdefault(ids[annotation.label - 1], []).append(g)
    for d, entry in enumerate(entries):
        rows.setdefault(entry["category_id"], []).append(d)
    return {category: (columns[category], rows[category]) for category in columns.keys() & rows.keys()}


def match(
    image: ImageRecord, classes: dict[int, tuple[list[int], list[int]]], ious: Ious, limit: int
) -> dict[int, tuple[int, float]]:
    """Row of each object of an image among its annotations -> (row of its entries, IoU), where one found it.

    ``classes`` as ``by_class`` gives them; the best ``limit`` entries of the image count.  COCO's rule for each class at IoU
    .5; pairs with crowd regions are left out.
    """
    found: dict[int, tuple[int, float]] = {}
    for category, (columns, every) in classes.items():
        rows = [row for row in every if row < limit]
        matrix = ious[image.id, category]
        crowd = np.array([image.annotations[g].crowd for g in columns])
        for row, ious_of_row, column in zip(rows, matrix, greedy(matrix[: len(rows)], crowd, MATCHED)[0], strict=False):
            if column >= 0 and not crowd[column]:
                found[columns[column]] = row, float(ious_of_row[column])
    return found


def measure(pairs: Pairs, row: int, truth: Packed, found: Packed, size: tuple[int, int]) -> None:
    """Fill in how the boundary of a found object agrees with the truth's; ``pairs`` is still being made."""
    agreement = compare(truth, found, size, tuple(pairs.widths[row].tolist()))
    for name in (*MEASURES, "offset", "hausdorff95"):
        getattr(pairs, name)[row] = getattr(agreement, name)
