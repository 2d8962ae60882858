"""Charts of the results page: differences with their intervals, as SVG files that are readable on light and dark ground."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from experiment.differences import PROFILE
from experiment.evidence import ALL, Difference, Evidence
from experiment.verdicts import BETTER, WORSE, verdict

from seanet.report.bench import standing
from seanet.report.charts import STROKES, ticks

Cell = tuple[Difference | None, str]  # with what may be said of it
Cells = Sequence[Cell]  # of one line, one for each panel
Scale = tuple[float, float]  # values at a panel's left and right end

PANEL, GAP, ALL_PANELS = 170, 30, 520  # px: of a panel and beside it, least of all panels
LETTER, BESIDE = 7.1, 26  # px: of a name's letter, and beside the name
TOP, LINE, FOOT = 62, 24, 40
COLOURS, OPEN = {BETTER: STROKES[2], WORSE: STROKES[6]}, STROKES[7]


def forest(title: str, panels: Sequence[str], lines: Mapping[str, Cells], label: str) -> str:
    """A dot for each difference with its interval, around a line at zero; panels share their scale.

    A dot is green or red where the verdict is better or worse and grey where not, hollow where one or two seeds stand
    behind it; the small strokes are single seeds.
    """
    panel = max(PANEL, ALL_PANELS // len(panels))
    names = round(LETTER * max(map(len, lines), default=0)) + BESIDE
    width = names + len(panels) * (panel + GAP)
    height = TOP + LINE * len(lines) + FOOT
    scale = _scale(lines)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" font-family="inherit" ',
        'font-size="12" fill="currentColor">',
        f'<text x="10" y="18" font-size="14" font-weight="600">{escape(title)}</text>',
    ]
    for row, name in enumerate(lines):
        parts.append(f'<text x="{names - 12}" y="{_middle(row) + 4}" text-anchor="end">{escape(name)}</text>')
    for k, name in enumerate(panels):
        parts += _panel(names + k * (panel + GAP), panel, name, [cells[k] for cells in lines.values()], scale)
    parts.append(f'<text x="10" y="{height - 6}" opacity=".75">{escape(label)}</text></svg>')
    return standing("".join(parts))


def all_pairs(evidence: Evidence, pairs: Sequence[tuple[str, str]]) -> str:
    """Every measured pair of rows in four figures."""
    keys = {"segm/AP": "mask AP", "bbox/AP": "box AP", "boundary/AP": "boundary AP", "TA@R/3px": "TA@R, 3 px"}
    known = [pair for pair in pairs if pair in evidence.pairings]
    lines = {" − ".join(pair): [_cell(evidence, *pair, key) for key in keys] for pair in known}
    return forest("Every row less the one it is compared with", [*keys.values()], lines, LABEL)


def by_band(evidence: Evidence, row: str, against: str, kinds: Sequence[str]) -> str:
    """The gain by kind of failure, in narrow and in wide bands."""
    keys = {"TA@R/1px": "TA@R, 1 px", "TA@R/3px": "TA@R, 3 px", "TA@R/8px": "TA@R, 8 px", "boundary/AP": "boundary AP"}
    lines = {kind: [_cell(evidence, row, against, key, kind) for key in keys] for kind in (ALL, *kinds)}
    return forest(f"{row} − {against}, by failure and width of the band", [*keys.values()], lines, LABEL)


def profile(evidence: Evidence, row: str, against: str) -> str:
    """The gain in mask AP by IoU."""
    lines = {f"IoU .{key[-2:]}": [_cell(evidence, row, against, key)] for key in PROFILE}
    return forest(f"{row} − {against}, by IoU", ["mask AP"], lines, LABEL)


LABEL = "Percent points, intervals of 95 %; small strokes are single seeds, hollow dots rest on fewer than three."


def _cell(evidence: Evidence, row: str, against: str, key: str, kind: str = ALL) -> Cell:
    return evidence.difference(row, against, key, kind), verdict(evidence, row, against, key, kind)


def _scale(lines: Mapping[str, Cells]) -> Scale:
    """Ends that hold zero and every interval, in percent points."""
    found = [d for cells in lines.values() for d, _ in cells if d is not None]
    ends = [100 * v for d in found for v in (*d.interval, *d.each, 0.0) if math.isfinite(v)]
    low, high = min(ends, default=-1), max(ends, default=1)
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def _panel(left: float, width: float, name: str, cells: Sequence[Cell], scale: Scale) -> list[str]:
    bottom = TOP + LINE * len(cells)
    parts = [f'<text x="{left + width / 2}" y="42" text-anchor="middle" font-weight="600">{escape(name)}</text>']
    for tick in (tick for tick in ticks(*scale, 5) if scale[0] <= tick <= scale[1]):
        x, opacity = _across(left, width, tick, scale), ".6" if tick == 0 else ".15"
        parts.append(f'<path d="M{x:.1f} {TOP - 8}V{bottom}" stroke="currentColor" opacity="{opacity}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" opacity=".75">{tick:g}</text>')
    for row, (found, said) in enumerate(cells):
        if found is not None and math.isfinite(found.by):
            parts += _mark(left, width, _middle(row), found, COLOURS.get(said, OPEN), scale)
    return parts


def _mark(left: float, width: float, y: float, found: Difference, colour: str, scale: Scale) -> list[str]:
    low, high, middle = (_across(left, width, 100 * v, scale) for v in (*found.interval, found.by))
    inside = f'fill="{colour}"' if found.both else 'fill="none"'
    parts = [f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{colour}" stroke-width="2"/>']
    for value in found.each if found.both else ():
        x = _across(left, width, 100 * value, scale)
        parts.append(f'<path d="M{x:.1f} {y - 6}v12" stroke="{colour}" opacity=".7"/>')
    dot = f'<circle cx="{middle:.1f}" cy="{y}" r="3.5" {inside} stroke="{colour}" stroke-width="2"/>'
    return [*parts, dot]


def _across(left: float, width: float, value: float, scale: Scale) -> float:
    return left + (value - scale[0]) / (scale[1] - scale[0]) * width


def _middle(row: int) -> float:
    return TOP + LINE * row + LINE / 2
