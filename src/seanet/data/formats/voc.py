"""Pascal VOC's segmentation, both ways: images of classes and images of objects with VOC's palette.  Free of torch.

``SegmentationObject`` numbers the objects of an image from 1, ``SegmentationClass`` gives their classes; 0 is ground, and
255 is void, which belongs to no object: in VOC a band of a few pixels around each, and here crowd regions too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from seanet.data.files import irregular, unsafe
from seanet.data.formats.contents import Contents
from seanet.data.formats.converting import Progress, read_text
from seanet.data.formats.labels import flatten, png, read_values, regions
from seanet.data.images import PICTURES, image_size
from seanet.data.records import CocoData, ImageRecord, mask_bits
from seanet.data.repairs import Repairs
from seanet.errors import AnnotationError, UserError

CLASSES = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"]
CLASSES += ["diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]
VOID = 255
MOST = 254  # objects of an image, and classes
LISTS, SHOWN = "ImageSets/Segmentation", "JPEGImages"
OBJECTS, KINDS = "SegmentationObject", "SegmentationClass"
LABELMAP = "labelmap.txt"
SPLITS = ("train", "val", "test")


class _NoDoctype(ElementTree.TreeBuilder):
    """Documents that define entities can grow without bounds, or read other files; VOC's have none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type")


@dataclass(frozen=True)
class Palette:
    """Names of the classes from 1, and the numbers that colours stand for."""

    names: list[str]
    kinds: dict[int, int]  # R + 256 G + 65536 B -> class
    objects: dict[int, int]


def convert(
    source: Path, split: str | None = None, progress: Progress | None = None
) -> tuple[list[str], dict[str, Contents]]:
    """Names of the classes, and the splits that ``ImageSets/Segmentation`` lists; file names are below ``JPEGImages``."""
    root = find_root(source)
    palette = read_palette(root)
    found = {}
    for name, stems in _lists(root, split).items():
        contents = Contents(f"Pascal VOC, {name}")
        for done, stem in enumerate(stems, 1):
            _image(contents, root, stem, palette)
            if progress:
                progress(done, len(stems))
        found[name] = contents
    return palette.names, found


def find_root(source: Path) -> Path:
    """The folder that holds ``SegmentationObject``: this one, or the one of VOCdevkit's years that is there."""
    roots = [
        folder.parent for pattern in (OBJECTS, f"*/{OBJECTS}", f"*/*/{OBJECTS}") for folder in source.glob(pattern)
    ]
    if len(roots) != 1:
        there = f"several, {', '.join(sorted(map(str, roots))[:5])}: name one" if roots else "none"
        raise AnnotationError(f"{source}: expected one folder {OBJECTS} in it, and found {there}", file=source)
    return roots[0]


def read_palette(root: Path) -> Palette:
    """VOC's twenty classes, or those of a ``labelmap.txt`` with lines NAME:R,G,B::, whose first is the ground."""
    colours = colour_map()
    numbers = {_code(colour): index for index, colour in enumerate(colours.tolist())}
    file = root / LABELMAP
    if not file.exists():
        return Palette(CLASSES, numbers, numbers)
    names, kinds = [], {}
    for line, text in enumerate(read_text(file, "lines NAME:R,G,B::").splitlines(), 1):
        if not text.strip() or text.startswith("#"):
            continue
        match = re.fullmatch(r"(.+?):(\d{1,3}),(\d{1,3}),(\d{1,3}):[^:]*:[^:]*", text.strip())
        if not match:
            raise AnnotationError(f"{file}:{line}: {text[:60]!r} is no line NAME:R,G,B::", file=file, value=text)
        kinds[_code([int(part) for part in match.groups()[1:]])] = len(names)
        names.append(match[1])
    if len(names) < 2 or len(kinds) < len(names) or len(set(names)) < len(names):
        raise AnnotationError(
            f"{file}: expected the ground and at least one class, each with its name and colour", file=file
        )
    return Palette(names[1:], kinds | {_code(colours[VOID].tolist()): VOID}, numbers)


