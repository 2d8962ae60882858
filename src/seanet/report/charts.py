"""Charts as SVG text that stands in a page: no scripts, no other file, colours that can be read on light and dark."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

Point = tuple[float, float]
Size = tuple[int, int]

# Middle tones that can be read on white and on nearly black.
STROKES = ("#2f8fd0", "#e0791b", "#1a9f78", "#c569a0", "#a98f00", "#8a6fd8", "#d05555", "#7a8794")
SIZE = (560, 300)  # width and height
LEFT, RIGHT, BOTTOM = 58, 14, 44  # margins around the plot
LINE = 13  # height of a name above its bar
PLAIN = 'stroke="currentColor" stroke-width="1.5" opacity=".5"'  # of lines that are no series
LIMIT = 300  # points of a drawn line
NAMES, BAR, GAP = 118, 11, 9  # of a bar chart: room for names, thickness, space between groups


def line_chart(
    series: Mapping[str, Sequence[Point]],
    title: str,
    x_label: str = "",
    y_label: str = "",
    *,
    size: Size = SIZE,
    up_to: Point | None = None,
    marked: bool = False,
    diagonal: str = "",
) -> str:
    """An SVG of one line for each named series of (x, y); points that are not finite are left out.

    Series of more than 300 points are drawn as means of neighbouring ones.  Axes reach from 0 to ``up_to`` where it is
    given; ``marked`` puts a dot on each point; ``diagonal`` names a dashed line
    between the opposite corners of such axes.
    """
    lines = {name: _thinned(points) for name, points in series.items()}
    legend, top = _legend([*lines, *([diagonal] if diagonal else [])], size[0], plain=diagonal)
    limits = [] if up_to is None else [np.array([(0.0, 0.0), up_to])]
    place, x_ticks, y_ticks = _scales(np.concatenate([*lines.values(), *limits, np.empty((0, 2))]), top, size)
    parts = [*_head(title, size), *legend, *_axes(place, x_ticks, y_ticks, top, x_label, y_label, size)]
    if diagonal and up_to is not None:
        (x0, y0), (x1, y1) = place(0, 0), place(*up_to)
        parts.append(f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" {PLAIN} stroke-dasharray="5 4"/>')
    for k, points in enumerate(lines.values()):
        stroke, at = STROKES[k % len(STROKES)], [place(x, y) for x, y in points]
        if len(at) == 1 or marked:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{stroke}"/>' for x, y in at]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        dash = ' stroke-dasharray="6 3"' if k >= len(STROKES) else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"{dash}/>')
    return "".join([*parts, "</svg>"])


def bar_chart(
    groups: Mapping[str, Sequence[float]], names: Sequence[str], title: str, *, width: int = SIZE[0], form: str = ".2f"
) -> str:
    """An SVG of lying bars from 0 on: for each named group one bar for each of ``names``, its value beside it.

    Values that are not finite have no bar and read "-".  The chart is as high as its groups need.
    """
    legend, top = _legend(list(names), width)
    step = BAR * len(names) + GAP
    size = (width, top + step * len(groups) + 4)
    largest = max((v for values in groups.values() for v in values if math.isfinite(v)), default=0) or 1
    scale = (width - NAMES - RIGHT - 40) / largest
    parts = [*_head(title, size), *legend]
    for g, (name, values) in enumerate(groups.items()):
        y = top + g * step
        parts.append(
            _text(f'x="{NAMES - 8}" y="{y + (step - GAP) / 2 + 4:.1f}" text-anchor="end"', shortened(name, 17))
        )
        for k, value in enumerate(values):
            parts += _bar(value, y + k * BAR, scale, STROKES[k % len(STROKES)], form)
    parts.append(f'<path d="M{NAMES} {top - 4}V{size[1] - 4}" stroke="currentColor" opacity=".3"/>')
    return "".join([*parts, "</svg>"])


def stacked_chart(
    bars: Mapping[str, Sequence[float]], names: Sequence[str], title: str, *, width: int = SIZE[0], form: str = ".2f"
) -> str:
    """An SVG of a lying bar for each of ``bars``, made of a part for each of ``names``, with their sum beside it."""
    legend, top = _legend(list(names), width)
    step = 2 * BAR + GAP + LINE
    size = (width, top + step * len(bars) + 4)
    scale = (width - LEFT - RIGHT - 40) / (max(map(sum, bars.values()), default=0) or 1)
    parts = [*_head(title, size), *legend]
    for i, (name, values) in enumerate(bars.items()):
        x, y = float(LEFT), top + i * step + LINE
        parts.append(_text(f'x="{LEFT}" y="{y - 4}" text-anchor="start"', name))
        for k, (part, value) in enumerate(zip(names, values, strict=True)):
            long, fill = value * scale, STROKES[k % len(STROKES)]
            tip = f"<title>{escape(part)} {value:{form}}</title>"
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{long:.1f}" height="{2 * BAR}" fill="{fill}">{tip}</rect>')
            x += long
        at = f'x="{x + 5:.1f}" y="{y + BAR + 4}" font-size="10" text-anchor="start"'
        parts.append(_text(at, format(sum(values), form)))
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers, at least two and about as many as wanted, from at most ``low`` to at least ``high``."""
    if not high > low:
        pad = abs(low) / 2 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def _head(title: str, size: Size) -> list[str]:
    return [
        f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(title)}" font-family="inherit" ',
        'font-size="12" fill="currentColor">',
        f'<text x="{LEFT}" y="16" font-size="14" font-weight="600">{escape(title)}</text>',
    ]


