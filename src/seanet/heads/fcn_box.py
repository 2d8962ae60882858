"""The fully convolutional box head with its B-IoU branch (section 3.1 of the paper).

R RoIs, K classes, S cells a side (7), P positive cells.  Cells are counted row by row, 0 .. S*S - 1.
"Row n" is row n of the table of gaps in docs/paper.md.
"""

from collections.abc import Sequence
from math import gcd, log
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from seanet import config
from seanet.boxes import boxes_around, cell_points, distances, legacy_cell_points, ltrb_iou
from seanet.errors import ConfigError
from seanet.heads import Candidates, Floor, mean, over_processes
from seanet.types import Matched, Rois, Target

PRIOR = 0.01  # probability of every class at the start (focal loss)
FIRST = (
    200  # RoIs of an image that are localised before any is left out for its place: about 100 detections come of them
)
WIDEST = 8.0  # exp() of more is no box of any image


class Positives(NamedTuple):
    """Cells that learn a class and a box."""

    roi: Int[Tensor, " p"]
    cell: Int[Tensor, " p"]
    label: Int[Tensor, " p"]  # 1..K
    ltrb: Float[Tensor, "p 4"]  # pixels from the cell's point to the sides of its ground truth


class Localised(NamedTuple):
    """What the regression and the B-IoU tower say of each cell."""

    log_ltrb: Float[Tensor, "r 4 s2"]  # before to_pixels
    iou_logit: Float[Tensor, "r s2"] | None  # before its activation; None without that branch


