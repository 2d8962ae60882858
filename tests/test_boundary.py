"""Masks in words, Boundary IoU and bands: closed forms, dense arrays written out by hand, and the library."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from faster_coco_eval.core import mask as codec
from hypothesis import given, settings
from hypothesis import strategies as st

from seanet.data.bitmaps import Bitmap
from seanet.evaluation import boundary, packed, rims
from seanet.evaluation.boundary import NAMES, Agreement, band, band_widths, boundary_width
from seanet.evaluation.runs import unpack

WIDTHS = (1.0, 3.0, 8.0, 2.3, 4.7, 9.4)


def boundary_iou(a: dict, b: dict) -> float:
    height, width = a["size"]
    masks = rims.stack(unpack([a["counts"], b["counts"]]), np.full(2, height))
    bands = rims.rims(masks, np.full(2, boundary_width((height, width))))
    return float(rims.ious(bands, np.array([0]), np.array([1]))[0])


def compare(truth: np.ndarray, found: np.ndarray, widths: tuple[float, ...]) -> SimpleNamespace:
    """Of one pair."""
    return compare_all([truth], [found], widths)[0]


def compare_all(truth: list[np.ndarray], found: list[np.ndarray], widths: tuple[float, ...]) -> list[SimpleNamespace]:
    n, size = len(truth), truth[0].shape
    masks = rims.stack(unpack([rle(mask)["counts"] for mask in (*truth, *found)]), np.full(2 * n, size[0]))
    agreement = boundary.compare(masks, np.arange(n), np.arange(n, 2 * n), size, widths)
    return [SimpleNamespace(**{name: getattr(agreement, name)[k] for name in Agreement.__slots__}) for k in range(n)]


def blobs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A few ellipses, boxes and single pixels, some over the frame, with holes."""
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(rng.integers(1, 4)):
        cy, cx, ry, rx = rng.uniform(-3, height + 3), rng.uniform(-3, width + 3), *rng.uniform(1, height / 2 + 1, 2)
        mask ^= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
    mask[rng.integers(0, height, 2), rng.integers(0, width, 2)] ^= True
    if rng.random() < 0.3:
        mask[:, rng.integers(0, width) :] = True
    return mask


def pack(mask: np.ndarray) -> packed.Packed:
    return packed.pack(Bitmap(mask.astype(np.uint8)))


def rle(mask: np.ndarray) -> dict:
    return codec.encode(np.asfortranarray(mask.astype(np.uint8)))


def dense(mask: packed.Packed, size: tuple[int, int]) -> np.ndarray:
    return placed(packed.unpack(mask.words, mask.window[0], mask.window[1]), size)


def placed(bitmap: Bitmap, size: tuple[int, int]) -> np.ndarray:
    return bitmap.cut(0, 0, size[1], size[0]).bits.astype(bool)


sizes = st.tuples(st.integers(1, 150), st.integers(1, 40), st.integers(0, 2**32 - 1))


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_words_hold_the_mask(case):
    height, width, seed = case
    mask = blobs(np.random.default_rng(seed), height, width)
    for found in (
        pack(mask),
        packed.pack_rle(rle(mask)),
        packed.pack_rle(rle(mask) | {"counts": rle(mask)["counts"].decode()}),
    ):
        np.testing.assert_array_equal(dense(found, mask.shape), mask)
        assert found.area == mask.sum()
        ys, xs = np.nonzero(mask)
        assert found.box == ((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if mask.any() else (0, 0, 0, 0))


def test_words_from_run_lengths_with_empty_runs():
    """Foreign encoders write runs of no pixels."""
    for counts, filled in (
        ([0, 5, 0, 4, 11], range(9)),
        ([3, 0, 2, 4, 0, 1, 10], range(5, 10)),
        ([20], ()),
        ([0, 20], range(20)),
    ):
        mask = np.zeros(20, bool)
        mask[list(filled)] = True
        found = packed.pack_runs(np.array(counts), 5)
        np.testing.assert_array_equal(dense(found, (5, 4)), mask.reshape(4, 5).T)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 140), st.integers(-45, 45))
