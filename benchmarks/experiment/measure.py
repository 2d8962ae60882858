"""Predicts the val split once with the last weights of a run and writes results and record; a process of the ablation.

    python benchmarks/experiment/measure.py WEIGHTS --data OUT/data --results JSON --record JSON --threads 1 < facts.json

The standard input is the part of the record that is known before.  The settings of a row that is another reading of the
weights come with --set.  Images of the synthetic data name the failure that they show: figures are divided by it.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from seanet import checkpoint
from seanet.data.coco import Categories, find_split, read_coco
from seanet.data.groups import read_groups
from seanet.detector import Detector
from seanet.evaluation.fixed import fixed_boxes
from seanet.evaluation.groups import measure_groups
from seanet.evaluation.run import evaluate
from seanet.predict import Model
from seanet.report.files import write_whole
from seanet.settings import override

DIGITS = 6  # of a figure in a record: far beyond its noise


def reading(weights: Path, changes: Iterable[str], device: str) -> Model:
    """The model of a checkpoint, its weights read with other settings."""
    tensors, meta = checkpoint.read_model(weights)
    config = override(meta.config, changes)
    detector = Detector(config, len(meta.classes))
    checkpoint.load_whole(detector, tensors, weights)
    return Model(detector.eval().to(device), config, Categories(meta.category_ids, meta.classes), meta=meta)


def machine(device: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    versions = checkpoint.versions()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": versions["torch"],
        "seanet": versions["seanet"],
    }


def processor() -> str:
    """Its name where Linux tells it, else its kind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--whole", action="store_true", help="of all images alone, which name no failure")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="images at once")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    facts = json.load(sys.stdin)
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = reading(args.weights, args.settings, device)
    annotations, images = find_split(args.data, "val")
    data = read_coco(annotations, images, categories=model.categories)
    groups = None if args.whole else read_groups(annotations, "failure")
    entries: list[dict] = []
    metrics = evaluate(model, data, batch=args.batch, workers=args.workers, results=entries)
    write_whole(args.results, json.dumps(entries).encode())
    more: dict[str, Any] = {}
    if groups is not None:
        more["by_failure"] = measure_groups(data, entries, groups, model.config.detections.limit)
    if not args.settings:  # another reading of the weights has the same mask head
        more["fixed"] = fixed_boxes(model, data, batch=args.batch, workers=args.workers)
    minutes = facts.pop("minutes") | {"evaluate": round((time.perf_counter() - began) / 60, 2)}
    record = facts | {
        "minutes": minutes,
        "machine": machine(device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": metrics,
    }
    write_whole(args.record, (json.dumps(rounded(record | more)) + "\n").encode())


if __name__ == "__main__":
    main()
