"""Masks, their run lengths and outlines, for any bitmap, ring and box: against flooding, crossing numbers and pycocotools."""

import numpy as np
from hypothesis import assume, given
from hypothesis import settings as quick
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from seanet import pasting
from seanet.data import bitmaps
from seanet.data.bitmaps import Bitmap
from seanet.evaluation import packed
from seanet.polygons import mask_polygons, ring_area, simplify

quickly = quick(max_examples=80, deadline=None)
bits_of = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 1))
corners = st.tuples(st.integers(-90, 130), st.integers(-90, 130)).map(lambda point: (point[0] / 8, point[1] / 8))
rings = st.lists(corners, min_size=3, max_size=7).map(lambda points: np.array(points, np.float64))
frames = st.tuples(st.integers(1, 12), st.integers(1, 12))


def inside(polygon: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """(h, w) bool: pixels whose centre an odd number of edges lies right of."""
    y, x = np.mgrid[: shape[0], : shape[1]][..., None] + 0.5
    crossed = np.zeros(shape, int)
    for ring in polygon:
        (ax, ay), (bx, by) = ring.T, np.roll(ring, -1, 0).T
        spans = (ay <= y) != (by <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossed += (spans & (ax + (y - ay) * (bx - ax) / (by - ay) > x)).sum(-1)
    return crossed % 2 == 1


def nearest_edge(ring: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) distance of each pixel's centre from a ring's edges."""
    points = np.mgrid[: shape[0], : shape[1]][::-1].transpose(1, 2, 0)[..., None, :] + 0.5
    along = np.roll(ring, -1, 0) - ring
    t = ((points - ring) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    return np.linalg.norm(points - ring - t.clip(0, 1)[..., None] * along, axis=-1).min(-1)


def in_image(bits: np.ndarray, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    whole = np.zeros(size, np.uint8, order="F")
    whole[top : top + bits.shape[0], left : left + bits.shape[1]] = bits
    return whole


@quickly
@given(bits_of, st.integers(0, 9), st.integers(0, 70), st.integers(0, 9), st.integers(0, 70))
def test_bitmap_run_lengths_words_and_outlines_are_the_same_mask(bits, left, top, right, below):
    size = (top + bits.shape[0] + below, left + bits.shape[1] + right)
    whole = in_image(bits, left, top, size)
    rle = pasting.encode_rle(bits.astype(bool), left, top, size)
    assert rle["counts"].encode() == coco_mask.encode(whole)["counts"]
    counts = bitmaps.runs_of(rle)
    assert counts.sum() == whole.size
    drawn = bitmaps.runs_to_bitmap(counts, size[0])
    assert (in_image(drawn.bits, drawn.x0, drawn.y0, size) == whole).all()
    assert drawn.window == Bitmap(bits, left, top).tight().window or not bits.any()
    assert bitmaps.runs_to_rle(counts, *size)["counts"].decode() == rle["counts"]
    words = packed.pack_rle(rle)
    assert words.area == whole.sum()
    back = packed.unpack(words.words, words.box[0], words.window[1]).cut(0, 0, size[1], size[0])
    assert (back.bits == whole).all()
    polygons = mask_polygons(bits, left, top)
    assert sum(ring_area(ring) for polygon in polygons for ring in polygon) == whole.sum()
    assert (sum((inside(polygon, size).astype(int) for polygon in polygons), np.zeros(size, int)) == whole).all()


@quickly
@given(bits_of)
def test_outlines_without_holes_are_drawn_as_the_bitmap_they_are_of(bits):
    """By the codec, which draws rings one by one and knows no holes."""
    polygons = mask_polygons(bits)
    assume(all(len(polygon) == 1 for polygon in polygons))
    drawn = bitmaps.rasterise([polygon[0].ravel() for polygon in polygons], *bits.shape)
    assert (in_image(drawn.bits, drawn.x0, drawn.y0, bits.shape) == bits).all()


@quickly
@given(rings, st.floats(0.01, 20))
def test_simplified_rings_stay_near(ring, tolerance):
    """Every point that was dropped is within the tolerance of what is left."""
    simple = simplify(ring, tolerance)
    assert 3 <= len(simple) <= len(ring)
    assert {tuple(point) for point in simple} <= {tuple(point) for point in ring}
    if len(simple) < len(ring):
        ends = np.roll(simple, -1, 0) - simple
        for point in ring:
            t = ((point - simple) * ends).sum(-1) / np.maximum((ends**2).sum(-1), 1e-12)
            assert np.linalg.norm(point - simple - t.clip(0, 1)[:, None] * ends, axis=-1).min() <= tolerance + 1e-9


@quickly
@given(rings, frames)
def test_clipping_a_ring_changes_nothing_inside_the_image(ring, frame):
    clipped = bitmaps.clip_ring(ring.ravel(), *frame).reshape(-1, 2)
    sure = nearest_edge(ring, frame) > 1e-6
    assert (inside([clipped], frame) == inside([ring], frame))[sure].all()
    if len(clipped):
        assert clipped.min() >= -1 - 1e-9
        assert (clipped.max(0) <= np.array([frame[1], frame[0]]) + 1 + 1e-9).all()
    if (ring >= -1).all() and (ring <= (frame[1] + 1, frame[0] + 1)).all():
        assert (clipped == ring).all()


@quickly
@given(rings, frames)
def test_drawn_rings_are_right_but_for_pixels_at_their_edges(ring, frame):
    clipped = bitmaps.clip_ring(ring.ravel(), *frame)
    drawn = bitmaps.rasterise([clipped] if len(clipped) >= 6 else [], *frame)
    sure = nearest_edge(ring, frame) > 1.0
    assert (in_image(drawn.bits, drawn.x0, drawn.y0, frame) == inside([ring], frame))[sure].all()


@quickly
@given(bits_of, *[st.integers(-20, 20)] * 2, *[st.integers(0, 25)] * 2)
def test_cutting_is_slicing(bits, x0, y0, width, height):
    mask = Bitmap(bits, 3, -2)
    wide = np.zeros((120, 120), np.uint8)
    wide[48 : 48 + bits.shape[0], 53 : 53 + bits.shape[1]] = bits
    cut = mask.cut(x0, y0, x0 + width, y0 + height)
    assert cut.window == (x0, y0, x0 + width, y0 + height)
    assert (cut.bits == wide[50 + y0 : 50 + y0 + height, 50 + x0 : 50 + x0 + width]).all()
    assert mask.tight().area == mask.area == bits.sum()


sides = st.floats(-60, 90, width=32)


@quickly
@given(st.lists(sides, min_size=4, max_size=4), frames, st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 28]))
def test_pasted_masks_stay_inside_image_and_box(box, size, seed, cells):
    """Wherever the box is: beside the image, around it, without an area."""
    x0, y0, x1, y1 = *np.sort(box[:2]), *np.sort(box[2:])
    box = np.float32([x0, x1, y0, y1])[[0, 2, 1, 3]]
    mask = np.random.default_rng(seed).random((cells, cells), dtype=np.float32)
    for values, left, top in (pasting.paste(mask, box, size), pasting.paste_bits(mask, box, size, 0.5)):
        height, width = values.shape
        if values.size:
            assert box[0] <= left + 0.5
            assert left + width - 0.5 <= box[2]
            assert box[1] <= top + 0.5
            assert top + height - 0.5 <= box[3]
            assert left >= 0 <= top
            assert left + width <= size[1]
            assert top + height <= size[0]
            assert mask.min() * (values.dtype != bool) <= values.min()
            assert values.max() <= max(mask.max() + 1e-6, values.dtype == bool)
    assert bitmaps.runs_of(pasting.paste_rle(mask, box, size, 0.5)).sum() == size[0] * size[1]
