"""Batches although the processes that read them may die or hang: those are begun anew at the same place.

The order is a function of the place, a count of micro-batches, so nothing is lost and nothing comes twice.
"""

import logging
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import active_children
from typing import Any

from torch.utils.data._utils.signal_handling import _error_if_any_worker_fails

from seanet.data.loader import Loader
from seanet.errors import UserError, WorkerError
from seanet.types import Batch

TRIES = 3  # at one place
PATIENCE = 600.0  # seconds that a batch may take
SIGNS = ("DataLoader worker (pid", "DataLoader timed out")
log = logging.getLogger(__name__)


def steady(
    make: Callable[[int, bool], Loader], images: Callable[[int], list[tuple[int, str]]], first: int
) -> Iterator[Batch]:
    """Batches from the place ``first`` on, without end.

    ``make`` gives the loader from a place on, with one process where that is asked for: it reads one batch after another,
    so that it dies of the batch that kills it.  ``images`` are the ids and files of a place.
    """
    place, deaths, total, alone_until = first, 0, 0, first
    while True:
        alone = place < alone_until
        readers = Readers(make(place, alone))
        try:
            while (batch := readers.next()) is not None:
                deaths = 0
                yield batch
                place += 1
                if alone and place >= alone_until:
                    break
        finally:
            readers.close()
        if not readers.lost:
            continue
        deaths, total = deaths + 1, total + 1
        _require_hope(deaths, readers.lost, images(place))
        alone_until = place + readers.ahead if deaths == TRIES - 1 else alone_until
        log.warning("warning: %s; reading goes on at the same place (%d such cases in this run)", readers.lost, total)


class Readers:
    """A loader and its processes."""

    def __init__(self, loader: Loader):
        self.lost = ""
        """What happened to a process, once it did."""
        self.ahead = 2 * loader.num_workers + 1
        """Batches that may be in the making."""
        self.guarded = loader.num_workers > 0
        self.late = False
        self.batches: Iterator[Batch] | None = _passes(loader)
        self.others, self.processes = set(active_children()), []

    def next(self) -> Batch | None:
        """None where a process was lost."""
        assert self.batches is not None
        if self._dead():
            return None
        try:
            with self._patient(), GATE.waiting() if self.guarded and Gate.possible() else nullcontext():
                batch = next(self.batches)
                self._know()
            return batch
        except UserError:
            raise
        except Exception as error:
            self._know()
            broken = self.guarded and isinstance(error, ConnectionError | EOFError)  # before the death itself shows
            if not self._dead(SIGNS[0] if broken else str(error), str(error.__cause__ or error)):
                raise
        return None

    def close(self) -> None:
        """What died or hangs cannot be asked to end."""
        if self.lost:
            for process in self.processes:
                process.kill()
                process.join()
        self.batches = None
        GATE.shut = False

    @contextmanager
    def _patient(self) -> Generator[None]:
        """A process that hangs is ended, which shows; torch's own limit leaves out the wait for a batch's memory."""
        if not self.guarded:
            yield
            return
        timer = threading.Timer(PATIENCE, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.late = True
        self._know()
        for process in self.processes:
            process.kill()

    def _dead(self, error: str = "", cause: str = "") -> bool:
        self._know()
        codes = [(process.pid, process.exitcode) for process in self.processes if not process.is_alive()]
        if self.late:
            self.lost = f"no batch came within {PATIENCE:g} s, so the processes that read images were ended"
        elif codes:
            self.lost = "; ".join(f"the process {pid}, which reads images, {_ended(code)}" for pid, code in codes)
        elif error.startswith(SIGNS):
            self.lost = f"reading images failed ({cause.partition('.')[0]})"
        return bool(self.lost)

    def _know(self) -> None:
        """They begin with the first batch; those that have ended are not listed any more."""
        if not self.processes:
            self.processes = [process for process in active_children() if process not in self.others]


class Gate:
    """torch raises the death of a process wherever the main thread is, in the midst of a step too: only while it waits."""

    def __init__(self) -> None:
        self.shut, self.former = False, None

    @staticmethod
    def possible() -> bool:
        return hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()

    @contextmanager
    def waiting(self) -> Generator[None]:
        self._take()
        self.shut = False
        try:
            yield
        finally:
            self.shut = True
            self._take()

    def _take(self) -> None:
        """torch sets its handler with the first processes of all, and Lightning resets handlers after each run."""
        now: Any = signal.getsignal(signal.SIGCHLD)
        if now == self._handle:
            return
        if not getattr(now, "__module__", "").startswith("torch."):
            self.former = now
        signal.signal(signal.SIGCHLD, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if not self.shut:
            _error_if_any_worker_fails()
        if callable(self.former):
            self.former(number, frame)


GATE = Gate()  # as a process has one handler


def is_loss(error: Exception) -> bool:
    """Whether torch reports a process that reads images as dead or hanging."""
    return str(error).startswith(SIGNS)


def _passes(loader: Loader) -> Iterator[Batch]:
    while True:
        yield from loader  # each pass goes on with the next epoch


def _ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with code {code}"
    hint = ", as the system does where memory runs out" if -code == 9 else ""
    return f"was ended by {signal.Signals(-code).name}{hint}"


def _require_hope(deaths: int, what: str, images: list[tuple[int, str]]) -> None:
    if deaths < TRIES:
        return
    shown = ", ".join(f"{id} ({file})" for id, file in images)
    raise WorkerError(
        f"{what}, {TRIES} times in a row on the images with the ids {shown}: look at these files, or read with fewer"
        " processes (train.workers) if memory runs out",
        file=images[0][1] if images else None,
        image_id=[id for id, _ in images],
    )
