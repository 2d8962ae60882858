"""What flows through the detector.  B images, G ground truths, R RoIs (flat over the batch), N detections, M mask cells a side.

Boxes are float32 xyxy in absolute pixels of the network's image, pixel i covering i..i+1.  Labels are 1..K, 0 is background.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Movable:
    """Frozen dataclasses of tensors that travel between devices as one."""

    def to(self, device: torch.device | str):
        return type(self)(**{f.name: _to(getattr(self, f.name), device) for f in fields(self)})


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor | Movable):
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value.to(device)
    return [_to(v, device) for v in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class PackedMasks(Movable):
    """Binary masks of G objects, each cut to its window and kept as a summed-area table, all in one flat buffer.

    A table of a window of h x w pixels has (h+1) x (w+1) entries, row by row; entry (y, x) counts the object's pixels
    above and left of that corner.  Any rectangle's cover is four look-ups, so targets of RoIs need no dense mask.
    """

    tables: Tensor  # (T,) int32
    starts: Tensor  # (G,) int64, first entry of each table
    windows: Tensor  # (G, 4) int64 xyxy, pixels of the network's image

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def areas(self) -> Tensor:
        """(G,) pixels of each object: the last entry of its table."""
        sides = self.windows[:, 2:] - self.windows[:, :2] + 1
        return self.tables[self.starts + sides.prod(1) - 1]

    @classmethod
    def cat(cls, parts: list[PackedMasks]) -> PackedMasks:
        """One buffer for the masks of several images, in order."""
        shift, starts = 0, []
        for part in parts:
            starts.append(part.starts + shift)
            shift += len(part.tables)
        return cls(torch.cat([p.tables for p in parts]), torch.cat(starts), torch.cat([p.windows for p in parts]))


@dataclass(frozen=True, slots=True)
class Target(Movable):
    """Ground truth of one image; crowd regions are left out."""

    boxes: Tensor  # (G, 4) float32
    labels: Tensor  # (G,) int64 in 1..K
    masks: PackedMasks  # G


@dataclass(frozen=True, slots=True)
class Batch(Movable):
    images: Tensor  # (B, 3, H, W) uint8 RGB, padded with zeros at the right and the bottom
    sizes: list[tuple[int, int]]  # (height, width) of each image before padding
    targets: list[Target] | None = None
    ids: list[int] | None = None  # image ids of the data set, for messages
    seeds: list[int] | None = None  # of what is drawn at random for each image; None: all 0

    def __len__(self) -> int:
        return len(self.images)

    def own_seeds(self) -> list[int]:
        return self.seeds if self.seeds is not None else [0] * len(self)

    @property
    def seed(self) -> int:
        """Of what is drawn for all images together, such as dropout: the first image's."""
        return self.own_seeds()[0]


@dataclass(frozen=True, slots=True)
class Rois(Movable):
    """Boxes of all images of a batch in one flat list."""

    boxes: Tensor  # (R, 4)
    image: Tensor  # (R,) int64, index into the batch

    @classmethod
    def cat(cls, per_image: list[Tensor]) -> Rois:
        index = [torch.full((len(b),), i, device=b.device) for i, b in enumerate(per_image)]
        return cls(torch.cat(per_image), torch.cat(index))

    def __getitem__(self, keep: Tensor) -> Rois:
        return Rois(self.boxes[keep], self.image[keep])

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, slots=True)
class Matched(Movable):
    """Ground truth assigned to each RoI; ``boxes`` and ``index`` mean something only where the label is not 0."""

    labels: Tensor  # (R,) int64, 0 = background
    boxes: Tensor  # (R, 4)
    index: Tensor  # (R,) int64, row of the batch's ground truths, flat

    def __getitem__(self, keep: Tensor) -> Matched:
        return Matched(self.labels[keep], self.boxes[keep], self.index[keep])

    @classmethod
    def cat(cls, parts: list[Matched]) -> Matched:
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass(frozen=True, slots=True)
class Detections(Movable):
    """What the detector found, best first within an image, images in order."""

    rois: Rois  # N
    labels: Tensor  # (N,) int64 in 1..K
    scores: Tensor  # (N,) what they are ranked by
    cls_scores: Tensor  # (N,) factor of the score
    box_ious: Tensor | None = None  # (N,) factor of the score: predicted IoU of the box with its object
    mask_ious: Tensor | None = None  # (N,) factor of the score: predicted IoU of the mask with its object
    box_scores: Tensor | None = None  # (N,) the score without that factor, where there is one
    masks: Tensor | None = None  # (N, M, M) probability inside the box
    edges: Tensor | None = None  # (N, M, M) probability inside the box

    def __getitem__(self, keep: Tensor) -> Detections:
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: part[keep] for name, part in parts.items() if part is not None})

    def __len__(self) -> int:
        return len(self.scores)
