"""The same seed twice: training and prediction, bit for bit, by readers, threads, batches and order.

    python benchmarks/faults/determinism.py --out benchmarks/faults/determinism.json

A short real training with copy-paste, crops, jitter, changes of colour, averaged weights, a cascade and mask scoring.
Each line is compared with the first of its kind; ``steps``, ``rows``, ``weights`` or ``optimizer`` say what differs first.
Predictions are compared as lines of COCO's results; where bits differ, by how much.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import short
import torch

from seanet.config import Config, Execution
from seanet.data.coco import ImageRecord
from seanet.predict import Model, load
from seanet.settings import override
from seanet.streaming import stream

FEATURES = [
    "cascade.ious=[0.6]",
    "cascade.weights=[0.5]",
    "cascade.sharpness=[2]",
    "scoring.kind=mask_iou",
    "scoring.width=32",
]
TRAININGS = {
    "no reader": (0, 1),
    "no reader, again": (0, 1),
    "1 reader": (1, 1),
    "2 readers": (2, 1),
    "2 readers, again": (2, 1),
    "2 threads": (0, 2),
    "2 threads, again": (0, 2),
}


def configuration(workers: int) -> Config:
    return override(short.small(workers=workers, epochs=3), FEATURES)


def trained(data: short.Sets, folder: Path, workers: int, threads: int) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    task = short.training(data, folder, configuration(workers), lambda: torch.set_num_threads(threads))
    child = short.fork(task, folder.with_suffix(".log"))
    if child.finish():
        raise SystemExit(child.text())
    return short.outcome(folder)


def trainings(data: short.Sets, work: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    firsts: dict[int, dict[str, Any]] = {}
    for name, (workers, threads) in TRAININGS.items():
        outcome = trained(data, work / name.replace(" ", "-").replace(",", ""), workers, threads)
        first = firsts.setdefault(threads, outcome)
        found[name] = "the first" if outcome is first else short.compared(outcome, first) or "equal"
    found["1 thread and 2 threads"] = short.compared(firsts[2], firsts[1]) or "equal"
    return found


def alone(model: Model, records: list[ImageRecord]) -> list[dict]:
    return [entry for record in records for entry in model.predict(record.path).to_coco(record.id)]


def streamed(model: Model, records: list[ImageRecord], batch: int) -> list[dict]:
    outcomes = stream(model, [record.path for record in records], batch=batch)
    pairs = zip(records, outcomes, strict=True)
    return [entry for record, outcome in pairs if outcome.instances for entry in outcome.instances.to_coco(record.id)]


def with_threads(model: Model, records: list[ImageRecord], threads: int) -> list[dict]:
    torch.set_num_threads(threads)
    return alone(model, records)


def plain(model: Model, records: list[ImageRecord]) -> list[dict]:
    return alone(model.run_with(replace(Execution(), substitutes=False)), records)


PREDICTIONS: dict[str, Callable[[Model, list[ImageRecord]], list[dict]]] = {
    "one by one": alone,
    "one by one, again": alone,
    "in the other order": lambda model, records: alone(model, records[::-1]),
    "streamed": lambda model, records: streamed(model, records, 1),
    "streamed, batches of 4": lambda model, records: streamed(model, records, 4),
    "streamed, batches of 4, again": lambda model, records: streamed(model, records, 4),
    "2 threads": lambda model, records: with_threads(model, records, 2),
    "without substitutes": plain,
}


def predictions(data: short.Sets, run: Path, work: Path) -> dict[str, Any]:
    """Each in a process of its own."""
    found, lists = {}, {}
    for name, predict in PREDICTIONS.items():
        path = work / "predictions.json"

        def task(predict=predict, path=path) -> int:
            torch.set_num_threads(1)
            model = load(run, "cpu").limited(score=0.0)
            entries = predict(model, list(data[0].images))
            path.write_text(json.dumps(sorted(entries, key=lambda entry: entry["image_id"])))
            return 0

        child = short.fork(task, work / "predictions.log")
        if child.finish():
            raise SystemExit(child.text())
        lists[name] = json.loads(path.read_text())
        first = lists["one by one"]
        found[name] = "equal" if lists[name] == first else apart(lists[name], first)
    found["one by one"] = f"the first: {len(lists['one by one'])} objects"
    again = lists["streamed, batches of 4, again"] == lists["streamed, batches of 4"]
    found["streamed, batches of 4, again"] = (
        "equal to the other batches of 4" if again else "differs from the other batches of 4"
    )
    return found


def apart(found: list[dict], first: list[dict]) -> dict[str, Any]:
    """By how much boxes and scores part, and how many masks are the same, if the objects come in the same order."""
    keys = [[(entry["image_id"], entry["category_id"]) for entry in entries] for entries in (found, first)]
    if keys[0] != keys[1]:
        return {"objects": [len(found), len(first)], "order": "other"}
    gaps = {
        name: float(np.abs(np.array([e[name] for e in found]) - np.array([e[name] for e in first])).max())
        for name in ("bbox", "score")
    }
    same = sum(a["segmentation"] == b["segmentation"] for a, b in zip(found, first, strict=True))
    return {name: float(f"{gap:.2g}") for name, gap in gaps.items()} | {"masks the same": f"{same}/{len(first)}"}


def main() -> None:
    options = short.options(__doc__, 0, "determinism").parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    data = short.sets(options.work / "data")
    found = {"training": trainings(data, options.work)}
    found["prediction"] = predictions(data, options.work / "no-reader", options.work)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
