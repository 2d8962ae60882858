"""Whether a run that goes on is the run that was begun: its settings, its classes, its data, and what computes it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from seanet import checkpoint, settings
from seanet.config import Config
from seanet.data.records import Annotation, CocoData
from seanet.errors import CheckpointError
from seanet.training.folder import Found
from seanet.training.optim import Plan

FREE = ("epochs", "steps", "workers", "devices", "patience", "validate_every", "log_every", "metric", "nonfinite")
"""Settings of ``train`` that a resumed run may change: they leave the steps already made as they were."""
Identity = dict[str, dict[str, int | str]]
"""What was trained on, for each set: counts, and fingerprints of what order and targets depend on."""
NAMES = {"images": "images", "objects": "objects", "order": "ids, sizes or order of images", "targets": "objects"}


def identity(sets: Mapping[str, CocoData]) -> Identity:
    return {
        name: {
            "images": len(data.images),
            "objects": sum(len(image.annotations) for image in data.images),
            "order": _digest(f"{image.id} {image.width} {image.height};".encode() for image in data.images),
            "targets": _digest(_bytes(a) for image in data.images for a in image.annotations),
        }
        for name, data in sets.items()
    }


def check_same(found: Found, config: Config, classes: tuple[str, ...], data: Identity) -> list[str]:
    """CheckpointError where a run would not go on as it began; else sentences about what is allowed to differ."""
    checkpoint.check_fits(found.path, found.meta, classes)
    old = found.meta.config
    freed = replace(config, train=replace(config.train, **{name: getattr(old.train, name) for name in FREE}))
    if lines := settings.differences(old, freed):
        raise _other(found, "settings", lines, "take them back")
    if lines := _data_differences(found.state.get("data") or {}, data):
        raise _other(found, "data", lines, "name those it was begun with")
    said = settings.differences(old, config)
    return [f"other settings from here on: {'; '.join(said)}"] * bool(said) + _versions(found.meta.versions)


def schedule_moved(found: Found, config: Config, images: int) -> list[str]:
    """A sentence where another length of the run moves the rate of the steps to come."""
    old, new, step = Plan(found.meta.config.train, images), Plan(config.train, images), found.meta.step
    if old.steps == new.steps:
        return []
    return [
        f"the schedule is one of {new.steps} steps now, not of {old.steps}: the rate of step {step + 1} is"
        f" {new.rate(step):.4g}, where it would have been {old.rate(step):.4g}; the steps made keep theirs"
    ]


def _other(found: Found, what: str, lines: list[str], remedy: str) -> CheckpointError:
    shown = "".join(f"\n  {line}" for line in lines)
    return CheckpointError(
        f"{found.path} was trained with other {what} than those asked for; {remedy}, or start a new run from it"
        f" (--init):{shown}",
        file=str(found.path),
        field=what,
        value=lines,
    )


def _data_differences(old: Identity, new: Identity) -> list[str]:
    lines = []
    for name in (name for name in new if name in old):
        a, b = old[name], new[name]
        counts = [f"{name}: {a[key]} -> {b[key]} {key}" for key in ("images", "objects") if a[key] != b[key]]
        others = [f"{name}: other {NAMES[key]}" for key in ("order", "targets") if a[key] != b[key]]
        lines += counts or others
    return lines


def _versions(old: Mapping[str, str]) -> list[str]:
    new = checkpoint.versions()
    changed = [f"{name} {old[name]} -> {new[name]}" for name in new if name in old and old[name] != new[name]]
    return [f"warning: {', '.join(changed)}: the steps to come may be rounded otherwise"] if changed else []


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _bytes(annotation: Annotation) -> bytes:
    shape: Any = annotation.segmentation
    rings = [shape["counts"]] if isinstance(shape, dict) else [np.asarray(ring).tobytes() for ring in shape]
    return b"|".join([f"{annotation.label} {annotation.crowd} {annotation.box}".encode(), *rings, b";"])
