"""The data of an ablation: drawn once or given, the same for all rows and seeds.  Free of torch."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.presets import Drawing, Preset
from experiment.records import read

from seanet.data.checking.headers import require_files
from seanet.data.coco import find_split, read_coco
from seanet.data.synth import synthesise
from seanet.errors import UserError
from seanet.report.files import write_whole

GLANCED = 4  # images that a run evaluates by itself at its end; what counts is measured afterwards
NOTE = "data.json"


@dataclass(frozen=True)
class Place:
    """Where the data are: annotation file and folder of images of each split."""

    folder: Path
    train: tuple[Path, Path]
    val: tuple[Path, Path]


def place(out: Path, preset: Preset, given: Path | None) -> Place:
    """Those that will be drawn into ``out/data``, or those in the folder ``given``."""
    if preset.drawing and given:
        raise UserError(f"--data belongs to presets of given images: {preset.name} draws its own", field="data")
    if preset.drawing:
        folder = out / "data"
        return Place(folder, *((folder / "annotations" / f"instances_{s}.json", folder / s) for s in ("train", "val")))
    if given is None:
        raise UserError(
            f"{preset.name} draws no images: name the folder of a COCO-style data set (--data)", field="data"
        )
    return Place(given.resolve(), find_split(given, "train"), find_split(given, "val"))


def provide(out: Path, preset: Preset, there: Place) -> dict[str, Any]:
    """Draw the data where they are not there yet and to be drawn; -> what records say of them.

    UserError where they are not what the preset asks for, or no longer what earlier runs in ``out`` were trained on.
    """
    found = _drawn(there.folder, preset.drawing) if preset.drawing else _given(there)
    note = out / NOTE
    if note.exists() and read(note) != found:
        raise UserError(
            f"{there.folder} is not what {note} says that earlier runs saw: name another folder (--out)",
            file=there.folder,
        )
    write_whole(note, json.dumps(found).encode())
    _write_glance(out, there.val[0])
    return found


def glance(out: Path) -> Path:
    return out / "glance.json"


def _drawn(folder: Path, drawing: Drawing) -> dict[str, Any]:
    if not folder.exists():
        print(f"drawing {drawing.images} + {drawing.val} images into {folder}", flush=True)
        synthesise(folder, drawing.images, drawing.size, drawing.seed, drawing.val, preset="boundary")
    counts = {"train": drawing.images, "val": drawing.val}
    _require_as_asked(folder, drawing.size, counts)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    parts = ((path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).digest()) for path in files)
    return {"images": counts, "size": drawing.size, "seed": drawing.seed, "digest": _digest(parts)}


def _given(there: Place) -> dict[str, Any]:
    """Read as training reads them, so that it stops before the first run; the digest is of annotations and file sizes."""
    train = read_coco(*there.train)
    sets = {"train": train, "val": read_coco(*there.val, categories=train.categories)}
    for line in require_files(tuple(sets.values())):
        print(f"warning: {line}", flush=True)
    texts = [(split, hashlib.sha256(part.file.read_bytes()).digest()) for split, part in sets.items()]
    paths = [(split, image.path) for split, part in sets.items() for image in part.images]
    sizes = [(f"{split}/{path.name}", path.stat().st_size.to_bytes(8)) for split, path in paths]
    return {"images": {split: len(part.images) for split, part in sets.items()}, "digest": _digest(texts + sizes)}


def _digest(parts: Iterable[tuple[str, bytes]]) -> str:
    """Of names with what stands for their contents, in order."""
    found = hashlib.sha256()
    for name, content in parts:
        found.update(name.encode())
        found.update(content)
    return found.hexdigest()[:16]


def _require_as_asked(folder: Path, size: int, counts: dict[str, int]) -> None:
    for split, count in counts.items():
        images = read(folder / "annotations" / f"instances_{split}.json")["images"]
        sizes = {(image["width"], image["height"]) for image in images}
        if len(images) != count or sizes != {(size, size)}:
            raise UserError(
                f"{folder} holds {len(images)} images of {sorted(sizes)} pixels in {split}, not {count} of {size}:"
                " name another folder (--out)",
                file=folder,
            )


def _write_glance(out: Path, annotations: Path) -> None:
    """A few images of the val split: training cannot end without an evaluation."""
    whole = read(annotations)
    images = whole["images"][:GLANCED]
    ids = {image["id"] for image in images}
    objects = [entry for entry in whole["annotations"] if entry["image_id"] in ids]
    write_whole(glance(out), json.dumps(whole | {"images": images, "annotations": objects}).encode())
