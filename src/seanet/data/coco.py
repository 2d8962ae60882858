"""COCO annotation files, read once into checked, immutable records.  Free of torch, so that checking data is quick.

Mistakes that make a file untrustworthy are errors; single bad annotations are repaired or skipped, counted and named.
Everything that reaches the mask codec has passed here: it crashes or hangs on numbers that make no sense.
"""

import json
import math
import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn

import numpy as np
from faster_coco_eval.core import mask as codec

from seanet.data import bitmaps
from seanet.data.bitmaps import Bitmap
from seanet.errors import AnnotationError

Box = tuple[float, float, float, float]

FARTHEST = 1e5  # pixels; no image is that wide, and the codec crashes on much larger coordinates
MOST_PIXELS = 2**31  # run lengths are summed in 32 bits
LONGEST = 2e6  # pixels of outline; the codec walks it in memory
ROUNDING = 1.0  # pixels; boxes and rings of clean data reach past the image by less
SAME_OBJECT = 0.5  # IoU below which a box does not belong to its mask
SHAPES = {"small": 32**2, "medium": 96**2, "large": math.inf}


@dataclass(frozen=True)
class Categories:
    """Label k in 1..K stands for ``ids[k - 1]`` and ``names[k - 1]``; 0 is background, never a category."""

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def label(self, id: int) -> int:
        """Label of a category id; KeyError if there is none."""
        return self._labels[id]

    @cached_property
    def _labels(self) -> dict[int, int]:
        return {id: label for label, id in enumerate(self.ids, 1)}


@dataclass(frozen=True, slots=True)
class Annotation:
    """An object, in pixels of the image file."""

    id: int  # 1..N within the data set
    source_id: object  # what the file says: missing, repeated or 0 at times
    label: int  # 1..K
    box: Box  # xyxy, inside the image
    segmentation: list[np.ndarray] | dict  # rings, each (2n,) float64, or {"size": [h, w], "counts": bytes}
    area: float  # pixels
    crowd: bool


@dataclass(frozen=True, slots=True)
class ImageRecord:
    id: int
    path: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...]


@dataclass
class Repairs:
    """What was wrong with a file and could be helped: annotations skipped, entries repaired, facts worth a line."""

    annotations: int = 0
    """Annotations of the file, skipped ones included."""
    found: dict[tuple[str, str, str], list] = field(default_factory=lambda: defaultdict(list))
    """(subject, verb, what) -> every id."""

    def note(self, subject: str, verb: str, what: str, id: object) -> None:
        self.found[subject, verb, what].append(id)

    def count(self, verb: str) -> int:
        return sum(len(ids) for (_, v, _), ids in self.found.items() if v == verb)

    @property
    def skipped_share(self) -> float:
        """Of all annotations of the file."""
        return self.count("skipped") / max(self.annotations, 1)

    def summary(self, examples: int = 3) -> list[str]:
        """A line for each kind: "3 annotations skipped: box of zero width or height (ids 4, 9, 12)"."""
        lines = []
        for (subject, verb, what), ids in self.found.items():
            shown = ", ".join(map(str, ids[:examples])) + (", ..." if len(ids) > examples else "")
            kind = f"{_plural('id', len(ids))} " if all(map(_is_int, ids)) else ""
            lines.append(f"{len(ids)} {_plural(subject, len(ids))} {verb}: {what} ({kind}{shown})")
        return lines


@dataclass(frozen=True)
class CocoData:
    file: Path
    images: tuple[ImageRecord, ...]
    categories: Categories
    repairs: Repairs

    def require_clean(self, max_bad: float) -> None:
        """Error if more than this share of the annotations had to be skipped."""
        share = self.repairs.skipped_share
        if share > max_bad:
            causes = "; ".join(line for line in self.repairs.summary() if " skipped: " in line)
            raise AnnotationError(
                f"{self.file}: {share:.1%} of its annotations had to be skipped, more than max_bad = {max_bad:.1%}: "
                f"mend the file or raise max_bad ({causes})",
                file=self.file,
                field="annotations",
                value=share,
            )


