"""Small batches for tests, packed by a few lines of plain code, and a small model."""

import torch

from seanet.predict import Model, build
from seanet.recipes import recipe
from seanet.settings import override
from seanet.types import Batch, PackedMasks, Target


def small_model(short: int, long: int) -> Model:
    """One of two classes that finds something in every image of so many pixels."""
    torch.manual_seed(0)
    sides = [f"data.short_sides=[{short}]", f"data.long_side={long}"]
    model = build(
        override(recipe("seanet_lite"), ["backbone.norm=batch", *sides, "detections.score=0.0"]), ["cat", "dog"]
    )
    torch.nn.init.constant_(model.detector.box_heads[0].iou.bias, 0.7)
    return model


def packed(masks: list[tuple[torch.Tensor, int, int]]) -> PackedMasks:
    """Bitmaps (h, w) of 0 and 1 at a column and a row."""
    tables, starts, windows, first = [], [], [], 0
    for bits, left, top in masks:
        table = torch.zeros(bits.shape[0] + 1, bits.shape[1] + 1, dtype=torch.int32)
        table[1:, 1:] = bits.to(torch.int32).cumsum(0).cumsum(1)
        tables.append(table.flatten())
        starts.append(first)
        windows.append((left, top, left + bits.shape[1], top + bits.shape[0]))
        first += table.numel()
    return PackedMasks(
        torch.cat(tables) if tables else torch.zeros(0, dtype=torch.int32),
        torch.tensor(starts, dtype=torch.int64),
        torch.tensor(windows, dtype=torch.int64).reshape(-1, 4),
    )


def packed_dense(masks: torch.Tensor) -> PackedMasks:
    """(G, H, W) of 0 and 1, each cut to its object."""
    cut = []
    for mask in masks:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        top, left = int(rows[0]), int(columns[0])
        cut.append((mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1], left, top))
    return packed(cut)


def target(boxes: list[tuple[int, int, int, int]], labels: list[int]) -> Target:
    """Objects that fill their boxes."""
    masks = packed([(torch.ones(y1 - y0, x1 - x0), x0, y0) for x0, y0, x1, y1 in boxes])
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64), masks
    )


def batch_of(images: torch.Tensor, targets: list[Target] | None = None, seed: int = 0) -> Batch:
    return Batch(
        images, [tuple(images.shape[-2:])] * len(images), targets, list(range(len(images))), [seed] * len(images)
    )
