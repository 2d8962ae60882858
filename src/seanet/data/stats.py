"""What a data set is made of: sizes, shapes and outlines of its objects, and what they mean for a network.  Free of torch.

Letters: n objects, h x w pixels.  The length of an outline is that of its polygon, or, of pixels, pi / 4 times the number
of edges between object and ground, which is right on average over all directions (Crofton).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seanet.data.bitmaps import runs_of
from seanet.data.records import Annotation, CocoData, to_bitmap
from seanet.polygons import mask_polygons

SMALL, LARGE = 32.0**2, 96.0**2  # pixels; COCO's bounds
QUANTILES = {"min": 0.0, "q10": 0.1, "median": 0.5, "q90": 0.9, "max": 1.0}
LOOKED_AT = 1000  # objects whose parts and holes are counted: this takes a thousand times longer than the rest
FINEST = 4  # network pixels of a cell of the finest features


@dataclass(frozen=True)
class Objects:
    """The objects of a split, a column each, (n,); crowd regions are left out."""

    label: np.ndarray
    image: np.ndarray
    area: np.ndarray
    box: np.ndarray  # (n, 2) width and height
    length: np.ndarray  # of the outline, pixels
    sides: np.ndarray  # (n, 2) width and height of the image

    @property
    def fill(self) -> np.ndarray:
        return self.area / np.maximum(self.box.prod(1), 1e-9)

    @property
    def thinness(self) -> np.ndarray:
        """Squared length of the outline by 4 pi areas: 1 for a disc, 1.9 for an ellipse four times as long as wide."""
        return self.length**2 / np.maximum(4 * math.pi * self.area, 1e-9)


def stats(data: CocoData, short: int = 800, long: int = 1333, cells: int = 28) -> dict[str, Any]:
    """Of one split.  ``short`` and ``long`` are the sides that images are scaled to, ``cells`` those of a mask's side."""
    objects = columns(data)
    counts = [sum(not a.crowd for a in record.annotations) for record in data.images]
    sides = np.array([(r.width, r.height) for r in data.images]).reshape(-1, 2)
    single = [(a, r.height, r.width) for r in data.images for a in r.annotations if not a.crowd]
    return {
        "images": len(data.images),
        "empty_images": counts.count(0),
        "objects": len(single),
        "crowds": sum(a.crowd for record in data.images for a in record.annotations),
        "objects_per_image": quantiles(np.array(counts)),
        "short_side": quantiles(sides.min(1)),
        "long_side": quantiles(sides.max(1)),
        **_shapes(objects),
        "outlines": _outlines(single),
        "network": network(objects, short, long, cells),
        "classes": {
            name: _shapes(_of(objects, objects.label == label)) for label, name in enumerate(data.categories.names, 1)
        },
        "notes": data.repairs.summary(),
    }


def columns(data: CocoData) -> Objects:
    rows = [(n, r, a) for n, r in enumerate(data.images) for a in r.annotations if not a.crowd]
    boxes = np.array([a.box for _, _, a in rows]).reshape(-1, 4)
    return Objects(
        label=np.array([a.label for _, _, a in rows], np.int64),
        image=np.array([n for n, _, _ in rows], np.int64),
        area=np.array([a.area for _, _, a in rows], np.float64),
        box=boxes[:, 2:] - boxes[:, :2],
        length=outline_lengths([a for _, _, a in rows]),
        sides=np.array([(r.width, r.height) for _, r, _ in rows], np.float64).reshape(-1, 2),
    )


def outline_lengths(annotations: Sequence[Annotation]) -> np.ndarray:
    """(n,) pixels, holes included."""
    found = np.zeros(len(annotations))
    rings: list[np.ndarray] = []
    owners: list[int] = []
    for number, a in enumerate(annotations):
        if isinstance(a.segmentation, list):
            rings += a.segmentation
            owners += [number] * len(a.segmentation)
        else:
            found[number] = math.pi / 4 * pixel_edges(runs_of(a.segmentation), a.segmentation["size"][0])
    if rings:
        found += np.bincount(owners, _ring_lengths(rings), len(annotations))
    return found


