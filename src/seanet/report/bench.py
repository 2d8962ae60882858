"""What ``seanet bench`` found, as tables, a chart and a page.  From plain values, so a JSON file of a run shows as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seanet.errors import UserError
from seanet.report.charts import stacked_chart
from seanet.report.files import write_whole
from seanet.report.page import Table, write_page
from seanet.report.text import finite

Found = Mapping[str, Any]
WHOLE = "whole"
SUFFIXES = (".json", ".html", ".svg")
# Stages that share a colour of the chart.
SHOWN = {
    "files": ("decode", "resize"),
    "backbone": ("backbone",),
    "RPN": ("rpn",),
    "boxes": ("box pool", "box head", "nms"),
    "masks": ("mask pool", "mask head", "scoring"),
    "output": ("paste", "rle"),
    "backward": ("backward", "step"),
    "other": ("other",),
}
COLUMNS = ("ms", "from", "to", "ratio", "images/s", "GMAC", "% of peak", "peak MB", "M parameters")


def lines(found: Found) -> list[str]:
    """For a terminal: the models side by side, then each by itself."""
    text = [*facts(found), ""]
    for table in tables(found):
        text += [table.title, *aligned([table.head, *table.rows]), ""]
    return text[:-1]


def facts(found: Found) -> list[str]:
    """What was measured, in sentences."""
    setting, machine = found["setting"], found["machine"]
    height, width = setting["size"]
    what = "A training step" if found["task"] == "train" else "From image files to run lengths"
    speeds = ", ".join(f"{speed:,.0f} GMAC/s in {name}" for name, speed in found["gmac_per_s"].items())
    text = [
        f"{what}: {setting['batch']} image(s) of {height} x {width}, {setting['proposals']} proposals, "
        f"{found['repeats']} turns after one of warming up.",
        f"{machine['device']}; torch {machine['torch']}, torchvision {machine['torchvision']}. "
        f"A large matrix product between the turns: {speeds}.",
        "Ratios are medians over the turns; the first model is 1.00. Milliseconds are medians of a batch. GMAC count plain "
        "convolutions: quicker forms of them may pass the peak.",
    ]
    numbers = {name: model["detections"] for name, model in found["models"].items() if "detections" in model}
    if numbers and min(numbers.values()) < 0.9 * max(numbers.values()):
        each = ", ".join(f"{name} {number:g}" for name, number in numbers.items())
        text.append(f"The models did not find as many objects each ({each}): their masks do not cost the same.")
    return text


def tables(found: Found) -> list[Table]:
    """Time side by side, then all there is to know of each model."""
    head = ["stage", *(title for name in found["models"] for title in (name, "ratio"))]
    together = Table("Milliseconds of a batch, and ratios", head, side_by_side(found))
    each = (
        Table(named(name, one, found["setting"]["device"]), ["stage", *COLUMNS], rows(found, one))
        for name, one in found["models"].items()
    )
    return [together, *each]


def side_by_side(found: Found) -> list[list[str]]:
    def cell(model: Found, stage: str) -> list[str]:
        times = model["times"].get(stage)
        return ["-", "-"] if times is None else [f"{1000 * times['median']:.1f}", shown(times["ratio"], ".2f")]

    models = found["models"].values()
    return [[stage, *(text for one in models for text in cell(one, stage))] for stage in (*found["stages"], WHOLE)]


def rows(found: Found, model: Found) -> list[list[str]]:
    """A row for each stage of a model and one for the whole."""
    peak = found["gmac_per_s"][model["execution"]["precision"]]
    return [
        [stage, *cells(model, stage, found["setting"]["batch"], peak)]
        for stage in (*found["stages"], WHOLE)
        if stage in model["times"]
    ]


def cells(model: Found, stage: str, batch: int, peak: float) -> list[str]:
    times, gmac = model["times"][stage], model["gmac"].get(stage)
    parameters = model["parameters"].get(stage)
    return [
        *(f"{1000 * times[key]:.1f}" for key in ("median", "low", "high")),
        shown(times["ratio"], ".2f"),
        shown(batch / times["median"] if times["median"] > 0 else None, ".3g"),
        shown(gmac, ".2f"),
        shown(None if gmac is None else 100 * gmac / times["median"] / peak, ".0f"),
        shown(model.get("peak_mb", {}).get(stage), ".0f"),
        shown(None if parameters is None else parameters / 1e6, ".2f"),
    ]


def shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def named(name: str, model: Found, device: str) -> str:
    """A model's name and how it was run."""
    execution = model["execution"]
    applied = {"channels last": execution["channels_last"]}
    applied["substitutes"] = execution["substitutes"] and execution["compile"] == "none" and device == "cpu"
    words = [] if model["what"] in name else [model["what"]]
    words += [model["backbone"], execution["precision"]]
    words += [word for word, holds in applied.items() if holds]
    words += [] if execution["compile"] == "none" else [f"compile {execution['compile']}"]
    words += ["plain forms"] if model["plain"] else []
    words += [f"{model['detections']:g} detections an image"] if "detections" in model else []
    return f"{name}: {', '.join(words)}; weights {model['weights']}"


