"""Polygons whose outline crosses itself: filling them by the even-odd rule may leave parts out, which is worth a word.

Letters: R rings, E edges of all of them, P pairs of edges of one ring that overlap along an axis.  Coordinates are
hundredths of pixels and whole, so that all is exact.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from seanet.data.loops import Loops
from seanet.data.records import Rings

MOST_PAIRS = 2**21  # of a ring; one with more along both axes is not examined
BLOCK = 2**17  # pairs examined together


def together(polygons: Sequence[Rings]) -> tuple[Loops, np.ndarray]:
    """The rings of at least one annotation, rounded to hundredths of pixels, and of which annotation each is, (R,)."""
    parts, counts, owners = [], [], []
    for code in ("u2", "i4", "f8"):
        own = [(i, rings) for i, rings in enumerate(polygons) if rings.code == code]
        flat = np.frombuffer(b"".join(rings.coordinates for _, rings in own), code)
        parts.append(flat if code != "f8" else np.rint(flat * 100))
        for i, rings in own:
            lengths = rings.lengths()
            counts += lengths
            owners += [i] * len(lengths)
    return Loops.of(np.concatenate(parts, dtype=np.float64), np.array(counts) // 2), np.array(owners)


def crossing(loops: Loops) -> np.ndarray:
    """For each ring whether two of its edges cross, (R,); touching is no crossing."""
    found = np.zeros(len(loops.counts), bool)
    start, stop, ring = loops.points, loops.ends, loops.ring
    low, high = np.minimum(start, stop), np.maximum(start, stop)
    sweeps = [_sweep(low[axis], high[axis], ring) for axis in (0, 1)]
    pairs = np.stack([np.bincount(ring[order], count, len(found)) for order, count in sweeps])
    axes = np.where(pairs.min(0) <= MOST_PAIRS, pairs.argmin(0), -1)
    for axis, (order, count) in enumerate(sweeps):
        other = 1 - axis
        for first, second in _pairs(np.where(axes[ring[order]] == axis, count, 0)):
            a, b = order[first], order[second]
            near = (low[other, a] < high[other, b]) & (low[other, b] < high[other, a])
            a, b = a[near], b[near]
            apart = _apart(start[:, a], stop[:, a], start[:, b], stop[:, b])
            apart &= _apart(start[:, b], stop[:, b], start[:, a], stop[:, a])
            found[ring[a[apart]]] = True
    return found


def turns(loops: Loops) -> np.ndarray:
    """How often the direction turns around along each ring, (R,): 1 or -1 for a simple one, 2 for one drawn twice.

    Edges back over the one before, and of no length, may count for half a turn more or less.
    """
    along = loops.ends - loops.points
    (x, y), (u, v) = along, loops.following(along)
    return np.rint(np.add.reduceat(np.arctan2(x * v - y * u, x * u + y * v), loops.first) / (2 * np.pi))


def _sweep(low: np.ndarray, high: np.ndarray, ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges ordered by where they begin along an axis, ring after ring, and how many of the next ones each overlaps."""
    width = high.max() - low.min() + 1
    shift = ring * width
    order = np.argsort(low + shift, kind="stable")  # outlines rise and fall for long: it merges these runs
    stop = np.searchsorted((low + shift)[order], (high + shift)[order])
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


def _apart(start: np.ndarray, stop: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether two points, (xy, P), lie on different sides of a line through an edge, neither of them on it."""
    return _side(start, stop, one) * _side(start, stop, other) < 0


def _side(start: np.ndarray, stop: np.ndarray, point: np.ndarray) -> np.ndarray:
    """On which side of a line each point lies: -1, 0, 1."""
    (x, y), (u, v) = stop - start, point - start
    return np.sign(x * v - y * u)
