"""Pictures of the results page: examples of each failure, and objects on which two rows differ, chosen by a rule.

Gains and losses are the objects found by both whose band accuracy (3 px) differs most; of an image at most one.  Beside
them stands a sample of all objects, drawn by a seed, that nobody has chosen.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from experiment.differences import LIMIT, failures
from PIL import Image, ImageDraw, ImageFont

from seanet.data.coco import CocoData
from seanet.data.images import read_image
from seanet.data.records import ImageRecord, to_bitmap
from seanet.evaluation.assess import assess
from seanet.evaluation.boundary import NAMES
from seanet.evaluation.compare import Comparison, Contender
from seanet.evaluation.results import read_results
from seanet.report.cases import Case, found_by, mask_picture, truth_of, truth_picture, view_of
from seanet.report.draw import PALETTE, Local, encoded, overlay
from seanet.report.files import write_whole

WIDTH = "3px"
EACH = 4  # objects of a sheet
SAMPLE_SEED = 0
CELL, HEAD, GAP = 240, 22, 6  # px
COLOURS = ((224, 121, 27), (47, 143, 208))  # of A and B
QUALITY = 82
SHEETS = {"gains": "gains.jpg", "losses": "losses.jpg", "sample": "sample.jpg"}
EXAMPLES = "examples.jpg"


def write_pictures(data: CocoData, results: Mapping[str, Path], folder: Path) -> None:
    """The sheets of two rows' results, A and B by name, and the examples."""
    write_whole(folder / EXAMPLES, _jpeg(examples(data, failures(data.file))))
    compared = comparison(data, results)
    for name, cases in choose(compared).items():
        write_whole(folder / SHEETS[name], _jpeg(sheet(compared, cases)))


def comparison(data: CocoData, results: Mapping[str, Path]) -> Comparison:
    """As much of a comparison as pictures need."""
    contenders = []
    for name, path in results.items():
        measured = assess(data, read_results(path, data), LIMIT)
        contenders.append(Contender(name, path, {"kind": "results"}, measured))
    return Comparison(data, "val", tuple(contenders), (), LIMIT, 0, SAMPLE_SEED, ())


def choose(compared: Comparison) -> dict[str, list[Case]]:
    """Cases of each sheet."""
    measured = [c.assessment for c in compared.contenders]
    a, b = (m.pairs.trimap[:, NAMES.index(WIDTH)] for m in measured)
    by, image = b - a, measured[0].pairs.image
    any_object = np.random.default_rng(SAMPLE_SEED).permutation(np.flatnonzero(measured[0].pairs.outlined))
    rows = {
        "gains": [row for row in np.argsort(-by, kind="stable") if by[row] > 0],
        "losses": [row for row in np.argsort(by, kind="stable") if by[row] < 0],
        "sample": any_object,
    }
    return {name: [Case(int(row), float(by[row])) for row in _one_an_image(own, image)] for name, own in rows.items()}


def _one_an_image(rows: Sequence[int] | np.ndarray, image: np.ndarray) -> list[int]:
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(int(image[row]), int(row))
    return list(first.values())[:EACH]


def sheet(compared: Comparison, cases: Sequence[Case]) -> Image.Image:
    """A line for each case: the image, the truth's outline, the mask of A, that of B."""
    names = [c.name for c in compared.contenders]
    lines = [_line(compared, case) for case in cases]
    heads = [["image", "truth", *map(_heading, names, _accuracies(compared, case))] for case in cases]
    return _grid(lines, heads)


def _line(compared: Comparison, case: Case) -> list[np.ndarray]:
    image, annotation = truth_of(compared, case)
    truth, found = to_bitmap(annotation, image.height, image.width), [found_by(compared, m, case) for m in (0, 1)]
    view = view_of(image, truth, found)
    photo = view.photo(read_image(image.path))
    masks = [
        mask_picture(photo, view.bits(mask), colour) if mask.bits.size else photo
        for mask, colour in zip(found, COLOURS, strict=True)
    ]
    return [photo, truth_picture(photo, view.bits(truth)), *masks]


def _accuracies(compared: Comparison, case: Case) -> list[float]:
    return [float(c.assessment.pairs.trimap[case.row, NAMES.index(WIDTH)]) for c in compared.contenders]


def _heading(name: str, accuracy: float) -> str:
    return f"{name}: {100 * accuracy:.0f} %" if accuracy == accuracy else f"{name}: missed"


def examples(data: CocoData, kinds: Mapping[str, frozenset[int]]) -> Image.Image:
    """For each kind of failure its first images with their objects."""
    columns = 4
    lines, heads = [], []
    for kind, ids in kinds.items():
        images = [image for image in data.images if image.id in ids][:columns]
        lines.append([_outlined(image) for image in images])
        heads.append([kind] + [""] * (len(images) - 1))
    return _grid(lines, heads)


def _outlined(image: ImageRecord) -> np.ndarray:
    bitmaps = [to_bitmap(a, image.height, image.width) for a in image.annotations]
    masks: list[Local] = [(b.bits.astype(bool), b.x0, b.y0) for b in bitmaps]
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(masks))]
    return overlay(read_image(image.path), masks, colours=colours, alpha=0.0)


def _grid(lines: Sequence[Sequence[np.ndarray]], heads: Sequence[Sequence[str]]) -> Image.Image:
    """Pictures in cells of one size, each under its heading, on white."""
    columns = max(map(len, lines), default=1)
    size = columns * (CELL + GAP) - GAP, max(len(lines) * (HEAD + CELL + GAP) - GAP, 1)
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13.0)
    for y, (line, names) in enumerate(zip(lines, heads, strict=True)):
        for x, (picture, name) in enumerate(zip(line, names, strict=True)):
            left, top = x * (CELL + GAP), y * (HEAD + CELL + GAP)
            pen.text((left + 1, top + 3), name, fill=(20, 30, 40), font=font)
            canvas.paste(_fitted(picture), (left, top + HEAD))
    return canvas


def _fitted(picture: np.ndarray) -> Image.Image:
    shown = Image.fromarray(picture)
    scale = CELL / max(shown.size)
    sides = [max(1, round(side * scale)) for side in shown.size]
    return shown.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)


def _jpeg(picture: Image.Image) -> bytes:
    return encoded(picture, "JPEG", quality=QUALITY, optimize=True)
