"""Synthetic scenes with exact masks: textured shapes that touch, overlap and hide each other, as a COCO-style data set.

Classes differ by outline alone (holes, spikes, thin parts, tips, smooth curves), never by colour or texture, so that
what a detector learns of them is their boundary.  A pixel belongs to the topmost object that covers half of it.
Letters: h x w pixels of the image, n points of an outline, z samples a side of a pixel.
"""

import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from faster_coco_eval.core import mask as codec
from PIL import Image, ImageDraw, ImageFilter

from seanet.errors import ImageError, UserError

SPLITS = ("train", "val")
SAMPLES = 4  # a side of each pixel
PHOTOGRAPHS = {".jpg", ".jpeg", ".png", ".webp"}

Rng = np.random.Generator
Outline = list[np.ndarray]  # the outer ring, then holes; (n, 2) each, about a unit across


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


def synthesise(
    out: Path,
    images: int,
    size: int = 256,
    seed: int = 0,
    val: int | None = None,
    scene: Scene | None = None,
    backgrounds: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``annotations/instances_{train,val}.json``, ``train/`` and ``val/`` into a new or empty folder.

    ``images`` are for training, ``val`` (None: a fifth as many) for validation.  Image i of a split depends on the
    seed, the split and i alone, so a larger set begins with the smaller one.  ``backgrounds`` is a folder of
    photographs to use as ground.  ``workers`` are processes (None: one for each core if there is enough to do).
    ``progress`` hears (done, total).  The folder appears complete or not at all; its absolute path comes back.
    """
    out, scene = Path(out).resolve(), scene or Scene()
    counts = {"train": images, "val": max(1, round(images / 5)) if val is None else val}
    _check(out, counts, size, scene)
    draw = partial(_encoded, size=size, seed=seed, scene=scene, photographs=_photographs(backgrounds))
    new, unfinished = not out.exists(), out / ".unfinished"
    try:
        unfinished.mkdir(parents=True)
        _write(unfinished, counts, scene, size, draw, workers, progress)
        for part in (*SPLITS, "annotations"):
            os.replace(unfinished / part, out / part)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if new and not any(out.iterdir()):
            out.rmdir()
    return out


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
    canvas, colour = _ground(rng, size, photographs)
    owner = np.zeros((size, size), np.int16)
    labels, placed, whole, colours = [], [], [], [colour]
    for _ in range(rng.integers(scene.objects[0], scene.objects[1] + 1)):
        label = scene.classes[rng.integers(len(scene.classes))]
        found = _place(rng, label, owner, placed, whole, scene)
        if found is None:
            continue
        centre, side, x, y, cover = found
        colours.append(_near(rng, colours) if rng.random() < scene.alike else _vivid(rng, colours))
        _paint(rng, canvas, cover, x, y, colours[-1], scene)
        labels.append(label)
        placed.append((centre, side))
        box = owner[y : y + cover.shape[0], x : x + cover.shape[1]]
        box[cover >= 0.5] = len(labels)
        whole.append(int((cover >= 0.5).sum()))
    return Rendered(_expose(rng, canvas, scene), owner, labels)


def _check(out: Path, counts: dict[str, int], size: int, scene: Scene) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is not empty; name a new or empty folder for the synthetic data set.", file=out)
    if counts["train"] < 1 or counts["val"] < 0:
        wanted = "at least one image to train on and none or more to evaluate on"
        raise UserError(f"A data set needs {wanted}, got {counts}.", field="images", value=counts)
    if not 64 <= size <= 4096:
        raise UserError(f"Images can have 64 to 4096 pixels a side, got {size}.", field="size", value=size)
    if not scene.classes or (unknown := set(scene.classes) - set(OUTLINES)):
        wrong = ", ".join(sorted(unknown)) if scene.classes else "none"
        raise UserError(f"Known classes are {', '.join(OUTLINES)}; got {wrong}.", field="classes", value=wrong)


def _photographs(folder: Path | None) -> tuple[Path, ...]:
    if folder is None:
        return ()
    files = tuple(sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in PHOTOGRAPHS))
    if not files:
        raise UserError(f"{folder} holds no photographs ({', '.join(sorted(PHOTOGRAPHS))}).", file=folder)
    return files


def _write(root, counts, scene, size, draw, workers, progress) -> None:
    total, done = sum(counts.values()), 0
    (root / "annotations").mkdir()
    for split, count in counts.items():
        (root / split).mkdir()
        records, annotations = [], []
        for index, (data, found) in enumerate(_in_order(partial(draw, split), count, workers)):
            name = f"{index:06d}.jpg"
            (root / split / name).write_bytes(data)
            records.append({"id": index + 1, "file_name": name, "width": size, "height": size})
            for one in found:
                annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **one})
            done += 1
            if progress:
                progress(done, total)
        categories = [{"id": k, "name": name, "supercategory": "shape"} for k, name in enumerate(scene.classes, 1)]
        contents = {"info": {"description": f"Synthetic scenes, {split}"}, "licenses": [], "images": records}
        contents |= {"annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(contents))


def _in_order(draw: Callable[[int], tuple], count: int, workers: int | None) -> Iterator[tuple]:
    """Results 0..count-1, drawn by several processes where that is worth their start."""
    if workers is None:
        workers = min(os.cpu_count() or 1, 8) if count > 200 else 1
    if workers < 2 or sys.platform != "linux":
        yield from map(draw, range(count))
        return
    # Forked: a spawned process would run the caller's script again, and the children need numpy and Pillow alone.
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        for begin in range(0, count, 64 * workers):  # bounds what waits to be written
            yield from pool.map(draw, range(begin, min(begin + 64 * workers, count)), chunksize=8)


def _encoded(split: str, index: int, size: int, seed: int, scene: Scene, photographs: tuple[Path, ...]):
    """The bytes of an image file and its annotations, less their ids."""
    made = render(split, index, size, seed, scene, photographs)
    file = io.BytesIO()
    Image.fromarray(made.image).save(file, "JPEG", quality=95, subsampling=0)
    found = []
    for k, label in enumerate(made.labels, 1):
        rle = codec.encode(np.asfortranarray(made.owner == k).view(np.uint8))
        found.append(
            {
                "category_id": scene.classes.index(label) + 1,
                "segmentation": {"size": [size, size], "counts": rle["counts"].decode("ascii")},
                "area": int(codec.area(rle)),
                "bbox": [int(v) for v in codec.toBbox(rle)],
                "iscrowd": 0,
            }
        )
    return file.getvalue(), found


# Outlines


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


def _pose(rng: Rng, outline: Outline, side: float) -> Outline:
    """Squeeze, turn and scale so that the longer side of the upright box is ``side`` pixels; centre at the origin."""
    turn, squeeze = rng.uniform(0, 2 * np.pi), rng.uniform(0.72, 1.0)
    c, s = math.cos(turn), math.sin(turn)
    posed = [(ring * (squeeze, 1.0)) @ np.array([[c, s], [-s, c]]) for ring in outline]
    low, high = posed[0].min(0), posed[0].max(0)
    return [(ring - (low + high) / 2) * (side / (high - low).max()) for ring in posed]


def _cover(outline: Outline, centre: np.ndarray, size: int) -> tuple[int, int, np.ndarray]:
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


# Where objects go


def _place(rng: Rng, label: str, owner: np.ndarray, placed: list, whole: list[int], scene: Scene):
    """Centre, side, corner x, y and cover of a new object that leaves enough of all objects in sight; None: no room."""
    size = len(owner)
    side = size * rng.uniform(*scene.sides)
    outline = _pose(rng, OUTLINES[label](rng), side)
    full = float((_cover(outline, np.full(2, side), math.ceil(2 * side))[2] >= 0.5).sum())
    for _ in range(12):
        centre = _beside(rng, placed, side, size, scene)
        x, y, cover = _cover(outline, centre, size)
        solid = cover >= 0.5
        if solid.sum() < max(scene.visible, 0.6) * full:
            continue
        after = owner.copy()
        after[y : y + cover.shape[0], x : x + cover.shape[1]][solid] = -1
        left = np.bincount(after[after > 0], minlength=len(whole) + 1)[1:]
        if (left >= scene.visible * np.array(whole)).all():
            return centre, side, x, y, cover
    return None


def _beside(rng: Rng, placed: list, side: float, size: int, scene: Scene) -> np.ndarray:
    """A centre anywhere, or so near another object that the two touch or overlap."""
    margin = 0.4 * side
    anywhere = rng.uniform(min(margin, size / 2), max(size - margin, size / 2), 2)
    if not placed or rng.random() >= scene.together:
        return anywhere
    centre, other = placed[rng.integers(len(placed))]
    turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.0) * (side + other) / 2
    return centre + reach * np.array([math.cos(turn), math.sin(turn)])


# Colours, textures, light.  Colours are float32 RGB of 0..255.


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return (255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))).astype(np.float32)


def _vivid(rng: Rng, others: list[np.ndarray]) -> np.ndarray:
    """The one of five bright colours that is farthest from the ground and the other objects."""
    options = [_hsv(rng.random(), rng.uniform(0.35, 0.72), rng.uniform(0.6, 0.95)) for _ in range(5)]
    return max(options, key=lambda colour: min(float(np.abs(colour - other).sum()) for other in others))


def _near(rng: Rng, others: list[np.ndarray]) -> np.ndarray:
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


def _ground(rng: Rng, size: int, photographs: tuple[Path, ...]) -> tuple[np.ndarray, np.ndarray]:
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


def _paint(rng: Rng, canvas: np.ndarray, cover: np.ndarray, x: int, y: int, colour: np.ndarray, scene: Scene) -> None:
    """Put an object's shadow and the object onto the canvas."""
    h, w = cover.shape
    _shade(rng, canvas, cover, x, y, scene.shadow)
    skin = np.broadcast_to(colour, (h, w, 3))
    if rng.random() < scene.textured:
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


def _expose(rng: Rng, canvas: np.ndarray, scene: Scene) -> np.ndarray:
    """Blur and noise of a camera; (h, w, 3) uint8."""
    noise = rng.standard_normal(canvas.shape[:2], np.float32)[..., None] * np.float32(rng.uniform(*scene.noise))
    image = Image.fromarray(np.clip(canvas + noise, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(*scene.blur))))
