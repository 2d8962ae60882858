"""Every object with the detection that found it, and how well their boundaries agree.  n objects, W band widths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from seanet.data.coco import CocoData
from seanet.evaluation.boundary import NAMES, Agreement, band_widths, compare
from seanet.evaluation.columns import Objects, Ranked
from seanet.evaluation.matching import Near, take
from seanet.evaluation.rims import Stack

MATCHED = np.array([0.5])


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


def match(objects: Objects, found: Ranked, near: Near) -> tuple[np.ndarray, np.ndarray]:
    """The detection of each annotation (G,), -1 where none found it, and their IoU (G,): COCO's rule at IoU .5.

    Crowd regions are found by none.
    """
    detection, iou = np.full(len(objects.crowd), -1), np.full(len(objects.crowd), math.nan)
    taken = take(near, found.cell, objects.crowd, objects.crowd, MATCHED)[0]
    pairs = near.at(np.flatnonzero((taken[near.found] == near.truth) & ~objects.crowd[near.truth]))
    detection[pairs.truth], iou[pairs.truth] = pairs.found, pairs.iou
    return detection, iou


def measure(
    pairs: Pairs, rows: np.ndarray, masks: Stack, truth: np.ndarray, found: np.ndarray, sizes: np.ndarray
) -> None:
    """Fill in at ``rows`` (P,) how the boundaries of found objects agree with the truth's; ``pairs`` is still being made.

    ``truth`` and ``found`` (P,) are rows of the masks, ``sizes`` (P, 2) those of their images.
    """
    kinds, group = np.unique(sizes, axis=0, return_inverse=True)
    for kind, (height, width) in enumerate(kinds.tolist()):
        own = np.flatnonzero(group.ravel() == kind)
        size = height, width
        agreement = compare(masks, truth[own], found[own], size, band_widths(size))
        for name in Agreement.__slots__:
            getattr(pairs, name)[rows[own]] = getattr(agreement, name)
