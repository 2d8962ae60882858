"""Ranks, bins and losses against numbers by hand, scipy and a finer grid."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seanet.data.bitmaps import Bitmap
from seanet.evaluation.calibration import calibrate, reliability, spearman
from seanet.evaluation.clipping import clipping, share_outside
from squares import data_of, found

A, B = (10, 10, 40, 40), (60, 60, 90, 90)
few = st.integers(2, 30).flatmap(lambda n: st.tuples(*[arrays(np.int64, n, elements=st.integers(0, 9))] * 2))


def test_spearman_by_hand():
    assert spearman(np.array([1, 2, 3, 4]), np.array([1, 2, 4, 3])) == pytest.approx(0.8)
    assert spearman(np.array([1, 2, 2, 3]), np.array([1, 3, 2, 4])) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert spearman(np.array([1, 2, 3]), np.array([5, 5, 5])) is None
    assert spearman(np.zeros(0), np.zeros(0)) is None


def test_spearman_equals_scipy():
    stats = pytest.importorskip("scipy.stats")

    @given(few)
    def check(pair):
        assume(all(np.ptp(values) for values in pair))
        assert spearman(*pair) == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-12)

    check()


@given(few)
def test_only_ranks_count(pair):
    a, b = pair
    assume(np.ptp(a) and np.ptp(b))
    assert spearman(np.exp(a), b) == pytest.approx(spearman(a, b), abs=1e-12)
    assert spearman(-a, b) == pytest.approx(-spearman(a, b), abs=1e-12)
    assert spearman(a, a**3) == pytest.approx(1)


def test_bins_by_hand():
    numbers = reliability(np.array([0.05, 0.12, 0.18, 0.95, 1.0]), np.array([0.0, 0.5, 0.1, 1.0, 0.9]))
    counts = [b["count"] for b in numbers["bins"]]
    assert counts == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert numbers["bins"][1]["predicted"] == pytest.approx(0.15)
    assert numbers["bins"][1]["true"] == pytest.approx(0.3)
    assert math.isnan(numbers["bins"][5]["true"])
    assert numbers["ece"] == pytest.approx((0.05 + 2 * 0.15 + 2 * 0.025) / 5)
    assert numbers["bias"] == pytest.approx((0.05 - 0.38 + 0.08 - 0.05 + 0.1) / 5)


def test_scores_that_are_no_shares_are_ranked_only():
    numbers = reliability(np.array([-3.0, 2.0, 40.0]), np.array([0.1, 0.5, 0.9]))
    assert numbers["spearman"] == pytest.approx(1)
    assert numbers["bins"] is numbers["ece"] is None


def test_predictions_meet_the_best_object_of_their_class(tmp_path):
    data = data_of(tmp_path, [[(4, A), (9, B), (4, (10, 60, 40, 90), True)]])
    entries = [
        found(1, 4, (10, 10, 40, 25), 0.9, box_iou=0.6, mask_iou=0.5),  # upper half: .5
        found(1, 4, B, 0.8, box_iou=0.7, mask_iou=0.5),  # another class's object: 0
        found(1, 9, B, 0.7, (60, 60, 90, 69), box_iou=0.9, mask_iou=0.5),  # box 1, mask .3
        found(1, 4, (10, 60, 40, 90), 0.6, box_iou=0.1, mask_iou=0.5),  # on the crowd: nothing is known
    ]
    numbers = calibrate(data, [entries])
    assert numbers["on_crowd"] == 1
    assert numbers["box_iou"]["detections"] == 3
    assert numbers["box_iou"]["bias"] == pytest.approx((0.1 + 0.7 - 0.1) / 3)
    assert numbers["mask_iou"]["bias"] == pytest.approx((0.0 + 0.5 + 0.2) / 3)
    assert numbers["score"]["bias"] == pytest.approx((0.4 + 0.8 + 0.4) / 3)
    assert numbers["box_iou"]["spearman"] == pytest.approx(0.5)  # ranks 1 2 3 beside 2 1 3
    assert numbers["box_iou"]["located"]["detections"] == 2
    assert numbers["box_iou"]["located"]["bias"] == pytest.approx(0)
    assert numbers["mask_iou"]["spearman"] is None


def test_what_is_not_predicted_is_not_there(tmp_path):
    data = data_of(tmp_path, [[(4, A)], []])
    numbers = calibrate(data, [[found(1, 4, A)], [found(2, 4, A)]])
    assert numbers["box_iou"] is numbers["mask_iou"] is None
    assert numbers["score"]["bias"] == pytest.approx((-0.1 + 0.9) / 2)
    assert calibrate(data, [[], []]) == {"box_iou": None, "mask_iou": None, "score": None, "on_crowd": 0}


def test_a_box_that_cuts_a_quarter(tmp_path):
    tall = (50, 0, 60, 40)
    data = data_of(tmp_path, [[(4, A), (4, B), (9, A, True), (9, tall)]])
    clips = clipping(data, [[found(1, 4, (10, 10, 32.5, 40)), found(1, 9, A), found(1, 9, (50, 0, 60, 39.5))]])
    assert clips.loss == pytest.approx([0.25, math.nan, 0.5 / 40], nan_ok=True)
    numbers = clips.by_size()
    assert numbers["all"]["found"] == 2
    assert numbers["all"]["mean"] == numbers["all"]["median"] == pytest.approx((0.25 + 0.0125) / 2)
    assert [numbers["all"][name] for name in ("over 1%", "over 5%", "over 10%")] == [1, 0.5, 0.5]
    assert numbers["small"]["objects"] == 3
    assert numbers["large"] == {"objects": 0, "found": 0} | dict.fromkeys(
        ("mean", "median", "over 1%", "over 5%", "over 10%")
    )


def test_the_box_is_the_one_that_box_ap_takes(tmp_path):
    data = data_of(tmp_path, [[(4, A)]])
    entries = [found(1, 4, (10, 10, 25, 40), 0.9, box_score=0.1), found(1, 4, (10, 10, 34, 40), 0.5, box_score=0.6)]
    assert clipping(data, [entries]).loss == pytest.approx([0.2])
    assert np.isnan(clipping(data, [[found(1, 4, (10, 10, 24.9, 40))]]).loss).all()  # below an IoU of .5
    assert np.isnan(clipping(data, [[]]).loss).all()


@given(
    arrays(np.uint8, (5, 6), elements=st.integers(0, 1)),
    st.tuples(*[st.integers(-8, 90)] * 2, *[st.integers(0, 70)] * 2),
)
def test_shares_of_pixels_are_exact(bits, eighths):
    """Beside a grid eight times as fine, on which the box's sides lie."""
    assume(bits.any())
    left, top, width, height = eighths
    fine = np.kron(bits, np.ones((8, 8), np.uint8))
    dx, dy = 16, 24  # where the mask lies, in eighths of a pixel
    y, x = np.mgrid[: fine.shape[0], : fine.shape[1]]
    inside = (x + dx >= left) & (x + dx < left + width) & (y + dy >= top) & (y + dy < top + height)
    wanted = 1 - fine[inside].sum() / fine.sum()
    assert share_outside(Bitmap(bits, 2, 3), [v / 8 for v in eighths]) == pytest.approx(wanted, abs=1e-12)
