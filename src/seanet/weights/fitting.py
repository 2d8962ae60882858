"""The weights that training starts from (``--init``): all that fit, rows of classes by the classes' names.

A layer that names classes has, after the rows of the background where it has them, as many rows for each class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from seanet import checkpoint, config
from seanet.detector import Detector
from seanet.errors import CheckpointError
from seanet.headers import read_header
from seanet.weights.archives import is_archive
from seanet.weights.files import read_source
from seanet.weights.importing import Imported, foreign, put

SHOWN = 6  # layers and classes that a message names


@dataclass(frozen=True)
class Known:
    """Weights by our names, and the names of the classes that their rows stand for; None where nobody knows them."""

    weights: Mapping[str, Tensor]
    classes: tuple[str, ...] | None
    what: str


@dataclass(frozen=True)
class Fitted:
    """Names of tensors that were taken, of those that begin anew, of those that have no place; classes kept by name."""

    taken: list[str]
    anew: list[str]
    unused: list[str]
    classes: list[str]


def start_from(detector: Detector, classes: Sequence[str], file: Path, reset_head: bool = False) -> str:
    """Takes from a checkpoint, or from a file of another framework, all that fits; returns a sentence that says what.

    The rows of classes are those of the same names.  With ``reset_head`` every layer that names classes begins anew.
    """
    known = _read(detector, file)
    fitted = fit(detector, classes, known, reset_head)
    if not fitted.taken:
        raise CheckpointError(
            f"{file}: nothing of it fits into {detector.settings.recipe}: name a checkpoint of the same family",
            file=str(file),
        )
    return f"weights of {known.what}{_classes_said(fitted, classes, known, reset_head)}{_rest_said(fitted)}"


def fit(detector: Detector, classes: Sequence[str], known: Known, reset_head: bool = False) -> Fitted:
    """Loads what fits into the detector, whose labels 1..K are ``classes``."""
    ours, taken = detector.state_dict(), {}
    shared = [name for name in classes if name in (known.classes or ())]
    for name, value in known.weights.items():
        rows = rows_of(name, detector.settings)
        if name not in ours:
            continue
        if rows is None:
            taken |= {name: value} if value.shape == ours[name].shape else {}
        elif shared and not reset_head and known.classes is not None:
            mapped = _mapped(ours[name], value, rows, classes, known.classes)
            taken |= {} if mapped is None else {name: mapped}
    detector.load_state_dict(taken, strict=False)
    anew = [name for name in ours if name not in taken and not name.endswith("num_batches_tracked")]
    kept = shared if any(rows_of(name, detector.settings) for name in taken) else []
    return Fitted(sorted(taken), anew, sorted(known.weights.keys() - ours.keys()), kept)


def rows_of(name: str, settings: config.Config) -> tuple[int, int] | None:
    """Rows of the background and of each class in a tensor; None for one that names no classes."""
    background_channel = isinstance(settings.mask, config.EdgeMask) and settings.mask.background_channel
    agnostic = isinstance(settings.box, config.ClassicBox) and settings.box.class_agnostic
    layers = {
        r"box_heads\.\d+\.box_predictor\.cls_score": (1, 1),
        r"box_heads\.\d+\.box_predictor\.bbox_pred": None if agnostic else (4, 4),
        r"box_heads\.\d+\.class_logits": (0, 1),
        r"mask_head\.mask_predictor\.mask_fcn_logits": (1, 1),
        r"mask_head\.mask\.2": (int(background_channel), 1),
        r"scoring\.iou": (0, 1),
    }
    return next((rows for layer, rows in layers.items() if re.fullmatch(rf"{layer}\.(weight|bias)", name)), None)


def _mapped(
    own: Tensor, given: Tensor, rows: tuple[int, int], classes: Sequence[str], known: Sequence[str]
) -> Tensor | None:
    """``own`` with the rows of the background and of the classes that both know; None where the shapes say otherwise."""
    first, each = rows
    fits = own.ndim == given.ndim and own.shape[1:] == given.shape[1:] and len(given) == first + each * len(known)
    if not fits or len(own) != first + each * len(classes):
        return None
    mapped = own.clone()
    mapped[:first] = given[:first]
    for i, name in enumerate(classes):
        if name in known:
            j = known.index(name)
            mapped[first + each * i : first + each * (i + 1)] = given[first + each * j : first + each * (j + 1)]
    return mapped


def _read(detector: Detector, file: Path) -> Known:
    if file.is_dir() or (not is_archive(file) and "seanet" in read_header(file).metadata):
        weights, meta = checkpoint.read_model(file)
        return Known(weights, meta.classes, str(checkpoint.find(file)))
    given = foreign(read_source(file))
    twin = Detector(detector.settings, given.count or detector.classes)  # in whose shapes the file's classes are
    report: Imported = put(twin, given)
    weights = {name: value for name, value in twin.state_dict().items() if name in set(report.taken)}
    weights |= {name: given.tensors[name] for name in report.unused}
    advice = f" (for its numbers: {', '.join(report.advice)})" if report.advice else ""
    return Known(weights, given.classes or None, f"{file}, of {given.framework}{advice}")


def _classes_said(fitted: Fitted, classes: Sequence[str], known: Known, reset_head: bool) -> str:
    if reset_head:
        return "; all layers that name classes begin anew"
    if known.classes is None:
        return "; it does not name its classes, so the layers that do begin anew"
    if tuple(classes) == tuple(known.classes) and fitted.classes:
        return ""
    new = [name for name in classes if name not in fitted.classes]
    gone = [name for name in known.classes if name not in fitted.classes]
    parts = [("kept by name", fitted.classes), ("new", new), ("no longer there", gone)]
    return "".join(f"; classes {what}: {_few(names)}" for what, names in parts if names)


def _rest_said(fitted: Fitted) -> str:
    parts = [("these begin anew", fitted.anew), ("these have no place here", fitted.unused)]
    layers = [(what, list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))) for what, names in parts]
    return "".join(f"; {what}: {_few(names)}" for what, names in layers if names)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
