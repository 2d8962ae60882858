"""RoIAlign as weighted sums of a map's rows, for CPUs: each output cell is a bag of the pixels that its samples lie between.

The same samples and weights as torchvision's ``roi_align`` (Mask R-CNN, section 3), whose kernel walks every channel by
itself, and whose gradient one thread adds up; a row of channels is contiguous here.

R RoIs, C channels, S cells a side, n samples a side of a cell.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def roi_align(
    features: Float[Tensor, "b c h w"], rois: Float[Tensor, "r 5"], scale: float, size: int, samples: int, aligned: bool
) -> Float[Tensor, "r c s s"]:
    """``torchvision.ops.roi_align`` in float32 with a fixed number of samples, in channels-last memory.

    rois: (image, x0, y0, x1, y1) in pixels, of which ``scale`` makes the map's.  No gradient to the boxes.
    """
    height, width = features.shape[2:]
    boxes = rois[:, 1:].detach()
    columns, across = _taps(boxes[:, 0], boxes[:, 2], scale, size, samples, width, aligned)
    rows, down = _taps(boxes[:, 1], boxes[:, 3], scale, size, samples, height, aligned)
    first = rois[:, 0].long()[:, None, None] * height + rows  # the row of all images' rows
    index = (first * width)[:, :, None, :, None] + columns[:, None, :, None, :]  # (R, S, S, 2n, 2n)
    weight = down[:, :, None, :, None] * across[:, None, :, None, :]
    table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    cells = F.embedding_bag(
        index.flatten(3).flatten(0, 2), table, per_sample_weights=weight.flatten(3).flatten(0, 2), mode="sum"
    )
    return cells.view(len(rois), size, size, features.shape[1]).permute(0, 3, 1, 2)


def _taps(
    low: Tensor, high: Tensor, scale: float, size: int, samples: int, limit: int, aligned: bool
) -> tuple[Int[Tensor, "r s m"], Float[Tensor, "r s m"]]:
    """Along one axis: the two pixels around each sample of each cell, and their weights in the cell's mean.  m = 2n"""
    begin = low * scale - 0.5 * aligned
    length = high * scale - 0.5 * aligned - begin
    cell = (length if aligned else length.clamp(min=1)) / size
    steps = torch.arange(samples, device=low.device) + 0.5
    cells = torch.arange(size, device=low.device)[:, None]
    place = begin[:, None, None] + cells * cell[:, None, None] + steps * cell[:, None, None] / samples  # (R, S, n)
    seen = (place >= -1) & (place <= limit)
    place = place.clamp(0, limit - 1)
    below = place.floor()
    part = place - below
    above = (below + 1).clamp(max=limit - 1)
    weights = torch.stack((1 - part, part), 3) * seen[..., None] / samples
    return torch.stack((below, above), 3).long().flatten(2), weights.flatten(2)