def test_words_move(case, rows, columns):
    height, width, seed = case
    mask = blobs(np.random.default_rng(seed), height, width)
    window = (0, 0, width, -(-height // 64))
    words = pack(mask).cut(window)
    full = np.zeros((64 * window[3], width), bool)
    full[:height] = mask
    for moved, wanted in (
        (packed.moved_down(words, rows), shifted(full, rows, 0)),
        (packed.moved_up(words, rows), shifted(full, -rows, 0)),
        (packed.moved_right(words, columns), shifted(full, 0, columns)),
    ):
        np.testing.assert_array_equal(packed.unpack(moved).bits, wanted)


def shifted(mask: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Zeros come in; by padding, so that nothing comes round."""
    far = max(abs(dy), abs(dx))
    padded = np.pad(mask, far)
    return padded[far - dy : far - dy + mask.shape[0], far - dx : far - dx + mask.shape[1]]


def eroded(mask: np.ndarray, n: int) -> np.ndarray:
    """n times 3 x 3, the frame counting as background."""
    for _ in range(n):
        padded = np.pad(mask, 1)
        mask = np.min(
            [padded[1 + dy :, 1 + dx :][: mask.shape[0], : mask.shape[1]] for dy in (-1, 0, 1) for dx in (-1, 0, 1)], 0
        )
    return mask


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 40))
def test_erosion(case, n):
    height, width, seed = case
    mask = blobs(np.random.default_rng(seed), height, width)
    words = packed.eroded(pack(mask).cut((0, 0, width, -(-height // 64))), n)
    np.testing.assert_array_equal(packed.unpack(words).bits[:height], eroded(mask, n))


@settings(max_examples=40, deadline=None)
@given(st.lists(sizes, min_size=1, max_size=6), st.integers(1, 20))
def test_many_masks_in_words_and_their_rims(cases, n):
    """Of images of several heights, empty and full ones among them; all pairs of masks of one image."""
    masks = [blobs(np.random.default_rng(seed), height, width) for height, width, seed in cases]
    masks += [np.zeros_like(masks[0]), np.ones_like(masks[-1])]
    masks += [shifted(mask, 2, 1) for mask in masks]
    stack = rims.stack(unpack([rle(mask)["counts"] for mask in masks]), np.array([len(mask) for mask in masks]))
    widths = np.arange(len(masks)) % 3 + n
    bands = rims.rims(stack, widths)
    wanted = [mask & ~eroded(mask, int(width)) for mask, width in zip(masks, widths, strict=True)]
    for m, (mask, rim) in enumerate(zip(masks, wanted, strict=True)):
        np.testing.assert_array_equal(dense(stack.mask(m), mask.shape), mask)
        assert stack.mask(m).box == pack(mask).box
        np.testing.assert_array_equal(dense(bands.mask(m), mask.shape), rim)
    pairs = [(a, b) for a, x in enumerate(masks) for b, y in enumerate(masks) if x.shape == y.shape]
    for of, which in ((stack, masks), (bands, wanted)):
        found = rims.ious(of, *np.array(pairs).T)
        overlap = [(which[a] & which[b]).sum() / max((which[a] | which[b]).sum(), 1) for a, b in pairs]
        assert found == pytest.approx(overlap, abs=1e-12)


@pytest.mark.parametrize("size", [(375, 500), (405, 540), (480, 640), (30, 40), (7, 9), (600, 800), (130, 66)])
def test_boundary_iou_is_the_librarys_and_by_hand(size):
    """2 % of the diagonal of 405 x 540 is 13.5: 14 for Cheng's code and the library's with OpenCV, 13 for its other."""
    rng = np.random.default_rng(size[0])
    for _ in range(3):
        a = blobs(rng, *size)
        b = shifted(a, int(rng.integers(-5, 6)), int(rng.integers(-5, 6))) | (blobs(rng, *size) & (rng.random() < 0.3))
        theirs = [codec.rleToBoundary(rle(mask)) for mask in (a, b)]
        found = boundary_iou(rle(a), rle(b))
        if size != (405, 540):
            assert found == pytest.approx(codec.iou([theirs[0]], [theirs[1]], [0])[0, 0], abs=1e-12)
        width = max(1, round(0.02 * math.hypot(*size)))
        rims = [mask & ~eroded(mask, width) for mask in (a, b)]
        assert found == pytest.approx((rims[0] & rims[1]).sum() / max((rims[0] | rims[1]).sum(), 1), abs=1e-12)


def test_boundary_iou_of_nothing():
    nothing, everything = rle(np.zeros((20, 20))), rle(np.ones((20, 20)))
    assert boundary_iou(nothing, nothing) == 0
    assert boundary_iou(nothing, everything) == 0


def test_widths():
    assert band_widths((300, 400)) == (1, 3, 8, 2.5, 5, 10)
    assert band_widths((30, 40)) == (1, 3, 8, 1, 1, 1)
    assert len(NAMES) == 6
    assert boundary_width((300, 400)) == 10
    assert boundary_width((3, 4)) == 1


def distances(mask: np.ndarray) -> np.ndarray:
    """From each pixel's centre to the nearest square of the other side, by trying them all; inf where there is none."""
    points = {value: np.argwhere(mask == value) for value in (False, True)}
    found = np.full(mask.shape, np.inf)
    for value, own in points.items():
        other = points[not value]
        for y, x in own if len(other) else ():
            found[y, x] = np.hypot(*np.maximum(np.abs(other - (y, x)) - 0.5, 0).T).min()
    return found


def rim(mask: np.ndarray) -> np.ndarray:
    """Object pixels with a background 4-neighbour inside the image."""
    ground = ~mask
    return mask & (shifted(ground, 1, 0) | shifted(ground, -1, 0) | shifted(ground, 0, 1) | shifted(ground, 0, -1))


def by_hand(truth: np.ndarray, found: np.ndarray, widths: tuple[float, ...] = WIDTHS) -> dict[str, object]:
    """``compare`` on dense arrays, from the definitions."""
    near, own = distances(truth), distances(found)
    bands = [near <= w for w in widths]
    inner = [(truth & (near <= w), found & (own <= w)) for w in widths]
    a, b = np.argwhere(rim(truth)), np.argwhere(rim(found))
    result: dict[str, object] = {
        "trimap": [np.mean((truth == found)[part]) if part.any() else np.nan for part in bands],
        "band_iou": [(p & q).sum() / (p | q).sum() if (p | q).any() else np.nan for p, q in inner],
    }
    if not len(a) or not len(b):
        empty = 0.0 if len(a) or len(b) else np.nan
        return result | {"boundary_f": [empty] * len(widths), "offset": np.nan, "hausdorff95": np.nan}
    apart = np.hypot(*np.moveaxis(a[:, None] - b[None], 2, 0))
    strayed, missed = apart.min(0), apart.min(1)
    f = []
    for w in widths:
        p, r = np.mean(strayed <= w), np.mean(missed <= w)
        f.append(2 * p * r / (p + r) if p + r else 0.0)
    sign = np.where(truth[b[:, 0], b[:, 1]], -1, 1)
    farthest = max(np.percentile(strayed, 95), np.percentile(missed, 95))
    return result | {"boundary_f": f, "offset": np.mean(sign * strayed), "hausdorff95": farthest}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 30), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_agreement_is_the_definition(height, width, seed, pairs):
    """Of some pairs at once, masks without a pixel among them."""
    rng = np.random.default_rng(seed)
    truth = [blobs(rng, height, width) & (rng.random() < 0.8) for _ in range(pairs)]
    found = [shifted(t, *rng.integers(-3, 4, 2)) if rng.random() < 0.5 else blobs(rng, height, width) for t in truth]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boundary, "AT_ONCE", 100)
        agreements = compare_all(truth, found, WIDTHS)
    for agreement, t, f in zip(agreements, truth, found, strict=True):
        for name, wanted in by_hand(t, f).items():
            np.testing.assert_allclose(getattr(agreement, name), wanted, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("size", [(150, 3), (150, 1), (3, 150)])
def test_bands_wider_than_a_long_image(size):
    """Masks of other widths and none stand beside each other."""
    rng, widths = np.random.default_rng(4), (1.0, 9.4, 70.0)
    truth = [blobs(rng, *size) & (k not in (2, 7)) for k in range(12)]
    found = [blobs(rng, *size) & (k not in (5, 7)) for k in range(12)]
    for k, agreement in enumerate(compare_all(truth, found, widths)):
        for name, wanted in by_hand(truth[k], found[k], widths).items():
            np.testing.assert_allclose(getattr(agreement, name), wanted, rtol=1e-12, atol=1e-12, err_msg=name)
    nothing = compare_all([np.zeros(size, bool)] * 2, [np.zeros(size, bool)] * 2, widths)
    assert all(np.isnan(agreement.trimap).all() for agreement in nothing)


@pytest.mark.parametrize("width", [3.0, 20.5, 70.0])
def test_bands_wider_than_a_word(width):
    mask = blobs(np.random.default_rng(5), 260, 9)
    found = placed(band(pack(mask), mask.shape, width), mask.shape)
    np.testing.assert_array_equal(found, distances(mask) <= width)
    assert found.any()


def half_plane(at: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    return np.broadcast_to(np.arange(size[1]) < at, size)


@pytest.mark.parametrize("d", [-4, -2, -1, 0, 1, 3])
def test_a_moved_straight_edge(d):
    """The frame is no boundary, so a half plane has one straight edge."""
    widths = (1.0, 3.0, 5.0, 8.0)
    agreement = compare(half_plane(40), half_plane(40 + d), widths)
    far = abs(d)
    for i, w in enumerate(widths):
        if far <= w:
            assert agreement.trimap[i] == pytest.approx(1 - far / (2 * w))
            assert agreement.band_iou[i] == pytest.approx((w - far) / (w + far))
        assert agreement.boundary_f[i] == (far <= w)
    assert agreement.offset == d
    assert agreement.hausdorff95 == far


@pytest.mark.parametrize("d", [-3, 2])
def test_a_disc_of_another_radius(d):
    y, x = np.mgrid[:420, :420] - 209.5
    truth, found = (np.hypot(y, x) < radius for radius in (150, 150 + d))
    widths = (5.0, 8.0)
    agreement = compare(truth, found, widths)
    far = abs(d)
    # The steps of a slanted edge reach up to half a pixel into the band and widen it so.
    ring = far * (1 + d / 300)  # of the circumference of the truth
    for i, w in enumerate(widths):
        assert 1 - ring / (2 * w) <= agreement.trimap[i] <= 1 - ring / (2 * w + 1)
        assert (w - far) / (w + far) <= agreement.band_iou[i] <= (w + 0.5 - far) / (w + 0.5 + far)
        assert agreement.boundary_f[i] == 1
    assert agreement.offset == pytest.approx(d, abs=0.15)
    assert agreement.hausdorff95 == pytest.approx(far, abs=0.5)


@pytest.mark.parametrize("d", [-2, 3])
def test_a_square_of_another_side(d):
    mask = np.zeros((90, 100), bool)
    mask[20:60, 30:80] = True
    other = np.zeros_like(mask)
    other[20 - d : 60 + d, 30 - d : 80 + d] = True
    agreement = compare(mask, other, (4.0,))
    # Beyond the corners of a smaller square the nearest point is its corner.
    corner = [math.hypot(d, j) for j in range(1, d + 1)]
    outside = (180 * d + 8 * sum(corner) - 4 * math.hypot(d, d)) / (180 + 8 * d - 4)
    assert agreement.offset == pytest.approx(outside if d > 0 else d)
    inner = (50 * 40 - 42 * 32, (50 + 2 * d) * (40 + 2 * d) - (42 + 2 * d) * (32 + 2 * d))
    common = 50 * 40 - max(42 * 32, (42 + 2 * d) * (32 + 2 * d)) if d > 0 else (50 + 2 * d) * (40 + 2 * d) - 42 * 32
    assert agreement.band_iou[0] == pytest.approx(common / (sum(inner) - common))


def test_identical_masks():
    rng = np.random.default_rng(3)
    mask = blobs(rng, 70, 60)
    agreement = compare(mask, mask, WIDTHS)
    assert (agreement.trimap == 1).all()
    assert (agreement.band_iou == 1).all()
    assert (agreement.boundary_f == 1).all()
    assert (agreement.offset, agreement.hausdorff95) == (0, 0)


def test_an_object_that_fills_its_image_has_no_boundary():
    full = np.ones((70, 30), bool)
    agreement = compare(full, full, WIDTHS)
    assert np.isnan([*agreement.trimap, *agreement.band_iou, *agreement.boundary_f]).all()
    assert math.isnan(agreement.offset)
    assert math.isnan(agreement.hausdorff95)
    part = full.copy()
    part[:, :10] = False
    agreement = compare(full, part, WIDTHS)
    assert np.isnan(agreement.trimap).all()
    assert (agreement.boundary_f == 0).all()


def test_an_empty_prediction():
    """Right on the outer half of the band, wrong on the inner."""
    agreement = compare(half_plane(40), np.zeros((60, 80), bool), (2.0, 5.0))
    assert agreement.trimap.tolist() == [0.5, 0.5]
    assert agreement.band_iou.tolist() == [0, 0]
    assert agreement.boundary_f.tolist() == [0, 0]
    assert math.isnan(agreement.offset)


def test_one_pixel():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    agreement = compare(mask, shifted(mask, 0, 1), (1.0, 2.0))
    # Within 1 of the square: its four neighbours at .5 and four at hypot(.5, .5); of these 9 two are wrong.
    assert agreement.trimap[0] == pytest.approx(7 / 9)
    assert agreement.band_iou.tolist() == [0, 0]
    assert agreement.boundary_f.tolist() == [1, 1]
    assert (agreement.offset, agreement.hausdorff95) == (1, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_nearest(n, m, height, seed):
    """By sweeping columns too, which small sets do not need."""
    rng = np.random.default_rng(seed)
    points, targets = (np.stack(np.divmod(np.unique(rng.integers(0, height * 30, k)), height)) for k in (n, m))
    apart = ((points[:, :, None] - targets[:, None]) ** 2).sum(0)
    with pytest.MonkeyPatch.context() as patch:
        for few, many, searches in ((2**17, 0, 64), (7, 2**20, 64), (0, 0, 64), (7, 0, 64), (7, 0, 5), (7, 0, 1)):
            patch.setattr(boundary, "FEW", few)
            patch.setattr(boundary, "MANY", many)
            patch.setattr(boundary, "SEARCHES", searches)
            found = boundary.nearest(boundary.lifted(*points), boundary.lifted(*targets))
            np.testing.assert_array_equal(found[0], apart.min(1))
            np.testing.assert_array_equal(found[1], apart.min(0))
