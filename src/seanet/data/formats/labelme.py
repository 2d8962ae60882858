"""LabelMe's files, both ways: a JSON file for each image with its shapes.  Free of torch.

Polygons, rectangles, circles and masks have an inside; points and lines have none.  Shapes of one label and one group_id
are parts of one object.  A flag ``iscrowd`` of ours marks crowd regions, which LabelMe does not know.
"""

import base64
import binascii
import io
import json
import math
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec
from PIL import Image

from seanet.data.bitmaps import EMPTY, Bitmap, clip_ring, rasterise
from seanet.data.files import irregular, unsafe
from seanet.data.formats.contents import Contents
from seanet.data.formats.converting import Progress, link_file, pictures_in, read_object, refuse_links, split_folders
from seanet.data.formats.labels import png
from seanet.data.images import image_size
from seanet.data.records import Annotation, CocoData, ImageRecord, mask_bits
from seanet.data.segmentations import FARTHEST
from seanet.data.values import is_int, is_number
from seanet.errors import AnnotationError

VERSION = "5.5.0"  # of LabelMe's own files with masks
AREAS = ("polygon", "rectangle", "circle", "mask")
GROUND = ("__ignore__", "_background_")  # labels that LabelMe keeps for what is no object
CROWD = "iscrowd"
SAGITTA = 0.02  # pixels between a circle and the polygon in its place


@dataclass(frozen=True)
class Picture:
    """An image: where it is, or the bytes of a file that held it inside."""

    file_name: str  # below the folder of images that is to be made
    file: Path | None
    embedded: bytes = b""


@dataclass(frozen=True)
class Found:
    contents: Contents
    pictures: list[Picture]


def convert(source: Path, split: str = "train", progress: Progress | None = None) -> dict[str, Found]:
    """The splits of a folder of LabelMe's files; images lie below the folder or inside the files."""
    return {name: _split(source, folder, progress) for name, folder in split_folders(source, split).items()}


def _split(source: Path, folder: Path, progress: Progress | None) -> Found:
    # Hidden files are not data: archives made on a Mac have one beside each.
    files = sorted(file for file in folder.rglob("*.json") if not file.name.startswith("."))
    if not files:
        raise AnnotationError(f"{folder}: found no JSON files of LabelMe", file=folder)
    found = Found(Contents(f"LabelMe, {folder.name}"), [])
    users: dict[Path, Path] = {}
    for done, file in enumerate(files, 1):
        content = read_object(file, "a file of LabelMe")
        picture = _picture(content, file, folder, source)
        if picture.file and (first := users.setdefault(picture.file, file)) != file:
            raise _error(file, f"and {first} belong to one image, {picture.file}: keep one", "imagePath", first)
        found.pictures.append(picture)
        height, width = _size(content, picture, file)
        found.contents.add_image(picture.file_name, height, width)
        _objects(found.contents, content, file, height, width)
        if progress:
            progress(done, len(files))
    for lonely in sorted(set(pictures_in(folder)) - set(users)):
        found.contents.repairs.note("image", "left out", "no JSON file", lonely.relative_to(folder).as_posix())
    return found


def _picture(content: dict[str, Any], file: Path, folder: Path, source: Path) -> Picture:
    """The file that ``imagePath`` leads to, which counts from the JSON file and must stay in the data set."""
    name = content.get("imagePath")
    if name is None and {"images", "annotations"} <= content.keys():
        raise _error(file, "looks like COCO's: expected LabelMe's, a file for each image", "imagePath", None)
    if not isinstance(name, str) or not name:
        raise _error(file, f"has the imagePath {name!r}: expected the name of its image", "imagePath", name)
    name = name.replace("\\", "/")
    below = posixpath.normpath(posixpath.join(file.parent.relative_to(source).as_posix(), name))
    if reason := unsafe(below):
        message = f"has the imagePath {name!r}, which {reason}: give the folder that holds files and images"
        raise _error(file, message, "imagePath", name)
    stem = file.relative_to(folder).with_suffix("")
    own = stem.with_name(stem.name + Path(name).suffix.lower()).as_posix()
    path = source / below
    reason = irregular(path)
    if not reason:
        return Picture(own, path)
    if not content.get("imageData"):
        raise _error(file, f"its image {path} {reason}, and imageData is empty: put it there", "imagePath", name)
    return Picture(own, None, _decoded(content["imageData"], file, "imageData"))


