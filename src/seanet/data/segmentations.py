"""The gate before the mask codec, which crashes or hangs on numbers that make no sense: polygons and run lengths.

Letters: n points of a ring, h x w pixels of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec

from seanet.data import bitmaps
from seanet.data.records import Box, Segmentation
from seanet.polygons import ring_area

FARTHEST = 1e5  # pixels; no image is that wide, and the codec crashes on much larger coordinates
MOST_PIXELS = 2**31  # run lengths are summed in 32 bits
LONGEST = 2e6  # pixels of outline; the codec walks it in memory
ROUNDING = 1.0  # pixels; boxes and rings of clean data reach past the image by less
NO_AREA = "polygon without area"
SAME_OBJECT = 0.5  # IoU below which a box does not belong to its mask
# How far a mask's area may be from that in the file: rules differ (outlines or pixels, overlaps once or twice).
AREA_SHARE, AREA_PIXELS = 0.2, 16

Note = Callable[[str, str], None]
"""Takes the verb and what of a repair."""


class Skip(Exception):
    """Why a single annotation cannot be used."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A checked segmentation with what follows from it."""

    segmentation: Segmentation
    box: Box
    area: float
    exact: bool  # the area counts pixels

    def pixels(self, height: int, width: int) -> float:
        """The area as a count of pixels."""
        if self.exact or isinstance(self.segmentation, dict):
            return self.area
        return float(codec.area(bitmaps.rings_to_rle(self.segmentation, height, width)))


def check_mask(raw: object, box: Box | None, height: int, width: int, note: Note) -> Mask | None:
    """What a file calls a segmentation, None if it says nothing; ``box``, as it stands there, tells h x w from w x h."""
    if raw is None or raw == [] or raw == {}:
        return None
    if isinstance(raw, dict):
        return _of_runs(raw, box, height, width, note)
    if not isinstance(raw, list):
        raise Skip("segmentation neither polygons nor run lengths")
    if not any(isinstance(ring, list) for ring in raw):
        note("repaired", "polygon without its outer brackets")
        raw = [raw]
    return _of_rings(raw, height, width, note)


def thin(area: Any, length: Any) -> Any:
    """Whether polygons may hold no pixel's centre, told by numbers or by arrays of them."""
    return area < length / 2 + 1


def iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / total if total > 0 else 0.0


def _of_rings(raw: list[Any], height: int, width: int, note: Note) -> Mask:
    rings, reason = [], "polygon of fewer than three points"
    for points in raw:
        ring = _ring(points)
        if ring is None:
            reason = "polygon of fewer than three points, or with an odd number of coordinates"
            continue
        inside, cut = _inside(ring, height, width)
        if inside is None:
            reason = "polygon outside the image"
            continue
        if cut:
            note("clipped", "polygon reaches past the image")
        rings.append(inside)
    if not rings:
        raise Skip(reason)
    if len(rings) < len(raw):
        note("repaired", "some of its polygons dropped as unusable")
    return _measured(rings, height, width)


def _ring(points: object) -> np.ndarray | None:
    """A polygon as (2n,) float64; None if it has no inside or half a point.  Unusable numbers skip the annotation."""
    if not isinstance(points, list) or not points:
        return None
    try:
        ring = np.asarray(points)
    except (ValueError, OverflowError):
        raise Skip("polygon with coordinates that are not numbers") from None
    if ring.ndim != 1 or ring.dtype.kind not in "iuf":
        raise Skip("polygon with coordinates that are not numbers")
    ring = ring.astype(np.float64)
    if not np.abs(ring).max() <= FARTHEST:  # nor is NaN
        raise Skip(f"polygon with coordinates that are not finite or beyond {FARTHEST:,.0f}")
    return ring if len(ring) >= 6 and len(ring) % 2 == 0 else None


def _inside(ring: np.ndarray, height: int, width: int) -> tuple[np.ndarray | None, bool]:
    """The part of a ring within the image, None if there is none, and whether something was cut off."""
    points = ring.reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return None, True
    if min(x0, y0) >= -ROUNDING and x1 <= width + ROUNDING and y1 <= height + ROUNDING:
        return ring, False
    ring = bitmaps.clip_ring(ring, height, width)
    return (ring if len(ring) >= 6 else None), True


def _measured(rings: list[np.ndarray], height: int, width: int) -> Mask:
    area = sum(abs(ring_area(ring.reshape(-1, 2))) for ring in rings)
    length = sum(map(bitmaps.ring_length, rings))
    if length > LONGEST:
        raise Skip(f"polygon with an outline of more than {LONGEST:,.0f} pixels")
    points = np.concatenate(rings).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    # A sliver, a bow whose loops cancel, or what lies in the rim around the image may hold no pixel's centre: only then
    # is it worth drawing here.
    is_thin = thin(area, length)
    if is_thin or min(x0, y0) < 0 or x1 > width or y1 > height:
        drawn = float(codec.area(bitmaps.rings_to_rle(rings, height, width)))
        if not drawn:
            raise Skip(NO_AREA)
        area = drawn if is_thin else area
    return Mask(rings, (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))), area, is_thin)


def _of_runs(raw: dict[str, Any], given: Box | None, height: int, width: int, note: Note) -> Mask:
    size, counts = raw.get("size"), run_lengths(raw.get("counts"))
    shape = [height, width]
    if counts is None or counts.min() < 0:
        raise Skip("run lengths malformed or negative")
    if int(counts.sum()) != height * width:
        raise Skip("run lengths that do not add up to the image's pixels")
    window = bitmaps.window_of_runs(counts, height)
    if size != shape:
        if size != shape[::-1] or given is None or iou(given, window) < SAME_OBJECT:
            raise Skip("run lengths of another size than the image")
        note("repaired", "width and height of its run lengths swapped")
    if not (area := float(counts[1::2].sum())):
        raise Skip("mask without a pixel")
    x0, y0, x1, y1 = map(float, window)
    return Mask(bitmaps.runs_to_rle(counts, height, width), (x0, y0, x1, y1), area, exact=True)


def run_lengths(raw: object) -> np.ndarray | None:
    """Run lengths, (n,) int64, of either spelling; None if malformed."""
    if isinstance(raw, str | bytes):
        try:
            return bitmaps.unpack_counts(raw)
        except UnicodeEncodeError:
            return None
    whole = isinstance(raw, list) and set(map(type, raw)) == {int}
    return np.array(raw, np.int64) if whole and min(raw) >= -MOST_PIXELS and max(raw) <= MOST_PIXELS else None
