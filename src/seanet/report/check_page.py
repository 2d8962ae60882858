"""A page of what a check of a data set found: of each kind a few offenders, drawn as the file of annotations has them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from seanet.data import bitmaps
from seanet.data.checking.check import Check, corners, numbers
from seanet.data.checking.files import real
from seanet.data.checking.kinds import SEVERITIES, Found
from seanet.data.checking.workers import Lost, each
from seanet.data.entries import read_annotations
from seanet.data.images import MAX_PIXELS, read_image
from seanet.data.records import ImageRecord
from seanet.data.repairs import Place
from seanet.data.segmentations import run_lengths
from seanet.data.values import is_int
from seanet.errors import ImageError
from seanet.report.check import closing, described, heading, ids_of
from seanet.report.draw import Colour, outline
from seanet.report.files import write_whole
from seanet.report.page import embedded

SIDE = 320  # pixels of a picture's longer side
GAP = 8  # between an image and what it is a copy of
LEAST = 64  # pixels of an image that a picture shows at least
MARGIN = 0.25  # around an annotation, as a share of its longer side
BOX: Colour = (230, 159, 0)
MASK: Colour = (86, 180, 233)
MOST = 60  # annotations of an image that are drawn
Entry = dict[str, Any]
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Job:
    """A picture to draw."""

    record: ImageRecord
    entries: tuple[Entry, ...]
    near: bool  # show the surroundings of the annotation, not the whole image
    twin: ImageRecord | None = None  # to be shown beside it


@dataclass(frozen=True)
class Offender:
    found: Found
    place: Place
    job: Job | None


def write_sheet(path: Path, checked: Check, title: str, limit: int = 6, workers: int = 0) -> Path:
    """Write the page, with at most ``limit`` offenders of each kind; ``workers`` processes draw them."""
    from jinja2 import Environment

    offenders = list(_offenders(checked, limit))
    jobs = {id(one): one.job for one in offenders if one.job}
    drawn = dict(zip(jobs, each(_draw, list(jobs.values()), workers), strict=True))
    kinds = {
        found: [_figure(one, drawn.get(id(one))) for one in offenders if one.found is found] for found in checked.found
    }
    template = files("seanet.report").joinpath("check.html").read_text(encoding="utf-8")
    html = (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            title=title,
            closing=closing(checked, title),
            splits=[described(checked, split.name) for split in checked.splits],
            severities=_severities(checked, kinds),
            box=f"rgb{BOX}",
            mask=f"rgb{MASK}",
        )
    )
    return write_whole(path, html.encode())


def _severities(checked: Check, kinds: Mapping[Found, list[Entry]]) -> list[Entry]:
    return [
        {
            "name": severity,
            "meaning": SEVERITIES[severity],
            "kinds": [
                {"head": heading(found), "ids": ids_of(checked, found), "offenders": kinds[found]} for found in group
            ],
        }
        for severity, group in groupby(checked.found, lambda found: found.kind.severity)
    ]


def _figure(one: Offender, drawn: object) -> Entry:
    """What the page shows of an offender: its picture or why there is none."""
    why = f"no picture: drawing it {drawn.reason}" if isinstance(drawn, Lost) else "no picture: its file is damaged"
    if one.job is None:
        why = ""
    picture = drawn if isinstance(drawn, dict) else None
    name = f"{one.found.kind.subject} {one.place.id}"
    if one.found.kind.subject == "annotation" and one.place.image_id is not None:
        name += f" of image {one.place.image_id}"
    file = one.job.record.path.name if one.job else ""
    return {"picture": picture, "why": why, "name": name, "said": one.place.said or file}


def _offenders(checked: Check, limit: int) -> Iterator[Offender]:
    """Those of images and annotations, and others of which there is more to say."""
    chosen = [
        (found, place)
        for found in checked.found
        for place in found.places[:limit]
        if found.kind.subject in ("image", "annotation") or place.said
    ]
    records, entries = _records(checked), _entries(checked, chosen)
    for found, place in chosen:
        split, of_annotation = found.kind.split, found.kind.subject == "annotation"
        record = records.get((split, place.image_id if of_annotation else place.id))
        mine = entries.get((split, place.image_id if of_annotation else place.id), [])
        if of_annotation:
            mine = [entry for entry in mine if entry[0] == place.id]
        raw = tuple(entry for _, entry in mine[:MOST])
        twin = records.get(checked.twins.get((split, place.id, found.kind.what), ("", None)))
        yield Offender(found, place, Job(record, raw, near=of_annotation, twin=twin) if record else None)


def _records(checked: Check) -> dict[tuple[str, object], ImageRecord]:
    """Images that can be decoded, by split and id."""
    return {
        (split, image.id): image
        for split, data in checked.data.items()
        for image in data.images
        if checked.seen[real(image.path)].header
    }


def _entries(
    checked: Check, chosen: Sequence[tuple[Found, Place]]
) -> dict[tuple[str, object], list[tuple[object, Entry]]]:
    """Annotations, with how they are called, of the images that will be shown, by split and image id."""
    wanted = {(found.kind.split, place.image_id if place.image_id is not None else place.id) for found, place in chosen}
    entries: dict[tuple[str, object], list[tuple[object, Entry]]] = {key: [] for key in wanted}
    for split in {split for split, _ in wanted} & set(checked.data):
        for position, entry in read_annotations(checked.data[split].file):
            key = (split, entry["image_id"]) if is_int(entry.get("image_id")) else None
            if key in entries:
                entries[key].append((entry["id"] if is_int(entry.get("id")) else f"#{position}", entry))
    return entries


def _draw(job: Job) -> Entry | None:
    """The picture, embedded; None if its file cannot be decoded."""
    try:
        pixels, twin = _pixels(job.record), _pixels(job.twin) if job.twin else None
    except ImageError:
        return None
    window = _window(job, pixels.shape[1], pixels.shape[0])
    picture = _picture(pixels, window, job.entries)
    if twin is not None:
        picture = _beside(picture, Image.fromarray(twin).resize(picture.size, Image.Resampling.BICUBIC))
    return embedded("", picture, quality=80)


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + right.width + GAP, left.height), "white")
    both.paste(left)
    both.paste(right, (left.width + GAP, 0))
    return both


def _pixels(record: ImageRecord) -> np.ndarray:
    """As training sees them, or, where their size is wrong, as they are."""
    try:
        return read_image(record.path, size=(record.height, record.width))
    except ImageError as error:
        if error.field != "size":
            raise
        return read_image(record.path)


def _window(job: Job, width: int, height: int) -> Window:
    """What of the image is shown, xyxy: all, or the surroundings of the annotation if that lies in it."""
    points = [point for entry in job.entries for point in [*corners(entry), *_run_corners(entry)]] if job.near else []
    if not points:
        return 0, 0, width, height
    (x0, y0), (x1, y1) = np.min(points, 0).tolist(), np.max(points, 0).tolist()
    side = max(LEAST, (1 + 2 * MARGIN) * max(x1 - x0, y1 - y0))
    left, right = _span((x0 + x1) / 2, side, width)
    top, bottom = _span((y0 + y1) / 2, side, height)
    return (left, top, right, bottom) if left < right and top < bottom else (0, 0, width, height)


def _span(middle: float, side: float, limit: int) -> tuple[int, int]:
    return max(0, int(middle - side / 2)), min(limit, int(middle + side / 2) + 1)


def _run_corners(entry: Entry) -> list[tuple[float, float]]:
    mask = _run_mask(entry)
    if mask is None or not mask.bits.size:
        return []
    x0, y0, x1, y1 = map(float, mask.window)
    return [(x0, y0), (x1, y1)]


def _run_mask(entry: Entry) -> bitmaps.Bitmap | None:
    """A mask of run lengths, if they fill their size."""
    raw = entry.get("segmentation")
    if not isinstance(raw, dict) or not isinstance(raw.get("size"), list) or len(raw["size"]) != 2:
        return None
    counts, sides = run_lengths(raw.get("counts")), raw["size"]
    if counts is None or not all(is_int(side) and 0 < side <= MAX_PIXELS for side in sides):
        return None
    if counts.min() < 0 or int(counts.sum()) != sides[0] * sides[1] or sides[0] * sides[1] > MAX_PIXELS:
        return None
    return bitmaps.runs_to_bitmap(counts, sides[0])


def _picture(pixels: np.ndarray, window: Window, entries: Sequence[Entry]) -> Image.Image:
    x0, y0, x1, y1 = window
    scale = SIDE / max(x1 - x0, y1 - y0)
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    cut = Image.fromarray(np.ascontiguousarray(pixels[y0:y1, x0:x1])).resize(size, Image.Resampling.BICUBIC)
    for entry in entries:
        _draw_runs(cut, window, _run_mask(entry))
    pen = ImageDraw.Draw(cut)
    for entry in entries:
        for ring in _rings(entry):
            pen.line([((x - x0) * scale, (y - y0) * scale) for x, y in [*ring, ring[0]]], fill=MASK, width=2)
        box = numbers(entry.get("bbox"))
        if len(box) == 4:
            left, top = (box[0] - x0) * scale, (box[1] - y0) * scale
            right, bottom = left + max(box[2], 0) * scale, top + max(box[3], 0) * scale
            pen.rectangle((left, top, right, bottom), outline=BOX, width=2)
    return cut


def _rings(entry: Entry) -> Iterator[list[tuple[float, float]]]:
    """Polygons of two points and more."""
    raw = entry.get("segmentation")
    for ring in raw if isinstance(raw, list) else ():
        flat = numbers(ring)
        points = list(zip(flat[0::2], flat[1::2], strict=False))
        if len(points) > 1:
            yield points


def _draw_runs(picture: Image.Image, window: Window, mask: bitmaps.Bitmap | None) -> None:
    if mask is None:
        return
    bits = Image.fromarray(mask.cut(*window).bits * np.uint8(255)).resize(picture.size, Image.Resampling.NEAREST)
    edge = outline(np.asarray(bits) > 0, 2, frame=False)
    picture.paste(MASK, (0, 0), Image.fromarray(edge.astype(np.uint8) * np.uint8(255)))
