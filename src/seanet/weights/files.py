"""Named tensors out of any file of weights: safetensors, .pth, .pt, .ckpt and .pkl.  Nothing in a file is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seanet.errors import CheckpointError
from seanet.headers import read_header
from seanet.pickles.described import Stored
from seanet.weights.archives import is_archive, read_archive


@dataclass(frozen=True)
class Source:
    """Weights as a file has them, and what stands beside them."""

    path: Path | None
    """None for weights that come from no file."""
    tensors: dict[str, Tensor]
    content: Any = None
    """All that a pickle holds, for the names of classes and settings among it."""
    left: Mapping[str, int] = field(default_factory=dict)
    """Objects of the file that were not rebuilt."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights, by name."""
    return read_source(path).tensors


def read_source(path: Path) -> Source:
    """The tensors of a file, and what it says of them; CheckpointError where there are none or it is not taken."""
    if is_archive(path):
        archive = read_archive(path)
        source = Source(
            path, _tensors(archive.tensors, archive.storages(archive.tensors)), archive.content, archive.left
        )
    else:
        source = Source(path, _safetensors(path))
    if not source.tensors:
        raise CheckpointError(f"{path}: holds no named tensors", file=str(path))
    return source


def _safetensors(path: Path) -> dict[str, Tensor]:
    read_header(path)  # says in a sentence what is wrong with a file
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}); copy it again", file=str(path)) from None


def _tensors(described: Mapping[str, Stored], storages: Mapping[str, bytes]) -> dict[str, Tensor]:
    """Views of the numbers; those of one storage share it, as they did where they were saved."""
    numbers = {key: torch.frombuffer(bytearray(data), dtype=torch.uint8) for key, data in storages.items() if data}
    found = {}
    for name, stored in described.items():
        if isinstance(stored.data, bytes):
            raw = torch.frombuffer(bytearray(stored.data), dtype=torch.uint8) if stored.data else None
        else:
            raw = numbers.get(stored.data.key)
        found[name] = _view(stored, raw)
    return found


def _view(stored: Stored, raw: Tensor | None) -> Tensor:
    dtype = getattr(torch, stored.dtype)
    if raw is None:
        return torch.zeros(stored.shape, dtype=dtype)
    usable = raw[: len(raw) // dtype.itemsize * dtype.itemsize]
    return usable.view(dtype).as_strided(stored.shape, stored.stride, stored.offset)
