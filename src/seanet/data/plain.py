"""The fast lane: annotations in polygons of which many together are shown to have nothing to repair, skip or note.

The careful way, entry by entry, defines what that is (``single``); here it only must never say so wrongly.  Letters:
N annotations in question, R rings of theirs.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from seanet.data.loops import Loops
from seanet.data.records import SIZES, Box, ImageRecord, Rings
from seanet.data.segmentations import AREA_PIXELS, AREA_SHARE, LONGEST, ROUNDING, SAME_OBJECT, thin

SLACK = 0.1  # pixels or their squares, for sums that were rounded in another order


class Plain(NamedTuple):
    """An annotation as it stands in the file, apart from what the image's frame cuts off its box."""

    record: ImageRecord
    label: int
    box: Box
    rings: Rings
    area: float


@dataclass
class _Columns:
    """What the annotations in question say."""

    places: list[int] = field(default_factory=list)
    records: list[ImageRecord] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    numbers: array = field(default_factory=lambda: array("d"))  # five each: the box and the area
    flat: array = field(default_factory=lambda: array("d"))  # coordinates of all rings
    lengths: list[int] = field(default_factory=list)  # of each ring, in coordinates
    rings: list[int] = field(default_factory=list)  # of each annotation

    def add(self, place: int, entry: dict[str, Any], record: ImageRecord, label: int) -> None:
        """Numbers are taken as they are; an entry that holds anything else there is passed over."""
        rings, box, area = entry.get("segmentation"), entry.get("bbox"), entry.get("area")
        if type(rings) is not list or not rings or type(box) is not list or len(box) != 4:
            return
        lengths = [len(ring) if type(ring) is list and len(ring) % 2 == 0 else 0 for ring in rings]
        if min(lengths) < 6 or bool in map(type, box) or area is True or area is False:
            return
        before = len(self.numbers), len(self.flat)
        try:
            self.numbers.fromlist([*box, area])
            for ring in rings:
                self.flat.fromlist(ring)
        except (TypeError, OverflowError):
            del self.numbers[before[0] :], self.flat[before[1] :]
            return
        self.places.append(place)
        self.records.append(record)
        self.labels.append(label)
        self.lengths += lengths
        self.rings.append(len(lengths))


def plain(
    entries: Sequence[dict[str, Any]], records: Mapping[int, ImageRecord | None], labels: Mapping[int, int | None]
) -> dict[int, Plain]:
    """By place among the entries; ``records`` by id of the image, ``labels`` by that of the category."""
    columns = _Columns()
    for place, entry in enumerate(entries):
        image, category, crowd = entry.get("image_id"), entry.get("category_id"), entry.get("iscrowd")
        if type(image) is type(category) is type(crowd) is int and crowd == 0:
            record, label = records.get(image), labels.get(category)
            if record and label:
                columns.add(place, entry, record, label)
    if not columns.places:
        return {}
    with np.errstate(all="ignore"):  # huge numbers and none pass no check
        return _checked(columns)


def _checked(columns: _Columns) -> dict[int, Plain]:
    flat, lengths, rings = np.array(columns.flat), np.array(columns.lengths), np.array(columns.rings)
    loops = Loops.of(flat, lengths // 2)
    x, y, w, h, area = np.array(columns.numbers).reshape(-1, 5).T
    size = np.array([[record.width, record.height] for record in columns.records]).T
    first = np.cumsum(rings) - rings
    given = np.stack([x, y, x + w, y + h])
    box = np.where(given < 0, 0, given)
    box = np.where(box > np.tile(size, (2, 1)), np.tile(size, (2, 1)), box)
    fine, extent = _drawn(loops, first, np.repeat(size, rings, 1), area)
    fine &= (np.abs(given - box) <= ROUNDING).all(0) & (box[:2] < box[2:]).all(0) & (_iou(box, extent) >= SAME_OBJECT)
    own = _packed(flat, lengths, rings, extent[2:].max(0))
    rows = zip(columns.records, columns.labels, map(tuple, box.T.tolist()), own, area.tolist(), strict=True)
    every = zip(columns.places, fine.tolist(), map(Plain._make, rows), strict=True)
    return {place: row for place, is_fine, row in every if is_fine}


def _drawn(loops: Loops, first: np.ndarray, size: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which polygons (N,) lie within their images, hold pixels for sure and have the given area; (xyxy, N) extents.

    ``first`` (N,) is the first ring of each, ``size`` (xy, R) the image's of each ring.
    """
    low, high = loops.extent()
    inside = ((low >= 0) & (low < size) & (high > 0) & (high <= size)).all(0)
    drawn, length = (np.add.reduceat(sums, first) for sums in (np.abs(loops.areas()), loops.lengths()))
    fine = np.logical_and.reduceat(inside, first) & ~thin(drawn - SLACK, length) & (length < LONGEST - SLACK)
    fine &= (area >= 0) & (np.abs(area - drawn) + SLACK <= np.maximum(AREA_SHARE * drawn, AREA_PIXELS))
    return fine, np.concatenate([np.minimum.reduceat(low, first, 1), np.maximum.reduceat(high, first, 1)])


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of pairs of boxes, (xyxy, N); as ``segmentations.iou`` to the last bit."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / total


def _packed(flat: np.ndarray, lengths: np.ndarray, rings: np.ndarray, high: np.ndarray) -> Iterator[Rings]:
    """Of each annotation what ``Rings.of`` makes of it, with largest coordinates ``high``, (N,), and none below 0."""
    ends = np.cumsum(lengths)
    last = np.cumsum(rings)
    stops = ends[last - 1]
    starts = np.append(0, stops[:-1])
    hundredths = np.rint(flat * 100)
    exact = np.logical_and.reduceat(hundredths / 100 == flat, starts)
    codes = np.where(exact, np.where(np.rint(high * 100) < 2**16, "u2", "i4"), "f8").tolist()
    packed = {code: (flat if code == "f8" else hundredths.astype(code)).tobytes() for code in set(codes)}
    for code, start, stop, after, count in zip(
        codes, *map(np.ndarray.tolist, (starts, stops, last, rings)), strict=True
    ):
        own = () if count == 1 else tuple((ends[after - count : after - 1] - start).tolist())
        yield Rings(packed[code][start * SIZES[code] : stop * SIZES[code]], code, own)
