"""The paper's plain forms in prediction: what the exact rewrites of the heads and the pooling are equal to.

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
from seanet.types import Rois


def make_plain(detector: Detector) -> None:
    """From now on this detector predicts by the plain forms."""
    for head in detector.box_heads:
        if isinstance(head, FullyConvBoxHead):
            head.decode = partial(decode, head)
    for pool in (detector.box_pool, detector.mask_pool):
        if isinstance(pool, FusedPool):
            pool.forward = pool.plain
    head = detector.mask_head
    if isinstance(head, EdgeAttentionMaskHead):
        head.probability = partial(probability, head)
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


def probability(
    head: EdgeAttentionMaskHead, crops: Tensor, labels: Tensor, edges: bool = False
) -> tuple[Tensor, Tensor | None]:
    logits, edge = head(crops)
    channel = labels if head.settings.background_channel else labels - 1
    return of_class(logits, channel).sigmoid(), None if edge is None or not edges else edge.sigmoid()
