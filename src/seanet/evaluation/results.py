"""Files of results in COCO's format, of anybody's model, checked against the data before anything is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from seanet.data import bitmaps
from seanet.data.coco import CocoData, ImageRecord
from seanet.data.files import irregular
from seanet.data.segmentations import Skip, check_mask, run_lengths
from seanet.data.values import is_int, is_number, kind
from seanet.errors import UserError
from seanet.evaluation.packed import pack_runs
from seanet.evaluation.runs import unpack

AT_ONCE = 512  # entries: their run lengths stay in the processor's cache
FACTORS = ("box_score", "cls_score", "box_iou", "mask_iou")  # of the score, as our own results have them


def read_results(path: Path | str, data: CocoData) -> list[dict]:
    """Entries with image_id, category_id, score, bbox and, as segmentation, compressed run lengths of the image's size.

    Polygons are drawn, a missing bbox is taken from the mask, and ``FACTORS`` stay where they are.  No entries at all are
    a result too.  UserError for what cannot be measured, with the first entry or ids at fault.
    """
    path = Path(path)
    data.require_objects(f"measure {path} by")
    entries = _entries(path)
    records = {image.id: image for image in data.images}
    _check_ids(path, entries, "image_id", records, f"{data.file} has {len(records)} images")
    ids = set(data.categories.ids)
    _check_ids(path, entries, "category_id", ids, f"{data.file} has {len(ids)} of them")
    for begin in range(0, len(entries), AT_ONCE):
        part = entries[begin : begin + AT_ONCE]
        images = [records[entry["image_id"]] for entry in part]
        # In place, so that the file's content and what is kept of it never are there twice.
        entries[begin : begin + AT_ONCE] = _plain(part, images) or [
            _checked(path, begin + i, entry, image) for i, (entry, image) in enumerate(zip(part, images, strict=True))
        ]
    return entries


def _entries(path: Path) -> list[dict[str, Any]]:
    if reason := irregular(path):
        raise UserError(f"{path}: {reason}: give a file of results in COCO's format", file=path)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON: {error}: export the results again", file=path) from error
    if not isinstance(content, list):
        given = "an annotation file" if isinstance(content, dict) and "annotations" in content else kind(content)
        message = f"{path}: holds {given}: expected COCO's list of results, one object for each detection"
        raise UserError(message, file=path)
    for i, entry in enumerate(content):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: result #{i} is {kind(entry)}: expected an object", file=path, value=entry)
    return content


def _check_ids(path: Path, entries: list[dict], field: str, known: Collection[int], have: str) -> None:
    """All ids must be among those of the data: results of another split would otherwise look like a bad model."""
    given = [entry.get(field) for entry in entries]
    if set(map(type, given)) <= {int} and set(given) <= set(known):
        return
    wrong = [entry.get(field) for entry in entries if not is_int(entry.get(field)) or entry[field] not in known]
    if not wrong:
        return
    distinct = list(dict.fromkeys(map(repr, wrong)))
    what = f"{len(distinct)} {field} values" if len(distinct) > 1 else f"one {field}"
    raise UserError(
        f"{path}: {len(wrong)} of {len(entries)} results have {what} that the data do not know, {_few(distinct)}; "
        f"{have}, {_few(list(map(str, sorted(known))))}: give the results of these data",
        file=path,
        field=field,
        value=wrong[0],
    )


def _few(names: Sequence[str]) -> str:
    return "ids " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _plain(entries: list[dict[str, Any]], images: list[ImageRecord]) -> list[dict[str, Any]] | None:
    """What ``_checked`` would make of them one by one if all are of the usual form and right; None if any is not."""
    columns = {name: _column(entries, name) for name in ("score", *FACTORS) if name == "score" or name in entries[0]}
    boxes, masks = _boxes(entries), _masks(entries, images)
    if boxes is None or masks is None or any(column is None for column in columns.values()):
        return None
    kept = [
        {"image_id": entry["image_id"], "category_id": entry["category_id"], "segmentation": mask, "bbox": box}
        for entry, mask, box in zip(entries, masks, boxes, strict=True)
    ]
    for name, column in columns.items():
        for entry, value in zip(kept, column or [], strict=True):
            entry[name] = value
    absent = set(FACTORS) - columns.keys()
    return kept if absent.isdisjoint(chain.from_iterable(entries)) else None


def _column(entries: list[dict[str, Any]], name: str) -> list[float] | None:
    values = _numbers([entry.get(name) for entry in entries])
    return None if values is None else values.tolist()


def _boxes(entries: list[dict[str, Any]]) -> list[list[float]] | None:
    boxes: list[Any] = [entry.get("bbox") for entry in entries]
    if set(map(type, boxes)) != {list} or set(map(len, boxes)) != {4}:
        return None
    sides = _numbers(list(chain.from_iterable(boxes)))
    if sides is None or sides.reshape(-1, 4)[:, 2:].min() < 0:
        return None
    return sides.reshape(-1, 4).tolist()


def _masks(entries: list[dict[str, Any]], images: list[ImageRecord]) -> list[dict[str, Any]] | None:
    masks: list[Any] = [entry.get("segmentation") for entry in entries]
    if set(map(type, masks)) != {dict} or set(map(frozenset, masks)) != {frozenset({"size", "counts"})}:
        return None
    texts = [mask["counts"] for mask in masks]
    if set(map(type, texts)) != {str} or not all(texts):
        return None
    sizes = [[image.height, image.width] for image in images]
    runs = unpack(texts)
    whole = runs.sound.all() and (runs.pixels == np.array(sizes).prod(1)).all()
    return masks if whole and [mask["size"] for mask in masks] == sizes else None


def _numbers(values: list[Any]) -> np.ndarray | None:
    """As floats, if all are finite numbers."""
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        found = np.array(values, np.float64)
    except OverflowError:
        return None
    return found if np.isfinite(found).all() else None


def _checked(path: Path, i: int, entry: dict[str, Any], image: ImageRecord) -> dict[str, Any]:
    def wrong(field: str, message: str) -> UserError:
        facts: dict[str, object] = {"image_id": image.id, "field": field, "value": entry.get(field)}
        return UserError(f"{path}: result #{i} (image {image.id}) {message}", file=path, **facts)

    kept = {name: entry[name] for name in ("image_id", "category_id")}
    for name in ("score", *FACTORS):
        value = entry.get(name)
        if value is None and name != "score":
            continue
        if not is_number(value) or not math.isfinite(value):
            given = f"the {name} {value!r}" if name in entry else f"no {name}"
            raise wrong(name, f"has {given}: expected a finite number")
        kept[name] = float(value)
    if not isinstance(entry.get("segmentation"), list | dict):
        raise wrong("segmentation", "has no segmentation: expected run lengths or polygons, since masks are measured")
    try:
        kept["segmentation"], counts = _mask(entry["segmentation"], image)
    except Skip as reason:
        raise wrong("segmentation", f"has {reason}") from None
    box = entry.get("bbox")
    if box is None:
        x0, y0, x1, y1 = pack_runs(counts, image.height).box
        box = [x0, y0, x1 - x0, y1 - y0]
    elif not _is_box(box):
        raise wrong("bbox", f"has the bbox {box!r}: expected finite x, y, width and height, neither side below 0")
    return kept | {"bbox": [float(v) for v in box]}


def _is_box(box: object) -> bool:
    numbers = isinstance(box, list) and len(box) == 4 and all(is_number(v) and math.isfinite(v) for v in box)
    return numbers and min(box[2:]) >= 0


def _mask(raw: list | dict, image: ImageRecord) -> tuple[dict[str, Any], np.ndarray]:
    """Compressed run lengths and their counts.  A mask without a pixel is one, if a bad one."""
    height, width = image.height, image.width
    if isinstance(raw, list):
        raw = _drawn(raw, height, width)
    size = raw.get("size")
    if size != [height, width]:
        raise Skip(f"a mask of size {size!r}: expected the image's, [height, width] = [{height}, {width}]")
    counts = run_lengths(raw.get("counts"))
    if counts is None or counts.min() < 0:
        raise Skip("run lengths that are malformed or negative: export them again")
    if int(counts.sum()) != height * width:
        raise Skip(f"run lengths of {counts.sum()} pixels: expected {height * width}, as the image has")
    packed = raw if isinstance(raw["counts"], str | bytes) else bitmaps.runs_to_rle(counts, height, width)
    return {"size": [height, width], "counts": packed["counts"]}, counts


def _drawn(raw: list, height: int, width: int) -> dict[str, Any]:
    empty = {"size": [height, width], "counts": [height * width]}
    if not raw:
        return empty
    try:
        mask = check_mask(raw, None, height, width, lambda *_: None)
    except Skip as reason:
        if str(reason) in ("polygon outside the image", "polygon without area"):
            return empty
        raise Skip(f"a {reason}: export the results again") from None
    assert mask is not None
    assert isinstance(mask.segmentation, list)
    return {"size": [height, width], "counts": bitmaps.rings_to_rle(mask.segmentation, height, width)["counts"]}
