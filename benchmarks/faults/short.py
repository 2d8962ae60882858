"""A short real training for faults to happen in: seanet_lite cut small, six synthetic images, eighteen steps.

The process that imports this has one thread and forks a child for each run, so that torch is imported once.  A child
saves at the end of each pass over the data, however short, and evaluates at the end of every second one.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads must not fork

import torch

import seanet.training.engine  # noqa: F401  # imports lightning, once for all children
from seanet import checkpoint, settings
from seanet.config import Config
from seanet.data.coco import CocoData, find_split, read_coco
from seanet.data.synth import synthesise
from seanet.errors import UserError
from seanet.recipes import recipe
from seanet.training import keeper, train

Sets = tuple[CocoData, CocoData]
IMAGES, PASSES = 6, 6


def sets(folder: Path) -> Sets:
    """Drawn once and kept."""
    if not folder.exists():
        synthesise(folder, IMAGES, 64, val=2, workers=1)
    training = read_coco(*find_split(folder, "train"))
    return training, read_coco(*find_split(folder, "val"), categories=training.categories)


def small(**train: Any) -> Config:
    """A real detector that a CPU trains in a moment, with everything random that training knows."""
    data = {"short_sides": [64], "long_side": 96, "colour": 0.3, "copy_paste": 0.5, "crop": 0.3, "jitter": [0.7, 1.3]}
    weights, rpn = {"weights": "none", "channels": 16}, {"before_nms": [50, 50], "after_nms": [20, 20], "sampled": 16}
    train = {
        "batch": 2,
        "epochs": PASSES,
        "lr": 0.1,
        "log_every": 1,
        "workers": 2,
        "ema": 0.9,
        "validate_every": 2,
    } | train
    changes = {"data": data, "backbone": weights, "rpn": rpn, "sampling": {"rois": 16}, "train": train}
    return settings.merge(recipe("seanet_lite"), changes)


@dataclass(frozen=True)
class Child:
    """A forked process, the first of its own group, and the file that holds what it says."""

    pid: int
    said: Path
    began: float

    def wait(self, seconds: float) -> int | None:
        """Its exit code, negative for a signal; None if it still runs after that time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        return None

    def finish(self, seconds: float = 300) -> int:
        """Wait for its end; one that does not come in time is killed and counts as code 124."""
        code = self.wait(seconds)
        if code is None:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        return 124 if code is None else code

    def text(self) -> str:
        return self.said.read_text(errors="replace")

    def sweep(self) -> None:
        """End what a killed process left behind: its workers would notice within seconds."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def fork(task: Callable[[], int], said: Path) -> Child:
    """Run ``task`` in a child whose output goes to the file ``said``; a UserError is exit code 2, as for the command."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Child(pid, said, time.monotonic())
    code = 1
    try:
        os.setsid()
        output = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = task()
    except UserError as error:
        print(f"error: {error}", flush=True)
        code = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def training(data: Sets, folder: Path, config: Config, before: Callable[[], None] | None = None) -> Callable[[], int]:
    """A task that begins or resumes the run in ``folder``; ``before`` prepares the fault in the child."""

    def task() -> int:
        torch.set_num_threads(1)
        keeper.REST = 0.0
        if before:
            before()
        return train(config, data, folder, resume=True, device="cpu", tensorboard=False).exit_code

    return task


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same however often a run was stopped: its table less the clock, and fingerprints of weights."""
    with (folder / "metrics.csv").open() as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    weights = {
        name: checkpoint.digest(checkpoint.read_model(folder / name)[0]) for name in (checkpoint.BEST, checkpoint.LAST)
    }
    state = checkpoint.pack(checkpoint.read_state(folder / checkpoint.LAST)[2]["optimizer_states"])[0]
    return {"rows": rows, "weights": weights, "optimizer": checkpoint.digest(state)}


def compared(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """What differs, in a word; empty if nothing does."""
    steps = [row["step"] for row in found["rows"] if row["loss"]]
    if steps != [row["step"] for row in expected["rows"] if row["loss"]]:
        return "steps"
    return next((name for name in expected if found[name] != expected[name]), "")


def undisturbed(data: Sets, folder: Path, config: Config) -> tuple[dict[str, Any], float]:
    """What a run comes to that nothing happens to, and its seconds."""
    child = fork(training(data, folder, config), folder.with_suffix(".log"))
    if code := child.finish():
        raise SystemExit(f"the undisturbed run ended with {code}: {child.text()}")
    return outcome(folder), time.monotonic() - child.began


class Trials:
    """Results by the number of the trial, in a JSON file that a later call goes on with."""

    def __init__(self, path: Path, about: dict[str, Any]):
        self.path, self.about, self.found = path, about, {}
        if path.exists():
            content = json.loads(path.read_text())
            if content["about"] == about:
                self.found = {trial["trial"]: trial for trial in content["trials"]}

    def missing(self, count: int) -> list[int]:
        return [number for number in range(count) if number not in self.found]

    def add(self, number: int, **facts: Any) -> None:
        self.found[number] = {"trial": number, **facts}
        self.write()

    def write(self, **summary: Any) -> None:
        trials = [self.found[number] for number in sorted(self.found)]
        content = {"about": self.about, **summary, "trials": trials}
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(unfinished, self.path)

    def finish(self, summary: dict[str, Any]) -> None:
        self.write(summary=summary)
        for name, value in summary.items():
            print(f"{name}: {value}")

    def __iter__(self):
        return iter(self.found.values())


def share(good: list[bool]) -> str:
    return f"{sum(good)}/{len(good)}"


@dataclass(frozen=True)
class Start:
    """What all trials begin with: data, what an undisturbed run comes to, its seconds, and the bytes of its checkpoint."""

    data: Sets
    expected: dict[str, Any]
    seconds: float
    size: int


def start(work: Path) -> Start:
    work.mkdir(parents=True, exist_ok=True)
    data, whole = sets(work / "data"), work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    expected, seconds = undisturbed(data, whole, small())
    return Start(data, expected, seconds, (whole / checkpoint.LAST).stat().st_size)


def options(text: str | None, trials: int, name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=trials)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/faults/{name}.json"))
    parser.add_argument("--work", type=Path, default=Path(f"runs/faults/{name}"), help="a folder for runs and data")
    return parser
