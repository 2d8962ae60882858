"""The list ``annotations`` of a file, some entries at a time: those of which nothing is wrong together (``plain``), the
others one by one (``single``); then what only shows beside others, such as copies.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from seanet.data.crossings import crossing, together, turns
from seanet.data.plain import Plain, plain
from seanet.data.records import Annotation, Categories, ImageRecord, Rings, to_bitmap
from seanet.data.repairs import Findings, Refused
from seanet.data.segmentations import NO_AREA, Skip
from seanet.data.single import Case, check_annotation
from seanet.data.values import is_int
from seanet.errors import AnnotationError

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
            annotation = check_annotation(case, self._number(id), self.labels, self.own)
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


def _labels(own: Categories, wanted: Categories) -> dict[int, int | None]:
    """Category id -> label; None if the model does not know its name."""
    by_name = {name: label for label, name in enumerate(wanted.names, 1)}
    return {id: by_name.get(name) for id, name in zip(own.ids, own.names, strict=True)}


def _fingerprint(annotation: Annotation, image: int) -> int:
    shape = annotation.shape if isinstance(annotation.shape, Rings) else annotation.shape["counts"]
    return hash((image, annotation.label, annotation.numbers[:32], annotation.crowd, shape))
