"""How well two masks of one image agree at their boundaries.  W widths in pixels; J and C as in ``packed``.

Boundary IoU is in ``rims``.  A mask is a region of pixel squares; its boundary is where it
meets background inside the image, so the image's frame is none.  A pixel is as far from the boundary as its centre from
the nearest square of the other side; the band of width w are the pixels within w.  With a straight edge moved by d < w:
trimap accuracy 1 - d / 2w, IoU of the inner bands (w - d) / (w + d), boundary F one exactly when d is within tolerance,
offset d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seanet.data.bitmaps import Bitmap
from seanet.evaluation.packed import (
    WORD,
    Packed,
    Window,
    bits_of,
    moved_down,
    moved_right,
    moved_up,
    rows,
    unpack,
)

RATIO = 0.02  # of the diagonal: the width of Boundary IoU
NAMES = ("1px", "3px", "8px", "0.5%", "1%", "2%")
PIXELS = (1.0, 3.0, 8.0)
SHARES = (0.005, 0.01, 0.02)
COLUMNS = 4  # to either side that are searched, at least, before a point is compared with every target
SEARCHES = 64  # targets that can be compared with a point in the time that searching a column takes
FEW = 2**16  # distances that are simply all computed, and as many at a time

Size = tuple[int, int]
"""Height and width of an image."""


def boundary_width(size: Size) -> int:
    """Pixels of Boundary IoU's band: 2 % of the diagonal, at least one."""
    return max(1, round(RATIO * math.sqrt(size[0] ** 2 + size[1] ** 2)))


def band_widths(size: Size) -> tuple[float, ...]:
    """The widths of ``NAMES`` in pixels: 1, 3, 8, then shares of the diagonal, at least one pixel each."""
    diagonal = math.hypot(*size)
    return PIXELS + tuple(max(share * diagonal, 1.0) for share in SHARES)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of a found mask with the truth.  What has no pixels to be measured on is NaN."""

    trimap: np.ndarray  # (W,) share of the truth's band, both sides of its boundary, that is labelled right
    band_iou: np.ndarray  # (W,) of the two inner bands, each mask's own pixels along its own boundary
    boundary_f: np.ndarray  # (W,) F of the boundary pixels within tolerance w
    offset: float  # pixels; positive where the found boundary lies outside the truth
    hausdorff95: float  # pixels; the larger of the two directed 95th percentiles


def compare(truth: Packed, found: Packed, size: Size, widths: tuple[float, ...]) -> Agreement:
    """Agreement at each width; ``size`` is the image's."""
    reach = math.floor(max(widths) + 0.5)
    window = _window(truth, found, size, reach)
    inside = rows(window[1], window[3], size[0])
    masks = [truth.cut(window), found.cut(window)]
    grounds = [~mask & inside for mask in masks]
    near = dilate(np.stack([grounds[0], masks[0], grounds[1]], 2), widths)  # (W, J, C, 3)
    inner, outer, own = near[..., 0] & masks[0], near[..., 1] & grounds[0], near[..., 2] & masks[1]
    band = inner | outer
    with np.errstate(invalid="ignore"):
        trimap = 1 - _counts(band & (masks[0] ^ masks[1])) / _counts(band)
        iou = _counts(inner & own) / _counts(inner | own)
    edges = [_edge(mask, ground) for mask, ground in zip(masks, grounds, strict=True)]
    return Agreement(trimap, iou, *_edges_agree(edges[0], edges[1], bits_of(masks[0]), widths))


def band(mask: Packed, size: Size, width: float) -> Bitmap:
    """The pixels within ``width`` of a mask's boundary, on both sides."""
    window = _window(mask, mask, size, math.floor(width + 0.5))
    words = mask.cut(window)
    ground = ~words & rows(window[1], window[3], size[0])
    near = dilate(np.stack([ground, words], 2), (width,))[0]
    return unpack((near[..., 0] & words) | (near[..., 1] & ground), window[0], window[1])


def _window(a: Packed, b: Packed, size: Size, reach: int) -> Window:
    """Columns and words that hold the first mask with ``reach`` pixels around it and the second with one."""
    boxes = [(m.box, r) for m, r in ((a, reach), (b, 1)) if m.words.size]
    if not boxes:
        return 0, 0, 0, 0
    x0, y0 = (max(min(box[k] - r for box, r in boxes), 0) for k in (0, 1))
    x1, y1 = (min(max(box[k + 2] + r for box, r in boxes), size[1 - k]) for k in (0, 1))
    return x0, y0 // WORD, x1, -(-y1 // WORD)


@lru_cache(64)
def _plan(widths: tuple[float, ...]) -> list[list[tuple[int, int]]]:
    """For each height k the (width, columns) at which a pixel's square reaches k rows up and down.

    The square at (dx, dy) is within w of a centre if hypot(max(|dx| - .5, 0), max(|dy| - .5, 0)) <= w.
    """
    plan: list[list[tuple[int, int]]] = [[] for _ in range(math.floor(max(widths) + 0.5) + 1)]
    for i, width in enumerate(widths):
        for dx in range(math.floor(width + 0.5) + 1):
            plan[math.floor(math.sqrt(width**2 - max(dx - 0.5, 0) ** 2) + 0.5)].append((i, dx))
    return plan


