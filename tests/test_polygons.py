"""Outlines of bitmaps: filling them gives the bitmap back, whatever its holes and touching corners."""

import numpy as np
import pytest

from seanet.polygons import mask_polygons, ring_area, simplify


def crossings(ring, x, y):
    """Edges of a ring that a ray from (x, y) to the right meets, for arrays of points."""
    (ax, ay), (bx, by) = ring.T, np.roll(ring, -1, 0).T
    x, y = x[..., None], y[..., None]
    spans = (ay <= y) != (by <= y)
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = ax + (y - ay) * (bx - ax) / (by - ay) > x
    return (spans & meets).sum(-1)


def fill(polygons, shape, x0=0, y0=0):
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    filled = np.zeros(shape, int)
    for polygon in polygons:
        filled += sum(crossings(ring, x + x0, y + y0) for ring in polygon) % 2
    return filled


def parts(bits):
    """4-connected parts, counted by flooding."""
    left, count = {tuple(p) for p in np.argwhere(bits)}, 0
    while left:
        count += 1
        todo = [left.pop()]
        while todo:
            y, x = todo.pop()
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    todo.append(near)
    return count


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_filling_gives_the_bitmap_back(share):
    rng = np.random.default_rng(3)
    for shape in [(1, 1), (1, 9), (3, 3), (4, 5), (17, 12), (25, 30)] * 3:
        bits = rng.random(shape) < share
        polygons = mask_polygons(bits, 7, -3)
        filled = fill(polygons, shape, 7, -3)
        assert filled.max(initial=0) <= 1, "polygons overlap"
        assert (filled == bits).all()
        assert len(polygons) == parts(bits)


def test_rings_are_simple_oriented_and_without_collinear_points():
    rng = np.random.default_rng(5)
    for share in (0.4, 0.6, 0.8):
        bits = rng.random((24, 24)) < share
        for outer, *holes in mask_polygons(bits):
            assert ring_area(outer) > 0
            assert all(ring_area(hole) < 0 for hole in holes)
            for ring in (outer, *holes):
                assert ring.dtype == np.float64
                assert len(np.unique(ring, axis=0)) == len(ring)
                assert len(ring) >= 4
                before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
                assert (before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0] != 0).all()


def test_area_is_the_number_of_pixels():
    bits = np.random.default_rng(0).random((60, 40)) < 0.6
    assert sum(ring_area(ring) for polygon in mask_polygons(bits) for ring in polygon) == bits.sum()


def test_square_with_a_hole():
    bits = np.ones((4, 5), bool)
    bits[1:3, 1:3] = False
    [[outer, hole]] = mask_polygons(bits.astype(np.uint8), 10, 20)
    assert sorted(map(tuple, outer)) == [(10, 20), (10, 24), (15, 20), (15, 24)]
    assert sorted(map(tuple, hole)) == [(11, 21), (11, 23), (13, 21), (13, 23)]


def test_island_in_a_lake_is_a_polygon_of_its_own():
    bits = np.ones((9, 9), bool)
    bits[2:7, 2:7] = False
    bits[4, 4] = True
    assert sorted(len(polygon) for polygon in mask_polygons(bits)) == [1, 2]


def test_diagonal_pixels_are_two_parts_and_diagonal_holes_two_holes():
    assert [len(p) for p in mask_polygons(np.eye(2))] == [1, 1]
    bits = np.ones((4, 4), bool)
    bits[1, 1] = bits[2, 2] = False
    assert [len(p) for p in mask_polygons(bits)] == [3]


def test_nothing_gives_nothing():
    assert mask_polygons(np.zeros((5, 4), bool)) == []
    assert mask_polygons(np.zeros((0, 4), bool)) == []
    with pytest.raises(ValueError, match="shape"):
        mask_polygons(np.zeros((1, 5, 4), bool))


def test_simplify_stays_within_its_tolerance():
    y, x = np.mgrid[:80, :80]
    [[ring]] = mask_polygons((x - 40) ** 2 + (y - 40) ** 2 < 30**2)
    simple = simplify(ring, 1.0)
    assert len(simple) < len(ring) / 3
    assert abs(ring_area(simple) - ring_area(ring)) < 0.03 * ring_area(ring)
    assert simplify(ring, 0) is ring
    assert len(simplify(ring, 1000)) >= 3
