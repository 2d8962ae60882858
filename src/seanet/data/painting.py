"""Ground, colours, textures and light of the synthetic scenes.  Colours are float32 RGB of 0..255, h x w pixels."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from seanet.errors import ImageError

Rng = np.random.Generator
Span = tuple[float, float]


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return (255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))).astype(np.float32)


def vivid(rng: Rng, others: list[np.ndarray]) -> np.ndarray:
    """The one of five bright colours that is farthest from the ground and the other objects."""
    options = [_hsv(rng.random(), rng.uniform(0.35, 0.72), rng.uniform(0.6, 0.95)) for _ in range(5)]
    return max(options, key=lambda colour: min(float(np.abs(colour - other).sum()) for other in others))


def near(rng: Rng, others: list[np.ndarray]) -> np.ndarray:
    return np.clip(others[rng.integers(len(others))] + rng.uniform(-22, 22, 3), 15, 245).astype(np.float32)


def _grow(grid: np.ndarray, w: int, h: int) -> np.ndarray:
    return np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC))


def _clouds(rng: Rng, h: int, w: int, coarse: int, octaves: int) -> np.ndarray:
    """(h, w) float32 noise of mean 0 and about unit spread; ``coarse`` cells across, doubled with each octave."""
    total = np.zeros((h, w), np.float32)
    for octave in range(octaves):
        cells = coarse * 2**octave
        grid = rng.standard_normal((min(cells + 2, h), min(cells + 2, w)), np.float32)
        total += _grow(grid, w, h) * np.float32(0.6**octave)
    return total / np.float32(1.1)


def ground(rng: Rng, size: int, photographs: tuple[Path, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) float32 picture without objects, and its mean colour."""
    if photographs:
        picture = _photograph(rng, photographs[rng.integers(len(photographs))], size)
        return picture, picture.mean((0, 1))
    hue, value = rng.random(), rng.uniform(0.35, 0.9)
    first = _hsv(hue, rng.uniform(0.05, 0.35), value)
    second = _hsv(
        hue + rng.uniform(-0.12, 0.12), rng.uniform(0.05, 0.4), np.clip(value + rng.uniform(-0.25, 0.25), 0.25, 0.95)
    )
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope = np.float32(math.cos(turn)) * ramp + np.float32(math.sin(turn)) * ramp[:, None]
    mix = 0.5 + 0.3 * slope * rng.random(dtype=np.float32) + 0.22 * _clouds(rng, size, size, int(rng.integers(2, 7)), 4)
    picture = first + np.clip(mix, 0, 1)[..., None] * (second - first)
    if rng.random() < 0.35:
        picture *= (
            1 + np.float32(rng.uniform(0.02, 0.07)) * _pattern(rng, size, size, size / rng.uniform(6, 16))[..., None]
        )
    return picture, (first + second) / 2


def _photograph(rng: Rng, file: Path, size: int) -> np.ndarray:
    """A random square window of a photograph, at least half its shorter side."""
    try:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
    except OSError as error:
        raise ImageError(f"{file} cannot be read as an image: {error}", file=file) from error
    side = min(picture.size) * rng.uniform(0.5, 1.0)
    x, y = (rng.uniform(0, extent - side) for extent in picture.size)
    window = picture.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
    return np.asarray(window, np.float32).copy()


def _pattern(rng: Rng, h: int, w: int, period: float) -> np.ndarray:
    """(h, w) float32 stripes, checks or dots in -1..1, softened over about a pixel."""
    turn = rng.uniform(0, np.pi)
    x = np.arange(w, dtype=np.float32) * np.float32(2 * np.pi / period)
    y = np.arange(h, dtype=np.float32)[:, None] * np.float32(2 * np.pi / period)
    c, s = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    u, v = np.sin(c * x + s * y), np.sin(c * y - s * x)
    kind = rng.integers(3)
    wave = u if kind == 0 else u * v if kind == 1 else np.maximum(u + v - 0.9, -0.6)
    return np.clip(wave * np.float32(period / 4), -1, 1)


def paint(
    rng: Rng, canvas: np.ndarray, cover: np.ndarray, x: int, y: int, colour: np.ndarray, textured: float, shadow: float
) -> None:
    """Put an object's shadow and the object onto the canvas."""
    h, w = cover.shape
    _shade(rng, canvas, cover, x, y, shadow)
    skin = np.broadcast_to(colour, (h, w, 3))
    if rng.random() < textured:
        other = np.clip(colour * rng.uniform(0.55, 0.8) if rng.random() < 0.5 else colour + rng.uniform(25, 60), 0, 255)
        clouds = rng.random() < 0.3
        wave = _clouds(rng, h, w, int(rng.integers(2, 6)), 3) if clouds else _pattern(rng, h, w, rng.uniform(7, 20))
        skin = colour + np.clip(0.5 + 0.5 * wave, 0, 1)[..., None] * (other.astype(np.float32) - colour)
    # Light from the upper left, and a grain that keeps plain objects from being flat.
    light = np.linspace(0.11, -0.11, w, dtype=np.float32) + np.linspace(0.11, -0.11, h, dtype=np.float32)[:, None]
    light += 0.035 * _clouds(rng, h, w, 8, 2)
    box = canvas[y : y + h, x : x + w]
    box += cover[..., None] * (skin * (1 + light[..., None]) - box)


def _shade(rng: Rng, canvas: np.ndarray, cover: np.ndarray, x: int, y: int, strength: float) -> None:
    """Darken what lies under a blurred copy of the object, a little down and to the right."""
    radius = max(1.5, 0.03 * max(cover.shape))
    pad, step = math.ceil(3 * radius), round(radius)
    soft = Image.fromarray((np.pad(cover, pad) * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(radius))
    soft = np.asarray(soft.filter(ImageFilter.BoxBlur(radius)), np.float32)
    x, y = x - pad + step, y - pad + step
    box = canvas[max(y, 0) : y + soft.shape[0], max(x, 0) : x + soft.shape[1]]
    soft = soft[max(-y, 0) :, max(-x, 0) :][: box.shape[0], : box.shape[1]]
    box *= 1 - soft[..., None] * np.float32(strength * rng.uniform(0.6, 1.0) / 255)


def expose(rng: Rng, canvas: np.ndarray, noise: Span, blur: Span) -> np.ndarray:
    """Blur and noise of a camera; (h, w, 3) uint8."""
    grain = rng.standard_normal(canvas.shape[:2], np.float32)[..., None] * np.float32(rng.uniform(*noise))
    image = Image.fromarray(np.clip(canvas + grain, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(*blur))))
