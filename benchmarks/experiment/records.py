"""Records: what was measured of one row with one seed, and all that its numbers depend on.  Free of torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.presets import Preset
from experiment.rows import Row, changes, recipe_of

from seanet.errors import UserError


@dataclass(frozen=True)
class Cell:
    """A row with a seed."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row.name}-s{self.seed}"


def expected(cell: Cell, preset: Preset, data: dict[str, Any], start: dict[str, Any] | None = None) -> dict[str, Any]:
    """The part of a record that is known before anything runs; ``data`` and ``start`` are its words about those."""
    settings = dict(change.split("=", 1) for change in changes(cell.row, preset))
    return {
        "row": cell.row.name,
        "seed": cell.seed,
        "preset": preset.name,
        "recipe": recipe_of(cell.row, preset).recipe,
        "settings": settings,
        "weights_of": cell.row.of,
        "data": data,
        "steps": preset.steps,
        "batch": preset.batch,
        **({"init": start} if start else {}),
    }


def is_recorded(file: Path, wanted: dict[str, Any]) -> bool:
    """Whether the record is there; UserError if it is one of something else."""
    if not file.exists():
        return False
    found = read(file)
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        lines = "; ".join(f"{name} {found.get(name)} where {wanted[name]} is asked for" for name in other)
        raise UserError(
            f"{file} was made otherwise: {lines}; delete it to make it again, or name another folder (--records)",
            file=file,
            field=other[0],
        )
    return True


def read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no JSON ({error}): delete it to make it again", file=file) from error
    if not isinstance(found, dict):
        raise UserError(f"{file} is no record of a run: delete it to make it again", file=file)
    return found
