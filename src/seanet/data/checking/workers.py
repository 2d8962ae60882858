"""Work on files that may crash or hang what reads them: in processes of their own, with limits of time and memory."""

import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
CHUNK = 32  # items that a process gets at once; it answers one by one, so a culprit is known


@dataclass(frozen=True)
class Limits:
    """Of a single item."""

    seconds: float = 60
    memory: int = 3 * 2**30
    """Bytes beyond what the process held before it began."""


@dataclass(frozen=True)
class Lost:
    """In place of the result of an item that broke a limit or ended its process."""

    reason: str


def each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> list[Result | Lost]:
    """``work`` of every item, in order; an exception of it is raised here.

    No workers, and systems that cannot fork, do it in this process, without limits.  ``progress`` hears (done, total).
    """
    if not workers or sys.platform != "linux":
        return _here(work, items, progress)
    team = _Team(work, items, limits or Limits(), progress)
    try:
        return team.run(min(workers, len(items)))
    finally:
        team.end()


def _here(work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None) -> list[Result | Lost]:
    results: list[Result | Lost] = []
    for item in items:
        results.append(work(item))
        if progress:
            progress(len(results), len(items))
    return results


@dataclass
class _Worker:
    process: Any
    connection: Connection
    next: int = 0
    stop: int = 0
    deadline: float = 0.0


class _Team:
    def __init__(self, work: Callable, items: Sequence, limits: Limits, progress: Progress | None):
        self.work, self.items, self.limits, self.progress = work, items, limits, progress
        self.workers: list[_Worker] = []
        self.spans: deque[tuple[int, int]] = deque()
        self.results: list[Any] = [None] * len(items)
        self.done = 0

    def run(self, count: int) -> list[Any]:
        total = len(self.items)
        step = max(1, min(CHUNK, total // (4 * max(count, 1))))
        self.spans.extend((first, min(first + step, total)) for first in range(0, total, step))
        for _ in range(count):
            self._hand_out(self._start())
        while self.done < total:
            self._listen()
        return self.results

    def end(self) -> None:
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()

    def _start(self) -> _Worker:
        context = get_context("fork")  # the items need no pickling, and the script of a caller is not run again
        ours, theirs = context.Pipe()
        others = [ours, *(worker.connection for worker in self.workers)]
        arguments = (self.work, self.items, theirs, others, self.limits.memory)
        process = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        theirs.close()  # or its end would not be noticed
        worker = _Worker(process, ours)
        self.workers.append(worker)
        return worker

    def _hand_out(self, worker: _Worker) -> None:
        if self.spans:
            worker.next, worker.stop = self.spans.popleft()
            worker.deadline = time.monotonic() + self.limits.seconds
            with suppress(ConnectionError):  # of a process that is gone, which listening to it will tell
                worker.connection.send((worker.next, worker.stop))

    def _listen(self) -> None:
        busy = [worker for worker in self.workers if worker.next < worker.stop]
        patience = min(worker.deadline for worker in busy) - time.monotonic()
        ready = wait([worker.connection for worker in busy], max(patience, 0))
        for worker in busy:
            if worker.connection in ready:
                self._receive(worker)
            elif time.monotonic() > worker.deadline:
                self._replace(worker, f"took longer than {self.limits.seconds:g} s")

    def _receive(self, worker: _Worker) -> None:
        try:
            value, error = worker.connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            code = worker.process.exitcode
            self._replace(worker, f"ended its process ({_ending(code)})")
            return
        if isinstance(error, MemoryError):
            value = Lost(f"needs more than {self.limits.memory / 2**20:,.0f} MB of memory")
        elif error is not None:
            raise error
        self._note(worker, value)
        worker.deadline = time.monotonic() + self.limits.seconds
        if worker.next == worker.stop:
            self._hand_out(worker)

    def _note(self, worker: _Worker, value: object) -> None:
        self.results[worker.next] = value
        worker.next += 1
        self.done += 1
        if self.progress:
            self.progress(self.done, len(self.items))

    def _replace(self, worker: _Worker, reason: str) -> None:
        """The item at which a process stopped is lost; what it had not begun goes to another."""
        self._note(worker, Lost(reason))
        if worker.next < worker.stop:
            self.spans.appendleft((worker.next, worker.stop))
        self.workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
        if self.spans:
            self._hand_out(self._start())


def _ending(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _serve(work: Callable, items: Sequence, connection: Connection, others: list[Connection], memory: int) -> None:
    """What a process does: answer spans of items until the other end of its pipe is gone."""
    import resource  # not everywhere, as forks are not

    for other in others:  # held here, they would outlive the parent
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's matter
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while True:
        try:
            first, stop = connection.recv()
        except EOFError:
            return
        for index in range(first, stop):
            connection.send(_answer(work, items[index]))


def _answer(work: Callable[[Item], Result], item: Item) -> tuple[Result | None, Exception | None]:
    try:
        return work(item), None
    except Exception as error:  # carried to the parent, which raises it
        return None, error
