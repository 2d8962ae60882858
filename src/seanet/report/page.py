"""One HTML file with numbers, charts and rows of pictures that needs no network and no other file."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from seanet.report.draw import encoded
from seanet.report.files import write_whole

Picture = Image.Image | np.ndarray
Point = tuple[float, float]

# Middle tones that can be read on white and on nearly black.
STROKES = ("#2f8fd0", "#e0791b", "#1a9f78", "#c569a0", "#a98f00", "#8a6fd8", "#d05555", "#7a8794")
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, BOTTOM = 58, 14, 44  # margins around the plot
LIMIT = 300  # points of a drawn line


def write_page(
    path: Path | str,
    title: str,
    summary: Sequence[tuple[str, object]] = (),
    rows: Sequence[Sequence[tuple[str, Picture]]] = (),
    notes: Sequence[str] = (),
    charts: Sequence[str] = (),
) -> Path:
    """Write the page: title, ``summary`` as tiles, ``notes`` as paragraphs, charts, then rows of captioned pictures.

    Pictures are PIL images or (h, w[, 3]) uint8 arrays; charts are SVG text, trusted as it is, all else is escaped.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    template = files("seanet.report").joinpath("page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    text = page.render(
        title=title,
        summary=summary,
        notes=notes,
        charts=[Markup(chart) for chart in charts],
        rows=[[_embedded(caption, picture) for caption, picture in row] for row in rows],
    )
    return write_whole(path, text.encode("utf-8"))


def line_chart(series: Mapping[str, Sequence[Point]], title: str, x_label: str = "", y_label: str = "") -> str:
    """An SVG of one line for each named series of (x, y); points that are not finite are left out.

    Series of more than 300 points are drawn as means of neighbouring ones.
    """
    lines = {name: _thinned(points) for name, points in series.items()}
    legend, top = _legend(list(lines))
    place, x_ticks, y_ticks = _scales(np.concatenate([*lines.values(), np.empty((0, 2))]), top)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" font-family="inherit" ',
        'font-size="12" fill="currentColor">',
        f'<text x="{LEFT}" y="16" font-size="14" font-weight="600">{escape(title)}</text>',
        *legend,
        *_axes(place, x_ticks, y_ticks, top, x_label, y_label),
    ]
    for k, points in enumerate(lines.values()):
        stroke, at = STROKES[k % len(STROKES)], [place(x, y) for x, y in points]
        if len(at) == 1:
            parts.append(f'<circle cx="{at[0][0]:.1f}" cy="{at[0][1]:.1f}" r="3" fill="{stroke}"/>')
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        dash = ' stroke-dasharray="6 3"' if k >= len(STROKES) else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"{dash}/>')
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


def _legend(names: list[str]) -> tuple[list[str], int]:
    """Names with their strokes, in as many rows as they need, and where the plot begins below them."""
    parts, across, y = [], LEFT, 37
    for k, name in enumerate(names):
        wide = 34 + round(6.8 * len(name))
        if across > LEFT and across + wide > WIDTH:
            across, y = LEFT, y + 17
        parts.append(
            f'<rect x="{across}" y="{y - 6}" width="14" height="4" rx="2" fill="{STROKES[k % len(STROKES)]}"/>'
        )
        parts.append(f'<text x="{across + 19}" y="{y}">{escape(name)}</text>')
        across += wide
    return parts, y + 19


def _scales(points: np.ndarray, top: int) -> tuple[Callable[[float, float], Point], list[float], list[float]]:
    """What places a point of the (n, 2) data on the chart, and the ticks of both axes."""
    if not len(points):
        points = np.array([[0.0, 0.0], [1.0, 1.0]])
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    x_ticks = ticks(x0, x1, 6)
    y_ticks = ticks(0.0 if 0 < y0 < 0.4 * y1 else y0, y1, 5)
    if x1 == x0:
        x0, x1 = x_ticks[0], x_ticks[-1]
    if (points[:, 0] % 1 == 0).all():
        x_ticks = [x for x in x_ticks if x % 1 == 0]
    across, up = (WIDTH - LEFT - RIGHT) / (x1 - x0), (HEIGHT - top - BOTTOM) / (y_ticks[-1] - y_ticks[0])

    def place(x: float, y: float) -> Point:
        return LEFT + (x - x0) * across, HEIGHT - BOTTOM - (y - y_ticks[0]) * up

    return place, [x for x in x_ticks if x0 <= x <= x1], y_ticks


def _axes(place, x_ticks: list[float], y_ticks: list[float], top: int, x_label: str, y_label: str) -> list[str]:
    parts, middle = [], (LEFT + WIDTH - RIGHT) / 2
    for y in y_ticks:
        height = place(0, y)[1]
        parts.append(f'<path d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}" stroke="currentColor" opacity=".15"/>')
        parts.append(_text(f'x="{LEFT - 7}" y="{height + 4:.1f}" text-anchor="end"', f"{y:g}"))
    parts += [_text(f'x="{place(x, 0)[0]:.1f}" y="{HEIGHT - BOTTOM + 17}"', _short(x)) for x in x_ticks]
    parts.append(_text(f'x="{middle}" y="{HEIGHT - 8}"', x_label))
    parts.append(_text(f'transform="translate(13 {(top + HEIGHT - BOTTOM) / 2}) rotate(-90)"', y_label))
    return parts


def _text(where: str, text: str) -> str:
    anchor = "" if "text-anchor" in where else ' text-anchor="middle"'
    return f'<text {where}{anchor} opacity=".75">{escape(text)}</text>'


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _thinned(points: Sequence[Point]) -> np.ndarray:
    """(n, 2) finite points, at most LIMIT: means of equal runs of neighbours."""
    every = np.asarray(list(points), np.float64).reshape(-1, 2)
    finite = every[np.isfinite(every).all(1)]
    if len(finite) <= LIMIT:
        return finite
    return np.array([run.mean(0) for run in np.array_split(finite, LIMIT)])


def _embedded(caption: str, picture: Picture) -> dict[str, object]:
    """A picture as a data URI; JPEG where that is the smaller one and has no transparency to lose."""
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    data, kind = encoded(picture, "PNG"), "png"
    if picture.mode in ("RGB", "L"):
        jpeg = encoded(picture, "JPEG", quality=90, subsampling=0)
        data, kind = (jpeg, "jpeg") if len(jpeg) < len(data) else (data, kind)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return {"caption": caption, "source": source, "width": picture.width, "height": picture.height}
