"""Batches although the processes that read them may die or hang: those are begun anew at the same place.

A place is a count of batches and decides what the next one holds, so nothing is lost and nothing comes twice.
"""

import atexit
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from multiprocessing import connection
from typing import Any

from seanet.data.loader import Loader
from seanet.errors import UserError, WorkerError

TRIES = 3  # at one place
PATIENCE = 600.0  # seconds that a batch may take
DYING = 5.0  # seconds between a connection that breaks and the end of the process behind it, at most
log = logging.getLogger(__name__)


def steady(
    make: Callable[[int], Loader],
    images: Callable[[int], list[tuple[int, str]]],
    first: int = 0,
    end: int | None = None,
) -> Generator[Any]:
    """Batches of the places from ``first`` on, up to ``end`` if that is given.

    ``make`` gives the loader from a place on; ``images`` are the ids and files of a place.  Where processes were lost
    twice, one of them reads one batch after another, so that it dies of the batch that kills it.
    """
    place, deaths, total, alone_until = first, 0, 0, first
    while end is None or place < end:
        alone = place < alone_until
        readers = Readers(make(place), alone)
        try:
            while place != end and not (alone and place >= alone_until) and (batch := readers.next()) is not None:
                deaths = 0
                yield batch
                place += 1
        finally:
            readers.close()
        if not readers.lost:
            continue
        deaths, total = deaths + 1, total + 1
        _require_hope(deaths, readers.lost, images(place))
        alone_until = place + readers.ahead if deaths == TRIES - 1 else alone_until
        log.warning("warning: %s; reading goes on at the same place (%d such cases so far)", readers.lost, total)


class Readers:
    """A loader and its processes."""

    def __init__(self, loader: Loader, alone: bool = False):
        self.lost = ""
        """What happened to a process, once it did."""
        self.ahead = 2 * loader.num_workers + 1
        """Batches that may be in the making."""
        self.guarded, self.late = loader.num_workers > 0, False
        self.processes: list[Any] = []
        self.batches: Iterator[Any] | None = _passes(loader)
        if not self.guarded:
            return
        loader.worker_init_fn = _ignore_sigterm
        loader.multiprocessing_context = _recording(self.processes)
        if alone:
            loader.num_workers, loader.prefetch_factor = 1, 1  # the next is read when the one before has arrived
        GATE.users += 1

    def next(self) -> Any:
        """None where a process was lost."""
        assert self.batches is not None
        if self.ended():
            return None
        first = not self.processes
        try:
            with self._patient(), GATE.opened(self) if self.guarded and Gate.possible() else nullcontext():
                batch = next(self.batches)
            if first and self.guarded:
                atexit.register(self._leave)  # later than torch its own, so called before that: it waits for what hangs
            return batch
        except UserError:
            raise
        except Exception as error:
            broken = isinstance(error, OSError | EOFError)  # before the death itself shows
            if not self.ended(DYING if broken else 0):
                raise
        return None

    def ended(self, seconds: float = 0) -> bool:
        """Whether a process has, or does within those seconds."""
        begun = self._begun()
        if not begun:
            return False
        gone = connection.wait([process.sentinel for process in begun], seconds)
        dead = [process for process in begun if process.sentinel in gone]
        for process in dead:
            process.join()
        if self.late:
            self.lost = f"no batch came within {PATIENCE:g} s, so the processes that read images were ended"
        elif dead:
            self.lost = "; ".join(f"the process {p.pid}, which reads images, {_ended(p.exitcode)}" for p in dead)
        return bool(self.lost)

    def close(self) -> None:
        if not self.guarded or self.batches is None:
            return
        if self.lost:
            self._kill()  # what hangs cannot be asked to end
        self.batches = None  # asks them, unless an error on its way still holds the loader
        self._kill()
        for process in self._begun():
            process.join()
        atexit.unregister(self._leave)
        GATE.leave()

    def _leave(self) -> None:
        self._kill()
        self.close()

    def _kill(self) -> None:
        for process in self._begun():
            process.kill()

    def _begun(self) -> list[Any]:
        """Without one that is being begun just now: the signal of another may come in the midst of that."""
        return [process for process in self.processes if _has_begun(process)]

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
        self._kill()


class Gate:
    """The death of a process interrupts the main thread where it waits for a batch, and nowhere else.

    torch raises it wherever the main thread is, in the midst of a step too.
    """

    def __init__(self) -> None:
        self.users, self.waiting, self.former = 0, None, None

    @staticmethod
    def possible() -> bool:
        return hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()

    @contextmanager
    def opened(self, readers: Readers) -> Generator[None]:
        self._take()
        self.waiting = readers
        try:
            yield
        finally:
            self.waiting = None
            self._take()

    def leave(self) -> None:
        """The last of its users gives the signal back."""
        self.users -= 1
        if not self.users and self.possible() and signal.getsignal(signal.SIGCHLD) == self._handle:
            signal.signal(signal.SIGCHLD, self.former or signal.SIG_DFL)

    def _take(self) -> None:
        """torch sets its handler with the first processes of all, and Lightning resets handlers after each run."""
        now: Any = signal.getsignal(signal.SIGCHLD)
        if now != self._handle:
            self.former = now
            signal.signal(signal.SIGCHLD, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if self.waiting is not None and self.waiting.ended():
            raise RuntimeError(self.waiting.lost)
        if callable(self.former) and not getattr(self.former, "__module__", "").startswith("torch."):
            self.former(number, frame)


GATE = Gate()  # as a process has one handler


def _recording(processes: list[Any]) -> Any:
    """The usual way to begin processes, which lists those it begins."""
    context: Any = copy(multiprocessing.get_context())
    begin = context.Process

    def recorded(*args: Any, **options: Any) -> Any:
        processes.append(begin(*args, **options))
        return processes[-1]

    context.Process = recorded
    return context


def _has_begun(process: Any) -> bool:
    try:
        return process.sentinel is not None
    except ValueError:  # as multiprocessing says it
        return False


def _passes(loader: Loader) -> Iterator[Any]:
    while True:
        yield from loader  # each pass goes on with the next epoch


def _ignore_sigterm(worker: int) -> None:
    """Schedulers signal whole process groups, and the running step may still need a batch; workers end with the run."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


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
        " processes if memory runs out (train.workers in training)",
        file=images[0][1] if images else None,
        image_id=[id for id, _ in images],
    )
