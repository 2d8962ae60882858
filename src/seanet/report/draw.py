"""Instances and their edges drawn over the image, and maps of instance numbers.

Images are (h, w, 3) uint8 RGB.  A mask or edge is local: ``(values, x, y)`` with values (h', w') for the pixels from
(x, y) on, boolean for masks and probabilities for edges; what sticks out of the image is cut.  Nothing here makes an
array of the image's size for each instance.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seanet.report.files import write_whole

Local = tuple[np.ndarray, int, int]
Colour = tuple[int, int, int]

# Okabe and Ito's colours, which people of all kinds of colour vision tell apart, in an order that keeps neighbours
# far from each other; then four between them.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (170, 255, 195),
    (148, 82, 200),
    (250, 190, 190),
    (128, 128, 0),
)
PART = 2**18  # pixels that are worked on at a time, where they take many times the memory of their image
HEAT = np.array([(8, 6, 30), (80, 18, 123), (182, 54, 121), (251, 136, 97), (252, 253, 191)], np.float32)


def overlay(
    image: np.ndarray,
    masks: Sequence[Local],
    labels: Sequence[str] | None = None,
    scores: Sequence[float] | None = None,
    boxes: np.ndarray | None = None,
    *,
    colours: Sequence[Colour] | None = None,
    alpha: float = 0.45,
    scale: int = 1,
) -> np.ndarray:
    """The image with each mask tinted and outlined; best first, so that the best lies on top.

    Labels read ``name`` or ``name 0.93``; boxes (N, 4) xyxy are drawn where given.  Without labels and boxes nothing
    changes outside the masks.  ``scale`` enlarges the picture by a whole factor first, for text on small images.
    """
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(masks))] if colours is None else colours
    _same_length(len(masks), labels=labels, scores=scores, boxes=boxes, colours=colours)
    canvas = _enlarged(image, scale)
    width = max(1, round(min(canvas.shape[:2]) / 280))
    extents = [(0, 0, 0, 0)] * len(masks)
    for i in reversed(range(len(masks))):
        mask = _enlarged_mask(masks[i], scale)  # the only one at hand: masks may be drawn as they are asked for
        _tint(canvas, mask, colours[i], alpha, width)
        extents[i] = _extent(mask)
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    if boxes is not None:
        for box, colour in reversed(list(zip(np.asarray(boxes, float) * scale, colours, strict=True))):
            pen.rectangle(_drawable(box), outline=tuple(colour), width=width)
    if labels is not None:
        _write_labels(pen, picture.size, extents, _texts(labels, scores), colours)
    return np.asarray(picture)


def heat(probability: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: 0 is nearly black, then purple, orange, and pale yellow for 1."""
    flat = np.ravel(probability)
    parts = [_heat(flat[first : first + PART]) for first in range(0, flat.size, PART)]
    return np.concatenate([np.zeros((0, 3), np.uint8), *parts]).reshape(*probability.shape, 3)


def _heat(probability: np.ndarray) -> np.ndarray:
    at = np.clip(np.nan_to_num(probability), 0, 1) * (len(HEAT) - 1)
    low = np.minimum(at.astype(int), len(HEAT) - 2)
    return (HEAT[low] + (at - low)[..., None] * (HEAT[low + 1] - HEAT[low])).round().astype(np.uint8)


def edge_overlay(image: np.ndarray, probability: np.ndarray, *, dim: float = 0.35, scale: int = 1) -> np.ndarray:
    """An edge map, (h, w) float32, as light over the dimmed, grey image."""
    if scale > 1:
        h, w = probability.shape
        grown = Image.fromarray(probability).resize((w * scale, h * scale), Image.Resampling.BICUBIC)
        probability = np.clip(np.asarray(grown), 0, 1)
    grey = np.asarray(Image.fromarray(_enlarged(image, scale)).convert("L"), np.float32)[..., None] * dim
    share = np.minimum(1, 1.5 * probability)[..., None]
    return (grey + share * (heat(probability) - grey)).round().astype(np.uint8)


def write_label_map(path: Path | str, numbers: np.ndarray) -> Path:
    """A label map as a grey PNG of 16 bits."""
    return write_whole(path, encoded(np.asarray(numbers, np.uint16), "PNG"))


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, kind, **options)
    return file.getvalue()


def outline(bits: np.ndarray, width: int = 1, frame: bool = True) -> np.ndarray:
    """(h, w) bool: pixels of a bitmap within ``width`` 4-neighbour steps of what is not set or, with ``frame``, not there."""
    core = bits = np.asarray(bits, bool)
    for _ in range(width):
        near = np.pad(core, 1, mode="constant" if frame else "edge")
        core = core & near[:-2, 1:-1]
        for side in (near[2:, 1:-1], near[1:-1, :-2], near[1:-1, 2:]):
            core &= side
    return bits & ~core


