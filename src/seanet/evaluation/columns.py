"""The objects and the detections of a whole data set as columns of numbers, so that matching needs no loop over images.

A cell is one class in one image; cells are numbered image by image by rising id, and in an image label by label: the order
in which COCO's code goes through them.  G annotations, D detections, N entries, I images, K classes.  Free of torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seanet.data.coco import Annotation, CocoData, to_rle


@dataclass(frozen=True)
class Objects:
    """All annotations, cell by cell, those of a cell in the order of the data."""

    annotations: list[Annotation]  # G
    image: np.ndarray  # (G,) index into data.images
    number: np.ndarray  # (G,) row among the annotations of its image
    cell: np.ndarray  # (G,) rising
    crowd: np.ndarray  # (G,) bool
    area: np.ndarray  # (G,) pixels, as the data say
    masks: list[dict[str, Any]]  # G run lengths

    @classmethod
    def of(cls, data: CocoData) -> Objects:
        rows = [(i, g, a) for i, image in enumerate(data.images) for g, a in enumerate(image.annotations)]
        image = np.array([i for i, _, _ in rows], np.int64)
        label = np.array([a.label for _, _, a in rows], np.int64)
        cell = places(data)[image] * len(data.categories) + label - 1
        order = np.argsort(cell, kind="stable")
        image, annotations = image[order], [rows[row][2] for row in order]
        own = (data.images[i] for i in image.tolist())
        return cls(
            annotations=annotations,
            image=image,
            number=np.array([g for _, g, _ in rows], np.int64)[order],
            cell=cell[order],
            crowd=np.array([a.crowd for a in annotations], bool),
            area=np.array([a.area for a in annotations], np.float64),
            masks=[to_rle(a, i.height, i.width) for a, i in zip(annotations, own, strict=True)],
        )

    def boxes(self) -> np.ndarray:
        """(G, 4) x, y, width and height, as results have them."""
        corners = np.array([a.box for a in self.annotations], np.float64).reshape(-1, 4)
        return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)


@dataclass(frozen=True)
class Ranked:
    """The best detections of each cell, best first, and of equal ones the first of the list."""

    entry: np.ndarray  # (D,) row of the list of entries
    cell: np.ndarray  # (D,) rising
    rank: np.ndarray  # (D,) within its cell, from 0
    score: np.ndarray  # (D,)

    @classmethod
    def of(cls, data: CocoData, entries: list[dict], limit: int, key: str = "score") -> Ranked:
        """Ranked by ``key`` where they have it, else by score; what is of no image or class of ``data`` is left out."""
        place, label = place_of(data, entries), label_of(data, entries)
        score = np.array([e.get(key, e["score"]) for e in entries], np.float64)
        known = np.flatnonzero((place >= 0) & (label > 0))
        cell, score = place[known] * len(data.categories) + label[known] - 1, score[known]
        order = np.lexsort((-score, cell))
        cell = cell[order]
        rank = ranks(cell)
        kept = rank < limit
        order = order[kept]
        return cls(known[order], cell[kept], rank[kept], score[order])


def places(data: CocoData) -> np.ndarray:
    """(I,) where each image stands if they are sorted by id."""
    order = sorted(range(len(data.images)), key=lambda i: data.images[i].id)
    place = np.zeros(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def place_of(data: CocoData, entries: list[dict]) -> np.ndarray:
    """(N,) the place of each entry's image, -1 if ``data`` do not have it."""
    numbers = dict(zip((image.id for image in data.images), places(data).tolist(), strict=True))
    return np.array([numbers.get(entry["image_id"], -1) for entry in entries], np.int64)


def label_of(data: CocoData, entries: list[dict]) -> np.ndarray:
    """(N,) the label of each entry's category, 0 if ``data`` do not have it."""
    labels = {id: label for label, id in enumerate(data.categories.ids, 1)}
    return np.array([labels.get(entry["category_id"], 0) for entry in entries], np.int64)


def rows_in_image(data: CocoData, entries: list[dict]) -> np.ndarray:
    """(N,) how many entries of its image stand before each, best first and of equal ones the first of the list."""
    place = place_of(data, entries)
    order = np.lexsort((-np.array([entry["score"] for entry in entries], np.float64), place))
    rows = np.empty_like(order)
    rows[order] = ranks(place[order])
    return rows


def ranks(keys: np.ndarray) -> np.ndarray:
    """(n,) sorted keys -> (n,) how many equal ones stand before each."""
    return np.arange(len(keys)) - np.searchsorted(keys, keys)


def spread(first: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of the ranges that begin at ``first`` (n,) and have ``counts`` (n,) numbers, and of which range each is."""
    owner = np.repeat(np.arange(len(counts)), counts)
    inside = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first[owner] + inside, owner
