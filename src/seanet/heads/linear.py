"""Two convolutions with nothing between them are one: the same numbers for fewer multiplications and less memory.

The weights' product is made at every call, for the price of about one RoI, and gradients go through it.
R rows, I, H and O channels that come in, stand between and go out.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seanet.heads import of_class


class Pair(nn.Sequential):
    """A convolution, what stands between, a 1 x 1 convolution.  ``forward`` is the plain form, the other methods equal it."""

    def __init__(self, first: nn.Conv2d, between: type[nn.Module], second: nn.Conv2d):
        super().__init__(first, between(), second)
        self.linear, self.padding = between is nn.Identity, first.padding

    def collapsed(self, x: Float[Tensor, "r i y x"]) -> Float[Tensor, "r o y x"]:
        """One convolution where nothing stands between."""
        return F.conv2d(x, *self.product(), padding=self.padding) if self.linear else self(x)

    def channel(self, x: Float[Tensor, "r i y x"], channel: Int[Tensor, " r"]) -> Float[Tensor, "r y x"]:
        """One channel for each row, of a pair that are both 1 x 1: the others are not computed where nothing stands between."""
        if not self.linear:
            return of_class(self(x), channel)
        weight, bias = self.product()
        return torch.einsum("ri,riyx->ryx", weight.flatten(1)[channel], x) + bias[channel, None, None]

    def product(self) -> tuple[Float[Tensor, "o i n n"], Float[Tensor, " o"]]:
        """Weight and bias of the one convolution that a linear pair is."""
        first, _, second = self
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        assert first.bias is not None
        rows = second.weight.flatten(1)
        weight = (rows @ first.weight.flatten(1)).unflatten(1, first.weight.shape[1:])
        return weight, F.linear(first.bias, rows, second.bias)