def _legend(names: list[str], width: int, plain: str = "") -> tuple[list[str], int]:
    """Names with their strokes, in as many rows as they need, and where the plot begins below them.

    ``plain`` is the one that is no series.
    """
    parts, across, y = [], LEFT, 37
    for k, name in enumerate(names):
        wide = 34 + round(6.8 * len(name))
        if across > LEFT and across + wide > width:
            across, y = LEFT, y + 17
        if name == plain:
            parts.append(f'<path d="M{across} {y - 4}h14" {PLAIN} stroke-dasharray="5 4"/>')
        else:
            fill = STROKES[k % len(STROKES)]
            parts.append(f'<rect x="{across}" y="{y - 6}" width="14" height="4" rx="2" fill="{fill}"/>')
        parts.append(f'<text x="{across + 19}" y="{y}">{escape(name)}</text>')
        across += wide
    return parts, y + 19


def _scales(
    points: np.ndarray, top: int, size: Size
) -> tuple[Callable[[float, float], Point], list[float], list[float]]:
    """What places a point of the (n, 2) data on the chart, and the ticks of both axes."""
    if not len(points):
        points = np.array([[0.0, 0.0], [1.0, 1.0]])
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    if y0 == y1 == 0:
        y1 = 1.0
    x_ticks = ticks(x0, x1, 6)
    y_ticks = ticks(0.0 if 0 < y0 < 0.4 * y1 else y0, y1, 5)
    if x1 == x0:
        x0, x1 = x_ticks[0], x_ticks[-1]
    if (points[:, 0] % 1 == 0).all() and x1 - x0 > 1:
        x_ticks = [x for x in x_ticks if x % 1 == 0]
    across, up = (size[0] - LEFT - RIGHT) / (x1 - x0), (size[1] - top - BOTTOM) / (y_ticks[-1] - y_ticks[0])

    def place(x: float, y: float) -> Point:
        return LEFT + (x - x0) * across, size[1] - BOTTOM - (y - y_ticks[0]) * up

    return place, [x for x in x_ticks if x0 <= x <= x1], y_ticks


def _axes(
    place, x_ticks: list[float], y_ticks: list[float], top: int, x_label: str, y_label: str, size: Size
) -> list[str]:
    width, height = size
    parts, middle = [], (LEFT + width - RIGHT) / 2
    for y in y_ticks:
        level = place(0, y)[1]
        parts.append(f'<path d="M{LEFT} {level:.1f}H{width - RIGHT}" stroke="currentColor" opacity=".15"/>')
        parts.append(_text(f'x="{LEFT - 7}" y="{level + 4:.1f}" text-anchor="end"', f"{y:g}"))
    parts += [_text(f'x="{place(x, 0)[0]:.1f}" y="{height - BOTTOM + 17}"', _short(x)) for x in x_ticks]
    parts.append(_text(f'x="{middle}" y="{height - 8}"', x_label))
    parts.append(_text(f'transform="translate(13 {(top + height - BOTTOM) / 2}) rotate(-90)"', y_label))
    return parts


def _bar(value: float, y: float, scale: float, fill: str, form: str) -> list[str]:
    if not math.isfinite(value):
        return [_text(f'x="{NAMES + 5}" y="{y + 9:.1f}" font-size="10" text-anchor="start"', "-")]
    long = value * scale
    bar = f'<rect x="{NAMES}" y="{y:.1f}" width="{max(long, 0):.1f}" height="{BAR - 2}" rx="2" fill="{fill}"/>'
    at = f'x="{NAMES + long + 5:.1f}" y="{y + 9:.1f}" font-size="10" text-anchor="start"'
    return [bar, _text(at, format(value, form))]


def _text(where: str, text: str) -> str:
    anchor = "" if "text-anchor" in where else ' text-anchor="middle"'
    return f'<text {where}{anchor} opacity=".75">{escape(text)}</text>'


def shortened(name: str, limit: int) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _thinned(points: Sequence[Point]) -> np.ndarray:
    """(n, 2) finite points, at most LIMIT: means of equal runs of neighbours."""
    every = np.asarray(list(points), np.float64).reshape(-1, 2)
    finite = every[np.isfinite(every).all(1)]
    if len(finite) <= LIMIT:
        return finite
    return np.array([run.mean(0) for run in np.array_split(finite, LIMIT)])
