"""Binary masks cut to their windows, and the two ways in which annotations give them: rings and run lengths.

A ring is a closed polygon, (2n,) float64 x, y, x, y, ... with pixel i covering i..i+1.  Run lengths are COCO's: pixels
column by column, background first.  Callers have checked their numbers (``segmentations``): the codec behind trusts them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec

from seanet.polygons import following


@dataclass(frozen=True, slots=True)
class Bitmap:
    """A binary mask inside its window; everything outside is 0."""

    bits: np.ndarray  # (h, w) uint8, 0 or 1
    x0: int = 0
    y0: int = 0

    @property
    def window(self) -> tuple[int, int, int, int]:
        """xyxy in pixels of the image."""
        h, w = self.bits.shape
        return self.x0, self.y0, self.x0 + w, self.y0 + h

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.bits))

    def cut(self, x0: int, y0: int, x1: int, y1: int) -> "Bitmap":
        """The same mask seen through another window, which may reach past this one."""
        bits = np.zeros((y1 - y0, x1 - x0), np.uint8)
        left, top, right, bottom = self.window
        xs, ys = (max(x0, left), min(x1, right)), (max(y0, top), min(y1, bottom))
        if xs[0] < xs[1] and ys[0] < ys[1]:
            part = self.bits[ys[0] - top : ys[1] - top, xs[0] - left : xs[1] - left]
            bits[ys[0] - y0 : ys[1] - y0, xs[0] - x0 : xs[1] - x0] = part
        return Bitmap(bits, x0, y0)

    def tight(self) -> "Bitmap":
        """The same mask in its smallest window, 0 x 0 if nothing is set."""
        ys, xs = np.flatnonzero(self.bits.any(1)), np.flatnonzero(self.bits.any(0))
        if not len(ys):
            return EMPTY
        top, bottom, left, right = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
        bits = np.ascontiguousarray(self.bits[top:bottom, left:right])
        return Bitmap(bits, self.x0 + left, self.y0 + top)


EMPTY = Bitmap(np.zeros((0, 0), np.uint8))


def rasterise(rings: Sequence[np.ndarray], height: int, width: int) -> Bitmap:
    """Union of the rings' insides (even-odd) on the pixels of an image, as pycocotools draws it; ``EMPTY`` if none."""
    if not rings:
        return EMPTY
    points = np.concatenate(rings).reshape(-1, 2)
    x0, y0 = np.maximum(np.floor(points.min(0)), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(points.max(0)), (width, height)).astype(int).tolist()
    if x0 >= x1 or y0 >= y1:
        return EMPTY
    # Rounded, for the codec's own rounding to fifths of a pixel to fall as it does on the whole image.
    shifted = [(ring.reshape(-1, 2) - (x0, y0)).round(6).ravel() for ring in rings]
    return Bitmap(codec.decode(rings_to_rle(shifted, y1 - y0, x1 - x0)), x0, y0).tight()


def rings_to_rle(rings: Sequence[np.ndarray], height: int, width: int) -> dict[str, Any]:
    parts = codec.frPyObjects([ring.tolist() for ring in rings], height, width)
    assert isinstance(parts, list)  # as it was given
    return parts[0] if len(parts) == 1 else codec.merge(parts)


def runs_to_rle(counts: np.ndarray, height: int, width: int) -> dict[str, Any]:
    shape = [height, width]
    rle = codec.frPyObjects({"size": shape, "counts": counts.tolist()}, height, width)
    assert isinstance(rle, dict)  # as it was given
    return {"size": shape, "counts": rle["counts"]}


def clip_ring(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    """What of a ring lies within an image and one pixel around it (Sutherland and Hodgman); length 0 if nothing.

    The pixel keeps the edges that cutting adds outside the image, and bounds what the codec has to walk.
    """
    points = ring.reshape(-1, 2)
    for axis, bound in ((0, width + 1), (1, height + 1)):
        points = _below(points, axis, bound)
        points = -_below(-points, axis, 1)
    return points.ravel()


def _below(points: np.ndarray, axis: int, bound: float) -> np.ndarray:
    """Part of a closed polygon, (n, 2) points, whose coordinate is at most ``bound``."""
    inside = points[:, axis] <= bound
    if inside.all():
        return points
    following = np.roll(points, -1, axis=0)
    crosses = inside != np.roll(inside, -1)
    step = np.where(crosses, following[:, axis] - points[:, axis], 1)
    hits = points + ((bound - points[:, axis]) / step)[:, None] * (following - points)
    return np.stack([points, hits], 1).reshape(-1, 2)[np.stack([inside, crosses], 1).ravel()]


def ring_length(ring: np.ndarray) -> float:
    points = ring.reshape(-1, 2)
    return float(np.hypot(*(following(points) - points).T).sum())


def runs_of(rle: Mapping[str, Any]) -> np.ndarray:
    """Run lengths, (n,) int64, of a compressed RLE that was checked when it was read, or was made here."""
    counts = unpack_counts(rle["counts"])
    assert counts is not None
    return counts


def unpack_counts(text: bytes | str) -> np.ndarray | None:
    """Run lengths, int64, of COCO's compressed string; None if it is malformed.

    Five bits a character, lowest first, bit 5 says that more follow, bit 4 of the last is the sign; from the fourth
    number on each is the difference from the number two before it.
    """
    text = text.encode("ascii") if isinstance(text, str) else text
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    digits = last - first + 1
    if digits.max() > 7:  # more than 35 bits: no image is that large
        return None
    place = np.arange(len(codes)) - np.repeat(first, digits)
    counts = np.add.reduceat((codes & 31) << 5 * place, first)
    counts -= np.where(codes[last] & 16, 1 << 5 * digits, 0)
    for parity in (1, 2):
        counts[parity::2] = np.cumsum(counts[parity::2])
    return counts


def _filled(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of set pixels starts and stops among the pixels of the image, column by column."""
    edges = np.cumsum(counts)
    starts, stops = edges[0::2][: len(edges) // 2], edges[1::2]
    filled = starts < stops
    return starts[filled], stops[filled]


def window_of_runs(counts: np.ndarray, height: int) -> tuple[int, int, int, int]:
    """The smallest window of run lengths, xyxy in pixels; 0 x 0 if nothing is set."""
    starts, stops = _filled(counts)
    if not len(starts):
        return EMPTY.window
    left, top = np.divmod(starts, height)
    right, bottom = np.divmod(stops - 1, height)
    x0, x1 = int(left[0]), int(right[-1]) + 1
    if (
        left < right
    ).any():  # a run that goes on in the next column is at the bottom of one and at the top of the other
        return x0, 0, x1, height
    return x0, int(top.min()), x1, int(bottom.max()) + 1


def runs_to_bitmap(counts: np.ndarray, height: int) -> Bitmap:
    """Decode only the columns that hold something: counts (n,) int64 of an image of that height."""
    starts, stops = _filled(counts)
    if not len(starts):
        return EMPTY
    x0, x1 = int(starts[0] // height), int((stops[-1] - 1) // height) + 1
    change = np.zeros((x1 - x0) * height + 1, np.int8)
    change[starts - x0 * height] += 1
    change[stops - x0 * height] -= 1
    bits = np.cumsum(change[:-1], dtype=np.int8).view(np.uint8).reshape(x1 - x0, height).T
    return Bitmap(bits, x0, 0).tight()
