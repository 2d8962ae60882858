"""Ground, colours, textures and light of the synthetic scenes.  Colours are float32 RGB of 0..255, h x w pixels.

A canvas is (3, h, w): products with what all channels share take a third of the time that (h, w, 3) does.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from seanet.errors import ImageError

Rng = np.random.Generator
Span = tuple[float, float]

FIELD = 768  # pixels a side


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return (255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))).astype(np.float32)


def vivid(rng: Rng, others: list[np.ndarray]) -> np.ndarray:
    """The one of five bright colours that is farthest from the ground and the other objects."""
    options = [_hsv(rng.random(), rng.uniform(0.35, 0.72), rng.uniform(0.6, 0.95)) for _ in range(5)]
    return max(options, key=lambda colour: min(float(np.abs(colour - other).sum()) for other in others))


def near(rng: Rng, others: list[np.ndarray]) -> np.ndarray:
    return np.clip(others[rng.integers(len(others))] + rng.uniform(-22, 22, 3), 15, 245).astype(np.float32)


@cache
def _fields() -> tuple[np.ndarray, np.ndarray]:
    """(8, FIELD, FIELD) clouds from fine to coarse, and (FIELD, FIELD) grain; float32 of mean 0 and spread 1.

    Drawn once, and windows of them for each image: noise is half of the time otherwise.  They tile without a seam.
    """
    rng = np.random.default_rng(1)
    f = np.hypot(np.fft.fftfreq(FIELD)[:, None], np.fft.rfftfreq(FIELD)) * FIELD
    clouds = []
    for coarse in np.geomspace(12, 2, 8):
        waves = np.fft.rfft2(rng.standard_normal((FIELD, FIELD))) / (coarse**2 + f**2) ** 0.9
        waves[0, 0] = 0
        field = np.fft.irfft2(waves, (FIELD, FIELD))
        clouds.append((field / field.std()).astype(np.float32))
    return np.stack(clouds), rng.standard_normal((FIELD, FIELD), np.float32)


def _window(rng: Rng, field: np.ndarray, h: int, w: int) -> np.ndarray:
    """A random part of a field, turned over at random; larger parts are repeated."""
    y, x = rng.integers(0, FIELD, 2)
    if y + h <= FIELD and x + w <= FIELD:
        part = field[y : y + h, x : x + w]
    else:
        part = field[np.ix_((y + np.arange(h)) % FIELD, (x + np.arange(w)) % FIELD)]
    down, right = 2 * rng.integers(0, 2, 2) - 1
    return part[::down, ::right]


def _clouds(rng: Rng, h: int, w: int) -> np.ndarray:
    fields = _fields()[0]
    return _window(rng, fields[rng.integers(len(fields))], h, w)


def ground(rng: Rng, size: int, photographs: tuple[Path, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(3, h, w) float32 picture without objects, and its mean colour."""
    if photographs:
        picture = _photograph(rng, photographs[rng.integers(len(photographs))], size)
        return picture, picture.mean((1, 2))
    hue, value = rng.random(), rng.uniform(0.35, 0.9)
    first = _hsv(hue, rng.uniform(0.05, 0.35), value)
    second = _hsv(
        hue + rng.uniform(-0.12, 0.12), rng.uniform(0.05, 0.4), np.clip(value + rng.uniform(-0.25, 0.25), 0.25, 0.95)
    )
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.3, 0.3, size, dtype=np.float32) * rng.random(dtype=np.float32)
    mix = 0.24 * _clouds(rng, size, size)
    mix += 0.5 + np.float32(math.cos(turn)) * ramp + np.float32(math.sin(turn)) * ramp[:, None]
    np.clip(mix, 0, 1, mix)
    light = 1.0
    if rng.random() < 0.35:
        light = np.float32(rng.uniform(0.02, 0.07)) * _pattern(rng, size, size, size / rng.uniform(6, 16)) + 1
    return _blend(mix, first, second, light), (first + second) / 2


def _blend(mix: np.ndarray, first: np.ndarray, second: np.ndarray, light: np.ndarray | float) -> np.ndarray:
    """(3, h, w) float32 from the first colour (0) to the second (1), times the light."""
    picture = mix * (second - first)[:, None, None]
    picture += first[:, None, None]
    picture *= light
    return picture


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
    return np.asarray(window, np.float32).transpose(2, 0, 1).copy()


def _pattern(rng: Rng, h: int, w: int, period: float) -> np.ndarray:
    """(h, w) float32 stripes, checks or dots in -1..1, softened over about a pixel."""
    turn = rng.uniform(0, np.pi)
    kind = rng.integers(3)
    u = _waves(turn, h, w, period)
    if kind:
        v = _waves(turn + np.pi / 2, h, w, period)
        u = u * v if kind == 1 else np.maximum(u + v - 0.9, -0.6)
    return np.clip(u * np.float32(period / 4), -1, 1)


