"""Metrics and runs as lines of text, and as values that strict JSON can hold."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seanet.training import Run


def table(found: Mapping[str, Any], per_class: bool = False) -> str:
    """Metrics as rows of box and mask, then of each class where wanted, then other facts."""
    kinds = [kind for kind, scores in found.items() if isinstance(scores, Mapping) and "AP" in scores]
    lines = rows({kind: found[kind] for kind in kinds})
    if per_class:
        for kind in kinds:
            lines += ["", *rows(found[kind].get("per_class", {}), kind)]
    plain = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
    return "\n".join([*lines, "", *(f"{name.replace('_', ' ')}: {value}" for name, value in plain.items())])


def rows(scores: Mapping[str, Mapping[str, Any]], title: str = "") -> list[str]:
    """A line for each name, a column for each number."""
    if not scores:
        return []
    columns = [c for c, value in next(iter(scores.values())).items() if not isinstance(value, Mapping)]
    width = max(map(len, [*scores, title]))
    lines = [title.ljust(width) + "".join(f"{column:>7}" for column in columns)]
    return lines + [name.ljust(width) + "".join(cell(row.get(c)) for c in columns) for name, row in scores.items()]


def cell(value: Any) -> str:
    return f"{value:7.3f}" if isinstance(value, int | float) and math.isfinite(value) else f"{'-':>7}"


def summary(result: "Run") -> str:
    """Of a run: its best metrics and where to find it."""
    lines = []
    if result.best:
        metrics: dict[str, dict[str, Any]] = {}
        for name, value in result.best["metrics"].items():
            kind, _, metric = name.partition("/")
            metrics.setdefault(kind, {})[metric] = value
        lines = [f"best after step {result.best['step']}", *rows(metrics), ""]
    if result.signal:
        lines.append(f"interrupted; --resume --out {result.folder} goes on")
    return "\n".join([*lines, f"{result.folder}: try  seanet predict {result.folder} IMAGE"])


def finite(value: Any) -> Any:
    """JSON knows no NaN: null stands for what could not be measured."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
