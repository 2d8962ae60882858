"""Boxes and packed masks for any numbers: against plain Python, and against sums over dense pixels."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import settings as quick
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torchvision.ops import box_iou, generalized_box_iou

from builders import packed
from seanet import config
from seanet.boxes import boxes_around, cell_points, distances, ltrb_iou
from seanet.heads.classic import ClassicBoxHead
from seanet.masks import crop_masks, window_bits

quickly = quick(max_examples=60, deadline=None)
lengths = st.integers(1, 2**15).map(lambda n: n / 32)  # exact in float32, as are their sums
ltrbs = st.tuples(lengths, lengths, lengths, lengths)
places = st.tuples(*[st.integers(-(2**13), 2**13).map(lambda n: n / 16)] * 2)


def area(box: tuple[float, ...]) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def iou_and_giou(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, float]:
    """Of boxes xyxy, as the paper of GIoU has it."""
    both = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    hull = area((min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])))
    union = area(a) + area(b) - both
    return both / union, both / union - (hull - union) / hull


def around(point: tuple[float, float], ltrb: tuple[float, ...]) -> tuple[float, ...]:
    return point[0] - ltrb[0], point[1] - ltrb[1], point[0] + ltrb[2], point[1] + ltrb[3]


@quickly
@given(places, ltrbs, ltrbs)
def test_iou_and_giou_of_boxes_around_a_point(point, a, b):
    iou, giou = (float(value) for value in ltrb_iou(torch.tensor([a]), torch.tensor([b])))
    wanted = iou_and_giou(around(point, a), around(point, b))
    np.testing.assert_allclose((iou, giou), wanted, rtol=1e-5, atol=1e-6)
    assert (iou, giou) == tuple(float(value) for value in ltrb_iou(torch.tensor([b]), torch.tensor([a])))
    assert 0 < iou <= 1
    assert -1 < giou <= iou + 1e-6
    first, second = torch.tensor([around(point, a)]), torch.tensor([around(point, b)])
    np.testing.assert_allclose(iou, float(box_iou(first, second)), rtol=1e-4)
    np.testing.assert_allclose(giou, float(generalized_box_iou(first, second)), rtol=1e-4, atol=1e-5)


@quickly
@given(ltrbs)
def test_a_box_is_itself(ltrb):
    iou, giou = ltrb_iou(torch.tensor([ltrb]), torch.tensor([ltrb]))
    assert float(iou) == float(giou) == 1


@quickly
@given(places, ltrbs)
def test_distances_and_boxes_are_inverse(point, ltrb):
    points, box = torch.tensor([point]), torch.tensor([around(point, ltrb)])
    assert distances(points, box).tolist() == [list(ltrb)]
    assert boxes_around(points, distances(points, box)).equal(box)


@quickly
@given(places, ltrbs, st.integers(1, 14))
def test_points_of_cells_lie_inside_their_box_in_order(point, ltrb, size):
    box = torch.tensor([around(point, ltrb)])
    points = cell_points(box, size)
    assert distances(points, box[:, None].expand(-1, size * size, -1)).min() > 0
    x, y = points[0].reshape(size, size, 2).unbind(-1)
    assert (x.diff(dim=1) > 0).all()
    assert (y.diff(dim=0) > 0).all()
    torch.testing.assert_close(points.mean(1), (box[:, :2] + box[:, 2:]) / 2)


@quickly
@given(places, ltrbs, places, ltrbs)
def test_deltas_lead_back_to_the_box_they_were_made_of(point, ltrb, other, towards):
    """But for how far torchvision lets a side grow: 62.5 times."""
    head = ClassicBoxHead(config.ClassicBox(width=4), classes=1, channels=1)
    roi, box = torch.tensor([around(point, ltrb)]), torch.tensor([around(other, towards)])
    sides = roi[:, 2:] - roi[:, :2]
    box[:, 2:] = box[:, :2] + torch.minimum(box[:, 2:] - box[:, :2], sides * 60)
    back = head.coder.decode_single(head.coder.encode_single(box, roi), roi)
    torch.testing.assert_close(back, box, rtol=1e-4, atol=1e-2 + 1e-5 * float(box.abs().max()))


bits_of = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1))
sides = st.integers(-20, 60).map(lambda n: n / 4)


def overlaps(edges: np.ndarray, pixels: int) -> np.ndarray:
    """(n - 1, pixels) how much of each pixel lies between neighbouring edges."""
    i = np.arange(pixels)
    return np.clip(np.minimum(edges[1:, None], i + 1) - np.maximum(edges[:-1, None], i), 0, None)


@quickly
@given(bits_of, st.integers(0, 5), st.integers(0, 5), sides, sides, sides, sides, st.integers(1, 6))
def test_shares_of_cells_are_sums_over_pixels(bits, left, top, x, y, width, height, size):
    """Of any box, also past the image: its cells count what of them the image shows."""
    frame = top + bits.shape[0] + 2, left + bits.shape[1] + 3
    box = torch.tensor([[x, y, x + abs(width) + 0.25, y + abs(height) + 0.25]])
    masks = packed([(torch.from_numpy(bits), left, top)])
    assert masks.areas.tolist() == [bits.sum()]
    assert (window_bits(masks, 0).numpy() == bits).all()
    share = crop_masks(masks, torch.tensor([0]), box, torch.tensor([frame]), size)[0].numpy()
    whole = np.zeros(frame)
    whole[top : top + bits.shape[0], left : left + bits.shape[1]] = bits
    steps, (x0, y0, x1, y1) = np.arange(size + 1) / size, box[0].double().numpy()
    xs, ys = (x0 + (x1 - x0) * steps).clip(0, frame[1]), (y0 + (y1 - y0) * steps).clip(0, frame[0])
    cover = overlaps(ys, frame[0]) @ whole @ overlaps(xs, frame[1]).T
    area = np.diff(ys)[:, None] * np.diff(xs)
    seen = area > 1e-3
    np.testing.assert_allclose(share[seen], (cover / np.maximum(area, 1e-12))[seen], atol=2e-3)
    assert share.min() >= 0
    assert share.max() <= 1
