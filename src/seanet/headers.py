"""What a checkpoint says of itself: the header of its safetensors file, read without torch and without its weights.

The header is a stranger's until it is checked: bounded in size, each of its entries of the type and in the range it must be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from seanet import settings
from seanet.config import Config
from seanet.errors import CheckpointError, ConfigError

FORMAT = 1
BEST, LAST, PREVIOUS = "best.safetensors", "last.safetensors", "previous.safetensors"
LONGEST = 16_000_000  # bytes of a header; JSON can take twenty times as many once it is parsed
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
SIZES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8}

MAGIC = {
    b"PK\x03\x04": "a pickled checkpoint or another zip archive",
    b"\x80": "a pickled checkpoint",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (git lfs pull fetches it)",
    b"\x89HDF": "an HDF5 file",
}


def versions() -> dict[str, str]:
    """Of what shapes the numbers."""
    return {name: version(name) for name in ("seanet", "torch", "torchvision")}


@dataclass(frozen=True)
class Meta:
    """What a checkpoint says about its weights."""

    config: Config
    classes: tuple[str, ...]
    """Names of labels 1..K."""
    category_ids: tuple[int, ...]
    """Ids of the same classes in the data that trained them."""
    epoch: float = 0.0
    step: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)

    def to_json(self) -> str:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return json.dumps(plain | {"config": settings.to_dict(self.config), "format": FORMAT})

    @classmethod
    def from_json(cls, text: str) -> Meta:
        """Raises KeyError, TypeError or ValueError where the text is not what ``to_json`` writes, ConfigError for settings."""
        plain = json.loads(text)
        names = ("classes", "category_ids", "epoch", "step", "metrics", "versions")
        classes, ids, epoch, step, metrics, made_by = (plain[name] for name in names)
        right = (
            isinstance(classes, list)
            and isinstance(ids, list)
            and 0 < len(classes) == len(ids)
            and all(isinstance(name, str) for name in classes)
            and all(type(number) is int for number in ids)
            and type(step) is int
            and type(epoch) in (int, float)
            and math.isfinite(epoch)
            and isinstance(metrics, dict)
            and _texts(made_by)
        )
        if not right:
            raise TypeError("classes, ids, progress, metrics or versions are not of the right types")
        return cls(settings.from_dict(plain["config"]), tuple(classes), tuple(ids), epoch, step, metrics, made_by)


@dataclass(frozen=True)
class Entry:
    """A tensor as the header describes it; its bytes lie from ``start`` to ``end`` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """Of a safetensors file that is as long as it should be: its tensors, and the free part."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def read_meta(path: str | Path) -> Meta:
    """What a checkpoint, or the best of a run's folder, says of itself."""
    path = find(path)
    return meta_of(path, read_header(path).metadata)


def find(path: str | Path) -> Path:
    """A file, or the best, else the last or the one before it, of a run's folder."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in (BEST, LAST, PREVIOUS):
        if (path / name).is_file():
            return path / name
    raise damaged(path, f"is a folder without {BEST} and {LAST}")


def meta_of(path: Path, metadata: Mapping[str, str]) -> Meta:
    """The description in the free part of a header; CheckpointError where it is none of ours."""
    if "seanet" not in metadata:
        raise damaged(path, "is a safetensors file of another program: seanet reads the checkpoints that it wrote")
    try:
        plain = json.loads(metadata["seanet"])
        if plain["format"] > FORMAT:
            made_by = plain["versions"]["seanet"]
            raise damaged(
                path, f"was made by seanet {made_by}, which is newer than the {version('seanet')} installed: update"
            )
        return Meta.from_json(metadata["seanet"])
    except ConfigError as error:
        reasons = "; ".join(str(error).splitlines())
        raise damaged(path, f"has a configuration that this seanet does not know: {reasons}") from error
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise damaged(path, "has a damaged description of its model") from error


def read_header(path: Path) -> Header:
    """The header of a whole safetensors file; CheckpointError says what the file is instead."""
    try:
        if path.exists() and not path.is_file():
            raise damaged(path, "is no regular file")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
            header = _parsed(path, start, size, file)
    except (FileNotFoundError, NotADirectoryError):
        raise damaged(path, "does not exist") from None
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror or error})") from error
    metadata = header.pop("__metadata__", {})
    first = 8 + int.from_bytes(start[:8], "little")
    entries = {name: _entry(entry, first) for name, entry in header.items()}
    if not _texts(metadata) or None in entries.values():
        raise damaged(path, "is damaged: its header does not describe tensors; copy it again")
    found = {name: entry for name, entry in entries.items() if entry}
    whole = max((entry.end for entry in found.values()), default=first)
    if size < whole:
        raise damaged(path, f"is cut short: {size:,} of {whole:,} bytes; copy it again")
    if size > whole:
        raise damaged(path, f"is damaged: {size - whole:,} bytes follow its end; copy it again")
    return Header(found, metadata)


def _parsed(path: Path, start: bytes, size: int, file: BufferedIOBase) -> dict[str, Any]:
    if not start:
        raise damaged(path, "is empty")
    length = int.from_bytes(start[:8], "little")
    looks_right = len(start) > 8 and start[8:9] == b"{" and length <= 100_000_000
    if not looks_right:
        raise damaged(path, _what(start))
    if length + 8 > size:
        raise damaged(path, f"is cut short: {size:,} bytes do not even hold its header; copy it again")
    if length > LONGEST:
        raise damaged(path, f"has a header of {length:,} bytes, where {LONGEST:,} are allowed: it is no checkpoint")
    file.seek(8)
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise damaged(path, "is damaged: its header is no JSON; copy it again") from error
    return header


def _entry(entry: object, first: int) -> Entry | None:
    """None for what describes no tensor; ``first`` is where the bytes of all begin."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return None
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        return None
    if dtype in SIZES and math.prod(shape) * SIZES[dtype] != offsets[1] - offsets[0]:
        return None
    return Entry(dtype, tuple(shape), first + offsets[0], first + offsets[1])


def _counts(values: object) -> bool:
    return isinstance(values, list) and len(values) <= 64 and all(type(v) is int and 0 <= v < 2**48 for v in values)


def _texts(values: object) -> bool:
    return isinstance(values, dict) and all(isinstance(value, str) for value in values.values())


def _what(start: bytes) -> str:
    """What a file that is no safetensors file begins like."""
    known = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if known and "pickled" in known:
        return (
            f"is {known}: such files can run code, so they are not loaded; 'seanet weights import' takes the weights of"
            " torchvision, detectron2 and mmdetection out of them without running anything"
        )
    text = start.lstrip().lower()
    if known is None and text.startswith((b"<!doctype html", b"<html")):
        known = "a web page (a failed download?)"
    if known is None and b"\0" not in start and "\ufffd" not in start[:-4].decode(errors="replace"):
        known = "a text file"
    return f"is {known or 'no safetensors file'}, not a file of weights that seanet reads"


def damaged(path: str | Path, what: str) -> CheckpointError:
    """An error about a file, in the words that follow its name."""
    return CheckpointError(f"{path} {what}", file=str(path))
