"""Checkpoints: one safetensors file of weights whose header says what they are.  Nothing here pickles or unpickles.

``best.safetensors`` holds a detector.  ``last.safetensors`` holds the same under the same names, and beside it, under
names that begin with ``trainer/``, all that training needs to go on.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seanet import settings
from seanet.config import Config
from seanet.errors import CheckpointError, ConfigError

FORMAT = 1
BEST, LAST = "best.safetensors", "last.safetensors"
TRAINER = "trainer/"
Weights = dict[str, Tensor]

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
    def from_json(cls, text: str) -> "Meta":
        plain = json.loads(text)
        config, classes, ids = (
            settings.from_dict(plain["config"]),
            tuple(plain["classes"]),
            tuple(plain["category_ids"]),
        )
        return cls(config, classes, ids, plain["epoch"], plain["step"], plain["metrics"], plain["versions"])


def save_model(path: str | Path, weights: Mapping[str, Tensor], meta: Meta) -> None:
    """Write a detector's ``state_dict``; the file is the old one or the whole new one at every moment."""
    weights = _storable(weights)
    write(Path(path), weights, {"seanet": meta.to_json(), "digest": digest(weights)})


def read_model(path: str | Path) -> tuple[Weights, Meta]:
    """Weights and what they are, of a file or of a run's folder (its best, else its last).

    Raises CheckpointError that says what the file is instead.
    """
    path = find(path)
    metadata = _metadata(path)
    meta = _meta(path, metadata)
    weights = _tensors(path, trainer=False)
    if metadata.get("digest") != digest(weights):
        raise _error(path, "is damaged: its weights are not those that were saved; take another copy")
    broken = [name for name, value in weights.items() if not _finite(value)]
    if broken:
        raise _error(path, f"holds weights that are not finite ({broken[0]} and {len(broken) - 1} more)")
    return weights, meta


def read_meta(path: str | Path) -> Meta:
    """What a checkpoint says of itself, without reading its weights."""
    path = find(path)
    return _meta(path, _metadata(path))


def check_fits(path: str | Path, meta: Meta, classes: tuple[str, ...]) -> None:
    """Raise CheckpointError where a model of those classes cannot take the weights."""
    if classes == meta.classes:
        return
    if len(classes) != len(meta.classes):
        numbers = f"was trained on {len(meta.classes)} classes, the data have {len(classes)}"
    else:
        old, new = next(pair for pair in zip(meta.classes, classes, strict=True) if pair[0] != pair[1])
        numbers = f"was trained on other classes ({old!r} stands where the data have {new!r})"
    raise _error(path, f"{numbers}: start a new run from it (--init) to keep all but the layers that name classes")


def load_whole(model: torch.nn.Module, weights: Weights, path: str | Path) -> None:
    """Load all of a checkpoint into a model built from its own configuration.

    CheckpointError if the tensors are others: then another version of seanet, with other modules, wrote it.
    """
    own = {name: value.shape for name, value in model.state_dict().items()}
    given = {name: value.shape for name, value in weights.items()}
    if other := [name for name in own.keys() | given.keys() if own.get(name) != given.get(name)]:
        made_by = read_meta(path).versions.get("seanet", "unknown")
        raise _error(
            path,
            f"holds other tensors than this seanet ({version('seanet')}) builds from its configuration, {len(other)} in all,"
            f" {min(other)} first: load it with the version that wrote it ({made_by}) or train again",
        )
    model.load_state_dict(weights)


def load_fitting(model: torch.nn.Module, weights: Weights) -> list[str]:
    """Load what fits by name and shape; the names of the model's tensors that keep their values."""
    own = model.state_dict()
    fits = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
    model.load_state_dict(fits, strict=False)
    return [name for name in own if name not in fits]


def save_state(path: str | Path, weights: Mapping[str, Tensor], meta: Meta, state: Any) -> None:
    """A model and, beside it, a trainer's state (see ``pack``) in one file."""
    tensors, tree = pack(state, TRAINER)
    both = _storable({**weights, **tensors})
    of_model, of_trainer = (digest({name: both[name] for name in part}) for part in (weights, tensors))
    metadata = {"seanet": meta.to_json(), "digest": of_model, "trainer": json.dumps(tree), "trainer_digest": of_trainer}
    write(Path(path), both, metadata)


def read_state(path: str | Path) -> tuple[Weights, Meta, Any]:
    """What ``save_state`` wrote."""
    weights, meta = read_model(path)
    metadata = _metadata(Path(path))
    if "trainer" not in metadata:
        raise _error(path, f"holds a model but no state of its training: only {LAST} can be resumed")
    tensors = _tensors(Path(path), trainer=True)
    if metadata.get("trainer_digest") != digest(tensors):
        raise _error(path, "is damaged: its state of training is not the one that was saved; take another copy")
    return weights, meta, unpack(tensors, json.loads(metadata["trainer"]))


