"""Where AP is lost: results measured again after one part of each detection was put right.

A detection's object is the one that its box overlaps most, at an IoU of at least .5, of its own class where the class is
not what is put right.  Detections without an object stay as they are, and so do all scores.  What a new class or a new
box changes in a mask, the model says: it predicts again.  D detections, G objects.  Free of torch without a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from seanet.data.bitmaps import Bitmap
from seanet.data.coco import Annotation, CocoData, ImageRecord, to_bitmap, to_rle
from seanet.evaluation.assess import by_image
from seanet.evaluation.fixed import FixedBoxes, outlined, redraw, true_boxes
from seanet.evaluation.overlap import LEAST, bbox_of, box_ious, same_class
from seanet.pasting import encode_rle

if TYPE_CHECKING:
    from seanet.predict import Model

ORACLES = {
    "no_duplicates": "without duplicates",
    "classes": "true classes",
    "boxes": "true boxes",
    "masks": "true masks",
    "classes_boxes": "true classes + boxes",
    "classes_boxes_masks": "true classes + boxes + masks",
    "all": "all true, no duplicates",
}
NEED_MODEL = ("classes", "boxes", "classes_boxes")


@dataclass(frozen=True)
class Scene:
    """One image with its detections and the object of each."""

    image: ImageRecord
    entries: list[dict]  # D, best first
    objects: list[Annotation]  # G, crowd regions left out
    ids: tuple[int, ...]  # categories' own: label k stands for the k-th
    same: np.ndarray  # (D,) row of the object of the detection's own class, -1 for none
    any: np.ndarray  # (D,) row of the object of whatever class, its own where two overlap alike

    @classmethod
    def of(cls, image: ImageRecord, entries: list[dict], ids: tuple[int, ...]) -> Scene:
        objects = outlined(image)
        ious, same = box_ious(entries, objects), same_class(entries, objects, ids)
        return cls(image, entries, objects, ids, _nearest(np.where(same, ious, 0.0), same), _nearest(ious, same))

    @property
    def misnamed(self) -> list[int]:
        """Rows of the detections whose object is of another class."""
        return [
            d for d, g in enumerate(self.any.tolist()) if g >= 0 and self.category(g) != self.entries[d]["category_id"]
        ]

    def category(self, g: int) -> int:
        return self.ids[self.objects[g].label - 1]

    def asked(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) xyxy and labels (n,) to predict masks for: the objects, then the misnamed detections."""
        boxes, labels = true_boxes(self.image)
        corners = [_corners(self.entries[d]) for d in self.misnamed]
        named = [self.objects[self.any[d]].label for d in self.misnamed]
        return np.concatenate([boxes, np.array(corners, np.float32).reshape(-1, 4)]), np.append(labels, named).astype(
            np.int64
        )


def _nearest(ious: np.ndarray, same: np.ndarray) -> np.ndarray:
    """(D, G) -> (D,) the column of the largest IoU, -1 where it is below .5; of equal ones that of the same class."""
    if not ious.size:
        return np.full(len(ious), -1)
    largest = ious.max(1, keepdims=True)
    column = ((ious == largest) * (1 + same)).argmax(1)
    return np.where(largest[:, 0] >= LEAST, column, -1)


def mend(scene: Scene, drawn: list[dict] | None = None) -> dict[str, list[dict]]:
    """For each oracle the entries of one image; ``drawn`` are the masks that a model predicts for ``scene.asked()``.

    Without them only what needs no model is there.  Entries that an oracle leaves alone are the very same objects.
    """
    size = scene.image.height, scene.image.width
    truths = [to_rle(a, *size) for a in scene.objects]
    masks = cache(lambda g: to_bitmap(scene.objects[g], *size))
    perfect = _replaced(scene, scene.any, lambda d, g: _named(scene, g) | _placed(scene, g, truths[g]))
    found = {
        "no_duplicates": [scene.entries[d] for d in _first(scene.same)],
        "masks": _replaced(
            scene, scene.same, lambda d, g: {"segmentation": cut_to_box(masks(g), _corners(scene.entries[d]), size)}
        ),
        "classes_boxes_masks": perfect,
        "all": [perfect[d] for d in _first(scene.any)],
    }
    return found if drawn is None else found | _redrawn(scene, drawn)


