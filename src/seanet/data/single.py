"""The careful way: one entry of the list ``annotations``, repaired where that is safe, skipped where it alone is bad."""

import math
from dataclasses import dataclass
from typing import Any

from seanet.data.records import Annotation, Box, Categories, ImageRecord
from seanet.data.repairs import Findings, Refused
from seanet.data.segmentations import (
    AREA_PIXELS,
    AREA_SHARE,
    ROUNDING,
    SAME_OBJECT,
    Mask,
    Skip,
    check_mask,
    iou,
)
from seanet.data.values import is_int, is_number

SHAPES = {"small": 32**2, "medium": 96**2, "large": math.inf}


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


def check_annotation(case: Case, number: int, labels: dict[int, int | None], own: Categories) -> Annotation:
    """The object of that number; ``labels`` by the id of one of the file's ``own`` categories, None if the model has none.

    Raises ``Skip`` or ``Refused``.
    """
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
