"""Trained runs on disk: what they are and what they reached, read from small files and headers without torch."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seanet.config import Config
from seanet.errors import ConfigError, UserError
from seanet.recipes import EVERY
from seanet.settings import differences, from_dict

BEST = "best.safetensors"
LONGEST = 100_000_000  # bytes of a header, as safetensors has it
MODEL = ("geometry", "backbone.name", "backbone.channels", "pool.", "box.", "mask.", "cascade.", "scoring.")
"""Settings that make it another model than its recipe's."""


@dataclass(frozen=True)
class Trained:
    """A run whose best evaluation is on disk."""

    folder: Path
    recipe: str
    date: str
    digest: str
    """Fingerprint of its best weights."""
    metrics: dict[str, float | None]
    """Of its best evaluation, such as ``segm/AP``, 0..1."""
    file: str
    """The annotations it was evaluated on."""
    images: int
    changed: list[str]
    """What was set otherwise than its recipe has it."""

    @property
    def other_model(self) -> bool:
        return any(line.startswith(MODEL) for line in self.changed)


def find_runs(folder: Path, recipes: Iterable[str]) -> tuple[list[Trained], list[str]]:
    """Runs of these recipes under a folder, latest first, and a sentence about each that cannot stand for its recipe."""
    wanted, found, left_out = set(recipes), [], []
    for file in sorted(folder.rglob("run.json")):
        try:
            run = read_run(file, wanted)
        except UserError as error:
            left_out.append(str(error))
            continue
        if run and run.other_model:
            changed = ", ".join(line for line in run.changed if line.startswith(MODEL))
            left_out.append(f"{run.folder}: is no {run.recipe} any more ({changed})")
        elif run:
            found.append(run)
    return sorted(found, key=lambda run: run.date, reverse=True), left_out


def read_run(file: Path, recipes: Iterable[str]) -> Trained | None:
    """The run that a run.json describes; None if it is of no recipe that is asked for."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if (name := facts["recipe"]) not in recipes:
            return None
        date, data = str(facts["date"]), facts["data"]["val"]
        file_of_data, images = str(data["file"]), int(data["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is not what a run of seanet writes ({_reason(error)})", file=file) from None
    digest, config, metrics = read_best(file.parent / BEST)
    changed = differences(EVERY[name], config)
    return Trained(file.parent, name, date, digest, metrics, file_of_data, images, changed)


def read_best(file: Path) -> tuple[str, Config, dict[str, Any]]:
    """Digest, configuration and metrics that stand in the header of a checkpoint; its weights are not read."""
    if not file.is_file():
        raise UserError(f"{file.parent}: has no {BEST} yet, so no evaluation", file=file)
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, LONGEST)))["__metadata__"]
        described = json.loads(header["seanet"])
        return header["digest"], from_dict(described["config"]), dict(described["metrics"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise UserError(f"{file}: is no checkpoint that this seanet can read ({_reason(error)})", file=file) from None


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
