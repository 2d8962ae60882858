"""Cutting the targets of RoIs from packed masks.  G ground truths, R RoIs, M cells a side.  Boxes: see types.py."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import roi_align

from seanet.types import PackedMasks


def crop_masks(
    masks: PackedMasks,
    index: Int[Tensor, " r"],
    boxes: Float[Tensor, "r 4"],
    frames: Int[Tensor, "r 2"],
    size: int,
    context: int = 0,
) -> Float[Tensor, "r n n"]:
    """The share of each cell of a RoI that its object covers, in 0..1, with ``context`` more cells on every side.

    Exact: what RoIAlign (aligned) tends to with more and more samples, for four look-ups a cell.  ``index`` says which
    mask belongs to a RoI; ``frames`` are (height, width) of the RoIs' images.  A cell that crosses the image's frame
    counts its visible part, one beyond it repeats its neighbour: the frame is no edge of the object.
    """
    window = masks.windows[index].to(boxes)
    x = _cell_edges(boxes[:, 0], boxes[:, 2], frames[:, 1], size, context)  # (R, n + 1)
    y = _cell_edges(boxes[:, 1], boxes[:, 3], frames[:, 0], size, context)
    cover = _covered(masks, index, x - window[:, 0:1], y - window[:, 1:2])
    area = (y.diff()[:, :, None] * x.diff()[:, None, :]).clamp(min=1e-12)
    share = (cover / area).clamp(0, 1)
    return _repeat_into_empty(_repeat_into_empty(share, x.diff(), 2), y.diff(), 1) if context else share


def _cell_edges(low: Tensor, high: Tensor, limit: Tensor, size: int, context: int) -> Tensor:
    """Where the cells of a RoI begin and end along one axis, inside 0..limit.  (R, size + 2 context + 1)"""
    step = torch.arange(-context, size + context + 1, device=low.device, dtype=low.dtype) / size
    edges = low[:, None] + (high - low)[:, None] * step
    return torch.minimum(edges.clamp(min=0), limit[:, None].to(edges))


def _covered(masks: PackedMasks, index: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Area of the object between consecutive corners, which are in the frame of its window.  (R, n, n)"""
    low_x, part_x = _taps(x, masks.windows[index, 2] - masks.windows[index, 0])
    low_y, part_y = _taps(y, masks.windows[index, 3] - masks.windows[index, 1])
    width = (masks.windows[index, 2] - masks.windows[index, 0] + 1)[:, None, None]
    sums = masks.tables[masks.starts[index][:, None, None] + low_y[:, :, None] * width + low_x[:, None, :]]
    # Counted from the RoI's first corner, in integers: float32 could not tell small cells of a large object apart.
    sums = sums - sums[:, :1] - sums[:, :, :1] + sums[:, :1, :1]
    sums = _between(sums.to(x.dtype), part_x, 2)
    sums = _between(sums, part_y, 1)
    return sums.diff(dim=1).diff(dim=2)


def _taps(edges: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """The whole positions on both sides of each edge, (R, 2(n+1)), and how far the edge is between them, (R, n+1)."""
    edges = torch.minimum(edges.clamp(min=0), side[:, None].to(edges))
    low = edges.floor()
    high = torch.minimum(low + 1, side[:, None].to(edges))
    return torch.stack((low, high), 2).flatten(1).long(), edges - low


def _between(sums: Tensor, part: Tensor, dim: int) -> Tensor:
    low, high = sums.unflatten(dim, (-1, 2)).unbind(dim + 1)
    return torch.lerp(low, high, part[:, None, :] if dim == 2 else part[:, :, None])


def _repeat_into_empty(share: Tensor, sides: Tensor, dim: int) -> Tensor:
    """The outermost cells, where they have no side inside the image, take their inner neighbour's value."""
    empty = (sides <= 1e-6)[:, None, :] if dim == 2 else (sides <= 1e-6)[:, :, None]
    n = share.shape[dim]
    order = torch.arange(n, device=share.device).clamp(1, n - 2)
    return torch.where(empty, share.index_select(dim, order), share)


def predicted_iou(
    probability: Float[Tensor, "r m m"],
    share: Float[Tensor, "r m m"],
    boxes: Float[Tensor, "r 4"],
    areas: Int[Tensor, " r"],
) -> Float[Tensor, " r"]:
    """IoU of predicted masks, cut at one half, with their whole objects, which may reach past the RoI.

    ``share`` of each cell is the object's; ``areas`` are the objects' pixels, which bound what a mask can cover: shares
    in rounded or shifted RoIs (rows 12 and 13) may add up to more.
    """
    bits = (probability >= 0.5).to(share)
    cell = (boxes[:, 2:] - boxes[:, :2]).prod(1) / (share.shape[1] * share.shape[2])
    both = torch.minimum((bits * share).sum((1, 2)) * cell, areas.to(cell))
    return both / (bits.sum((1, 2)) * cell + areas - both).clamp(min=1e-6)


def crop_masks_legacy(
    masks: PackedMasks, index: Int[Tensor, " r"], boxes: Float[Tensor, "r 4"], frames: Int[Tensor, "r 2"], size: int
) -> Float[Tensor, "r n n"]:
    """torchvision's targets: RoIAlign with its half-pixel shift, from each object's window grown by one pixel."""
    crops = boxes.new_zeros(len(boxes), size, size)
    for object_index in index.unique().tolist():
        rows = torch.nonzero(index == object_index).flatten()
        bits, left, top = _grown_window(masks, object_index, frames[rows[0]].tolist())
        local = boxes[rows] - boxes.new_tensor([left, top, left, top])
        crops[rows] = roi_align(bits[None, None].to(boxes), [local], size, 1.0)[:, 0]
    return crops


def window_bits(masks: PackedMasks, i: int) -> Int[Tensor, "h w"]:
    """Pixels of mask ``i`` inside its window, 0 or 1."""
    left, top, right, bottom = masks.windows[i].tolist()
    height, width = bottom - top + 1, right - left + 1
    start = int(masks.starts[i])
    return masks.tables[start : start + height * width].view(height, width).diff(dim=0).diff(dim=1)


def _grown_window(masks: PackedMasks, i: int, frame: list[int]) -> tuple[Tensor, int, int]:
    """A margin of zeros, except at the image's frame: then RoIAlign sees what it would see in the whole image."""
    left, top, right, bottom = masks.windows[i].tolist()
    grow = [int(left > 0), int(right < frame[1]), int(top > 0), int(bottom < frame[0])]
    return torch.nn.functional.pad(window_bits(masks, i), grow), left - grow[0], top - grow[2]


def inner_edges(masks: Tensor) -> Tensor:
    """Object cells with a background 4-neighbour; the outermost ring is context and is cut off.  (R, n+2, n+2) -> (R, n, n)"""
    inside = masks[:, :-2, 1:-1] & masks[:, 2:, 1:-1] & masks[:, 1:-1, :-2] & masks[:, 1:-1, 2:]
    return masks[:, 1:-1, 1:-1] & ~inside
