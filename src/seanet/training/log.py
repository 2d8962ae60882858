"""What a run tells while it goes: metrics.csv, TensorBoard if it is there, and a bar or plain lines on the screen."""

import csv
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Row = dict[str, Any]


class Table:
    """A CSV file that grows by rows; a row with a new column rewrites the file with a wider header."""

    def __init__(self, path: Path, after: int = 0):
        """Rows of steps past ``after`` are dropped: the run goes on from there and will write them again."""
        self.path, self.rows = path, []
        if path.exists():
            with path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= after]
        self.columns = list(self.rows[0]) if self.rows else []
        self._rewrite()

    def add(self, row: Row) -> None:
        row = {name: f"{value:.7g}" if isinstance(value, float) else value for name, value in row.items()}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        self.columns += new
        if new:
            return self._rewrite()
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)
        return None

    def _rewrite(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            if self.columns:
                writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)


class Log:
    """Everything that leaves a run, from its first process only."""

    def __init__(self, folder: Path, steps: int, after: int = 0, tensorboard: bool = True):
        self.table = Table(folder / "metrics.csv", after)
        self.board = _board(folder, after) if tensorboard else None
        self.screen = Screen(steps, after)

    def row(self, row: Row) -> None:
        self.table.add(row)
        for name, value in row.items():
            if self.board and name != "step" and isinstance(value, float):
                self.board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self.screen.close()
        if self.board:
            self.board.close()


class Screen:
    """A bar on a terminal; elsewhere a line every few seconds, so that a log file stays short."""

    every = 10.0

    def __init__(self, steps: int, done: int = 0):
        self.console = Console(stderr=True)
        self.steps, self.first, self.start, self.last = steps, done, time.monotonic(), -self.every
        self.bar = None
        if self.console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("", total=steps, completed=done)
            self.bar.start()

    def step(self, step: int, text: str) -> None:
        if self.bar:
            return self.bar.update(self.task, completed=step, description=text)
        now = time.monotonic()
        if now - self.last < self.every and step < self.steps:
            return None
        self.last = now
        left = (now - self.start) / max(1, step - self.first) * (self.steps - step)
        return self.say(f"step {step}/{self.steps}, {_clock(left)} left  {text}")

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self.bar:
            self.bar.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _board(folder: Path, after: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1 if after else None)
