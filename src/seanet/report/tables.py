"""Recipes as lines of text, and the paper's tables beside them.  Without torch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seanet.config import ClassicMask, Config, EdgeMask, FcnBox
from seanet.papers import Row, Table
from seanet.recipes import EVERY
from seanet.report.runs import Trained, find_runs

HEADINGS = {
    "segm/AP": "mask AP",
    "segm/AP50": "AP50",
    "segm/AP75": "AP75",
    "bbox/AP": "box AP",
    "bbox/AP50": "AP50",
    "bbox/AP75": "AP75",
    "parameters": "M parameters",
    "run time": "ms",
}
DIGITS = {"parameters": 2, "run time": 0}


def describe(config: Config) -> str:
    """One line about a recipe, from its settings."""
    code = ", as the authors' code does it" if config.recipe.endswith("_paper_code") else ""
    size = f"{config.data.short_sides[-1]} px" + (", made for a CPU" if "lite" in config.recipe.split("_") else "")
    line = ", ".join([method(config), *changes(config)])
    if line == "SEANet":
        line += ": convolutional box head with B-IoU, mask head with edge attention"
    return f"{line}{code}; {config.backbone.name.removeprefix('timm/')}, {size}"


def method(config: Config) -> str:
    """The family and the heads in it."""
    family = "Cascade Mask R-CNN" if config.cascade.ious else "Mask R-CNN"
    if config.scoring.kind == "mask_iou":
        family = family.replace("Mask R-CNN", "Mask Scoring R-CNN")
    match isinstance(config.box, FcnBox), isinstance(config.mask, EdgeMask):
        case True, True:
            return "SEANet" if family == "Mask R-CNN" else f"SEANet's heads in {family}"
        case True, False:
            return f"{family} with SEANet's box head"
        case False, True:
            return f"{family} with SEANet's mask head"
    return family


def changes(config: Config) -> list[str]:
    """What an ablation leaves out or does in another way."""
    found = ["pooling from all levels"] if config.pool.kind == "fused" else []
    if isinstance(config.box, FcnBox) and not config.box.iou_weight:
        found.append("no B-IoU")
    if isinstance(config.mask, ClassicMask):
        return found
    absent = {
        "no channel attention": not config.mask.channel_attention,
        "no position attention": not config.mask.position_attention,
        "no edge supervision": not config.mask.edge_weight,
        "edge path concatenated": config.mask.design == "concat",
    }
    return found + [name for name, true in absent.items() if true]


def beside(table: Table, folder: Path) -> dict[str, Any]:
    """A table of the paper with the latest run of each row's recipe under a folder, as plain values."""
    recipes = [row.recipe for row in table.rows if row.recipe]
    runs, left_out = find_runs(folder, recipes)
    if "parameters" in table.columns:
        ours = {name: {"figures": {"parameters": count / 1e6}} for name, count in trainable(recipes).items()}
    else:
        ours = {name: _ours(table, [run for run in runs if run.recipe == name]) for name in recipes}
    return {
        "table": table.number,
        "title": table.title,
        "note": table.note,
        "columns": list(table.columns),
        "data": table.data,
        "rows": [_row(table, row, ours.get(row.recipe)) for row in table.rows],
        "runs": str(folder),
        "left_out": left_out,
    }


def trainable(recipes: Sequence[str]) -> dict[str, int]:
    """Parameters that training changes, of recipes for COCO's 80 classes; nothing is computed, but torch is waited for."""
    import torch

    from seanet.detector import build, count_parameters

    with torch.device("meta"):
        return {name: count_parameters(build(EVERY[name], 80))["trainable"] for name in recipes}


def _row(table: Table, row: Row, ours: dict[str, Any] | None) -> dict[str, Any]:
    paper = dict(zip(table.columns, row.figures, strict=False))
    return {"name": row.name, "recipe": row.recipe, "quoted": row.recipe is None, "paper": paper, "ours": ours}


