"""Outlines of the synthetic classes: holes, spikes, thin parts, tips, smooth curves.

Letters: n points of a ring, h x w pixels.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

SAMPLES = 4  # a side of each pixel

Rng = np.random.Generator
Outline = list[np.ndarray]  # the outer ring, then holes; (n, 2) each, about a unit across


def _polar(radius: np.ndarray) -> np.ndarray:
    """Points at (n,) radii around a turn."""
    angle = np.arange(len(radius)) * (2 * np.pi / len(radius))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _ring(rng: Rng) -> Outline:
    """A disc with a hole, not quite in its middle."""
    hole = rng.uniform(0.5, 0.72)
    shift = _polar(np.full(8, rng.uniform(0, 0.5 * (1 - hole))))[rng.integers(8)]
    return [_polar(np.ones(96)), _polar(np.full(96, hole)) + shift]


def _star(rng: Rng) -> Outline:
    """Five to nine straight spikes."""
    spikes = int(rng.integers(5, 10))
    radius = np.tile([1.0, rng.uniform(0.38, 0.55)], spikes)
    radius[::2] *= rng.uniform(0.85, 1.0, spikes)
    return [_polar(radius)]


def _fork(rng: Rng) -> Outline:
    """A handle with three or four thin tines."""
    tines, thick = int(rng.integers(3, 5)), rng.uniform(0.13, 0.18)
    half, root = rng.uniform(0.42, 0.55), rng.uniform(-0.1, 0.15)
    left = np.linspace(-half, half - thick, tines)
    points = []
    for x in left:
        points += [(x, root), (x, 1 - thick / 2), (x + thick / 2, 1), (x + thick, 1 - thick / 2), (x + thick, root)]
    neck = thick * 0.65
    points += [(half, root - thick), (neck, root - 2 * thick), (neck, -1)]
    points += [(-neck, -1), (-neck, root - 2 * thick), (-half, root - thick)]
    return [np.array(points)]


def _crescent(rng: Rng) -> Outline:
    """A disc less a disc that sticks out of it: two sharp tips."""
    bite, shift = rng.uniform(0.78, 0.9), rng.uniform(0.42, 0.55)
    x = (1 - bite**2 + shift**2) / (2 * shift)  # where the two circles meet
    outer, inner = math.acos(x), math.atan2(math.sqrt(1 - x**2), x - shift)
    a = np.linspace(outer, 2 * np.pi - outer, 72)
    b = np.linspace(2 * np.pi - inner, inner, 72)
    moon = np.stack([np.cos(a), np.sin(a)], 1)
    cut = np.stack([shift + bite * np.cos(b), bite * np.sin(b)], 1)
    return [np.concatenate([moon, cut[1:-1]])]


def _blob(rng: Rng) -> Outline:
    """A smooth random outline: a few harmonics on a circle's radius."""
    angle = np.arange(128) * (2 * np.pi / 128)
    waves = np.arange(2, 6)
    strength = rng.uniform(0.3, 1.0, 4) * np.array([0.22, 0.16, 0.1, 0.06])
    phase = rng.uniform(0, 2 * np.pi, 4)
    return [_polar(1 + (strength * np.cos(angle[:, None] * waves + phase)).sum(1))]


OUTLINES = {"ring": _ring, "star": _star, "fork": _fork, "crescent": _crescent, "blob": _blob}


def pose(rng: Rng, outline: Outline, side: float) -> Outline:
    """Squeeze, turn and scale so that the longer side of the upright box is ``side`` pixels; centre at the origin."""
    turn, squeeze = rng.uniform(0, 2 * np.pi), rng.uniform(0.72, 1.0)
    c, s = math.cos(turn), math.sin(turn)
    posed = [(ring * (squeeze, 1.0)) @ np.array([[c, s], [-s, c]]) for ring in outline]
    low, high = posed[0].min(0), posed[0].max(0)
    return [(ring - (low + high) / 2) * (side / (high - low).max()) for ring in posed]


def coverage(outline: Outline, centre: np.ndarray, size: int) -> tuple[int, int, np.ndarray]:
    """Corner x, y and (h, w) float32 share of each pixel that the outline covers, cut to the image."""
    low = np.maximum(np.floor(outline[0].min(0) + centre).astype(int), 0)
    high = np.minimum(np.ceil(outline[0].max(0) + centre).astype(int), size)
    w, h = np.maximum(high - low, 0)
    if w == 0 or h == 0:
        return 0, 0, np.zeros((0, 0), np.float32)
    fine = Image.new("L", (int(w) * SAMPLES, int(h) * SAMPLES))
    pen = ImageDraw.Draw(fine)
    for hole, ring in enumerate(outline):
        # Pillow's pixel i is centred on i, so half a sample off our i..i+1.
        points = (ring + centre - low) * SAMPLES - 0.5
        pen.polygon(points.ravel().tolist(), fill=0 if hole else 255)
    return int(low[0]), int(low[1]), np.asarray(fine.reduce(SAMPLES), np.float32) / 255
