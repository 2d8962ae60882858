"""Peak memory by the number of objects: predicting 300 in a photograph of 12 megapixels, training with 5 and with 60.

    .venv/bin/python benchmarks/memory.py seanet_lite seanet_r50 --out benchmarks/memory.json

Each figure is of a fresh process that does one thing: the most that it held, less what it held when all was loaded.
Weights are random.  ``network`` is the network alone at 800 pixels; ``coco``, ``labels`` and ``overlay`` begin with the
JPEG and end with what ``seanet predict`` writes, with every mask as large as the photograph, which is as bad as it gets.
Training is a step, forward and backward, with one image of 800 x 1216 and objects of 40 to 300 pixels.  Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from seanet.data.bitmaps import Bitmap
from seanet.data.loader import collate, collate_images, read_whole
from seanet.data.transforms import Sample
from seanet.instances import Instances
from seanet.predict import Model, build
from seanet.recipes import recipe
from seanet.report.outputs import Outputs

FOUND, PHOTOGRAPH, NETWORK = 300, (3000, 4000), (800, 1216)
OBJECTS = (5, 60)
KINDS = ("coco", "labels", "overlay")
TASKS = ("network", *KINDS, *(f"train {count}" for count in OBJECTS))


def photograph(path: Path) -> Path:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    coarse.resize(PHOTOGRAPH[::-1], Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def as_large_as_the_image(found: Instances) -> Instances:
    """The same with discs that fill the photograph."""
    y, x = np.mgrid[:28, :28] - 13.5
    cells = np.float32(1 / (1 + np.exp(np.hypot(x, y) - 12)))
    whole = np.float32([0, 0, *found.size[::-1]])
    return replace(found, boxes=np.tile(whole, (len(found), 1)), masks=np.tile(cells, (len(found), 1, 1)))


def predicting(model: Model, task: str, path: Path, folder: Path) -> Callable[[], object]:
    if task == "network":
        seen, _, size = read_whole(path, model.config.data)
        batch = collate_images([seen])
        return lambda: model.predict_batch(batch, [size])

    def write() -> None:
        seen, pixels, size = read_whole(path, model.config.data)
        (found,) = model.predict_batch(collate_images([seen]), [size])
        assert len(found) == FOUND
        with Outputs(folder, [task], model.categories.ids, model.categories.names) as outputs:
            outputs.add(path, pixels if task == "overlay" else None, as_large_as_the_image(found))

    return write


def training(model: Model, count: int) -> Callable[[], object]:
    batch = collate([scene(count)])

    def step() -> None:
        model.detector.train()
        sum(model.detector(batch).values()).backward()

    return step


def scene(count: int) -> Sample:
    """Noise with that many discs."""
    rng = np.random.default_rng(0)
    height, width = NETWORK
    masks = []
    for side in rng.integers(40, 300, count).tolist():
        across = np.arange(side) - (side - 1) / 2
        bits = (across[:, None] ** 2 + across**2 <= (side / 2) ** 2).view(np.uint8)
        masks.append(Bitmap(bits, int(rng.integers(width - side)), int(rng.integers(height - side))))
    boxes = np.array([mask.window for mask in masks], np.float32)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(pixels, boxes, rng.integers(1, 81, count), tuple(masks), id=0)


def megabytes(entry: str) -> float:
    """Of this process, now (VmRSS) or at most until now (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(entry)).split()[1]) / 1024


def peak(name: str, task: str, path: Path) -> float:
    torch.manual_seed(0)
    config = recipe(name)
    config = replace(config, detections=replace(config.detections, score=0.0, nms=1.0, limit=FOUND))
    data = replace(config.data, short_sides=(NETWORK[0],), long_side=1333)
    model = build(replace(config, data=data), 80)
    with tempfile.TemporaryDirectory() as folder:
        count = task.removeprefix("train ")
        action = predicting(model, task, path, Path(folder)) if count == task else training(model, int(count))
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins again
        before = megabytes("VmRSS")
        action()
        return megabytes("VmHWM") - before


def peak_elsewhere(name: str, task: str, path: Path) -> float:
    command = [sys.executable, __file__, name, "--task", task, "--photograph", str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["seanet_lite", "seanet_r50"])
    parser.add_argument("--task", choices=TASKS, help="Only print the megabytes of one model's task.")
    parser.add_argument("--photograph", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.task:
        print(peak(arguments.models[0], arguments.task, arguments.photograph))
        return
    found: dict[str, dict[str, int]] = {}
    print(f"{'MB':<24}" + "".join(f"{task:>10}" for task in TASKS))
    with tempfile.TemporaryDirectory() as folder:
        path = photograph(Path(folder) / "photograph.jpg")
        for name in arguments.models:
            found[name] = {task: round(peak_elsewhere(name, task, path)) for task in TASKS}
            print(f"{name:<24}" + "".join(f"{megabytes:>10}" for megabytes in found[name].values()), flush=True)
    if arguments.out:
        command = f"python benchmarks/memory.py {' '.join(arguments.models)} --out {arguments.out}"
        facts = {"command": command, "torch": torch.__version__, "unit": "MB", "peaks": found}
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
