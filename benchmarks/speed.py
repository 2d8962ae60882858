"""Time and memory of a training step and of a prediction: recipes of ours and torchvision's Mask R-CNN in the same run.

    .venv/bin/python benchmarks/speed.py mask_rcnn_r50 seanet_r50 torchvision --size 480 640 --out benchmarks/speed.json

Models take turns, so that a machine whose speed drifts slows all alike; the first of the list is 1.0 in the ratios.  Each
image is random pixels with eight objects.  Weights are random and no score is too low, so every model predicts its limit
of 100 objects.  Peak memory is that of a fresh process that does one thing, less what its imports and weights take.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from seanet.detector import build
from seanet.recipes import recipe
from seanet.types import Batch, PackedMasks, Target

CLASSES, OBJECTS = 80, 8
TASKS = ("train", "predict")
Action = Callable[[], object]


def scene(size: tuple[int, int], count: int, device: str) -> Batch:
    """Rectangles that fill their boxes: a window's summed-area table is then the product of its coordinates."""
    torch.manual_seed(0)
    targets = []
    for _ in range(count):
        limit = torch.tensor([size[1], size[0]])
        corners = (torch.rand(OBJECTS, 2) * limit * 0.5).long()
        extent = ((0.1 + 0.4 * torch.rand(OBJECTS, 2)) * limit).long()
        tables = [torch.outer(torch.arange(h + 1), torch.arange(w + 1)).flatten().int() for w, h in extent.tolist()]
        starts = torch.tensor([0, *(len(table) for table in tables[:-1])]).cumsum(0)
        windows = torch.cat((corners, corners + extent), 1)
        labels = torch.randint(1, CLASSES + 1, (OBJECTS,))
        targets.append(Target(windows.float(), labels, PackedMasks(torch.cat(tables), starts, windows)))
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8)
    return Batch(images, [size] * count, targets).to(device)


def ours(name: str, batch: Batch, device: str) -> dict[str, Action]:
    config = recipe(name)
    detector = build(replace(config, detections=replace(config.detections, score=0.0)), CLASSES).to(device)

    def train() -> None:
        detector.train().zero_grad()
        sum(detector(batch).values()).backward()

    return {"train": train, "predict": lambda: detector.eval().predict(batch)}


def torchvisions(batch: Batch, size: tuple[int, int], device: str) -> dict[str, Action]:
    """As its users run it: a list of float images, dense masks in, masks of the image's size out."""
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)  # with frozen norms
    limits = {"min_size": min(size), "max_size": max(size), "box_score_thresh": 0.0}
    network = MaskRCNN(backbone, CLASSES + 1, **limits).to(device)
    images = list(batch.images / 255)
    targets = [
        {"boxes": t.boxes, "labels": t.labels, "masks": torch.stack([_dense(w, size) for w in t.masks.windows])}
        for t in batch.targets or []
    ]

    def train() -> None:
        network.train().zero_grad()
        sum(network(images, targets).values()).backward()

    def predict() -> None:
        with torch.inference_mode():
            network.eval()(images)

    return {"train": train, "predict": predict}


def _dense(window: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.uint8, device=window.device)
    x0, y0, x1, y1 = window.tolist()
    mask[y0:y1, x0:x1] = 1
    return mask


def actions(name: str, size: tuple[int, int], count: int, device: str) -> dict[str, Action]:
    batch = scene(size, count, device)
    return torchvisions(batch, size, device) if name == "torchvision" else ours(name, batch, device)


def seconds(action: Action, device: str) -> float:
    began = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def interleaved(models: dict[str, dict[str, Action]], task: str, repeats: int, device: str) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(repeats + 1):
        for name, model in models.items():
            taken = seconds(model[task], device)
            if turn:  # the first warms up
                times[name].append(taken)
    return times


def peak(name: str, task: str, size: tuple[int, int], count: int, device: str) -> float:
    """Megabytes that the task adds, in this process."""
    action = actions(name, size, count, device)[task]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = high_water()
    action()
    return (high_water() - before) / 1024


def high_water() -> int:
    """Kilobytes; Linux's own record, since a child's ``ru_maxrss`` begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_elsewhere(name: str, task: str, arguments: argparse.Namespace) -> float:
    command = [sys.executable, __file__, name, "--peak", task, "--device", arguments.device]
    command += ["--batch", str(arguments.batch), "--size", *map(str, arguments.size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["torchvision", "mask_rcnn_r50", "seanet_r50"])
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak", choices=TASKS, help="Only print the megabytes that one model's task adds.")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    size, device = tuple(arguments.size), arguments.device
    if arguments.peak:
        print(peak(arguments.models[0], arguments.peak, size, arguments.batch, device))
        return
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{machine}, torch {torch.__version__}, {arguments.batch} image(s) of {size[0]} x {size[1]}")
    models = {name: actions(name, size, arguments.batch, device) for name in arguments.models}
    found: dict[str, dict] = {name: {} for name in models}
    for task in TASKS:
        times = interleaved(models, task, arguments.repeats, device)
        first = sorted(times[arguments.models[0]])[arguments.repeats // 2]
        print(f"{task:<24}{'median s':>10}{'ratio':>8}{'peak MB':>10}")
        for name, taken in times.items():
            median = sorted(taken)[arguments.repeats // 2]
            memory = peak_elsewhere(name, task, arguments)
            found[name][task] = {"seconds": taken, "ratio": median / first, "peak_mb": memory}
            print(f"{name:<24}{median:>10.2f}{median / first:>8.2f}{memory:>10.0f}", flush=True)
    if arguments.out:
        facts = {"machine": machine, "system": platform.platform(), "torch": torch.__version__, "size": size}
        arguments.out.write_text(json.dumps(facts | {"batch": arguments.batch, "models": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
