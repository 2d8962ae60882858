"""What a file of weights is: its form, framework, tensors and classes.  Nothing of it is run, and torch is not needed."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seanet.errors import CheckpointError
from seanet.headers import Entry, Header, find, meta_of, read_header
from seanet.settings import to_dict
from seanet.weights.archives import is_archive, read_archive
from seanet.weights.names import class_names, recognise, without_prefix

TRAINER = "trainer/"
TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}
TORCH |= {"I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


def describe(path: Path) -> dict[str, Any]:
    """Facts about a checkpoint of ours, a run's folder, or a file of another program; CheckpointError where it is none."""
    path = find(path)
    found = _archive(path) if is_archive(path) else _safetensors(path)
    return {"file": str(path), "bytes": path.stat().st_size, **_sha256(path), **found}


def lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    shown = [f"{found['file']}: {found['form']}, {found['bytes']:,} bytes"]
    shown.append(f"  {found['tensors']} tensors, {found['numbers']:,} numbers ({', '.join(found['dtypes'])})")
    order = ("recipe", "geometry", "framework", "epoch", "step", "versions", "metrics", "digest", "named_digest")
    shown += [f"  {key.replace('_', ' ')}: {_text(found[key])}" for key in order if found.get(key) not in (None, {})]
    if names := found.get("classes"):
        shown.append(f"  {len(names)} classes: {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}")
    if left := found.get("left_unread"):
        shown.append("  left unread: " + ", ".join(f"{count} {name}" for name, count in list(left.items())[:20]))
    return shown


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _safetensors(path: Path) -> dict[str, Any]:
    header = read_header(path)
    weights = {name: entry for name, entry in header.tensors.items() if not name.startswith(TRAINER)}
    facts = _counted({name: (entry.dtype, entry.shape) for name, entry in weights.items()})
    if "seanet" not in header.metadata:
        return {"form": "a safetensors file", **facts, "framework": _framework(weights), "metadata": header.metadata}
    meta = meta_of(path, header.metadata)
    return {
        "form": "a checkpoint of seanet"
        + (" with the state of its training" if len(weights) < len(header.tensors) else ""),
        **facts,
        "recipe": meta.config.recipe,
        "geometry": meta.config.geometry,
        "classes": list(meta.classes),
        "category_ids": list(meta.category_ids),
        "epoch": meta.epoch,
        "step": meta.step,
        "metrics": meta.metrics,
        "versions": meta.versions,
        "digest": _digest(path, header, weights),
        "config": to_dict(meta.config),
    }


def _digest(path: Path, header: Header, weights: Mapping[str, Entry]) -> str:
    """The fingerprint of the weights as ``checkpoint.digest`` takes it, compared with the one that was saved."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for name in sorted(weights):
            entry = weights[name]
            found.update(f"{name} torch.{TORCH.get(entry.dtype, entry.dtype)} {entry.shape}".encode())
            file.seek(entry.start)
            found.update(file.read(entry.end - entry.start))
    if header.metadata.get("digest") != found.hexdigest():
        raise CheckpointError(
            f"{path} is damaged: its weights are not those that were saved; take another copy", file=str(path)
        )
    return found.hexdigest()


def _archive(path: Path) -> dict[str, Any]:
    archive = read_archive(path)
    tensors = archive.tensors
    return {
        "form": archive.form,
        **_counted({name: (stored.dtype, stored.shape) for name, stored in tensors.items()}),
        "framework": _framework(tensors),
        "classes": list(class_names(archive.content)),
        "left_unread": dict(archive.left),
    }


def _counted(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    return {
        "tensors": len(tensors),
        "numbers": sum(math.prod(shape) for _, shape in tensors.values()),
        "dtypes": sorted({dtype for dtype, _ in tensors.values()}),
    }


def _framework(tensors: Mapping[str, Any]) -> str | None:
    try:
        return recognise(without_prefix(tensors).keys())
    except CheckpointError:
        return None


def _sha256(path: Path) -> dict[str, str]:
    """The file's digest where its name carries the beginning of one, as published files of torchvision and OpenMMLab do."""
    named = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if not named:
        return {}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    verdict = "as its name says" if digest.startswith(named[1]) else f"where its name says {named[1]}"
    return {"named_digest": f"sha256 {digest[:16]}, {verdict}"}
