"""Training in two processes (gloo, CPU), each with half of the batch, against one process with the whole batch.

    python benchmarks/faults/processes.py --out benchmarks/faults/processes.json

What is drawn of an image depends on its own seed, and sums are divided by the counts of all processes, so losses are to
agree to 1e-5.  Images are of one size here: others are padded to the largest of those beside them, which moves what the
network sees at their borders.

The run in two processes is also killed at random moments (SIGKILL to all of it) and resumed, and must end bit for bit as
the one that was left alone.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import short
import torch

from seanet import checkpoint
from seanet.config import ClassicBox, ClassicMask, Config
from seanet.training import keeper
from seanet.training.coco import coco_job
from seanet.training.run import run

BATCH, STEPS = 4, 12
TERMS = ("loss", "rpn_class", "rpn_regression", "box_class", "box_regression", "mask")


def configuration(head: str, devices: int) -> Config:
    config = short.small(batch=BATCH, steps=STEPS, devices=devices, workers=0, validate_every=100)
    config = replace(config, data=replace(config.data, crop=0.0, jitter=None))
    return config if head == "seanet" else replace(config, box=ClassicBox(width=64), mask=ClassicMask(convs=2))


def one(folder: Path, head: str, kind: str) -> None:
    """In a process of its own, which Lightning starts a second time for the second of two."""
    torch.set_num_threads(1)
    keeper.REST = 0.0
    data = short.sets(folder.parent / "data")
    config = configuration(head, devices=2 if kind == "two" else 1)
    job = replace(coco_job(config, *data), evaluate=lambda detector: {"segm/AP": 0.5})
    run(config, job, folder, resume=True, device="cpu", tensorboard=False)


def started(folder: Path, head: str, kind: str) -> subprocess.Popen:
    command = [sys.executable, __file__, "--one", str(folder), head, kind]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=folder.with_suffix(".log").open("w"), start_new_session=True
    )


def finished(folder: Path, head: str, kind: str) -> None:
    process = started(folder, head, kind)
    if process.wait(300):
        raise SystemExit(folder.with_suffix(".log").read_text())


def difference(a: Path, b: Path) -> dict[str, float]:
    """The largest difference in each loss, and in the weights at the end."""
    rows = [[row for row in short.outcome(folder)["rows"] if row["loss"]] for folder in (a, b)]
    assert len(rows[0]) == len(rows[1]) == STEPS
    found = {name: max(abs(float(x[name]) - float(y[name])) for x, y in zip(*rows, strict=True)) for name in TERMS}
    first, second = (checkpoint.read_model(folder / checkpoint.LAST)[0] for folder in (a, b))
    found["weights"] = max(float((first[name] - second[name]).abs().max()) for name in first)
    return {name: float(f"{value:.2g}") for name, value in found.items()}


def killed(folder: Path, whole: Path, rng: random.Random, seconds: float) -> dict:
    shutil.rmtree(folder, ignore_errors=True)
    moments = []
    while True:
        process = started(folder, "classic", "two")
        moments.append(round(rng.uniform(seconds / 2, seconds), 2))
        try:
            code = process.wait(moments[-1] if len(moments) < 4 else 300)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    equal = code == 0 and not short.compared(short.outcome(folder), short.outcome(whole))
    said = "" if equal else folder.with_suffix(".log").read_text()[-1500:]
    return {"killed at": moments[:-1], "equal": equal, "said": said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/faults/processes.json"))
    parser.add_argument("--work", type=Path, default=Path("runs/faults/processes"))
    parser.add_argument("--trials", type=int, default=5, help="kills of the run in two processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one(Path(options.one[0]), *options.one[1:])
    options.work.mkdir(parents=True, exist_ok=True)
    short.sets(options.work / "data")
    found: dict[str, Any] = {}
    for head in ("classic", "seanet"):
        folders = {kind: options.work / f"{head}-{kind}" for kind in ("two", "whole")}
        for kind, folder in folders.items():
            shutil.rmtree(folder, ignore_errors=True)
            began = time.monotonic()
            finished(folder, head, kind)
            if (head, kind) == ("classic", "two"):
                seconds = time.monotonic() - began
        found[head] = difference(folders["two"], folders["whole"])
    trials = [
        killed(
            options.work / "killed", options.work / "classic-two", random.Random(f"{options.seed} {number}"), seconds
        )
        for number in range(options.trials)
    ]
    found["killed and resumed, equal"] = f"{sum(trial['equal'] for trial in trials)}/{len(trials)}"
    options.out.write_text(json.dumps(found | {"trials": trials}, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return None


if __name__ == "__main__":
    main()
