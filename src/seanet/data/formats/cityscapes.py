"""Cityscapes as it is downloaded, made into COCO's annotations, and detections made into its results.  Free of torch.

An image of instance ids has, in each pixel, class x 1000 + number for an object, and the class alone for a group of objects
that nobody told apart, which becomes a crowd region.  Classes but the eight that Cityscapes evaluates are background.
"""

import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec
from PIL import Image, ImageDraw, UnidentifiedImageError

from seanet.data.formats.converting import read_object
from seanet.data.formats.labels import regions
from seanet.data.images import MAX_PIXELS, image_size
from seanet.data.records import CocoData
from seanet.data.segmentations import FARTHEST
from seanet.errors import AnnotationError, ImageError, UserError

CLASSES = {24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle"}
UNDRAWN = "license plate"  # has no class id, so it covers nothing
SPLITS = ("train", "val")
IDS, POLYGONS, PICTURE = "_gtFine_instanceIds.png", "_gtFine_polygons.json", "_leftImg8bit.png"


@dataclass(frozen=True)
class Frame:
    name: str  # CITY/CITY_SEQUENCE_FRAME
    truth: Path  # instance ids, or polygons where those are not there
    picture: Path


def find_splits(source: Path) -> list[str]:
    """Those of ``train`` and ``val`` that are annotated in a folder with ``gtFine`` and ``leftImg8bit``."""
    found = [split for split in SPLITS if (source / "gtFine" / split).is_dir()]
    if not found:
        raise UserError(
            f"{source} holds neither gtFine/train nor gtFine/val: give the folder into which "
            f"gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip were unpacked",
            file=source,
        )
    return found


def convert(source: Path, split: str, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """A split as the content of a COCO file; ``file_name`` is below ``leftImg8bit/SPLIT``.  ``progress``: (done, total)."""
    frames = find_frames(source, split)
    images, annotations = [], []
    for number, frame in enumerate(frames, 1):
        ids = read_ids(frame.truth)
        height, width = ids.shape
        _require_size(frame, height, width)
        images.append({"id": number, "file_name": f"{frame.name}{PICTURE}", "width": width, "height": height})
        for found in objects(ids):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **found})
        if progress:
            progress(number, len(frames))
    categories = [{"id": id, "name": name} for id, name in CLASSES.items()]
    info = {"description": f"Cityscapes fine annotations, {split}"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def find_frames(source: Path, split: str) -> list[Frame]:
    """In the order of their names; each has an annotation and a picture, or it is an error."""
    annotated, shown = source / "gtFine" / split, source / "leftImg8bit" / split
    truth = _named(annotated, POLYGONS) | _named(annotated, IDS)  # ids win: they need not be drawn
    pictures = _named(shown, PICTURE)
    if not truth:
        raise AnnotationError(f"{annotated}: found no CITY/*{IDS} and no CITY/*{POLYGONS}", file=annotated)
    _require_pairs(set(truth) - set(pictures), "annotations", "picture", shown, PICTURE)
    _require_pairs(set(pictures) - set(truth), "pictures", "annotation", annotated, IDS)
    return [Frame(name, truth[name], pictures[name]) for name in sorted(truth)]


def read_ids(file: Path) -> np.ndarray:
    """Instance ids, (H, W) int32, from an image of them or drawn from polygons."""
    return _drawn(file) if file.suffix == ".json" else _pixels(file)


def objects(ids: np.ndarray) -> Iterator[dict[str, Any]]:
    """COCO annotations of the instance ids (H, W) of an image, by id, less ``id`` and ``image_id``; masks are exact."""
    for id, rle in regions(ids):
        label = id // 1000 if id >= 1000 else id
        if label in CLASSES:
            yield {
                "category_id": label,
                "segmentation": {**rle, "counts": rle["counts"].decode("ascii")},
                "area": int(codec.area(rle)),
                "bbox": [int(side) for side in codec.toBbox(rle)],
                "iscrowd": int(id < 1000),
            }


def results(data: CocoData, entries: list[dict]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files that Cityscapes' own evaluation takes, for entries of a COCO results file.

    Each image has ``NAME_pred.txt`` with a line "mask class score" for each detection; masks are one-bit pictures.
    """
    classes = _own_classes(data)
    by_image: dict[int, list[dict]] = defaultdict(list)
    for entry in entries:
        by_image[entry["image_id"]].append(entry)
    _require_own_names(data)
    for image in data.images:
        name, lines = image.path.name.removesuffix(PICTURE), []
        for number, entry in enumerate(by_image[image.id]):
            mask = f"masks/{name}_{number:04d}.png"
            yield mask, _one_bit(entry["segmentation"])
            lines.append(f"{mask} {classes[entry['category_id']]} {entry['score']:.9f}\n")
        yield f"{name}_pred.txt", "".join(lines).encode("ascii")


def _require_own_names(data: CocoData) -> None:
    """The files of results have the names of images, without their folders."""
    name, count = Counter(image.path.name for image in data.images).most_common(1)[0] if data.images else ("", 0)
    if count > 1:
        message = (
            f"{data.file}: {count} images are called {name}, and would share their results: give each its own name"
        )
        raise UserError(message, file=data.file, field="file_name", value=name)


def _own_classes(data: CocoData) -> dict[int, int]:
    """Category id of the data -> Cityscapes' id of the same name."""
    ids = {name: id for id, name in CLASSES.items()}
    if unknown := [name for name in data.categories.names if name not in ids]:
        raise UserError(
            f"{data.file}: {', '.join(unknown[:5])} is no class of Cityscapes: expected {', '.join(ids)}",
            file=data.file,
            field="categories",
        )
    return {id: ids[name] for id, name in zip(data.categories.ids, data.categories.names, strict=True)}


def _one_bit(rle: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(codec.decode(rle).astype(bool)).save(file, "PNG")
    return file.getvalue()


def _named(folder: Path, end: str) -> dict[str, Path]:
    """CITY/CITY_SEQUENCE_FRAME -> file."""
    return {file.relative_to(folder).as_posix().removesuffix(end): file for file in folder.glob(f"*/*{end}")}


def _require_pairs(lonely: set[str], things: str, other: str, folder: Path, end: str) -> None:
    if lonely:
        first = min(lonely)
        raise AnnotationError(
            f"{len(lonely)} {things} have no {other}, {first} first: expected {folder / (first + end)}; "
            f"unpack the whole archive again",
            file=folder,
            value=sorted(lonely),
        )


def _require_size(frame: Frame, height: int, width: int) -> None:
    found = image_size(frame.picture)
    if found != (height, width):
        raise AnnotationError(
            f"{frame.truth}: is {width} x {height} pixels, but {frame.picture} is {found[1]} x {found[0]}: "
            f"unpack both archives again",
            file=frame.truth,
        )


def _pixels(file: Path) -> np.ndarray:
    image_size(file)  # refuses what is no image, and what is too large to be decoded
    try:
        with Image.open(file, formats=("PNG",)) as image:
            if image.mode == "I" or image.mode.startswith("I;16"):
                return np.asarray(image).astype(np.int32)
            mode = image.mode
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{file} is damaged or no PNG: unpack it again", file=file) from error
    raise ImageError(f"{file} holds pixels of mode {mode}: expected instance ids of 16 bits", file=file)


def _drawn(file: Path) -> np.ndarray:
    """Polygons one over the other in their order, as Cityscapes draws its own images of ids."""
    content = read_object(file, "an annotation of Cityscapes")
    try:
        size = content["imgWidth"], content["imgHeight"]
        if math.prod(size) > MAX_PIXELS:
            raise ValueError(f"more than {MAX_PIXELS:,} pixels")
        canvas = Image.new("I", size, 0)
        pen, seen = ImageDraw.Draw(canvas), Counter()
        for part in content["objects"]:
            if part["label"] != UNDRAWN and not part.get("deleted"):
                pen.polygon([_point(*pair) for pair in part["polygon"]], fill=_drawn_id(part["label"], seen))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = "is no annotation of Cityscapes: expected imgWidth, imgHeight, and objects with label and polygon"
        raise AnnotationError(f"{file}: {message} ({type(error).__name__}: {error})", file=file) from error
    return np.asarray(canvas).astype(np.int32)


def _point(x: float, y: float) -> tuple[float, float]:
    if not (abs(x) <= FARTHEST and abs(y) <= FARTHEST):  # nor NaN
        raise ValueError(f"a point at {x}, {y}")
    return x, y


def _drawn_id(label: str, seen: Counter[str]) -> int:
    """The id that a polygon is filled with; objects are numbered from 0 within their class, 0 is background."""
    for id, name in CLASSES.items():
        if label == name:
            seen[name] += 1
            return id * 1000 + seen[name] - 1
        if label == f"{name}group":
            return id
    return 0
