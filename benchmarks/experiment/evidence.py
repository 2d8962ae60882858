"""What runs left behind: a record for each row and seed, and the differences of rows, read from a preset's folder."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from experiment.records import read

from seanet.errors import UserError

RECORDS = Path(__file__).parent / "records"
DIFFERENCES, ERRORS = "differences.json", "errors.json"
NAME = re.compile(r"(?P<row>.+)-s(?P<seed>\d+)")
ALL = "all"  # the group of all images, beside the kinds of failure
FIXED = "true boxes"  # the mask head alone, in place of a group
SAME = 1e-4  # share of one up to which records and differences agree


@dataclass(frozen=True)
class Difference:
    """A row's figure less that of the row it is compared with; shares of one; nan where nothing was measured."""

    by: float  # mean over seeds
    each: tuple[float, ...]  # of each seed
    images: tuple[float, float]  # 95 % over drawn images, these seeds given
    both: tuple[float, float] | None  # 95 % over drawn images and seeds; None where there are too few seeds

    @property
    def interval(self) -> tuple[float, float]:
        return self.both or self.images

    @property
    def sure(self) -> bool:
        """The interval excludes zero."""
        low, high = self.interval
        return low > 0 or high < 0


@dataclass(frozen=True)
class Pairing:
    """A row beside one it is compared with: differences by group of images and figure."""

    seeds: tuple[int, ...]
    groups: dict[str, dict[str, Difference]]


@dataclass(frozen=True)
class Evidence:
    preset: str
    records: dict[str, dict[int, dict[str, Any]]]  # by row and seed
    pairings: dict[tuple[str, str], Pairing]  # by row and the row it is compared with
    facts: dict[str, Any] = field(default_factory=dict)  # how differences were measured
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)  # of boxes, by row and seed
    lender: Evidence | None = None  # of the same data: its noise is taken where no row here has several seeds

    def values(self, row: str, key: str, group: str = ALL, seeds: Collection[int] | None = None) -> list[float]:
        """A figure of a row, seed by seed, of ``seeds`` or of all; empty where it was not measured."""
        runs = self.records.get(row, {}).items()
        parts = (_metrics(record, group) for seed, record in runs if seeds is None or seed in seeds)
        found = (figure(metrics, key) for metrics in parts if metrics)
        return [value for value in found if value is not None]

    def difference(self, row: str, against: str, key: str, group: str = ALL) -> Difference | None:
        pairing = self.pairings.get((row, against))
        return pairing.groups.get(group, {}).get(key) if pairing else None

    def shared(self, row: str, against: str) -> tuple[int, ...] | None:
        """The seeds of both of which the difference is made; None: it was not measured."""
        pairing = self.pairings.get((row, against))
        return pairing.seeds if pairing else None

    def source(self, row: str) -> str:
        """The row whose weights a row reads: itself, if it was trained."""
        return next(iter(self.records[row].values()))["weights_of"] or row

    def noise(self, key: str, group: str = ALL) -> tuple[float, int]:
        """Standard deviation over seeds, pooled over the trained rows with several, and its degrees of freedom."""
        many = [self.values(row, key, group) for row in self.records if self.source(row) == row]
        many = [values for values in many if len(values) > 1]
        if not many and self.lender:
            return self.lender.noise(key, group)
        freedom = sum(len(values) - 1 for values in many)
        squares = sum(stdev(values) ** 2 * (len(values) - 1) for values in many)
        return ((squares / freedom) ** 0.5 if freedom else float("nan")), freedom


def read_evidence(folder: Path, measured: bool = True) -> Evidence:
    """All records of a preset, and with ``measured`` the differences and errors that were measured already."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no records there: run 'python benchmarks/ablation.py --preset {folder.name}' first")
    records: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-s*.json")):
        if name := NAME.fullmatch(path.stem):
            records.setdefault(name["row"], {})[int(name["seed"])] = read(path)
    records = {row: dict(sorted(own.items())) for row, own in records.items()}
    file = folder / DIFFERENCES
    content = read(file) if measured and file.exists() else {"pairs": []}
    errors = read(folder / ERRORS)["rows"] if measured and (folder / ERRORS).exists() else {}
    _require_alike(records, folder)
    evidence = Evidence(folder.name, records, _pairings(content.pop("pairs")), content, errors)
    _check(evidence, file)
    return evidence


def _require_alike(records: dict[str, dict[int, dict[str, Any]]], folder: Path) -> None:
    """Rows are comparable at equal data and schedule alone."""
    every = [record for own in records.values() for record in own.values()]
    if not every:
        raise UserError(f"{folder}: holds no records: run 'python benchmarks/ablation.py --preset {folder.name}' first")
    for name in ("data", "steps", "batch"):
        found = [record[name] for record in every]
        if other := next((value for value in found if value != found[0]), None):
            message = (
                f"{folder}: records were made with the {name} {found[0]} and {other}: keep those of one experiment"
            )
            raise UserError(message, file=folder)


def figure(metrics: dict[str, Any], key: str) -> float | None:
    """A figure by its key, such as ``segm/AP`` or ``TA@R/3px``, out of what an evaluation gives."""
    group, _, name = key.partition("/")
    if key == "mask_iou":
        return metrics[key]
    if key == "offset":
        return metrics["bands"]["all"][key]
    if key == "found":
        everything = metrics["bands"]["all"]
        return everything["matched"] / everything["objects"] if everything["objects"] else None
    return (metrics[group] if group in ("segm", "bbox", "boundary") else metrics["bands"]["all"][group]).get(name)


def _metrics(record: dict[str, Any], group: str) -> dict[str, Any] | None:
    """None where the masks in true boxes were not measured."""
    if group == FIXED:
        return record.get("fixed")
    return record["metrics"] if group == ALL else record["by_failure"][group]


def _pairings(pairs: list[dict[str, Any]]) -> dict[tuple[str, str], Pairing]:
    return {(p["row"], p["against"]): Pairing(tuple(p["seeds"]), _groups(p["groups"])) for p in pairs}


def _groups(groups: dict[str, Any]) -> dict[str, dict[str, Difference]]:
    return {group: {key: _difference(d) for key, d in figures.items()} for group, figures in groups.items()}


def _difference(d: dict[str, Any]) -> Difference:
    both = tuple(map(_number, d["both"])) if d["both"] else None
    return Difference(_number(d["by"]), tuple(map(_number, d["each"])), tuple(map(_number, d["images"])), both)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _check(evidence: Evidence, file: Path) -> None:
    """Differences of other records would make a page that contradicts itself."""
    for (row, against), pairing in evidence.pairings.items():
        for key, said in pairing.groups[ALL].items():
            a, b = (_of_seeds(evidence.records.get(name, {}), pairing.seeds, key) for name in (against, row))
            if None in a + b:
                continue
            if not (a and b) or abs(fmean(b) - fmean(a) - said.by) > SAME:
                message = f"{file}: {key} of {row} is not that of the records beside it: measure again, with --out"
                raise UserError(message, file=file)


def _of_seeds(records: dict[int, dict[str, Any]], seeds: tuple[int, ...], key: str) -> list[float | None]:
    """Empty where a seed has no record."""
    return [figure(records[seed]["metrics"], key) for seed in seeds] if set(seeds) <= records.keys() else []
