"""The two-stage detector: features -> proposals -> boxes -> masks.  The heads are passed in; nothing here knows SEANet.

B images, R RoIs, K classes, N detections, M mask cells a side.  Coordinates are those of the network's image throughout.
"""

import contextlib
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms, clip_boxes_to_image

from seanet import config
from seanet.backbone import build_backbone, normalise
from seanet.heads import Candidates, build_box_head, build_mask_head
from seanet.masks import crop_masks, crop_masks_legacy
from seanet.rois import build_pool, match_and_sample
from seanet.types import Batch, Detections, PackedMasks, Rois, Target

PARTS = ("backbone", "fpn", "rpn", "pool", "box_head", "mask_head")


class Detector(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, settings: config.Config, classes: int):
        super().__init__()
        self.settings, self.classes = settings, classes
        aligned, channels = settings.geometry == "aligned", settings.backbone.channels
        self.backbone = build_backbone(settings.backbone)
        self.rpn = build_rpn(settings.rpn, channels)
        self.box_pool = build_pool(settings.pool, settings.box.size, aligned, channels)
        self.mask_pool = build_pool(settings.pool, settings.mask.size, aligned, channels)
        self.box_head = build_box_head(settings.box, classes, channels)
        self.mask_head = build_mask_head(settings.mask, classes, channels)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses, already weighted; their sum is what to minimise.  Random draws depend on ``batch.seed`` alone."""
        with seeded(batch.seed, batch.images.device):
            features, proposals, losses = self.propose(batch)
            rois, matched = match_and_sample(proposals, truth(batch), self.settings.sampling)
        losses |= self.box_head.loss(self.box_pool(features, rois), rois, matched, truth(batch))
        positive = torch.nonzero(matched.labels).flatten()
        rois, matched = rois[positive], matched[positive]
        targets = self.mask_targets(batch, rois, matched.index)
        return losses | self.mask_head.loss(self.mask_pool(features, rois), matched.labels, targets)

    @torch.no_grad()
    def predict(self, batch: Batch, edges: bool = False) -> Detections:
        """Boxes, scores and masks inside the boxes; with ``edges``, their edges too where the mask head knows them."""
        features, proposals, _ = self.propose(batch)
        rois = Rois.cat(proposals)
        candidates = self.box_head.decode(self.box_pool(features, rois), rois, self.settings.detections.score)
        found = suppress(candidates, batch.sizes, self.settings.detections)
        crops = self.mask_pool(features, found.rois)
        masks, edge = self.mask_head.probability(crops, found.labels, edges)
        return Detections(found.rois, found.labels, found.scores, found.cls_scores, found.box_ious, masks, edge)

    def propose(self, batch: Batch) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Four feature maps, proposals of each image (P_i, 4), the losses of the RPN."""
        images = normalise(batch.images, batch.sizes, self.mean, self.std)
        features = self.backbone(images)
        precise = OrderedDict((name, feature.float()) for name, feature in features.items())  # anchors take this dtype
        targets = [{"boxes": target.boxes} for target in truth(batch)] if self.training else None
        proposals, losses = self.rpn(ImageList(images, batch.sizes), precise, targets)
        named = {"loss_objectness": "rpn_class", "loss_rpn_box_reg": "rpn_regression"}
        return list(features.values())[:4], proposals, {named[name]: loss for name, loss in losses.items()}

    def mask_targets(self, batch: Batch, rois: Rois, index: Tensor) -> Tensor:
        """Share of each cell that its object covers, (R, M, M) with the mask head's context around."""
        masks, head, size = PackedMasks.cat([t.masks for t in truth(batch)]), self.mask_head, 2 * self.mask_head.size
        frames = torch.tensor(batch.sizes, device=rois.image.device)[rois.image]
        boxes = rois.boxes.round() if self.settings.mask.target == "integer" else rois.boxes
        if self.settings.geometry == "aligned":
            return crop_masks(masks, index, boxes, frames, size, head.context)
        margin = head.context * (boxes[:, 2:] - boxes[:, :2]) / size
        boxes = torch.cat((boxes[:, :2] - margin, boxes[:, 2:] + margin), 1)
        return crop_masks_legacy(masks, index, boxes, frames, size + 2 * head.context)


def truth(batch: Batch) -> list[Target]:
    """What losses need of a batch and prediction does without."""
    if batch.targets is None:
        raise ValueError("losses need a batch with targets")
    return batch.targets


def build(settings: config.Config, classes: int) -> Detector:
    """A detector with random weights."""
    return Detector(settings, classes)


def build_rpn(settings: config.Rpn, channels: int) -> RegionProposalNetwork:
    anchors = AnchorGenerator(
        tuple((size,) for size in settings.anchor_sizes), (settings.aspect_ratios,) * len(settings.anchor_sizes)
    )
    return RegionProposalNetwork(
        anchors,
        PreciseRpnHead(channels, anchors.num_anchors_per_location()[0]),
        settings.positive_iou,
        settings.negative_iou,
        settings.sampled,
        settings.positive_share,
        dict(zip(("training", "testing"), settings.before_nms, strict=True)),
        dict(zip(("training", "testing"), settings.after_nms, strict=True)),
        settings.nms,
    )


class PreciseRpnHead(RPNHead):
    """Convolutions in the precision of the run, logits and deltas in float32."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [o.float() for o in logits], [o.float() for o in deltas]


def suppress(candidates: Candidates, sizes: list[tuple[int, int]], settings: config.Detections) -> Detections:
    """The best boxes of each image after NMS inside each class, best first."""
    images, rows, columns, boxes = [], [], [], []
    for i, size in enumerate(sizes):
        row = torch.nonzero(candidates.image == i).flatten()
        score = candidates.scores[row]
        box = clip_boxes_to_image(candidates.boxes[row], size).expand(-1, score.shape[1], -1)
        real = (box[..., 2:] - box[..., :2] >= 1e-2).all(-1)
        r, column = torch.nonzero((score > settings.score) & real, as_tuple=True)
        box = box[r, column]
        keep = batched_nms(box, score[r, column], column, settings.nms)[: settings.limit]
        images.append(torch.full_like(keep, i))
        rows.append(row[r[keep]])
        columns.append(column[keep])
        boxes.append(box[keep])
    row, column = torch.cat(rows), torch.cat(columns)
    return Detections(
        Rois(torch.cat(boxes), torch.cat(images)),
        column + 1,
        candidates.scores[row, column],
        candidates.cls_scores[row, column],
        None if candidates.box_ious is None else candidates.box_ious[row],
    )


@contextlib.contextmanager
def seeded(seed: int, device: torch.device):
    """Draws inside depend on ``seed`` alone and leave the generators outside as they were: resuming needs no state."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def count_parameters(detector: Detector) -> dict[str, int]:
    """Parameters of each part.  "total" counts what is trained or could be; frozen batch norms keep buffers, not parameters."""
    modules = {
        "backbone": [detector.backbone.body],
        "fpn": [detector.backbone.fpn],
        "rpn": [detector.rpn],
        "pool": [detector.box_pool, detector.mask_pool],
        "box_head": [detector.box_head],
        "mask_head": [detector.mask_head],
    }
    counts = {name: sum(p.numel() for m in parts for p in m.parameters()) for name, parts in modules.items()}
    trainable = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    return {"total": sum(counts.values()), "trainable": trainable, **counts}
