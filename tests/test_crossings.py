"""Which rings cross themselves: closed forms, and every pair of edges in plain whole numbers."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from seanet.data import crossings
from seanet.data.crossings import crossing, together, turns
from seanet.data.loops import Loops
from seanet.data.records import Rings
from seanet.polygons import ring_area

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
RINGS = {
    "square": (SQUARE, False),
    "bow tie": ([10, 10, 30, 30, 30, 10, 10, 30], True),
    "pentagram": ([50, 0, 79, 90, 2, 35, 98, 35, 21, 90], True),
    "two squares that share a corner": ([0, 0, 10, 0, 10, 10, 20, 10, 20, 20, 10, 20, 10, 10, 0, 10], False),
    "hole with a bridge": ([0, 0, 30, 0, 30, 30, 0, 30, 0, 0, 10, 10, 10, 20, 20, 20, 20, 10, 10, 10], False),
    "corner on an edge": ([0, 0, 20, 0, 20, 20, 10, 0, 0, 20], False),
    "the same point again and again": ([10, 10] * 5, False),
    "there and back": ([0, 0, 10, 0, 20, 0, 10, 0], False),
    "by a hundredth of a pixel": ([0, 0, 20, 0, 20, 20, 10, -0.01, 0, 20], True),
    "twice around": (SQUARE * 2, False),
}


def each(measure: Callable[[Loops], np.ndarray], rings: list) -> list:
    """What is measured of every ring, (2n,) pixels each."""
    loops, owner = together([Rings.of([np.array(ring, np.float64)]) for ring in rings])
    return measure(loops)[np.argsort(owner)].tolist()


@pytest.mark.parametrize(("ring", "wanted"), RINGS.values(), ids=RINGS)
def test_known_rings(ring, wanted):
    assert each(crossing, [ring]) == [wanted]


def test_turns():
    backwards = [10, 10, 10, 30, 30, 30, 30, 10]
    rings = [SQUARE, backwards, SQUARE * 2, SQUARE * 3, RINGS["pentagram"][0], RINGS["bow tie"][0]]
    assert each(turns, rings) == [1, -1, 2, 3, 2, 0]


def plain(ring: np.ndarray) -> bool:
    points = [(int(x), int(y)) for x, y in np.rint(ring.reshape(-1, 2) * 100)]
    edges = list(zip(points, points[1:] + points[:1], strict=True))

    def side(p, q, r):
        value = (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])
        return (value > 0) - (value < 0)

    return any(
        side(*a, b[0]) * side(*a, b[1]) < 0 and side(*b, a[0]) * side(*b, a[1]) < 0 for a, b in combinations(edges, 2)
    )


@pytest.mark.parametrize("block", [3, 2**17])
def test_every_pair_of_edges(monkeypatch, block):
    monkeypatch.setattr(crossings, "BLOCK", block)
    rng = np.random.default_rng(0)
    rings = []
    for _ in range(300):
        n = int(rng.integers(3, 12))
        angle = np.sort(rng.random(n)) * 2 * np.pi
        star = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(5, 50, (n, 1)) + 60
        star += rng.normal(0, rng.choice([0, 12]), star.shape)
        rings.append(star.round(int(rng.integers(0, 3))).ravel())
    wanted = [plain(ring) for ring in rings]
    assert 60 < sum(wanted) < 240
    assert each(crossing, rings) == wanted


@pytest.mark.parametrize("turned", [False, True])
def test_a_comb_of_many_edges_is_swept_along_its_teeth(turned):
    """Along the other axis each of the 40,000 edges overlaps all: too many pairs to look at."""
    tooth = np.arange(20_000)
    points = np.stack(
        [np.stack([np.full(20_000, 1000.0), tooth * 2.0]), np.stack([np.zeros(20_000), tooth * 2.0 + 1])], 2
    )
    comb = points.transpose(1, 2, 0).reshape(-1, 2)
    closed = np.concatenate([comb, [[-1.0, 40_000.0], [-1.0, 0.0]]])
    crossed = np.concatenate([comb, [[500.0, 0.5]]])
    rings = [ring[:, ::-1].ravel() if turned else ring.ravel() for ring in (closed, crossed)]
    assert each(crossing, rings) == [False, True]


def test_rings_of_many_annotations_in_all_their_types():
    """In hundredths that fit 16 bits, in others, in fractions of hundredths: whose they are is told beside them."""
    small, large, fine = [0, 0, 3, 0, 3, 3.25], [900, 0, 903, 0, 903, -3.5], [0, 0, 3, 0, 3, 1 / 3]
    polygons = [
        Rings.of([np.array(ring, float) for ring in rings]) for rings in ([fine], [small, fine], [large, small])
    ]
    polygons.append(Rings.of([np.array(ring, float) for ring in (small, SQUARE, small)]))
    assert [rings.code for rings in polygons] == ["f8", "f8", "i4", "u2"]
    loops, owner = together(polygons)
    found: dict[int, list] = {}
    for number, first, count in zip(owner.tolist(), loops.first.tolist(), loops.counts.tolist(), strict=True):
        found.setdefault(number, []).append(loops.points[:, first : first + count].T.ravel().tolist())
    wanted = [[[round(v * 100) for v in ring] for ring in rings.unpack()] for rings in polygons]
    assert [found[number] for number in range(4)] == wanted


def test_sums_along_rings():
    rings = [SQUARE, [0, 0, 0, 4, 3, 0], [0.5, 1.5, 2.5, 0.5, 4.5, 9.5, 1.0, 3.0]]
    loops = Loops.of(np.concatenate(rings), np.array(list(map(len, rings))) // 2)
    assert loops.areas() == pytest.approx([ring_area(np.reshape(ring, (-1, 2))) for ring in rings])
    assert loops.areas()[:2].tolist() == [400, -6]
    assert loops.lengths()[:2].tolist() == [80, 12]
    low, high = loops.extent()
    assert low.T.tolist() == [[10, 10], [0, 0], [0.5, 0.5]]
    assert high.T.tolist() == [[30, 30], [3, 4], [4.5, 9.5]]