def _ring_lengths(rings: list[np.ndarray]) -> np.ndarray:
    """All at once: one by one takes ten times as long."""
    points = np.concatenate(rings).reshape(-1, 2)
    sizes = np.array([len(ring) // 2 for ring in rings])
    starts = np.cumsum(sizes) - sizes
    following = np.arange(1, len(points) + 1)
    following[starts + sizes - 1] = starts
    return np.add.reduceat(np.hypot(*(points[following] - points).T), starts)


def pixel_edges(counts: np.ndarray, height: int) -> int:
    """Edges between a mask, given by its run lengths (n,), and everything else, the border of the image included."""
    ends = np.cumsum(counts)
    starts, stops = ends[0::2][: len(ends) // 2], ends[1::2]
    filled = stops > starts
    starts, stops = starts[filled], stops[filled]
    if not len(starts):
        return 0
    apart = starts[1:] > stops[:-1]  # nothing may lie between two runs
    starts, stops = starts[np.r_[True, apart]], stops[np.r_[apart, True]]
    # Pixels before a place grow along each run; the mask and itself, one column further, share what lies between.
    places = np.stack([starts, stops], 1).ravel()
    before = np.stack([np.cumsum(stops - starts) - (stops - starts), np.cumsum(stops - starts)], 1).ravel()
    beside = np.interp(stops - height, places, before) - np.interp(starts - height, places, before)
    pieces = len(starts) + int(((stops - 1) // height - starts // height).sum())  # runs, cut where columns end
    return 2 * (int((stops - starts).sum()) - round(float(beside.sum()))) + 2 * pieces


def _of(objects: Objects, chosen: np.ndarray) -> Objects:
    return Objects(**{name: getattr(objects, name)[chosen] for name in Objects.__dataclass_fields__})


def _shapes(objects: Objects) -> dict[str, Any]:
    count = max(len(objects.area), 1)
    small, large = int((objects.area < SMALL).sum()), int((objects.area >= LARGE).sum())
    return {
        "objects": len(objects.area),
        "images_with": len(np.unique(objects.image)),
        "area": quantiles(objects.area),
        "small": small / count,
        "medium": (len(objects.area) - small - large) / count,
        "large": large / count,
        "fill": quantiles(objects.fill),
        "thinness": quantiles(objects.thinness),
    }


def _outlines(single: Sequence[tuple[Annotation, int, int]]) -> dict[str, Any]:
    """Shares of objects with several parts, whose pixels touch at corners at most, and with holes."""
    chosen = [single[i] for i in np.unique(np.linspace(0, len(single) - 1, LOOKED_AT).astype(int))] if single else []
    polygons = [mask_polygons(to_bitmap(a, height, width).bits) for a, height, width in chosen]
    return {
        "looked_at": len(polygons),
        "with_parts": sum(len(parts) > 1 for parts in polygons) / max(len(polygons), 1),
        "with_holes": sum(any(len(part) > 1 for part in parts) for parts in polygons) / max(len(polygons), 1),
    }


def network(objects: Objects, short: int, long: int, cells: int) -> dict[str, Any]:
    """Objects at the size that the network sees them: the side of a square as large as the box, in its pixels.

    ``pixels_per_cell`` are pixels of the image file along a cell of the mask: from 2 on masks are coarser than the image.
    """
    scale = np.minimum(short / objects.sides.min(1), long / objects.sides.max(1))
    side = np.sqrt(objects.box.prod(1))
    count = max(len(side), 1)
    return {
        "short_side": short,
        "long_side": long,
        "cells": cells,
        "side": quantiles(side * scale),
        "pixels_per_cell": quantiles(side / cells),
        "coarser_than_image": int((side / cells >= 2).sum()) / count,
        "below_eight_features": int((side * scale < 8 * FINEST).sum()) / count,
    }


def quantiles(values: np.ndarray) -> dict[str, float] | None:
    """None of nothing."""
    if not len(values):
        return None
    return dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values())).round(4).tolist(), strict=True))
