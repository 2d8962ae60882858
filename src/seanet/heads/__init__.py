"""Heads: what turns the crop of a RoI into classes, boxes and masks.

A box head has ``size``, ``forward(crops)``, ``loss(crops, rois, matched, targets)`` and ``decode(crops, rois, threshold)``.
A mask head has ``size``, ``context``, ``forward(crops)``, ``loss(crops, labels, targets)`` and
``probability(crops, labels, edges)``.  ``forward`` is the paper's plain form; the others run only what they need of it.
"""

from dataclasses import dataclass

from torch import Tensor

from seanet import config


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes with a score for each class, before suppression; RoIs that could not survive are left out."""

    image: Tensor  # (R,) int64
    boxes: Tensor  # (R, K, 4), or (R, 1, 4) where all classes share a box
    scores: Tensor  # (R, K)
    cls_scores: Tensor  # (R, K)
    box_ious: Tensor | None = None  # (R,)


def build_box_head(settings: config.BoxHead, classes: int, channels: int):
    from seanet.heads.classic import ClassicBoxHead
    from seanet.heads.fcn_box import FullyConvBoxHead

    match settings:
        case config.ClassicBox():
            return ClassicBoxHead(settings, classes, channels)
        case config.FcnBox():
            return FullyConvBoxHead(settings, classes, channels)


def build_mask_head(settings: config.MaskHead, classes: int, channels: int):
    from seanet.heads.classic import ClassicMaskHead
    from seanet.heads.edge_mask import EdgeAttentionMaskHead

    match settings:
        case config.ClassicMask():
            return ClassicMaskHead(settings, classes, channels)
        case config.EdgeMask():
            return EdgeAttentionMaskHead(settings, classes, channels)
