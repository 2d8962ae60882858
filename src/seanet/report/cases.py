"""Objects on which two models differ most at the boundary, chosen and drawn.

A picture shows the surroundings of one object, enlarged to pixels one can see.  Colours: a model's own for its mask,
white for the truth's outline, and two for pixels of the truth's band that a mask labels wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from PIL import Image

from seanet.data import bitmaps
from seanet.data.bitmaps import Bitmap
from seanet.data.records import Annotation, ImageRecord
from seanet.evaluation.boundary import NAMES
from seanet.evaluation.compare import Comparison
from seanet.report.draw import Colour, outline

SIDE = 336  # pixels of a picture's longer side
MARGIN = 0.12  # around an object, as a share of its longer side
SPILL = 0.5  # how far beyond the object a mask may widen the view, as a share of its longer side
ADDED: Colour = (232, 62, 160)  # background that a mask takes for the object
MISSED: Colour = (246, 224, 60)  # object that a mask leaves out
BAND: Colour = (120, 190, 175)
LARGE = 1200  # diagonal of an image above which a band of 3 px is too thin to see


@dataclass(frozen=True)
class Case:
    row: int  # of the pairs, which are the same objects for every model
    by: float  # band accuracy of B less that of A; nan where one of them missed it


def shown_width(comparison: Comparison) -> str:
    """Name of the band's width by which cases are chosen and in which errors are drawn."""
    diagonals = [math.hypot(image.width, image.height) for image in comparison.data.images]
    return "1%" if np.median(diagonals) > LARGE else "3px"


def choose(comparison: Comparison, number: int) -> dict[str, list[Case]]:
    """At most ``number`` cases: ``gain``, ``loss``, ``only B`` and ``only A``, the most telling first.

    Gains and losses are of objects that both found and get two thirds of the places; what one group cannot fill goes to
    the others.
    """
    a, b = (c.assessment.pairs for c in comparison.contenders[:2])
    width = NAMES.index(shown_width(comparison))
    of_a, of_b = a.trimap[:, width], b.trimap[:, width]
    by = of_b - of_a
    waiting = {
        "gain": _rows(by > 0, -by),
        "loss": _rows(by < 0, by),
        "only B": _rows((a.result < 0) & np.isfinite(of_b), -of_b),
        "only A": _rows((b.result < 0) & np.isfinite(of_a), -of_a),
    }
    chosen: dict[str, list[Case]] = {name: [] for name in waiting}
    for name in cycle(("gain", "loss", "gain", "loss", "only B", "only A")):
        if not any(waiting.values()) or sum(map(len, chosen.values())) >= number:
            return chosen
        if waiting[name]:
            row = waiting[name].pop(0)
            chosen[name].append(Case(row, float(by[row])))
    raise AssertionError("a cycle does not end")


def _rows(wanted: np.ndarray, key: np.ndarray) -> list[int]:
    rows = np.flatnonzero(wanted)
    return rows[np.argsort(key[rows], kind="stable")].tolist()


def truth_of(comparison: Comparison, case: Case) -> tuple[ImageRecord, Annotation]:
    """The image of a case and its object."""
    pairs = comparison.contenders[0].assessment.pairs
    image = comparison.data.images[pairs.image[case.row]]
    return image, next(a for a in image.annotations if a.id == pairs.annotation[case.row])


def found_by(comparison: Comparison, model: int, case: Case) -> Bitmap:
    """A model's mask of the object, empty if it missed it."""
    assessment = comparison.contenders[model].assessment
    row = assessment.pairs.result[case.row]
    if row < 0:
        return bitmaps.EMPTY
    segmentation = assessment.entries[assessment.pairs.image[case.row]][row]["segmentation"]
    return bitmaps.runs_to_bitmap(bitmaps.runs_of(segmentation), segmentation["size"][0])


