"""Synthetic scenes: textured shapes that touch, overlap and hide each other, and which pixel belongs to which.

Classes differ by outline alone, never by colour or texture, so that what a detector learns of them is their boundary.
A pixel belongs to the topmost object that covers half of it, however soft the object's boundary is painted.
h x w pixels of the image.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seanet.data.outlines import OUTLINES, coverage, pose
from seanet.data.painting import expose, ground, near, paint, under, vivid

SPLITS = ("train", "val")

Rng = np.random.Generator
Span = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """How hard the images are.  Ranges are drawn from evenly; shares are probabilities."""

    classes: tuple[str, ...] = ("ring", "star", "fork", "crescent", "blob")
    """What is drawn from; a class that stands here twice is drawn twice as often."""
    failure: str = ""
    """What makes masks fail in these images: a label that is written beside each image."""
    objects: tuple[int, int] = (2, 5)
    """Objects of an image; one that finds no room is left out."""
    sides: Span = (0.18, 0.52)
    """Longer side of an object, as a share of the image's."""
    squeeze: Span = (0.72, 1.0)
    """What an outline is narrowed by before it is turned."""
    together: float = 0.5
    """Objects that are put against, or onto, another one."""
    reach: Span = (0.6, 1.0)
    """How far apart such two are: distance of their centres by half the sum of their sides."""
    visible: float = 0.5
    """Least share of an object that the objects over it and the frame leave."""
    alike: float = 0.2
    """Objects in nearly the colour of the ground or of another object."""
    textured: float = 0.75
    """Objects with stripes, checks, dots or clouds; the others are plain."""
    scraps: tuple[int, int] = (0, 0)
    """Outlines of no class that lie on the ground under the objects."""
    shadow: float = 0.45
    """Darkest part of the shadow that an object throws."""
    soft: Span = (0.0, 0.0)
    """Radius of the blur of an object's boundary, as a share of the image's side."""
    blur: Span = (0.0, 0.6)
    """Radius in pixels of the blur of the whole image."""
    noise: Span = (0.0, 5.0)
    """Standard deviation of the noise of each pixel, of 255."""


@dataclass(frozen=True)
class Rendered:
    image: np.ndarray  # (h, w, 3) uint8 RGB
    owner: np.ndarray  # (h, w) int16, 0 ground, k + 1 where object k is on top
    labels: list[str]  # class of each object


def render(
    split: str,
    index: int,
    size: int = 256,
    seed: int = 0,
    scene: Scene | None = None,
    photographs: tuple[Path, ...] = (),
) -> Rendered:
    """One image of ``size`` x ``size`` pixels with its objects."""
    scene = scene or Scene()
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas, colour = ground(rng, size, photographs)
    colours = [colour]
    for _ in range(rng.integers(scene.scraps[0], scene.scraps[1] + 1)):
        _put(rng, canvas, _scrap(rng, size), colours, scene)
    labels, pile = [], _Pile(size)
    for _ in range(rng.integers(scene.objects[0], scene.objects[1] + 1)):
        label = scene.classes[rng.integers(len(scene.classes))]
        found = _place(rng, label, pile, scene)
        if found is not None:
            _put(rng, canvas, found, colours, scene)
            labels.append(label)
    return Rendered(expose(rng, canvas, scene.noise, scene.blur), pile.owner, labels)


@dataclass(frozen=True)
class Placed:
    """An object where it goes; its cover begins at the column x and the row y, and may leave the image."""

    centre: np.ndarray  # (2,) x, y
    side: float
    x: int
    y: int
    cover: np.ndarray  # (h, w) float32, share of each pixel


class _Pile:
    """The objects of an image so far, and which pixels each of them still shows."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.owner = np.zeros((size, size), np.int16)
        self.placed: list[Placed] = []
        self.whole = np.zeros(1, int)  # pixels of each owner, 0 the ground
        self.shown = np.zeros(1, int)

    def put(self, new: Placed, visible: float, full: int) -> bool:
        """Lay an object of ``full`` pixels on top, unless it or another one would show too little."""
        part, (top, left) = under(self.owner, new.x, new.y, *new.cover.shape)
        solid = new.cover[top : top + part.shape[0], left : left + part.shape[1]] >= 0.5
        pixels = int(solid.sum())
        if pixels < max(visible, 0.6) * full:
            return False
        shown = self.shown - np.bincount(part[solid], minlength=len(self.shown))
        if (shown[1:] < visible * self.whole[1:]).any():
            return False
        part[solid] = len(self.placed) + 1
        self.placed.append(new)
        self.whole, self.shown = np.append(self.whole, pixels), np.append(shown, pixels)
        return True


def _place(rng: Rng, label: str, pile: _Pile, scene: Scene) -> Placed | None:
    """A new object that leaves enough of all objects in sight; None: no room."""
    side = pile.size * rng.uniform(*scene.sides)
    outline = pose(rng, OUTLINES[label](rng), side, scene.squeeze)
    shift = rng.random(2)  # of a pixel
    left, top, cover = coverage([ring + shift for ring in outline])
    full = int((cover >= 0.5).sum())
    for _ in range(12):
        at = np.floor(_beside(rng, pile.placed, side, pile.size, scene)).astype(int)
        found = Placed(at + shift, side, int(at[0]) + left, int(at[1]) + top, cover)
        if full and pile.put(found, scene.visible, full):
            return found
    return None


def _beside(rng: Rng, placed: list[Placed], side: float, size: int, scene: Scene) -> np.ndarray:
    """A centre anywhere, or so near another object that the two touch or overlap."""
    margin = 0.4 * side
    anywhere = rng.uniform(min(margin, size / 2), max(size - margin, size / 2), 2)
    if not placed or rng.random() >= scene.together:
        return anywhere
    other = placed[rng.integers(len(placed))]
    turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(*scene.reach) * (side + other.side) / 2
    return other.centre + reach * np.array([math.cos(turn), math.sin(turn)])


def _scrap(rng: Rng, size: int) -> Placed:
    """A random polygon, some as thin as a stick, anywhere."""
    corners = int(rng.integers(3, 7))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.5, 1.0, (corners, 1))
    side = size * rng.uniform(0.06, 0.3)
    outline = pose(rng, [points], side, (0.08, 1.0))
    centre = rng.integers(0, size, 2)
    left, top, cover = coverage(outline)
    return Placed(centre, side, int(centre[0]) + left, int(centre[1]) + top, cover)


def _put(rng: Rng, canvas: np.ndarray, one: Placed, colours: list[np.ndarray], scene: Scene) -> None:
    """Paint it in a colour of its own, which joins ``colours``."""
    colours.append(near(rng, colours) if rng.random() < scene.alike else vivid(rng, colours))
    radius = canvas.shape[1] * rng.uniform(*scene.soft)
    paint(rng, canvas, one.cover, one.x, one.y, colours[-1], scene.textured, scene.shadow, radius)
