"""A checked data set: categories, images and their objects, immutable, in pixels of the image files."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seanet.data import bitmaps
from seanet.data.bitmaps import Bitmap
from seanet.data.repairs import Repairs
from seanet.errors import AnnotationError

NUMBERS = struct.Struct("=5d")
SIZES = {"u2": 2, "i4": 4, "f8": 8}  # bytes of a coordinate
Box = tuple[float, float, float, float]
Segmentation = list[np.ndarray] | dict[str, Any]
"""Rings, each (2n,) float64, or COCO's compressed run lengths, ``{"size": [h, w], "counts": bytes}``."""


@dataclass(frozen=True)
class Categories:
    """Label k in 1..K stands for ``ids[k - 1]`` and ``names[k - 1]``; 0 is background, never a category."""

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def label(self, id: int) -> int:
        """Label of a category id; KeyError if there is none."""
        return self._labels[id]

    @cached_property
    def _labels(self) -> dict[int, int]:
        return {id: label for label, id in enumerate(self.ids, 1)}


@dataclass(frozen=True, slots=True)
class Rings:
    """Polygons in as few bytes as give back every coordinate as it was; most files write two decimals."""

    coordinates: bytes
    code: str
    """Their type for numpy: ``u2`` and ``i4`` are hundredths of pixels, ``f8`` pixels."""
    ends: tuple[int, ...]
    """Where all rings but the last end among the coordinates."""

    @classmethod
    def of(cls, rings: Sequence[np.ndarray]) -> "Rings":
        """From at least one, each (2n,) float64."""
        flat = rings[0] if len(rings) == 1 else np.concatenate(rings)
        ends = tuple(accumulate(map(len, rings[:-1])))
        hundredths = np.rint(flat * 100)
        if not (hundredths / 100 == flat).all():
            return cls(flat.tobytes(), "f8", ends)
        code = "u2" if hundredths.min() >= 0 and hundredths.max() < 2**16 else "i4"
        return cls(hundredths.astype(code).tobytes(), code, ends)

    def lengths(self) -> list[int]:
        """How many coordinates each ring has."""
        total = len(self.coordinates) // SIZES[self.code]
        return [stop - start for start, stop in pairwise((0, *self.ends, total))] if self.ends else [total]

    def unpack(self) -> list[np.ndarray]:
        """The rings, each (2n,) float64."""
        flat = np.frombuffer(self.coordinates, self.code)
        flat = np.divide(flat, 1 if self.code == "f8" else 100, dtype=np.float64)
        return np.split(flat, self.ends) if self.ends else [flat]


@dataclass(frozen=True, slots=True, init=False)
class Annotation:
    """An object, in pixels of the image file; packed, for a data set holds a million."""

    id: int  # 1..N within the data set
    source_id: object  # what the file says: missing, repeated or 0 at times
    label: int  # 1..K
    numbers: bytes
    """The box and the area, five float64."""
    shape: Rings | dict[str, Any]
    """The segmentation as it is kept."""
    crowd: bool

    def __init__(
        self,
        id: int,
        source_id: object,
        label: int,
        box: Box,
        segmentation: Segmentation | Rings,
        area: float,
        crowd: bool,
    ):
        shape = Rings.of(segmentation) if isinstance(segmentation, list) else segmentation
        put = object.__setattr__  # once for each field: a loop takes three times as long
        put(self, "id", id)
        put(self, "source_id", source_id)
        put(self, "label", label)
        put(self, "numbers", NUMBERS.pack(*box, area))
        put(self, "shape", shape)
        put(self, "crowd", crowd)

    @property
    def box(self) -> Box:
        """xyxy, inside the image."""
        x0, y0, x1, y1, _ = NUMBERS.unpack(self.numbers)
        return x0, y0, x1, y1

    @property
    def area(self) -> float:
        """In pixels."""
        return NUMBERS.unpack(self.numbers)[4]

    @property
    def segmentation(self) -> Segmentation:
        return self.shape.unpack() if isinstance(self.shape, Rings) else self.shape

    def numbered(self, id: int) -> "Annotation":
        """The same object under another id."""
        return Annotation(id, self.source_id, self.label, self.box, self.shape, self.area, self.crowd)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    id: int
    path: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class CocoData:
    file: Path
    images: tuple[ImageRecord, ...]
    categories: Categories
    repairs: Repairs

    def require_images(self, purpose: str) -> None:
        """Error if there is not one image to ``purpose``, such as "train on"."""
        if not self.images:
            message = f"{self.file}: lists no images, so there is nothing to {purpose}"
            raise AnnotationError(message, file=self.file, field="images", value=[])

    def require_objects(self, purpose: str) -> None:
        """Error if there is no object to ``purpose``, such as "measure by"; crowd regions are none."""
        if not any(not a.crowd for image in self.images for a in image.annotations):
            message = f"{self.file}: holds no object (crowd regions aside), so there is nothing to {purpose}"
            raise AnnotationError(message, file=self.file, field="annotations", value=[])

    def require_clean(self, max_bad: float) -> None:
        """Error if more than this share of the annotations had to be skipped."""
        share = self.repairs.skipped_share
        if share > max_bad:
            causes = "; ".join(line for line in self.repairs.summary() if " skipped: " in line)
            raise AnnotationError(
                f"{self.file}: {share:.1%} of its annotations had to be skipped, more than max_bad = {max_bad:.1%}: "
                f"mend the file or raise max_bad ({causes})",
                file=self.file,
                field="annotations",
                value=share,
            )


def mask_bits(annotation: Annotation, height: int, width: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """An object's mask, (h, w) uint8, in its smallest window, xyxy in pixels of the image; 0 x 0 if it has no pixel."""
    bitmap = to_bitmap(annotation, height, width)
    return bitmap.bits, bitmap.window


def to_bitmap(annotation: Annotation, height: int, width: int) -> Bitmap:
    """An object's mask in its smallest window, in pixels of the image file."""
    segmentation = annotation.segmentation
    if isinstance(segmentation, list):
        return bitmaps.rasterise(segmentation, height, width)
    return bitmaps.runs_to_bitmap(bitmaps.runs_of(segmentation), height)


def to_rle(annotation: Annotation, height: int, width: int) -> dict[str, Any]:
    """An object's mask as COCO's compressed run lengths, ``{"size": [h, w], "counts": bytes}``, for evaluation."""
    segmentation = annotation.segmentation
    return bitmaps.rings_to_rle(segmentation, height, width) if isinstance(segmentation, list) else segmentation
