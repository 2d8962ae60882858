"""The MaskIoU head of Mask Scoring R-CNN (Huang et al. 2019): how well does a predicted mask fit its object?

R RoIs, K classes, C channels, S cells a side of the crop (14), M = 2 S cells a side of the mask.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seanet import config
from seanet.heads import over_processes


class MaskIouHead(nn.Module):
    """Convolutions over the RoI's crop and its mask, the last of stride 2; two linear layers; an IoU for each class."""

    def __init__(self, settings: config.MaskIou, classes: int, channels: int, size: int):
        super().__init__()
        self.settings = settings
        layers: list[nn.Module] = []
        for i in range(settings.convs):
            stride = 2 if i == settings.convs - 1 else 1
            layers += [nn.Conv2d(channels + (i == 0), channels, 3, stride, 1), nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        cells = ((size + 1) // 2) ** 2
        self.fcs = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * cells, settings.width),
            nn.ReLU(),
            nn.Linear(settings.width, settings.width),
            nn.ReLU(),
        )
        self.iou = nn.Linear(settings.width, classes)
        for layer in self.convs:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.iou.weight, std=0.01)
        nn.init.zeros_(self.iou.bias)

    def forward(self, crops: Float[Tensor, "r c s s"], probability: Float[Tensor, "r m m"]) -> Float[Tensor, "r k"]:
        """-> IoU of the mask for each class, unbounded."""
        pooled = F.max_pool2d(probability[:, None].to(crops), 2)
        return self.iou(self.fcs(self.convs(torch.cat((crops, pooled), 1)))).float()

    def loss(
        self, crops: Tensor, probability: Tensor, labels: Int[Tensor, " r"], wanted: Float[Tensor, " r"]
    ) -> dict[str, Tensor]:
        """Squared error on the RoI's own class.  ``wanted`` is the true IoU of each mask; masks get no gradient from it."""
        found = self.of_class(crops, probability, labels)
        error = F.mse_loss(found, wanted, reduction="sum")
        return {"mask_iou": self.settings.weight * error / over_processes(len(wanted), error)}

    def predict(self, crops: Tensor, probability: Tensor, labels: Int[Tensor, " r"]) -> Float[Tensor, " r"]:
        """The IoU expected of each mask, 0..1."""
        return self.of_class(crops, probability, labels).clamp(0, 1)

    def of_class(self, crops: Tensor, probability: Tensor, labels: Int[Tensor, " r"]) -> Float[Tensor, " r"]:
        return self(crops, probability).gather(1, labels[:, None] - 1)[:, 0]
