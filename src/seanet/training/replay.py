"""A step that was not finite, made again: where the first number that is not finite appears, and which image brings it."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seanet import checkpoint
from seanet.config import Config
from seanet.detector import build
from seanet.errors import CheckpointError
from seanet.execution import precise
from seanet.training.nonfinite import PATTERN, read_bad
from seanet.types import Batch

ALL = "all parameters together, whose norm overflows"
Build = Callable[[Config, int], nn.Module]


@dataclass(frozen=True)
class Account:
    """What a replay found; empty names where all was finite."""

    file: Path
    step: int
    ids: list[int]
    ranges: list[tuple[float, float]]
    """Smallest and largest value of each image's pixels."""
    boxes: list[tuple[float, float] | None]
    """Shortest and longest side of each image's boxes, in pixels; None: it has none."""
    losses: dict[str, float]
    weight: str = ""
    """The first weight that was not finite before the step."""
    module: str = ""
    """The first module whose output is not finite, in the order of computation."""
    gradient: str = ""
    """The parameter whose gradient is the first that is not finite, from the losses on, or ``ALL``."""
    images: list[int] = field(default_factory=list)
    """Ids of the images that alone bring a loss or gradient that is not finite."""

    @property
    def reproduced(self) -> bool:
        return bool(self.weight or self.module or self.gradient) or not all(map(math.isfinite, self.losses.values()))


def find_bad(path: Path) -> Path:
    """The kept batch that a path means: itself, or the first of a run's folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob(PATTERN), key=lambda file: (len(file.name), file.name))
    if not found:
        raise CheckpointError(f"{path} holds no {PATTERN}: no step of this run was kept for a replay", file=str(path))
    return found[0]


def replay(path: Path, build: Build = build) -> Account:
    """Make the kept step again, on the CPU in the run's precision, and look into it; nothing is changed."""
    file = find_bad(path)
    weights, meta, state, parts = read_bad(file)
    detector = build(meta.config, len(meta.classes)).train()
    checkpoint.load_whole(detector, weights, file)
    precision = meta.config.train.precision
    losses, module, gradient = _make(detector, parts, precision)
    bad = bool(module or gradient) or not all(map(math.isfinite, losses.values()))
    single = [one for part in parts for one in _singly(part)]
    return Account(
        file,
        state["step"],
        [id for part in parts for id in part.ids or []],
        [(float(image.min()), float(image.max())) for part in parts for image in part.images],
        [_sides(part, i) for part in parts for i in range(len(part))],
        losses,
        next((name for name, value in weights.items() if not value.isfinite().all()), ""),
        module,
        gradient,
        [one.ids[0] for one in single if one.ids and _spoils(detector, one, precision)] if bad else [],
    )


def _make(detector: nn.Module, parts: list[Batch], precision: str) -> tuple[dict[str, float], str, str]:
    """Losses, means over the parts; the first module and the first gradient that are not finite, or nothing."""
    buffers = {name: value.clone() for name, value in detector.named_buffers()}
    outputs, gradients, losses = [], [], []
    with ExitStack() as hooks:
        for name, module in detector.named_modules():
            handle = module.register_forward_hook(_watch(outputs, name or "the losses"))
            hooks.callback(handle.remove)
        for name, value in detector.named_parameters():
            if value.requires_grad:
                handle = value.register_post_accumulate_grad_hook(_watch_gradient(gradients, name))
                hooks.callback(handle.remove)
        for part in parts:
            torch.manual_seed(part.seed)
            with precise(precision, torch.device("cpu")):
                found = detector(part)
            losses.append(found)
            torch.stack([value.reshape(()) for value in found.values()]).sum().div(len(parts)).backward()
    norm = nn.utils.get_total_norm([p.grad for p in detector.parameters() if p.grad is not None])
    detector.zero_grad(set_to_none=True)
    for name, value in detector.named_buffers():
        value.copy_(buffers[name])
    means = {name: float(torch.stack([part[name].detach() for part in losses]).mean()) for name in losses[0]}
    return means, (outputs or [""])[0], (gradients or [ALL * (not norm.isfinite())])[0]


def _watch(found: list[str], name: str) -> Callable[..., None]:
    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if any(value.is_floating_point() and not value.isfinite().all() for value in _tensors(output)):
            found.append(name)

    return look


def _watch_gradient(found: list[str], name: str) -> Callable[[Tensor], None]:
    def look(parameter: Tensor) -> None:
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            found.append(name)

    return look


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)


def _spoils(detector: nn.Module, one: Batch, precision: str) -> bool:
    losses, module, gradient = _make(detector, [one], precision)
    return bool(module or gradient) or not all(map(math.isfinite, losses.values()))


def _singly(part: Batch) -> Iterator[Batch]:
    """Batches of one image each."""
    for i in range(len(part)):
        targets = part.targets and [part.targets[i]]
        ids, seeds = part.ids and [part.ids[i]], [part.own_seeds()[i]]
        yield Batch(part.images[i : i + 1], [part.sizes[i]], targets, ids, seeds)


def _sides(part: Batch, index: int) -> tuple[float, float] | None:
    if not part.targets or not len(part.targets[index].boxes):
        return None
    boxes = part.targets[index].boxes
    sides = boxes[:, 2:] - boxes[:, :2]
    return float(sides.min()), float(sides.max())
