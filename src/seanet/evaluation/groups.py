"""Groups of images (``data.groups``), each measured as if there were no other: metrics, and models side by side.

Intervals of a group are made of draws of its own images; nan where they are fewer than ``FEWEST``.  Free of torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seanet.data.coco import CocoData
from seanet.evaluation.assess import Assessment, measure_results
from seanet.evaluation.bootstrap import draws, mean_precision, means
from seanet.evaluation.boundary import NAMES
from seanet.evaluation.compare import Comparison, Row, at_recall, figure_of, make_row
from seanet.evaluation.matching import Hits

Named = Mapping[str, Collection[int]]  # group -> ids of its images
FEWEST = 6  # images of which an interval is made: five that agree can do so by chance once in 2**4 times
WIDTHS = ("1px", "3px", "8px")
FIGURES = {"segm/AP": "Mask AP", "boundary/AP": "Boundary AP"}
FIGURES |= {f"TA@R/{width}": f"TA@R, {width.replace('px', ' px')}" for width in WIDTHS}


@dataclass(frozen=True)
class Group:
    """Some of the images, and ``FIGURES`` of all models on them alone."""

    name: str
    images: int
    objects: int
    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "objects": self.objects,
            "figures": {row.key: figure_of(row) for row in self.rows},
        }


@dataclass(frozen=True)
class Groups:
    """Of images that agree in a key of their entries."""

    key: str
    groups: tuple[Group, ...]

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "groups": {group.name: group.as_json() for group in self.groups}}


def of_group(data: CocoData, ids: Collection[int]) -> CocoData:
    """The data with these images alone; the categories stay."""
    return replace(data, images=tuple(image for image in data.images if image.id in ids))


def measure_groups(
    data: CocoData, entries: list[dict], groups: Named, max_detections: int, boundary: bool = True
) -> dict[str, dict[str, Any]]:
    """``measure_results`` of each group; ``entries`` are the results of all images."""
    return {
        name: measure_results(of_group(data, ids), entries, max_detections, boundary) for name, ids in groups.items()
    }


def compare_groups(comparison: Comparison, key: str, groups: Named) -> Groups:
    """``FIGURES`` of each group and their differences to A, from what the comparison measured; nothing is matched anew."""
    return Groups(key, tuple(_group(comparison, name, ids) for name, ids in groups.items()))


def _group(comparison: Comparison, name: str, ids: Collection[int]) -> Group:
    kept = np.array([image.id in ids for image in comparison.data.images], bool)
    images = int(kept.sum())
    weights = draws(images, comparison.resamples if images >= FEWEST else 0, comparison.seed)
    assessments = [contender.assessment for contender in comparison.contenders]
    once = [_figures(a, kept, np.ones((1, images), np.int32))[0] for a in assessments]
    often = [_figures(a, kept, weights) for a in assessments]
    rows = tuple(
        make_row(key, name, title, "share", 1, [v[i] for v in once], [d[:, i] for d in often])
        for i, (key, title) in enumerate(FIGURES.items())
    )
    return Group(name, images, int(kept[assessments[0].pairs.image].sum()), rows)


def _figures(assessment: Assessment, kept: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each of ``FIGURES`` for each draw ``weights`` (B, n) of the n images that are ``kept`` (I,): (B, F)."""
    precision = [mean_precision(hits_of(assessment.hits[kind], kept), weights).mean(1) for kind in ("segm", "boundary")]
    inside = kept[assessment.pairs.image]
    scores = at_recall(assessment)[inside][:, [NAMES.index(width) for width in WIDTHS]]
    image = numbers(kept)[assessment.pairs.image[inside]]
    return np.column_stack([*precision, means(scores, image, weights)])


def hits_of(hits: Hits, kept: np.ndarray) -> Hits:
    """What AP of the images that are ``kept`` (I,) alone is made of; they are numbered anew."""
    rows = kept[hits.image]
    image = numbers(kept)[hits.image[rows]]
    return Hits(
        image, hits.label[rows], hits.score[rows], hits.true[:, rows], hits.ignored[:, rows], hits.objects[kept]
    )


def numbers(kept: np.ndarray) -> np.ndarray:
    """(I,) where each image that is kept stands among those."""
    return np.cumsum(kept) - 1