def dilate(words: np.ndarray, widths: tuple[float, ...]) -> np.ndarray:
    """Pixels with a set pixel's square within each width of their centre, of M masks: (J, C, M) -> (W, J, C, M)."""
    near = np.zeros((len(widths), *words.shape), np.uint64)
    tall = words.copy()
    for k, reached in enumerate(_plan(widths)):
        if k:
            tall |= moved_down(words, k)
            tall |= moved_up(words, k)
        for i, dx in reached:
            near[i, :, dx:] |= tall[:, : max(words.shape[1] - dx, 0)]
            if dx:
                near[i, :, :-dx] |= tall[:, dx:]
    return near


def _counts(words: np.ndarray) -> np.ndarray:
    """(W, J, C) -> (W,) pixels."""
    return np.bitwise_count(words).sum((1, 2), dtype=np.int64)


def _edge(mask: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a background pixel among their four neighbours: (J, C) words of both."""
    beside = moved_down(ground, 1) | moved_up(ground, 1) | moved_right(ground, 1) | moved_right(ground, -1)
    return mask & beside


def _edges_agree(
    truth: np.ndarray, found: np.ndarray, inside: np.ndarray, widths: tuple[float, ...]
) -> tuple[np.ndarray, float, float]:
    """F at each width, offset and the 95 % Hausdorff distance of two sets of boundary pixels, in words."""
    a, b = np.flatnonzero(bits_of(truth)), np.flatnonzero(bits_of(found))
    if not len(a) or not len(b):
        return np.full(len(widths), 0.0 if len(a) or len(b) else math.nan), math.nan, math.nan
    missed, strayed = nearest(a, b, inside.shape[1])
    limits = np.square(widths)[:, None]
    recall, precision = (missed <= limits).mean(1), (strayed <= limits).mean(1)
    either = precision + recall
    f = np.divide(2 * precision * recall, either, out=np.zeros(len(widths)), where=either > 0)
    distances = np.sqrt(strayed)
    offset = np.where(inside.ravel()[b], -distances, distances).mean()
    return f, float(offset), max(_percentile(distances), _percentile(np.sqrt(missed)))


def _percentile(distances: np.ndarray) -> float:
    """The 95th, linear between two values."""
    place = 0.95 * (len(distances) - 1)
    low = math.floor(place)
    high = min(low + 1, len(distances) - 1)
    parts = np.partition(distances, (low, high))
    return float(parts[low] + (place - low) * (parts[high] - parts[low]))


def nearest(a: np.ndarray, b: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance of each point to the nearest of the other set: of ``a`` to ``b``, and of ``b`` to ``a``.

    Both hold x * height + y, rising, and at least one point.
    """
    p, q = (np.stack(np.divmod(keys, height)).astype(np.float64) for keys in (a, b))
    if len(a) * len(b) <= FEW:
        apart = _apart(p, q)
        return apart.min(1), apart.min(0)
    # Columns so far apart that a neighbour in another one is farther than anything real.
    stride = 4 * (height + max(p[0, -1], q[0, -1]) + 1)
    return _one_way(p, q, stride), _one_way(q, p, stride)


def _apart(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """All squared distances, (2, n) and (2, m) -> (n, m): |p|^2 - 2 p q + |q|^2, of whole numbers that floats hold."""
    left = np.stack([*p, np.square(p).sum(0), np.ones_like(p[0])], 1)
    return left @ np.stack([*(-2 * q), np.ones_like(q[0]), np.square(q).sum(0)])


def _one_way(points: np.ndarray, targets: np.ndarray, stride: float) -> np.ndarray:
    """Within one column the nearest is a neighbour in the sorted list, and some columns to both sides settle most points;
    those that are still farther from all targets are compared with every one.
    """
    keys = np.concatenate([[-math.inf], targets[0] * stride + targets[1], [math.inf]])
    places = points[0] * stride + points[1]
    best = np.full(len(places), np.inf)
    active, most = np.arange(len(places)), max(COLUMNS, targets.shape[1] // SEARCHES)
    for k in range(most + 1):
        active = active[best[active] > k**2]
        if not len(active):
            break
        for place in (places[active] + side * stride for side in {k, -k}):
            after = np.searchsorted(keys, place)
            apart = np.minimum(place - keys[after - 1], keys[after] - place)
            best[active] = np.minimum(best[active], apart**2 + k**2)
    far = np.flatnonzero(best > most**2)
    step = max(1, FEW // targets.shape[1])
    for part in (far[at : at + step] for at in range(0, len(far), step)):
        best[part] = _apart(points[:, part], targets).min(1)
    return best
