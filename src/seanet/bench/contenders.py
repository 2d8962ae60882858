"""Who is measured, and under what: names such as ``seanet_r50:plain,bf16``.  Free of torch, but for checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from seanet.config import Config, Execution
from seanet.errors import UserError
from seanet.recipes import RECIPES, recipe
from seanet.settings import from_dict, to_dict

Task = Literal["predict", "train"]
THEIRS = "torchvision"
# Backbones that torchvision's own builders make a Mask R-CNN of, by the last word of our recipes.
COUNTERPARTS = {"r50": "resnet50", "r101": "resnet101", "x101": "resnext101_64x4d", "lite": "mobilenet_v2"}
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
SURVIVORS = 0.35  # of 1000 proposals 308 are then localised, of trained models' 344 (benchmarks/second_stage.json)
SWITCHES = {"on": True, "off": False}


@dataclass(frozen=True)
class Setting:
    """What all contenders of a run share."""

    size: tuple[int, int] = (800, 1216)
    """Height and width of the network's image."""
    batch: int = 1
    proposals: int = 1000
    """Boxes of an image that the box head sees."""
    detections: int = 100
    """Boxes of an image that the mask head sees."""
    survivors: float = SURVIVORS
    """Share of the proposals with a class above the score threshold."""
    classes: int = 80
    objects: int = 8
    """Of a training image."""
    device: str = "cpu"

    @property
    def file(self) -> tuple[int, int]:
        """Height and width of an image file: COCO's are 0.6 of what networks see."""
        height, width = self.size
        return round(0.6 * height), round(0.6 * width)


def passing(proposals: int, detections: int) -> float:
    """The share of the proposals that must pass for so many detections to be left by suppression."""
    return min(max(SURVIVORS, 3 * detections / proposals), 1.0)


@dataclass(frozen=True)
class Contender:
    """A model and the way it is run."""

    name: str
    """As it was written."""
    config: Config
    """Of ours; for torchvision's, of the Mask R-CNN that it stands beside."""
    theirs: bool = False
    checkpoint: Path | None = None
    """Weights that were trained; else they are random and calibrated."""
    plain: bool = False
    """The paper's forms of the heads, without the exact rewrites."""
    execution: Execution = field(default_factory=Execution)

    def to_dict(self) -> dict[str, Any]:
        plain = {"name": self.name, "theirs": self.theirs, "plain": self.plain, "execution": asdict(self.execution)}
        return plain | {"config": to_dict(self.config), "checkpoint": self.checkpoint and str(self.checkpoint)}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Contender:
        """What ``to_dict`` gave to another process."""
        config, path = from_dict(found["config"]), found["checkpoint"]
        execution = Execution(**found["execution"])
        return cls(found["name"], config, found["theirs"], path and Path(path), found["plain"], execution)


def contenders(names: Sequence[str], execution: Execution, plain: bool = False) -> list[Contender]:
    """Who the names mean; ``execution`` and ``plain`` hold for ours where a name says nothing else.

    ``torchvision`` alone has the backbone of the first of ours, ResNet-50 where there is none.
    """
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"{doubled[0]} is named twice: settings behind a colon tell two apart, such as seanet_r50:plain"
        )
    ours = {name: _ours(name, execution, plain) for name in names if not _is_theirs(name)}
    first = next(iter(ours.values())).config if ours else RECIPES["mask_rcnn_r50"]
    return [ours[name] if name in ours else _theirs(name, first) for name in names]


def _is_theirs(name: str) -> bool:
    return name.partition(":")[0].partition("_")[0] == THEIRS


def _theirs(name: str, beside: Config) -> Contender:
    """torchvision's Mask R-CNN as its users run it: float32, eager, dense masks."""
    if ":" in name:
        raise UserError(f"{name}: torchvision's model runs as its users run it and takes no settings")
    word = name.removeprefix(THEIRS).removeprefix("_")
    if word and word not in COUNTERPARTS:
        known = ", ".join(f"{THEIRS}_{key}" for key in COUNTERPARTS)
        raise UserError(f"there is no {name!r}: known are {THEIRS} and {known}")
    body = COUNTERPARTS[word] if word else beside.backbone.name
    if body not in COUNTERPARTS.values():
        known = ", ".join(COUNTERPARTS.values())
        raise UserError(
            f"torchvision builds no Mask R-CNN on {body}, only on {known}: leave torchvision out, or name one"
        )
    key = next(key for key, value in COUNTERPARTS.items() if value == body)
    return Contender(
        name, RECIPES[f"mask_rcnn_{key}"], theirs=True, execution=Execution(channels_last=False, substitutes=False)
    )


def _ours(name: str, execution: Execution, plain: bool) -> Contender:
    what, words = (name, "") if Path(name).exists() else (name.partition(":")[0], name.partition(":")[2])
    found = Contender(name, *_model(what), plain=plain, execution=execution)
    for word in filter(None, words.split(",")):
        found = _with(found, word)
    return found


def _model(what: str) -> tuple[Config, bool, Path | None]:
    """The configuration of a recipe or a checkpoint, that it is ours, and where its weights are."""
    if what in RECIPES or not Path(what).exists():
        return recipe(what), False, None
    from seanet.checkpoint import read_meta

    return read_meta(what).config, False, Path(what)


def _with(found: Contender, word: str) -> Contender:
    """One setting more: ``plain``, a precision, ``compile``, ``graphs``, ``substitutes=off``, ``channels_last=off``."""
    if word == "plain":
        return replace(found, plain=True)
    key, _, value = word.partition("=")
    if word in PRECISIONS:
        change: dict[str, Any] = {"precision": word}
    elif word in ("compile", "graphs"):
        change = {"compile": "default" if word == "compile" else word}
    elif key in ("substitutes", "channels_last") and value in SWITCHES:
        change = {key: SWITCHES[value]}
    else:
        known = f"plain, {', '.join(PRECISIONS)}, compile, graphs, substitutes=on|off, channels_last=on|off"
        raise UserError(f"{found.name}: there is no setting {word!r}; known are {known}")
    return replace(found, execution=replace(found.execution, **change))
