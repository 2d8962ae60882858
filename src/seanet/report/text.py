"""Metrics and runs as lines of text, and as values that strict JSON can hold."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seanet.training import Run


WIDE = {"TA": "TA", "TA@R": "TA@R", "band_iou": "bIoU", "boundary_f": "F"}
SIZES = ("all", "small", "medium", "large")


def table(found: Mapping[str, Any], per_class: bool = False) -> str:
    """Metrics as rows of box, mask and boundary, then of the bands, then of each class where wanted, then other facts."""
    kinds = [kind for kind, scores in found.items() if isinstance(scores, Mapping) and "AP" in scores]
    lines = rows({kind: found[kind] for kind in kinds})
    if "bands" in found:
        lines += ["", *bands(found["bands"]), "", *notes(found)]
    if per_class:
        lines += by_class(found, kinds)
    plain = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
    return "\n".join([*lines, "", *(f"{name.replace('_', ' ')}: {value}" for name, value in plain.items())])


def by_class(found: Mapping[str, Any], kinds: list[str]) -> list[str]:
    """A row for each class with objects, kind by kind and for the bands; the others are counted."""
    classes = found[kinds[0]]["per_class"]
    known = [name for name, scores in classes.items() if scores["AP"] is not None]
    lines: list[str] = []
    for kind in kinds:
        lines += ["", *rows({name: found[kind]["per_class"][name] for name in known}, kind)]
    if "bands" in found:
        parts = found["bands"]["per_class"]
        lines += ["", *rows({name: _shares(parts[name]) for name in known}, "TA@R")]
    without = len(classes) - len(known)
    return [*lines, "", f"classes without objects, left out here: {without}"] if without else lines


def bands(found: Mapping[str, Any]) -> list[str]:
    """A row for each width with all objects, then a row for each size of objects."""
    whole = found["all"]
    by_width = {name: {title: whole[key][name] for key, title in WIDE.items()} for name in whole["TA"]}
    by_size = {name: _shares(found[name]) for name in SIZES}
    return [*rows(by_width, "band"), "", *rows(by_size, "TA@R")]


def _shares(part: Mapping[str, Any]) -> dict[str, Any]:
    return part["TA@R"] | {"offset": part["offset"], "haus95": part["hausdorff95"]}


def notes(found: Mapping[str, Any]) -> list[str]:
    """What the columns of the bands mean and how wide they are here."""
    whole, width = found["bands"]["all"], found["boundary"]["width"]
    spans = (f"{name} = {_span(*ends)} px" for name, ends in found["bands"]["widths"].items() if name.endswith("%"))
    lines = [
        "band: pixels within that distance of an object's boundary; % of the image's diagonal",
        f"here {', '.join(spans)}",
        "TA: share of the band labelled right, mean of matched objects; TA@R: of all, a missed one counts 0",
        "bIoU: IoU of the inner bands; F: boundary pixels within that distance of the other boundary",
        "offset: px that found boundaries lie outside (+) or inside (-); haus95: 95 % Hausdorff distance, px",
        f"matched: {whole['matched']} of {whole['objects']} objects",
    ]
    if "AP" in found["boundary"]:
        span = _span(width["smallest"], width["largest"])
        lines.insert(2, f"boundary: AP by Boundary IoU, width {width['ratio']:.0%} of the diagonal, here {span} px")
    if whole["without_boundary"]:
        lines.append(f"without a boundary, so left out: {whole['without_boundary']} that fill their image")
    lines += best_f1(found.get("best_f1"))
    return lines if found["detections"] else [*lines, "nothing was detected, so every share is 0"]


def best_f1(found: Mapping[str, Any] | None) -> list[str]:
    """A line about ``evaluation.threshold``; none where there is no threshold."""
    if not found or found["score"] is None:
        return []
    values = ", ".join(f"{name} {found[name]:.3f}" for name in ("precision", "recall"))
    return [f"best F1 of masks at IoU .5: {found['F1']:.3f}, of what scores over {found['score']:.3f} ({values})"]


def _span(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "-"
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def rows(scores: Mapping[str, Mapping[str, Any]], title: str = "") -> list[str]:
    """A line for each name, a column for each number."""
    if not scores:
        return []
    columns = [c for c, value in next(iter(scores.values())).items() if not isinstance(value, Mapping)]
    width = max(map(len, [*scores, title]))
    lines = [title.ljust(width) + "".join(f"{column:>7}" for column in columns)]
    return lines + [name.ljust(width) + "".join(cell(row.get(c)) for c in columns) for name, row in scores.items()]


def cell(value: Any) -> str:
    return f" {value:6.3f}" if isinstance(value, int | float) and math.isfinite(value) else f"{'-':>7}"


def summary(result: "Run") -> str:
    """Of a run: its best metrics and where to find it."""
    lines = []
    if result.best:
        metrics: dict[str, dict[str, Any]] = {}
        for name, value in result.best["metrics"].items():
            kind, _, metric = name.partition("/")
            metrics.setdefault(kind, {})[metric] = value
        kinds = {kind: scores for kind, scores in metrics.items() if "AP" in scores}
        lines = [f"best after step {result.best['step']}", *rows(kinds), *best_f1(metrics.get("best_f1")), ""]
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
