"""Image files and arrays to RGB.  Pillow decodes: it survives damaged files that crash other decoders.

Grey levels of more than 8 bits follow one rule: uint16 is divided by 257; wider integers and floats are stretched from
the file's own smallest to its largest value.  Alpha is dropped.  Of several frames the first counts.
"""

import os
import stat
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from seanet.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif", ".avifs"),
}
PICTURES = frozenset(ending for endings in ENDINGS.values() for ending in endings)
MAX_PIXELS = 200_000_000
FOREIGN = {b"ftyp" + brand: "HEIC" for brand in (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")}
FOREIGN |= {b"JXL ": "JPEG XL", b"\xff\x0a": "JPEG XL", b"\xff\x4f\xff\x51": "JPEG 2000", b"jP  ": "JPEG 2000"}
FOREIGN |= {b"%PDF": "PDF", b"8BPS": "Photoshop", b"PK\x03\x04": "ZIP", b"\x1f\x8b": "gzip", b"\x93NUMPY": "NumPy"}
POINTER = b"version https://git-lfs.github.com/spec"
# EXIF orientations that exchange width and height, and how to undo what they ask for.
TURNED = {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90}
TURNED |= {7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself before it is decoded."""

    format: str
    stored: tuple[int, int]  # (height, width) as its pixels lie there
    upright: tuple[int, int]  # (height, width) turned as its EXIF entry says
    orientation: int = 1  # the EXIF entry, if it exchanges the sides


def read_image(
    path: Path | str,
    max_pixels: int = MAX_PIXELS,
    *,
    short_side: int | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Pixels of a file, (H, W, 3) uint8 RGB, turned upright as its EXIF entry says.

    ``short_side`` lets a JPEG decode at a half, quarter or eighth of its size while its short side stays at least that;
    only at one that divides both its sides, so that coordinates scale by exactly as much.
    ``size`` is the (height, width) that annotations were drawn on: pixels stay unturned if only then they fit it, and a
    file that fits in neither way is an error.
    """
    with _opened(Path(path), max_pixels) as image:
        header = _header(image)
        upright = size is None or fits(header, size, path)
        if short_side is not None:
            shrink = _shrink(image.size, short_side)
            image.draft(None, (image.width // shrink, image.height // shrink))
        image.load()
        image = ImageOps.exif_transpose(image)
        return _rgb(image if upright else image.transpose(TURNED[header.orientation]), path)


def fits(header: Header, size: tuple[int, int], path: Path | str) -> bool:
    """Whether annotations of that (height, width) are of the upright pixels, not of those stored; error if of neither."""
    if size not in (header.upright, header.stored):
        found, wanted = (f"{width} x {height}" for height, width in (header.upright, size))
        reason = f"is {found} pixels, but its annotations say {wanted}: correct width and height, or the file"
        _fail(path, reason, "size")
    return size == header.upright


def _shrink(size: tuple[int, int], short_side: int) -> int:
    return next(n for n in (8, 4, 2, 1) if n == 1 or (min(size) >= n * short_side and not any(v % n for v in size)))


def image_size(path: Path | str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header alone."""
    with _opened(Path(path), max_pixels) as image:
        return _header(image).upright


def read_header(path: Path | str, max_pixels: int = MAX_PIXELS) -> Header:
    with _opened(Path(path), max_pixels) as image:
        return _header(image)


def read_closely(path: Path | str, max_pixels: int = MAX_PIXELS) -> tuple[Header, np.ndarray, list[str]]:
    """The header, the upright pixels as ``read_image`` gives them, and what of the file those leave out."""
    with warnings.catch_warnings(record=True) as said, _opened(Path(path), max_pixels) as image:
        warnings.simplefilter("always")
        header = _header(image)
        image.load()
        pixels = _rgb(ImageOps.exif_transpose(image), path)
        found = [*_lost_levels(image), *_more(image)]
        return header, pixels, found + ["its decoder has doubts about it"] * bool(said)


def _header(image: Image.Image) -> Header:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    size = image.size[::-1]
    turned = size[::-1] if orientation in TURNED else size
    # Pillow turns TIFF files itself, and gives their size so.
    stored, upright = (turned, size) if image.format == "TIFF" else (size, turned)
    return Header(str(image.format), stored, upright, orientation if orientation in TURNED else 1)


def _lost_levels(image: Image.Image) -> list[str]:
    found = []
    if image.has_transparency_data:
        low, high = image.convert("RGBA").getchannel("A").getextrema()
        if low != high:
            found.append("its transparency varies and is ignored")
    if image.mode.startswith("I;16") and np.asarray(image).max() < 4096:
        found.append("its grey levels use a sixteenth of 16 bits, so it is nearly black")
    return found


def _more(image: Image.Image) -> list[str]:
    if image.format == "MPO":  # a photograph with its previews
        return []
    try:
        return ["it has several frames, of which the first counts"] if getattr(image, "is_animated", False) else []
    except Exception:  # of the decoder, on what follows the first frame
        return ["it is damaged after its first frame, which counts"]


def to_rgb(array: np.ndarray) -> np.ndarray:
    """An array of a user as (H, W, 3) uint8 RGB: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), the last without its alpha.

    uint16 is divided by 257, bool is 0 or 255, floats run from 0 to 1.
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ImageError(f"an image of shape {array.shape}: expected (height, width) or (height, width, 1, 3 or 4)")
    array = _to_uint8(array[:, :, :3])
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return _narrow(array)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind != "f":
        raise ImageError(f"an image of {array.dtype}: expected uint8, uint16, bool, or floats from 0 to 1")
    if not (array.min() >= 0 and array.max() <= 1):
        raise ImageError(
            f"a float image with values {array.min():g}..{array.max():g}: scale them to 0..1, or use uint8"
        )
    return np.rint(array * 255).astype(np.uint8)


def _narrow(array: np.ndarray) -> np.ndarray:
    """uint16 to uint8: 65535 / 257 = 255, rounded."""
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _rgb(image: Image.Image, path: Path | str) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return to_rgb(_narrow(np.asarray(image).astype(np.uint16)))
    if image.mode in ("I", "F"):
        with np.errstate(invalid="ignore"):  # of damaged numbers, which are looked for next
            return to_rgb(_stretch(np.asarray(image, np.float64), path))
    # Not np.array, which would hold the pixels a third time.
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _stretch(values: np.ndarray, path: Path | str) -> np.ndarray:
    """Smallest value to 0, largest to 255; a constant image becomes black."""
    low, high = values.min(), values.max()
    if not np.isfinite(high - low):
        _fail(path, "holds values that are not finite: replace them by numbers", "values")
    return np.rint((values - low) / (high - low or 1) * 255).astype(np.uint8)


@contextmanager
def _opened(path: Path, max_pixels: int) -> Generator[Image.Image]:
    """The file with its header read; whatever goes wrong inside becomes an ``ImageError`` that names the file."""
    _require_file(path)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                _require_pixels(path, image.size, max_pixels)
                yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        assert Image.MAX_IMAGE_PIXELS is not None  # what was exceeded
        reason = f"has more pixels than Pillow opens ({2 * Image.MAX_IMAGE_PIXELS:,}): make it smaller"
        _fail(path, reason, "pixels", error)
    except UnidentifiedImageError as error:
        _fail(path, _unknown(path), "format", error)
    except PermissionError as error:
        _fail(path, "cannot be read: its permissions forbid it", "permissions", error)
    except (EOFError, OSError) as error:
        said = str(error).lower()
        cut = isinstance(error, EOFError) or any(word in said for word in ("truncated", "broken data", "unrecog"))
        reason = "is truncated or damaged" if cut else f"cannot be decoded ({error})"
        reason += ": fetch it again"
        _fail(path, reason, "damaged", error)
    except MemoryError as error:
        _fail(path, "takes more memory to decode than there is: make it smaller", "pixels", error)
    except Exception as error:  # decoders raise almost anything on damaged bytes
        what = f"{type(error).__name__}: {error}"
        _fail(path, f"cannot be decoded ({what}): fetch it again or save it anew", "damaged", error)


def _require_file(path: Path) -> None:
    """Looked at before opening: opening a pipe would wait for ever."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        _fail(path, "does not exist" if missing else f"cannot be reached ({error})", "missing", error)
    if not stat.S_ISREG(status.st_mode):
        what = "is a folder, not an image file" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
        _fail(path, what, "missing")
    if not status.st_size:
        _fail(path, "is empty (0 bytes): fetch it again", "empty")
    if not os.access(path, os.R_OK):
        _fail(path, "cannot be read: its permissions forbid it", "permissions")


def _require_pixels(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        reason = f"has {size[0]} x {size[1]} pixels, more than max_pixels = {max_pixels:,}: make it smaller"
        _fail(path, reason, "pixels")


def _unknown(path: Path) -> str:
    """Why no decoder took the file, from its first bytes."""
    with path.open("rb") as file:
        head = file.read(256)
    for mark, name in FOREIGN.items():
        if mark in head[:16]:
            return f"is a {name} file: convert it to JPEG or PNG"
    if head.startswith(POINTER):
        return "is a pointer of Git LFS, not an image: fetch what it stands for with  git lfs pull"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        kind = "an SVG drawing" if b"<svg" in text.lower() else "an HTML or XML page"
        return f"is {kind}, not an image: fetch or convert it again"
    if all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in head):
        return "is a text file, not an image"
    return f"is damaged or of an unknown format: expected one of {', '.join(FORMATS)}"


def _fail(path: Path | str, reason: str, field: str, cause: BaseException | None = None) -> NoReturn:
    """``field`` says in a word what is wrong, for those who count."""
    raise ImageError(f"{path} {reason}", file=Path(path), field=field) from cause
