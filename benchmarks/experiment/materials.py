"""The data of an ablation: drawn once, the same for all rows and seeds.  Free of torch."""

import json
from pathlib import Path
from typing import Any

from experiment.presets import Preset
from experiment.records import describe, read

from seanet.data.synth import synthesise
from seanet.errors import UserError
from seanet.report.files import write_whole

GLANCED = 4  # images that a run evaluates by itself at its end; what counts is measured afterwards


def provide(out: Path, preset: Preset) -> dict[str, Any]:
    """Draw ``out/data`` if it is not there; -> what records say of it.

    UserError where it is not what the preset asks for, or no longer what earlier runs in ``out`` were trained on.
    """
    folder, note = out / "data", out / "data.json"
    if not folder.exists():
        print(f"drawing {preset.images} + {preset.val} images into {folder}", flush=True)
        synthesise(folder, preset.images, preset.size, preset.data_seed, preset.val, preset="boundary")
    _require_as_asked(folder, preset)
    found = describe(folder, preset)
    if note.exists() and read(note) != found:
        raise UserError(
            f"{folder} is not what {note} says that earlier runs saw: name another folder (--out)", file=folder
        )
    write_whole(note, json.dumps(found).encode())
    _write_glance(out)
    return found


def annotations(out: Path, split: str) -> Path:
    return out / "data" / "annotations" / f"instances_{split}.json"


def glance(out: Path) -> Path:
    return out / "glance.json"


def _require_as_asked(folder: Path, preset: Preset) -> None:
    for split, count in (("train", preset.images), ("val", preset.val)):
        images = read(folder / "annotations" / f"instances_{split}.json")["images"]
        sizes = {(image["width"], image["height"]) for image in images}
        if len(images) != count or sizes != {(preset.size, preset.size)}:
            raise UserError(
                f"{folder} holds {len(images)} images of {sorted(sizes)} pixels in {split}, not {count} of"
                f" {preset.size}: name another folder (--out)",
                file=folder,
            )


def _write_glance(out: Path) -> None:
    """A few images of the val split: training cannot end without an evaluation."""
    whole = read(annotations(out, "val"))
    images = whole["images"][:GLANCED]
    ids = {image["id"] for image in images}
    objects = [entry for entry in whole["annotations"] if entry["image_id"] in ids]
    write_whole(glance(out), json.dumps(whole | {"images": images, "annotations": objects}).encode())
