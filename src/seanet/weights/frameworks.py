"""What torchvision, detectron2 and mmdetection call the parts of a Mask R-CNN, and in which order and scale they keep them.

Our names, rows and coding of boxes are torchvision's: the background's row comes first, a box's deltas are (x, y, w, h)
times 10, 10, 5, 5.  detectron2 and mmdetection (2.x and 3.x) keep the background last, and none of it for boxes and masks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from seanet import config
from seanet.errors import CheckpointError

Framework = Literal["torchvision", "detectron2", "mmdetection"]
STAGES = range(3)  # of a cascade
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
    "torchvision": {"geometry": "legacy", "pool.samples": 2},
    "detectron2": {"geometry": "aligned", "pool.samples": 0},
    "mmdetection": {"geometry": "aligned", "pool.samples": 0},
}
"""What the same weights need here to predict what they predict there."""


def _torchvision() -> dict[str, str]:
    """With the names it had until 0.13, which its published files still have."""
    names = {f"roi_heads.box_{part}.": f"box_heads.0.box_{part}." for part in ("head", "predictor")}
    names |= {f"roi_heads.mask_{part}.": f"mask_head.mask_{part}." for part in ("head", "predictor")}
    names |= {f"roi_heads.mask_head.mask_fcn{i + 1}.": f"mask_head.mask_head.{i}.0." for i in range(8)}
    for part in ("weight", "bias"):
        names[f"rpn.head.conv.{part}"] = f"rpn.head.conv.0.0.{part}"
        for blocks in ("inner_blocks", "layer_blocks"):
            names |= {f"backbone.fpn.{blocks}.{i}.{part}": f"backbone.fpn.{blocks}.{i}.0.{part}" for i in range(4)}
    return names


def _detectron2() -> dict[str, str]:
    names = {"backbone.bottom_up.stem.": "backbone.body.", "proposal_generator.rpn_head.conv.": "rpn.head.conv.0.0."}
    names |= {f"backbone.bottom_up.res{i + 2}.": f"backbone.body.layer{i + 1}." for i in range(4)}
    names |= {f"backbone.fpn_lateral{i + 2}.": f"backbone.fpn.inner_blocks.{i}.0." for i in range(4)}
    names |= {f"backbone.fpn_output{i + 2}.": f"backbone.fpn.layer_blocks.{i}.0." for i in range(4)}
    names["proposal_generator.rpn_head.objectness_logits."] = "rpn.head.cls_logits."
    names["proposal_generator.rpn_head.anchor_deltas."] = "rpn.head.bbox_pred."
    for stage, number in [(0, ""), *((stage, f"{stage}.") for stage in STAGES)]:
        names |= {f"roi_heads.box_head.{number}fc{i}.": f"box_heads.{stage}.box_head.fc{i + 5}." for i in (1, 2)}
        names[f"roi_heads.box_predictor.{number}"] = f"box_heads.{stage}.box_predictor."
    names |= {f"roi_heads.mask_head.mask_fcn{i + 1}.": f"mask_head.mask_head.{i}.0." for i in range(8)}
    names["roi_heads.mask_head.deconv."] = "mask_head.mask_predictor.conv5_mask."
    names["roi_heads.mask_head.predictor."] = "mask_head.mask_predictor.mask_fcn_logits."
    return names


def _mmdetection() -> dict[str, str]:
    names = {f"backbone.{part}": f"backbone.body.{part}" for part in ("conv1.", "bn1.", "layer")}
    for i in range(4):
        names[f"neck.lateral_convs.{i}.conv."] = f"backbone.fpn.inner_blocks.{i}.0."
        names[f"neck.fpn_convs.{i}.conv."] = f"backbone.fpn.layer_blocks.{i}.0."
    names["rpn_head.rpn_conv."] = "rpn.head.conv.0.0."
    names |= {"rpn_head.rpn_cls.": "rpn.head.cls_logits.", "rpn_head.rpn_reg.": "rpn.head.bbox_pred."}
    for stage, number in [(0, ""), *((stage, f"{stage}.") for stage in STAGES)]:
        head, ours = f"roi_head.bbox_head.{number}", f"box_heads.{stage}."
        names |= {f"{head}shared_fcs.{i}.": f"{ours}box_head.fc{i + 6}." for i in (0, 1)}
        names |= {f"{head}fc_cls.": f"{ours}box_predictor.cls_score."}
        names |= {f"{head}fc_reg.": f"{ours}box_predictor.bbox_pred."}
    names |= {f"roi_head.mask_head.convs.{i}.conv.": f"mask_head.mask_head.{i}.0." for i in range(8)}
    names["roi_head.mask_head.upsample."] = "mask_head.mask_predictor.conv5_mask."
    names["roi_head.mask_head.conv_logits."] = "mask_head.mask_predictor.mask_fcn_logits."
    names |= {f"roi_head.mask_iou_head.convs.{i}.conv.": f"scoring.convs.{2 * i}." for i in range(8)}
    names |= {f"roi_head.mask_iou_head.fcs.{i}.": f"scoring.fcs.{2 * i + 1}." for i in range(2)}
    names["roi_head.mask_iou_head.fc_mask_iou."] = "scoring.iou."
    return names


NAMES: dict[Framework, dict[str, str]] = {
    "torchvision": _torchvision(),
    "detectron2": _detectron2(),
    "mmdetection": _mmdetection(),
}
MARKS: dict[Framework, str] = {
    "torchvision": "backbone.body.",
    "detectron2": "backbone.bottom_up.",
    "mmdetection": "backbone.layer1.",
}
INSIDE = {f"conv{i}.norm.": f"bn{i}." for i in (1, 2, 3)} | {
    "shortcut.norm.": "downsample.1.",
    "shortcut.": "downsample.0.",
}
"""What detectron2 calls the layers of a block."""


def recognise(names: Iterable[str]) -> Framework:
    """The framework that names tensors so; CheckpointError says what else they may be."""
    names = list(names)
    for framework, mark in MARKS.items():
        if any(name.startswith(mark) for name in names):
            return framework
    if any(name.startswith(("layer1.", "stem.", "features.")) for name in names):
        raise CheckpointError("these are the weights of a backbone alone: --set backbone.weights=FILE starts from them")
    raise CheckpointError(
        f"none of these tensors belongs to a Mask R-CNN of torchvision, detectron2 or mmdetection (one is {names[0]!r})"
        if names
        else "there are no tensors to take"
    )


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what training in parallel, or under Lightning, puts in front of every name."""
    for prefix in ("module.", "model."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            return {name.removeprefix(prefix): value for name, value in tensors.items()}
    return dict(tensors)


def our_name(framework: Framework, name: str) -> str:
    """A tensor's name here; one that has no place here keeps its own."""
    known = NAMES[framework]
    theirs = max((prefix for prefix in known if name.startswith(prefix)), key=len, default=None)
    if theirs is None:
        return name
    found = known[theirs] + name.removeprefix(theirs)
    if framework == "detectron2" and found.startswith("backbone.body."):
        for old, new in INSIDE.items():
            found = re.sub(rf"(?<=\.){re.escape(old)}", new, found)
    return found


def converted(framework: Framework, name: str, value: Tensor, shape: torch.Size, settings: config.Config) -> Tensor:
    """A tensor, known by our name, in our order of rows and our coding of boxes; ``shape`` is that of ours."""
    layer = name.rpartition(".")[0]
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
    if rows and value.ndim == len(shape) and len(value) + rows == shape[0]:
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
        return _style(mean, std, mean[0] < mean[-1], None)
    text = _settings_text(content)
    mean, std = (_numbers(rf"\b{name}\s*=\s*\[([^\]]*)\]", text) for name in ("mean", "std"))
    if not mean or not std:
        return usual
    stride = "1x1" if re.search(r"style\s*=\s*['\"]caffe", text) else "3x3"
    return _style(mean, std, not re.search(r"to_rgb\s*=\s*True", text), stride)


def _style(mean: list[float], std: list[float], bgr: bool, stride: Literal["3x3", "1x1"] | None) -> Style:
    mean, std = (values[::-1] if bgr else values for values in (mean, std))
    if len(mean) != 3 or len(std) != 3 or any(abs(a - b) > 0.01 for a, b in zip(mean, MEAN, strict=True)) or 0 in std:
        raise CheckpointError(
            f"these weights expect colours less {mean}, where only ImageNet's means, {list(MEAN)}, can be taken exactly"
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


def class_names(content: Any) -> tuple[str, ...]:
    """Names of the classes that mmdetection writes beside its weights; none where there are none."""
    meta = content.get("meta") if isinstance(content, dict) else None
    places = [meta, meta.get("dataset_meta")] if isinstance(meta, dict) else []
    for place in places:
        for key in ("CLASSES", "classes"):
            names = place.get(key) if isinstance(place, dict) else None
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
    return ()
