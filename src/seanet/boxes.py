"""Geometry of boxes seen from the cells of a RoI.  R RoIs, S cells a side, M any number of boxes."""

import torch
from jaxtyping import Float
from torch import Tensor


def cell_points(boxes: Float[Tensor, "r 4"], size: int) -> Float[Tensor, "r s2 2"]:
    """Equation 1: the point (x, y) of each cell of a RoI, row by row, in the frame and unit of ``boxes``."""
    step = (torch.arange(size, device=boxes.device, dtype=boxes.dtype) + 0.5) / size
    corner, side = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    grid = torch.stack((step.repeat(size), step.repeat_interleave(size)), 1)  # (S*S, 2)
    return corner + side * grid


def legacy_cell_points(boxes: Float[Tensor, "r 4"], size: int) -> Float[Tensor, "r s2 2"]:
    """The authors' points: whole pixels, of boxes whose last pixel counts (row 3)."""
    return cell_points(torch.cat((boxes[:, :2], boxes[:, 2:] + 1), 1), size).floor()


def distances(points: Float[Tensor, "*n 2"], boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """(l, t, r, b) from each point to the sides of its box; all positive where the point is inside."""
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), -1)


def boxes_around(points: Float[Tensor, "*n 2"], ltrb: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """The inverse of ``distances``."""
    return torch.cat((points - ltrb[..., :2], points + ltrb[..., 2:]), -1)


def ltrb_iou(a: Float[Tensor, "m 4"], b: Float[Tensor, "m 4"]) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """IoU and GIoU (Rezatofighi et al. 2019) of boxes given as distances from a point that both contain."""
    inner, hull = _area(torch.minimum(a, b)), _area(torch.maximum(a, b))
    union = _area(a) + _area(b) - inner
    iou = inner / union
    return iou, iou - (hull - union) / hull


def _area(ltrb: Tensor) -> Tensor:
    return (ltrb[:, 0] + ltrb[:, 2]) * (ltrb[:, 1] + ltrb[:, 3])