def _enlarged_mask(mask: Local, scale: int) -> Local:
    bits, x, y = mask
    bits = np.asarray(bits, bool)
    return (bits if scale == 1 else np.kron(bits, np.ones((scale, scale), bool))), x * scale, y * scale


def _same_length(count: int, **others) -> None:
    for name, values in others.items():
        if values is not None and len(values) != count:
            raise ValueError(f"expected {count} {name}, one for each mask, got {len(values)}")


def _enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    """A copy, ``scale`` times as large."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an image of shape (h, w, 3) and type uint8, got {image.shape} and {image.dtype}")
    if scale == 1:
        return image.copy()
    h, w = image.shape[:2]
    return np.array(Image.fromarray(image).resize((w * scale, h * scale), Image.Resampling.BICUBIC))


def _cut(local: Local, size: tuple[int, int]) -> tuple[np.ndarray, tuple[slice, slice]]:
    """The part of a local array inside the image, and where it lies."""
    values, x, y = np.asarray(local[0]), int(local[1]), int(local[2])
    left, top = min(max(x, 0), size[1]), min(max(y, 0), size[0])
    values = values[max(-y, 0) :, max(-x, 0) :][: size[0] - top, : size[1] - left]
    return values, (slice(top, top + values.shape[0]), slice(left, left + values.shape[1]))


def _tint(canvas: np.ndarray, mask: Local, colour: Colour, alpha: float, width: int) -> None:
    # The outline is found before cutting, so that the image's frame is no edge unless the object ends there.
    edge, _ = _cut((outline(mask[0], width), *mask[1:]), canvas.shape[:2])
    bits, window = _cut(mask, canvas.shape[:2])
    box = canvas[window]
    step = max(PART // max(bits.shape[1], 1), 1)
    for first in range(0, len(bits), step):
        some, inside = box[first : first + step], bits[first : first + step]
        some[inside] = (some[inside] * (1 - alpha) + np.multiply(colour, alpha)).round().astype(np.uint8)
    box[edge] = colour


def _drawable(box: np.ndarray) -> tuple[float, float, float, float]:
    """First and last pixel of a box, the right way round even when it is empty."""
    x0, y0, x1, y1 = (float(v) for v in box)
    return x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)


def _texts(labels: Sequence[str], scores: Sequence[float] | None) -> list[str]:
    if scores is None:
        return [str(label) for label in labels]
    return [f"{label} {score:.2f}" for label, score in zip(labels, scores, strict=True)]


def _write_labels(pen: ImageDraw.ImageDraw, size: tuple[int, int], extents, texts: list[str], colours) -> None:
    """Plates at the upper left of each mask, moved where they would hide an earlier, better one's."""
    font = ImageFont.load_default(float(np.clip(min(size) / 24, 10, 26)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # as always where a size is given
    taken: list[tuple[float, ...]] = []
    for extent, text, colour in zip(extents, texts, colours, strict=True):
        x0, _, x1, _ = pen.textbbox((0, 0), text, font=font)
        high = sum(font.getmetrics())
        plate = _free(extent, (x1 - x0 + 8, high + 2), size, taken)
        taken.append(plate)
        pen.rounded_rectangle((*plate[:2], plate[2] - 1, plate[3] - 1), radius=3, fill=tuple(colour))
        bright = np.dot(colour, (0.299, 0.587, 0.114)) > 110
        pen.text((plate[0] + 4 - x0, plate[1] + 1), text, font=font, fill=(0, 0, 0) if bright else (255, 255, 255))


def _extent(mask: Local) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the set pixels; of the whole window if there are none."""
    bits, x, y = mask
    rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
    if not len(rows):
        return x, y, x + bits.shape[1], y + bits.shape[0]
    return x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1


def _free(extent, plate: tuple[float, float], size: tuple[int, int], taken: list) -> tuple[float, ...]:
    """xyxy of a plate above, inside or below an object, inside the image, over as little of other plates as can be."""
    left, top, right, bottom = extent
    w, h = plate
    corners = [
        (left, top - h),
        (right - w, top - h),
        (left, bottom),
        (right - w, bottom),
        (left, top),
        (left, (top + bottom) / 2),
    ]
    inside = [(min(max(x, 0), max(size[0] - w, 0)), min(max(y, 0), max(size[1] - h, 0))) for x, y in corners]
    places = [(x, y, x + w, y + h) for x, y in inside]
    return min(places, key=lambda place: sum(_shared(place, other) for other in taken))


def _shared(a, b) -> float:
    """Area that two boxes share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
