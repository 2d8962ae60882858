"""torchvision's Mask R-CNN as its users run it: float32, eager, images as a list of floats, masks of the image's size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as codec
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone

from seanet.bench.calibrated import SAMPLED, calibrate_softmax, settle
from seanet.bench.contenders import Contender, Setting, Task
from seanet.bench.fixed import dense, ellipse, samples
from seanet.bench.stages import Part
from seanet.bench.subjects import Rles, Subject
from seanet.config import Config
from seanet.detector import seeded

SCORE = 0.05  # their default, as ours


class Theirs(Subject):
    network: Any

    def __init__(self, contender: Contender, setting: Setting):
        super().__init__(contender, setting)
        with seeded(0, torch.device("cpu")):
            self.network = build(contender.config, setting).eval().to(self.device)
        self.heads: Any = self.network.roi_heads

    def calibrate(self, files: Sequence[Path]) -> None:
        network, heads = self.network, self.heads
        images, _ = network.transform(self.decode(files[:1]))
        settle(network.backbone, lambda: network.backbone(images.tensors))
        boxes = self.proposals().boxes(images.image_sizes[0], None, self.device)[:SAMPLED]
        with torch.no_grad():
            crops = heads.box_roi_pool(network.backbone(images.tensors), [boxes], images.image_sizes)
            calibrate_softmax(heads.box_predictor.cls_score, heads.box_head(crops), SCORE, self.setting.survivors)
        self.stand_still()

    def stand_still(self) -> None:
        self.proposals().put_into(self.network.rpn)
        predictor = self.heads.mask_predictor
        real = predictor.forward

        def forward(crops: Tensor) -> Tensor:
            logits = real(crops)
            return logits if self.network.training else ellipse(logits.shape[-1]).to(logits).expand_as(logits)

        predictor.forward = forward

    def ready(self) -> None:
        """It is."""

    def predict(self, files: Sequence[Path]) -> Rles:
        with torch.inference_mode():
            return self.encode(self.network.eval()(self.decode(files)))

    def decode(self, files: Sequence[Path]) -> list[Tensor]:
        """(3, H, W) float32 in 0..1 on the device."""
        arrays = (np.array(Image.open(file).convert("RGB")) for file in files)
        return [(torch.from_numpy(a).permute(2, 0, 1).contiguous() / 255).to(self.device) for a in arrays]

    def encode(self, found: list[dict[str, Tensor]]) -> Rles:
        return [self.runs(instances["masks"][:, 0]) for instances in found]

    def runs(self, masks: Tensor) -> list[dict]:
        """Of (N, H, W) probabilities, by the codec that evaluation tools share."""
        bits = (masks >= 0.5).to("cpu", torch.uint8).numpy()
        found = codec.encode(np.asfortranarray(bits.transpose(1, 2, 0)))
        assert isinstance(found, list)  # as it was given
        return found

    @cached_property
    def batch(self) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        images, targets = [], []
        for sample in samples(self.setting):
            images.append((torch.from_numpy(sample.image).permute(2, 0, 1) / 255).to(self.device))
            truth = {"boxes": torch.from_numpy(sample.boxes), "labels": torch.from_numpy(sample.labels)}
            truth["masks"] = dense(sample.masks, self.setting.size)
            targets.append({name: value.to(self.device) for name, value in truth.items()})
        return images, targets

    def losses(self) -> Tensor:
        return torch.stack(list(self.network.train()(*self.batch).values())).sum()

    def parts(self, task: Task) -> list[Part]:
        network, heads = self.network, self.heads
        shared = [
            Part("backbone", network.backbone),
            Part("rpn", network.rpn),
            Part("box pool", heads.box_roi_pool),
            Part("box head", heads.box_head),
            Part("box head", heads.box_predictor),
            Part("mask pool", heads.mask_roi_pool),
            Part("mask head", heads.mask_head),
            Part("mask head", heads.mask_predictor),
        ]
        if task == "train":
            return [*shared, Part("backward", self, "backward"), Part("step", self, "step")]
        return [
            Part("decode", self, "decode"),
            Part("resize", network.transform),
            *shared,
            Part("nms", heads, "postprocess_detections"),
            Part("paste", network.transform, "postprocess"),
            Part("rle", self, "encode"),
        ]

    def modules(self) -> dict[str, list[nn.Module]]:
        network, heads = self.network, self.heads
        return {
            "backbone": [network.backbone],
            "rpn": [network.rpn],
            "box head": [heads.box_head, heads.box_predictor],
            "mask head": [heads.mask_head, heads.mask_predictor],
        }


def build(config: Config, setting: Setting) -> MaskRCNN:
    """By torchvision's own builders, which give every backbone heads of the usual width; ``config`` is the one beside it."""
    body, trained = config.backbone.name, 5 - config.backbone.frozen_stages
    if body == "mobilenet_v2":
        backbone = mobilenet_backbone(
            backbone_name=body, weights=None, fpn=True, trainable_layers=trained + 1, returned_layers=[1, 2, 3, 4]
        )
    else:
        backbone = resnet_fpn_backbone(backbone_name=body, weights=None, trainable_layers=trained)
    counts = {
        f"rpn_{when}_nms_top_n_{mode}": setting.proposals for when in ("pre", "post") for mode in ("train", "test")
    }
    return MaskRCNN(
        backbone,
        setting.classes + 1,
        min_size=min(setting.size),
        max_size=max(setting.size),
        box_score_thresh=SCORE,
        box_detections_per_img=setting.detections,
        box_batch_size_per_image=config.sampling.rois,
        box_positive_fraction=config.sampling.positive_share,
        **counts,
    )
