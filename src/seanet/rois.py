"""RoIs: matched to ground truth, sampled, pooled from the pyramid (FPN, equation 1).  R RoIs, C channels, S cells a side."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import box_iou, roi_align

from seanet import config
from seanet.heads.linear import Pair
from seanet.types import Matched, Rois, Target

STRIDES = (4, 8, 16, 32)


@torch.no_grad()
def match_and_sample(
    proposals: list[Tensor], targets: list[Target], settings: config.Sampling, seeds: Sequence[int]
) -> tuple[Rois, Matched]:
    """Ground truth joins the proposals; at most ``settings.rois`` of each image come back, with what they match.

    Which ones depends on the image's seed alone, not on the images beside it: so it is the same in any process.
    """
    rois, matched, first = [], [], 0
    for proposal, target, seed in zip(proposals, targets, seeds, strict=True):
        torch.manual_seed(seed)
        proposal = torch.cat((proposal, target.boxes))
        match = match_boxes(proposal, target, settings.iou, first)
        keep = sample(match.labels, settings.rois, settings.positive_share)
        rois.append(proposal[keep])
        matched.append(match[keep])
        first += len(target.boxes)
    return Rois.cat(rois), Matched.cat(matched)


@torch.no_grad()
def match(rois: Rois, targets: list[Target], iou: float) -> Matched:
    """What RoIs that are already chosen match, in their order; those of an image stand together."""
    matched, first = [], 0
    for boxes, target in zip(rois.boxes.split(counts(rois.image, len(targets))), targets, strict=True):
        matched.append(match_boxes(boxes, target, iou, first))
        first += len(target.boxes)
    return Matched.cat(matched)


def match_boxes(boxes: Float[Tensor, "p 4"], target: Target, iou: float, first: int) -> Matched:
    """The ground truth with the largest overlap for each box of an image; ``first`` is the image's first row of the batch's."""
    if len(target.boxes) == 0:
        none = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return Matched(none, boxes, none)
    overlap, row = box_iou(target.boxes, boxes).max(0)
    return Matched(torch.where(overlap >= iou, target.labels[row], 0), target.boxes[row], row + first)


def sample(labels: Int[Tensor, " p"], size: int, positive_share: float) -> Int[Tensor, " s"]:
    """Random rows: at most ``size * positive_share`` with a label, then background up to ``size``."""
    positive = torch.nonzero(labels > 0).flatten()
    negative = torch.nonzero(labels == 0).flatten()
    positive = positive[torch.randperm(len(positive), device=labels.device)[: int(size * positive_share)]]
    negative = negative[torch.randperm(len(negative), device=labels.device)[: size - len(positive)]]
    return torch.cat((positive, negative))


class Align(nn.Module):
    """RoIAlign with the settings of a pool."""

    def __init__(self, settings: config.Pool, size: int, aligned: bool):
        super().__init__()
        self.size, self.samples, self.aligned = size, settings.samples or -1, aligned

    def align(self, feature: Float[Tensor, "b c y x"], boxes: Float[Tensor, "r 5"], stride: int) -> Tensor:
        return roi_align(feature, boxes, self.size, 1 / stride, self.samples, self.aligned)


class NearestPool(Align):
    """RoIAlign from the one level that fits the RoI's size."""

    def __init__(self, settings: config.Pool, size: int, aligned: bool):
        super().__init__(settings, size, aligned)
        self.canonical_scale = settings.canonical_scale

    def forward(self, features: list[Tensor], rois: Rois) -> Float[Tensor, "r c s s"]:
        """features: 4 x (B, C, H_i, W_i), finest first."""
        boxes, level = indexed(rois), levels(rois.boxes, self.canonical_scale)
        order = level.argsort(stable=True)
        parts = boxes[order].split(counts(level, len(STRIDES)))
        crops = torch.cat(
            [
                self.align(feature, part, stride)
                for feature, stride, part in zip(features, STRIDES, parts, strict=True)
                if len(part) or not len(boxes)
            ]
        )
        return crops[order.argsort()]


class FusedPool(Align):
    """RoIAlign from every level, then two 1 x 1 convolutions: the authors' code, not their paper (row 1)."""

    def __init__(self, settings: config.Pool, size: int, aligned: bool, channels: int):
        super().__init__(settings, size, aligned)
        self.fuse = Pair(nn.Conv2d(len(STRIDES) * channels, channels, 1), nn.Identity, nn.Conv2d(channels, channels, 1))

    def forward(self, features: list[Tensor], rois: Rois) -> Float[Tensor, "r c s s"]:
        """features: 4 x (B, C, H_i, W_i), finest first.

        ``plain`` with fewer operations: RoIAlign is linear, so the convolutions may come first, each level with its share of
        their weights.  Their bias may not: RoIAlign reads zeros outside of an image.
        """
        boxes, (weight, bias) = indexed(rois), self.fuse.product()
        cells = sum(len(feature) * feature.shape[2] * feature.shape[3] for feature in features)
        if cells >= len(STRIDES) * len(boxes) * self.size**2:
            return F.conv2d(torch.cat(self.every(features, boxes), 1), weight, bias)
        mapped = [F.conv2d(*pair) for pair in zip(features, weight.chunk(len(STRIDES), 1), strict=True)]
        return sum(self.every(mapped, boxes), bias.to(mapped[0].dtype)[:, None, None])

    def plain(self, features: list[Tensor], rois: Rois) -> Float[Tensor, "r c s s"]:
        return self.fuse(torch.cat(self.every(features, indexed(rois)), 1))

    def every(self, features: list[Tensor], boxes: Float[Tensor, "r 5"]) -> list[Tensor]:
        return [self.align(feature, boxes, stride) for feature, stride in zip(features, STRIDES, strict=True)]


def counts(index: Int[Tensor, " r"], groups: int) -> list[int]:
    """How many of ``index`` are 0, 1, ...: the host waits for the device once."""
    return (index[:, None] == torch.arange(groups, device=index.device)).sum(0).tolist()


def indexed(rois: Rois) -> Float[Tensor, "r 5"]:
    return torch.cat((rois.image[:, None].to(rois.boxes), rois.boxes), 1)


def levels(boxes: Float[Tensor, "r 4"], canonical_scale: float) -> Int[Tensor, " r"]:
    """0..3: a RoI of ``canonical_scale`` pixels a side belongs to stride 16; each halving goes one level finer."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return torch.floor(4 + torch.log2(side / canonical_scale) + 1e-6).clamp(2, 5).long() - 2


def build_pool(settings: config.Pool, size: int, aligned: bool, channels: int) -> NearestPool | FusedPool:
    if settings.kind == "fused":
        return FusedPool(settings, size, aligned, channels)
    return NearestPool(settings, size, aligned)