def read_coco(annotations: Path | str, images: Path | str, categories: Categories | None = None) -> CocoData:
    """Read and check a COCO instance file whose images lie in the folder ``images``.

    ``categories``, those of a checkpoint for one, fix the labels: the file's own are matched with them by name.
    """
    reader = _Reader(Path(annotations), Path(images))
    content = _parse(reader)
    ids, names = reader.categories(content["categories"])
    known = Categories(ids, names)
    reader.labels = _labels(known, categories or known)
    reader.names = dict(zip(ids, names, strict=True))
    records = reader.images(content["images"])
    objects = reader.objects(content["annotations"], records)
    used = {a.label for found in objects.values() for a in found}
    for label, name in enumerate((categories or known).names, 1):
        if label not in used:
            reader.repairs.note("category", "noticed", "no annotation, so its AP will be n/a", name)
    complete = tuple(
        ImageRecord(r.id, r.path, r.width, r.height, tuple(objects.get(r.id, ()))) for r in records.values()
    )
    return CocoData(reader.file, complete, categories or known, reader.repairs)


def mask_bits(annotation: Annotation, height: int, width: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """An object's mask, (h, w) uint8, in its smallest window, xyxy in pixels of the image; 0 x 0 if it has no pixel."""
    bitmap = to_bitmap(annotation, height, width)
    return bitmap.bits, bitmap.window


def to_bitmap(annotation: Annotation, height: int, width: int) -> Bitmap:
    """An object's mask in its smallest window, in pixels of the image file."""
    segmentation = annotation.segmentation
    if isinstance(segmentation, dict):
        return bitmaps.runs_to_bitmap(bitmaps.unpack_counts(segmentation["counts"]), height)
    return bitmaps.rasterise(segmentation, height, width)


def to_rle(annotation: Annotation, height: int, width: int) -> dict:
    """An object's mask as COCO's compressed run lengths, ``{"size": [h, w], "counts": bytes}``, for evaluation."""
    segmentation = annotation.segmentation
    return segmentation if isinstance(segmentation, dict) else bitmaps.rings_to_rle(segmentation, height, width)


SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def find_split(folder: Path | str, split: str) -> tuple[Path, Path]:
    """Annotation file and image folder of ``train``, ``val`` or ``test``, in COCO's, Roboflow's or a plain layout."""
    folder, names = Path(folder), SPLITS.get(split, (split,))
    if not folder.is_dir():
        raise AnnotationError(f"{folder} is not a folder: give the one that holds the data set", file=folder)
    for name in names:
        for file in _annotation_files(folder, name):
            for images in _image_folders(folder, name, file):
                if file.is_file() and images.is_dir():
                    return file, images
    looked = ", ".join(pattern for name in names for pattern in _patterns(name))
    there = ", ".join(sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())[:20]) or "nothing"
    raise AnnotationError(
        f"{folder}: found no annotations with images for {split!r}; looked for {looked}; there is {there}",
        file=folder,
        field="split",
        value=split,
    )


def _patterns(name: str) -> tuple[str, ...]:
    return (
        f"annotations/instances_{name}*.json with {name}*/ or images/{name}*/",
        f"annotations/{name}.json or {name}.json with {name}/, images/{name}/ or images/",
        f"{name}/_annotations.coco.json with the images beside it",
    )


def _annotation_files(folder: Path, name: str) -> Iterable[Path]:
    """Candidates, best first; COCO's years (train2017) come after the plain name."""
    yield folder / name / "_annotations.coco.json"
    yield folder / "annotations" / f"instances_{name}.json"
    years = (p for p in (folder / "annotations").glob(f"instances_{name}*.json") if p.stem[10 + len(name) :].isdigit())
    yield from sorted(years, reverse=True)
    for place in (folder / "annotations", folder):
        yield place / f"{name}.json"
    yield folder / f"instances_{name}.json"
    yield folder / name / "annotations.json"


def _image_folders(folder: Path, name: str, file: Path) -> Iterable[Path]:
    if file.parent == folder / name:
        yield from (p for p in (file.parent / "images",) if p.is_dir())
        yield file.parent
        return
    full = file.stem.removeprefix("instances_")
    yield from (folder / place / stem for stem in dict.fromkeys((full, name)) for place in ("", "images"))
    yield folder / "images"


