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


def _spider(rng: Rng) -> Outline:
    """A small body with five to seven long thin legs, each bent once."""
    legs = int(rng.integers(5, 8))
    body, thick, bend = rng.uniform(0.3, 0.4), rng.uniform(0.09, 0.14), rng.uniform(-0.3, 0.3)
    points = []
    for k in range(legs):
        at = (k + rng.uniform(-0.2, 0.2)) * 2 * np.pi / legs
        points.append(_leg(at, bend, body, rng.uniform(0.8, 1.0), thick))
        rest = np.linspace(at, at + 2 * np.pi / legs, 6)[2:-1]
        points.append(body * np.stack([np.cos(rest), np.sin(rest)], 1))
    return [np.concatenate(points)]


def _leg(at: float, bend: float, body: float, reach: float, thick: float) -> np.ndarray:
    """(5, 2) one side up and the other down, ``thick`` across; from the body's rim at the angle ``at``."""
    knee, tip = at, at + bend
    along = np.array([math.cos(knee), math.sin(knee)])
    across = np.array([-along[1], along[0]]) * thick / 2
    end = reach * np.array([math.cos(tip), math.sin(tip)])
    half = (body + 0.45 * (reach - body)) * along
    root = 0.97 * body * along
    return np.stack([root - across, half - across, end, half + across, root + across])


def _tadpole(rng: Rng) -> Outline:
    """A round body and a long, thin, waving tail that ends in a tip."""
    body, thick, length = rng.uniform(0.32, 0.45), rng.uniform(0.14, 0.22), rng.uniform(1.0, 1.5)
    wave, phase = rng.uniform(0.08, 0.22), rng.uniform(0, 2 * np.pi)
    s = np.linspace(0, 1, 28)
    middle = wave * (np.sin(phase + 5 * s) - math.sin(phase)) * np.minimum(3 * s, 1)
    half = thick / 2 * (1 - 0.75 * s)
    begin = math.asin(thick / 2 / body)
    x = body * math.cos(begin) + length * s
    arc = np.linspace(begin, 2 * np.pi - begin, 48)
    round_body = body * np.stack([np.cos(arc), np.sin(arc)], 1)
    return [np.concatenate([round_body, np.stack([x, middle - half], 1), np.stack([x, middle + half], 1)[::-1]])]


def _frame(rng: Rng) -> Outline:
    """A rounded rectangle with one or two windows."""
    windows, bar, high = int(rng.integers(1, 3)), rng.uniform(0.16, 0.24), rng.uniform(0.6, 0.85)
    angle = np.arange(96) * (2 * np.pi / 96)
    turn = np.stack([np.cos(angle), np.sin(angle)], 1)
    outer = np.sign(turn) * np.abs(turn) ** 0.4 * (1.0, high)
    wide = (2 - bar * (windows + 1)) / windows
    holes = []
    for k in range(windows):
        left, top = -1 + bar + k * (wide + bar), -high + bar * 1.2
        x, y = (left, left + wide), (top, -top)
        holes.append(np.array([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]) * 0.92)
    return [outer, *holes]


OUTLINES = {
    "ring": _ring,
    "star": _star,
    "fork": _fork,
    "crescent": _crescent,
    "blob": _blob,
    "spider": _spider,
    "tadpole": _tadpole,
    "frame": _frame,
}


def pose(rng: Rng, outline: Outline, side: float, squeeze: tuple[float, float]) -> Outline:
    """Squeeze, turn and scale so that the longer side of the upright box is ``side`` pixels; centre at the origin."""
    turn, narrow = rng.uniform(0, 2 * np.pi), rng.uniform(*squeeze)
    c, s = math.cos(turn), math.sin(turn)
    posed = [(ring * (narrow, 1.0)) @ np.array([[c, s], [-s, c]]) for ring in outline]
    low, high = posed[0].min(0), posed[0].max(0)
    return [(ring - (low + high) / 2) * (side / (high - low).max()) for ring in posed]


def coverage(outline: Outline) -> tuple[int, int, np.ndarray]:
    """Corner x, y and (h, w) float32 share of each pixel that the outline covers."""
    low = np.floor(outline[0].min(0)).astype(int)
    w, h = (np.ceil(outline[0].max(0)).astype(int) - low).tolist()
    fine = Image.new("L", (w * SAMPLES, h * SAMPLES))
    pen = ImageDraw.Draw(fine)
    for hole, ring in enumerate(outline):
        # Pillow's pixel i is centred on i, so half a sample off our i..i+1.
        points = (ring - low) * SAMPLES - 0.5
        pen.polygon(points.ravel().tolist(), fill=0 if hole else 255)
    return int(low[0]), int(low[1]), np.asarray(fine.reduce(SAMPLES), np.float32) / 255
