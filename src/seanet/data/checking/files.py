"""What one image file says to the annotations that name it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seanet.data.checking import kinds
from seanet.data.checking.fingerprints import Fingerprint, fingerprint
from seanet.data.checking.workers import Limits, Lost, Progress, each
from seanet.data.images import ENDINGS, MAX_PIXELS, PICTURES, Header, fits, read_closely, read_header
from seanet.data.records import ImageRecord
from seanet.errors import ImageError

BYTES_A_PIXEL = 16  # that decoding and comparing take at most


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out about a file; without a header it cannot be used."""

    header: Header | None = None
    notes: tuple[str, ...] = ()
    print: Fingerprint | None = None
    plain: bool = False
    field: str = ""
    """Why it cannot be used, a key of ``kinds.FILES``."""
    said: str = ""


def see(path: Path, max_pixels: int = MAX_PIXELS, quick: bool = False) -> Seen:
    """Decode a file, or, when quick, read its header alone."""
    try:
        if quick:
            return Seen(read_header(path, max_pixels))
        header, pixels, notes = read_closely(path, max_pixels)
    except ImageError as error:
        return Seen(field=str(error.field), said=str(error))
    found = fingerprint(path, pixels)
    return Seen(header, tuple(notes), found, plain=found is None)


def see_all(
    paths: Sequence[Path],
    max_pixels: int = MAX_PIXELS,
    *,
    quick: bool = False,
    workers: int = 0,
    seconds: float = 60,
    progress: Progress | None = None,
) -> dict[str, Seen]:
    """By ``real`` path, each once, under the first of its names.

    A file whose process ends, or takes longer than ``seconds``, is lost.
    """
    files: dict[str, str] = {}
    for path in paths:
        files.setdefault(real(path), str(path))
    limits = Limits(seconds, BYTES_A_PIXEL * max_pixels + 2**28)
    work = partial(_see_text, max_pixels=max_pixels, quick=quick)
    found = {}
    for (file, name), seen in zip(
        files.items(), each(work, list(files.values()), workers, limits, progress), strict=True
    ):
        if isinstance(seen, Lost):
            seen = Seen(field="lost", said=f"{name} {seen.reason} while it was decoded: save it anew or leave it out")
        found[file] = seen
    return found


def _see_text(path: str, max_pixels: int, quick: bool) -> Seen:
    return see(Path(path), max_pixels, quick)


def real(path: Path) -> str:
    """The same text for every way to a file."""
    return os.path.realpath(path)


def judge(record: ImageRecord, seen: Seen, drawn: tuple[float, float]) -> Iterator[tuple[str, str, str]]:
    """Severity, kind and sentence of all that is wrong or odd about an image and its file.

    ``drawn``: how far down and to the right its annotations reach, (height, width), as its file of annotations says it.
    """
    if seen.header is None:
        yield "refused", kinds.FILES[seen.field], seen.said
        return
    size = record.height, record.width
    try:
        upright = fits(seen.header, size, record.path)
    except ImageError as error:
        yield "refused", kinds.FILES["size"], str(error)
        return
    if not upright:
        yield _turned(record, seen.header, drawn)
    if record.path.suffix.lower() not in ENDINGS[seen.header.format]:
        yield "noticed", kinds.SUFFIX, f"{record.path} is a {seen.header.format} file"
    for note in seen.notes:
        yield "noticed", note, f"{record.path}: {note}"
    if seen.plain:
        yield "noticed", kinds.PLAIN, f"{record.path} has one colour"
    if not record.annotations:
        yield "noticed", kinds.NO_OBJECTS, f"{record.path} has no objects"


def _turned(record: ImageRecord, header: Header, drawn: tuple[float, float]) -> tuple[str, str, str]:
    """Of an image whose size is that before turning: whether its annotations, too, are of the unturned pixels."""
    stored = f"{record.width} x {record.height}"
    if any(reach > side + 1 for reach, side in zip(drawn, header.stored, strict=True)) and all(
        reach <= side + 1 for reach, side in zip(drawn, header.upright, strict=True)
    ):
        said = (
            f"{record.path} is {stored} before its EXIF entry turns it, but its annotations only fit the turned image"
        )
        return "harmful", kinds.SWAPPED, f"{said}: exchange width and height"
    said = f"{record.path} is {stored} before its EXIF entry turns it, and so are its annotations: it is read unturned"
    return "noticed", kinds.UNTURNED, said


def unnamed(folder: Path, named: Mapping[str, object]) -> list[str]:
    """Image files below a folder, by their paths from there, whose ``real`` paths are not among ``named``."""
    found = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(place, name)
            if path.suffix.lower() in PICTURES and real(path) not in named:
                found.append(path.relative_to(folder).as_posix())
    return found