class _Skip(Exception):
    """Why a single annotation cannot be used."""


@dataclass
class _Mask:
    """A checked segmentation with what follows from it."""

    segmentation: list[np.ndarray] | dict
    box: Box
    area: float
    exact: bool  # the area counts pixels


@dataclass
class _Reader:
    file: Path
    folder: Path
    repairs: Repairs = field(default_factory=Repairs)
    labels: dict[int, int | None] = field(default_factory=dict)
    """Category id -> label; None if the model does not know its name."""
    names: dict[int, str] = field(default_factory=dict)

    def fail(self, message: str, cause: Exception | None = None, **facts: object) -> NoReturn:
        raise AnnotationError(f"{self.file}: {message}", file=self.file, **facts) from cause

    def categories(self, raw: list) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Ids and unique names, by id."""
        found: dict[int, str] = {}
        for entry in raw:
            id, name = self._entry(entry, "categories").get("id"), entry.get("name")
            if not _is_int(id) or id < 0:
                self.fail(f"category {name!r} has the id {id!r}: expected a whole number from 0", field="id", value=id)
            if not isinstance(name, str) or not name:
                self.fail(f"category {id} has the name {name!r}: expected a text", field="name", value=name)
            if id in found:
                self.fail(f"two categories have the id {id}: give each its own", field="id", value=id)
            found[id] = name
        return tuple(sorted(found)), tuple(self._unique({id: found[id] for id in sorted(found)}))

    def _unique(self, names: dict[int, str]) -> Iterable[str]:
        taken = set()
        for id, name in names.items():
            if name in taken:
                self.repairs.note("category", "renamed", f"its name {name!r} is taken, its id was added", id)
                name = f"{name} ({id})"
            taken.add(name)
            yield name

    def images(self, raw: list) -> dict[int, ImageRecord]:
        """Records without annotations, by id."""
        records: dict[int, ImageRecord] = {}
        entries: dict[int, dict] = {}
        users: dict[Path, int] = {}
        missing: list[tuple[int, str]] = []
        for entry in raw:
            id = self._entry(entry, "images").get("id")
            if not _is_int(id):
                self.fail(f"an image has the id {id!r}: expected a whole number", image_id=id, field="id", value=id)
            if id in entries:
                self._repeated(id, entry, entries[id])
                continue
            entries[id] = entry
            path, reason = self._locate(id, entry.get("file_name"))
            if reason:
                missing.append((id, f"{entry['file_name']!r} {reason}"))
                continue
            if users.setdefault(path, id) != id:
                self.repairs.note("image", "noticed", "its file belongs to another image too", id)
            width, height = self._size(id, entry, path)
            records[id] = ImageRecord(id, path, width, height, ())
        if missing:
            shown = ", ".join(name for _, name in missing[:10]) + (", ..." if len(missing) > 10 else "")
            self.fail(
                f"{len(missing)} of {len(raw)} images cannot be used (image {missing[0][0]} first): {shown}; "
                f"looked in {self.folder}: put the files there or give the right folder",
                image_id=missing[0][0],
                field="file_name",
                value=[name for _, name in missing],
            )
        return records

    def _repeated(self, id: int, entry: dict, first: dict) -> None:
        if entry != first:
            self.fail(f"two different images have the id {id}: give each its own", image_id=id, field="id", value=id)
        self.repairs.note("image", "repaired", "listed twice", id)

    def _locate(self, id: int, name: object) -> tuple[Path, str]:
        """Path of an image and what is wrong with the file there, if anything."""
        facts = {"image_id": id, "field": "file_name", "value": name}
        if not isinstance(name, str) or not name:
            self.fail(f"image {id} has the file_name {name!r}: expected a text", **facts)
        if reason := _unsafe(name):
            self.fail(f"image {id} has the file_name {name!r}, which {reason}: name a file below the folder", **facts)
        for variant in dict.fromkeys((name, *(unicodedata.normalize(f, name) for f in ("NFC", "NFD")))):
            reason = _irregular(self.folder / variant)
            if reason != "does not exist":
                if variant != name:
                    self.repairs.note("image", "repaired", "file_name in another Unicode form than its file", id)
                return self.folder / variant, reason
        return self.folder / name, reason

    def _size(self, id: int, entry: dict, path: Path) -> tuple[int, int]:
        """(width, height) as the file of annotations says, or, where it says nothing, as the image does."""
        sides = entry.get("width"), entry.get("height")
        if sides == (None, None):
            from seanet.data.images import image_size  # Pillow only where it is needed

            self.repairs.note("image", "repaired", "width and height missing, taken from its file", id)
            return image_size(path)[::-1]
        for name, side in zip(("width", "height"), sides, strict=True):
            if not _is_number(side) or side != side // 1 or not 1 <= side <= FARTHEST:
                facts = {"image_id": id, "field": name, "value": side}
                self.fail(
                    f"image {id} has the {name} {side!r}: expected whole pixels from 1 to {FARTHEST:,.0f}", **facts
                )
        if sides[0] * sides[1] > MOST_PIXELS:
            self.fail(f"image {id} has {sides[0]} x {sides[1]} pixels: cut it into tiles", image_id=id, field="width")
        return int(sides[0]), int(sides[1])

    def objects(self, raw: list, records: dict[int, ImageRecord]) -> dict[int, list[Annotation]]:
        """Annotations of each image, numbered anew from 1."""
        found: dict[int, list[Annotation]] = defaultdict(list)
        seen: dict[int, set] = defaultdict(set)
        self._check_ids(raw)
        number = 0
        for position, entry in enumerate(raw):
            name = _name(self._entry(entry, "annotations"), position)
            self.repairs.annotations += 1
            try:
                annotation, record = self._annotation(entry, name, number + 1, records)
            except _Skip as skip:
                self.repairs.note("annotation", "skipped", str(skip), name)
                continue
            key = _fingerprint(annotation)
            if key in seen[record.id]:
                self.repairs.note("annotation", "dropped", "exact copy of another", name)
                continue
            seen[record.id].add(key)
            found[record.id].append(annotation)
            number += 1
        return found

    def _check_ids(self, raw: list) -> None:
        """Ids are numbered anew, so what is wrong with them is only counted."""
        ids = [entry.get("id") if isinstance(entry, dict) else None for entry in raw]
        times = Counter(id for id in ids if _is_int(id))
        for position, id in enumerate(ids):
            if not _is_int(id):
                self.repairs.note("annotation", "renumbered", "id missing or not a whole number", f"#{position}")
            elif id == 0 or times[id] > 1:
                what = "id 0" if id == 0 else "id used more than once"
                self.repairs.note("annotation", "renumbered", what, id)

    def _annotation(self, entry: dict, name: object, number: int, records: dict) -> tuple[Annotation, ImageRecord]:
        image_id = entry.get("image_id")
        record = records.get(image_id) if _is_int(image_id) else None
        if record is None:
            raise _Skip("image_id of no image")
        facts = {"image_id": record.id, "annotation_id": name}
        label = self._label(entry.get("category_id"), facts)
        mask = self._mask(entry.get("segmentation"), entry.get("bbox"), record, name)
        box = self._box(entry.get("bbox"), mask, record, name, facts)
        if mask is None:
            raise _Skip("no segmentation")
        crowd = self._crowd(entry, mask, name)
        area = self._area(entry.get("area"), mask, record, name, crowd)
        return Annotation(number, entry.get("id"), label, box, mask.segmentation, area, crowd), record

    def _label(self, id: object, facts: dict) -> int:
        where = f"annotation {facts['annotation_id']} of image {facts['image_id']}"
        facts = facts | {"field": "category_id", "value": id}
        if not _is_int(id) or id < 0:
            self.fail(f"{where} has the category_id {id!r}: expected the id of one of the categories", **facts)
        if id not in self.labels:
            raise _Skip("category_id of no category")
        if self.labels[id] is None:
            self.fail(
                f"{where} is a {self.names[id]!r}, a category that the model does not have: "
                f"rename it to one of the model's or train a model for it",
                **facts,
            )
        return self.labels[id]

    def _mask(self, raw: object, bbox: object, record: ImageRecord, name: object) -> _Mask | None:
        if raw is None or raw == [] or raw == {}:
            return None
        if isinstance(raw, dict):
            return self._runs(raw, bbox, record, name)
        if not isinstance(raw, list):
            raise _Skip("segmentation neither polygons nor run lengths")
        if not any(isinstance(ring, list) for ring in raw):
            self.repairs.note("annotation", "repaired", "polygon without its outer brackets", name)
            raw = [raw]
        return self._rings(raw, record, name)

    def _rings(self, raw: list, record: ImageRecord, name: object) -> _Mask:
        height, width = record.height, record.width
        rings, reason = [], "polygon of fewer than three points"
        for points in raw:
            ring = _ring(points)
            if ring is None:
                reason = "polygon of fewer than three points, or with an odd number of coordinates"
            else:
                ring, outside = _inside(ring, height, width)
                reason = "polygon outside the image"
                if ring is not None and outside:
                    self.repairs.note("annotation", "clipped", "polygon reaches past the image", name)
            if ring is not None:
                rings.append(ring)
        if not rings:
            raise _Skip(reason)
        if len(rings) < len(raw):
            self.repairs.note("annotation", "repaired", "some of its polygons dropped as unusable", name)
        return _mask_of_rings(rings, height, width)

    def _runs(self, raw: dict, bbox: object, record: ImageRecord, name: object) -> _Mask:
        size, counts = raw.get("size"), _counts(raw.get("counts"))
        shape = [record.height, record.width]
        if counts is None or counts.min() < 0:
            raise _Skip("run lengths malformed or negative")
        if int(counts.sum()) != record.height * record.width:
            raise _Skip("run lengths that do not add up to the image's pixels")
        bitmap = bitmaps.runs_to_bitmap(counts, record.height)
        box = tuple(map(float, bitmap.window))
        if size != shape:
            given = _numbers(bbox)
            if size != shape[::-1] or given is None or _iou(_xyxy(given), box) < SAME_OBJECT:
                raise _Skip("run lengths of another size than the image")
            self.repairs.note("annotation", "repaired", "width and height of its run lengths swapped", name)
        if not bitmap.area:
            raise _Skip("mask without a pixel")
        rle = codec.frPyObjects({"size": shape, "counts": counts.tolist()}, *shape)
        return _Mask({"size": shape, "counts": rle["counts"]}, box, float(bitmap.area), exact=True)

    def _box(self, raw: object, mask: _Mask | None, record: ImageRecord, name: object, facts: dict) -> Box:
        given = _numbers(raw)
        if given is None and mask is None:
            where = f"annotation {name} of image {record.id}"
            message = f"{where} has the bbox {raw!r} and no segmentation: expected four numbers, x, y, width, height"
            self.fail(message, **facts, field="bbox", value=raw)
        if given is None or not all(map(math.isfinite, given)) or min(given[2:]) <= 0:
            what = "bbox missing or not four numbers" if given is None else "bbox not finite or of no size"
            if mask is None:
                raise _Skip(f"{what}, and no segmentation")
            self.repairs.note("annotation", "repaired", f"{what}, taken from its mask", name)
            return mask.box
        box, outside = _clip_box(_xyxy(given), record)
        if box is None:
            raise _Skip("bbox outside the image")
        if mask is not None and _iou(box, mask.box) < SAME_OBJECT:
            self.repairs.note("annotation", "repaired", "bbox disagrees with its mask and was taken from it", name)
            return mask.box
        if outside:
            self.repairs.note("annotation", "clipped", "bbox reaches past the image", name)
        return box

    def _crowd(self, entry: dict, mask: _Mask, name: object) -> bool:
        raw = entry.get("iscrowd")
        crowd = bool(raw) if isinstance(raw, bool) or _is_number(raw) else False
        if not _is_int(raw) or raw not in (0, 1):
            what = "iscrowd missing" if raw is None else "iscrowd neither 0 nor 1"
            self.repairs.note("annotation", "repaired", f"{what}, read as {int(crowd)}", name)
        if crowd and isinstance(mask.segmentation, list):
            self.repairs.note("annotation", "noticed", "crowd region drawn as polygons", name)
        return crowd

    def _area(self, raw: object, mask: _Mask, record: ImageRecord, name: object, crowd: bool) -> float:
        """The file's own number unless it contradicts the mask; it decides between small, medium and large.

        Crowd regions are ignored whatever their size, and in COCO itself their areas are off: those stay.
        """
        usable = _is_number(raw) and math.isfinite(raw) and raw >= 0
        if usable and (crowd or _agree(raw, mask.area)):
            return float(raw)
        area = mask.area
        if not mask.exact:
            area = float(codec.area(bitmaps.rings_to_rle(mask.segmentation, record.height, record.width)))
            if usable and _agree(raw, area):
                return float(raw)
        what = "area wrong, counted anew" if usable else "area missing or not a number, counted anew"
        if usable and _size_class(raw) != _size_class(area):
            what = f"{what}, which moves it to another size class"
        self.repairs.note("annotation", "repaired", what, name)
        return area

    def _entry(self, entry: object, part: str) -> dict:
        if not isinstance(entry, dict):
            self.fail(f"an entry of {part!r} is {_kind(entry)}: expected an object {{...}}", field=part, value=entry)
        return entry


def _parse(reader: _Reader) -> dict:
    """The three lists of a file."""
    text = _text(reader)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        reader.fail(f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}: export it again", error)
    except (ValueError, RecursionError) as error:
        reader.fail(f"is not JSON of a data set: {error}: export it again", error)
    if not isinstance(content, dict):
        reader.fail(f"holds {_kind(content)}: expected an object with images, annotations and categories", field="file")
    for part in ("images", "annotations", "categories"):
        if part not in content:
            advice = "" if part != "categories" else ", each with an id and a name"
            reader.fail(f"has no {part!r}: expected COCO's list of them{advice}", field=part)
        if not isinstance(content[part], list):
            reader.fail(f"{part!r} is {_kind(content[part])}: expected a list", field=part, value=content[part])
    if not content["categories"]:
        reader.fail("'categories' is empty: list at least one, with an id and a name", field="categories", value=[])
    if not reader.folder.is_dir():
        reader.fail(f"the image folder {reader.folder} does not exist: give the right one", field="images")
    return content


def _text(reader: _Reader) -> str:
    try:
        if reason := _irregular(reader.file):
            reader.fail(f"{reason}: give COCO's annotation file")
        raw = reader.file.read_bytes()
    except OSError as error:
        reader.fail(f"cannot be read ({error.strerror})", error)
    if raw[:2] == b"\x1f\x8b":
        reader.fail("is compressed: unpack it with gunzip")
    try:
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            reader.fail("is UTF-16 text: save it as UTF-8")
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        reader.fail(f"is not UTF-8 text (line {line}, byte {error.start}): save it as UTF-8", error)
    if raw.startswith(b"\xef\xbb\xbf"):
        reader.repairs.note("file", "repaired", "byte order mark ignored", reader.file.name)
    return text


def _labels(own: Categories, wanted: Categories) -> dict[int, int | None]:
    by_name = {name: label for label, name in enumerate(wanted.names, 1)}
    return {id: by_name.get(name) for id, name in zip(own.ids, own.names, strict=True)}


def _unsafe(name: str) -> str:
    """Why a file name could lead out of the image folder; empty if it cannot."""
    if "\0" in name:
        return "holds a NUL byte"
    try:
        longest = max(len(os.fsencode(part)) for part in name.split("/"))
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if longest > 255 or len(name) > 4000:
        return "is longer than 255 bytes"
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "is an absolute path"
    return "leads upwards" if ".." in name.replace("\\", "/").split("/") else ""


def _irregular(path: Path) -> str:
    """What keeps a path from being read as a file; opening a pipe would wait for ever, so it is only looked at."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be reached ({getattr(error, 'strerror', error)})"
    if stat.S_ISREG(mode):
        return "" if os.access(path, os.R_OK) else "cannot be read: its permissions forbid it"
    return "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"