class FullyConvBoxHead(nn.Module):
    """Figure 2a: three towers that keep the RoI's cells; one box a RoI, that of its best cell by class score x B-IoU."""

    def __init__(self, settings: config.FcnBox, classes: int, channels: int):
        super().__init__()
        if settings.iou_loss == "cross_entropy" and settings.iou_activation == "clamp":
            raise ConfigError("box.iou_loss=cross_entropy trains logits: set box.iou_activation=sigmoid too")
        self.settings, self.size = settings, settings.size
        self.class_tower = tower(channels, channels, settings.convs)
        self.box_tower = tower(channels, channels, settings.convs)
        self.class_logits = predictor(channels, classes, bias=-log((1 - PRIOR) / PRIOR))
        self.log_ltrb = predictor(channels, 4)
        if settings.iou_weight:
            self.iou_tower = tower(2 * channels, channels, settings.convs)
            self.iou = predictor(channels, 1)

    def forward(
        self, crops: Float[Tensor, "r c s s"]
    ) -> tuple[Float[Tensor, "r k s2"], Float[Tensor, "r 4 s2"], Float[Tensor, "r s2"] | None]:
        """-> class logits, logarithms of (l, t, r, b), B-IoU before its activation where there is that branch."""
        return self.classify(crops), *self.localise(crops)

    def classify(self, crops: Float[Tensor, "r c s s"]) -> Float[Tensor, "r k s2"]:
        return self.class_logits(self.class_tower(crops)).flatten(2).float()

    def localise(self, crops: Float[Tensor, "r c s s"]) -> Localised:
        box = self.box_tower(crops)
        log_ltrb = self.log_ltrb(box).flatten(2).float()
        if not self.settings.iou_weight:
            return Localised(log_ltrb, None)
        return Localised(log_ltrb, self.iou(self.iou_tower(torch.cat((crops, box), 1))).flatten(1).float())

    def loss(self, crops: Tensor, rois: Rois, matched: Matched, targets: list[Target]) -> dict[str, Tensor]:
        return self.learn(crops, rois, matched, targets)[0]

    def loss_and_boxes(
        self, crops: Tensor, rois: Rois, matched: Matched, targets: list[Target]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "r 4"]]:
        """``loss`` and the boxes of ``refine``; each tower sees each RoI once, with a graph where the loss needs it."""
        losses, logits, used, localised = self.learn(crops, rois, matched, targets)
        with torch.no_grad():
            probability, boxes = logits.sigmoid(), torch.empty_like(rois.boxes)
            unused = torch.ones_like(rois.image).index_fill(0, used, 0).nonzero().flatten()
            for rows, found in ((used, localised), (unused, self.localise(crops[unused]))):
                boxes[rows] = self.best(found, rois[rows], probability[rows]).boxes[:, 0]
        return losses, boxes

    def learn(
        self, crops: Tensor, rois: Rois, matched: Matched, targets: list[Target]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "r k s2"], Int[Tensor, " u"], Localised]:
        """-> losses, class logits, the RoIs with positive cells and what those are localised as.

        The regression and B-IoU towers see no other RoI: none enters their loss.
        """
        logits = self.classify(crops)
        positive = self.assign(rois, matched, targets)
        used, row = positive.roi.unique_consecutive(return_inverse=True)
        localised = self.localise(crops[used])
        return self.terms(logits, localised, row, positive, rois), logits, used, localised

    def terms(
        self,
        logits: Float[Tensor, "r k s2"],
        localised: Localised,
        row: Int[Tensor, " p"],
        positive: Positives,
        rois: Rois,
    ) -> dict[str, Tensor]:
        """The three of equation 4; ``row`` says where in ``localised`` the RoI of each positive cell is."""
        ltrb = self.to_pixels(localised.log_ltrb[row, :, positive.cell], rois.boxes[positive.roi])
        iou, giou = ltrb_iou(ltrb, positive.ltrb)
        count = class_count = over_processes(len(positive.roi), logits)
        if self.settings.normaliser == "positives_and_rois":
            class_count = count + over_processes(len(rois), logits)
        one_hot = torch.zeros_like(logits)
        one_hot[positive.roi, positive.label - 1, positive.cell] = 1
        classification = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2, reduction="sum")
        losses = {
            "box_class": self.settings.class_weight * classification / class_count,
            "box_regression": self.settings.regression_weight * self.regression_loss(giou).sum() / count,
        }
        if localised.iou_logit is not None:
            iou_loss = self.iou_loss(localised.iou_logit[row, positive.cell], iou, giou)
            losses["box_iou"] = self.settings.iou_weight * iou_loss.sum() / count
        return losses

    def decode(
        self, crops: Tensor, rois: Rois, threshold: float, earlier: Sequence[Tensor] = (), floor: Floor | None = None
    ) -> Candidates:
        """One box for each RoI, and the scores of the cell it comes from.

        B-IoU is at most 1, so class scores bound the final ones: the other two towers run where those can exceed the
        threshold, and with ``floor`` on the likeliest RoIs first, then on those alone that its scores leave a chance.
        """
        probability = mean([*(p[:, :, None] for p in earlier), self.classify(crops).sigmoid()])  # (R, K, S*S)
        most = self.score(probability, torch.ones_like(probability)).amax((1, 2))
        able = torch.nonzero(most > threshold).flatten()

        def found(rows: Tensor) -> Candidates:
            return self.best(self.localise(crops[rows]), rois[rows], probability[rows])

        if floor is None or len(able) <= FIRST:
            return found(able)
        rows, rest = likeliest(able, rois.image, most)
        candidates = found(rows)
        while (chance := most[rest] > floor(candidates)[rois.image[rest]]).any():
            candidates = Candidates.cat((candidates, found(rest[chance])))
            rest = rest[~chance]
        return candidates

    @torch.no_grad()
    def refine(self, crops: Tensor, rois: Rois) -> tuple[Float[Tensor, "r 4"], Float[Tensor, "r k"]]:
        """The box of each RoI's best cell, and the probabilities there."""
        found = self.best(self.localise(crops), rois, self.classify(crops).sigmoid())
        return found.boxes[:, 0], found.cls_scores

    def best(self, localised: Localised, rois: Rois, probability: Float[Tensor, "r k s2"]) -> Candidates:
        """The best cell of each RoI, given where its cells see the object and their class probabilities."""
        log_ltrb, iou_logit = localised
        iou = torch.ones_like(probability[:, 0]) if iou_logit is None else self.activate(iou_logit)
        scores = self.score(probability, iou[:, None])
        cell = self.best_cell(probability, scores)
        rows = torch.arange(len(cell), device=cell.device)
        boxes = boxes_around(self.points(rois.boxes)[rows, cell], self.to_pixels(log_ltrb[rows, :, cell], rois.boxes))
        ious = None if iou_logit is None else iou[rows, cell]
        return Candidates(rois.image, boxes[:, None], scores[rows, :, cell], probability[rows, :, cell], ious)

    def activate(self, iou_logit: Tensor) -> Tensor:
        return iou_logit.sigmoid() if self.settings.iou_activation == "sigmoid" else iou_logit.clamp(0, 1)

    def score(self, probability: Tensor, iou: Tensor) -> Tensor:
        if not self.settings.iou_weight:
            return probability
        if self.settings.iou_power is None:
            return probability * iou
        return probability ** (1 - self.settings.iou_power) * iou**self.settings.iou_power

    def best_cell(self, probability: Float[Tensor, "r k s2"], scores: Float[Tensor, "r k s2"]) -> Int[Tensor, " r"]:
        if self.settings.cell == "product":  # row 8
            return scores.amax(1).argmax(1)
        label = probability.amax(2).argmax(1)
        return scores[torch.arange(len(label), device=label.device), label].argmax(1)

    def points(self, boxes: Float[Tensor, "r 4"]) -> Float[Tensor, "r s2 2"]:
        make = cell_points if self.settings.points == "continuous" else legacy_cell_points  # row 3
        return make(boxes, self.size)

    def to_pixels(self, log_ltrb: Float[Tensor, "p 4"], boxes: Float[Tensor, "p 4"]) -> Float[Tensor, "p 4"]:
        ltrb = log_ltrb.clamp(max=WIDEST).exp()
        if self.settings.regression == "pixels":  # row 2
            return ltrb
        return ltrb * ((boxes[:, 2:] - boxes[:, :2]) / 2).repeat(1, 2)

    @torch.no_grad()
    def assign(self, rois: Rois, matched: Matched, targets: list[Target]) -> Positives:
        """Row 4: the cells of labelled RoIs whose point lies inside the RoI's ground truth, or of all RoIs inside any."""
        points = self.points(rois.boxes)
        if self.settings.positives == "any":
            labels, boxes = smallest_around(points, rois.image, targets)
        else:
            labels = matched.labels[:, None].expand(points.shape[:2])
            boxes = matched.boxes[:, None].expand(*points.shape[:2], 4)
        ltrb = distances(points, boxes)
        roi, cell = torch.nonzero((ltrb.amin(2) > 0) & (labels > 0), as_tuple=True)
        return Positives(roi, cell, labels[roi, cell], ltrb[roi, cell])

    def regression_loss(self, giou: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Equation 5."""
        if self.settings.giou_clamp == "plain":  # row 5
            return -((giou.clamp(min=1e-6) + 1) / 2).log()
        return -((giou + 1) / 2).clamp(min=1e-7).log()

    def iou_loss(self, logit: Float[Tensor, " p"], iou: Float[Tensor, " p"], giou: Float[Tensor, " p"]) -> Tensor:
        target = {"giou": giou, "iou": iou, "clamped_giou": giou.clamp(1e-6, 1)}[self.settings.iou_target]  # row 6
        target = target.detach() if self.settings.iou_detached else target
        if self.settings.iou_loss == "squared":  # row 7
            return F.mse_loss(logit, target, reduction="none")
        return F.binary_cross_entropy_with_logits(logit, target.clamp(0, 1), reduction="none")


def tower(channels: int, width: int, convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(convs):
        conv = nn.Conv2d(width if i else channels, width, 3, padding=1, bias=False)
        layers += [conv, nn.GroupNorm(gcd(32, width), width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def predictor(channels: int, outputs: int, bias: float = 0.0) -> nn.Conv2d:
    conv = nn.Conv2d(channels, outputs, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, bias)
    return conv


def likeliest(rows: Int[Tensor, " n"], image: Int[Tensor, " r"], score: Float[Tensor, " r"]) -> tuple[Tensor, Tensor]:
    """-> the ``FIRST`` of each image's ``rows`` by score; the other rows."""
    rows = rows[score[rows].argsort(descending=True)]
    rows = rows[image[rows].argsort(stable=True)]
    rank = torch.arange(len(rows), device=rows.device) - torch.searchsorted(image[rows], image[rows])
    return rows[rank < FIRST], rows[rank >= FIRST]


def smallest_around(
    points: Float[Tensor, "r s2 2"], image: Int[Tensor, " r"], targets: list[Target]
) -> tuple[Int[Tensor, "r s2"], Float[Tensor, "r s2 4"]]:
    """Label (0: none) and box of the smallest ground truth around each point."""
    labels = torch.zeros(points.shape[:2], dtype=torch.int64, device=points.device)
    boxes = points.repeat(1, 1, 2)
    for i, target in enumerate(targets):
        rows = torch.nonzero(image == i).flatten()
        if len(target.boxes) == 0:
            continue
        every = target.boxes.expand(len(rows), points.shape[1], -1, 4)  # (r, S*S, G, 4)
        inside = distances(points[rows, :, None].expand(*every.shape[:3], 2), every).amin(3) > 0
        sides = target.boxes[:, 2:] - target.boxes[:, :2]
        area, best = torch.where(inside, sides.prod(1), torch.inf).min(2)
        labels[rows] = torch.where(area < torch.inf, target.labels[best], 0)
        boxes[rows] = target.boxes[best]
    return labels, boxes
