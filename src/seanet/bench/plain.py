"""The paper's plain forms: what the exact rewrites of the heads and the pooling are equal to.

Every tower of the box head sees all RoIs, the mask head computes all classes and the edges, no convolutions are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from seanet.detector import Detector
from seanet.heads import Candidates, Floor, mean, of_class
from seanet.heads.edge_mask import ChannelAttention, EdgeAttentionMaskHead
from seanet.heads.fcn_box import FullyConvBoxHead, Localised
from seanet.rois import FusedPool
from seanet.types import Matched, Rois, Target


def make_plain(detector: Detector) -> None:
    """From now on this detector predicts, and learns where it is no cascade, by the plain forms."""
    for head in detector.box_heads:
        if isinstance(head, FullyConvBoxHead):
            head.decode, head.loss = partial(decode, head), partial(loss, head)
    for pool in (detector.box_pool, detector.mask_pool):
        if isinstance(pool, FusedPool):
            pool.forward = pool.plain
    head = detector.mask_head
    if isinstance(head, EdgeAttentionMaskHead):
        head.of_labels = partial(of_labels, head)
        if isinstance(head.channel, ChannelAttention):
            head.channel.linear = False


def decode(
    head: FullyConvBoxHead,
    crops: Tensor,
    rois: Rois,
    threshold: float,
    earlier: Sequence[Tensor] = (),
    floor: Floor | None = None,
) -> Candidates:
    """All RoIs, whatever their scores: suppression looks at threshold and number again."""
    logits, *localised = head(crops)
    return head.best(Localised(*localised), rois, mean([*(p[:, :, None] for p in earlier), logits.sigmoid()]))


def loss(
    head: FullyConvBoxHead, crops: Tensor, rois: Rois, matched: Matched, targets: list[Target]
) -> dict[str, Tensor]:
    """Of towers that see all RoIs, though two of the three terms are of positive cells alone."""
    (logits, *localised), positive = head(crops), head.assign(rois, matched, targets)
    return head.terms(logits, Localised(*localised), positive.roi, positive, rois)


def of_labels(head: EdgeAttentionMaskHead, crops: Tensor, labels: Tensor, edges: bool) -> tuple[Tensor, Tensor | None]:
    logits, edge = head(crops)
    return of_class(logits, labels if head.settings.background_channel else labels - 1), edge if edges else None