def _waves(turn: float, h: int, w: int, period: float) -> np.ndarray:
    """(h, w) float32 sine of the distance along a direction: sin(x + y) from the sines of columns and rows alone."""
    x = np.arange(w, dtype=np.float32) * np.float32(2 * np.pi / period * math.cos(turn))
    y = np.arange(h, dtype=np.float32)[:, None] * np.float32(2 * np.pi / period * math.sin(turn))
    return np.sin(x) * np.cos(y) + np.cos(x) * np.sin(y)


def paint(
    rng: Rng,
    canvas: np.ndarray,
    cover: np.ndarray,
    x: int,
    y: int,
    colour: np.ndarray,
    textured: float,
    shadow: float,
    soft: float = 0.0,
) -> None:
    """Put an object's shadow and the object onto the canvas, its boundary blurred by ``soft`` pixels.

    ``cover`` (h, w) begins at the column x and the row y and may leave the canvas.
    """
    if shadow > 0:
        _shade(rng, canvas, cover, x, y, shadow)
    cover, pad = _soften(cover, soft)
    h, w = cover.shape
    box, (top, left) = under(canvas, x - pad, y - pad, h, w)
    if not box.size:
        return
    cover = cover[top : top + box.shape[1], left : left + box.shape[2]]
    skin = _skin(rng, *cover.shape, colour, textured)
    skin -= box
    skin *= cover
    box += skin


def _skin(rng: Rng, h: int, w: int, colour: np.ndarray, textured: float) -> np.ndarray:
    """(3, h, w) float32 surface: light from the upper left, and a grain that keeps plain objects from being flat."""
    light = np.linspace(1.11, 0.89, w, dtype=np.float32) + np.linspace(0.11, -0.11, h, dtype=np.float32)[:, None]
    light += 0.03 * _clouds(rng, h, w)
    if rng.random() >= textured:
        return light * colour[:, None, None]
    other = np.clip(colour * rng.uniform(0.55, 0.8) if rng.random() < 0.5 else colour + rng.uniform(25, 60), 0, 255)
    wave = _clouds(rng, h, w) if rng.random() < 0.3 else _pattern(rng, h, w, rng.uniform(7, 20))
    return _blend(np.clip(0.5 + 0.5 * wave, 0, 1), colour, other.astype(np.float32), light)


def _soften(cover: np.ndarray, radius: float) -> tuple[np.ndarray, int]:
    """The cover blurred, and by how many pixels it grew on each side."""
    if radius <= 0:
        return cover, 0
    pad = math.ceil(2.5 * radius)
    wide = Image.fromarray((np.pad(cover, pad) * 255).astype(np.uint8))
    return np.asarray(wide.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255, pad


def under(canvas: np.ndarray, x: int, y: int, h: int, w: int) -> tuple[np.ndarray, tuple[int, int]]:
    """What of (..., h, w) lies under h x w pixels that begin at x, y, and the row and column of theirs it begins with."""
    top, left = max(-y, 0), max(-x, 0)
    return canvas[..., y + top : max(y + h, 0), x + left : max(x + w, 0)], (top, left)


def _shade(rng: Rng, canvas: np.ndarray, cover: np.ndarray, x: int, y: int, strength: float) -> None:
    """Darken what lies under a blurred copy of the object, a little down and to the right."""
    radius = max(1.5, 0.03 * max(cover.shape))
    pad, step = 4 * math.ceil(0.75 * radius), round(radius)
    h, w = (-(-side // 4) * 4 + 2 * pad for side in cover.shape)
    wide = np.zeros((h, w), np.uint8)
    wide[pad : pad + cover.shape[0], pad : pad + cover.shape[1]] = cover * np.float32(255)
    # It is smooth: a sixteenth of the pixels will do.
    small = Image.fromarray(wide).reduce(4).filter(ImageFilter.GaussianBlur(radius / 4))
    soft = np.asarray(small.resize((w, h), Image.Resampling.BILINEAR))
    box, (top, left) = under(canvas, x - pad + step, y - pad + step, h, w)
    if box.size:
        soft = soft[top : top + box.shape[1], left : left + box.shape[2]]
        box *= 1 - soft * np.float32(strength * rng.uniform(0.6, 1.0) / 255)


def expose(rng: Rng, canvas: np.ndarray, noise: Span, blur: Span) -> np.ndarray:
    """Grain and blur of a camera; (h, w, 3) uint8."""
    size = canvas.shape[1]
    canvas += _window(rng, _fields()[1], size, size) * np.float32(rng.uniform(*noise))
    pixels = np.clip(canvas, 0, 255, canvas).astype(np.uint8).transpose(1, 2, 0)
    radius = rng.uniform(*blur)
    # One box of the same spread as the Gaussian: a third of the time, and a lens that is out of focus is no Gaussian.
    lens = ImageFilter.BoxBlur((math.sqrt(1 + 12 * radius**2) - 1) / 2)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).filter(lens))
