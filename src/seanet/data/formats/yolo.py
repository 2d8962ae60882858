"""YOLO's segments, both ways: a text file for each image with a row "class x y x y ..." for each object.  Free of torch.

Coordinates are shares of the width and height of the image.  A row is one ring, so holes and several parts are joined by
bridges of zero width, which come back pixel by pixel.  A row of four numbers is a box: no mask follows from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from seanet.data.files import irregular, unsafe
from seanet.data.formats.bridges import outline
from seanet.data.formats.contents import Contents
from seanet.data.formats.converting import Progress, by_stem, common_folder, pictures_in, read_text
from seanet.data.images import image_size
from seanet.data.records import Annotation, CocoData, ImageRecord, mask_bits
from seanet.data.repairs import Repairs
from seanet.errors import AnnotationError

KEYS = ("train", "val", "test")
FARTHEST = 2.0  # widths or heights; rows beyond are in pixels
KEPT = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")  # of what YAML makes of plain words


class _Texts(yaml.SafeLoader):
    """Words without quotation marks stay the texts that they are: classes are called no, on, 007 and 1.10."""


_Texts.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag in KEPT]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Found:
    """A split: the folder that its images are below, and what a COCO file holds whose names are below it."""

    folder: Path
    contents: Contents


@dataclass(frozen=True)
class Description:
    """What data.yaml says."""

    file: Path
    names: list[str]
    root: str  # of its own, from which the places count
    places: dict[str, list[str]]  # of a split: folders, or lists of images

    def error(self, message: str, field: str) -> AnnotationError:
        return AnnotationError(f"{self.file}: {message}", file=self.file, field=field)


def convert(source: Path, progress: Progress | None = None) -> tuple[list[str], dict[str, Found]]:
    """Names of the classes, and the splits of a folder that holds data.yaml."""
    description = read_description(source)
    found: dict[str, Found] = {}
    labels: set[Path] = set()
    boxes = 0
    for split in description.places:
        pictures = _pictures(description, split)
        folder = common_folder(pictures)
        contents = Contents(f"YOLO segments, {split}")
        for done, picture in enumerate(pictures, 1):
            height, width = image_size(picture)
            name = picture.relative_to(folder).as_posix()
            contents.add_image(name, height, width)
            file = description.file.parent / label_name(picture.relative_to(description.file.parent))
            if file.exists():
                labels.add(file)
                boxes += _rows(contents, file, description, height, width)
            else:
                contents.repairs.note("image", "noticed", "no file of labels, so no objects", name)
            if progress:
                progress(done, len(pictures))
        found[split] = Found(folder, contents)
    if not labels:
        message = "none of its images has a file of labels: expected labels/NAME.txt for images/NAME.jpg"
        raise description.error(message, "labels")
    if boxes and not any(part.contents.annotations for part in found.values()):
        message = f"its labels are {boxes} boxes without an outline: export segments, no mask follows from boxes"
        raise description.error(message, "labels")
    first = next(iter(found.values())).contents
    for file in _lonely(labels):
        name = file.relative_to(description.file.parent).as_posix()
        first.repairs.note("file", "left out", "labels without an image", name)
    return description.names, found


def _lonely(labels: set[Path]) -> list[Path]:
    """Files of labels beside those of images."""
    return sorted({file for folder in {file.parent for file in labels} for file in folder.glob("*.txt")} - labels)


def read_description(source: Path) -> Description:
    """data.yaml of a folder, or another file of that kind that is named itself."""
    file = source if source.is_file() else _yaml_file(source)
    what = "YOLO's data.yaml, with names, train and val"
    text = read_text(file, what)
    try:
        content = yaml.load(text, _Texts)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise AnnotationError(f"{file} is not YAML: expected {what}", file=file) from error
    if not isinstance(content, dict):
        raise AnnotationError(f"{file} holds no keys: expected {what}", file=file)
    root = content.get("path")
    description = Description(file, [], root if isinstance(root, str) else "", {})
    description.places.update({key: _texts(content[key], key, description) for key in KEYS if content.get(key)})
    description.names.extend(_names(content.get("names"), description))
    if not description.places:
        raise description.error("names neither train nor val: expected folders of images", "train")
    return description


def _yaml_file(source: Path) -> Path:
    files = sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
    if source / "data.yaml" in files or not files:
        return source / "data.yaml"
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise AnnotationError(f"{source} holds {names}: name the one that describes the data set", file=source)
    return files[0]


def _texts(value: object, key: str, description: Description) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in texts):
        raise description.error(f"{key} is no text: expected a folder of images, or a list of some", key)
    return texts


def _names(value: object, description: Description) -> list[str]:
    if isinstance(value, dict) and value.keys() == {str(index) for index in range(len(value))}:
        value = [value[str(index)] for index in range(len(value))]
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        # Lists are not shown: with YAML's aliases a few lines nest into more text than memory holds.
        shown = f"names numbered {', '.join(map(str, value))[:60]}" if isinstance(value, dict) else "no list of names"
        raise description.error(f"has {shown}: expected a list, or 0: NAME, 1: NAME, ...", "names")
    if len(set(value)) < len(value):
        twice = next(name for name in value if value.count(name) > 1)
        raise description.error(f"names the class {twice!r} twice: give each its own name", "names")
    return value


def _pictures(description: Description, split: str) -> list[Path]:
    files: list[Path] = []
    for entry in description.places[split]:
        place = _place(description, entry, split)
        files += pictures_in(place) if place.is_dir() else _listed(place, description)
    files = sorted(set(files))
    if not files:
        raise description.error(f"{split}: there are no images in {', '.join(description.places[split])}", split)
    by_stem(files, common_folder(files))  # or two images would share their labels
    return files


def _place(description: Description, entry: str, split: str) -> Path:
    """A folder or list below the folder of data.yaml.

    Data sets are moved around, so as much of a path counts, from its end, as leads to something there.
    """
    above = description.file.parent
    parts = [part for part in f"{description.root}/{entry}".replace("\\", "/").split("/") if part not in ("", ".")]
    tried = ["/".join(parts[first:]) for first in range(len(parts))]
    places = [above / name for name in tried if not unsafe(name)]
    place = next((place for place in places if irregular(place) in ("", "is a folder")), None)
    if place is None:
        message = f"{split}: {entry!r} is not there: expected a folder of images below {above}"
        raise description.error(message, split)
    return place


def _listed(file: Path, description: Description) -> list[Path]:
    """Images that a text file lists, a path in a line."""
    lines = read_text(file, "a folder of images, or a list of them").splitlines()
    found = [_place(description, line.strip(), file.name) for line in lines if line.strip()]
    if bad := next((path for path in found if irregular(path)), None):
        raise AnnotationError(f"{file}: {bad} {irregular(bad)}: expected an image", file=file)
    return found


def _rows(contents: Contents, file: Path, description: Description, height: int, width: int) -> int:
    """Add the objects of a file; how many of its rows are boxes."""
    boxes = 0
    for line, text in enumerate(read_text(file, "rows of YOLO's segments").splitlines(), 1):
        if not text.strip():
            continue
        label, shares = _row(text, f"{file}:{line}", description)
        where = f"{file.relative_to(description.file.parent)}:{line}"
        if len(shares) == 4:
            contents.repairs.annotations += 1
            contents.note("skipped", "a box without an outline", where)
            boxes += 1
        else:
            ring = (shares.reshape(-1, 2) * (width, height)).round(6).ravel()
            contents.add_object(description.names[label], [ring.tolist()], where)
    return boxes


def _row(text: str, where: str, description: Description) -> tuple[int, np.ndarray]:
    """Class, and the other numbers."""
    facts: dict[str, Any] = {"file": where, "value": text[:200]}
    try:
        numbers = np.array(text.split(), np.float64)
    except ValueError as error:
        raise AnnotationError(f"{where}: {text[:60]!r} is no row of numbers: mend it", **facts) from error
    label, shares = numbers[0], numbers[1:]
    if not (label.is_integer() and 0 <= label < len(description.names)):
        known = f"{description.file.name} names 0 to {len(description.names) - 1}"
        raise AnnotationError(f"{where}: there is no class {text.split()[0]}: {known}", **facts)
    if len(shares) % 2 or len(shares) < 4:
        message = f"{where}: has {len(shares)} numbers after the class: expected an x and a y for each point"
        raise AnnotationError(message, **facts)
    if not (np.abs(shares - 0.5) <= FARTHEST - 0.5).all():
        message = f"{where}: expected shares of width and height, 0 to 1, not {shares[np.abs(shares).argmax()]:g}"
        raise AnnotationError(message, **facts)
    return int(label), shares


def labels(data: CocoData, repairs: Repairs) -> Iterator[tuple[ImageRecord, str]]:
    """Each image with the text of its file of labels; classes count from 0 in the order of the categories."""
    for record in data.images:
        rows = []
        for a in record.annotations:
            if a.crowd:
                repairs.note("crowd region", "left out", "not known to YOLO", a.source_id, record.id)
                continue
            ring, joined = _one_ring(a, record)
            if ring is None:
                what = "without a pixel" if not joined else "more parts and holes than one outline can join"
                repairs.note("object", "left out", what, a.source_id, record.id)
                continue
            if joined > 1:
                repairs.note("object", "joined", "parts and holes by bridges of zero width", a.source_id, record.id)
            shares = ring / (record.width, record.height)
            rows.append(" ".join([str(a.label - 1), *(f"{share:.12g}" for share in shares.ravel().tolist())]))
        yield record, "".join(f"{row}\n" for row in rows)


def _one_ring(a: Annotation, record: ImageRecord) -> tuple[np.ndarray | None, int]:
    """The outline that a row can hold, and how many rings it joins: a polygon as it is, anything else along its pixels."""
    if isinstance(a.segmentation, list) and len(a.segmentation) == 1:
        points = a.segmentation[0].reshape(-1, 2)
        if points.min() >= 0 and (points <= (record.width, record.height)).all():
            return points, 1
    bits, (x0, y0, _, _) = mask_bits(a, record.height, record.width)
    return outline(bits, x0, y0)


def description(names: tuple[str, ...], splits: list[str]) -> bytes:
    """data.yaml."""
    content: dict[str, Any] = {split: f"images/{split}" for split in splits}
    content["names"] = dict(enumerate(names))
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False).encode()


def label_name(picture: Path) -> str:
    """images/NAME.jpg -> labels/NAME.txt, both below the data set; the last folder of that name counts."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt").as_posix()