def _ring(points: object) -> np.ndarray | None:
    """A polygon as (2n,) float64; None if it has no inside or half a point.  Unusable numbers skip the annotation."""
    if not isinstance(points, list) or not points:
        return None
    try:
        ring = np.asarray(points)
    except (ValueError, OverflowError):
        raise _Skip("polygon with coordinates that are not numbers") from None
    if ring.ndim != 1 or ring.dtype.kind not in "iuf":
        raise _Skip("polygon with coordinates that are not numbers")
    ring = ring.astype(np.float64)
    if not np.isfinite(ring).all() or np.abs(ring).max() > FARTHEST:
        raise _Skip(f"polygon with coordinates that are not finite or beyond {FARTHEST:,.0f}")
    return ring if len(ring) >= 6 and len(ring) % 2 == 0 else None


def _inside(ring: np.ndarray, height: int, width: int) -> tuple[np.ndarray | None, bool]:
    """The part of a ring within the image, None if there is none, and whether something was cut off."""
    x, y = ring[0::2], ring[1::2]
    if x.max() <= 0 or y.max() <= 0 or x.min() >= width or y.min() >= height:
        return None, True
    if min(x.min(), y.min()) >= -ROUNDING and x.max() <= width + ROUNDING and y.max() <= height + ROUNDING:
        return ring, False
    ring = bitmaps.clip_ring(ring, height, width)
    return (ring if len(ring) >= 6 else None), True


