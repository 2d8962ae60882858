"""Label images: the value of a pixel says which object it belongs to, 0 is ground.  Free of torch.

One value is one object, whatever the number of its parts, so masks are exact.  Where objects overlap only one of them
can have a pixel: the smaller one, as the larger ones lie behind.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seanet.data.bitmaps import runs_to_rle
from seanet.data.formats.contents import Contents
from seanet.data.formats.converting import Progress, by_stem, pictures_in, read_object, read_text, split_folders
from seanet.data.images import image_size
from seanet.data.records import Annotation, CocoData, ImageRecord, mask_bits
from seanet.data.repairs import Repairs
from seanet.errors import AnnotationError, ImageError, UserError

LOSSLESS = {".png", ".tif", ".tiff"}
MOST_VALUES = 65535  # objects of an image; a picture that is no label image has more colours than that
MOST_DIGITS = 10  # of a value
COLUMNS = ["image", "value", "class", "crowd"]
TABLE = "objects.csv"

Classes = Callable[[str, int], tuple[str, bool] | None]
"""Takes the path of a label image below its folder, less its ending, and a value; gives class and crowd, None for ground."""


@dataclass(frozen=True)
class Found:
    """A split as label images: the pictures' folder, and what a COCO file holds whose names are below it."""

    folder: Path
    contents: Contents


def convert(
    images: Path,
    labels: Path,
    classes: Classes,
    split: str = "train",
    ending: str = "",
    progress: Progress | None = None,
) -> dict[str, Found]:
    """Each split of a folder of label images; a label image has the name of its picture and ``ending``."""
    found = {}
    for name, folder in split_folders(labels, split).items():
        pictures = images / folder.name if folder != labels else images
        if not pictures.is_dir():
            raise UserError(f"{pictures} is not a folder: expected the images of {folder}", file=pictures)
        prefix = "" if folder == labels else f"{folder.name}/"
        found[name] = Found(pictures, _split(pictures, folder, prefix, classes, ending, progress))
    if isinstance(classes, Table):
        first = next(iter(found.values())).contents
        for image, value in classes.unused():
            first.repairs.note("row", "left out", "its image has no such value", f"{image} value {value}")
    return found


def _split(
    pictures: Path, folder: Path, prefix: str, classes: Classes, ending: str, progress: Progress | None
) -> Contents:
    contents = Contents(f"Label images of {folder.name}")
    files = [file for file in pictures_in(folder) if file.suffix.lower() in LOSSLESS and file.stem.endswith(ending)]
    truth = by_stem(files, folder)
    if not truth:
        raise AnnotationError(f"{folder}: found no label images, *{ending}.png or *{ending}.tif", file=folder)
    others = set(truth.values()) if ending else set()
    shown = by_stem((file for file in pictures_in(pictures) if file not in others), pictures)
    for done, (stem, file) in enumerate(sorted(truth.items()), 1):
        name = stem.removesuffix(ending)
        picture = shown.pop(name, None)
        if picture is None:
            message = f"{file}: its image is missing: expected {pictures / name}.jpg or another ending"
            raise AnnotationError(message, file=file)
        _image(contents, picture, pictures, file, prefix + name, classes)
        if progress:
            progress(done, len(truth))
    for stem in shown:
        contents.repairs.note("image", "left out", "no label image", stem)
    return contents


def _image(contents: Contents, picture: Path, pictures: Path, file: Path, name: str, classes: Classes) -> None:
    values = read_values(file)
    height, width = values.shape
    if (size := image_size(picture)) != (height, width):
        message = f"{file} is {width} x {height} pixels, but {picture} is {size[1]} x {size[0]}: they must be alike"
        raise AnnotationError(message, file=file)
    contents.add_image(picture.relative_to(pictures).as_posix(), height, width)
    if _pages(file) > 1:
        contents.repairs.note("image", "noticed", "its label image has several pages, of which the first counts", name)
    for value, rle in regions(values, file):
        if found := classes(name, value):
            contents.add_object(found[0], rle, f"{name} value {value}", crowd=found[1])
        else:
            contents.note("left out", "value of no class", f"{name} value {value}")


