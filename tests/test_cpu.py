"""The quicker forms of operations on CPUs: values and gradients of torch's and torchvision's own."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import roi_align

from seanet import cpu
from seanet.cpu import gathering, winograd
from seanet.cpu.winograd import chunks, conv3x3

LAST = torch.channels_last


def close(found: Tensor, wanted: Tensor, share: float = 1e-4) -> bool:
    """Differences are small against the largest value."""
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).abs().max()) <= share * float(wanted.abs().max())


def gradients(y: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(y, of, torch.randn(y.shape))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 19),
    st.integers(1, 19),
    st.sampled_from([1, 3, 128]),
)
def test_convolution_and_its_gradients(n, c, k, height, width, tiles):
    torch.manual_seed(0)
    x, w, b = (torch.randn(s, requires_grad=True) for s in ((n, c, height, width), (k, c, 3, 3), (k,)))
    before, winograd.TILES = winograd.TILES, tiles
    try:
        found = conv3x3(x, w, b)
        slopes = gradients(found, x, w, b)
    finally:
        winograd.TILES = before
    wanted = F.conv2d(x, w, b, padding=1)
    assert close(found, wanted)
    assert found.is_contiguous(memory_format=LAST)
    assert all(close(a, b) for a, b in zip(slopes, gradients(wanted, x, w, b), strict=True))


def test_convolution_of_nothing():
    x, w = torch.zeros(0, 4, 7, 7, requires_grad=True), torch.randn(5, 4, 3, 3, requires_grad=True)
    y = conv3x3(x, w)
    assert y.shape == (0, 5, 7, 7)
    y.sum().backward()
    assert w.grad is not None
    assert not w.grad.any()


def test_a_flat_image_stays_exact():
    """All of the kernel's taps inside: each output is the sum of the weights."""
    w = torch.full((1, 1, 3, 3), 0.125)
    assert torch.allclose(conv3x3(torch.ones(1, 1, 9, 9), w)[0, 0, 1:-1, 1:-1], torch.tensor(1.125))


def test_chunks_cover_each_tile_once():
    for images, height, width, tiles in ((5, 7, 7, 8), (2, 30, 30, 10), (1, 4, 100, 3)):
        for threads in (1, 2, 3):
            seen = torch.zeros(images, -(-height // 4), dtype=torch.int64)
            for chunk in chunks(images, height, width, tiles, threads):
                seen[chunk.images, chunk.top // 4 : chunk.top // 4 + chunk.rows] += 1
            assert (seen == 1).all()


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "samples", "channels"), [(7, 2, 3), (14, 2, 1), (3, 1, 4), (2, 4, 2)])
def test_roi_align_and_its_gradient(aligned, size, samples, channels):
    torch.manual_seed(0)
    maps = torch.randn(2, channels, 20, 31, requires_grad=True)
    corner = torch.rand(40, 2) * 300 - 60  # some begin or end outside
    rois = torch.cat((torch.randint(2, (40, 1)).float(), corner, corner + torch.rand(40, 2) * 200), 1)
    rois[0, 3:] = rois[0, 1:3]  # of no extent
    found = gathering.roi_align(maps, rois, 1 / 8, size, samples, aligned)
    wanted = roi_align(maps, rois, size, 1 / 8, samples, aligned)
    assert close(found, wanted, 1e-5)
    assert close(gradients(found, maps)[0], gradients(wanted, maps)[0], 1e-5)


def test_roi_align_of_nothing():
    maps = torch.randn(1, 3, 8, 8, requires_grad=True)
    found = gathering.roi_align(maps, torch.zeros(0, 5), 1, 7, 2, True)
    assert found.shape == (0, 3, 7, 7)
    found.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()


def calls(monkeypatch) -> list[str]:
    """The names of the quick forms as they are used."""
    used: list[str] = []

    def watched(name: str, function):
        def call(*args):
            used.append(name)
            return function(*args)

        return call

    for name in ("conv3x3", "roi_align"):
        monkeypatch.setattr(cpu, name, watched(name, getattr(cpu, name)))
    return used


def test_substitutes_stand_in_where_they_pay(monkeypatch):
    used = calls(monkeypatch)
    x, conv = torch.randn(1, 96, 32, 32), torch.nn.Conv2d(96, 96, 3, padding=1)
    rois = torch.tensor([[0, 1.0, 2, 20, 30]])
    wanted = conv(x), roi_align(x, rois, 7, 1.0, 2, True)
    with cpu.Substitutes():
        found = conv(x), roi_align(x, rois, 7, 1.0, 2, True)
    assert used == ["conv3x3", "roi_align"]
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))
    conv(x)
    assert len(used) == 2


@pytest.mark.parametrize(
    ("x", "options"),
    [
        ((1, 96, 32, 32), {"stride": 2}),
        ((1, 96, 32, 32), {"padding": 0}),
        ((1, 96, 32, 32), {"padding": 2, "dilation": 2}),
        ((1, 96, 32, 32), {"padding": "same"}),
        ((1, 192, 32, 32), {"groups": 2}),
        ((1, 32, 32, 32), {}),
        ((1, 96, 8, 8), {}),
        ((1, 96, 32, 32), {"kernel_size": 1, "padding": 0}),
    ],
)
def test_other_convolutions_stay(monkeypatch, x, options):
    used = calls(monkeypatch)
    conv = torch.nn.Conv2d(x[1], 96, **{"kernel_size": 3, "padding": 1} | options)
    with cpu.Substitutes():
        found = conv(torch.ones(x))
    assert not used
    assert torch.equal(found, conv(torch.ones(x)))


def test_halves_and_adaptive_samples_stay(monkeypatch):
    used = calls(monkeypatch)
    x, conv = torch.randn(1, 96, 32, 32), torch.nn.Conv2d(96, 96, 3, padding=1)
    with cpu.Substitutes(), torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    with cpu.Substitutes():
        roi_align(x, torch.tensor([[0, 1.0, 2, 20, 30]]), 7, 1.0, -1, True)
    assert not used


def test_threads_share_the_chunks():
    """The same, with any number of them; that number stays."""
    x, w = torch.randn(70, 4, 13, 9, requires_grad=True), torch.randn(5, 4, 3, 3, requires_grad=True)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = conv3x3(x, w)
            found.append((y, *gradients(y, x, w)))
            with ThreadPoolExecutor(1) as new:
                assert new.submit(torch.get_num_threads).result() == torch.get_num_threads() == threads
            with torch.inference_mode():
                assert close(conv3x3(x, w), y, 1e-5)
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(close(a, b, 1e-5) for a, b in zip(found[0], other, strict=True))
