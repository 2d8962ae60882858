"""The list ``annotations`` of a file, entry by entry: repaired where that is safe, skipped where one alone is bad."""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from seanet.data.crossings import crossing, together, turns
from seanet.data.plain import Plain, plain
from seanet.data.records import Annotation, Box, Categories, ImageRecord, Rings, to_bitmap
from seanet.data.repairs import Findings, Refused
from seanet.data.segmentations import (
    AREA_PIXELS,
    AREA_SHARE,
    NO_AREA,
    ROUNDING,
    SAME_OBJECT,
    Mask,
    Skip,
    check_mask,
    iou,
)
from seanet.data.values import is_int, is_number
from seanet.errors import AnnotationError

SHAPES = {"small": 32**2, "medium": 96**2, "large": math.inf}
MANY = 1000  # objects of an image; more are worth a word
TOGETHER = 500  # annotations looked at in one go


def check_annotations(
    raw: Iterable[object],
    records: dict[int, ImageRecord | None],
    own: Categories,
    wanted: Categories,
    findings: Findings,
) -> dict[int, list[Annotation]]:
    """Objects of each image, numbered anew from 1; the file's ``own`` categories get the labels of ``wanted`` by name.

    ``records`` by id of the image, None for those that were refused.
    """
    objects = _Objects(records, own, wanted, findings)
    for block in _blocks(findings.objects(raw, "annotations")):
        objects.add_all(block)
    objects.drop()
    for image, found in objects.found.items():
        if len(found) > MANY:
            findings.note("image", "noticed", f"more than {MANY:,} objects", image)
    return objects.found


