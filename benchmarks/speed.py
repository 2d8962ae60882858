"""Seconds of a training step and of a prediction, and parameters, for each recipe on this machine.

    .venv/bin/python benchmarks/speed.py seanet_lite mask_rcnn_lite --out runs/speed.json

One image of random pixels at the recipe's size, with eight objects.  Weights are random, so scores are not limited: the
mask head sees as many detections as the recipe allows at most.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from seanet.detector import build, count_parameters
from seanet.recipes import recipe
from seanet.types import Batch, PackedMasks, Target

CLASSES, OBJECTS = 80, 8


def scene(side: int, device: str) -> Batch:
    """Rectangles that fill their boxes: a window's summed-area table is then the product of its coordinates."""
    corners = torch.randint(0, side // 2, (OBJECTS, 2))
    extent = torch.randint(side // 8, side // 2, (OBJECTS, 2))
    windows = torch.cat((corners, corners + extent), 1)
    tables = [torch.outer(torch.arange(h + 1), torch.arange(w + 1)).flatten().int() for w, h in extent.tolist()]
    starts = torch.tensor([0, *(len(table) for table in tables[:-1])]).cumsum(0)
    labels = torch.randint(1, CLASSES + 1, (OBJECTS,))
    target = Target(windows.float(), labels, PackedMasks(torch.cat(tables), starts, windows))
    images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    return Batch(images, [(side, side)], [target]).to(device)


def seconds(action: Callable[[], object], repeats: int, device: str) -> float:
    """The median, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[repeats // 2]


def measure(name: str, repeats: int, device: str) -> dict[str, float]:
    config = recipe(name)
    config = replace(config, detections=replace(config.detections, score=0.0))
    detector = build(config, CLASSES).to(device)
    batch = scene(-(-config.data.short_sides[-1] // 32) * 32, device)

    def step() -> None:
        detector.zero_grad()
        sum(detector(batch).values()).backward()

    training = seconds(step, repeats, device)
    detector.eval()
    prediction = seconds(lambda: detector.predict(batch), repeats, device)
    return {"step": training, "predict": prediction, "parameters": count_parameters(detector)["total"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["mask_rcnn_lite", "seanet_lite"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{machine}, torch {torch.__version__}")
    print(f"{'recipe':<24}{'step s':>9}{'predict s':>11}{'parameters':>14}")
    found = {}
    for name in arguments.recipes:
        row = found[name] = measure(name, arguments.repeats, arguments.device)
        print(f"{name:<24}{row['step']:>9.3f}{row['predict']:>11.3f}{row['parameters']:>14,}", flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        facts = {"machine": machine, "system": platform.platform(), "torch": torch.__version__}
        arguments.out.write_text(json.dumps(facts | {"recipes": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
