"""The page of ``seanet compare``: one HTML file with figures, charts and pictures that needs no network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from seanet import __version__
from seanet.data.images import read_image
from seanet.data.records import ImageRecord, to_bitmap, to_rle
from seanet.errors import ImageError
from seanet.evaluation.assess import RANGES, Assessment
from seanet.evaluation.bootstrap import RECALLS, curve
from seanet.evaluation.boundary import NAMES, band
from seanet.evaluation.compare import BANDS, FEW, Comparison, Contender, Row, by_class, by_size
from seanet.evaluation.groups import FEWEST
from seanet.evaluation.packed import pack_rle
from seanet.report.cases import (
    ADDED,
    BAND,
    MISSED,
    Case,
    band_picture,
    choose,
    error_picture,
    found_by,
    mask_picture,
    shown_width,
    truth_of,
    truth_picture,
    view_of,
    wrong,
)
from seanet.report.cells import Cell, cells, number, signed
from seanet.report.charts import STROKES, bar_chart, line_chart, shortened
from seanet.report.draw import Colour
from seanet.report.files import write_whole
from seanet.report.page import embedded
from seanet.report.text import best_f1

CHART = (420, 290)
SHOWN_CLASSES = 20
THIN = 0.3  # share of a picture's pixel that shows something thin
HEADLINES = ("segm/AP", "boundary/AP", "TA@R/3px", "bbox/AP")
TITLES = {"segm/AP": "Mask AP", "boundary/AP": "Boundary AP", "bbox/AP": "Box AP", "TA@R/3px": "TA@R, 3 px"}
FOLDED = ("TA", "TA common", "band_iou", "boundary_f")  # groups behind a fold
SECTIONS = {
    "gain": ("Largest gains at the boundary", "Found by both; {b}'s mask keeps more of the band than {a}'s."),
    "loss": ("Largest losses at the boundary", "Found by both; {b}'s mask keeps less of the band than {a}'s."),
    "only B": ("Found by {b} only", "{a} has no mask of IoU .5 here."),
    "only A": ("Found by {a} only", "{b} has no mask of IoU .5 here."),
}


@dataclass(frozen=True)
class Written:
    path: Path
    pictures: int  # objects shown
    unreadable: tuple[str, ...]  # why images could not be shown, one line each


def write_comparison(path: Path | str, comparison: Comparison, images: int = 12) -> Written:
    """Write the page with at most ``images`` objects in pictures."""
    from jinja2 import Environment
    from markupsafe import Markup

    letters = [chr(ord("A") + i) for i in range(len(comparison.contenders))]
    named = {
        f"{letter} {shortened(c.name, 22)}": c.assessment
        for letter, c in zip(letters, comparison.contenders, strict=True)
    }
    table = _class_table(comparison)
    sections, unreadable = _sections(comparison, letters, images)
    template = files("seanet.report").joinpath("comparison.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    text = page.render(
        title=" and ".join(c.name for c in comparison.contenders[1:]) + f" against {comparison.contenders[0].name}",
        comparison=comparison,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        facts=_facts(comparison),
        models=[_model(c, letters[i], i) for i, c in enumerate(comparison.contenders)],
        headlines=[(TITLES[key], cells(comparison.row[key])) for key in HEADLINES],
        groups=_groups(comparison, folded=False),
        folded=_groups(comparison, folded=True),
        few=FEW,
        fewest=FEWEST,
        by_group=[(title, [(row.name, cells(row)) for row in rows]) for title, rows in _by_group(comparison)],
        charts=[Markup(chart) for chart in charts(comparison, named)],
        class_charts=[Markup(chart) for chart in class_charts(table, list(named), shown_width(comparison))],
        classes=_classes(table),
        shown_classes=SHOWN_CLASSES,
        sections=sections,
        width=_short(shown_width(comparison)).replace("%", "% of the diagonal"),
        unreadable=unreadable,
        colours={"added": _css(ADDED), "missed": _css(MISSED), "band": _css(BAND)},
    )
    count = sum(len(section["cards"]) for section in sections)
    return Written(write_whole(path, text.encode("utf-8")), count, tuple(unreadable))


def lines(comparison: Comparison) -> str:
    """The headlines as text for a terminal: shares in percent, differences with their intervals."""
    letters = [chr(ord("A") + i) for i in range(len(comparison.contenders))]
    text = [f"{letter}  {c.name}  ({c.path})" for letter, c in zip(letters, comparison.contenders, strict=True)]
    text += ["", " " * 14 + "".join(f"{letter:>8}" for letter in letters)]
    for key in HEADLINES:
        text += _row_lines(TITLES[key], comparison.row[key], letters)
    for title, rows in _by_group(comparison):
        text += ["", title, *(line for row in rows for line in _row_lines(row.name, row, letters))]
    return "\n".join([*text, *(f"note: {note}" for note in comparison.notes)])


def _row_lines(title: str, row: Row, letters: Sequence[str]) -> Iterator[str]:
    yield f"{title:<14}" + "".join(f"{number(value, row.unit):>8}" for value in row.values)
    for letter, cell in zip(letters[1:], cells(row)["changes"], strict=True):
        between = f"  ({cell.interval})" if cell.interval else ""
        yield f"  {letter} - A  {cell.value}{between}  {cell.verdict}".rstrip()


def _by_group(comparison: Comparison) -> list[tuple[str, tuple[Row, ...]]]:
    """Titled rows of each group of images; none if nobody asked for groups."""
    if comparison.by is None:
        return []
    return [
        (f"{comparison.by.key} {g.name}: {_counted(g.images, 'image')}, {_counted(g.objects, 'object')}", g.rows)
        for g in comparison.by.groups
    ]


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}" + "s" * (count != 1)


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    widths = comparison.contenders[0].assessment.metrics["bands"]["widths"]
    boundary = comparison.contenders[0].assessment.metrics["boundary"]["width"]
    used = len({int(label) for label in comparison.contenders[0].assessment.pairs.label})
    edge = _span(boundary["smallest"], boundary["largest"])
    spans = [f"{_short(name)} = {_span(*widths[name])} px" for name in NAMES if name.endswith("%")]
    return [
        ("Data", f"{comparison.data.file}, split {comparison.split}"),
        ("Images", f"{len(comparison.data.images):,}"),
        ("Objects", f"{comparison.objects:,} of {used} classes ({len(comparison.data.categories)} in the file)"),
        ("Detections that count", f"{comparison.max_detections} an image"),
        ("Bands", "1, 3 and 8 px; of the diagonal " + ", ".join(spans)),
        ("Boundary IoU", f"width {100 * boundary['ratio']:g} % of the diagonal = {edge} px"),
        ("Intervals", f"95 %, {comparison.resamples:,} draws of the images, seed {comparison.seed}"),
    ]


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g}–{high:.3g}"


def _model(contender: Contender, letter: str, i: int) -> dict[str, Any]:
    """A card: what the model is, and how large and quick."""
    facts = contender.facts
    if facts["kind"] == "results":
        lines = [f"COCO results file, sha256 {facts['sha256'][:12]}"]
    else:
        digest = (facts.get("digest") or "none")[:12]
        lines = [f"recipe {facts['recipe']}, weights {digest}, epoch {facts['epoch']:g}, step {facts['step']:,}"]
    lines += best_f1(contender.assessment.metrics["best_f1"])
    latency = contender.latency
    if latency is not None:
        lines.append(f"timed on {latency['device']}: median of {latency['images']:,} images")
    return {
        "letter": letter,
        "name": contender.name,
        "path": str(contender.path),
        "lines": lines,
        "stroke": STROKES[i % len(STROKES)],
        "detections": f"{facts['detections']:,}",
        "parameters": "-" if contender.parameters is None else f"{contender.parameters / 1e6:.2f} M",
        "latency": "-" if latency is None else f"{latency['ms']:.1f} ms",
    }


def _groups(comparison: Comparison, folded: bool) -> list[tuple[str, list[tuple[str, dict[str, list[Cell]]]]]]:
    """Rows of the table by group."""
    hidden = {BANDS[name] for name in FOLDED}
    groups: dict[str, list[tuple[str, dict[str, list[Cell]]]]] = {}
    for row in comparison.rows:
        if (row.group in hidden) == folded:
            groups.setdefault(row.group, []).append((row.name, cells(row)))
    return list(groups.items())


def charts(comparison: Comparison, named: Mapping[str, Assessment]) -> Iterator[str]:
    """Band accuracy by width, precision and recall, and both by the objects' size."""
    width, measured = shown_width(comparison), named.values()
    for key, title in (("TA@R", "Band accuracy, misses count 0 (TA@R)"), ("TA", "Band accuracy of objects found (TA)")):
        series = {name: _by_width(comparison, key, i) for i, name in enumerate(named)}
        yield line_chart(series, title, "width of the band, px", "% labelled right", size=CHART, marked=True)
    scores = [by_size(a, width) for a in measured]
    shares = {size: [100 * score[size] for score in scores] for size in RANGES}
    yield bar_chart(shares, list(named), f"TA@R at {_short(width)} by size", width=CHART[0], form=".1f")
    for threshold, title in ((0, "Precision and recall, mask IoU .5"), (5, "Precision and recall, mask IoU .75")):
        series = {n: _precision_by_recall(a, threshold) for n, a in named.items()}
        yield line_chart(series, title, "recall, %", "precision, %", size=CHART, up_to=(100, 100))
    shares = {size: [100 * _or_nan(a.metrics["segm"][f"AP{size[0]}"]) for a in measured] for size in RANGES}
    yield bar_chart(shares, list(named), "Mask AP by size", width=CHART[0], form=".1f")