def _mask_of_rings(rings: list[np.ndarray], height: int, width: int) -> _Mask:
    area, length = sum(map(bitmaps.ring_area, rings)), sum(map(bitmaps.ring_length, rings))
    if length > LONGEST:
        raise _Skip(f"polygon with an outline of more than {LONGEST:,.0f} pixels")
    exact = False
    # A sliver, or a bow whose loops cancel, may hold no pixel's centre: only then is it worth drawing here.
    if area < length / 2 + 1:
        area, exact = float(codec.area(bitmaps.rings_to_rle(rings, height, width))), True
        if not area:
            raise _Skip("polygon without area")
    points = np.concatenate(rings).reshape(-1, 2)
    low, high = np.maximum(points.min(0), 0), np.minimum(points.max(0), (width, height))
    return _Mask(rings, (*low.tolist(), *high.tolist()), area, exact)


def _counts(raw: object) -> np.ndarray | None:
    """Run lengths, (n,) int64, of either spelling; None if malformed."""
    if isinstance(raw, str | bytes):
        try:
            return bitmaps.unpack_counts(raw.encode("ascii") if isinstance(raw, str) else raw)
        except UnicodeEncodeError:
            return None
    whole = isinstance(raw, list) and len(raw) > 0 and all(_is_int(n) and abs(n) <= MOST_PIXELS for n in raw)
    return np.array(raw, np.int64) if whole else None


