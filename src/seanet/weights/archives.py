"""Checkpoints of PyTorch and detectron2 (.pth, .pt, .ckpt, .pkl): what they hold, without torch and without running them.

Three forms: a zip archive with a pickle and a record for each storage, as torch.save writes it; the older form, five pickles
and then the storages; and one pickle of numpy arrays.  Sizes are compared with the file's before anything is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

from seanet.errors import CheckpointError
from seanet.pickles.described import Array, Refused, Storage, Stored
from seanet.pickles.operations import Pickle, read_pickle

ZIP, TAR = b"PK\x03\x04", b"ustar"
LEGACY = 0x1950A86A20F9469CFC6C  # the first pickle of torch.save's older form
LONGEST = 100_000_000  # bytes of an archive's pickle, which holds no numbers
UNDER = ("state_dict", "model", "model_state_dict", "state_dict_ema")
"""Where checkpoints keep their weights, beside the state of their training."""


@dataclass(frozen=True)
class Record:
    """Bytes of the file that hold a storage's numbers: in an archive those of a record, else those at a place."""

    name: str | None
    start: int
    length: int


@dataclass(frozen=True)
class Archive:
    """A checkpoint whose pickle was read and whose numbers were not."""

    path: Path
    form: str
    content: Any
    left: Mapping[str, int]
    """How many objects of each kind were not rebuilt."""
    records: Mapping[str, Record]

    @property
    def tensors(self) -> dict[str, Stored]:
        """The weights among the content, by name."""
        return tensors_in(self.content)

    def storages(self, wanted: Mapping[str, Stored]) -> dict[str, bytes]:
        """The numbers that these tensors are views of, each once."""
        keys = {stored.data.key for stored in wanted.values() if isinstance(stored.data, Storage)}
        with _speaking(self.path), self.path.open("rb") as file:
            archive = zipfile.ZipFile(file) if any(self.records[key].name for key in keys) else None
            return {key: _numbers(file, archive, self.records[key]) for key in sorted(keys)}


def tensors_in(content: Any) -> dict[str, Stored]:
    """Named tensors of a checkpoint's content, or of the part of it that holds the weights; none for what has none."""
    if not isinstance(content, dict):
        return {}
    for key in UNDER:
        if isinstance(content.get(key), dict):
            return _named(content[key])
    return _named(content)


def _named(content: dict[Any, Any]) -> dict[str, Stored]:
    arrays = ((key, value.stored if isinstance(value, Array) else value) for key, value in content.items())
    return {key: value for key, value in arrays if isinstance(key, str) and isinstance(value, Stored)}


def is_archive(path: Path) -> bool:
    """Whether a file begins as a zip archive or a pickle does, and not as safetensors: a length, then JSON."""
    with _speaking(path), path.open("rb") as file:
        start = file.read(9)
    safetensors = start[8:] == b"{" and int.from_bytes(start[:8], "little") <= 100_000_000
    return not safetensors and start.startswith((ZIP, b"\x80"))


def read_archive(path: Path) -> Archive:
    """What a .pth, .pt, .ckpt or .pkl file holds; CheckpointError says why it is not taken."""
    with _speaking(path), path.open("rb") as file:
        size = path.stat().st_size
        if file.read(4) == ZIP:
            return _zipped(path, file, size)
        file.seek(0)
        first = read_pickle(file, size)
        if first.content == LEGACY:
            return _legacy(path, file, size)
        return Archive(path, "a pickle of arrays", first.content, first.left, _placed({}, first.storages))


def _zipped(path: Path, file: BufferedIOBase, size: int) -> Archive:
    archive = zipfile.ZipFile(file)
    entries = {info.filename: info for info in archive.infolist()}
    _check_entries(archive.infolist(), size)
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in entries):
        raise Refused(
            "it is a program (TorchScript or torch.export), not a checkpoint: save the state_dict of its model"
        )
    if len(pickles) != 1:
        raise Refused("it is a zip archive, but none that torch.save writes")
    root = pickles[0].removesuffix("data.pkl")
    if entries[pickles[0]].file_size > LONGEST:
        raise Refused(f"its pickle has more than {LONGEST:,} bytes")
    if (order := entries.get(root + "byteorder")) and archive.read(order) != b"little":
        raise Refused("its numbers are not in little-endian order")
    found = _whole(archive.read(pickles[0]))
    sizes = {
        name.removeprefix(root + "data/"): Record(name, 0, entry.file_size)
        for name, entry in entries.items()
        if name.startswith(root + "data/")
    }
    return Archive(path, "a zip archive of torch.save", found.content, found.left, _placed(sizes, found.storages))


def _whole(data: bytes) -> Pickle:
    found = read_pickle(file := BytesIO(data), len(data))
    if file.tell() != len(data):
        raise Refused("something follows its pickle")
    return found


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    names = [info.filename for info in entries]
    if len(set(names)) < len(names):
        raise Refused(f"two records of it have the same name, {max(names, key=names.count)!r}")
    if any(name.startswith("/") or ".." in name.split("/") or "\\" in name for name in names):
        raise Refused("a record's name leads out of the archive")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in entries):
        raise Refused("it is packed or encrypted, which torch.save never does")
    if sum(info.file_size for info in entries) > size or any(info.file_size != info.compress_size for info in entries):
        raise Refused("its records are larger than the file")


def _legacy(path: Path, file: BufferedIOBase, size: int) -> Archive:
    version, facts = read_pickle(file, size).content, read_pickle(file, size).content
    if version != 1001 or not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise Refused("it is of a version of torch.save that is not read")
    found, keys = read_pickle(file, size), read_pickle(file, size).content
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Refused("its list of storages is damaged")
    places, start = {}, file.tell()
    for key in keys:
        if key not in found.storages or key in places:
            raise Refused("its list of storages is damaged")
        file.seek(start)
        if int.from_bytes(file.read(8), "little") != found.storages[key].count:
            raise Refused(f"its storage {key!r} has another size than its description")
        places[key] = Record(None, start + 8, found.storages[key].nbytes)
        start += 8 + places[key].length
    if start != size:
        raise Refused(
            f"it has {size:,} bytes where its storages end at {start:,}: it is cut short or followed by others"
        )
    return Archive(
        path, "a file of torch.save in its older form", found.content, found.left, _placed(places, found.storages)
    )


def _placed(records: Mapping[str, Record], storages: Mapping[str, Storage]) -> Mapping[str, Record]:
    for key, storage in storages.items():
        if key not in records or records[key].length != storage.nbytes:
            raise Refused(f"the numbers {key!r} of it are missing or of another size than described")
    return records


def _numbers(file: BufferedIOBase, archive: zipfile.ZipFile | None, record: Record) -> bytes:
    if archive is not None and record.name is not None:
        return archive.read(record.name)
    file.seek(record.start)
    return file.read(record.length)


@contextmanager
def _speaking(path: Path) -> Generator[None]:
    """Whatever a strange file causes is one sentence that names it."""
    try:
        if path.exists() and not path.is_file():
            raise Refused("it is no regular file")
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file", file=str(path)) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})", file=str(path)) from None
    except (Refused, zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: is not taken, and nothing of it was run: {reason}", file=str(path)) from None
