"""What the best-ranked detections of a row are: true boxes, or which mistake; and what boxes are there at all.  Free of torch.

Letters: D detections of an image, best box score first, G its objects.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from experiment.differences import DIGITS, LIMIT, Say, each, results_of
from experiment.evidence import ERRORS, Evidence

from seanet.data.coco import CocoData, ImageRecord
from seanet.evaluation.assess import by_image
from seanet.evaluation.overlap import LEAST, box_ious, same_class
from seanet.report.files import write_whole

KINDS = ("true", "duplicate", "wrong class", "off", "off, wrong class", "background")
OFF = 0.1  # IoU from which a box is off its object; below it is background
REACHED = {"50": 0.5, "75": 0.75}  # IoU by name


@dataclass(frozen=True)
class Judged:
    """The detections of one image; those in a crowd region are left out."""

    kind: np.ndarray  # (D,) place among KINDS
    score: np.ndarray  # (D,)
    best: np.ndarray  # (G,) largest IoU with a detection of the object's class


def judge(image: ImageRecord, entries: Sequence[dict], ids: tuple[int, ...]) -> Judged:
    """``ids`` are the categories' own, label k stands for the k-th."""
    entries = sorted(entries, key=lambda entry: -_score(entry))[:LIMIT]
    ious, same = box_ious(entries, image.annotations), same_class(entries, image.annotations, ids)
    crowd = np.array([a.crowd for a in image.annotations], bool)
    own, other = np.where(same, ious, 0.0), np.where(same, 0.0, ious)
    true = first_on(own[:, ~crowd])
    near, wrong = (part[:, ~crowd].max(1, initial=0.0) for part in (own, other))
    kind = np.select([true, near >= LEAST, wrong >= LEAST, near >= OFF, wrong >= OFF], range(5), 5)
    kept = true | (own[:, crowd].max(1, initial=0.0) < LEAST)
    score = np.array([_score(entry) for entry in entries], np.float64)
    return Judged(kind[kept], score[kept], own[:, ~crowd].max(0, initial=0.0))


def first_on(ious: np.ndarray) -> np.ndarray:
    """(D, G) -> (D,) bool: those that, best first, take an object which is free; each the one it overlaps most."""
    free, took = np.ones(ious.shape[1], bool), np.zeros(len(ious), bool)
    for d in np.flatnonzero(ious.max(1, initial=0.0) >= LEAST):
        left = np.where(free, ious[d], 0.0)
        g = left.argmax()
        took[d] = left[g] >= LEAST
        free[g] &= not took[d]
    return took


def errors(data: CocoData, entries: list[dict]) -> dict[str, Any]:
    """Shares of the detections with the highest box scores, as many as there are ``objects``; JSON-ready.

    ``reached`` are shares of the objects that any detection of their class overlaps by so much; ``score`` are medians over the
    true and the false ones, None where there are none.
    """
    images = zip(data.images, by_image(data, entries), strict=True)
    judged = [judge(image, own, data.categories.ids) for image, own in images]
    kind, score, reached = (np.concatenate([getattr(j, name) for j in judged]) for name in ("kind", "score", "best"))
    best = np.argsort(-score, kind="stable")[: len(reached)]
    kind, score = kind[best], score[best]
    return {
        "objects": len(reached),
        "shares": {name: _rounded((kind == k).sum() / max(len(kind), 1)) for k, name in enumerate(KINDS)},
        "reached": {name: _rounded((reached >= iou).mean()) for name, iou in REACHED.items()},
        "score": {"true": _median(score[kind == 0]), "false": _median(score[kind > 0])},
    }


def measure_errors(
    data: CocoData, results: Path, evidence: Evidence, rows: Iterable[str], *, jobs: int = 1, say: Say = lambda _: None
) -> dict[str, Any]:
    """Errors of those of the rows that are recorded, from the files in the folder ``results``: the content of errors.json."""
    runs = [(row, seed) for row in rows for seed in evidence.records.get(row, {})]
    files = [results / f"{row}-s{seed}.json" for row, seed in runs]
    found: dict[str, dict[str, Any]] = {}
    for (row, seed), of_run in zip(runs, each(partial(_of_file, data), files, jobs), strict=True):
        found.setdefault(row, {})[str(seed)] = of_run
        say(f"judged boxes of {row}, seed {seed}")
    return {"preset": evidence.preset, "images": len(data.images), "rows": found}


def write_errors(folder: Path, content: dict[str, Any]) -> Path:
    return write_whole(folder / ERRORS, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _of_file(data: CocoData, file: Path) -> dict[str, Any]:
    return errors(data, results_of(file, data))


def _score(entry: dict) -> float:
    return entry.get("box_score", entry["score"])


def _median(values: np.ndarray) -> float | None:
    return _rounded(np.median(values)) if len(values) else None


def _rounded(value: np.floating) -> float:
    return round(float(value), DIGITS)