def profile_lines(answers: Mapping[str, Sequence[Found]]) -> list[str]:
    """A row for each operation of each model: its own share and milliseconds, its calls."""
    rows = [
        [name, o["name"], f"{100 * o['share']:.1f} %", f"{1000 * o['seconds']:.1f}", str(o["calls"])]
        for name, operations in answers.items()
        for o in operations
    ]
    return aligned([["model", "operation", "share", "own ms", "calls"], *rows], left=2)


def largest_lines(answers: Mapping[str, Found]) -> list[str]:
    """A row for each batch that fitted."""
    rows = [[name, str(batch), f"{mb:,.0f}"] for name, one in answers.items() for batch, mb in one["mb"].items()]
    return aligned([["model", "images", "MB"], *rows])


def chart(found: Found) -> str:
    """A bar for each model, of its stages in the unit of the first model's whole."""
    first = next(iter(found["models"].values()))["times"][WHOLE]["median"]
    unit = {name: _scale(model, first) for name, model in found["models"].items()}
    groups = {title: stages for title, stages in SHOWN.items() if set(stages) & set(found["stages"])}
    bars = {
        name: [
            unit[name] * sum(model["times"][s]["median"] for s in stages if s in model["times"])
            for stages in groups.values()
        ]
        for name, model in found["models"].items()
    }
    return stacked_chart(bars, list(groups), "Time by stage, first model = 1")


def _scale(model: Found, first: float) -> float:
    """What turns seconds of a model's stages into shares that add up to its ratio."""
    times = model["times"]
    stages = sum(one["median"] for stage, one in times.items() if stage != WHOLE)
    return times[WHOLE]["ratio"] / stages if stages else 1 / first


def write(path: Path, found: Found) -> Path:
    """All of it as JSON, as a page, or the chart alone, by the file's suffix."""
    require_suffix(path)
    if path.suffix == ".json":
        return write_whole(path, (json.dumps(finite(found), indent=1) + "\n").encode())
    if path.suffix == ".svg":
        return write_whole(path, standing(chart(found)).encode())
    height, width = found["setting"]["size"]
    summary = [("task", found["task"]), ("image", f"{height} x {width}"), ("images", found["setting"]["batch"])]
    summary += [(name, f"{model['times'][WHOLE]['ratio']:.2f}") for name, model in found["models"].items()]
    return write_page(path, "Side by side", summary, notes=facts(found), charts=[chart(found)], tables=tables(found))


def standing(svg: str) -> str:
    """An SVG that is a file of its own: readable on light and on dark ground."""
    style = "<style>svg{color:#1b2430}@media(prefers-color-scheme:dark){svg{color:#e8ecf1}}</style>"
    head, _, rest = svg.partition(">")
    return f'{head.replace("inherit", "system-ui, sans-serif")} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'


def require_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UserError(f"--out {path}: expected a file ending in {', '.join(SUFFIXES)}", file=path)


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Columns as wide as their widest cell, the first ``left`` of them to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if i < left else ">" for i in range(len(widths))]
    return ["  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)) for row in rows]
