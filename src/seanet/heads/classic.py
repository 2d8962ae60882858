"""The heads of Mask R-CNN, the baseline of every comparison.  Parameter names are torchvision's.

R RoIs, K classes (torchvision's layers have K + 1 rows, the first for the background), M = 2 size mask cells a side.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from seanet import config
from seanet.heads import Candidates, Floor, mean, of_class, over_processes
from seanet.types import Matched, Rois, Target


class ClassicBoxHead(nn.Module):
    """Two fully connected layers, one softmax over the classes, one box for each class (Fast R-CNN)."""

    def __init__(self, settings: config.ClassicBox, classes: int, channels: int):
        super().__init__()
        self.size, self.class_agnostic = settings.size, settings.class_agnostic
        self.box_head = TwoMLPHead(channels * settings.size**2, settings.width)
        self.box_predictor = FastRCNNPredictor(settings.width, classes + 1)
        if settings.class_agnostic:
            self.box_predictor.bbox_pred = nn.Linear(settings.width, 4)
        centre, side = settings.delta_weights
        self.coder = BoxCoder((centre, centre, side, side))

    def forward(self, crops: Float[Tensor, "r c s s"]) -> tuple[Float[Tensor, "r k1"], Float[Tensor, "r k4"]]:
        """-> class logits, box deltas of each class or of all together."""
        logits, deltas = self.box_predictor(self.box_head(crops))
        return logits.float(), deltas.float()

    def loss(self, crops: Tensor, rois: Rois, matched: Matched, targets: list[Target]) -> dict[str, Tensor]:
        return self.loss_of(*self(crops), rois, matched)

    def loss_and_boxes(
        self, crops: Tensor, rois: Rois, matched: Matched, targets: list[Target]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "r 4"]]:
        """``loss`` and the boxes of ``refine`` from one pass."""
        logits, deltas = self(crops)
        return self.loss_of(logits, deltas, rois, matched), self.likeliest(logits.detach(), deltas.detach(), rois)[0]

    def loss_of(self, logits: Tensor, deltas: Tensor, rois: Rois, matched: Matched) -> dict[str, Tensor]:
        positive = torch.nonzero(matched.labels).flatten()
        column = torch.zeros_like(positive) if self.class_agnostic else matched.labels[positive]
        deltas = deltas.unflatten(1, (-1, 4))[positive, column]
        wanted = self.coder.encode_single(matched.boxes[positive], rois.boxes[positive])
        count = over_processes(len(logits), logits)
        return {
            "box_class": F.cross_entropy(logits, matched.labels, reduction="sum") / count,
            "box_regression": F.smooth_l1_loss(deltas, wanted, beta=1 / 9, reduction="sum") / count,
        }

    def decode(
        self, crops: Tensor, rois: Rois, threshold: float, earlier: Sequence[Tensor] = (), floor: Floor | None = None
    ) -> Candidates:
        boxes, probability = self.boxes(*self(crops), rois)
        probability = mean([*earlier, probability])
        return Candidates(rois.image, boxes if self.class_agnostic else boxes[:, 1:], probability, probability)

    @torch.no_grad()
    def refine(self, crops: Tensor, rois: Rois) -> tuple[Float[Tensor, "r 4"], Float[Tensor, "r k"]]:
        """A better box for each RoI, that of its likeliest class, and the classes' probabilities."""
        return self.likeliest(*self(crops), rois)

    def likeliest(
        self, logits: Tensor, deltas: Tensor, rois: Rois
    ) -> tuple[Float[Tensor, "r 4"], Float[Tensor, "r k"]]:
        boxes, probability = self.boxes(logits, deltas, rois)
        label = probability.argmax(1) + 1 if boxes.shape[1] > 1 else torch.zeros_like(rois.image)
        return boxes[torch.arange(len(label), device=label.device), label], probability

    def boxes(self, logits: Tensor, deltas: Tensor, rois: Rois) -> tuple[Float[Tensor, "r k1 4"], Float[Tensor, "r k"]]:
        boxes = self.coder.decode_single(deltas, rois.boxes).unflatten(1, (-1, 4))
        return boxes, logits.softmax(1)[:, 1:]


class ClassicMaskHead(nn.Module):
    """Convolutions, one deconvolution, a mask for each class."""

    context = 0

    def __init__(self, settings: config.ClassicMask, classes: int, channels: int):
        super().__init__()
        self.size, self.target = settings.size, settings.target
        self.mask_head = MaskRCNNHeads(channels, (channels,) * settings.convs, 1)
        self.mask_predictor = MaskRCNNPredictor(channels, channels, classes + 1)

    def forward(self, crops: Float[Tensor, "r c s s"]) -> Float[Tensor, "r k1 m m"]:
        """-> mask logits."""
        return self.mask_predictor(self.mask_head(crops)).float()

    def loss(
        self, crops: Tensor, labels: Int[Tensor, " r"], targets: Float[Tensor, "r m m"]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "r m m"]]:
        """-> losses, probability of the masks.  targets: share of each cell that the object covers."""
        logits = of_class(self(crops), labels)
        wanted = targets if self.target == "soft" else (targets >= 0.5).to(targets)
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / over_processes(
            wanted.numel(), logits
        )
        return {"mask": loss}, logits.detach().sigmoid()

    def probability(
        self, crops: Tensor, labels: Int[Tensor, " r"], edges: bool = False
    ) -> tuple[Float[Tensor, "r m m"], None]:
        """Masks of the given classes; this head knows no edges."""
        return of_class(self(crops), labels).sigmoid(), None
