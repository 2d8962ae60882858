"""One HTML file with numbers, charts and rows of pictures that needs no network and no other file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from seanet.report.draw import encoded
from seanet.report.files import write_whole

Picture = Image.Image | np.ndarray


@dataclass(frozen=True)
class Table:
    """Text in rows as long as ``head``; what follows the first column stands to the right."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_page(
    path: Path | str,
    title: str,
    summary: Sequence[tuple[str, object]] = (),
    rows: Sequence[Sequence[tuple[str, Picture]]] = (),
    notes: Sequence[str] = (),
    charts: Sequence[str] = (),
    tables: Sequence[Table] = (),
) -> Path:
    """Write the page: title, ``summary`` as tiles, ``notes`` as paragraphs, rows of captioned pictures, charts, tables.

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
        tables=tables,
        rows=[[embedded(caption, picture) for caption, picture in row] for row in rows],
    )
    return write_whole(path, text.encode("utf-8"))


def embedded(caption: str, picture: Picture, quality: int = 90) -> dict[str, object]:
    """A picture as a data URI; JPEG where that is the smaller one and has no transparency to lose."""
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    data, kind = encoded(picture, "PNG"), "png"
    if picture.mode in ("RGB", "L"):
        jpeg = encoded(picture, "JPEG", quality=quality, subsampling=0)
        data, kind = (jpeg, "jpeg") if len(jpeg) < len(data) else (data, kind)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return {"caption": caption, "source": source, "width": picture.width, "height": picture.height}
