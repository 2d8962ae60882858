"""What PyTorch does slowly on CPUs, done otherwise: the same numbers but for rounding, with the same gradients."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seanet.cpu.gathering import roi_align
from seanet.cpu.winograd import conv3x3

NARROWEST = 96  # channels from which a convolution's matrix products outweigh the transforms of its tiles
FEWEST = 1024  # outputs of a channel from which they outweigh the transform of the weights


class Substitutes(TorchFunctionMode):
    """Inside this context float32 convolutions of 3 x 3 and RoIAlign on CPUs run in their quicker forms."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and _is_plain_3x3(*args, **(kwargs or {})):
            return conv3x3(*args[:3])
        if func is torch.ops.torchvision.roi_align and _is_sampled(*args):
            features, rois, scale, size, _, samples, aligned = args
            return roi_align(features, rois, scale, size, samples, aligned)
        return func(*args, **(kwargs or {}))


def _is_plain_3x3(
    x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, *rest: Any, **_: Any
) -> bool:
    dilation, groups = (*rest, *(1, 1)[len(rest) :])
    one = (1, (1, 1))
    return (
        weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= NARROWEST
        and (stride in one and padding in one and dilation in one and groups == 1)
        and x.shape[0] * x.shape[2] * x.shape[3] >= FEWEST
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def _is_sampled(
    features: Tensor, rois: Tensor, scale: float, height: int, width: int, samples: int, aligned: bool
) -> bool:
    return samples > 0 and height == width and features.device.type == "cpu" and features.dtype == torch.float32
