"""What torchvision, detectron2 and mmdetection (2.x and 3.x) call the parts of a Mask R-CNN.  Free of torch.

Our names are torchvision's, but for the heads, which stand in lists here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar

from seanet.errors import CheckpointError

Framework = Literal["torchvision", "detectron2", "mmdetection"]
STAGES = range(3)  # of a cascade
Value = TypeVar("Value")


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


def recognise(names: Collection[str]) -> Framework:
    """The framework that names tensors so; CheckpointError says what else they may be."""
    for framework, mark in MARKS.items():
        if any(name.startswith(mark) for name in names):
            return framework
    if any(name.startswith(("layer1.", "stem.", "features.")) for name in names):
        raise CheckpointError("these are the weights of a backbone alone: --set backbone.weights=FILE starts from them")
    raise CheckpointError(
        f"none of these tensors belongs to a Mask R-CNN of torchvision, detectron2 or mmdetection (one is {min(names)!r})"
        if names
        else "there are no tensors to take"
    )


def without_prefix(tensors: Mapping[str, Value]) -> dict[str, Value]:
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