def colour_map() -> np.ndarray:
    """VOC's palette, (256, 3) uint8: the bits of a number, three at a time, are the high bits of R, G and B."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def _code(colour: list[int]) -> int:
    red, green, blue = colour
    return red + 256 * green + 65536 * blue


def _lists(root: Path, wanted: str | None) -> dict[str, list[str]]:
    """Names of the images of each split."""
    files = {name: root / LISTS / f"{name}.txt" for name in ([wanted] if wanted else SPLITS)}
    there = {name: file for name, file in files.items() if wanted or file.exists()}
    if not there:
        raise AnnotationError(f"{root / LISTS}: found neither train.txt nor val.txt", file=root / LISTS)
    return {name: _stems(file) for name, file in there.items()}


def _stems(file: Path) -> list[str]:
    stems = []
    for line, text in enumerate(read_text(file, "names of images").splitlines(), 1):
        stem = text.strip()
        if stem and (reason := unsafe(stem)):
            raise AnnotationError(f"{file}:{line}: {stem[:60]!r} {reason}: expected the name of an image", file=file)
        stems += [stem] if stem else []
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise AnnotationError(f"{file}: {twice} is listed twice", file=file, value=twice)
    return stems


def _image(contents: Contents, root: Path, stem: str, palette: Palette) -> None:
    picture = _beside(root / SHOWN, stem)
    objects = _numbers(root / OBJECTS / f"{stem}.png", palette.objects)
    height, width = objects.shape
    if (size := image_size(picture)) != (height, width):
        message = f"{root / OBJECTS / stem}.png is {width} x {height} pixels, but {picture} is {size[1]} x {size[0]}"
        raise AnnotationError(f"{message}: they must be alike", file=picture)
    contents.add_image(picture.relative_to(root / SHOWN).as_posix(), height, width)
    file = root / KINDS / f"{stem}.png"
    kinds = _numbers(file, palette.kinds) if file.exists() else None
    if kinds is not None and kinds.shape != objects.shape:
        message = f"{file} is {kinds.shape[1]} x {kinds.shape[0]} pixels, but the image of objects {width} x {height}"
        raise AnnotationError(f"{message}: they must be alike", file=file)
    names = None if kinds is not None else _listed_names(root, stem)
    for number, rle in regions(np.where(objects == VOID, 0, objects), root / OBJECTS / f"{stem}.png"):
        where = f"{stem} object {number}"
        if kinds is not None:
            contents.add_object(_kind(contents, kinds[objects == number], palette, file, where), rle, where)
        elif names and number <= len(names) and names[number - 1] in palette.names:
            contents.add_object(names[number - 1], rle, where)
        else:
            message = f"{file} does not exist, and the XML file of the image has no class for {where} that is known"
            raise AnnotationError(f"{message}: name it there, and list it in {LABELMAP}", file=file)
    if (objects == VOID).any():
        contents.repairs.note("image", "noticed", "void pixels, which belong to no object", stem)


def _beside(folder: Path, stem: str) -> Path:
    named = folder / stem
    found = [
        file
        for end in sorted(PICTURES)
        for file in (Path(f"{named}{end}"), Path(f"{named}{end.upper()}"))
        if file.exists()
    ]
    if not found:
        raise AnnotationError(f"{named}.jpg does not exist: unpack the whole archive again", file=named)
    # One file has two names where capitals do not count.
    if other := next((file for file in found if not file.samefile(found[0])), None):
        raise AnnotationError(
            f"{found[0]} and {other.name} have one name but for their endings: remove one", file=other
        )
    return found[0]


def _numbers(file: Path, colours: dict[int, int]) -> np.ndarray:
    """Numbers of an image with a palette, (H, W) int64; a coloured one has VOC's colours in their place."""
    if reason := irregular(file):
        raise AnnotationError(f"{file} {reason}: unpack the whole archive again", file=file)
    values = read_values(file)
    with Image.open(file) as image:
        if image.mode not in ("RGB", "RGBA"):
            return values
    codes, inverse = np.unique(values, return_inverse=True)
    if unknown := [code for code in codes.tolist() if code not in colours]:
        code = unknown[0]
        message = f"has the colour {code % 256},{code // 256 % 256},{code // 65536}, which stands for nothing"
        raise AnnotationError(f"{file} {message}: list it in {LABELMAP}", file=file, value=code)
    return np.array([colours[code] for code in codes.tolist()])[inverse].reshape(values.shape)


