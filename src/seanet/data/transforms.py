"""From an image file's pixels and annotations to what the network sees: one resampling, one drawing of each outline.

Cropping, scaling and mirroring are drawn first, as one ``View``; then the image is resampled once and the corners of
polygons are moved as coordinates and drawn at the network's resolution, so that no boundary is resampled.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance

from seanet.config import Data
from seanet.data import bitmaps
from seanet.data.bitmaps import Bitmap
from seanet.data.records import Annotation, ImageRecord, to_bitmap

SPARE = 1.5  # pixels of a reduced file for one of the network: with fewer, reducing shows in what the network sees


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its G objects in pixels of the network's image; masks stay in their windows."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    boxes: np.ndarray  # (G, 4) float32 xyxy
    labels: np.ndarray  # (G,) int64 in 1..K
    masks: tuple[Bitmap, ...]  # G, none of them empty
    id: int
    seed: int = 0  # of all that is drawn at random for this image

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class View:
    """A window of the file, xyxy in its pixels, stretched to ``height`` x ``width`` and then perhaps mirrored."""

    window: tuple[float, float, float, float]
    height: int
    width: int
    flip: bool = False

    @property
    def scale(self) -> np.ndarray:
        """(2,) pixels of the network for one of the file, along x and y."""
        x0, y0, x1, y1 = self.window
        return np.array([self.width / (x1 - x0), self.height / (y1 - y0)])

    def points(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) float64 x, y in the file -> in the network's image."""
        moved = (points - self.window[:2]) * self.scale
        if self.flip:
            moved[:, 0] = self.width - moved[:, 0]
        return moved

    def box(self, box: tuple[float, float, float, float]) -> np.ndarray:
        """(4,) xyxy in the file -> in the network's image, maybe past its edges."""
        corners = self.points(np.array(box, np.float64).reshape(2, 2))
        return np.concatenate([corners.min(0), corners.max(0)])

    def short_side(self, height: int, width: int) -> int:
        """What a height x width file may be reduced to for this view: ``SPARE`` pixels for each of the network's."""
        return math.ceil(SPARE * float(self.scale.max()) * min(height, width))

    def pixels(self, image: np.ndarray, reduced: int = 1) -> np.ndarray:
        """(H, W, 3) uint8 of the file, with sides a whole ``reduced`` times smaller -> (height, width, 3), antialiased."""
        picture = Image.fromarray(image)
        x0, y0, x1, y1 = (side / reduced for side in self.window)
        window = x0, y0, x1, y1
        if (*window, self.width, self.height) != (0, 0, *picture.size, *picture.size):
            picture = picture.resize((self.width, self.height), Image.Resampling.BILINEAR, box=window)
        seen = np.array(picture)
        return np.ascontiguousarray(seen[:, ::-1]) if self.flip else seen

    def mask(self, annotation: Annotation, height: int, width: int) -> Bitmap:
        """Mask of an object of a height x width file; empty if the view leaves nothing of it."""
        if isinstance(annotation.segmentation, dict):
            return self._resample(to_bitmap(annotation, height, width))
        rings = (self.points(ring.reshape(-1, 2)).ravel() for ring in annotation.segmentation)
        rings = (bitmaps.clip_ring(ring, self.height, self.width) for ring in rings)
        return bitmaps.rasterise([ring for ring in rings if len(ring) >= 6], self.height, self.width)

    def _resample(self, mask: Bitmap) -> Bitmap:
        """A mask of the file's pixels at the network's resolution: pixels that it covers at least half."""
        upright = replace(self, flip=False)
        left, top, right, bottom = upright.box(mask.window)
        x0, y0 = max(int(np.floor(left)), 0), max(int(np.floor(top)), 0)
        x1, y1 = min(int(np.ceil(right)), self.width), min(int(np.ceil(bottom)), self.height)
        if x0 >= x1 or y0 >= y1:
            return bitmaps.EMPTY
        (sx0, sy0), (sx1, sy1) = np.array([[x0, y0], [x1, y1]]) / self.scale + self.window[:2]
        source = mask.cut(int(np.floor(sx0)), int(np.floor(sy0)), int(np.ceil(sx1)), int(np.ceil(sy1)))
        h, w = source.bits.shape
        box = (sx0 - source.x0, sy0 - source.y0, min(sx1 - source.x0, w), min(sy1 - source.y0, h))
        cover = Image.fromarray(source.bits * 255).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=box)
        bits = (np.asarray(cover) >= 128).view(np.uint8)
        if self.flip:
            bits, x0 = bits[:, ::-1], self.width - x1
        return Bitmap(bits, x0, y0).tight()


def fit(image: np.ndarray, config: Data) -> np.ndarray:
    """An image, (H, W, 3) uint8, at the size for prediction; sides of the file / sides of the result lead back."""
    return whole_view(*image.shape[:2], config).pixels(image)


def fitted(height: float, width: float, short_side: int, long_side: int) -> tuple[int, int]:
    """(height, width) with that short side, or with that long side where it would be exceeded; at least one pixel."""
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)


