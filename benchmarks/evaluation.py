"""Time and memory of scoring one file of results: ``seanet val`` beside pycocotools and faster-coco-eval.

    .venv/bin/python benchmarks/evaluation.py --images 5000 --repeat 3 --out benchmarks/evaluation.json

The data are made up, the same for the same seed: images of 480 x 640 with seven objects of 80 classes on average, drawn as
polygons, and 100 detections an image, most of them near an object, as run lengths.  Everybody reads the two files and computes
AP of boxes and masks, each in a fresh process; they take turns.  Seconds are of the processor, all threads together, and of
the clock; memory is the largest that the process held.  pycocotools is 1.0 in the ratios.  Nothing imports torch.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HEIGHT, WIDTH, CLASSES, OBJECTS, DETECTIONS = 480, 640, 80, 7, 100
CORNERS = 36  # of an outline
NAMES = ("pycocotools", "faster-coco-eval", "seanet", "seanet with boundaries")


def write(folder: Path, images: int, seed: int) -> None:
    """``val.json``, ``results.json`` and as many empty files as there are images, which nobody opens."""
    rng = np.random.default_rng(seed)
    (folder / "val").mkdir(parents=True)
    pictures, annotations, results = [], [], []
    for i in range(1, images + 1):
        (folder / "val" / f"{i}.jpg").touch()
        pictures.append({"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH})
        shapes = [Shape.random(rng) for _ in range(rng.poisson(OBJECTS))]
        annotations += [shape.annotation(i, rng) for shape in shapes]
        results += [detection(shapes, i, rng) for _ in range(DETECTIONS)]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    categories = [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)]
    truth = {"images": pictures, "annotations": annotations, "categories": categories}
    (folder / "val.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))


class Shape:
    """A star-shaped outline: a centre, a radius for each of ``CORNERS`` directions, and a category."""

    def __init__(self, centre: np.ndarray, radii: np.ndarray, category: int):
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        self.points = np.clip(points, 0, (WIDTH, HEIGHT)).round(2)
        self.centre, self.radii, self.category = centre, radii, category

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Shape":
        """Sizes as in COCO: about 40 % small, 35 % medium."""
        size = np.clip(np.exp(rng.normal(3.2, 0.9)), 4, 220)
        stretch = rng.uniform(0.6, 1.6, 2)
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        radii = size / np.hypot(np.cos(angles) / stretch[0], np.sin(angles) / stretch[1])
        centre = rng.uniform((4, 4), (WIDTH - 4, HEIGHT - 4))
        return cls(centre, radii * rng.normal(1, 0.06, CORNERS), int(rng.integers(1, CLASSES + 1)))

    def near(self, rng: np.random.Generator) -> "Shape":
        """The same, seen by a model: moved, grown and rougher, one in seven of another class."""
        error = np.exp(rng.normal(-2.6, 0.8))
        centre = self.centre + error * self.radii.mean() * rng.normal(size=2)
        radii = self.radii * (1 + error * rng.normal()) * rng.normal(1, 0.03, CORNERS)
        category = self.category if rng.random() < 0.85 else int(rng.integers(1, CLASSES + 1))
        return Shape(np.clip(centre, 3, (WIDTH - 3, HEIGHT - 3)), np.abs(radii) + 1, category)

    @property
    def box(self) -> list[float]:
        low, high = self.points.min(0), self.points.max(0)
        return [*low.round(2).tolist(), *(high - low).round(2).tolist()]

    def annotation(self, image: int, rng: np.random.Generator) -> dict[str, Any]:
        x, y = self.points.T
        area = float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
        found = {"image_id": image, "category_id": self.category, "bbox": self.box, "area": area}
        return found | {"segmentation": [self.points.ravel().tolist()], "iscrowd": int(rng.random() < 0.01)}


def detection(shapes: list[Shape], image: int, rng: np.random.Generator) -> dict[str, Any]:
    from pycocotools import mask as codec

    near = bool(shapes) and rng.random() < 0.7
    shape = shapes[rng.integers(len(shapes))].near(rng) if near else Shape.random(rng)
    rle = codec.frPyObjects([shape.points.ravel().tolist()], HEIGHT, WIDTH)[0]
    mask = {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}
    score = round(float(rng.beta(4, 2) if near else rng.beta(1, 4)), 4)
    found = {"image_id": image, "category_id": shape.category, "bbox": shape.box, "score": score}
    return found | {"segmentation": mask}


def library(name: str, folder: Path) -> dict[str, float]:
    """AP of boxes and of masks, in the manner of their documentation."""
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    truth = COCO(str(folder / "val.json"))
    found = truth.loadRes(str(folder / "results.json"))
    precision = {}
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        precision[kind] = float(evaluation.stats[0])
    return precision


def ours(folder: Path, boundary: bool) -> dict[str, float]:
    """The command itself, in this process."""
    from seanet.cli import main

    told = io.StringIO()
    options = ["--data", str(folder), "--json", "--boundary" if boundary else "--no-boundary"]
    sys.argv = ["seanet", "val", str(folder / "results.json"), *options]
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        main()
    metrics = json.loads(told.getvalue())
    return {kind: metrics[kind]["AP"] for kind in ("bbox", "segm")}


def one(name: str, folder: Path) -> None:
    """In a fresh process: the whole task, with its imports."""
    import resource  # not on Windows

    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        precision = ours(folder, name != "seanet") if name.startswith("seanet") else library(name, folder)
    wall = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"seconds": usage.ru_utime + usage.ru_stime, "wall": wall, "mb": usage.ru_maxrss / 1024}
    assert "torch" not in sys.modules
    print(json.dumps(facts | {"AP": precision}))


def measure(names: list[str], folder: Path, repeat: int) -> dict[str, dict[str, Any]]:
    """Medians of each, and that all agree about AP."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(repeat):
        for name in names:
            command = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
            runs[name].append(json.loads(done.stdout))
    first = runs[names[0]][0]
    for name in names:
        for kind, value in runs[name][0]["AP"].items():
            assert abs(value - first["AP"][kind]) < 1e-9, f"{name} has another AP of {kind}"
    figures = {
        name: {key: statistics.median(run[key] for run in found) for key in ("seconds", "wall", "mb")}
        for name, found in runs.items()
    }
    for name in names:
        shares = {key: figures[name][key] / figures[names[0]][key] for key in ("seconds", "wall", "mb")}
        figures[name]["ratio"] = shares
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--folder", type=Path, help="where the data are or shall be (default: nowhere that stays)")
    parser.add_argument("--out", type=Path, help="a JSON file of the figures")
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one(options.one, options.folder)
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place) / "data"
        if not (folder / "results.json").is_file():
            write(folder, options.images, options.seed)
        figures = measure(list(options.only), folder, options.repeat)
        images = len(json.loads((folder / "val.json").read_text())["images"])
    for name, found in figures.items():
        ratio = found["ratio"]
        print(
            f"{name:24} {found['seconds']:7.1f} s of the processor ({ratio['seconds']:.3f}), "
            f"{found['wall']:7.1f} s ({ratio['wall']:.3f}), {found['mb']:6.0f} MB ({ratio['mb']:.2f})"
        )
    if options.out:
        facts = {"images": images, "detections": DETECTIONS, "repeat": options.repeat, "seed": options.seed}
        facts |= {"python": platform.python_version(), "machine": platform.machine(), "figures": figures}
        options.out.write_text(json.dumps(facts, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