def _precision_by_recall(measured: Assessment, threshold: int) -> list[tuple[float, float]]:
    """Points in percent."""
    return [(100 * r, 100 * p) for r, p in zip(RECALLS, curve(measured.hits["segm"], threshold), strict=True)]


def class_charts(table: Mapping[str, Mapping[str, Any]], names: Sequence[str], width: str) -> Iterator[str]:
    """Mask AP and TA@R by class; of many classes those that differ most."""
    for title, at in (("Mask AP by class", "ap"), (f"TA@R at {_short(width)} by class", "ta")):
        spread = {name: np.ptp(np.nan_to_num(row[at])) for name, row in table.items()}
        shown = sorted(sorted(table, key=lambda name: -spread[name])[:SHOWN_CLASSES])
        bars = {name: [100 * share for share in table[name][at]] for name in shown}
        yield bar_chart(bars, names, title, width=CHART[0], form=".1f")


def _by_width(comparison: Comparison, key: str, i: int) -> list[tuple[float, float]]:
    """A model's figure in percent for each width, at the mean of its pixels."""
    pixels = comparison.contenders[0].assessment.pairs.widths.mean(0)
    shares = [100 * comparison.row[f"{key}/{name}"].values[i] for name in NAMES]
    return sorted(zip(pixels.tolist(), shares, strict=True))