def whole_view(height: int, width: int, config: Data) -> View:
    """What prediction sees of a file: all of it."""
    return View((0, 0, width, height), *fitted(height, width, config.short_sides[-1], config.long_side))


def random_view(height: int, width: int, config: Data, rng: np.random.Generator) -> View:
    """What training sees of a file."""
    window = (0.0, 0.0, float(width), float(height))
    if rng.random() < config.crop:
        window = _random_window(window, rng.uniform(0.5, 1, 2), rng)
    sides = window[3] - window[1], window[2] - window[0]
    size = fitted(*sides, int(rng.choice(config.short_sides)), config.long_side)
    if config.jitter is not None:
        factor = rng.uniform(*config.jitter)
        if factor > 1:
            window = _random_window(window, np.full(2, 1 / factor), rng)
        else:
            size = tuple(max(round(side * factor), 1) for side in size)
    return View(window, *size, flip=bool(rng.random() < config.flip))


def _random_window(window: tuple, shares: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A window anywhere inside another, with these shares (2,) of its width and height."""
    low, high = np.array(window[:2]), np.array(window[2:])
    size = (high - low) * shares
    start = low + (high - low - size) * rng.random(2)
    return *start.tolist(), *np.minimum(start + size, high).tolist()


def see(image: np.ndarray, record: ImageRecord, view: View, seed: int = 0) -> Sample:
    """A file, (H, W, 3) uint8, with its objects through a view; crowds and objects without a pixel are left out.

    The file may have been reduced as it was decoded: the record tells its true size.
    """
    objects = (a for a in record.annotations if not a.crowd)
    found = ((a.label, view.box(a.box), view.mask(a, record.height, record.width)) for a in objects)
    return _sample(view.pixels(image, record.width // image.shape[1]), found, record.id, seed)


def _sample(image: np.ndarray, objects: Iterable[tuple[int, np.ndarray, Bitmap]], id: int, seed: int) -> Sample:
    kept = [(label, _agreed(box, mask), mask) for label, box, mask in objects if mask.bits.size]
    height, width = image.shape[:2]
    boxes = np.array([box for _, box, _ in kept], np.float64).reshape(-1, 4).clip(0, (width, height) * 2)
    labels = np.array([label for label, _, _ in kept], np.int64)
    return Sample(image, boxes.astype(np.float32), labels, tuple(mask for _, _, mask in kept), id, seed)


def _agreed(box: np.ndarray, mask: Bitmap) -> np.ndarray:
    """(4,) box of a mask: where the annotation is within a pixel of the mask it knows a side's fraction of a pixel."""
    window = np.array(mask.window, np.float64)
    return np.where(np.abs(box - window) <= 1, box, window)


def vary_colour(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation, each times 1 - strength .. 1 + strength; (H, W, 3) uint8."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    picture = Image.fromarray(image)
    grey = np.asarray(picture.convert("L")).mean() * brightness
    levels = (np.arange(256) * brightness - grey) * contrast + grey
    picture = picture.point(np.clip(np.rint(levels), 0, 255).astype(int).tolist() * 3)
    return np.array(ImageEnhance.Color(picture).enhance(saturation))


def paste(below: Sample, above: Sample, rng: np.random.Generator) -> Sample:
    """Copy some objects of ``above``, at least one, onto ``below``; what they hide leaves its objects' masks."""
    height, width = below.image.shape[:2]
    chosen = np.flatnonzero(rng.random(len(above)) < 0.5)
    if not len(chosen) and len(above):
        chosen = rng.integers(len(above), size=1)
    image, hidden = below.image.copy(), np.zeros((height, width), np.uint8)
    pasted = []
    for i in chosen:
        mask = _framed(above.masks[i], height, width)
        x0, y0, x1, y1 = mask.window
        bits = mask.bits.astype(bool)
        image[y0:y1, x0:x1][bits] = above.image[y0:y1, x0:x1][bits]
        hidden[y0:y1, x0:x1] |= mask.bits
        pasted.append((int(above.labels[i]), above.boxes[i].astype(np.float64), mask))
    kept = ((int(below.labels[i]), below.boxes[i], _without(mask, hidden)) for i, mask in enumerate(below.masks))
    return _sample(image, [*kept, *pasted], below.id, below.seed)


def _framed(mask: Bitmap, height: int, width: int) -> Bitmap:
    """What of a mask lies inside an image."""
    x0, y0, x1, y1 = mask.window
    inside = mask.cut(x0, y0, max(min(x1, width), x0), max(min(y1, height), y0))
    return inside if inside.bits.shape == mask.bits.shape else inside.tight()


def _without(mask: Bitmap, hidden: np.ndarray) -> Bitmap:
    """A mask less the pixels set in (H, W) ``hidden``."""
    x0, y0, x1, y1 = mask.window
    return Bitmap(mask.bits & (1 - hidden[y0:y1, x0:x1]), x0, y0).tight()
