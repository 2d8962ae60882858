"""COCO annotation files, read once into checked, immutable records.  Free of torch, so that checking data is quick.

Mistakes that make a file untrustworthy are errors; single bad annotations are repaired or skipped, counted and named.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from seanet.data.annotations import check_annotations
from seanet.data.entries import open_lists
from seanet.data.files import irregular, unsafe
from seanet.data.folders import find_split
from seanet.data.records import Annotation, Categories, CocoData, ImageRecord, mask_bits, to_bitmap, to_rle
from seanet.data.repairs import ALL_OF_THEM, Findings, Refused, Repairs
from seanet.data.segmentations import FARTHEST, MOST_PIXELS
from seanet.data.values import is_int, is_number, is_unicode
from seanet.errors import AnnotationError, ImageError

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
    with open_lists(findings) as lists:
        if not folder.is_dir():
            raise findings.error(f"the image folder {folder} does not exist: give the right one", field="images")
        own = _categories(lists.entries("categories"), findings)
        wanted = categories or own
        records = _Images(folder, findings).check(lists.entries("images"))
        objects = check_annotations(lists.entries("annotations"), records, own, wanted, findings)
    used = {a.label for found in objects.values() for a in found}
    for label, name in enumerate(wanted.names, 1):
        if label not in used:
            findings.note("category", "noticed", "no annotation, so its AP will be n/a", name)
    usable = (record for record in records.values() if record)
    complete = (replace(record, annotations=tuple(objects.get(record.id, ()))) for record in usable)
    return CocoData(findings.file, tuple(complete), wanted, findings.repairs)


def _categories(raw: Iterable[object], findings: Findings) -> Categories:
    """By id, with unique names."""
    found: dict[int, str] = {}
    for _, entry in findings.objects(raw, "categories"):
        try:
            id, name = _category(entry, found, findings)
        except Refused as refused:
            findings.refuse(refused, "category", entry.get("id"))
        else:
            found[id] = name
    names = dict(sorted(found.items()))
    return Categories(tuple(names), tuple(_unique(names, findings)))


def _category(entry: dict[str, Any], found: dict[int, str], findings: Findings) -> tuple[int, str]:
    id, name = entry.get("id"), entry.get("name")
    if not is_int(id) or id < 0:
        message = f"category {name!r} has the id {id!r}: expected a whole number from 0"
        raise findings.refusal("id not a whole number from 0", message, field="id", value=id)
    if not isinstance(name, str) or not name or not is_unicode(name):
        message = f"category {id} has the name {name!r}: expected a text"
        raise findings.refusal("name not a text", message, field="name", value=name)
    if id in found:
        message = f"two categories have the id {id}: give each its own"
        raise findings.refusal("id of another category", message, field="id", value=id)
    return id, name


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
        self.records: dict[int, ImageRecord | None] = {}
        self.digests: dict[int, int] = {}
        self.users: dict[Path, int] = {}
        self.missing: list[tuple[int, str]] = []

    def check(self, raw: Iterable[object]) -> dict[int, ImageRecord | None]:
        """Records without annotations, by id; None for those that were refused."""
        total = 0
        for _, entry in self.findings.objects(raw, "images"):
            total += 1
            try:
                self._add(entry)
            except Refused as refused:
                self.findings.refuse(refused, "image", entry.get("id"))
        if self.missing:
            raise self._unusable(total)
        return self.records

    def _add(self, entry: dict[str, Any]) -> None:
        id = entry.get("id")
        if not is_int(id):
            message = f"an image has the id {id!r}: expected a whole number"
            raise self.findings.refusal("id not a whole number", message, image_id=id, field="id", value=id)
        if self._repeated(id, entry):
            return
        self.records[id] = None  # until all is well
        path, reason = self._locate(id, entry.get("file_name"))
        if reason:
            self._miss(id, entry["file_name"], reason)
            return
        if self.users.setdefault(path, id) != id:
            self.findings.note("image", "noticed", "its file belongs to another image too", id)
        self.records[id] = ImageRecord(id, path, *self._size(id, entry, path), ())

    def _repeated(self, id: int, entry: dict[str, Any]) -> bool:
        digest = hash(json.dumps(entry, sort_keys=True))  # the entries themselves would fill memory
        if self.digests.setdefault(id, digest) != digest:
            message = f"two different images have the id {id}: give each its own"
            raise self.findings.refusal("id of another image", message, image_id=id, field="id", value=id)
        if id in self.records:
            self.findings.note("image", "repaired", "listed twice", id)
            return True
        return False

    def _miss(self, id: int, name: str, reason: str) -> None:
        """Strict reading shows them together: often it is the folder that is wrong."""
        if not self.findings.tolerant:
            self.missing.append((id, f"{name!r} {reason}"))
            return
        message = f"image {id} has the file_name {name!r}, which {reason} in {self.folder}: put the file there"
        raise self.findings.refusal(f"its file {reason}", message, image_id=id, field="file_name", value=name)

    def _locate(self, id: int, name: object) -> tuple[Path, str]:
        """Path of an image and what is wrong with the file there, if anything."""
        facts: dict[str, object] = {"image_id": id, "field": "file_name", "value": name}
        if not isinstance(name, str) or not name:
            message = f"image {id} has the file_name {name!r}: expected a text"
            raise self.findings.refusal("file_name not a text", message, **facts)
        if reason := unsafe(name):
            message = f"image {id} has the file_name {name!r}, which {reason}: name a file below the folder"
            raise self.findings.refusal(f"file_name {reason}", message, **facts)
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
            return self._measured(id, path)
        width, height = (self._side(id, name, entry.get(name)) for name in ("width", "height"))
        if width * height > MOST_PIXELS:
            message = f"image {id} has {width} x {height} pixels: cut it into tiles"
            raise self.findings.refusal("too many pixels", message, image_id=id, field="width", value=[width, height])
        return int(width), int(height)

    def _measured(self, id: int, path: Path) -> tuple[int, int]:
        from seanet.data.images import image_size  # Pillow only where it is needed

        try:
            height, width = image_size(path)
        except ImageError as error:
            message = f"image {id} has no width and height, and its file cannot be read: {error}"
            refusal = self.findings.refusal("no size, and its file cannot be read", message, image_id=id, field="width")
            raise refusal from error
        self.findings.note("image", "repaired", "width and height missing, taken from its file", id)
        return width, height

    def _side(self, id: int, name: str, side: object) -> float:
        if not is_number(side) or side != side // 1 or not 1 <= side <= FARTHEST:
            message = f"image {id} has the {name} {side!r}: expected whole pixels from 1 to {FARTHEST:,.0f}"
            what = f"{name} not whole pixels from 1 to {FARTHEST:,.0f}"
            raise self.findings.refusal(what, message, image_id=id, field=name, value=side)
        return side

    def _unusable(self, total: int) -> AnnotationError:
        missing = self.missing
        shown = ", ".join(name for _, name in missing[:10]) + (", ..." if len(missing) > 10 else "")
        first = missing[0][0]
        return self.findings.error(
            f"{len(missing)} of {total} images cannot be used (image {first} first): {shown}; "
            f"looked in {self.folder}: put the files there or give the right folder; {ALL_OF_THEM}",
            image_id=first,
            field="file_name",
            value=[name for _, name in missing],
        )
