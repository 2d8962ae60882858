"""Annotation files without the defects that a check of their data set found.

What was fine stays as it was, fields that nobody here knows included; polygons stay polygons, run lengths run lengths.
"""

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from seanet.data.bitmaps import runs_of
from seanet.data.checking.check import Check
from seanet.data.checking.kinds import SplitFiles, training
from seanet.data.coco import read_coco
from seanet.data.records import Annotation, CocoData
from seanet.data.segmentations import ROUNDING, run_lengths
from seanet.data.values import is_int, is_number
from seanet.errors import UserError

Content = dict[str, Any]
REFUSED = ("image", "refused")


@dataclass
class Changes:
    """What was done to a split, entry by entry."""

    images_left_out: list[Content] = field(default_factory=list)
    images_changed: list[Content] = field(default_factory=list)
    annotations_left_out: list[Content] = field(default_factory=list)
    annotations_changed: list[Content] = field(default_factory=list)
    categories_changed: list[Content] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: a heading for each kind of change, a line for each entry."""
        lines = []
        for name, entries in vars(self).items():
            if entries:
                lines += [f"  {name.replace('_', ' ')}: {len(entries)}", *map(_line, entries)]
        return lines or ["  nothing changed"]


def _line(entry: Content) -> str:
    return "    " + ", ".join(f"{name} {_shown(value)}" for name, value in entry.items())


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def mended(checked: Check) -> tuple[dict[str, Content], dict[str, Changes]]:
    """The contents of the annotation files of all splits, mended, and what was changed in them."""
    changes = {split.name: Changes() for split in checked.splits}
    for split in checked.splits:
        if split.name not in checked.data:
            message = f"{split.annotations} cannot be repaired, as it cannot be read at all: export it again"
            raise UserError(message, file=split.annotations)
    contents = {split.name: _mended(checked, split, changes[split.name]) for split in checked.splits}
    _complete_categories(contents, changes)
    return contents, changes


def _mended(checked: Check, split: SplitFiles, done: Changes) -> Content:
    """The content of a split's file, mended."""
    content: Content = json.loads(split.annotations.read_text(encoding="utf-8-sig"))
    images = _images(checked, split, content["images"], done)
    raw = content["annotations"]
    # Numbered by their places, so that every object is known again after it was read.
    numbered = [entry | {"id": place} if isinstance(entry, dict) else entry for place, entry in enumerate(raw, 1)]
    data = _read(split, content | {"images": images, "annotations": numbered})
    objects = ((image.id, a) for image in data.images for a in image.annotations)
    kept = dict(sorted((int(str(a.source_id)), (image_id, a)) for image_id, a in objects))
    ids = _ids(raw, kept)
    annotations = [_annotation(raw[place - 1], *found, ids[place], done) for place, found in kept.items()]
    listed = {entry.get("id") for entry in content["images"] if isinstance(entry, dict) and is_int(entry.get("id"))}
    done.annotations_left_out += _left_out(raw, kept, data, listed)
    categories = _categories(content["categories"], data, done)
    return content | {"images": images, "annotations": annotations, "categories": categories}


def _read(split: SplitFiles, content: Content) -> CocoData:
    with TemporaryDirectory() as folder:
        file = Path(folder) / split.annotations.name
        file.write_text(json.dumps(content), encoding="utf-8")
        return read_coco(file, split.images, tolerant=True)


def _images(checked: Check, split: SplitFiles, raw: list[Any], done: Changes) -> list[Content]:
    """Entries of images that can be used, each once."""
    records = {record.id: record for record in checked.data[split.name].images}
    unusable, swapped = checked.unusable.get(split.name, {}), checked.swapped.get(split.name, frozenset())
    refused = _refused(checked.data[split.name])
    images: dict[int, Content] = {}
    for entry in raw:
        id = entry.get("id") if isinstance(entry, dict) else None
        record = records.get(id) if is_int(id) else None
        if record is None or record.id in unusable or record.id in images:
            why = unusable.get(record.id, "listed twice") if record else refused.get(str(id), "no object")
            done.images_left_out.append({"id": id, "file": _file_name(entry), "why": why})
            continue
        width, height = record.width, record.height
        if record.id in swapped:
            width, height = height, width
        name = record.path.relative_to(split.images).as_posix()
        new = entry | {"width": width, "height": height}
        if (split.images / entry["file_name"]) != record.path:
            new["file_name"] = name
        if changed := _differences(entry, new):
            done.images_changed.append({"id": id, "file": name, "changed": changed})
        images[record.id] = new
    return list(images.values())


def _refused(data: CocoData) -> dict[str, str]:
    """Why images were, by their ids as text, as some are of other kinds."""
    places = data.repairs.found.items()
    return {str(p.id): what for (subject, verb, what), found in places for p in found if (subject, verb) == REFUSED}


def _file_name(entry: object) -> object:
    return entry.get("file_name") if isinstance(entry, dict) else None