def _blocks(entries: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Some at a time; those before an error of reading first."""
    block = []
    try:
        for placed in entries:
            block.append(placed)
            if len(block) == TOGETHER:
                yield block
                block = []
    except AnnotationError:
        yield block
        raise
    yield block


class _Objects:
    """What was found so far, by image."""

    def __init__(self, records: dict[int, ImageRecord | None], own: Categories, wanted: Categories, findings: Findings):
        self.records, self.own, self.findings = records, own, findings
        self.labels = _labels(own, wanted)
        self.found: dict[int, list[Annotation]] = defaultdict(list)
        self.fingerprints = array("q")  # by number; a set would take ten times the memory
        self.unexamined: list[tuple[Rings, Annotation, object, ImageRecord]] = []
        self.blank: set[int] = set()  # by number
        self.names: dict[int, object] = {}  # in messages, by number, where it is not the id
        self.ids: dict[int, int | None] = {}
        self.repeated: set[int] = set()

    def add_all(self, block: list[tuple[int, dict[str, Any]]]) -> None:
        """Entries with their positions in the file, from 0."""
        self.findings.repairs.annotations += len(block)
        fine = plain([entry for _, entry in block], self.records, self.labels)
        for place, (position, entry) in enumerate(block):
            id = entry.get("id")
            if place in fine and is_int(id):
                self._add_plain(id, fine[place])
            else:
                self.add(entry, position)
        self.examine()

    def _add_plain(self, id: int, found: Plain) -> None:
        record, label, box, rings, area = found
        self._check_id(id, id, record.id)
        number = self._number(id)
        self._keep(Annotation(number, id, label, box, rings, area, crowd=False), id, record)

    def _number(self, id: object) -> int:
        """Of the next annotation; the id itself if it is equal, which is one object less in memory."""
        number = len(self.fingerprints) + 1
        return id if is_int(id) and id == number else number

    def add(self, entry: dict[str, Any], position: int) -> None:
        id, image_id = entry.get("id"), entry.get("image_id")
        # How messages call it: its id, or its place in the file, from 0, if it has none.
        name = id if is_int(id) else f"#{position}"
        record = self.records.get(image_id) if is_int(image_id) else None
        image = record.id if record else None
        self._check_id(id, name, image)
        try:
            if record is None:
                raise Skip(
                    "its image is refused" if is_int(image_id) and image_id in self.records else "image_id of no image"
                )
            case = Case(entry, name, record, self.findings)
            annotation = _annotation(case, self._number(id), self.labels, self.own)
        except Skip as skip:
            self.findings.note("annotation", "skipped", str(skip), name, image)
        except Refused as refused:
            self.findings.refuse(refused, "annotation", name)
        else:
            self._keep(annotation, name, record)

    def _keep(self, annotation: Annotation, name: object, record: ImageRecord) -> None:
        self.found[record.id].append(annotation)
        self.fingerprints.append(_fingerprint(annotation, record.id))
        if name is not annotation.source_id:
            self.names[annotation.id] = name
        if isinstance(annotation.shape, Rings):
            self.unexamined.append((annotation.shape, annotation, name, record))

    def examine(self) -> None:
        """Polygons that were not examined yet: those that cross themselves, and those that even-odd filling empties."""
        if not self.unexamined:
            return
        loops, owner = together([rings for rings, _, _, _ in self.unexamined])
        crosses, odd = crossing(loops), np.abs(turns(loops)) != 1
        for i in np.unique(owner[crosses]).tolist():
            _, _, name, record = self.unexamined[i]
            self.findings.note("annotation", "noticed", "polygon that crosses itself", name, record.id)
        for i in np.unique(owner[crosses | odd]).tolist():
            _, annotation, _, record = self.unexamined[i]
            if not to_bitmap(annotation, record.height, record.width).area:
                self.blank.add(annotation.id)
        self.unexamined.clear()

    def drop(self) -> None:
        """Copies, and polygons without a pixel; what is left gets new numbers."""
        _, first = np.unique(np.frombuffer(self.fingerprints, np.int64), return_index=True)
        if len(first) == len(self.fingerprints) and not self.blank:
            return
        left = sorted(set((first + 1).tolist()) - self.blank)
        numbers = {old: new for new, old in enumerate(left, 1)}
        for image, found in self.found.items():
            for a in found:
                if a.id not in numbers:
                    verb, what = ("skipped", NO_AREA) if a.id in self.blank else ("dropped", "exact copy of another")
                    self.findings.note("annotation", verb, what, self.names.get(a.id, a.source_id), image)
            self.found[image] = [a.numbered(numbers[a.id]) for a in found if a.id in numbers]

    def _check_id(self, id: object, name: object, image: int | None) -> None:
        """Ids are numbered anew, so what is wrong with them is only counted."""
        whole = is_int(id)
        if whole and id != 0 and id not in self.ids:
            self.ids[id] = image
            return
        note = partial(self.findings.note, "annotation", "renumbered")
        if not whole:
            note("id missing or not a whole number", name, image)
        elif id == 0:
            note("id 0", id, image)
        else:
            if id not in self.repeated:
                self.repeated.add(id)
                note("id used more than once", id, self.ids[id])
            note("id used more than once", id, image)


@dataclass(frozen=True, slots=True)
class Case:
    """An entry under examination."""

    entry: dict[str, Any]
    name: object  # for messages
    record: ImageRecord
    findings: Findings

    def note(self, verb: str, what: str) -> None:
        self.findings.note("annotation", verb, what, self.name, self.record.id)

    def refusal(self, what: str, message: str, field: str) -> Refused:
        return self.findings.refusal(
            what,
            f"annotation {self.name} of image {self.record.id} {message}",
            image_id=self.record.id,
            annotation_id=self.name,
            field=field,
            value=self.entry.get(field),
        )


def _labels(own: Categories, wanted: Categories) -> dict[int, int | None]:
    """Category id -> label; None if the model does not know its name."""
    by_name = {name: label for label, name in enumerate(wanted.names, 1)}
    return {id: by_name.get(name) for id, name in zip(own.ids, own.names, strict=True)}


def _annotation(case: Case, number: int, labels: dict[int, int | None], own: Categories) -> Annotation:
    entry, record = case.entry, case.record
    label = _label(case, labels, own)
    given = _numbers(entry.get("bbox"))
    corners = None if given is None else _xyxy(given)
    mask = check_mask(entry.get("segmentation"), corners, record.height, record.width, case.note)
    box = _box(case, given, mask)
    if mask is None:
        raise Skip("no segmentation")
    crowd = _crowd(case, mask)
    area = _area(case, mask, crowd)
    return Annotation(number, entry.get("id"), label, box, mask.segmentation, area, crowd)


def _label(case: Case, labels: dict[int, int | None], own: Categories) -> int:
    id = case.entry.get("category_id")
    if not is_int(id) or id < 0:
        message = f"has the category_id {id!r}: expected the id of one of the categories"
        raise case.refusal("category_id not a whole number from 0", message, "category_id")
    if id not in labels:
        raise Skip("category_id of no category")
    label = labels[id]
    if label is None:
        raise case.refusal(
            "of a category that the model does not have",
            f"is a {own.names[own.label(id) - 1]!r}, a category that the model does not have: "
            f"rename it to one of the model's or train a model for it",
            "category_id",
        )
    return label


def _numbers(bbox: object) -> list[float] | None:
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        return None
    return [float(v) for v in bbox]


def _xyxy(box: list[float]) -> Box:
    x, y, w, h = box
    return x, y, x + w, y + h


def _box(case: Case, given: list[float] | None, mask: Mask | None) -> Box:
    if given is None and mask is None:
        raw = case.entry.get("bbox")
        expected = "expected four numbers, x, y, width, height"
        what = "neither a bbox nor a segmentation"
        raise case.refusal(what, f"has the bbox {raw!r} and no segmentation: {expected}", "bbox")
    if given is None or not all(map(math.isfinite, given)) or min(given[2:]) <= 0:
        what = "bbox missing or not four numbers" if given is None else "bbox not finite or of no size"
        if mask is None:
            raise Skip(f"{what}, and no segmentation")
        case.note("repaired", f"{what}, taken from its mask")
        return mask.box
    box, outside = _clip(_xyxy(given), case.record)
    if box is None:
        raise Skip("bbox outside the image")
    if mask is not None and iou(box, mask.box) < SAME_OBJECT:
        case.note("repaired", "bbox disagrees with its mask and was taken from it")
        return mask.box
    if outside:
        case.note("clipped", "bbox reaches past the image")
    return box


def _clip(box: Box, record: ImageRecord) -> tuple[Box | None, bool]:
    """The part of a box within the image, None if there is none, and whether more than a rounding was cut off."""
    limits = (record.width, record.height) * 2
    x0, y0, x1, y1 = clipped = [float(min(max(v, 0), limit)) for v, limit in zip(box, limits, strict=True)]
    if x0 >= x1 or y0 >= y1:
        return None, True
    return (x0, y0, x1, y1), any(abs(a - b) > ROUNDING for a, b in zip(box, clipped, strict=True))


def _crowd(case: Case, mask: Mask) -> bool:
    raw = case.entry.get("iscrowd")
    crowd = bool(raw) if isinstance(raw, bool) or is_number(raw) else False
    if not is_int(raw) or raw not in (0, 1):
        what = "iscrowd missing" if raw is None else "iscrowd neither 0 nor 1"
        case.note("repaired", f"{what}, read as {int(crowd)}")
    if crowd and isinstance(mask.segmentation, list):
        case.note("noticed", "crowd region drawn as polygons")
    return crowd


def _area(case: Case, mask: Mask, crowd: bool) -> float:
    """The file's own number unless it contradicts the mask; it decides between small, medium and large.

    Crowd regions are ignored whatever their size, and in COCO itself their areas are off: those stay.
    """
    raw = case.entry.get("area")
    given = float(raw) if is_number(raw) and math.isfinite(raw) and raw >= 0 else None
    if given is not None and (crowd or _agree(given, mask.area)):
        return given
    area = mask.pixels(case.record.height, case.record.width)
    if given is None:
        case.note("repaired", "area missing or not a number, counted anew")
    elif _agree(given, area):
        return given
    else:
        moved = ", which moves it to another size class" if _size_class(given) != _size_class(area) else ""
        case.note("repaired", f"area wrong, counted anew{moved}")
    return area


def _agree(area: float, mask_area: float) -> bool:
    return abs(area - mask_area) <= max(AREA_SHARE * mask_area, AREA_PIXELS)


def _size_class(area: float) -> str:
    return next(name for name, limit in SHAPES.items() if area < limit)


def _fingerprint(annotation: Annotation, image: int) -> int:
    shape = annotation.shape if isinstance(annotation.shape, Rings) else annotation.shape["counts"]
    return hash((image, annotation.label, annotation.numbers[:32], annotation.crowd, shape))