def _class_table(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Number of objects, mask AP and TA@R of every model, for the classes with objects."""
    assessments = [c.assessment for c in comparison.contenders]
    names, width = comparison.data.categories.names, shown_width(comparison)
    labels, counts = np.unique(assessments[0].pairs.label, return_counts=True)
    scores = [by_class(a, width) for a in assessments]
    return {
        names[label - 1]: {
            "objects": int(count),
            "ap": [_or_nan(a.metrics["segm"]["per_class"][names[label - 1]]["AP"]) for a in assessments],
            "ta": [score[int(label)] for score in scores],
        }
        for label, count in zip(labels, counts, strict=True)
    }


def _classes(table: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table of classes as text."""
    return [
        {"name": name, "objects": row["objects"], "ap": [number(v, "share") for v in row["ap"]]}
        | {"ta": [number(v, "share") for v in row["ta"]]}
        for name, row in sorted(table.items())
    ]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _sections(comparison: Comparison, letters: Sequence[str], images: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Titled rows of cards, and why images could not be shown."""
    names = {"a": letters[0], "b": letters[1]}
    sections, unreadable = [], []
    for kind, cases in choose(comparison, images).items():
        cards = []
        for case in cases:
            try:
                cards.append(card(comparison, case, letters))
            except ImageError as error:
                unreadable.append(str(error))
        title, text = (part.format(**names) for part in SECTIONS[kind])
        if cards:
            sections.append({"title": title, "text": text, "cards": cards})
    return sections, unreadable


def card(comparison: Comparison, case: Case, letters: Sequence[str]) -> dict[str, Any]:
    """The pictures of one object: truth and each model, masks above and what counts in the band below."""
    image, annotation = truth_of(comparison, case)
    truth = to_bitmap(annotation, image.height, image.width)
    masks = [found_by(comparison, i, case) for i in range(len(letters))]
    pairs = [c.assessment.pairs for c in comparison.contenders]
    at = NAMES.index(shown_width(comparison))
    view, size = view_of(image, truth, masks), (image.height, image.width)
    near = band(pack_rle(to_rle(annotation, *size)), size, float(pairs[0].widths[case.row, at]))
    photo, inside, within = view.photo(pixels_of(image)), view.bits(truth), view.bits(near, THIN)
    columns = [_column("truth", "", truth_picture(photo, inside), band_picture(photo, inside, within))]
    for letter, mask, pair, stroke in zip(letters, masks, pairs, cycle(STROKES), strict=False):
        added, missed = (view.bits(part, THIN) for part in wrong(truth, mask, near))
        score = "not found" if pair.result[case.row] < 0 else f"TA {number(float(pair.trimap[case.row, at]), 'share')}"
        upper, lower = (
            mask_picture(photo, view.bits(mask), _rgb(stroke)),
            error_picture(photo, inside, within, added, missed),
        )
        columns.append(_column(letter, score, upper, lower) | {"stroke": stroke})
    name = comparison.data.categories.names[pairs[0].label[case.row] - 1]
    change = signed(case.by, "share") if math.isfinite(case.by) else ""
    return {"name": name, "file": image.path.name, "change": change, "columns": columns}


def pixels_of(image: ImageRecord) -> np.ndarray:
    """The image's file, if it has the size that the data say."""
    pixels = read_image(image.path)
    if pixels.shape[:2] != (image.height, image.width):
        found = f"{pixels.shape[1]} x {pixels.shape[0]}"
        message = f"{image.path} has {found} pixels where its annotations say {image.width} x {image.height}"
        raise ImageError(message, file=image.path)
    return pixels


def _column(label: str, score: str, upper: np.ndarray, lower: np.ndarray) -> dict[str, Any]:
    pictures = [embedded(f"{label}, {what}", picture, 84) for what, picture in (("mask", upper), ("band", lower))]
    return {"label": label, "score": score, "pictures": pictures}


def _rgb(stroke: str) -> Colour:
    red, green, blue = bytes.fromhex(stroke[1:])
    return red, green, blue


def _css(colour: Colour) -> str:
    return "#" + bytes(colour).hex()


def _short(name: str) -> str:
    """Name of a width, as people write it."""
    return name.replace("px", " px").replace("%", " %")
