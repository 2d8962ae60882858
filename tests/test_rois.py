"""Pooling against RoIAlign RoI by RoI and against its plain form; what groups of RoIs count."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

from seanet import config
from seanet.rois import FusedPool, NearestPool, counts, levels
from seanet.types import Rois

IMAGE = (256, 320)
SIZES = ((64, 80), (32, 40), (16, 20), (8, 10))  # of IMAGE


def maps(channels: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, *size, generator=generator, requires_grad=True) for size in SIZES]


def rois(count: int, largest: float) -> Rois:
    """Of two images in turn; some reach out of them."""
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(count, 2, generator=generator) * 240 - 20
    side = 4 + torch.rand(count, 2, generator=generator) * largest
    return Rois(torch.cat((low, low + side), 1), torch.arange(count) % 2)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("largest", [60.0, 900.0])
def test_each_roi_comes_from_its_own_level(largest, aligned):
    """Bit for bit what RoIAlign gives for one RoI alone; with ``largest`` = 60 three of the levels stay empty."""
    features, found = maps(), rois(40, largest)
    level = levels(found.boxes, 224)
    assert level.unique().numel() == (4 if largest > 100 else 1)
    crops = NearestPool(config.Pool(), 7, aligned)(features, found)
    for r in range(len(found)):
        i = int(level[r])
        box = torch.cat((found.image[r : r + 1, None].float(), found.boxes[r : r + 1]), 1)
        assert torch.equal(crops[r], roi_align(features[i], box, 7, 1 / 2 ** (i + 2), 2, aligned)[0])


@pytest.mark.parametrize("scale", [28.0, 56.0, 224.0])
def test_levels_are_torchvisions(scale):
    features, found = maps(), rois(40, 400.0)
    theirs = MultiScaleRoIAlign(list("0123"), 7, 2, canonical_scale=scale)
    boxes = [found.boxes[found.image == image] for image in range(2)]
    expected = theirs(dict(zip("0123", features, strict=True)), boxes, [IMAGE] * 2)
    crops = NearestPool(config.Pool(canonical_scale=scale), 7, False)(features, found)
    assert torch.equal(torch.cat([crops[found.image == image] for image in range(2)]), expected)


def test_the_gradient_goes_to_the_level_that_was_read():
    """The mean of constant maps is 1 a cell, so a RoI inside the image gives its level S x S in all, for each channel."""
    features = [torch.ones(1, 1, *size, requires_grad=True) for size in SIZES]
    boxes = torch.tensor([[40.0, 40, 60, 60], [5, 5, 205, 155], [20, 20, 50, 50]])
    crops = NearestPool(config.Pool(), 7, True)(features, Rois(boxes, torch.zeros(3, dtype=torch.int64)))
    assert torch.allclose(crops, torch.ones(3, 1, 7, 7))
    crops.sum().backward()
    assert levels(boxes, 224).tolist() == [0, 1, 0]
    assert [0.0 if f.grad is None else f.grad.sum().item() for f in features] == pytest.approx([98, 49, 0, 0], rel=1e-5)


def test_no_rois():
    none = Rois(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    for pool in (NearestPool(config.Pool(), 7, True), FusedPool(config.Pool(kind="fused"), 7, True, 4)):
        assert pool(maps(), none).shape == (0, 4, 7, 7)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("count", [3, 100])
def test_fused_pooling_equals_its_plain_form(count, aligned, monkeypatch):
    """Few RoIs are convolved after pooling, many before; RoIs that reach out of the image read zeros there."""
    torch.manual_seed(0)
    pool, features, found = FusedPool(config.Pool(kind="fused"), 7, aligned, 4), maps(), rois(count, 200)
    seen = []
    every = pool.every
    monkeypatch.setattr(pool, "every", lambda maps, boxes: seen.append(maps is features) or every(maps, boxes))
    fast, plain = pool(features, found), pool.plain(features, found)
    assert seen == [count == 3, True]
    assert torch.allclose(fast, plain, rtol=1e-4, atol=1e-5)
    weight = torch.randn(fast.shape)
    wanted = [*features, *pool.parameters()]
    for a, b in zip(*(torch.autograd.grad((x * weight).sum(), wanted) for x in (fast, plain)), strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def test_counts():
    assert counts(torch.tensor([2, 0, 2, 2]), 4) == [1, 0, 3, 0]
    assert counts(torch.zeros(0, dtype=torch.int64), 2) == [0, 0]
