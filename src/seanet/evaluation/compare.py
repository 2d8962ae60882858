"""Several models on the same data: their figures side by side, and how sure their differences are.

The first model is A; every other one is compared with it.  Differences are paired: object by object where an object's
own figure is shown, and over the same drawn images for all models where an interval is (``evaluation.bootstrap``).
Free of torch as long as every source is a file of results.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seanet.config import Execution
from seanet.data.coco import CocoData
from seanet.errors import UserError
from seanet.evaluation.assess import Assessment, assess
from seanet.evaluation.bootstrap import draws, interval, mean_precision, means
from seanet.evaluation.boundary import NAMES
from seanet.evaluation.coco import RANGES
from seanet.evaluation.results import read_results
from seanet.evaluation.sizes import hits_by_size

if TYPE_CHECKING:
    from seanet.evaluation.groups import Groups

KINDS = {"bbox": "Boxes", "segm": "Masks", "boundary": "Boundaries (Boundary IoU)"}
BANDS = {
    "TA@R": "Band accuracy, missed objects count 0 (TA@R)",
    "TA": "Band accuracy of the objects found (TA)",
    "TA common": "Band accuracy of the objects that every model found",
    "band_iou": "Band IoU of the objects found",
    "boundary_f": "Boundary F of the objects found",
}
MOST = 8  # models, as many as there are colours that can be told apart
FEW = 50  # images below which an interval is only a hint


@dataclass(frozen=True)
class Contender:
    """A model, or somebody's results, and how it did."""

    name: str
    path: Path
    facts: Mapping[str, Any]  # what it is, as far as its file says
    assessment: Assessment
    parameters: int | None = None
    latency: Mapping[str, Any] | None = None  # ms (median), images, device
    left_out: int = 0  # detections of classes that the data do not have