def _decoded(text: object, file: Path, field: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii") if isinstance(text, str) else b"!", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _error(file, f"{field} is not base64: save it again with LabelMe", field, None) from error


def place(out: Path, name: str, pictures: list[Picture], write: Callable[[Path, bytes], object]) -> None:
    """Links to the images in ``out/NAME``, and the images that were inside their files."""
    for picture in pictures:
        if picture.file:
            link_file(out, f"{name}/{picture.file_name}", picture.file)
        else:
            file = out / name / picture.file_name
            refuse_links(out, file)
            write(file, picture.embedded)


def _size(content: dict[str, Any], picture: Picture, file: Path) -> tuple[int, int]:
    """(height, width) of the image, which the JSON file must agree with where it says anything."""
    size = image_size(picture.file) if picture.file else _embedded_size(picture.embedded, file)
    said = content.get("imageHeight"), content.get("imageWidth")
    if said not in (size, (None, None)):
        message = f"says {said[1]} x {said[0]} pixels, but its image has {size[1]} x {size[0]}: mend it"
        raise _error(file, message, "imageWidth", said)
    return size


def _embedded_size(data: bytes, file: Path) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _error(file, "imageData holds no image: save it again with LabelMe", "imageData", None) from error


def _objects(contents: Contents, content: dict[str, Any], file: Path, height: int, width: int) -> None:
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise _error(file, "has no list of shapes: expected a file of LabelMe", "shapes", shapes)
    groups: dict[object, list[tuple[int, dict[str, Any]]]] = {}
    for position, shape in enumerate(shapes):
        label = _label(shape, file, position)
        kind, where = shape.get("shape_type", "polygon"), f"{file.name} shape {position}"
        if kind not in AREAS or label in GROUND:
            contents.note("skipped", f"{label} is ground" if label in GROUND else f"a {kind} has no inside", where)
            contents.repairs.annotations += 1
            continue
        group = shape.get("group_id")
        groups.setdefault((label, group) if is_int(group) else position, []).append((position, shape))
    for parts in groups.values():
        first = parts[0][1]
        raw = [_part(shape, file, position, height, width) for position, shape in parts]
        crowd = isinstance(first.get("flags"), dict) and first["flags"].get(CROWD) is True
        contents.add_object(first["label"], _united(raw, height, width), f"{file.name} shape {parts[0][0]}", crowd)


def _label(shape: object, file: Path, position: int) -> str:
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str) or not label:
        raise _error(file, f"shape {position} has the label {label!r}: expected the name of a class", "label", label)
    return label


def _part(shape: dict[str, Any], file: Path, position: int, height: int, width: int) -> list[float] | Bitmap:
    """A ring, or the pixels of a mask."""
    points = _points(shape, file, position)
    kind = shape.get("shape_type", "polygon")
    if kind != "polygon" and len(points) != 2:
        message = f"shape {position} is a {kind} of {len(points)} points: expected two"
        raise _error(file, message, "points", shape["points"])
    if kind == "mask":
        return _mask(shape, points, file, position, height, width)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    return (_circle(*points) if kind == "circle" else points).ravel().tolist()


def _points(shape: dict[str, Any], file: Path, position: int) -> np.ndarray:
    raw = shape.get("points")
    pairs = isinstance(raw, list) and all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in raw)
    points = np.array(raw, np.float64).reshape(-1, 2) if pairs else np.full((1, 2), np.nan)
    if not (np.abs(points) <= FARTHEST).all():
        message = f"shape {position} has points that are not pairs of finite numbers: draw it again"
        raise _error(file, message, "points", raw)
    return points