def read_values(file: Path) -> np.ndarray:
    """Values of a label image, (H, W) int32: grey or palette numbers; of a coloured one R + 256 G + 65536 B."""
    image_size(file)  # refuses what is no image, and what is too large to be decoded
    try:
        with Image.open(file, formats=("PNG", "TIFF")) as image:
            image.load()
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{file} is damaged or neither PNG nor TIFF: write it again", file=file) from error
    if mode in ("RGB", "RGBA"):
        red, green, blue = (pixels[:, :, channel].astype(np.int32) for channel in range(3))
        return red + 256 * green + 65536 * blue
    if pixels.ndim != 2 or pixels.dtype.kind not in "uib":
        raise ImageError(f"{file} holds pixels of mode {mode}: expected whole numbers, a palette or RGB", file=file)
    if pixels.dtype.kind == "i" and pixels.min() < 0:
        raise ImageError(f"{file} holds the value {pixels.min()}: expected 0 for ground, 1 and more", file=file)
    return pixels.astype(np.int32)


def _pages(file: Path) -> int:
    try:
        with Image.open(file, formats=("PNG", "TIFF")) as image:
            return getattr(image, "n_frames", 1)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{file} is damaged after its first page: write it again", file=file) from error


def regions(values: np.ndarray, file: Path | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each value but 0 of an (H, W) image, in their order, with the run lengths of its pixels."""
    height, width = values.shape
    columns = np.ascontiguousarray(values.T).ravel()  # COCO's run lengths go down the columns
    starts = np.r_[0, np.flatnonzero(np.diff(columns)) + 1]
    stops = np.r_[starts[1:], columns.size]
    order = np.argsort(columns[starts], kind="stable")
    owners, firsts = np.unique(columns[starts][order], return_index=True)
    if len(owners) > MOST_VALUES + 1:
        message = (
            f"{file or 'an image'} has {len(owners):,} values, which is no label image: expected one for each object"
        )
        raise AnnotationError(message, file=file)
    for owner, own in zip(owners.tolist(), np.split(order, firsts[1:]), strict=True):
        if owner:
            ends = np.r_[0, np.stack([starts[own], stops[own]], 1).ravel(), columns.size]
            rle = runs_to_rle(np.diff(ends), height, width)
            yield owner, {"size": [height, width], "counts": rle["counts"]}


def one_class(name: str) -> Classes:
    """Every value is an object of one class."""
    return lambda image, value: (name, False)


def by_number(file: Path, divisor: int) -> Classes:
    """Classes from ``{"24": "person"}``: value // divisor is the number of its class.

    A value below the divisor that is itself the number of a class is a crowd region of it, as in Cityscapes.
    """
    names = {}
    for number, name in read_object(file, 'classes by their numbers, {"24": "person"}').items():
        if not _whole(number) or not isinstance(name, str) or not name:
            shown = f"{number[:60]!r} stands for {str(name)[:60]!r}"
            message = f"{file}: {shown}: expected a number and a name, such as 24 and person"
            raise AnnotationError(message, file=file, field=number, value=name)
        names[int(number)] = name

    def found(image: str, value: int) -> tuple[str, bool] | None:
        name = names.get(value // divisor if value >= divisor else value)
        return None if name is None else (name, value < divisor)

    return found


@dataclass(frozen=True)
class Table:
    """Classes by path of the label image and value."""

    rows: dict[tuple[str, int], tuple[str, bool]]
    used: set[tuple[str, int]] = field(default_factory=set)

    def __call__(self, image: str, value: int) -> tuple[str, bool] | None:
        self.used.add((image, value))
        return self.rows.get((image, value))

    def unused(self) -> list[tuple[str, int]]:
        return [key for key in self.rows if key not in self.used]


def by_table(file: Path) -> Table:
    """Classes from a CSV file with the columns image, value, class and, where there are crowd regions, crowd (0 or 1)."""
    lines = _lines(file)
    _, header = next(lines, (0, []))
    if header not in (COLUMNS, COLUMNS[:3]):
        message = f"{file}: its first line is {','.join(header)!r}: expected {','.join(COLUMNS)}"
        raise AnnotationError(message, file=file)
    rows: dict[tuple[str, int], tuple[str, bool]] = {}
    for line, row in lines:
        key, entry = _entry(row, file, line, len(header))
        if key in rows:
            raise AnnotationError(f"{file}:{line}: {key[0]} value {key[1]} is listed twice", file=file)
        rows[key] = entry
    return Table(rows)


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file with the numbers of their lines."""
    reader = csv.reader(io.StringIO(read_text(file, f"a CSV file with the columns {','.join(COLUMNS)}")))
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise AnnotationError(f"{file}:{reader.line_num}: is no CSV ({error}): mend it", file=file) from error


def _entry(row: list[str], file: Path, line: int, columns: int) -> tuple[tuple[str, int], tuple[str, bool]]:
    crowd = row[3] if len(row) > 3 else "0"
    if len(row) != columns or not row[0] or not _whole(row[1]) or not row[2] or crowd not in ("0", "1"):
        message = f"{file}:{line}: {','.join(row)[:200]!r} is no row of image, value, class and crowd: mend it"
        raise AnnotationError(message, file=file, value=row)
    return (row[0], int(row[1])), (row[2], crowd == "1")


def _whole(text: str) -> bool:
    return text.isdecimal() and len(text) <= MOST_DIGITS


def flatten(record: ImageRecord, values: dict[int, int], repairs: Repairs) -> tuple[np.ndarray, Counter[int]]:
    """Objects painted over each other, crowd regions first, then from large to small: (H, W) uint16.

    ``values`` gives the value of each annotation id.  Covered objects are noted; the counts are pixels: of each
    annotation id those that are left.
    """
    canvas = np.zeros((record.height, record.width), np.uint16)
    areas = {}
    for a in sorted(record.annotations, key=lambda a: (not a.crowd, -a.area)):
        bits, (x0, y0, x1, y1) = mask_bits(a, record.height, record.width)
        canvas[y0:y1, x0:x1][bits != 0] = values[a.id]
        areas[a.id] = int(np.count_nonzero(bits))
    left = np.bincount(canvas.ravel(), minlength=MOST_VALUES + 1)
    shown = Counter({a.id: int(left[values[a.id]]) for a in record.annotations})
    for a in record.annotations:
        _note_covered(a, shown[a.id], areas[a.id], record, repairs)
    return canvas, shown


def _note_covered(a: Annotation, shown: int, area: int, record: ImageRecord, repairs: Repairs) -> None:
    what = "crowd region" if a.crowd else "object"
    if not shown:
        repairs.note(what, "lost", "covered by others", a.source_id, record.id)
    elif shown < area:
        repairs.note(what, "cut", "covered in part by smaller objects", a.source_id, record.id)


def write(
    data: CocoData, stem: Callable[[ImageRecord], str], repairs: Repairs
) -> Iterator[tuple[str, bytes, list[list[object]]]]:
    """Of each image the path of its label image, the PNG file, and its rows of ``objects.csv``; values count from 1."""
    for record in data.images:
        if len(record.annotations) > MOST_VALUES:
            message = f"{data.file}: image {record.id} has more than {MOST_VALUES} objects: cut it into tiles"
            raise AnnotationError(message, file=data.file, image_id=record.id)
        numbers = {a.id: number for number, a in enumerate(record.annotations, 1)}
        canvas, shown = flatten(record, numbers, repairs)
        name = stem(record)
        rows: list[list[object]] = [
            [name, numbers[a.id], data.categories.names[a.label - 1], int(a.crowd)]
            for a in record.annotations
            if shown[a.id]
        ]
        yield name, png(Image.fromarray(canvas)), rows


def table_of(rows: list[list[object]]) -> bytes:
    """The content of ``objects.csv``."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue().encode()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