@dataclass(frozen=True)
class Change:
    """A difference to A, with its interval of 95 %; nan where there is nothing to measure."""

    by: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """The interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Row:
    """One figure of all models: shares of one, or pixels; nan where the data or a model have nothing to measure."""

    key: str
    group: str
    name: str
    unit: str  # "share" or "px"
    better: int  # 1 more is better, -1 less is, 0 neither
    values: tuple[float, ...]
    changes: tuple[Change, ...]  # of B, C, ...


@dataclass(frozen=True)
class Comparison:
    data: CocoData
    split: str
    contenders: tuple[Contender, ...]
    rows: tuple[Row, ...]
    max_detections: int
    resamples: int
    seed: int
    notes: tuple[str, ...]
    by: "Groups | None" = None

    @cached_property
    def row(self) -> dict[str, Row]:
        return {row.key: row for row in self.rows}

    @property
    def objects(self) -> int:
        return len(self.contenders[0].assessment.pairs.image)

    def as_json(self) -> dict[str, Any]:
        """The numbers of the page: metrics, differences with their intervals, sources."""
        by = {} if self.by is None else {"by": self.by.as_json()}
        return {
            "data": {
                "file": str(self.data.file),
                "split": self.split,
                "images": len(self.data.images),
                "objects": self.objects,
                "categories": len(self.data.categories),
                "max_detections": self.max_detections,
            },
            "models": [
                {"name": c.name, "path": str(c.path), **c.facts, "parameters": c.parameters, "latency": c.latency}
                | {"left_out": c.left_out, "metrics": c.assessment.metrics}
                for c in self.contenders
            ],
            "figures": {row.key: figure_of(row) for row in self.rows},
            **by,
            "resamples": self.resamples,
            "seed": self.seed,
            "notes": list(self.notes),
        }


def compare(
    data: CocoData,
    sources: Sequence[Path],
    *,
    split: str = "val",
    max_detections: int = 100,
    resamples: int = 1000,
    seed: int = 0,
    device: str | None = None,
    execution: Execution | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Comparison:
    """Measure every source on ``data`` and compare all others with the first.

    A source is a run, a checkpoint, or a COCO results file (``.json``) of anybody's model.  ``say`` hears how far it is.
    """
    if not 2 <= len(sources) <= MOST:
        raise UserError(f"a comparison takes two to {MOST} models or results files, got {len(sources)}")
    data.require_objects("compare on")
    unique = dict.fromkeys(map(Path, sources))
    models = [source for source in unique if source.suffix != ".json"]
    if models:
        from seanet.evaluation.timed import classes

        for source in models:
            classes(source, data)
    measured: dict[Path, Contender] = {}
    # Mistakes in files of results show before a model has run for an hour.
    for source in sorted(unique, key=models.__contains__):
        say(f"measuring {source}")
        measured[source] = contend(source, data, max_detections, device, execution, say)
    contenders = tuple(measured[Path(source)] for source in sources)
    say(f"drawing {resamples} times {len(data.images)} images")
    weights = draws(len(data.images), resamples, seed)
    rows = tuple(figures(data, [c.assessment for c in contenders], weights, max_detections))
    notes = tuple(_notes(data, contenders, max_detections))
    return Comparison(data, split, contenders, rows, max_detections, resamples, seed, notes)


def contend(
    source: Path,
    data: CocoData,
    max_detections: int,
    device: str | None,
    execution: Execution | None,
    say: Callable[[str], None],
) -> Contender:
    """One source, measured; torch is imported only for a model."""
    if source.suffix == ".json":
        entries = read_results(source, data)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        facts = {"kind": "results", "sha256": digest, "detections": len(entries)}
        return Contender(source.stem, source, facts, assess(data, entries, max_detections))
    from seanet.evaluation.timed import detect

    found = detect(source, data, max_detections, device, execution, say)
    name = source.name if source.is_dir() else source.absolute().parent.name
    facts = {"kind": "model", **found.facts, "detections": len(found.entries)}
    measured = assess(data, found.entries, max_detections)
    return Contender(name, source, facts, measured, found.parameters, found.latency, found.left_out)


def figures(data: CocoData, assessments: Sequence[Assessment], weights: np.ndarray, limit: int) -> list[Row]:
    """Every figure of the models, and the differences of B, C, ... to A over the same draws ``weights`` (B, I)."""
    rows: list[Row] = []
    precision = _each(assessments, lambda a: _precision(data, a, weights, limit))
    for kind, group in KINDS.items():
        for name in ("AP", "AP50", "AP75", *(("APs", "APm", "APl") if kind == "segm" else ())):
            values = [_number(a.metrics[kind][name]) for a in assessments]
            drawn = [p[f"{kind}/{name}"] for p in precision]
            rows.append(make_row(f"{kind}/{name}", group, name, "share", 1, values, drawn))
    ones = np.ones((1, weights.shape[1]), np.int32)
    image, columns = assessments[0].pairs.image, _each(assessments, lambda a: _columns(a, assessments))
    once, often = [means(c, image, ones)[0] for c in columns], [means(c, image, weights) for c in columns]
    for i, (key, group, name, unit, better) in enumerate(_names()):
        rows.append(make_row(key, group, name, unit, better, [v[i] for v in once], [d[:, i] for d in often]))
    return rows


def by_size(assessment: Assessment, width: str) -> dict[str, float]:
    """TA@R of small, medium and large objects, by COCO's limits of area."""
    pairs = assessment.pairs
    scores = at_recall(assessment)[:, NAMES.index(width)]
    picked = {name: scores[(pairs.area >= low) & (pairs.area <= high)] for name, (low, high) in RANGES.items()}
    return {name: _mean(values) for name, values in picked.items()}


def by_class(assessment: Assessment, width: str) -> dict[int, float]:
    """TA@R of each label that has objects."""
    pairs = assessment.pairs
    scores = at_recall(assessment)[:, NAMES.index(width)]
    return {int(label): _mean(scores[pairs.label == label]) for label in np.unique(pairs.label)}