def _ours(table: Table, runs: list[Trained]) -> dict[str, Any] | None:
    """The latest of the runs of a recipe."""
    if not runs:
        return None
    run = runs[0]
    figures = {name: run.metrics.get(name) for name in table.columns}
    return {
        "figures": {name: None if value is None else 100 * value for name, value in figures.items()},
        "run": str(run.folder),
        "digest": run.digest,
        "date": run.date,
        "file": run.file,
        "images": run.images,
        "changed": run.changed,
        "runs": len(runs),
    }


def table_lines(found: Mapping[str, Any]) -> list[str]:
    """For a screen: the paper's line of each row, and under it that of our latest run."""
    columns = found["columns"]
    left = max(len(row["name"]) for row in found["rows"])
    middle = max(len(row["recipe"] or "") for row in found["rows"])
    lines = [" " * (left + middle + 9) + _line([HEADINGS[c] for c in columns], columns)]
    for row in found["rows"]:
        said = "  quoted from others" if row["quoted"] else ""
        figures = _line(_figures(row["paper"], columns), columns)
        lines.append(f"{row['name']:<{left}}  {row['recipe'] or '':<{middle}}  paper{figures}{said}")
        if not row["quoted"]:
            lines.append(" " * (left + middle + 4) + "ours " + _own(row["ours"], columns))
    return [f"Table {found['table']}: {found['title']}", "", *lines, "", *remarks(found)]


def _own(ours: Mapping[str, Any] | None, columns: list[str]) -> str:
    return f"{_line(_figures(ours['figures'], columns), columns)}  {_told(ours)}" if ours else "  not run"


def _line(cells: Sequence[str], columns: list[str]) -> str:
    return "".join(f"{cell:>{max(len(HEADINGS[c]), 5) + 2}}" for cell, c in zip(cells, columns, strict=True))


def _figures(values: Mapping[str, Any], columns: list[str]) -> list[str]:
    return [_figure(values.get(c), c) for c in columns]


def _figure(value: float | None, column: str) -> str:
    """With as many digits as the paper has."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{DIGITS.get(column, 1)}f}"


def _told(ours: Mapping[str, Any]) -> str:
    """Which run, and on what: its figures are of other data than the paper's."""
    if "run" not in ours:
        return "counted"
    count = f", latest of {ours['runs']} runs" if ours["runs"] > 1 else ""
    number = len(ours["changed"])
    changed = f", {number} setting{'s' * (number > 1)} changed" if number else ""
    return f"{ours['run']} ({ours['digest'][:8]}) on {ours['images']} images of {ours['file']}{count}{changed}"


def remarks(found: Mapping[str, Any]) -> list[str]:
    """What the figures are of."""
    lines = [f"paper: {found['data']}" + (", AP in %" if any("/" in c for c in found["columns"]) else "")]
    if any(row["ours"] and "run" in row["ours"] for row in found["rows"]):
        lines.append(
            "ours: best evaluation of the run, on the data that stand beside it: not to be compared with the paper's"
        )
    return lines + ([found["note"]] if found["note"] else [])


def table_markdown(found: Mapping[str, Any]) -> list[str]:
    """For a document: a row of the paper, its recipe, the paper's figures, and ours where there is a run."""
    columns = found["columns"]
    lines = [
        f"### Table {found['table']}: {found['title']}",
        "",
        f"| the paper's row | recipe | {' | '.join(HEADINGS[c] for c in columns)} | ours |",
        f"|---|---|{'---:|' * len(columns)}---|",
    ]
    for row in found["rows"]:
        figures = " | ".join(_figures(row["paper"], columns))
        recipe = f"`{row['recipe']}`" if row["recipe"] else "quoted from others"
        lines.append(f"| {row['name']} | {recipe} | {figures} | {_cell(row)} |")
    return [*lines, "", *(f"{line[0].upper()}{line[1:]}." for line in remarks(found)), ""]


def _cell(row: Mapping[str, Any]) -> str:
    if not row["ours"]:
        return "" if row["quoted"] else "not run"
    shown = ", ".join(f"{HEADINGS[name]} {_figure(value, name)}" for name, value in row["ours"]["figures"].items())
    return f"{shown}: {_told(row['ours'])}" if "run" in row["ours"] else f"{shown}, counted"
