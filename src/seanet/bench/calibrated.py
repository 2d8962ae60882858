"""Random weights that behave as trained ones do where it matters for time: how many RoIs and boxes pass each stage.

Left alone, a random box head gives all RoIs nearly the same logits, so that none or all of them pass a threshold, and a
random ResNet with frozen norms grows its activations past what half precision holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from seanet.detector import Detector, inside
from seanet.heads.classic import ClassicBoxHead
from seanet.heads.fcn_box import FullyConvBoxHead
from seanet.types import Batch, Rois

SAMPLED = 300  # RoIs whose logits are looked at
SPREAD = 3.0  # standard deviation of the logits of a class
IOU = (0.4, 0.2)  # mean and standard deviation of the B-IoU of cells: RoIs then rank by it as much as trained ones do


@torch.no_grad()
def settle(network: nn.Module, run: Callable[[], Any]) -> None:
    """Norms that keep their statistics take those of what they meet in ``run``, as training leaves them."""
    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d):
                stack.callback(module.register_forward_pre_hook(_take_statistics).remove)
        run()


def _take_statistics(norm: Any, inputs: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3), correction=0)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance.clamp(min=1e-6))


def calibrate(detector: Detector, batch: Batch, rois: Rois, survivors: float) -> None:
    """Of these RoIs of the batch that share passes the score threshold, in every stage of a cascade."""
    detector.eval()
    settle(detector.backbone, lambda: detector.features(batch))
    with torch.no_grad():
        features = detector.features(batch)[1][:4]
        *earlier, last = detector.box_heads
        for head in earlier:
            crops = detector.box_pool(features, rois)
            calibrate_head(head, crops, detector.settings.detections.score, survivors)
            rois = inside(head.refine(crops, rois)[0], rois.image, batch.sizes)
        calibrate_head(last, detector.box_pool(features, rois), detector.settings.detections.score, survivors)


def calibrate_head(head: nn.Module, crops: Tensor, score: float, survivors: float) -> None:
    if isinstance(head, ClassicBoxHead):
        calibrate_softmax(head.box_predictor.cls_score, head.box_head(crops), score, survivors)
    elif isinstance(head, FullyConvBoxHead):
        calibrate_cells(head, crops, score, survivors)


def calibrate_cells(head: FullyConvBoxHead, crops: Tensor, score: float, survivors: float) -> None:
    """The quantile of the RoIs' largest logits becomes the threshold's; B-IoU becomes that of a head that learned."""
    logits = spread(head.class_logits, head.class_tower(crops), 0.0, SPREAD).flatten(1)
    assert head.class_logits.bias is not None
    head.class_logits.bias += math.log(score / (1 - score)) - logits.amax(1).quantile(1 - survivors)
    if not head.settings.iou_weight:
        return
    sigmoid = head.settings.iou_activation == "sigmoid"
    inner = torch.cat((crops, head.box_tower(crops)), 1)
    spread(head.iou, head.iou_tower(inner), *((math.log(IOU[0] / (1 - IOU[0])), 1.0) if sigmoid else IOU))


def calibrate_softmax(layer: nn.Linear, inputs: Tensor, score: float, survivors: float) -> None:
    """The background's bias, found by bisection, lets that share of the RoIs have a class above the threshold."""
    logits = spread(layer, inputs, 0.0, SPREAD)
    background = torch.zeros_like(logits)
    background[:, 0] = 1
    low, high = -50.0, 50.0
    for _ in range(40):
        middle = (low + high) / 2
        share = ((logits + middle * background).softmax(1)[:, 1:].amax(1) > score).float().mean().item()
        low, high = (middle, high) if share > survivors else (low, middle)
    layer.bias[0] += high


def spread(layer: nn.Linear | nn.Conv2d, inputs: Tensor, mean: float, deviation: float) -> Tensor:
    """Weights such that every output has that mean and standard deviation over RoIs and cells; -> the outputs."""
    outputs = layer(inputs)
    dims = tuple(d for d in range(outputs.ndim) if d != 1)
    variance, centre = torch.var_mean(outputs, dims, correction=0)
    factor = deviation / variance.sqrt().clamp(min=1e-6)
    assert layer.bias is not None
    layer.weight *= factor.view(-1, *(1,) * (layer.weight.ndim - 1))
    layer.bias.copy_((layer.bias - centre) * factor + mean)
    return layer(inputs)
