"""Heads: what turns the crop of a RoI into classes, boxes and masks.

A box head has ``size``, ``forward(crops)``, ``loss(crops, rois, matched, targets)`` and
``decode(crops, rois, threshold, earlier, floor)``, where ``earlier`` are the class probabilities (R, K) of the stages before.
For the next stage of a cascade it has ``refine(crops, rois)``, in training ``loss_and_boxes(crops, rois, matched, targets)``.
A mask head has ``size``, ``context``, ``forward(crops)``, ``loss(crops, labels, targets)`` and
``probability(crops, labels, edges)``.  ``forward`` is the paper's plain form; the others run only what they need of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seanet import config
from seanet.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes with a score for each class, before suppression; RoIs that could not survive are left out."""

    image: Tensor  # (R,) int64
    boxes: Tensor  # (R, K, 4), or (R, 1, 4) where all classes share a box
    scores: Tensor  # (R, K)
    cls_scores: Tensor  # (R, K)
    box_ious: Tensor | None = None  # (R,)

    @classmethod
    def cat(cls, parts: Sequence[Candidates]) -> Candidates:
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        return cls(**{name: torch.cat(column) for name, column in columns.items() if column[0] is not None})


Floor = Callable[[Candidates], Tensor]
"""Scores (B,) that candidates of an image, beside those given, have to exceed to be detected."""


def mean(parts: Sequence[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0]) / len(parts)


def over_processes(count: int, like: Tensor) -> Tensor | int:
    """What each of several processes divides its sums by, for all to learn what one would from the whole batch: its part of
    their ``count`` together, which is at least 1."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return max(count, 1)
    total = like.new_tensor(float(count))
    torch.distributed.all_reduce(total)
    return total.clamp(min=1) / torch.distributed.get_world_size()


def of_class(logits: Float[Tensor, "r k m m"], channel: Int[Tensor, " r"]) -> Float[Tensor, "r m m"]:
    return logits[torch.arange(len(channel), device=channel.device), channel]


def build_box_head(settings: config.BoxHead, classes: int, channels: int):
    from seanet.heads.classic import ClassicBoxHead
    from seanet.heads.fcn_box import FullyConvBoxHead

    match settings:
        case config.ClassicBox():
            return ClassicBoxHead(settings, classes, channels)
        case config.FcnBox():
            return FullyConvBoxHead(settings, classes, channels)


def build_box_heads(settings: config.Config, classes: int, channels: int) -> list:
    """One for each stage; stages of a cascade differ in the scale of the classic head's deltas."""
    further = len(settings.cascade.ious)
    for name in ("weights", "sharpness"):
        if len(getattr(settings.cascade, name)) < further:
            raise ConfigError(f"cascade.{name} needs a value for each of the {further} stages of cascade.ious")
    stages = [settings.box]
    for factor in settings.cascade.sharpness[:further]:
        stage = settings.box
        if isinstance(stage, config.ClassicBox):
            centre, side = stage.delta_weights
            stage = replace(stage, delta_weights=(centre * factor, side * factor))
        stages.append(stage)
    return [build_box_head(stage, classes, channels) for stage in stages]


def build_mask_head(settings: config.MaskHead, classes: int, channels: int):
    from seanet.heads.classic import ClassicMaskHead
    from seanet.heads.edge_mask import EdgeAttentionMaskHead

    match settings:
        case config.ClassicMask():
            return ClassicMaskHead(settings, classes, channels)
        case config.EdgeMask():
            return EdgeAttentionMaskHead(settings, classes, channels)


def build_scoring(settings: config.Scoring, classes: int, channels: int, size: int):
    """The head that scores masks of crops of ``size`` cells a side, or None."""
    from seanet.heads.scoring import MaskIouHead

    match settings:
        case config.MaskIou():
            return MaskIouHead(settings, classes, channels, size)
        case config.Unscored():
            return None
