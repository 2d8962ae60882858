"""How well two masks of one image agree at their boundaries.  P pairs, W widths in pixels; J and C as in ``packed``.

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
from seanet.evaluation.columns import spread
from seanet.evaluation.packed import WORD, Packed, bits_of, frame, moved_down, moved_right, moved_up, unpack
from seanet.evaluation.rims import Stack

RATIO = 0.02  # of the diagonal: the width of Boundary IoU
NAMES = ("1px", "3px", "8px", "0.5%", "1%", "2%")
PIXELS = (1.0, 3.0, 8.0)
SHARES = (0.005, 0.01, 0.02)
COLUMNS = 4  # to either side that are searched, at least, before a point is compared with every target
SEARCHES = 64  # targets that can be compared with a point in the time that searching a column takes
FEW = 2**15  # distances at a time
MANY = 2**24  # distances that are simply all computed
LIFTED = np.array([[-2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
SHORT = 1024  # coordinates below it have squares and products whose sums 32 bits hold without rounding
AT_ONCE = 2**13  # words of windows

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
    """Of P found masks with the truth.  What has no pixels to be measured on is NaN."""

    trimap: np.ndarray  # (P, W) share of the truth's band, both sides of its boundary, that is labelled right
    band_iou: np.ndarray  # (P, W) of the two inner bands, each mask's own pixels along its own boundary
    boundary_f: np.ndarray  # (P, W) F of the boundary pixels within tolerance w
    offset: np.ndarray  # (P,) pixels; positive where the found boundary lies outside the truth
    hausdorff95: np.ndarray  # (P,) pixels; the larger of the two directed 95th percentiles


def compare(masks: Stack, truth: np.ndarray, found: np.ndarray, size: Size, widths: tuple[float, ...]) -> Agreement:
    """Agreement of pairs of masks, rows of both (P,), at each width; all are of images of one ``size``."""
    nan = np.full((len(truth), len(widths)), math.nan)
    agreement = Agreement(nan, nan.copy(), nan.copy(), nan[:, 0].copy(), nan[:, 0].copy())
    windows = _windows(masks.box[truth], masks.box[found], size, math.floor(max(widths) + 0.5))
    columns, rows = (windows[:, 2:] - windows[:, :2]).T
    order = np.argsort(rows, kind="stable")
    full = np.diff(np.cumsum((columns * rows)[order]) // AT_ONCE)
    for own in np.split(order, np.flatnonzero(full | np.diff(rows[order])) + 1) if len(order) else ():
        part = _compare(masks, truth[own], found[own], windows[own], size, widths)
        for name in Agreement.__slots__:
            getattr(agreement, name)[own] = getattr(part, name)
    return agreement


def _compare(
    masks: Stack, truth: np.ndarray, found: np.ndarray, windows: np.ndarray, size: Size, widths: tuple[float, ...]
) -> Agreement:
    """The same in ``windows`` (P, 4) of equally many rows, which stand side by side so far apart that no band of one
    reaches the next: by a band's width or, in an image that is much higher than wide, by the widest window's.
    """
    left, rows = windows[:, 0], windows[0, 3] - windows[0, 1]
    columns = windows[:, 2] - left
    reach = min(math.floor(max(widths) + 0.5), max(int(columns.max()), 1))  # no window is wider
    ends = np.cumsum(columns + reach)
    first = np.append(0, ends[:-1])
    a, b, inside = (np.zeros((rows, ends[-1]), np.uint64) for _ in range(3))
    for words, which in ((a, truth), (b, found)):
        masks.paste(which, words, first - left, windows[:, 1])
    column, owner = spread(first, columns)
    inside[:, column] = frame(0, -(-size[0] // WORD), size[0])[windows[owner, 1] + np.arange(rows)[:, None], 0]
    grounds = inside & ~a, inside & ~b
    distinct, place = np.unique(widths, return_inverse=True)
    near = dilate(np.stack([grounds[0], a, grounds[1]], 2), tuple(distinct.tolist()), reach)  # (W, J, C, 3)
    inner, outer, own = near[..., 0] & a, near[..., 1] & grounds[0], near[..., 2] & b
    band = inner | outer
    with np.errstate(invalid="ignore"):
        trimap = 1 - _counts(band & (a ^ b), first) / _counts(band, first)
        iou = _counts(inner & own, first) / _counts(inner | own, first)
    edges = Points.of(_edge(a, grounds[0]), first), Points.of(_edge(b, grounds[1]), first)
    return Agreement(trimap[:, place], iou[:, place], *_edges_agree(*edges, a, widths))


def band(mask: Packed, size: Size, width: float) -> Bitmap:
    """The pixels within ``width`` of a mask's boundary, on both sides."""
    box = np.array([mask.box])
    x0, j0, x1, j1 = _windows(box, box, size, math.floor(width + 0.5))[0].tolist()
    words = mask.cut((x0, j0, x1, j1))
    ground = ~words & frame(j0, j1, size[0])
    near = dilate(np.stack([ground, words], 2), (width,), words.shape[1])[0]
    return unpack((near[..., 0] & words) | (near[..., 1] & ground), x0, j0)


