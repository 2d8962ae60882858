"""The mask head alone: masks predicted in the true boxes, beside the most that masks of so many cells can show.

The most is the truth itself, cut into the head's cells as in training and pasted back: what is missing there is lost to
the size of the masks, whatever a head learns.  Free of torch without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seanet.config import Config
from seanet.data.coco import Annotation, CocoData, ImageRecord, to_bitmap, to_rle
from seanet.evaluation.assess import bands
from seanet.evaluation.pairs import Pairs, empty_pairs, measure
from seanet.evaluation.rims import Stack, ious, stack
from seanet.evaluation.runs import unpack
from seanet.pasting import encode_rle, paste, paste_legacy

if TYPE_CHECKING:
    from seanet.predict import Model
    from seanet.types import Batch

Size = tuple[int, int]


def fixed_boxes(
    model: Model,
    data: CocoData,
    *,
    batch: int = 1,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Masks predicted for the true class in the true box of every object that is no crowd region.

    ``data`` were read with the model's categories; ``progress`` is called with images done and images in all.
    ``mask_iou`` is the mean over all objects, ``bands`` as ``evaluation.assess.bands`` gives them: no object is missed.
    ``ceiling`` has the same of masks that are as good as their ``cells`` a side allow.
    """
    from seanet.evaluation.run import batches  # it waits for torch

    data.require_objects("analyse")
    fixed = FixedBoxes(data, model.config)
    for records, images, sizes in batches(data, model.config.data, batch, workers):
        for record, drawn in zip(records, redraw(model, images, sizes, list(map(true_boxes, records))), strict=True):
            fixed.add(record, drawn)
            if progress:
                progress(fixed.images, len(data.images))
    return fixed.summary()


@dataclass
class FixedBoxes:
    """Fills, image by image, two rows for each object of ``data``: the mask predicted in its box, and the best possible."""

    data: CocoData
    config: Config
    images: int = 0
    row: int = 0

    def __post_init__(self) -> None:
        self.pairs, self.best = empty_pairs(self.data), empty_pairs(self.data)

    def add(self, image: ImageRecord, drawn: list[dict]) -> None:
        """``drawn`` are run lengths of the masks of the image's objects, in their order."""
        size = image.height, image.width
        objects = outlined(image)
        best = draw(objects, size, 2 * self.config.mask.size, self.config.geometry)
        rows, n = np.arange(self.row, self.row + len(objects)), len(objects)
        if n:
            truth = [to_rle(annotation, *size) for annotation in objects]
            masks = stack(unpack([rle["counts"] for rle in (*truth, *drawn, *best)]), np.full(3 * n, size[0]))
            for k, pairs in enumerate((self.pairs, self.best), 1):
                pairs.result[rows], pairs.score[rows] = np.arange(n), 1.0
                _fill(pairs, rows, masks, k * n + np.arange(n), size)
        self.row += n
        self.images += 1

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        facts = {"images": len(self.data.images), "objects": len(self.pairs.iou)}
        ceiling = {"cells": 2 * self.config.mask.size, **self._figures(self.best)}
        return self._figures(self.pairs) | facts | {"ceiling": ceiling}

    def _figures(self, pairs: Pairs) -> dict[str, Any]:
        return {"mask_iou": float(pairs.iou.mean()), "bands": bands(self.data, pairs)}


def _fill(pairs: Pairs, rows: np.ndarray, masks: Stack, found: np.ndarray, size: Size) -> None:
    """``found`` are rows of the masks, the first of which are the true ones."""
    truth = np.arange(len(rows))
    pairs.iou[rows] = ious(masks, truth, found)
    pairs.outlined[rows] = masks.pixels[truth] != size[0] * size[1]
    measure(pairs, rows, masks, truth, found, np.full((len(rows), 2), size))


def outlined(image: ImageRecord) -> list[Annotation]:
    """The objects of an image that are no crowd regions."""
    return [a for a in image.annotations if not a.crowd]


def true_boxes(image: ImageRecord) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) xyxy and labels (n,) of an image's objects."""
    objects = outlined(image)
    boxes = np.array([a.box for a in objects], np.float32).reshape(-1, 4)
    return boxes, np.array([a.label for a in objects], np.int64)


def redraw(
    model: Model, images: Batch, sizes: list[Size], asked: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[list[dict]]:
    """Run lengths of the masks that a model predicts for each image's boxes and labels."""
    boxes, labels = zip(*asked, strict=True)
    return [found.rle() for found in model.predict_inside(images, sizes, list(boxes), list(labels))]


def draw(objects: Sequence[Annotation], size: Size, cells: int, geometry: str) -> list[dict]:
    """Run lengths of masks whose cells, ``cells`` a side, hold exactly what each object covers of them."""
    if not objects:
        return []
    import torch

    from seanet.data.loader import pack
    from seanet.masks import crop_masks, crop_masks_legacy

    aligned = geometry == "aligned"
    cut, put = (crop_masks, paste) if aligned else (crop_masks_legacy, paste_legacy)
    masks = pack([to_bitmap(a, *size) for a in objects])
    boxes = torch.tensor([a.box for a in objects], dtype=torch.float32)
    frames = torch.tensor([size]).expand(len(objects), 2)
    shares = cut(masks, torch.arange(len(objects)), boxes, frames, cells).numpy()
    drawn = (put(share, box, size) for share, box in zip(shares, boxes.numpy(), strict=True))
    return [encode_rle(probability >= 0.5, left, top, size) for probability, left, top in drawn]
