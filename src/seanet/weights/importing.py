"""Weights of other frameworks' Mask R-CNNs, taken into ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from seanet.detector import Detector
from seanet.errors import CheckpointError
from seanet.predict import Model
from seanet.weights.start import COUNTER


@dataclass(frozen=True)
class Imported:
    """Names of the tensors that found their place, of those that found none, and of those of ours left as they were."""

    taken: list[str]
    unused: list[str]
    untouched: list[str]


TORCHVISION_NAMES = {
    "roi_heads.box_head.": "box_heads.0.box_head.",
    "roi_heads.box_predictor.": "box_heads.0.box_predictor.",
    "roi_heads.mask_head.": "mask_head.mask_head.",
    "roi_heads.mask_predictor.": "mask_head.mask_predictor.",
}


def import_torchvision(model: Model | Detector, state_dict: Mapping[str, Tensor]) -> Imported:
    """Takes the weights of a torchvision Mask R-CNN: all of them for ``mask_rcnn_*``, backbone, FPN and RPN for SEANet.

    In a cascade they go to the first box head.  A tensor of another shape (a different number of classes, or one box for
    all of them) is left out and named in what is returned, as is what torchvision has no weights for.
    """
    detector = model.detector if isinstance(model, Model) else model
    ours = detector.state_dict()
    renamed = {_our_name(name): value for name, value in state_dict.items() if not name.endswith(COUNTER)}
    taken = {k: v for k, v in renamed.items() if k in ours and ours[k].shape == v.shape}
    if not taken:
        raise CheckpointError("none of these tensors belongs to this model: are they of a torchvision Mask R-CNN?")
    detector.load_state_dict(taken, strict=False)
    untouched = [k for k in ours if k not in taken and not k.endswith(COUNTER)]
    return Imported(sorted(taken), sorted(renamed.keys() - taken.keys()), untouched)


def _our_name(name: str) -> str:
    for theirs, own in TORCHVISION_NAMES.items():
        if name.startswith(theirs):
            return own + name.removeprefix(theirs)
    return name