def _windows(truth: np.ndarray, found: np.ndarray, size: Size, reach: int) -> np.ndarray:
    """Columns and words (P, 4) that hold the first mask with ``reach`` pixels around it and the second with one.

    ``truth`` and ``found`` (P, 4) are their boxes, of no width where they are empty.
    """
    outwards = np.array([-1, -1, 1, 1])
    grown = np.stack([truth + reach * outwards, found + outwards])
    empty = np.stack([truth[:, 0] == truth[:, 2], found[:, 0] == found[:, 2]])[..., None]
    limits = size[1], size[0]
    low = np.where(empty, limits, grown[..., :2]).min(0).clip(0)
    high = np.where(empty, 0, grown[..., 2:]).max(0).clip(None, limits)
    windows = np.concatenate([low, high], 1) // (1, WORD, 1, 1)
    windows[:, 3] = -(-windows[:, 3] // WORD)
    windows[empty.all(0).ravel()] = 0
    return windows


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


def dilate(words: np.ndarray, widths: tuple[float, ...], reach: int) -> np.ndarray:
    """Pixels with a set pixel's square within each width of their centre, of M masks: (J, C, M) -> (W, J, C, M).

    Columns farther apart than ``reach`` are taken to share no window.
    """
    near = np.zeros((len(widths), *words.shape), np.uint64)
    tall = words.copy()
    for k, reached in enumerate(_plan(widths)):
        if 0 < k < WORD * len(words):
            tall |= moved_down(words, k)
            tall |= moved_up(words, k)
        for i, dx in reached:
            if dx > reach:
                continue
            near[i, :, dx:] |= tall[:, : max(words.shape[1] - dx, 0)]
            if dx:
                near[i, :, :-dx] |= tall[:, dx:]
    return near


def _counts(words: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(W, J, C), (P,) first columns -> (P, W) pixels."""
    return np.add.reduceat(np.bitwise_count(words).sum(1, dtype=np.int64), first, axis=1).T


def _edge(mask: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a background pixel among their four neighbours: (J, C) words of both."""
    beside = moved_down(ground, 1) | moved_up(ground, 1) | moved_right(ground, 1) | moved_right(ground, -1)
    return mask & beside


@dataclass(frozen=True, slots=True)
class Points:
    """The set pixels of P windows side by side, window by window, column by column."""

    x: np.ndarray  # (n,) from the first window's first column
    y: np.ndarray  # (n,)
    lifted: np.ndarray  # (n, 4) as ``lifted`` has them, x from the own window's first column
    first: np.ndarray  # (P,) where each window's begin
    number: np.ndarray  # (P,)

    @classmethod
    def of(cls, words: np.ndarray, first: np.ndarray) -> Points:
        """``first`` (P,) is each window's column of the words (J, C)."""
        x, y = np.divmod(np.flatnonzero(bits_of(words)), WORD * len(words))
        begin = np.searchsorted(x, first)
        number = np.diff(begin, append=len(x))
        return cls(x, y, lifted(x - np.repeat(first, number), y), begin, number)

    def window(self, p: int) -> np.ndarray:
        """One window's, lifted."""
        return self.lifted[self.first[p] : self.first[p] + self.number[p]]


def lifted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points as (n, 4) x, y, x^2 + y^2, 1, of which |p - q|^2 = p LIFTED q is a product of matrices.

    Whole numbers from 0, of which floats hold all sums.
    """
    kind = np.float32 if max(x.max(initial=0), y.max(initial=0)) < SHORT else np.float64
    return np.stack([x, y, x * x + y * y, np.ones_like(x)], 1).astype(kind)


def _edges_agree(
    truth: Points, found: Points, inside: np.ndarray, widths: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F at each width (P, W), offset (P,) and the 95 % Hausdorff distance (P,) of sets of boundary pixels.

    ``inside`` (J, C) are the words of the true masks.
    """
    some, all_ = truth.number + found.number > 0, (truth.number > 0) & (found.number > 0)
    f = np.repeat(np.where(some, 0.0, math.nan)[:, None], len(widths), 1)
    offset, hausdorff = np.full(len(some), math.nan), np.full(len(some), math.nan)
    both = np.flatnonzero(all_)
    if len(both):
        apart = [nearest(truth.window(p), found.window(p)) for p in both.tolist()]
        missed, strayed = (np.concatenate(squared).astype(np.float64) for squared in zip(*apart, strict=True))
        limits, number = np.square(widths)[:, None], (truth.number[both], found.number[both])
        recall, precision = _means(missed <= limits, number[0]), _means(strayed <= limits, number[1])
        either = precision + recall
        f[both] = np.divide(2 * precision * recall, either, out=np.zeros_like(either), where=either > 0).T
        own = np.repeat(all_, found.number)
        x, y = found.x[own], found.y[own]
        within = inside[y // WORD, x] >> (y % WORD).astype(np.uint64) & np.uint64(1)
        offset[both] = _means(np.where(within, -1, 1) * np.sqrt(strayed), number[1])
        hausdorff[both] = np.maximum(_percentile(missed, number[0]), _percentile(strayed, number[1]))
    return f, offset, hausdorff


def _means(values: np.ndarray, number: np.ndarray) -> np.ndarray:
    """(..., n) -> (..., P), of each window's ``number`` (P,) of points, one at least."""
    return np.add.reduceat(values, np.cumsum(number) - number, axis=-1, dtype=np.float64) / number


def _percentile(squared: np.ndarray, number: np.ndarray) -> np.ndarray:
    """The 95th of each window's distances, linear between two values; (n,) whole numbers, (P,) -> (P,)."""
    apart = np.repeat(np.arange(len(number)) * (squared.max() + 1), number)
    rising = np.sqrt(np.sort(squared + apart) - apart)
    place = 0.95 * (number - 1)
    low = np.floor(place).astype(np.int64)
    first = np.cumsum(number) - number
    parts = rising[first + low], rising[first + np.minimum(low + 1, number - 1)]
    return parts[0] + (place - low) * (parts[1] - parts[0])


def nearest(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance of each point to the nearest of the other set: of ``p`` to ``q``, and of ``q`` to ``p``.

    Both are ``lifted``, by rising x and then y, and hold at least one point.
    """
    if len(p) * len(q) > MANY:
        p, q = p[:, :2].astype(np.float64), q[:, :2].astype(np.float64)
        # Columns so far apart that a neighbour in another one is farther than anything real.
        stride = 4 * (max(p.max(), q.max()) + 1)
        return _one_way(p, q, stride), _one_way(q, p, stride)
    left, step = p @ LIFTED.astype(p.dtype), max(1, FEW // len(q))
    rows, columns = [], np.full(len(q), np.inf, q.dtype)
    for begin in range(0, len(p), step):
        apart = left[begin : begin + step] @ q.T
        rows.append(apart.min(1))
        np.minimum(columns, apart.min(0), out=columns)
    return np.concatenate(rows), columns


def _one_way(points: np.ndarray, targets: np.ndarray, stride: float) -> np.ndarray:
    """Within one column the nearest is a neighbour in the sorted list, and some columns to both sides settle most points;
    those that are still farther from all targets are compared with every one.
    """
    keys = np.concatenate([[-math.inf], targets @ (stride, 1), [math.inf]])
    places = points @ (stride, 1)
    best = np.full(len(places), np.inf)
    active, most = np.arange(len(places)), max(COLUMNS, len(targets) // SEARCHES)
    for k in range(most + 1):
        active = active[best[active] > k**2]
        if not len(active):
            break
        for place in (places[active] + side * stride for side in {k, -k}):
            after = np.searchsorted(keys, place)
            apart = np.minimum(place - keys[after - 1], keys[after] - place)
            best[active] = np.minimum(best[active], apart**2 + k**2)
    far = np.flatnonzero(best > most**2)
    step = max(1, FEW // len(targets))
    for part in (far[at : at + step] for at in range(0, len(far), step)):
        best[part] = np.square(points[part, None] - targets).sum(2).min(1)
    return best
