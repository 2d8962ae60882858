"""In which order and scale torchvision, detectron2 and mmdetection keep the weights of a Mask R-CNN, and ours.

Our rows and coding of boxes are torchvision's: the background's row comes first, a box's deltas are (x, y, w, h)
times 10, 10, 5, 5.  detectron2 and mmdetection (2.x and 3.x) keep the background last, and none of it for boxes and masks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from seanet import config
from seanet.errors import CheckpointError
from seanet.weights.names import Framework

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, red, green, blue, 0..255


@dataclass(frozen=True)
class Style:
    """How a network takes images, and where its blocks halve maps: both are part of what its weights mean."""

    bgr: bool
    std: tuple[float, ...]
    """What colours, in the order red, green, blue, are divided by."""
    stride_in: Literal["3x3", "1x1"]

    def __str__(self) -> str:
        return next((name for name, style in STYLES.items() if style == self), f"{self.std}")


STYLES = {
    "pytorch": Style(False, STD, "3x3"),
    "caffe": Style(True, (1.0, 1.0, 1.0), "1x1"),
    "bgr": Style(True, STD, "3x3"),
}
"""``pytorch``: torchvision's and most of mmdetection's; ``caffe``: detectron2's ResNet-50 and -101; ``bgr``: its ResNeXts."""

USUAL: dict[Framework, str] = {"torchvision": "pytorch", "detectron2": "caffe", "mmdetection": "pytorch"}
SETTINGS: dict[Framework, dict[str, Any]] = {
    "torchvision": {"geometry": "legacy", "pool.samples": 2, "pool.canonical_scale": 224.0},
    "detectron2": {"geometry": "aligned", "pool.samples": 0, "pool.canonical_scale": 224.0},
    "mmdetection": {"geometry": "aligned", "pool.samples": 0, "pool.canonical_scale": 224.0},
}
"""What the same weights need here to predict what they predict there."""


def converted(framework: Framework, name: str, value: Tensor, shape: torch.Size, settings: config.Config) -> Tensor:
    """A tensor, known by our name, in our order of rows and our coding of boxes; ``shape`` is that of ours."""
    layer = name.rpartition(".")[0]
    if value.ndim != len(shape):
        return value  # it has no place here in any order
    if framework != "torchvision":
        value = _background_first(layer, value, shape)
    if layer.endswith("box_predictor.bbox_pred"):
        value = _rescaled(framework, int(layer.split(".")[1]), value, settings)
    return value


def _background_first(layer: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Scores of the background move from the end to the front; boxes and masks of it, which nobody reads, become zero."""
    if layer.endswith("box_predictor.cls_score"):
        return torch.cat((value[-1:], value[:-1]))
    missing = {"box_predictor.bbox_pred": 4, "mask_predictor.mask_fcn_logits": 1}
    rows = next((count for end, count in missing.items() if layer.endswith(end)), 0)
    if rows and len(value) + rows == shape[0]:
        return torch.cat((value.new_zeros(rows, *value.shape[1:]), value))
    return value


def _rescaled(framework: Framework, stage: int, value: Tensor, settings: config.Config) -> Tensor:
    """Deltas are linear in these weights, so another coding of boxes is a factor of each row."""
    if not isinstance(settings.box, config.ClassicBox) or len(value) % 4:
        return value
    factors = []
    for side, own in zip((10, 10, 5, 5), [w for w in settings.box.delta_weights for _ in range(2)], strict=True):
        theirs = side * (stage + 1)
        if framework == "mmdetection" and stage == 2:
            theirs = 1 / {10: 0.033, 5: 0.067}[side]  # its standard deviations, rounded
        factors.append(own * (1, *settings.cascade.sharpness)[stage] / theirs)
    if all(math.isclose(factor, 1, rel_tol=1e-9) for factor in factors):
        return value
    rows = value.new_tensor(factors).repeat(len(value) // 4)
    return value * rows.reshape(-1, *[1] * (value.ndim - 1))


def first_convolution(weight: Tensor, style: Style) -> Tensor:
    """Of images as ``style`` has them -> of ours, RGB divided by ImageNet's deviations: exact, as the means are the same."""
    if weight.ndim != 4 or weight.shape[1] != 3:
        return weight
    weight = weight.flip(1) if style.bgr else weight
    factors = [own / theirs for own, theirs in zip(STD, style.std, strict=True)]
    if all(math.isclose(factor, 1, rel_tol=1e-6) for factor in factors):
        return weight
    return weight * weight.new_tensor(factors)[:, None, None]


def style_of(framework: Framework, tensors: Mapping[str, Tensor], content: Any) -> Style:
    """As the file says it, else as the framework usually has it; CheckpointError for colours that cannot be taken."""
    usual = STYLES[USUAL[framework]]
    if "pixel_mean" in tensors and "pixel_std" in tensors:
        mean, std = (tensors[name].flatten().tolist() for name in ("pixel_mean", "pixel_std"))
        return _style(mean, std, mean[:1] < mean[-1:], None)
    text = _settings_text(content)
    mean, std = (_numbers(rf"\b{name}\s*=\s*\[([^\]]*)\]", text) for name in ("mean", "std"))
    if not mean or not std:
        return usual
    stride = "1x1" if re.search(r"style\s*=\s*['\"]caffe", text) else "3x3"
    return _style(mean, std, not re.search(r"to_rgb\s*=\s*True", text), stride)


def _style(mean: list[float], std: list[float], bgr: bool, stride: Literal["3x3", "1x1"] | None) -> Style:
    mean, std = (values[::-1] if bgr else values for values in (mean, std))
    usual = len(mean) == len(std) == 3 and all(abs(a - b) <= 0.01 for a, b in zip(mean, MEAN, strict=True))
    if not usual or not all(0 < value < math.inf for value in std):
        raise CheckpointError(
            f"these weights expect colours less {mean[:3]} by {std[:3]}, where only ImageNet's means, {list(MEAN)}, and"
            " deviations above 0 can be taken exactly"
        )
    caffe = all(value == 1 for value in std)
    return Style(bgr, tuple(round(value, 3) for value in std), stride or ("1x1" if caffe else "3x3"))


def _settings_text(content: Any) -> str:
    """The configuration that mmdetection writes beside its weights, as text."""
    meta = content.get("meta") if isinstance(content, dict) else None
    texts = [meta.get(key) for key in ("cfg", "config")] if isinstance(meta, dict) else []
    return next((text[:1_000_000] for text in texts if isinstance(text, str)), "")


def _numbers(pattern: str, text: str) -> list[float]:
    found = re.search(pattern, text)
    try:
        return [float(number) for number in found.group(1).split(",") if number.strip()] if found else []
    except ValueError:
        return []
