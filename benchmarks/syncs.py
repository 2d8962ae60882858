"""Where one training step and one prediction would wait for a GPU, counted on the CPU by line of source.

    .venv/bin/python benchmarks/syncs.py seanet_r50

An operation waits where the host must know a value or a size that the device has computed.  Copies to the host are not
seen here, for there is no device; nor is what a kernel of NMS does inside (one wait each, counted as ``nms``).
"""

import argparse
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import seanet
from seanet.detector import Detector, build
from seanet.recipes import recipe
from seanet.types import Batch, PackedMasks, Target

OURS, THEIRS = Path(seanet.__file__).parent, Path(torchvision.__file__).parent
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "nms", "_unique2", "unique_dim", "unique_consecutive"}
WAITING |= {"equal", "is_nonzero", "bincount"}


class Syncs(TorchDispatchMode):
    """Counts (operation, line): the innermost line of ours, or of torchvision's where it is nearer."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if name := waits(func, args):
            self.found[name, line_of_source()] += 1
        return func(*args, **(kwargs or {}))


def waits(func, args: tuple) -> str | None:
    name = func._schema.name.partition("::")[2]
    if name in WAITING:
        return name
    if name in ("index", "index_put_", "index_put") and any(_is_mask(index) for index in args[1]):
        return f"{name} by a mask"
    if name == "repeat_interleave" and not isinstance(args[-1], int):
        return name
    return None


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def line_of_source() -> str:
    for frame in reversed(traceback.extract_stack()):
        for root in (OURS, THEIRS):
            if Path(frame.filename).is_relative_to(root):
                return f"{root.name}/{Path(frame.filename).relative_to(root)}:{frame.lineno} {frame.name}"
    return "elsewhere"


def syncs(action: Callable[[], object]) -> Counter[tuple[str, str]]:
    with Syncs() as seen:
        action()
    return seen.found


def actions(name: str, images: int) -> dict[str, Callable[[], object]]:
    """A training step, forward and backward, and a prediction, of small images with two objects each."""
    torch.manual_seed(0)
    config = recipe(name)
    detector = build(replace(config, detections=replace(config.detections, score=0.0)), 3)
    batch = scene(images)
    return {"train": lambda: step(detector.train(), batch), "predict": lambda: detector.eval().predict(batch)}


def step(detector: Detector, batch: Batch) -> None:
    sum(detector(batch).values()).backward()


def scene(images: int) -> Batch:
    """Squares that fill their boxes: a summed-area table is then the product of its coordinates."""
    windows = torch.tensor([[10, 10, 58, 58], [40, 30, 120, 94]])
    tables = [torch.outer(torch.arange(y1 - y0 + 1), torch.arange(x1 - x0 + 1)) for x0, y0, x1, y1 in windows.tolist()]
    starts = torch.tensor([0, tables[0].numel()])
    masks = PackedMasks(torch.cat([table.flatten().int() for table in tables]), starts, windows)
    targets = [Target(windows.float(), torch.tensor([1, 2]), masks)] * images
    pixels = torch.randint(0, 256, (images, 3, 96, 128), dtype=torch.uint8)
    return Batch(pixels, [(96, 128)] * images, targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["seanet_r50"])
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.models:
        for task, action in actions(name, arguments.batch).items():
            found = syncs(action)
            print(f"{name}, {task}, {arguments.batch} image(s): {found.total()} waits")
            for (operation, line), count in sorted(found.items(), key=lambda item: (-item[1], item[0])):
                print(f"{count:>5}  {operation:<22}{line}")


if __name__ == "__main__":
    main()