def pack(tree: Any, prefix: str = "") -> tuple[Weights, Any]:
    """Nested dicts, lists and tuples of tensors and plain values -> flat tensors and JSON that names them.

    Lists stay lists; what JSON would blur (tuples, keys that are numbers, tensors) becomes an object with one key.
    """
    tensors: Weights = {}

    def encode(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {"dict": [[_key(key, name), encode(inner, f"{name}/{key}")] for key, inner in value.items()]}
        if isinstance(value, list | tuple):
            items = [encode(inner, f"{name}/{i}") for i, inner in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint cannot hold")

    return tensors, encode(tree, prefix.rstrip("/"))


def unpack(tensors: Weights, tree: Any) -> Any:
    """The inverse of ``pack``."""
    if isinstance(tree, list):
        return [unpack(tensors, item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "tuple":
        return tuple(unpack(tensors, item) for item in value)
    return {key: unpack(tensors, inner) for key, inner in value}


def write(path: Path, tensors: Weights, metadata: dict[str, str]) -> None:
    """Write beside the file, flush to the disk, then rename: power may fail at any moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, {"format": "pt"} | metadata)
        _share(temporary)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise _not_written(path, tensors, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def digest(tensors: Weights) -> str:
    """A fingerprint of names, types, shapes and values: finds flipped bits, proves no origin."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def find(path: str | Path) -> Path:
    """The checkpoint that a path means: itself, or the best, else the last, of a run's folder."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    raise _error(path, f"is a folder without {BEST} and {LAST}")


def _finite(value: Tensor) -> bool:
    """Both ends are: ten times as fast as to look at each entry."""
    return not value.numel() or not value.is_floating_point() or all(end.isfinite() for end in value.aminmax())


def _share(path: Path) -> None:
    """safetensors makes files that only their owner can read; give them the usual rights."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _storable(tensors: Mapping[str, Tensor]) -> Weights:
    """On the CPU, contiguous, and no two in the same memory."""
    seen: set[int] = set()
    stored = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        stored[name] = value.clone() if memory in seen else value
        seen.add(memory)
    return stored


def _key(key: Any, name: str) -> str | int:
    if isinstance(key, str | int):
        return key
    raise TypeError(f"{name} has the key {key!r}, which a checkpoint cannot hold")


def _not_written(path: Path, tensors: Weights, error: Exception) -> CheckpointError:
    needed = sum(value.nbytes for value in tensors.values())
    full = getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in str(error)
    reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
    try:
        free = f"{shutil.disk_usage(path.parent).free:,} bytes are free"
    except OSError:
        free = "the free space is not known"
    return _error(
        path, f"could not be written ({reason}): {needed:,} bytes are needed and {free}; what stood there stays"
    )


def _meta(path: Path, metadata: dict[str, str]) -> Meta:
    if "seanet" not in metadata:
        raise _error(path, "is a safetensors file of another program: seanet reads the checkpoints that it wrote")
    try:
        plain = json.loads(metadata["seanet"])
        if plain["format"] > FORMAT:
            made_by = plain["versions"]["seanet"]
            raise _error(
                path, f"was made by seanet {made_by}, which is newer than the {version('seanet')} installed: update"
            )
        return Meta.from_json(metadata["seanet"])
    except ConfigError as error:
        raise _error(path, f"has a configuration that this seanet does not know: {error}") from error
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise _error(path, "has a damaged description of its model") from error


def _metadata(path: Path) -> dict[str, str]:
    """The header's free part, once the file is known to be a whole safetensors file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
            header = _header(path, start, size, file)
    except FileNotFoundError:
        raise _error(path, "does not exist") from None
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror or error})") from error
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    whole = 8 + int.from_bytes(start[:8], "little") + max(ends, default=0)
    if size < whole:
        raise _error(path, f"is cut short: {size:,} of {whole:,} bytes; copy it again")
    if size > whole:
        raise _error(path, f"is damaged: {size - whole:,} bytes follow its end; copy it again")
    return header.get("__metadata__", {})


def _header(path: Path, start: bytes, size: int, file: Any) -> dict[str, Any]:
    if not start:
        raise _error(path, "is empty")
    length = int.from_bytes(start[:8], "little")
    looks_right = len(start) > 8 and start[8:9] == b"{" and length <= 100_000_000
    if not looks_right:
        raise _error(path, _what(start))
    if length + 8 > size:
        raise _error(path, f"is cut short: {size:,} bytes do not even hold its header; copy it again")
    file.seek(8)
    try:
        header = json.loads(file.read(length))
        assert all(isinstance(entry, dict) for entry in header.values())
    except (ValueError, AssertionError, AttributeError) as error:
        raise _error(path, "is damaged: its header is no JSON; copy it again") from error
    return header


def _what(start: bytes) -> str:
    """What a file that is no safetensors file begins like."""
    known = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if known and "pickled" in known:
        return (
            f"is {known}: such files can run code, so they are not loaded; "
            "seanet.import_torchvision converts weights of torchvision's Mask R-CNN"
        )
    text = start.lstrip().lower()
    if known is None and text.startswith((b"<!doctype html", b"<html")):
        known = "a web page (a failed download?)"
    if known is None and b"\0" not in start and "\ufffd" not in start[:-4].decode(errors="replace"):
        known = "a text file"
    return f"is {known or 'no safetensors file'}, not a checkpoint of seanet"


def _tensors(path: Path, trainer: bool) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(TRAINER) == trainer}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _error(path, f"is damaged ({error}); copy it again") from error


def _error(path: str | Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} {what}", file=str(path))