def at_recall(assessment: Assessment) -> np.ndarray:
    """Band accuracy of each object, (n, W): 0 where it was missed, nan for objects without a boundary."""
    pairs = assessment.pairs
    found = np.where(pairs.result[:, None] < 0, 0.0, pairs.trimap)
    return np.where(pairs.outlined[:, None], found, np.nan)


def _each(assessments: Sequence[Assessment], measure: Callable[[Assessment], Any]) -> list[Any]:
    """What ``measure`` says of each, asked once where the same one stands twice."""
    known: dict[int, Any] = {}
    for a in assessments:
        if id(a) not in known:
            known[id(a)] = measure(a)
    return [known[id(a)] for a in assessments]


def _precision(data: CocoData, a: Assessment, weights: np.ndarray, limit: int) -> dict[str, np.ndarray]:
    """Average precision of each draw, by key."""
    found = {}
    for kind in KINDS:
        drawn = mean_precision(a.hits[kind], weights)
        found |= {f"{kind}/AP": drawn.mean(1), f"{kind}/AP50": drawn[:, 0], f"{kind}/AP75": drawn[:, 5]}
    for size, hits in hits_by_size(data, a, limit).items():
        found[f"segm/AP{size[0]}"] = mean_precision(hits, weights).mean(1)
    return found


def _names() -> list[tuple[str, str, str, str, int]]:
    """Key, group, name, unit and direction of the columns of ``_columns``."""
    named = [
        (f"{band}/{width}", group, width.replace("px", " px").replace("%", " %"), "share", 1)
        for band, group in BANDS.items()
        for width in NAMES
    ]
    group = "Objects and their outlines"
    found = ("found", group, "Objects found (mask IoU ≥ .5)", "share", 1)
    offset = ("offset", group, "Signed offset (+ grows, − shrinks)", "px", 0)
    return [*named, found, offset, ("hausdorff95", group, "Hausdorff distance, 95 %", "px", -1)]


def _columns(assessment: Assessment, everyone: Sequence[Assessment]) -> np.ndarray:
    """What is averaged over objects, (n, M); nan where an object has no part in a mean."""
    pairs = assessment.pairs
    common = np.all([a.pairs.result >= 0 for a in everyone], axis=0)
    shared = np.where(common[:, None], pairs.trimap, np.nan)
    single = np.stack([pairs.result >= 0, pairs.offset, pairs.hausdorff95], 1)
    return np.concatenate([at_recall(assessment), pairs.trimap, shared, pairs.band_iou, pairs.boundary_f, single], 1)


def make_row(
    key: str, group: str, name: str, unit: str, better: int, values: Sequence[float], drawn: Sequence[np.ndarray]
) -> Row:
    """Of each model's value, and what it was in each draw (B,)."""
    changes = [Change(v - values[0], *interval(d - drawn[0])) for v, d in zip(values[1:], drawn[1:], strict=True)]
    return Row(key, group, name, unit, better, tuple(map(float, values)), tuple(changes))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def figure_of(row: Row) -> dict[str, Any]:
    """For JSON."""
    differences = [{"by": c.by, "low": c.low, "high": c.high, "excludes_zero": c.sure} for c in row.changes]
    return {"unit": row.unit, "values": list(row.values), "differences": differences}


def _notes(data: CocoData, contenders: Sequence[Contender], max_detections: int):
    """What a reader should know before trusting the figures."""
    if len(data.images) < FEW:
        yield f"The data hold {len(data.images)} images: intervals from so few are a hint, and rather too short."
    crowded = contenders[0].assessment.metrics["crowded_images"]
    if crowded:
        yield f"{crowded} images hold more than {max_detections} objects: raise --max-detections, or recall is capped."
    for contender in {c.path: c for c in contenders}.values():
        if not contender.facts["detections"]:
            yield f"{contender.path}: no detections, so all its figures are zero."
        if contender.left_out:
            yield f"{contender.path}: {contender.left_out} detections of classes that the data do not have were left out."
    yield from (f"{data.file}: {line}" for line in data.repairs.summary() if " noticed: " not in line)
