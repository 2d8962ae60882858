"""Figures of a comparison as text: values, and differences with their intervals and what they mean."""

import math
from dataclasses import dataclass

from seanet.evaluation.compare import Change, Row


@dataclass(frozen=True)
class Cell:
    """A value, or a difference with its interval and what it means."""

    value: str
    interval: str = ""
    verdict: str = ""  # "better", "worse", "differs" or nothing


def cells(row: Row) -> dict[str, list[Cell]]:
    """``values`` of every model and ``changes`` of all but the first."""
    return {
        "values": [Cell(number(value, row.unit)) for value in row.values],
        "changes": [changed(change, row) for change in row.changes],
    }


def changed(change: Change, row: Row) -> Cell:
    """The difference ``change`` of a row."""
    if not math.isfinite(change.by):
        return Cell("-")
    between = ""
    if math.isfinite(change.low):
        between = " … ".join(signed(end, row.unit, exact=change.sure) for end in (change.low, change.high))
    verdict = ""
    if change.sure:
        verdict = {0: "differs"}.get(row.better, "better" if change.by * row.better > 0 else "worse")
    return Cell(signed(change.by, row.unit), between, verdict)


def number(value: float, unit: str) -> str:
    """Shares in percent."""
    if not math.isfinite(value):
        return "-"
    return (f"{100 * value:.1f}" if unit == "share" else f"{value:.2f}").replace("-", "−")


def signed(value: float, unit: str, exact: bool = False) -> str:
    """With a sign, but for what rounds to nothing; ``exact`` takes the digits that it needs not to."""
    value, digits = (100 * value, 1) if unit == "share" else (value, 2)
    text = f"{value:+.{digits}f}"
    if exact and value and not float(text):
        text = f"{value:+.1g}"
    return text.lstrip("+-") if not float(text) else text.replace("-", "−")
