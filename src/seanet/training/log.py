"""What a run tells while it goes: metrics.csv, TensorBoard if it is there, and a bar or plain lines on the screen."""

import csv
import io
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seanet.errors import UserError

Row = dict[str, Any]


class Table:
    """A CSV file that grows by rows; a row with a new column rewrites the file with a wider header.

    ``add`` raises OSError where a row cannot be written; the row is kept, and the next one that can brings it along.
    """

    def __init__(self, path: Path, after: int = 0, evaluated: int | None = None):
        """Rows of steps past ``after`` are dropped: the run goes on from there and will write them again.

        So are those of evaluations, which have no rate, past the step ``evaluated``, if that is less.
        """
        self.path = path
        last = after if evaluated is None else evaluated
        self.rows: list[Row] = [row for row in _read(path) if int(row["step"]) <= (after if row.get("lr") else last)]
        self.columns = list(self.rows[0]) if self.rows else []
        self.behind = False
        self.rewrite()

    def add(self, row: Row) -> None:
        row = {name: f"{value:.9g}" if isinstance(value, float) else value for name, value in row.items()}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        self.columns += new
        if new or self.behind:
            return self.rewrite()
        self.behind = True  # half a row may stand there if this fails
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)
        self.behind = False
        return None

    def rewrite(self) -> None:
        self.behind = True
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        if self.columns:
            writer.writeheader()
        writer.writerows(self.rows)
        replace_text(self.path, text.getvalue())
        self.behind = False


def _read(path: Path) -> list[Row]:
    """Whole rows: the last one may have been cut when the machine lost power."""
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").split("\n")[:-1]
    rows = csv.DictReader(line for line in lines if "\0" not in line)
    return [row for row in rows if None not in row.values() and (row.get("step") or "").isdigit()]


class Log:
    """Everything that leaves a run, from its first process only.

    What cannot be written, on a full disk for example, is said once and kept until there is room: it ends no run.
    """

    def __init__(
        self, folder: Path, steps: int, after: int = 0, tensorboard: bool = True, evaluated: int | None = None
    ):
        self.folder = folder
        try:
            self.table = Table(folder / "metrics.csv", after, evaluated)
            self.board = _board(folder, after) if tensorboard else None
        except OSError as error:
            raise UserError(f"{folder}: cannot write there ({error.strerror or error})", file=str(folder)) from error
        self.screen = Screen(steps, after)
        self.waiting: dict[str, str] = {}
        self.warned = False

    def row(self, row: Row) -> None:
        try:
            self.table.add(row)
            self._catch_up()
        except OSError as error:
            self._warn(error)
        self._draw({name: value for name, value in row.items() if isinstance(value, float)}, row["step"])

    def write(self, name: str, text: str) -> None:
        """A whole file of the run's folder."""
        self.waiting[name] = text
        try:
            self._catch_up()
        except OSError as error:
            self._warn(error)

    def close(self) -> None:
        try:
            if self.table.behind:
                self.table.rewrite()
            self._catch_up()
        except OSError as error:
            missing = [*self.waiting, "metrics.csv"] if self.table.behind else list(self.waiting)
            self.screen.say(f"warning: {self.folder}: {', '.join(missing)} could not be written whole ({error})")
        self.screen.close()
        if self.board:
            with suppress(OSError):  # said when it first failed
                self.board.close()

    def _catch_up(self) -> None:
        for name in list(self.waiting):
            replace_text(self.folder / name, self.waiting[name])
            del self.waiting[name]
        if self.warned and not self.table.behind:
            self.warned = False
            self.screen.say(f"{self.folder}: the log is written again, nothing of it is missing")

    def _warn(self, error: OSError) -> None:
        if not self.warned:
            self.screen.say(
                f"warning: {self.folder}: the log cannot be written ({error.strerror or error}); the run goes on, and what"
                " is missing will be written when that is possible"
            )
        self.warned = True

    def _draw(self, values: dict[str, float], step: int) -> None:
        if self.board is None:
            return
        try:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
        except OSError as error:
            self.screen.say(f"warning: {self.folder}: TensorBoard gets no more points ({error.strerror or error})")
            self.board = None


def replace_text(path: Path, text: str) -> None:
    """The file is the old one or the whole new one at every moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
