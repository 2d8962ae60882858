"""Polygons whose outline crosses itself: filling them by the even-odd rule may leave parts out, which is worth a word.

Letters: N rings, E edges of all of them, P pairs of edges of one ring that overlap along an axis.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from seanet.polygons import following

MOST_PAIRS = 2**21  # of a ring; one with more along both axes is not examined
BLOCK = 2**17  # pairs examined together


def crossing(rings: Sequence[np.ndarray]) -> np.ndarray:
    """For each ring, (2n,) pixels, whether two of its edges cross, to a hundredth of a pixel; touching is no crossing.

    Many rings together: one alone takes numpy longer to be called than to count.
    """
    found = np.zeros(len(rings), bool)
    if not rings:
        return found
    edges, ring = _edges(rings)
    low, high = edges.min(1), edges.max(1)
    sweeps = [_sweep(low[:, axis], high[:, axis], ring) for axis in (0, 1)]
    pairs = np.stack([np.bincount(ring[order], count, len(rings)) for order, count in sweeps])
    axes = np.where(pairs.min(0) <= MOST_PAIRS, pairs.argmin(0), -1)
    for axis, (order, count) in enumerate(sweeps):
        other = 1 - axis
        for first, second in _pairs(np.where(axes[ring[order]] == axis, count, 0)):
            a, b = order[first], order[second]
            near = (low[a, other] < high[b, other]) & (low[b, other] < high[a, other])
            a, b = a[near], b[near]
            found[ring[a[_cross(edges[a], edges[b])]]] = True
    return found


def turns(rings: Sequence[np.ndarray]) -> np.ndarray:
    """How often the direction turns around along each ring, (2n,) pixels: 1 or -1 for a simple one, 2 for one drawn twice.

    Edges back over the one before, and of no length, may count for half a turn more or less.
    """
    if not rings:
        return np.zeros(0)
    edges, ring = _edges(rings)
    along = edges[:, 1] - edges[:, 0]
    last = np.flatnonzero(np.diff(ring, append=-1))
    first = np.concatenate([[0], last[:-1] + 1])
    after = np.concatenate([along[1:], along[:1]])
    after[last] = along[first]
    angle = np.arctan2(along[:, 0] * after[:, 1] - along[:, 1] * after[:, 0], (along * after).sum(1))
    return np.rint(np.bincount(ring, angle) / (2 * np.pi))


def _edges(rings: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(E, 2 ends, xy) in hundredths of pixels, whole, so that all that follows is exact; (E,) number of the ring."""
    points = [np.rint(ring.reshape(-1, 2) * 100) for ring in rings]
    ends = np.concatenate([following(ring) for ring in points])
    return np.stack([np.concatenate(points), ends], 1), np.repeat(np.arange(len(rings)), [len(p) for p in points])


def _sweep(low: np.ndarray, high: np.ndarray, ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges ordered by where they begin along an axis, ring after ring, and how many of the next ones each overlaps."""
    width = high.max() - low.min() + 1
    order = np.lexsort((low, ring))
    shift = ring[order] * width
    stop = np.searchsorted(low[order] + shift, high[order] + shift)
    return order, np.maximum(stop - np.arange(len(order)) - 1, 0)


def _pairs(count: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places in the order of a sweep, of each edge and of each of the ``count`` edges behind it, some (P,) at a time."""
    total = np.cumsum(count)
    begin = 0
    while begin < len(count):
        done = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, done + BLOCK, side="right")), begin + 1)
        part = count[begin:end]
        first = np.repeat(np.arange(begin, end), part)
        rank = np.arange(len(first)) - np.repeat(np.cumsum(part) - part, part)
        yield first, first + 1 + rank
        begin = end


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether edges, (P, 2 ends, xy) each, cross at a point that is no end of either."""
    return (_side(a, b[:, 0]) * _side(a, b[:, 1]) < 0) & (_side(b, a[:, 0]) * _side(b, a[:, 1]) < 0)


def _side(edges: np.ndarray, points: np.ndarray) -> np.ndarray:
    """On which side of a line through its edge each point lies: -1, 0, 1."""
    along, to = edges[:, 1] - edges[:, 0], points - edges[:, 0]
    return np.sign(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])
