"""COCO annotation files, read once into checked, immutable records.  Free of torch, so that checking data is quick.

Mistakes that make a file untrustworthy are errors; single bad annotations are repaired or skipped, counted and named.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from seanet.data.annotations import check_annotations
from seanet.data.files import irregular, read_lists, unsafe
from seanet.data.folders import find_split
from seanet.data.records import Annotation, Categories, CocoData, ImageRecord, mask_bits, to_bitmap, to_rle
from seanet.data.repairs import Findings, Repairs
from seanet.data.segmentations import FARTHEST, MOST_PIXELS
from seanet.data.values import is_int, is_number
from seanet.errors import AnnotationError

__all__ = [
    "Annotation",
    "Categories",
    "CocoData",
    "ImageRecord",
    "Repairs",
    "find_split",
    "mask_bits",
    "read_coco",
    "to_bitmap",
    "to_rle",
]


def read_coco(
    annotations: Path | str, images: Path | str, categories: Categories | None = None, *, tolerant: bool = False
) -> CocoData:
    """Read and check a COCO instance file whose images lie in the folder ``images``.

    ``categories``, those of a checkpoint for one, fix the labels: the file's own are matched with them by name.
    ``tolerant`` leaves entries out, noted as refused, for which the whole file is refused otherwise.
    """
    findings, folder = Findings(Path(annotations), tolerant=tolerant), Path(images)
    content = read_lists(findings)
    if not folder.is_dir():
        raise findings.error(f"the image folder {folder} does not exist: give the right one", field="images")
    own = _categories(content["categories"], findings)
    wanted = categories or own
    records = _Images(folder, findings).check(content["images"])
    objects = check_annotations(content["annotations"], records, own, wanted, findings)
    used = {a.label for found in objects.values() for a in found}
    for label, name in enumerate(wanted.names, 1):
        if label not in used:
            findings.note("category", "noticed", "no annotation, so its AP will be n/a", name)
    complete = (replace(record, annotations=tuple(objects.get(record.id, ()))) for record in records.values())
    return CocoData(findings.file, tuple(complete), wanted, findings.repairs)


def _categories(raw: list[Any], findings: Findings) -> Categories:
    """By id, with unique names."""
    found: dict[int, str] = {}
    for item in raw:
        entry = findings.entry(item, "categories")
        id, name = entry.get("id"), entry.get("name")
        if not is_int(id) or id < 0:
            message = f"category {name!r} has the id {id!r}: expected a whole number from 0"
            raise findings.error(message, field="id", value=id)
        if not isinstance(name, str) or not name:
            raise findings.error(f"category {id} has the name {name!r}: expected a text", field="name", value=name)
        if id in found:
            raise findings.error(f"two categories have the id {id}: give each its own", field="id", value=id)
        found[id] = name
    names = dict(sorted(found.items()))
    return Categories(tuple(names), tuple(_unique(names, findings)))


def _unique(names: dict[int, str], findings: Findings) -> Iterator[str]:
    taken = set()
    for id, name in names.items():
        if name in taken:
            findings.note("category", "renamed", f"its name {name!r} is taken, its id was added", id)
            name = f"{name} ({id})"
        taken.add(name)
        yield name


class _Images:
    """The list ``images`` of a file and the image files that it names."""

    def __init__(self, folder: Path, findings: Findings):
        self.folder, self.findings = folder, findings
        self.entries: dict[int, dict[str, Any]] = {}
        self.users: dict[Path, int] = {}

    def check(self, raw: list[Any]) -> dict[int, ImageRecord]:
        """Records without annotations, by id."""
        records: dict[int, ImageRecord] = {}
        missing: list[tuple[int, str]] = []
        for item in raw:
            entry = self.findings.entry(item, "images")
            id = self._id(entry)
            if self._repeated(id, entry):
                continue
            path, reason = self._locate(id, entry.get("file_name"))
            if reason:
                missing.append((id, f"{entry['file_name']!r} {reason}"))
                continue
            if self.users.setdefault(path, id) != id:
                self.findings.note("image", "noticed", "its file belongs to another image too", id)
            records[id] = ImageRecord(id, path, *self._size(id, entry, path), ())
        if missing:
            raise self._unusable(missing, len(raw))
        return records

    def _id(self, entry: dict[str, Any]) -> int:
        id = entry.get("id")
        if not is_int(id):
            message = f"an image has the id {id!r}: expected a whole number"
            raise self.findings.error(message, image_id=id, field="id", value=id)
        return id

    def _repeated(self, id: int, entry: dict[str, Any]) -> bool:
        first = self.entries.setdefault(id, entry)
        if first is entry:
            return False
        if first != entry:
            message = f"two different images have the id {id}: give each its own"
            raise self.findings.error(message, image_id=id, field="id", value=id)
        self.findings.note("image", "repaired", "listed twice", id)
        return True

    def _locate(self, id: int, name: object) -> tuple[Path, str]:
        """Path of an image and what is wrong with the file there, if anything."""
        facts: dict[str, object] = {"image_id": id, "field": "file_name", "value": name}
        if not isinstance(name, str) or not name:
            raise self.findings.error(f"image {id} has the file_name {name!r}: expected a text", **facts)
        if reason := unsafe(name):
            message = f"image {id} has the file_name {name!r}, which {reason}: name a file below the folder"
            raise self.findings.error(message, **facts)
        for variant in dict.fromkeys((name, *(unicodedata.normalize(f, name) for f in ("NFC", "NFD")))):
            reason = irregular(self.folder / variant)
            if reason != "does not exist":
                if variant != name:
                    what = "file_name in another Unicode form than its file"
                    self.findings.note("image", "repaired", what, id)
                return self.folder / variant, reason
        return self.folder / name, reason

    def _size(self, id: int, entry: dict[str, Any], path: Path) -> tuple[int, int]:
        """(width, height) as the file of annotations says, or, where it says nothing, as the image does."""
        if entry.get("width") is None and entry.get("height") is None:
            from seanet.data.images import image_size  # Pillow only where it is needed

            self.findings.note("image", "repaired", "width and height missing, taken from its file", id)
            height, width = image_size(path)
            return width, height
        width, height = (self._side(id, name, entry.get(name)) for name in ("width", "height"))
        if width * height > MOST_PIXELS:
            message = f"image {id} has {width} x {height} pixels: cut it into tiles"
            raise self.findings.error(message, image_id=id, field="width")
        return int(width), int(height)

    def _side(self, id: int, name: str, side: object) -> float:
        if not is_number(side) or side != side // 1 or not 1 <= side <= FARTHEST:
            message = f"image {id} has the {name} {side!r}: expected whole pixels from 1 to {FARTHEST:,.0f}"
            raise self.findings.error(message, image_id=id, field=name, value=side)
        return side

    def _unusable(self, missing: list[tuple[int, str]], total: int) -> AnnotationError:
        shown = ", ".join(name for _, name in missing[:10]) + (", ..." if len(missing) > 10 else "")
        first = missing[0][0]
        return self.findings.error(
            f"{len(missing)} of {total} images cannot be used (image {first} first): {shown}; "
            f"looked in {self.folder}: put the files there or give the right folder",
            image_id=first,
            field="file_name",
            value=[name for _, name in missing],
        )