def _differences(old: Content, new: Content) -> Content:
    """Field -> [before, after]; true in place of 1 is a difference."""
    return {
        name: [old.get(name), value]
        for name, value in new.items()
        if name not in old or old[name] != value or isinstance(old[name], bool) != isinstance(value, bool)
    }


def _ids(raw: list[Any], kept: Iterable[int]) -> dict[int, int]:
    """Place -> number of its own: its id wherever it is one, not 0, that no entry kept before it has."""
    given = [entry.get("id") if isinstance(entry, dict) else None for entry in raw]
    free = max((id for id in given if is_int(id)), default=0)
    taken: set[int] = set()
    ids = {}
    for place in kept:
        id = given[place - 1]
        if not is_int(id) or id == 0 or id in taken:
            id = free = max(free, 0) + 1
        taken.add(id)
        ids[place] = id
    return ids


def _annotation(entry: Content, image_id: int, found: Annotation, id: int, done: Changes) -> Content:
    new = entry | {"id": id, "iscrowd": int(found.crowd)}
    if not _same_box(entry.get("bbox"), found):
        x0, y0, x1, y1 = found.box
        new["bbox"] = [x0, y0, x1 - x0, y1 - y0]
    if entry.get("area") != found.area:
        new["area"] = found.area
    if not _same_mask(entry.get("segmentation"), found):
        new["segmentation"] = _plain(found)
    if changed := _differences(entry, new):
        done.annotations_changed.append({"id": id, "image_id": image_id, "changed": changed})
    return new


def _same_box(raw: object, found: Annotation) -> bool:
    """Whether a box differs by rounding at most from the one that training takes."""
    if not isinstance(raw, list) or len(raw) != 4 or not all(map(is_number, raw)):
        return False
    corners = np.array([raw[0], raw[1], raw[0] + raw[2], raw[1] + raw[3]], float)
    return bool((np.abs(corners - found.box) <= ROUNDING).all())


def _same_mask(raw: object, found: Annotation) -> bool:
    mask = found.segmentation
    if isinstance(mask, list):
        return isinstance(raw, list) and len(raw) == len(mask) and all(map(_same_ring, raw, mask))
    if not isinstance(raw, dict) or raw.get("size") != mask["size"]:
        return False
    counts = run_lengths(raw.get("counts"))
    return counts is not None and np.array_equal(counts, runs_of(mask))


def _same_ring(raw: object, ring: np.ndarray) -> bool:
    return isinstance(raw, list) and len(raw) == len(ring) and bool(np.array_equal(np.array(raw, float), ring))


def _plain(found: Annotation) -> object:
    """A mask as JSON holds it."""
    mask = found.segmentation
    if isinstance(mask, list):
        return [ring.tolist() for ring in mask]
    return {"size": mask["size"], "counts": mask["counts"].decode("ascii")}


def _left_out(raw: list[Any], kept: Container[int], data: CocoData, listed: Container[object]) -> list[Content]:
    """Entries that are not in the copy, with why: what reading them now said, under the numbers of their places.

    ``listed`` are the images of the file before it was mended.
    """
    why = {
        place.id: what
        for (subject, verb, what), places in data.repairs.found.items()
        if subject == "annotation" and verb in ("skipped", "dropped", "refused")
        for place in places
    }
    found = []
    for place, entry in enumerate(raw, 1):
        if place in kept:
            continue
        id, image_id = (entry.get("id"), entry.get("image_id")) if isinstance(entry, dict) else (None, None)
        reason = why.get(place, "no object")
        if reason == "image_id of no image" and is_int(image_id) and image_id in listed:
            reason = "its image is left out"
        found.append({"id": id, "image_id": image_id, "why": reason})
    return found


def _categories(raw: list[Any], data: CocoData, done: Changes) -> list[Content]:
    names = dict(zip(data.categories.ids, data.categories.names, strict=True))
    kept = []
    for entry in raw:
        id = entry.get("id") if isinstance(entry, dict) else None
        if not is_int(id) or id not in names:
            done.categories_changed.append({"id": id, "left out": entry})
            continue
        new = entry | {"name": names.pop(id)}
        if changed := _differences(entry, new):
            done.categories_changed.append({"id": id, "changed": changed})
        kept.append(new)
    return kept


def _complete_categories(contents: Mapping[str, Content], changes: Mapping[str, Changes]) -> None:
    """What is trained on lists the categories of all other splits' objects, too, for those not to be refused."""
    train = training(contents)
    if train is None:
        return
    own = contents[train]["categories"]
    for content in contents.values():
        used = {entry["category_id"] for entry in content["annotations"]}
        known = {entry["name"] for entry in own}
        for entry in content["categories"]:
            if entry["id"] in used and entry["name"] not in known:
                ids = {other["id"] for other in own}
                new = entry | {"id": entry["id"] if entry["id"] not in ids else max(ids) + 1}
                own.append(new)
                changes[train].categories_changed.append({"id": new["id"], "added": new})
