"""3 x 3 convolutions with 2.25 products an output instead of 9, for CPUs: Winograd's minimal filtering F(4 x 4, 3 x 3).

A map is cut into tiles of 4 x 4 outputs, each of 6 x 6 inputs with the tile's neighbours.  With the matrices of Lavin and
Gray (2016): outputs = A' [ (G w G') * (B' x B) ] A, where * is a product for each of the 36 frequencies and so a matrix
product over channels.  An identity but for rounding, about 1e-5 of the largest output in float32: not for halves.

N images, C channels in, K out, T tiles of a chunk.  Maps in channels-last memory cost no copy.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SIDE, WINDOW = 4, 6
TILES = 64  # of a chunk: its 36 x 64 x 256 floats stay near the processor, and matrix products are still large
B = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
A = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

T = TypeVar("T")


def conv3x3(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "k c 3 3"], bias: Float[Tensor, " k"] | None = None
) -> Float[Tensor, "n k h w"]:
    """``F.conv2d(x, weight, bias, padding=1)`` in float32 on a CPU, with gradients, in channels-last memory."""
    return _Convolution.apply(x, weight, bias)


class _Convolution(torch.autograd.Function):
    """Gradients by the same means: that of the input is such a convolution, that of the weights a product per frequency."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight), wanted = gradients, ctx.saved_tensors, ctx.needs_input_grad
        return (
            _convolve(gradient, weight.flip(2, 3).transpose(0, 1)) if wanted[0] else None,
            _weight_gradient(x, gradient) if wanted[1] else None,
            gradient.sum((0, 2, 3)) if wanted[2] else None,
        )


class Chunk(NamedTuple):
    images: slice
    top: int  # first row of outputs
    rows: int  # of tiles


