"""Trains and measures the cells of an ablation, several at once, each in processes of its own.  Free of torch.

What is done is never done again: a record ends a cell, the last checkpoint of the last step its training, and a training
that was interrupted goes on where it stopped.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment.materials import Place, glance
from experiment.presets import Preset
from experiment.records import Cell, expected, is_recorded, read
from experiment.rows import ROWS, Row, changes, configuration, recipe_of

from seanet.errors import UserError
from seanet.headers import LAST, read_header, read_meta
from seanet.settings import differences

MEASURE = Path(__file__).with_name("measure.py")
PATIENCE = 120.0  # seconds in which an interrupted process saves what it has


class Failed(Exception):
    """A process that ended otherwise than well."""


@dataclass(frozen=True)
class Runs:
    """The trainings of an ablation, in its folder."""

    preset: Preset
    out: Path

    def run(self, cell: Cell) -> Path:
        """The folder of the run whose weights the cell is about."""
        return self.out / "runs" / f"{cell.row.of or cell.row.name}-s{cell.seed}"

    def is_trained(self, cell: Cell) -> bool:
        """Whether the weights are there; UserError where others are."""
        file = self.run(cell) / LAST
        if not file.exists():
            return False
        meta = read_meta(file)
        wanted = configuration(trained(cell).row, self.preset, cell.seed)
        if other := differences(meta.config, wanted):
            raise UserError(
                f"{file} was trained with other settings ({'; '.join(other)}): delete {file.parent}, or name another"
                " folder",
                file=file,
                value=other,
            )
        return meta.step >= self.preset.steps


@dataclass(frozen=True)
class Experiment(Runs):
    """With what its runs are made of and what is written of them."""

    records: Path
    place: Place
    data: dict[str, Any]
    """What records say of it."""

    def record(self, cell: Cell) -> Path:
        return self.records / f"{cell.name}.json"

    def start(self, cell: Cell) -> Path | None:
        """The weights that the training of a cell starts from (see ``starts``); None: as its recipe says."""
        return self.out / "starts" / f"{trained(cell).name}.safetensors" if self.preset.init else None

    def expected(self, cell: Cell) -> dict[str, Any]:
        start = self.start(cell)
        words = {"preset": self.preset.init, "digest": read_header(start).metadata["digest"][:16]} if start else None
        return expected(cell, self.preset, self.data, words)

    def is_recorded(self, cell: Cell) -> bool:
        return is_recorded(self.record(cell), self.expected(cell))


def trained(cell: Cell) -> Cell:
    """The cell whose training made the weights."""
    return Cell(ROWS[cell.row.of], cell.seed) if cell.row.of else cell


def order(groups: Sequence[tuple[Row, ...]], seeds: Sequence[int]) -> list[Cell]:
    """Group by group, in each seed by seed, each cell once; what is read again is trained before."""
    cells = [Cell(row, seed) for rows in groups for seed in seeds for row in rows]
    return list(dict.fromkeys(one for cell in cells for one in (trained(cell), cell)))


def outstanding(experiment: Experiment, cells: Sequence[Cell]) -> list[Cell]:
    """The cells without a record, and those whose weights such a one has to read and are gone."""
    missing = [cell for cell in cells if not experiment.is_recorded(cell)]
    wanted = {trained(cell) for cell in missing if cell.row.of and not experiment.is_trained(cell)}
    return [cell for cell in cells if cell in wanted or cell in missing]


def training(experiment: Experiment, cell: Cell) -> list[str]:
    """The command that trains a cell, or goes on with it."""
    preset, place, start = experiment.preset, experiment.place, experiment.start(cell)
    words = [sys.executable, "-m", "seanet", "train", recipe_of(cell.row, preset).recipe, "--resume", "--no-check"]
    words += ["--train-json", str(place.train[0]), "--train-images", str(place.train[1])]
    words += ["--val-json", str(glance(experiment.out)), "--val-images", str(place.val[1])]
    words += ["--out", str(experiment.run(cell)), "--seed", str(cell.seed)]
    # Classes of other data that share a name by chance ("fork") are still other classes.
    words += ["--init", str(start), "--reset-head"] if start else []
    return [*words, *(word for change in changes(cell.row, preset) for word in ("--set", change))]


def measuring(experiment: Experiment, cell: Cell) -> list[str]:
    """The command that measures a cell's weights."""
    preset = experiment.preset
    words = [sys.executable, str(MEASURE), str(experiment.run(cell) / LAST), "--data", str(experiment.place.folder)]
    words += ["--results", str(experiment.out / "results" / f"{cell.name}.json")]
    words += ["--record", str(experiment.record(cell)), "--threads", str(preset.threads)]
    words += ["--batch", str(preset.measured), "--workers", str(preset.readers)]
    words += [] if preset.drawing else ["--whole"]
    again = cell.row.settings if cell.row.of else ()
    return [*words, *(word for change in again for word in ("--set", change))]


