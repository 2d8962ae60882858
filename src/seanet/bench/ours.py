"""A model of ours as ``seanet predict`` and ``seanet train`` run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import seanet.detector
from seanet.bench.calibrated import SAMPLED, calibrate
from seanet.bench.contenders import Contender, Setting, Task
from seanet.bench.fixed import ellipse, samples
from seanet.bench.plain import make_plain
from seanet.bench.stages import Part
from seanet.bench.subjects import Rles, Subject
from seanet.config import Config
from seanet.data.images import read_image
from seanet.data.loader import collate, collate_images
from seanet.data.transforms import fit
from seanet.detector import seeded
from seanet.execution import PLAIN, running
from seanet.instances import Instances
from seanet.predict import build, load
from seanet.types import Batch, Rois


class Ours(Subject):
    def __init__(self, contender: Contender, setting: Setting):
        super().__init__(contender, setting)
        config = fitting(contender.config, setting)
        if contender.checkpoint is None:
            with seeded(0, torch.device("cpu")):
                self.model = build(config, setting.classes).to(self.device)
        else:
            self.model = load(contender.checkpoint, self.device)
        self.network = self.detector = self.model.detector
        self.detector.settings = self.model.config = config
        take_counts(self.detector.rpn, setting.proposals)
        self.model.run_with(PLAIN)
        if contender.plain:
            make_plain(self.detector)

    def calibrate(self, files: Sequence[Path]) -> None:
        if self.contender.checkpoint is not None:
            return
        batch = self.resize(self.decode(files[:1])).to(self.device)
        rois = Rois.cat([self.proposals().boxes(batch.sizes[0], None, self.device)[:SAMPLED]])
        calibrate(self.detector, batch, rois, self.setting.survivors)
        self.stand_still()

    def stand_still(self) -> None:
        self.proposals().put_into(self.detector.rpn)
        self.detector.mask_head.probability = with_ellipses(self.detector.mask_head.probability)

    def ready(self) -> None:
        self.model.run_with(self.contender.execution)

    def predict(self, files: Sequence[Path]) -> Rles:
        pixels = self.decode(files)
        found = self.model.predict_batch(self.resize(pixels), [image.shape[:2] for image in pixels])
        return self.encode(found)

    def decode(self, files: Sequence[Path]) -> list[np.ndarray]:
        return [read_image(file, self.model.config.data.max_pixels) for file in files]

    def resize(self, pixels: list[np.ndarray]) -> Batch:
        return collate_images([fit(image, self.model.config.data) for image in pixels])

    def encode(self, found: list[Instances]) -> Rles:
        return [instances.rle() for instances in found]

    @cached_property
    def batch(self) -> Batch:
        batch = collate(samples(self.setting))
        assert isinstance(batch, Batch)
        return batch.to(self.device)

    def losses(self) -> Tensor:
        self.detector.train()
        with running(self.model.execution, self.device):
            return torch.stack(list(self.detector(self.batch).values())).sum()

    def parts(self, task: Task) -> list[Part]:
        network, heads = self.detector, list(self.detector.box_heads)
        scoring = [] if network.scoring is None else [network.scoring]
        shared = [
            Part("backbone", network, "features"),
            Part("rpn", network.rpn),
            Part("box pool", network.box_pool),
            Part("mask pool", network.mask_pool),
        ]
        if task == "train":
            return [
                *shared,
                *(Part("box head", head, "loss_and_boxes") for head in heads[:-1]),
                Part("box head", heads[-1], "loss"),
                Part("mask head", network.mask_head, "loss"),
                *(Part("scoring", head, "loss") for head in scoring),
                Part("backward", self, "backward"),
                Part("step", self, "step"),
            ]
        return [
            Part("decode", self, "decode"),
            Part("resize", self, "resize"),
            *shared,
            *(Part("box head", head, "refine") for head in heads[:-1]),
            Part("box head", heads[-1], "decode"),
            Part("nms", seanet.detector, "suppress"),
            Part("mask head", network.mask_head, "probability"),
            *(Part("scoring", head, "predict") for head in scoring),
            Part("rle", self, "encode"),
        ]

    def modules(self) -> Mapping[str, Sequence[nn.Module]]:
        network = self.detector
        return {
            "backbone": [network.backbone],
            "rpn": [network.rpn],
            "box pool": [network.box_pool],
            "box head": list(network.box_heads),
            "mask pool": [network.mask_pool],
            "mask head": [network.mask_head],
            "scoring": [] if network.scoring is None else [network.scoring],
        }


def fitting(config: Config, setting: Setting) -> Config:
    """The configuration that sees images of the setting's size and keeps as many proposals and detections."""
    data = replace(config.data, short_sides=(min(setting.size),), long_side=max(setting.size))
    detections = replace(config.detections, limit=setting.detections)
    return replace(config, data=data, detections=detections)


def take_counts(rpn: Any, proposals: int) -> None:
    """Let torchvision's RPN keep that many proposals of each level and of all."""
    rpn._pre_nms_top_n = rpn._post_nms_top_n = {"training": proposals, "testing": proposals}


def with_ellipses(real):
    """Masks of a plausible shape in the place of what a mask head gives, after it has given it."""

    @wraps(real)
    def probability(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        masks, edges = real(*args, **kwargs)
        return ellipse(masks.shape[-1]).sigmoid().to(masks).repeat(len(masks), 1, 1), edges

    return probability