def chunks(images: int, height: int, width: int, tiles: int, threads: int) -> list[Chunk]:
    """As many for each thread, of about ``tiles`` tiles or less: images together, or rows of tiles of one image."""
    down, across = -(-height // SIDE), -(-width // SIDE)
    pieces = threads * -(-images * down * across // (tiles * threads))
    together, rows = max(1, -(-images // max(pieces, 1))), max(1, -(-down * images // max(pieces, images, 1)))
    return [
        Chunk(slice(first, min(first + together, images)), row * SIDE, min(rows, down - row))
        for first in range(0, images, together)
        for row in range(0, down, rows)
    ]


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    n, _, height, width = x.shape
    k, across, filters = len(weight), -(-width // SIDE), _to_filters(weight)
    y = torch.empty((n, k, height, width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    pixels, outputs = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)

    def work(own: list[Chunk]) -> None:
        spaces = Spaces(x)
        for chunk in own:
            t = spaces.transformed(pixels, chunk)
            product = spaces.take("first", 36, t.shape[1], k)
            torch.bmm(t, filters, out=product)
            tiles = spaces.take("second", 16, t.shape[1] * k)
            torch.mm(_matrix("A"), product.view(36, -1), out=tiles)
            if bias is not None:
                tiles.view(-1, k).add_(bias)
            part = outputs[chunk.images, chunk.top : chunk.top + SIDE * chunk.rows]
            whole = spaces.take("first", len(part), chunk.rows, SIDE, across, SIDE, k)
            whole.copy_(tiles.view(SIDE, SIDE, len(part), chunk.rows, across, k).permute(2, 3, 0, 4, 1, 5))
            part.copy_(whole.view(len(part), SIDE * chunk.rows, SIDE * across, k)[:, : part.shape[1], :width])

    shared(work, n, height, width, TILES)
    return y


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    n, c, height, width = x.shape
    k, across = gradient.shape[1], -(-width // SIDE)
    pixels, slopes = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)

    def work(own: list[Chunk]) -> Tensor:
        spaces, total = Spaces(x), x.new_zeros(36, c, k)
        for chunk in own:
            t = spaces.transformed(pixels, chunk)
            part = slopes[chunk.images, chunk.top : chunk.top + SIDE * chunk.rows]
            part = F.pad(part, (0, 0, 0, across * SIDE - width, 0, SIDE * chunk.rows - part.shape[1]))
            tiles = spaces.take("slopes", SIDE, SIDE, len(part), chunk.rows, across, k)
            tiles.copy_(part.view(len(part), chunk.rows, SIDE, across, SIDE, k).permute(2, 4, 0, 1, 3, 5))
            product = spaces.take("first", 36, t.shape[1] * k)
            torch.mm(_matrix("A").T, tiles.view(16, -1), out=product)
            total.baddbmm_(t.transpose(1, 2), product.view(36, -1, k))
        return total

    total = torch.stack(shared(work, n, height, width, 4 * TILES)).sum(0)
    return (_matrix("G").T @ total.view(36, -1)).view(3, 3, c, k).permute(3, 2, 0, 1)


def shared(work: Callable[[list[Chunk]], T], images: int, height: int, width: int, tiles: int) -> list[T]:
    """What ``work`` gives for the chunks of each of torch's threads.

    Threads that went through a chunk together would wait for each other after each of its steps, and long where other
    programs want the processor too: ten times as long as they work, on two cores that loaders of images share.
    """
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()
    every = chunks(images, height, width, tiles, threads)
    if len(every) < 2 or threads < 2:
        return [work(every)]

    def alone(own: list[Chunk]) -> T:
        with torch.inference_mode(inference), torch.no_grad():
            return work(own)

    return list(_threads(threads).map(alone, [every[i::threads] for i in range(threads)]))


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Each computes by itself."""
    pool, ready = ThreadPoolExecutor(count, "convolution", torch.set_num_threads, (1,)), Barrier(count)
    list(pool.map(lambda _: ready.wait(), range(count)))  # so all of them have begun
    torch.set_num_threads(count)  # threads that begin later take over what was set last
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of them


def _to_filters(weight: Tensor) -> Float[Tensor, "36 c k"]:
    k, c = weight.shape[:2]
    return (_matrix("G") @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(36, c, k)


class Spaces:
    """Memory that the chunks of one call share: asking the system anew for each costs more than the arithmetic.

    The steps of a chunk alternate between the ``first`` space and the ``second``.
    """

    def __init__(self, like: Tensor):
        self.like, self.parts = like, dict[str, Tensor]()

    def take(self, name: str, *shape: int) -> Tensor:
        size = torch.Size(shape).numel()
        if name not in self.parts or self.parts[name].numel() < size:
            self.parts[name] = self.like.new_empty(size)
        return self.parts[name][:size].view(shape)

    def transformed(self, pixels: Float[Tensor, "n h w c"], chunk: Chunk) -> Float[Tensor, "36 t c"]:
        """The tiles of a chunk as frequencies."""
        part = pixels[chunk.images]
        count, height, width, c = part.shape
        across = -(-width // SIDE)
        padded = self.take("padded", count, SIDE * chunk.rows + 2, across * SIDE + 2, c)
        low, high = max(chunk.top - 1, 0), min(chunk.top + SIDE * chunk.rows + 1, height)
        first, last = low - chunk.top + 1, high - chunk.top + 1
        padded[:, :first].zero_()
        padded[:, last:].zero_()
        padded[:, :, 0].zero_()
        padded[:, :, width + 1 :].zero_()
        padded[:, first:last, 1 : width + 1].copy_(part[:, low:high])
        s = padded.stride()
        windows = padded.as_strided(
            (WINDOW, WINDOW, count, chunk.rows, across, c), (s[1], s[2], s[0], SIDE * s[1], SIDE * s[2], 1)
        )
        tiles = self.take("first", *windows.shape)
        tiles.copy_(windows)
        transformed = self.take("second", 36, tiles[0, 0].numel())
        torch.mm(_matrix("B"), tiles.view(36, -1), out=transformed)
        return transformed.view(36, -1, c)


@cache
def _matrix(name: str) -> Tensor:
    """A matrix applied along both sides of a tile, as one: (36, 36), (36, 9), (16, 36)."""
    one = torch.tensor({"A": A, "B": B, "G": G}[name], dtype=torch.float32)
    return torch.kron(one, one)