def minutes(run: Path) -> float:
    """That the steps of a run took, whatever interrupted it."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [(int(row["step"]), float(row["seconds"])) for row in csv.DictReader(file) if row["seconds"]]
    before = [0, *(step for step, _ in rows)]
    spent = sum((step - last) * seconds for (step, seconds), last in zip(rows, before, strict=False))
    return round(spent / 60, 2)


@dataclass
class Processes:
    """Those under way, so that all can be ended at once."""

    running: set[subprocess.Popen] = field(default_factory=set)
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, command: list[str], log: Path, environment: dict[str, str], given: str = "") -> None:
        """Wait for a process; Failed where it does not end well."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            with self.lock:
                if self.ended:
                    raise Failed("not begun")
                # Of a session of its own: Ctrl-C reaches it once, through ``end``.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
                self.running.add(process)
            process.communicate(given.encode())
        with self.lock:
            self.running.discard(process)
        if process.returncode:
            raise Failed(f"ended with {process.returncode}: {last_line(log)} (all of it: {log})")

    def end(self) -> None:
        """Ask each to save and leave, and wait for that."""
        with self.lock:
            self.ended = True
            asked = list(self.running)
        for process in asked:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        for process in asked:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


@dataclass
class Runner:
    experiment: Experiment
    slots: list[str]
    """A name for each run at once; on GPUs that of its device."""
    processes: Processes = field(default_factory=Processes)

    def run(self, cells: Sequence[Cell]) -> dict[Cell, str]:
        """Do the cells in their order, as many at once as there are slots; -> those that failed, and why."""
        waiting, free, total = list(cells), list(self.slots), len(cells)
        running: dict[Future[None], tuple[Cell, str]] = {}
        failed: dict[Cell, str] = {}
        with ThreadPoolExecutor(len(self.slots)) as pool:
            try:
                while waiting or running:
                    while free and (cell := _next(waiting, [cell for cell, _ in running.values()])):
                        slot = free.pop(0)
                        waiting.remove(cell)
                        running[pool.submit(self.do, cell, slot)] = (cell, slot)
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        cell, slot = running.pop(future)
                        free.append(slot)
                        self._account(cell, future, failed, waiting)
                        done = total - len(waiting) - len(running)
                        print(f"{done} of {total} cells, {len(failed)} failed", flush=True)
            except KeyboardInterrupt:
                self.processes.end()
                raise
        return failed

    def _account(self, cell: Cell, future: Future[None], failed: dict[Cell, str], waiting: list[Cell]) -> None:
        error = future.exception()
        if error is None:
            return
        if not isinstance(error, Failed | UserError):
            self.processes.end()
            raise error
        failed[cell] = str(error)
        for other in [one for one in waiting if trained(one) == cell]:
            waiting.remove(other)
            failed[other] = f"needs the weights of {cell.name}"
        print(f"{cell.name}: {error}", flush=True)

    def do(self, cell: Cell, slot: str) -> None:
        """Train where that is left, then measure where that is left."""
        experiment = self.experiment
        log = experiment.out / "logs" / f"{cell.name}.log"
        environment = surroundings(experiment.preset, slot)
        if not experiment.is_trained(cell):
            self.processes.run(training(experiment, cell), log, environment)
            print(f"{cell.name}: trained in {minutes(experiment.run(cell))} minutes", flush=True)
        if experiment.is_recorded(cell):
            return
        spent = 0.0 if cell.row.of else minutes(experiment.run(cell))
        given = json.dumps(experiment.expected(cell) | {"minutes": {"train": spent}})
        self.processes.run(measuring(experiment, cell), log, environment, given)
        print(f"{cell.name}: {said(read(experiment.record(cell)))}", flush=True)


def _next(waiting: list[Cell], running: list[Cell]) -> Cell | None:
    """The first cell whose weights are not still to be trained."""
    busy = {*waiting, *running}
    return next((cell for cell in waiting if not cell.row.of or trained(cell) not in busy), None)


def surroundings(preset: Preset, slot: str) -> dict[str, str]:
    threads = str(preset.threads)
    own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    own["CUDA_VISIBLE_DEVICES"] = slot if preset.device == "cuda" else ""
    return {**os.environ, **own}


def figures(record: dict[str, Any]) -> tuple[float | None, ...]:
    """AP of masks, by boundary, and TA@R of bands of 3 pixels."""
    metrics = record["metrics"]
    return metrics["segm"]["AP"], metrics["boundary"]["AP"], metrics["bands"]["all"]["TA@R"]["3px"]


def said(record: dict[str, Any]) -> str:
    values = zip(("mask AP", "boundary AP", "TA@R 3 px"), figures(record), strict=True)
    return ", ".join(f"{name} {'n/a' if value is None else f'{value:.4f}'}" for name, value in values)