@dataclass(frozen=True)
class View:
    """A window of an image, xyxy, and the picture that it becomes."""

    window: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        wide, high = self.window[2] - self.window[0], self.window[3] - self.window[1]
        scale = SIDE / max(wide, high)
        return max(1, round(wide * scale)), max(1, round(high * scale))

    def photo(self, pixels: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = self.window
        cut = Image.fromarray(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
        return np.array(cut.resize(self.size, Image.Resampling.BICUBIC))

    def bits(self, mask: Bitmap, share: float = 0.5) -> np.ndarray:
        """A mask in pixels of the picture; where those are larger than the image's, set if ``share`` of one is."""
        cut = Image.fromarray(mask.cut(*self.window).bits * np.uint8(255))
        smaller = self.size[0] < cut.width
        return (
            np.array(cut.resize(self.size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST))
            >= 255 * share
        )


def view_of(image: ImageRecord, truth: Bitmap, masks: Sequence[Bitmap]) -> View:
    """A window around the object, and a part of what masks add to it, as square as the image lets it be."""
    x0, y0, x1, y1 = truth.window
    long = max(x1 - x0, y1 - y0)
    spill = round(SPILL * long)
    for mask in masks:
        if mask.bits.size:
            a, b, c, d = mask.window
            x0, y0 = min(x0, max(a, truth.x0 - spill)), min(y0, max(b, truth.y0 - spill))
            x1, y1 = max(x1, min(c, truth.window[2] + spill)), max(y1, min(d, truth.window[3] + spill))
    side = max(x1 - x0, y1 - y0) + 2 * max(6, round(MARGIN * long))
    left, right = _centred((x0 + x1) / 2, side, image.width)
    top, bottom = _centred((y0 + y1) / 2, side, image.height)
    return View((left, top, right, bottom))


def _centred(middle: float, side: int, limit: int) -> tuple[int, int]:
    """An interval of that length around a point, moved and cut to lie in 0..limit."""
    first = min(max(round(middle - side / 2), 0), max(limit - side, 0))
    return first, min(first + side, limit)


def rim(bits: np.ndarray, width: int = 1) -> np.ndarray:
    """The outline of a mask in a picture that may cut it: the picture's frame is no edge."""
    return outline(bits, width, frame=False)


def mask_picture(photo: np.ndarray, bits: np.ndarray, colour: Colour) -> np.ndarray:
    """The photo with a tinted, outlined mask."""
    drawn = photo.copy()
    drawn[bits] = (drawn[bits] * 0.6 + np.multiply(colour, 0.4)).round().astype(np.uint8)
    drawn[rim(bits, 2)] = colour
    return drawn


def truth_picture(photo: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The photo with the truth's outline, white on a dark rim so that it shows on any ground."""
    drawn = photo.copy()
    drawn[rim(~truth)] = 0
    drawn[rim(truth, 2)] = 255
    return drawn


def band_picture(photo: np.ndarray, truth: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The band in which errors count."""
    drawn = _dim(photo)
    drawn[near] = (drawn[near] * 0.45 + np.multiply(BAND, 0.55)).round().astype(np.uint8)
    drawn[rim(truth)] = 255
    return drawn


def error_picture(photo: np.ndarray, truth: np.ndarray, near: np.ndarray, added: np.ndarray, missed: np.ndarray):
    """What of the band a mask labels wrong, over the dimmed photo; ``near`` is the band."""
    drawn = _dim(photo)
    drawn[near] = np.minimum(drawn[near] * 1.6 + 18, 255).astype(np.uint8)
    drawn[added], drawn[missed] = ADDED, MISSED
    drawn[rim(truth)] = 255
    return drawn


def _dim(photo: np.ndarray) -> np.ndarray:
    grey = np.asarray(Image.fromarray(photo).convert("L"), np.float32)[..., None]
    return np.repeat(grey * 0.42 + 12, 3, 2).round().astype(np.uint8)


def wrong(truth: Bitmap, found: Bitmap, near: Bitmap) -> tuple[Bitmap, Bitmap]:
    """Pixels of the band ``near`` that a mask adds to the object, and those that it misses."""
    window = near.window
    inside, said, within = (mask.cut(*window).bits.astype(bool) for mask in (truth, found, near))
    added, missed = within & said & ~inside, within & inside & ~said
    return Bitmap(added.view(np.uint8), near.x0, near.y0), Bitmap(missed.view(np.uint8), near.x0, near.y0)
