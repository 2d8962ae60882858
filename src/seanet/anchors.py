"""torchvision's region proposal network, whose anchors meet the objects of an image a few at a time.  A anchors, G objects.

An image of 800 x 1216 has 243,000 anchors: their overlaps with 60 objects, all at once, need half a gigabyte for a moment.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

PAIRS = 2**21  # of an anchor and an object, looked at together


class SeededSampler(BalancedPositiveNegativeSampler):
    """Which anchors of an image are drawn depends on its seed alone, not on the images beside it."""

    seeds: Sequence[int] = ()

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        drawn = [self._draw(labels, seed) for labels, seed in zip(matched_idxs, self.seeds, strict=True)]
        return [positive for positive, _ in drawn], [negative for _, negative in drawn]

    def _draw(self, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        (positive,), (negative,) = super().__call__([labels])
        return positive, negative


class FrugalRpn(RegionProposalNetwork):
    """The same labels; where they are 1, the same boxes; and what is drawn of an image depends on its seed alone."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        settings = self.fg_bg_sampler
        self.fg_bg_sampler = self.sampler = SeededSampler(settings.batch_size_per_image, settings.positive_fraction)

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list | None = None, seeds: Sequence[int] = ()
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """As torchvision's, with a seed for each image that has a target."""
        self.sampler.seeds = seeds
        return super().forward(images, features, targets)

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        high, low = self.proposal_matcher.high_threshold, self.proposal_matcher.low_threshold
        found = [assign(a, t["boxes"], high, low) for a, t in zip(anchors, targets, strict=True)]
        return [labels for labels, _ in found], [boxes for _, boxes in found]


def assign(
    anchors: Float[Tensor, "a 4"], boxes: Float[Tensor, "g 4"], high: float, low: float
) -> tuple[Float[Tensor, " a"], Float[Tensor, "a 4"]]:
    """Of each anchor: 1 if it has an object, 0 if it is background, -1 if it is neither; and its best object's box.

    It has one from an IoU of ``high`` on, or if no anchor overlaps some object more; below ``low`` it is background.
    Without objects all are background.
    """
    best, index = anchors.new_zeros(len(anchors)), anchors.new_zeros(len(anchors), dtype=torch.int64)
    foremost = torch.zeros_like(best, dtype=torch.bool)
    for first, part in _parts(boxes, max(PAIRS // max(len(anchors), 1), 1)):
        iou = _iou(part, anchors)
        value, row = iou.max(0)
        index = torch.where(value > best, row + first, index)
        best = torch.maximum(best, value)
        foremost |= (iou == iou.amax(1, keepdim=True)).any(0)
    labels = torch.where((best >= high) | foremost, 1.0, torch.where(best < low, 0.0, -1.0))
    return labels, boxes[index] if len(boxes) else torch.zeros_like(anchors)


def _parts(boxes: Tensor, size: int) -> list[tuple[int, Tensor]]:
    return [(first, boxes[first : first + size]) for first in range(0, len(boxes), size)]


def _iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(G, A), to the bit what torchvision's ``box_iou`` gives, without its pairs of corners."""
    x0, y0, x1, y1 = anchors.T.contiguous()
    left, top, right, bottom = boxes.T[..., None]
    shared = (torch.minimum(right, x1) - torch.maximum(left, x0)).clamp_(min=0)
    shared *= (torch.minimum(bottom, y1) - torch.maximum(top, y0)).clamp_(min=0)
    return shared / ((right - left) * (bottom - top) + (x1 - x0) * (y1 - y0) - shared)