def _kind(contents: Contents, kinds: np.ndarray, palette: Palette, file: Path, where: str) -> str:
    """Class of an object's pixels: the most frequent one that is neither ground nor void."""
    numbers, times = np.unique(kinds[(kinds != 0) & (kinds != VOID)], return_counts=True)
    if not len(numbers):
        raise AnnotationError(f"{file}: {where} has no class: its pixels are ground or void there", file=file)
    if len(numbers) > 1:
        contents.note("noticed", "pixels of several classes, the most frequent counts", where)
    number = int(numbers[times.argmax()])
    if number > len(palette.names):
        message = f"{file}: {where} has the class {number}, but there are {len(palette.names)}: list it in {LABELMAP}"
        raise AnnotationError(message, file=file, value=number)
    return palette.names[number - 1]


def _listed_names(root: Path, stem: str) -> list[str]:
    """Classes of the objects in the order of an XML file, which is that of their numbers."""
    file = root / "Annotations" / f"{stem}.xml"
    text = read_text(file, f"{KINDS}/{stem}.png, or VOC's XML file with the classes of the objects")
    try:
        tree = ElementTree.fromstring(text, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, ValueError) as error:
        raise AnnotationError(f"{file} is no annotation of VOC ({error}): unpack it again", file=file) from error
    return [(entry.findtext("name") or "").strip() for entry in tree.iter("object")]


def require_room(data: CocoData) -> None:
    """Error if VOC's 8 bits cannot hold the classes, or the objects of an image."""
    if len(data.categories) > MOST:
        message = f"{data.file}: has {len(data.categories)} classes, and VOC holds {MOST}: use to-labels"
        raise AnnotationError(message, file=data.file, field="categories")
    for record in data.images:
        if (count := sum(not a.crowd for a in record.annotations)) > MOST:
            message = f"{data.file}: image {record.id} has {count} objects, and VOC holds {MOST}: use to-labels"
            raise AnnotationError(message, file=data.file, image_id=record.id)


def write(data: CocoData, stems: dict[int, str], repairs: Repairs) -> Iterator[tuple[str, bytes]]:
    """Path and content of the two images of each image; ``stems`` are names by image id.  Crowd regions become void."""
    for record in data.images:
        objects, labels = _painted(record, repairs)
        yield f"{OBJECTS}/{stems[record.id]}.png", _indexed(objects)
        yield f"{KINDS}/{stems[record.id]}.png", _indexed(labels[objects])


def _painted(record: ImageRecord, repairs: Repairs) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the objects, (H, W), and the class of each number, (256,)."""
    single = [a for a in record.annotations if not a.crowd]
    numbers = {a.id: number for number, a in enumerate(single, 1)}
    labels = np.zeros(256, np.uint8)
    labels[[VOID, *numbers.values()]] = [VOID, *(a.label for a in single)]
    objects, _ = flatten(replace(record, annotations=tuple(single)), numbers, repairs)
    for a in record.annotations:
        if a.crowd:
            repairs.note("crowd region", "made void", "not known to VOC", a.source_id, record.id)
            bits, (x0, y0, x1, y1) = mask_bits(a, record.height, record.width)
            window = objects[y0:y1, x0:x1]
            window[(bits != 0) & (window == 0)] = VOID
    return objects, labels


def _indexed(numbers: np.ndarray) -> bytes:
    image = Image.fromarray(numbers.astype(np.uint8))
    image.putpalette(colour_map().ravel().tolist())
    return png(image)


def labelmap(names: tuple[str, ...]) -> bytes:
    """The content of ``labelmap.txt``, with VOC's colours."""
    if bad := next((name for name in names if name.startswith("#") or "\n" in name or name != name.strip()), None):
        raise UserError(f"the class {bad!r} cannot be a line of {LABELMAP}: rename it", field="categories", value=bad)
    ground = "background" + "_" * names.count("background")
    lines = zip([ground, *names], colour_map().tolist(), strict=False)
    return "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in lines).encode()
