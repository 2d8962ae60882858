"""What precision and layout change in a trained model's AP: the same runs and images, executed in each way.

python benchmarks/precision.py runs/seanet_lite runs/mask_rcnn_lite --data DATA --out benchmarks/precision.json

AP in points of 100, and the difference to torch's own fp32.  The goal: less than 0.1 for masks.
"""

import argparse
import json
from pathlib import Path

import torch

import seanet
from seanet.config import Execution
from seanet.data.coco import find_split, read_coco
from seanet.evaluation.run import evaluate
from seanet.execution import PLAIN

WAYS = {
    "fp32, plain": PLAIN,
    "fp32": Execution(),
    "tf32": Execution("tf32"),
    "bf16": Execution("bf16"),
    "fp16": Execution("fp16"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    ways = {name: way for name, way in WAYS.items() if name != "tf32" or options.device.startswith("cuda")}
    found = {run.name: measure(run, ways, options) for run in options.runs}
    for name, figures in found.items():
        print(name)
        for way, points in figures.items():
            print(f"  {way:<12} boxes {points['bbox']:7.3f} {points['bbox_change']:+.3f}   ", end="")
            print(f"masks {points['segm']:7.3f} {points['segm_change']:+.3f}")
    if options.out:
        facts = {"torch": torch.__version__, "device": options.device, "runs": found}
        options.out.write_text(json.dumps(facts, indent=1) + "\n")


def measure(run: Path, ways: dict[str, Execution], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """AP of each way, in points of 100."""
    model = seanet.load(run, options.device)
    data = read_coco(*find_split(options.data, options.split), categories=model.categories)
    figures: dict[str, dict[str, float]] = {}
    for name, way in ways.items():
        metrics = evaluate(model.run_with(way), data, boundary=False)
        points = {kind: 100 * metrics[kind]["AP"] for kind in ("bbox", "segm")}
        first = next(iter(figures.values()), points)
        figures[name] = points | {f"{kind}_change": points[kind] - first[kind] for kind in points}
    return figures


if __name__ == "__main__":
    main()