def _redrawn(scene: Scene, drawn: list[dict]) -> dict[str, list[dict]]:
    again = dict(zip(scene.misnamed, drawn[len(scene.objects) :], strict=True))
    misnamed = np.where(np.isin(np.arange(len(scene.entries)), scene.misnamed), scene.any, -1)
    both = _replaced(scene, scene.any, lambda d, g: _named(scene, g) | _placed(scene, g, drawn[g]))
    return {
        "classes": _replaced(scene, misnamed, lambda d, g: _named(scene, g) | {"segmentation": again[d]}),
        "boxes": _replaced(scene, scene.same, lambda d, g: _placed(scene, g, drawn[g])),
        "classes_boxes": both,
    }


def _replaced(scene: Scene, rows: np.ndarray, change: Callable[[int, int], dict]) -> list[dict]:
    """The entries, with ``change(d, g)`` in those whose object g is not -1."""
    return [
        entry | change(d, int(g)) if g >= 0 else entry
        for d, (entry, g) in enumerate(zip(scene.entries, rows, strict=True))
    ]


def _corners(entry: dict) -> tuple[float, float, float, float]:
    x, y, width, height = entry["bbox"]
    return x, y, x + width, y + height


def _named(scene: Scene, g: int) -> dict:
    return {"category_id": scene.category(g)}


def _placed(scene: Scene, g: int, mask: dict) -> dict:
    return {"bbox": bbox_of(scene.objects[g]), "segmentation": mask}


def _first(rows: np.ndarray) -> list[int]:
    """Rows of the detections that are the best of their object, or have none."""
    best: dict[int, int] = {}
    return [d for d, g in enumerate(rows.tolist()) if g < 0 or best.setdefault(g, d) == d]


def cut_to_box(mask: Bitmap, box: tuple[float, float, float, float], size: tuple[int, int]) -> dict:
    """Run lengths of a mask's pixels whose centre lies in the box (xyxy), which are those that a predicted mask can have."""
    x0, y0, x1, y1 = (math.ceil(side - 0.5) for side in box)
    left, top, right, bottom = mask.window
    x0, y0 = max(x0, left), max(y0, top)
    inside = mask.cut(x0, y0, max(min(x1, right), x0), max(min(y1, bottom), y0))
    return encode_rle(inside.bits, x0, y0, size)


@dataclass
class Reruns:
    """Entries of results files: as they are, and for each oracle that could be asked."""

    plain: list[dict] = field(default_factory=list)
    mended: dict[str, list[dict]] = field(default_factory=dict)
    fixed: FixedBoxes | None = None  # every object with the mask predicted in its own box; None without a model

    def add(self, scene: Scene, drawn: list[dict] | None = None) -> None:
        self.plain += scene.entries
        for name, entries in mend(scene, drawn).items():
            self.mended.setdefault(name, []).extend(entries)


def mend_results(data: CocoData, entries: list[dict]) -> Reruns:
    """The oracles that need no model, of anybody's results."""
    data.require_objects("analyse")
    reruns = Reruns()
    for image, found in zip(data.images, by_image(data, entries), strict=True):
        reruns.add(Scene.of(image, found, data.categories.ids))
    return reruns


def rerun(
    model: Model,
    data: CocoData,
    *,
    batch: int = 1,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Reruns:
    """All oracles, and every object in its own box.  Each image meets the backbone twice, for what is found and for the rest.

    ``data`` were read with the model's categories; ``progress`` is called with images done and images in all.
    """
    from seanet.evaluation.run import batches  # it waits for torch

    data.require_objects("analyse")
    fixed, ids = FixedBoxes(data, model.config), data.categories.ids
    reruns = Reruns(fixed=fixed)
    for records, images, sizes in batches(data, model.config.data, batch, workers):
        found = model.predict_batch(images, sizes)
        scenes = [Scene.of(r, i.to_coco(r.id), ids) for r, i in zip(records, found, strict=True)]
        for scene, drawn in zip(scenes, redraw(model, images, sizes, [s.asked() for s in scenes]), strict=True):
            reruns.add(scene, drawn)
            fixed.add(scene.image, drawn[: len(scene.objects)])
            if progress:
                progress(fixed.images, len(data.images))
    return reruns
