"""The data of an ablation: drawn once or given, the same for all rows and seeds.  Free of torch.

Of given ones ``OUT/data`` has annotations with one class, and links to the images where they are.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiment.merging import merged
from experiment.presets import Drawing, Preset
from experiment.records import read

from seanet.data.checking.headers import require_files
from seanet.data.coco import read_coco
from seanet.data.folders import find_splits
from seanet.data.formats.converting import link_images
from seanet.data.synth import synthesise
from seanet.errors import UserError
from seanet.report.files import write_whole

GLANCED = 4  # images that a run evaluates by itself at its end; what counts is measured afterwards
NOTE = "data.json"
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Place:
    """Where runs find the data: annotation file and folder of images of each split."""

    folder: Path
    train: tuple[Path, Path]
    val: tuple[Path, Path]
    given: Path | None = None
    """The folder that somebody named; None: the data are drawn."""


def place(out: Path, preset: Preset, given: Path | None) -> Place:
    """In ``out/data``, whether they are drawn or come from the folder ``given``."""
    if preset.drawing and given:
        raise UserError(f"--data belongs to presets of given images: {preset.name} draws its own", field="data")
    if preset.drawing:
        return _below(out / "data", "")
    if given is None:
        raise UserError(
            f"{preset.name} draws no images: name the folder of a COCO-style data set (--data)", field="data"
        )
    # A link "val" would show annotations that lie beside the images, with their own classes, before ours.
    return replace(_below(out / "data", "images"), given=given.resolve())


def _below(folder: Path, images: str) -> Place:
    return Place(folder, *((_annotations(folder, split), folder / images / split) for split in SPLITS))


def _annotations(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def provide(out: Path, preset: Preset, there: Place) -> dict[str, Any]:
    """Draw the data where they are not there yet, or merge the classes of given ones; -> what records say of them.

    UserError where they are not what the preset asks for, or no longer what earlier runs in ``out`` were trained on.
    """
    found, parts = _given(there.given) if there.given else (_drawn(there.folder, preset.drawing), {})
    note = out / NOTE
    if note.exists() and read(note) != found:
        raise UserError(
            f"{there.given or there.folder} is not what {note} says that earlier runs saw: name another folder (--out)",
            file=there.given or there.folder,
        )
    for split, (text, images) in parts.items():
        write_whole(_annotations(there.folder, split), text)
        link_images(there.folder, images, f"images/{split}")
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


def _given(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[bytes, Path]]]:
    """-> what records say of them; annotations of each split with one class, and its folder of images.

    Read as training reads them, so that it stops before the first run; the digest is of those annotations and file sizes.
    """
    files = find_splits(folder, SPLITS)
    sets = {split: read_coco(*pair) for split, pair in files.items()}
    for line in require_files(tuple(sets.values())):
        print(f"warning: {line}", flush=True)
    texts = {split: merged(file) for split, (file, _) in files.items()}
    digests = [(split, hashlib.sha256(text).digest()) for split, text in texts.items()]
    paths = [(split, image.path) for split, part in sets.items() for image in part.images]
    sizes = [(f"{split}/{path.name}", path.stat().st_size.to_bytes(8)) for split, path in paths]
    counts = {split: len(part.images) for split, part in sets.items()}
    found = {"images": counts, "classes": 1, "digest": _digest(digests + sizes)}
    return found, {split: (texts[split], images) for split, (_, images) in files.items()}


def _digest(parts: Iterable[tuple[str, bytes]]) -> str:
    """Of names with what stands for their contents, in order."""
    found = hashlib.sha256()
    for name, content in parts:
        found.update(name.encode())
        found.update(content)
    return found.hexdigest()[:16]


def _require_as_asked(folder: Path, size: int, counts: dict[str, int]) -> None:
    for split, count in counts.items():
        images = read(_annotations(folder, split))["images"]
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
