"""Predicts the val split once with the last weights of a run and writes results and record; a process of the ablation.

    python benchmarks/experiment/measure.py WEIGHTS --data OUT/data --results JSON --record JSON --threads 1 < facts.json

The standard input is the part of the record that is known before.  The settings of a row that is another reading of the
weights come with --set.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from seanet import checkpoint
from seanet.data.coco import Categories, CocoData, find_split, read_coco
from seanet.detector import Detector
from seanet.evaluation.assess import measure_results
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


def by_failure(data: CocoData, entries: list[dict], failures: dict[int, str], limit: int) -> dict[str, Any]:
    """The same measures of the images of each kind alone."""
    found = {}
    for kind in sorted(set(failures.values())):
        part = replace(data, images=tuple(image for image in data.images if failures[image.id] == kind))
        ids = {image.id for image in part.images}
        found[kind] = measure_results(part, [entry for entry in entries if entry["image_id"] in ids], limit)
    return found


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    facts = json.load(sys.stdin)
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = reading(args.weights, args.settings, device)
    annotations, images = find_split(args.data, "val")
    data = read_coco(annotations, images, categories=model.categories)
    failures = {image["id"]: image["failure"] for image in json.loads(annotations.read_text())["images"]}
    entries: list[dict] = []
    metrics = evaluate(model, data, workers=0, results=entries)
    write_whole(args.results, json.dumps(entries).encode())
    split = by_failure(data, entries, failures, model.config.detections.limit)
    minutes = facts.pop("minutes") | {"evaluate": round((time.perf_counter() - began) / 60, 2)}
    record = facts | {
        "minutes": minutes,
        "machine": machine(device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": metrics,
        "by_failure": split,
    }
    write_whole(args.record, (json.dumps(rounded(record)) + "\n").encode())


if __name__ == "__main__":
    main()
