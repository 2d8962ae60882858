"""Synthetic scenes: textured shapes that touch, overlap and hide each other, and which pixel belongs to which.

Classes differ by outline alone, never by colour or texture, so that what a detector learns of them is their boundary.
A pixel belongs to the topmost object that covers half of it.  h x w pixels of the image.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seanet.data.outlines import OUTLINES, coverage, pose
from seanet.data.painting import expose, ground, near, paint, vivid

SPLITS = ("train", "val")

Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """How hard the images are.  Ranges are drawn from evenly; shares are probabilities."""

    classes: tuple[str, ...] = ("ring", "star", "fork", "crescent", "blob")
    objects: tuple[int, int] = (2, 5)
    """Objects of an image; one that finds no room is left out."""
    sides: tuple[float, float] = (0.18, 0.52)
    """Longer side of an object, as a share of the image's."""
    together: float = 0.5
    """Objects that are put against, or onto, another one."""
    visible: float = 0.5
    """Least share of an object that the objects over it and the frame leave."""
    alike: float = 0.2
    """Objects in nearly the colour of the ground or of another object."""
    textured: float = 0.75
    """Objects with stripes, checks, dots or clouds; the others are plain."""
    shadow: float = 0.45
    """Darkest part of the shadow that an object throws."""
    blur: tuple[float, float] = (0.0, 0.6)
    """Radius in pixels of the blur of the whole image."""
    noise: tuple[float, float] = (0.0, 5.0)
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
    owner = np.zeros((size, size), np.int16)
    labels, placed, colours = [], [], [colour]
    for _ in range(rng.integers(scene.objects[0], scene.objects[1] + 1)):
        label = scene.classes[rng.integers(len(scene.classes))]
        found = _place(rng, label, owner, placed, scene)
        if found is None:
            continue
        colours.append(near(rng, colours) if rng.random() < scene.alike else vivid(rng, colours))
        paint(rng, canvas, found.cover, found.x, found.y, colours[-1], scene.textured, scene.shadow)
        labels.append(label)
        placed.append(found)
        found.part(owner)[found.solid] = len(labels)
    return Rendered(expose(rng, canvas, scene.noise, scene.blur), owner, labels)


@dataclass(frozen=True)
class Placed:
    """An object where it goes; its cover begins at the column x and the row y."""

    centre: np.ndarray  # (2,) x, y
    side: float
    x: int
    y: int
    cover: np.ndarray  # (h, w) float32, share of each pixel

    @property
    def solid(self) -> np.ndarray:
        """(h, w) bool: its own pixels where nothing hides them."""
        return self.cover >= 0.5

    def part(self, image: np.ndarray) -> np.ndarray:
        """What of an image lies under the cover."""
        h, w = self.cover.shape
        return image[self.y : self.y + h, self.x : self.x + w]


def _place(rng: Rng, label: str, owner: np.ndarray, placed: list[Placed], scene: Scene) -> Placed | None:
    """A new object that leaves enough of all objects in sight; None: no room."""
    size = len(owner)
    side = size * rng.uniform(*scene.sides)
    outline = pose(rng, OUTLINES[label](rng), side)
    full = float((coverage(outline, np.full(2, side), math.ceil(2 * side))[2] >= 0.5).sum())
    whole = np.array([one.solid.sum() for one in placed])
    for _ in range(12):
        centre = _beside(rng, placed, side, size, scene)
        found = Placed(centre, side, *coverage(outline, centre, size))
        if found.solid.sum() < max(scene.visible, 0.6) * full:
            continue
        after = owner.copy()
        found.part(after)[found.solid] = -1
        left = np.bincount(after[after > 0], minlength=len(placed) + 1)[1:]
        if (left >= scene.visible * whole).all():
            return found
    return None


def _beside(rng: Rng, placed: list[Placed], side: float, size: int, scene: Scene) -> np.ndarray:
    """A centre anywhere, or so near another object that the two touch or overlap."""
    margin = 0.4 * side
    anywhere = rng.uniform(min(margin, size / 2), max(size - margin, size / 2), 2)
    if not placed or rng.random() >= scene.together:
        return anywhere
    other = placed[rng.integers(len(placed))]
    turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.0) * (side + other.side) / 2
    return other.centre + reach * np.array([math.cos(turn), math.sin(turn)])
