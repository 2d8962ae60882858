"""The two-stage detector: features -> proposals -> boxes -> masks.  The heads are passed in; nothing here knows SEANet.

B images, R RoIs, K classes, N detections, M mask cells a side.  Coordinates are those of the network's image throughout.
"""

import contextlib
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms

from seanet import config
from seanet.anchors import FrugalRpn
from seanet.backbone import build_backbone, normalise
from seanet.heads import Candidates, build_box_heads, build_mask_head, build_scoring
from seanet.masks import crop_masks, crop_masks_legacy, predicted_iou
from seanet.rois import build_pool, counts, match, match_and_sample
from seanet.types import Batch, Detections, Matched, PackedMasks, Rois, Target

AT_ONCE, MOST = {"cpu": 50}, 500
"""RoIs whose masks are predicted together: their maps of 28 x 28 cells are what prediction needs most memory for."""


class Detector(nn.Module):
    mean: Tensor
    std: Tensor
    box_heads: Any  # a ModuleList, whose modules a type checker does not tell apart

    def __init__(self, settings: config.Config, classes: int):
        super().__init__()
        self.settings, self.classes = settings, classes
        aligned, channels = settings.geometry == "aligned", settings.backbone.channels
        self.backbone = build_backbone(settings.backbone)
        self.rpn = build_rpn(settings.rpn, channels)
        self.box_pool = build_pool(settings.pool, settings.box.size, aligned, channels)
        self.mask_pool = build_pool(settings.pool, settings.mask.size, aligned, channels)
        self.box_heads = nn.ModuleList(build_box_heads(settings, classes, channels))
        self.mask_head = build_mask_head(settings.mask, classes, channels)
        self.scoring = build_scoring(settings.scoring, classes, channels, settings.mask.size)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses, already weighted; their sum is what to minimise.  Random draws depend on ``batch.seeds`` alone."""
        with seeded(batch.seed, batch.images.device):
            features, proposals, losses = self.propose(batch)
            rois, matched = match_and_sample(proposals, truth(batch), self.settings.sampling, batch.own_seeds())
        losses |= self.box_losses(features, rois, matched, batch)
        positive = torch.nonzero(matched.labels).flatten()
        return losses | self.mask_losses(features, rois[positive], matched[positive], batch)

    @torch.no_grad()
    def predict(self, batch: Batch, edges: bool = False) -> Detections:
        """Boxes, scores and masks inside the boxes; with ``edges``, their edges too where the mask head knows them."""
        features, proposals, _ = self.propose(batch)
        found = self.detect(features, Rois.cat(proposals), batch.sizes)
        return best_first(self.with_masks(features, found, edges))

    @torch.no_grad()
    def predict_inside(self, batch: Batch, rois: Rois, labels: Tensor, edges: bool = False) -> Detections:
        """Masks of the given classes (R,) inside the given boxes, in their order; all but a predicted mask IoU is 1."""
        one = torch.ones_like(rois.boxes[:, 0])
        maps = for_pooling(self.features(batch)[1])
        return self.with_masks(maps, Detections(rois, labels, one, one), edges)

    def box_losses(self, features: list[Tensor], rois: Rois, matched: Matched, batch: Batch) -> dict[str, Tensor]:
        """Of every stage: a further one sees the boxes of the one before, matched by its own overlap."""
        *earlier, last = self.box_heads
        losses: dict[str, Tensor] = {}
        for stage, head in enumerate(earlier):
            terms, boxes = head.loss_and_boxes(self.box_pool(features, rois), rois, matched, truth(batch))
            losses |= self.weighted(terms, stage)
            rois = inside(boxes, rois.image, batch.sizes)
            matched = match(rois, truth(batch), self.settings.cascade.ious[stage])
        terms = last.loss(self.box_pool(features, rois), rois, matched, truth(batch))
        return losses | self.weighted(terms, len(earlier))

    def weighted(self, terms: dict[str, Tensor], stage: int) -> dict[str, Tensor]:
        """A stage's losses; those of further stages have its number in their names."""
        if not stage:
            return terms
        return {f"{name}_{stage + 1}": self.settings.cascade.weights[stage - 1] * term for name, term in terms.items()}

    def detect(self, features: list[Tensor], rois: Rois, sizes: list[tuple[int, int]]) -> Detections:
        """Boxes of the last stage, scored by the mean of all stages' classes (Cascade R-CNN), after suppression."""
        *earlier, last = self.box_heads
        probabilities = []
        for head in earlier:
            boxes, probability = head.refine(self.box_pool(features, rois), rois)
            probabilities.append(probability)
            rois = inside(boxes, rois.image, sizes)
        settings = self.settings.detections

        def floor(candidates: Candidates) -> Tensor:
            return last_scores(suppress(candidates, sizes, settings), len(sizes), settings)

        candidates = last.decode(self.box_pool(features, rois), rois, settings.score, probabilities, floor)
        return suppress(candidates, sizes, settings)

    def mask_losses(self, features: list[Tensor], rois: Rois, matched: Matched, batch: Batch) -> dict[str, Tensor]:
        crops, targets = self.mask_pool(features, rois), self.mask_targets(batch, rois, matched.index)
        losses, probability = self.mask_head.loss(crops, matched.labels, targets)
        if self.scoring is None:
            return losses
        rim = self.mask_head.context
        share = targets[:, rim:-rim, rim:-rim] if rim else targets
        areas = PackedMasks.cat([t.masks for t in truth(batch)]).areas[matched.index]
        wanted = predicted_iou(probability, share, rois.boxes, areas)
        return losses | self.scoring.loss(crops, probability, matched.labels, wanted)

    def with_masks(self, features: list[Tensor], found: Detections, edges: bool) -> Detections:
        """Masks of as many RoIs at a time as memory should hold."""
        rows = torch.arange(len(found), device=found.labels.device)
        parts = [self.masks(features, found[own], edges) for own in rows.split(AT_ONCE.get(rows.device.type, MOST))]
        masks, edge, ious = (None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True))
        found = replace(found, masks=masks, edges=edge)
        if ious is None:
            return found
        return replace(found, mask_ious=ious, box_scores=found.scores, scores=found.scores * ious)

    def masks(
        self, features: list[Tensor], found: Detections, edges: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """-> probability of the masks, of edges if asked for, IoU expected of the masks where it is predicted."""
        crops = self.mask_pool(features, found.rois)
        masks, edge = self.mask_head.probability(crops, found.labels, edges)
        return masks, edge, None if self.scoring is None else self.scoring.predict(crops, masks, found.labels)

    def features(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The normalised images and all five maps of the pyramid, finest first."""
        images = normalise(batch.images, batch.sizes, self.mean, self.std)
        return images, list(self.backbone(images).values())

    def propose(self, batch: Batch) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Four feature maps, proposals of each image (P_i, 4), the losses of the RPN."""
        images, features = self.features(batch)
        # Anchors take the type of the maps.
        precise = OrderedDict((str(i), feature.float()) for i, feature in enumerate(features))
        targets = [{"boxes": target.boxes} for target in truth(batch)] if self.training else None
        proposals, losses = self.rpn(ImageList(images, batch.sizes), precise, targets, batch.own_seeds())
        named = {"loss_objectness": "rpn_class", "loss_rpn_box_reg": "rpn_regression"}
        return for_pooling(list(precise.values())), proposals, {named[name]: loss for name, loss in losses.items()}

    def mask_targets(self, batch: Batch, rois: Rois, index: Tensor) -> Tensor:
        """Share of each cell that its object covers, (R, M, M) with the mask head's context around."""
        masks, head, size = PackedMasks.cat([t.masks for t in truth(batch)]), self.mask_head, 2 * self.mask_head.size
        frames = frames_of(rois.image, batch.sizes)
        boxes = rois.boxes.round() if self.settings.mask.target == "integer" else rois.boxes
        if self.settings.geometry == "aligned":
            return crop_masks(masks, index, boxes, frames, size, head.context)
        margin = head.context * (boxes[:, 2:] - boxes[:, :2]) / size
        boxes = torch.cat((boxes[:, :2] - margin, boxes[:, 2:] + margin), 1)
        return crop_masks_legacy(masks, index, boxes, frames, size + 2 * head.context)


def for_pooling(features: list[Tensor]) -> list[Tensor]:
    """The four finest maps in float32, once for all RoIs."""
    return [feature.float() for feature in features[:4]]


def truth(batch: Batch) -> list[Target]:
    """What losses need of a batch and prediction does without."""
    if batch.targets is None:
        raise ValueError("losses need a batch with targets")
    return batch.targets


def build(settings: config.Config, classes: int) -> Detector:
    """A detector with random weights."""
    return Detector(settings, classes)


def build_rpn(settings: config.Rpn, channels: int) -> FrugalRpn:
    anchors = AnchorGenerator(
        tuple((size,) for size in settings.anchor_sizes), (settings.aspect_ratios,) * len(settings.anchor_sizes)
    )
    return FrugalRpn(
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


def inside(boxes: Tensor, image: Tensor, sizes: list[tuple[int, int]]) -> Rois:
    """The boxes, clipped to their images."""
    return Rois(clip(boxes, frames_of(image, sizes)), image)


def clip(boxes: Tensor, frames: Tensor) -> Tensor:
    """Boxes (..., 4) to heights and widths (..., 2)."""
    return torch.minimum(boxes.clamp(min=0), torch.cat((frames.flip(-1),) * 2, -1).to(boxes))


def frames_of(image: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """Height and width of each RoI's image, (R, 2); the host does not wait for the device."""
    return torch.tensor(sizes).to(image.device, non_blocking=True)[image]


def best_first(found: Detections) -> Detections:
    """In the order of the images, and of the scores in each: a mask's predicted IoU changes what its box had."""
    order = found.scores.argsort(descending=True, stable=True)
    return found[order[found.rois.image[order].argsort(stable=True)]]


def suppress(candidates: Candidates, sizes: list[tuple[int, int]], settings: config.Detections) -> Detections:
    """The best boxes of each image after NMS inside each class, best first."""
    boxes = clip(candidates.boxes, frames_of(candidates.image, sizes)[:, None])  # (R, K or 1, 4)
    real = (boxes[..., 2:] - boxes[..., :2] >= 1e-2).all(-1)
    row, column = torch.nonzero((candidates.scores > settings.score) & real, as_tuple=True)
    order = candidates.image[row].argsort(stable=True)
    row, column = row[order], column[order]
    box = boxes.expand(-1, candidates.scores.shape[1], -1)[row, column]
    image, score = candidates.image[row], candidates.scores[row, column]
    kept, first = [], 0
    for count in counts(image, len(sizes)):
        its = slice(first, first + count)
        kept.append(first + batched_nms(box[its], score[its], column[its], settings.nms)[: settings.limit])
        first += count
    keep = torch.cat(kept)
    row, column = row[keep], column[keep]
    return Detections(
        Rois(box[keep], image[keep]),
        column + 1,
        score[keep],
        candidates.cls_scores[row, column],
        None if candidates.box_ious is None else candidates.box_ious[row],
    )


def last_scores(found: Detections, images: int, settings: config.Detections) -> Tensor:
    """(B,): what more candidates of each image have to exceed; the threshold until it has as many detections as allowed.

    A box suppresses none that scores higher, so candidates below the last detection allowed change nothing.
    """
    index, score = found.rois.image, found.scores
    count = torch.zeros(images, device=score.device).index_add(0, index, torch.ones_like(score))
    least = score.new_ones(images).scatter_reduce(0, index, score, "amin")
    return torch.where(count < settings.limit, settings.score, least)


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
        "box_head": list(detector.box_heads),
        "mask_head": [detector.mask_head],
        "scoring": [] if detector.scoring is None else [detector.scoring],
    }
    counts = {name: sum(p.numel() for m in parts for p in m.parameters()) for name, parts in modules.items()}
    trainable = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    return {"total": sum(counts.values()), "trainable": trainable, **counts}
