"""The mask head with channel attention and supervised edge attention (section 3.2 of the paper).

R RoIs, K classes, C channels, S cells a side of the crop (14), M = 2 S cells a side of the mask.
"Row n" is row n of the table of gaps in docs/paper.md.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seanet import config
from seanet.heads import over_processes
from seanet.heads.linear import Pair
from seanet.masks import inner_edges


class EdgeAttentionMaskHead(nn.Module):
    """Figure 2b: the edge path is learned from edges and added to the mask path before the mask is predicted."""

    def __init__(self, settings: config.EdgeMask, classes: int, channels: int):
        super().__init__()
        self.settings, self.size, self.context = settings, settings.size, int(settings.edge_context)
        between = nn.Identity if settings.activation == "linear" else nn.ReLU  # row 14
        outputs = classes + settings.background_channel  # row 15
        joined, none = channels * (2 if settings.design == "concat" else 1), nn.Identity()
        self.mask_tower, self.edge_tower = tower(channels, settings.convs), tower(channels, settings.convs)
        self.channel = ChannelAttention(channels, settings.reduction, between) if settings.channel_attention else none
        self.position = PositionAttention(channels) if settings.position_attention else none
        self.fuse = Pair(nn.Conv2d(2 * channels, channels, 1), between, nn.Conv2d(channels, channels, 1))
        self.mask_up = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.edge_up = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.mask = Pair(nn.Conv2d(joined, channels, 1), between, nn.Conv2d(channels, outputs, 1))
        if settings.edge_weight:
            self.edge = Pair(nn.Conv2d(channels, channels, 3, padding=1), between, nn.Conv2d(channels, 1, 1))
        for layer in (*self.mask_tower, *self.edge_tower, self.mask_up, self.edge_up):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(
        self, crops: Float[Tensor, "r c s s"]
    ) -> tuple[Float[Tensor, "r k m m"], Float[Tensor, "r m m"] | None]:
        """The plain form: -> mask logits, edge logits where edges are supervised."""
        features, edge = self.paths(crops, self.fuse)
        return self.mask(features).float(), self.edge(edge)[:, 0].float() if self.settings.edge_weight else None

    def of_labels(
        self, crops: Float[Tensor, "r c s s"], labels: Int[Tensor, " r"], edges: bool
    ) -> tuple[Float[Tensor, "r m m"], Float[Tensor, "r m m"] | None]:
        """``forward`` with fewer operations: mask logits of each RoI's own class, edge logits if asked for and supervised."""
        features, edge = self.paths(crops, self.fuse.collapsed)
        masks = self.mask.channel(features, labels if self.settings.background_channel else labels - 1)
        return masks.float(), self.edge.collapsed(edge)[:, 0].float() if edges and self.settings.edge_weight else None

    def paths(
        self, crops: Float[Tensor, "r c s s"], fuse: Callable[[Tensor], Tensor]
    ) -> tuple[Float[Tensor, "r j m m"], Float[Tensor, "r c m m"]]:
        """-> features that masks, and features that edges are predicted from.

        ``fuse`` stays apart from the deconvolution after it, though both are linear: one map from 2 C channels to the 4 C of
        a cell's four quarters would cost more than the two.
        """
        edge = F.relu_(self.edge_up(self.edge_tower(self.position(crops))))
        mask = F.relu_(self.mask_up(fuse(torch.cat((self.mask_tower(crops), self.channel(crops)), 1))))
        return (mask + edge if self.settings.design == "sum" else torch.cat((mask, edge), 1)), edge

    def loss(
        self, crops: Tensor, labels: Int[Tensor, " r"], targets: Float[Tensor, "r n n"]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "r m m"]]:
        """Equation 6: -> losses, probability of the masks.

        targets: share of each cell that the object covers, with ``context`` cells around the mask's.
        """
        logits, edge_logits = self.of_labels(crops, labels, edges=True)
        hard = targets >= 0.5
        wanted = targets if self.settings.target == "soft" else hard.to(targets)  # row 12
        wanted = wanted[:, 1:-1, 1:-1] if self.context else wanted
        count = over_processes(wanted.numel(), logits)
        mask_loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / count
        losses = {"mask": self.settings.mask_weight * mask_loss}
        if edge_logits is not None:
            edges = inner_edges(hard if self.context else F.pad(hard, (1, 1, 1, 1)))  # row 10
            edge_loss = F.binary_cross_entropy_with_logits(
                edge_logits, edges.to(edge_logits), self.edge_weights(edges), reduction="sum"
            )
            losses["edge"] = self.settings.edge_weight * edge_loss / count
        return losses, logits.detach().sigmoid()

    def probability(
        self, crops: Tensor, labels: Int[Tensor, " r"], edges: bool = False
    ) -> tuple[Float[Tensor, "r m m"], Float[Tensor, "r m m"] | None]:
        """Masks of the given classes, and their edges if asked for."""
        masks, edge = self.of_labels(crops, labels, edges)
        return masks.sigmoid(), None if edge is None else edge.sigmoid()

    def edge_weights(self, edges: Tensor) -> Float[Tensor, "r m m"]:
        """Equation 2 for each RoI: edges are few, and weigh 1 / ln(1.2 + their share)."""
        share = edges.float().mean((1, 2), keepdim=True)
        fixed = self.settings.edge_positive_weight  # row 11
        weight = torch.full_like(share, fixed) if fixed else 1 / torch.log(1.2 + share)
        return torch.where(edges, weight, 1.0)


