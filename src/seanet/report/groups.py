"""Metrics of groups of images as a table for a terminal."""

from collections.abc import Mapping
from typing import Any

from seanet.report.text import cell

COLUMNS = {
    "mask AP": ("segm", "AP"),
    "AP75": ("segm", "AP75"),
    "bound AP": ("boundary", "AP"),
    "TA@R 3px": ("bands", "all", "TA@R", "3px"),
    "box AP": ("bbox", "AP"),
}


def group_table(by: Mapping[str, Any]) -> str:
    """A row for each group of ``evaluation.groups.measure_groups``; what no group has a number of has no column."""
    groups: dict[str, Mapping[str, Any]] = by["groups"]
    values = {title: [_at(found, place) for found in groups.values()] for title, place in COLUMNS.items()}
    values = {title: column for title, column in values.items() if any(value is not None for value in column)}
    width = max(map(len, [*groups, f"by {by['key']}"]))
    lines = [f"by {by['key']}".ljust(width) + "".join(f"{title:>10}" for title in ("images", "objects", *values))]
    for row, (name, found) in enumerate(groups.items()):
        counts = f"{found['images']:>10}{found['objects']:>10}"
        lines.append(name.ljust(width) + counts + "".join(f"{cell(column[row]):>10}" for column in values.values()))
    return "\n".join(lines)


def _at(found: Any, place: tuple[str, ...]) -> Any:
    """None where there is no such number."""
    for name in place:
        found = (found or {}).get(name)
    return found
