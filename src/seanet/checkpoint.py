"""Checkpoints: one safetensors file of weights whose header says what they are.  Nothing here pickles or unpickles.

``best.safetensors`` holds a detector.  ``last.safetensors`` holds the same under the same names, and beside it, under
names that begin with ``trainer/``, all that training needs to go on; ``previous.safetensors`` is the one before it.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seanet.errors import CheckpointError
from seanet.headers import BEST, LAST, PREVIOUS, Meta, damaged, find, meta_of, read_header, read_meta, versions

__all__ = [
    "BEST",
    "LAST",
    "PREVIOUS",
    "Meta",
    "Weights",
    "check_fits",
    "digest",
    "find",
    "load_whole",
    "pack",
]
__all__ += ["read_meta", "read_model", "read_state", "save_model", "save_state", "unpack", "versions", "write"]

TRAINER = "trainer/"
Weights = dict[str, Tensor]


def save_model(path: str | Path, weights: Mapping[str, Tensor], meta: Meta) -> None:
    """Write a detector's ``state_dict``; the file is the old one or the whole new one at every moment."""
    weights = _storable(weights)
    write(Path(path), weights, {"seanet": meta.to_json(), "digest": digest(weights)})


def read_model(path: str | Path) -> tuple[Weights, Meta]:
    """Weights and what they are, of a file or of a run's folder (its best, else its last).

    Raises CheckpointError that says what the file is instead.
    """
    found = find(path)
    try:
        return _read_model(found)
    except CheckpointError as error:
        others = [
            name
            for name in (LAST, PREVIOUS)
            if found != Path(path) and name != found.name and (found.parent / name).is_file()
        ]
        if not others:
            raise
        # Other weights than those asked for are never taken in silence.
        raise CheckpointError(
            f"{error}; to use later or earlier weights of this run, name {' or '.join(others)} beside it",
            file=str(found),
        ) from error


def _read_model(path: Path) -> tuple[Weights, Meta]:
    metadata = read_header(path).metadata
    meta = meta_of(path, metadata)
    weights = _tensors(path, trainer=False)
    if metadata.get("digest") != digest(weights):
        raise damaged(path, "is damaged: its weights are not those that were saved; take another copy")
    broken = [name for name, value in weights.items() if not _finite(value)]
    if broken:
        raise damaged(path, f"holds weights that are not finite ({broken[0]} and {len(broken) - 1} more)")
    return weights, meta


def check_fits(path: str | Path, meta: Meta, classes: tuple[str, ...]) -> None:
    """Raise CheckpointError where a model of those classes cannot take the weights."""
    if classes == meta.classes:
        return
    if len(classes) != len(meta.classes):
        numbers = f"was trained on {len(meta.classes)} classes, the data have {len(classes)}"
    else:
        old, new = next(pair for pair in zip(meta.classes, classes, strict=True) if pair[0] != pair[1])
        numbers = f"was trained on other classes ({old!r} stands where the data have {new!r})"
    raise damaged(path, f"{numbers}: start a new run from it (--init), which keeps the rows of classes that both have")


def load_whole(model: torch.nn.Module, weights: Weights, path: str | Path) -> None:
    """Load all of a checkpoint into a model built from its own configuration.

    CheckpointError if the tensors are others: then another version of seanet, with other modules, wrote it.
    """
    own = {name: value.shape for name, value in model.state_dict().items()}
    given = {name: value.shape for name, value in weights.items()}
    if other := [name for name in own.keys() | given.keys() if own.get(name) != given.get(name)]:
        made_by = read_meta(path).versions.get("seanet", "unknown")
        raise damaged(
            path,
            f"holds other tensors than this seanet ({version('seanet')}) builds from its configuration, {len(other)} in all,"
            f" {min(other)} first: load it with the version that wrote it ({made_by}) or train again",
        )
    model.load_state_dict(weights)


def save_state(
    path: str | Path, weights: Mapping[str, Tensor], meta: Meta, state: Any, keep: Path | None = None
) -> None:
    """A model and, beside it, a trainer's state (see ``pack``) in one file; what stood there becomes ``keep``."""
    tensors, tree = pack(state, TRAINER)
    both = _storable({**weights, **tensors})
    of_model, of_trainer = (digest({name: both[name] for name in part}) for part in (weights, tensors))
    metadata = {"seanet": meta.to_json(), "digest": of_model, "trainer": json.dumps(tree), "trainer_digest": of_trainer}
    write(Path(path), both, metadata, keep)


def read_state(path: str | Path) -> tuple[Weights, Meta, Any]:
    """What ``save_state`` wrote."""
    weights, meta = read_model(path)
    metadata = read_header(Path(path)).metadata
    if "trainer" not in metadata:
        raise damaged(path, f"holds a model but no state of its training: only {LAST} can be resumed")
    tensors = _tensors(Path(path), trainer=True)
    if metadata.get("trainer_digest") != digest(tensors):
        raise damaged(path, "is damaged: its state of training is not the one that was saved; take another copy")
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


def write(path: Path, tensors: Weights, metadata: dict[str, str], keep: Path | None = None) -> None:
    """Write beside the file, flush to the disk, then rename: power may fail at any moment.

    The file that stood there becomes ``keep``: one of the two is whole at every moment.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, {"format": "pt"} | metadata)
        _share(temporary)
        _flush(temporary)
        if keep is not None and path.exists():
            _rename_copy(path, keep)
        os.replace(temporary, path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise _not_written(path, tensors, error) from error
    finally:
        with suppress(OSError):  # as on a disk that has become read-only; the next run sweeps it
            temporary.unlink(missing_ok=True)


def _rename_copy(path: Path, copy: Path) -> None:
    """Give the file a second name; where files cannot have two, the second instead of the first."""
    link = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
    except (OSError, NotImplementedError):
        os.replace(path, copy)
        return
    try:
        os.replace(link, copy)
    finally:
        with suppress(OSError):
            link.unlink(missing_ok=True)  # stays if both were names of one file already


def digest(tensors: Weights) -> str:
    """A fingerprint of names, types, shapes and values: finds flipped bits, proves no origin."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _finite(value: Tensor) -> bool:
    """Both ends are: ten times as fast as to look at each entry."""
    return not value.numel() or not value.is_floating_point() or all(end.isfinite() for end in value.aminmax())


def _share(path: Path) -> None:
    """safetensors makes files that only their owner can read; give them the usual rights."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # which Windows neither needs nor can
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows flushes only what may be written
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
    full = getattr(error, "errno", None) == errno.ENOSPC or f"(os error {errno.ENOSPC})" in str(error)
    reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error).rpartition(": ")[2]
    try:
        free = f"{shutil.disk_usage(path.parent).free:,} bytes are free"
    except OSError:
        free = "the free space is not known"
    return damaged(
        path, f"could not be written ({reason}): {needed:,} bytes are needed and {free}; what stood there stays"
    )


def _tensors(path: Path, trainer: bool) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(TRAINER) == trainer}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise damaged(path, f"is damaged ({error}); copy it again") from error