class ChannelAttention(nn.Module):
    """Figure 3a: squeeze and excitation after two 5 x 5 convolutions without padding (14 -> 10 -> 6 cells)."""

    def __init__(self, channels: int, reduction: int, between: type[nn.Module]):
        super().__init__()
        self.context = nn.Sequential(nn.Conv2d(channels, channels, 5), between(), nn.Conv2d(channels, channels, 5))
        self.linear = between is nn.Identity
        narrow = max(channels // reduction, 1)
        self.gate = nn.Sequential(
            nn.Linear(channels, narrow, bias=False),
            nn.ReLU(),
            nn.Linear(narrow, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, crops: Float[Tensor, "r c s s"]) -> Float[Tensor, "r c s s"]:
        pooled = self.squeeze(crops) if self.linear else self.context(crops).mean((2, 3))
        return crops * self.gate(pooled)[:, :, None, None]

    def squeeze(self, crops: Float[Tensor, "r c s s"]) -> Float[Tensor, "r c"]:
        """``context(crops).mean((2, 3))``: linear maps commute, so the mean comes first, over the cells that each tap sees.

        One convolution of 9 x 9 instead of the two would take an eighth, but 280 RoIs would not pay for making its weight.
        """
        return self.context(F.avg_pool2d(crops, crops.shape[-1] - 8, 1)).flatten(1)


class PositionAttention(nn.Module):
    """Figure 3b: self-attention over the cells of one RoI (DANet); ``gamma`` = 0 makes it start as the identity."""

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        narrow = max(channels // reduction, 1)
        self.query = nn.Conv2d(channels, narrow, 1)
        self.key = nn.Conv2d(channels, narrow, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, crops: Float[Tensor, "r c s s"]) -> Float[Tensor, "r c s s"]:
        value = self.value(crops).float()
        # Scores are not scaled and reach 80 in trained models: softmax would turn the rounding of halves into factors.
        kind = crops.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            query, key = self.query(crops.float()), self.key(crops.float())
            query, key, value = (m.flatten(2).transpose(1, 2) for m in (query, key, value))
            out = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (R, S*S, C)
        return crops + self.gamma * out.transpose(1, 2).reshape(crops.shape)


def tower(channels: int, convs: int) -> nn.Sequential:
    layers = (
        layer for _ in range(convs) for layer in (nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True))
    )
    return nn.Sequential(*layers)
