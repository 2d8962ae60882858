"""Damaged image files: each must be read, or be refused by a sentence that names it; none may crash, hang or take all memory.

    python benchmarks/faults/images.py --count 10000

Case ``seed`` is a good file of one of the formats and modes below, damaged in one of the ways below; both follow from the
seed alone.  Every case is read in a process of its own limits.  A truncated file may be read only if none of its pixels
was lost.  Linux only.
"""

import io
import resource
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from cases import command, progress
from PIL import Image

from seanet.data.checking.workers import Limits, Lost, each
from seanet.data.images import image_size, read_image
from seanet.errors import ImageError

HEIGHT, WIDTH = 72, 96
LIMITS = Limits(seconds=10, memory=2**30 - 2**27)  # a gigabyte with what the process holds anyway
# format, mode, options of Pillow's writer
KINDS = [
    *(("JPEG", mode, {"quality": 85}) for mode in ("RGB", "L", "CMYK")),
    ("JPEG", "RGB", {"progressive": True, "optimize": True}),
    ("JPEG", "RGB", {"exif": 6}),
    *(("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
    ("PNG", "RGB", {"exif": 8}),
    *(("WEBP", mode, options) for mode in ("RGB", "RGBA") for options in ({}, {"lossless": True})),
    *(("TIFF", mode, {}) for mode in ("RGB", "L", "CMYK", "I;16", "F")),
    *(("TIFF", "RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
    ("TIFF", "RGB", {"exif": 6}),
    *(("GIF", mode, {}) for mode in ("L", "P")),
    ("GIF", "P", {"frames": 3}),
    *(("BMP", mode, {}) for mode in ("RGB", "L", "P", "1")),
    *(("AVIF", mode, {"speed": 10}) for mode in ("RGB", "RGBA")),
]


@dataclass(frozen=True)
class Outcome:
    end: str  # read, refused, or what must not happen
    said: str
    seconds: float
    memory: float  # MB, the most that the process held so far


@cache
def scene() -> Image.Image:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(0, 40, (HEIGHT, WIDTH, 4))
    waves = [np.sin(x / 9) + np.cos(y / 7), np.sin((x + y) / 11), np.cos(x * y / 500), np.sin(y / 5)]
    return Image.fromarray((np.stack(waves, 2) * 50 + 105 + noise).clip(0, 255).astype(np.uint8), "RGBA")


def in_mode(mode: str) -> Image.Image:
    if mode in ("I;16", "F"):
        grey = np.asarray(scene().convert("L"))
        return Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey.astype(np.float32) / 255)
    return scene().convert("RGB").convert(mode) if mode in ("P", "1", "CMYK") else scene().convert(mode)


@cache
def good(kind: int) -> bytes:
    """A file of that kind, whole."""
    name, mode, options = KINDS[kind]
    options = dict(options)
    if orientation := options.pop("exif", None):
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    if frames := options.pop("frames", 0):
        others = [in_mode(mode).rotate(90 * turn) for turn in range(1, frames)]
        options |= {"save_all": True, "append_images": others}
    file = io.BytesIO()
    in_mode(mode).save(file, name, **options)
    return file.getvalue()


def truncate(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw[: int(rng.integers(0, len(raw)))]


def truncate_end(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw[: -int(rng.integers(1, min(64, len(raw))))]


def flip(raw: bytes, rng: np.random.Generator, end: int | None = None) -> bytes:
    changed = np.frombuffer(raw, np.uint8).copy()
    places = rng.integers(0, min(end or len(raw), len(raw)), int(rng.integers(1, 9)))
    changed[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
    return changed.tobytes()


def cut_out(raw: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(0, len(raw) + 1, 2).tolist())
    return raw[:first] + raw[last:]


def insert(raw: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(0, len(raw) + 1))
    return raw[:place] + rng.bytes(int(rng.integers(1, 200))) + raw[place:]


def splice(raw: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of one file and the end of another, of any format."""
    other = good(int(rng.integers(len(KINDS))))
    return raw[: int(rng.integers(0, len(raw) + 1))] + other[int(rng.integers(0, len(other))) :]


def resize_header(raw: bytes, rng: np.random.Generator) -> bytes:
    """Another number wherever the file's beginning holds the width or the height."""
    side = int(rng.choice([0, 1, 7, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, int(rng.integers(1, 20000))]))
    head, rest = raw[:600], raw[600:]
    for length, order in ((4, "big"), (4, "little"), (2, "big"), (2, "little")):
        new = min(side, 2 ** (8 * length) - 1).to_bytes(length, order)
        for old in rng.permutation([WIDTH, HEIGHT]).tolist()[: int(rng.integers(1, 3))]:
            head = head.replace(old.to_bytes(length, order), new)
    return head + rest


def zero(raw: bytes, rng: np.random.Generator) -> bytes:
    place, length = int(rng.integers(0, len(raw))), int(rng.integers(1, 512))
    return raw[:place] + bytes(len(raw[place : place + length])) + raw[place + length :]


WAYS = [truncate, truncate_end, flip, partial(flip, end=64), partial(flip, end=512)]
WAYS += [cut_out, insert, splice, resize_header, zero]
NAMES = ["truncate", "truncate the end", "flip bytes", "flip the first 64", "flip the first 512"]
NAMES += ["cut out", "insert", "splice", "sizes in the header", "zeros"]


def case(seed: int) -> tuple[int, int, bytes]:
    """Kind of the file, way of the damage, and the damaged bytes."""
    rng = np.random.default_rng([17, seed])
    kind, way = int(rng.integers(len(KINDS))), int(rng.integers(len(WAYS)))
    return kind, way, WAYS[way](good(kind), rng)


@cache
def whole(kind: int, folder: Path) -> np.ndarray:
    path = folder / f"good {kind}"
    path.write_bytes(good(kind))
    return read_image(path)


def trial(seed: int, folder: Path) -> Outcome:
    kind, way, raw = case(seed)
    expected = whole(kind, folder)
    path = folder / f"case {seed}"
    path.write_bytes(raw)
    began = time.perf_counter()
    try:
        end, said = judge(path, expected, NAMES[way].startswith("truncate"))
    except ImageError as error:
        end, said = "refused" if str(path) in str(error) and error.file == path else "unnamed", str(error)
    except Exception as error:
        end, said = "another exception", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    path.unlink()
    return Outcome(end, said.replace(str(path), "FILE"), seconds, memory())


def judge(path: Path, expected: np.ndarray, cut: bool) -> tuple[str, str]:
    pixels = read_image(path)
    if image_size(path) != pixels.shape[:2] or pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        return "inconsistent", f"{pixels.shape} {pixels.dtype}"
    if cut and not np.array_equal(pixels, expected):
        return "cut, yet read", f"{np.mean(pixels != expected):.2%} of the values differ"
    return "read", ""


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def campaign(first: int, count: int, workers: int) -> dict:
    seeds = range(first, first + count)
    with TemporaryDirectory() as folder:
        for kind in range(len(KINDS)):
            whole(kind, Path(folder))  # before the processes fork, which share them
        answers = each(partial(trial, folder=Path(folder)), seeds, workers, LIMITS, progress)
    found = [Outcome(a.reason, "", LIMITS.seconds, 0) if isinstance(a, Lost) else a for a in answers]
    kinds = [case(seed)[:2] for seed in seeds]
    by_format, by_way, sentences = defaultdict(Counter), defaultdict(Counter), Counter()
    for (kind, way), outcome in zip(kinds, found, strict=True):
        by_format[KINDS[kind][0]][outcome.end] += 1
        by_way[NAMES[way]][outcome.end] += 1
        sentences[outcome.said.split(":")[0][:80]] += outcome.end == "refused"
    return {
        "cases": count,
        "first seed": first,
        "outcomes": Counter(outcome.end for outcome in found),
        "formats": by_format,
        "ways": by_way,
        "sentences": dict(sentences.most_common(20)),
        "slowest, s": round(max(outcome.seconds for outcome in found), 3),
        "most memory, MB": round(max(outcome.memory for outcome in found), 1),
        "memory before, MB": round(memory(), 1),
        "offending": offending(seeds, kinds, found),
    }


def offending(seeds: range, kinds: list[tuple[int, int]], found: list[Outcome]) -> list[dict]:
    return [
        {"seed": seed, "kind": KINDS[kind][:2], "way": NAMES[way], **asdict(outcome)}
        for seed, (kind, way), outcome in zip(seeds, kinds, found, strict=True)
        if outcome.end not in ("read", "refused")
    ]


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of Pillow, about metadata
    command(campaign, __doc__, Path(__file__).with_suffix(".json"))