def _circle(centre: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """A polygon in place of a circle, (n, 2), that follows it as closely as ``SAGITTA``."""
    radius = math.dist(centre, rim)
    count = max(12, math.ceil(math.pi / math.acos(1 - min(SAGITTA / max(radius, SAGITTA), 1))))
    angle = np.arange(count) * (2 * np.pi / count)
    return (centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1)).round(3)


def _mask(shape: dict[str, Any], points: np.ndarray, file: Path, position: int, height: int, width: int) -> Bitmap:
    """Pixels from the first corner to the second, both included."""
    data = _decoded(shape.get("mask"), file, f"the mask of shape {position}")
    corners = points.round().astype(int)
    wanted = tuple((corners[-1] - corners[0] + 1).tolist())
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            # Within the image its size is no danger.
            fits = image.size == wanted and image.width <= width and image.height <= height
            bits = (np.asarray(image.convert("L")) != 0).astype(np.uint8) if fits else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        bits = None
    if bits is None:
        message = f"shape {position} is a mask, but no PNG of the size of its corners: draw it again"
        raise _error(file, message, "mask", None)
    return Bitmap(bits, *corners[0].tolist()).cut(0, 0, width, height)


def _united(parts: list[list[float] | Bitmap], height: int, width: int) -> list[list[float]] | dict[str, Any]:
    """Rings as they are; with a mask among them the pixels of all."""
    rings = [part for part in parts if isinstance(part, list)]
    if len(rings) == len(parts):
        return rings
    bits = np.zeros((height, width), np.uint8)
    for part in parts:
        bits |= (part if isinstance(part, Bitmap) else _drawn(part, height, width)).bits
    return codec.encode(np.asfortranarray(bits))


def _drawn(ring: list[float], height: int, width: int) -> Bitmap:
    inside = clip_ring(np.array(ring), height, width)
    drawn = rasterise([inside], height, width) if len(inside) >= 6 else EMPTY
    return drawn.cut(0, 0, width, height)


def write(data: CocoData, picture: Callable[[ImageRecord], str]) -> Iterator[tuple[ImageRecord, bytes]]:
    """Each image with the JSON file that belongs beside it; ``picture`` names the image there."""
    for record in data.images:
        shapes = [shape for a in record.annotations for shape in _shapes(a, record, data.categories.names[a.label - 1])]
        content: dict[str, Any] = {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": picture(record)}
        content |= {"imageData": None, "imageHeight": record.height, "imageWidth": record.width}
        yield record, json.dumps(content, ensure_ascii=False).encode()


def _shapes(a: Annotation, record: ImageRecord, label: str) -> Iterator[dict[str, Any]]:
    """Polygons as they are, the rings of one object with its id as group; run lengths as the pixels of a mask."""
    shape = {"label": label, "group_id": None, "description": "", "flags": {CROWD: True} if a.crowd else {}}
    if isinstance(a.segmentation, list):
        group = {"group_id": a.id} if len(a.segmentation) > 1 else {}
        for ring in a.segmentation:
            yield shape | group | {"points": ring.reshape(-1, 2).tolist(), "shape_type": "polygon", "mask": None}
        return
    bits, (x0, y0, x1, y1) = mask_bits(a, record.height, record.width)
    mask = base64.b64encode(png(Image.fromarray(bits * np.uint8(255)))).decode("ascii")
    corners = [[float(x0), float(y0)], [float(x1 - 1), float(y1 - 1)]]
    yield shape | {"points": corners, "shape_type": "mask", "mask": mask}


def _error(file: Path, message: str, field: str, value: object) -> AnnotationError:
    return AnnotationError(f"{file}: {message}", file=file, field=field, value=value)