def _numbers(bbox: object) -> list[float] | None:
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        return None
    return [float(v) for v in bbox]


def _xyxy(box: list[float]) -> Box:
    x, y, w, h = box
    return x, y, x + w, y + h


def _clip_box(box: Box, record: ImageRecord) -> tuple[Box | None, bool]:
    """The part of a box within the image, None if there is none, and whether more than a rounding was cut off."""
    limits = (record.width, record.height) * 2
    clipped = tuple(float(min(max(v, 0), limit)) for v, limit in zip(box, limits, strict=True))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        return None, True
    return clipped, any(abs(a - b) > ROUNDING for a, b in zip(box, clipped, strict=True))


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / total if total > 0 else 0.0


def _agree(area: float, mask_area: float) -> bool:
    """Areas by other rules (outlines or pixels, overlaps once or twice) still differ by little."""
    return abs(area - mask_area) <= max(0.2 * mask_area, 16)


def _size_class(area: float) -> str:
    return next(name for name, limit in SHAPES.items() if area < limit)


def _fingerprint(annotation: Annotation) -> int:
    shape = annotation.segmentation
    key = shape["counts"] if isinstance(shape, dict) else tuple(ring.tobytes() for ring in shape)
    return hash((annotation.label, annotation.box, annotation.crowd, key))


def _name(entry: dict, position: int) -> object:
    """How messages call an annotation: its id, or its place in the file, from 0, if it has none."""
    id = entry.get("id")
    return id if _is_int(id) else f"#{position}"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """NaN and infinity are; whole numbers too large for a float are not."""
    return isinstance(value, float) or (_is_int(value) and abs(value) < 2**1000)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    return kinds.get(type(value), f"the number {value!r}")


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
