"""What every model of a run meets alike: image files, proposals, masks of a plausible shape, training data.

Untrained networks propose, and paint, noise.  Their own proposals and masks are computed, and thrown away for these.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from seanet.bench.contenders import Setting
from seanet.data.bitmaps import Bitmap
from seanet.data.transforms import Sample

JITTER = 0.06  # of an object's sides: boxes moved by less overlap it by more than a half
COPIES = 200  # proposals around objects of a training image: enough to fill the positive share of the samples
SMALLEST, LARGEST = 0.02, 0.9  # sides of proposals as shares of the image's


def photograph(size: tuple[int, int], seed: int) -> bytes:
    """A JPEG of (height, width) with as much detail at every scale: noise of several sizes, the coarsest strongest."""
    rng, (height, width) = np.random.default_rng(seed), size
    pixels = np.zeros((height, width, 3))
    for cells in (4, 16, 64, 256):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) / cells**0.5
    low, high = pixels.min(), pixels.max()
    buffer = BytesIO()
    Image.fromarray(np.uint8(255 * (pixels - low) / (high - low))).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_photographs(folder: Path, setting: Setting) -> list[Path]:
    """As many files as a batch has images."""
    paths = [folder / f"{i}.jpg" for i in range(setting.batch)]
    for i, path in enumerate(paths):
        path.write_bytes(photograph(setting.file, i))
    return paths


def unit_boxes(count: int, seed: int = 0) -> Tensor:
    """(count, 4) xyxy inside 0..1: sides spread evenly over their logarithms, as COCO's objects about are."""
    generator = torch.Generator().manual_seed(seed)
    span = torch.tensor([SMALLEST, LARGEST]).log()
    side = (span[0] + (span[1] - span[0]) * torch.rand(count, 1, generator=generator)).exp()
    stretch = (0.35 * torch.randn(count, 1, generator=generator)).exp()
    sides = torch.cat((side * stretch, side / stretch), 1).clamp(max=LARGEST)
    corner = torch.rand(count, 2, generator=generator) * (1 - sides)
    return torch.cat((corner, corner + sides), 1)


class Proposals:
    """Takes the place of what an RPN proposes, after that has done its work: the same boxes for every model and turn."""

    def __init__(self, count: int):
        self.unit = unit_boxes(count)

    def boxes(self, size: tuple[int, int], truth: Tensor | None, device: torch.device) -> Tensor:
        """(count, 4) in pixels of an image of (height, width); in training the first surround the objects (G, 4)."""
        height, width = size
        boxes = (self.unit * torch.tensor([width, height, width, height])).to(device)
        if truth is not None:
            near = around(truth, COPIES)
            boxes[: len(near)] = near[: len(boxes)]
        return boxes

    def put_into(self, rpn: nn.Module) -> None:
        """``rpn`` is torchvision's, or ours, which takes seeds as well; its call gives boxes of each image and losses."""
        real = rpn.forward

        def forward(images: Any, features: Any, targets: Any = None, *seeds: Any) -> tuple[list[Tensor], dict]:
            found, losses = real(images, features, targets, *seeds)
            truths = [None] * len(found) if targets is None else [target["boxes"] for target in targets]
            pairs = zip(images.image_sizes, truths, strict=True)
            return [self.boxes(size, truth, found[0].device) for size, truth in pairs], losses

        rpn.forward = forward


def around(truth: Tensor, count: int) -> Tensor:
    """About ``count`` boxes, (n, 4), that overlap the objects (G, 4) by more than a half."""
    copies = max(count // max(len(truth), 1), 1)
    generator = torch.Generator().manual_seed(0)
    sides = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
    shift = (2 * torch.rand(copies, *truth.shape, generator=generator) - 1).to(truth.device)
    return (truth + JITTER * shift * sides).flatten(0, 1)


def ellipse(cells: int) -> Tensor:
    """(cells, cells) logits of an ellipse that touches its box: the shape whose runs are encoded."""
    centre = (torch.arange(cells) + 0.5) / cells * 2 - 1
    return 8 * (1 - centre[:, None] ** 2 - centre**2)


def samples(setting: Setting) -> list[Sample]:
    """Training images of random pixels with rectangles, which are cut to their boxes as all objects are."""
    return [_sample(setting, np.random.default_rng(i), i) for i in range(setting.batch)]


def _sample(setting: Setting, rng: np.random.Generator, number: int) -> Sample:
    height, width = setting.size
    limit = np.array([width, height])
    corners = (rng.random((setting.objects, 2)) * limit * 0.5).astype(int)
    sides = ((0.1 + 0.4 * rng.random((setting.objects, 2))) * limit).astype(int)
    masks = tuple(
        Bitmap(np.ones((h, w), np.uint8), x, y) for (x, y), (w, h) in zip(corners.tolist(), sides.tolist(), strict=True)
    )
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = np.concatenate((corners, corners + sides), 1).astype(np.float32)
    return Sample(image, boxes, rng.integers(1, setting.classes + 1, setting.objects), masks, number)


def dense(masks: Sequence[Bitmap], size: tuple[int, int]) -> Tensor:
    """(G, H, W) uint8, as torchvision's users give them."""
    found = torch.zeros(len(masks), *size, dtype=torch.uint8)
    for room, mask in zip(found, masks, strict=True):
        x0, y0, x1, y1 = mask.window
        room[y0:y1, x0:x1] = torch.from_numpy(mask.bits)
    return found
