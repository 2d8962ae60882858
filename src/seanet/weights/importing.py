"""Weights of other frameworks' Mask R-CNNs, taken into ours.

Exact, up to the rounding of images' colours: Mask R-CNN with a ResNet and FPN, class-specific or shared boxes, cascades of box
heads, the MaskIoU head of mmdetection.  Where a framework's anchors have fractions, ours are rounded to whole pixels as
torchvision's are; mmdetection averages the masks of three heads in a cascade, here there is one (the last of its three).
What a model must be set to for their numbers is in ``Imported.advice``; ``making.new_model`` sets it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from seanet import settings
from seanet.config import Config
from seanet.detector import Detector
from seanet.errors import CheckpointError, UserError
from seanet.predict import Model
from seanet.weights.files import Source, read_source
from seanet.weights.frameworks import SETTINGS, STYLES, Style, converted, first_convolution, style_of
from seanet.weights.names import Framework, class_names, our_name, recognise, without_prefix
from seanet.weights.start import COUNTER

FIRST = "backbone.body.conv1.weight"
LAST_OF_THREE = "roi_head.mask_head.2."
NOT_WEIGHTS = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")


@dataclass(frozen=True)
class Imported:
    """Names of the tensors that found their place, of those that found none, and of those of ours left as they were."""

    taken: list[str]
    unused: list[str]
    untouched: list[str]
    framework: str = "torchvision"
    advice: list[str] = field(default_factory=list)
    """Settings that would make the model predict what theirs does, as ``pool.samples: 2 -> 0``."""


@dataclass(frozen=True)
class Foreign:
    """Another framework's weights, before they are in our order."""

    framework: Framework
    style: Style
    tensors: dict[str, Tensor]
    """By our names where they have a place here."""
    classes: tuple[str, ...]
    """Names, where the file has them."""
    count: int
    """Of classes, without the background."""
    path: Path | None = None

    @property
    def wanted(self) -> dict[str, Any]:
        """Settings that the weights were made for."""
        return SETTINGS[self.framework] | {"backbone.stride_in": self.style.stride_in}


def import_torchvision(model: Model | Detector, state_dict: Mapping[str, Tensor]) -> Imported:
    """Takes the weights of a torchvision Mask R-CNN: all of them for ``mask_rcnn_*``, backbone, FPN and RPN for SEANet.

    In a cascade they go to the first box head.  A tensor of another shape (a different number of classes, or one box for
    all of them) is left out and named in what is returned, as is what torchvision has no weights for.
    """
    return import_weights(model, state_dict)


def import_weights(model: Model | Detector, weights: Mapping[str, Tensor] | Path | str, style: str = "") -> Imported:
    """The same for torchvision, detectron2 and mmdetection, told apart by their names; ``weights`` may be a file.

    ``style`` (pytorch, caffe or bgr, see ``frameworks.STYLES``) is needed where it is neither in the file nor usual.
    """
    detector = model.detector if isinstance(model, Model) else model
    source = Source(None, dict(weights)) if isinstance(weights, Mapping) else read_source(Path(weights))
    return put(detector, foreign(source, style))


def foreign(source: Source, style: str = "") -> Foreign:
    """What a file of another framework holds; CheckpointError where it is none of the three."""
    if style and style not in STYLES:
        raise UserError(f"there is no style {style!r}: pytorch, caffe and bgr are known", field="style", value=style)
    tensors = without_prefix(source.tensors)
    with _naming(source.path):
        framework = recognise(tensors.keys())
        found = STYLES[style] if style else style_of(framework, tensors, source.content)
    tensors = {name.replace(LAST_OF_THREE, "roi_head.mask_head."): value for name, value in tensors.items()}
    named = {our_name(framework, name): value for name, value in tensors.items() if not _no_weight(name)}
    if broken := [name for name, value in named.items() if value.is_floating_point() and not value.isfinite().all()]:
        with _naming(source.path):
            raise CheckpointError(f"holds weights that are not finite ({broken[0]})")
    return Foreign(framework, found, named, class_names(source.content), _classes(named), source.path)


def put(detector: Detector, given: Foreign) -> Imported:
    """Takes all that fits by name and shape; CheckpointError where nothing does or the backbone is another."""
    ours, config = detector.state_dict(), detector.settings
    in_our_order = {
        name: converted(given.framework, name, value, ours[name].shape, config) if name in ours else value
        for name, value in given.tensors.items()
    }
    if FIRST in in_our_order:
        in_our_order[FIRST] = first_convolution(in_our_order[FIRST], given.style)
    taken = {k: v for k, v in in_our_order.items() if k in ours and ours[k].shape == v.shape}
    with _naming(given.path):
        if not taken:
            raise CheckpointError(f"nothing of these weights of {given.framework} fits into {config.recipe}")
        _check_backbone(given, in_our_order, taken, ours, config)
    detector.load_state_dict(taken, strict=False)
    untouched = [k for k in ours if k not in taken and not k.endswith(COUNTER)]
    unused = sorted(in_our_order.keys() - taken.keys())
    return Imported(sorted(taken), unused, untouched, given.framework, _advice(given, config))


@contextmanager
def _naming(path: Path | None) -> Generator[None]:
    """Put the file's name, where there is one, before what is wrong with its weights."""
    try:
        yield
    except CheckpointError as error:
        raise (CheckpointError(f"{path}: {error}", file=str(path)) if path else error) from None


def _no_weight(name: str) -> bool:
    return name.endswith(COUNTER) or name.startswith(NOT_WEIGHTS)


def _classes(named: Mapping[str, Tensor]) -> int:
    """All three have a row of scores for the background too; 0 where scores have no weights, which bound a model's size."""
    weight = named.get("box_heads.0.box_predictor.cls_score.weight")
    return 0 if weight is None or weight.ndim != 2 else max(len(weight) - 1, 0)


def _check_backbone(
    given: Foreign, named: Mapping[str, Tensor], taken: Mapping[str, Tensor], ours: Mapping[str, Tensor], config: Config
) -> None:
    """Half a network would run, and see nothing."""
    part = "backbone.body."
    theirs, own = ({name for name in names if name.startswith(part)} for names in (named, ours))
    wrong = sorted({n for n in theirs | own if n not in taken and not n.endswith(COUNTER)})
    if theirs and wrong:
        raise CheckpointError(
            f"these weights of {given.framework} are of another backbone than {config.backbone.name}"
            f" (norm={config.backbone.norm}): {len(wrong)} of its tensors do not fit, first {wrong[0]}"
        )


def _advice(given: Foreign, config: Config) -> list[str]:
    return settings.differences(config, set_for(given, config))


def set_for(given: Foreign, config: Config) -> Config:
    """The configuration with what these weights were made for."""
    return settings.override(config, [f"{key}={value}" for key, value in given.wanted.items()])
