"""A run's folder: one run holds it at a time, and the newest whole checkpoint in it is what a run goes on from."""

import os
import shutil
import socket
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from seanet import checkpoint
from seanet.checkpoint import BEST, LAST, PREVIOUS, Meta
from seanet.errors import CheckpointError, UserError

LOCK, HOLDER, DAMAGED = ".lock", ".holder", "damaged.safetensors"
LINGER = 15.0  # seconds that processes of a killed run may hold its folder
CONFIG, EARLY = "config.yaml", {"metrics.csv", "tensorboard"}  # what a run writes first, and before


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from."""

    path: Path
    meta: Meta
    state: dict[str, Any]
    """What the keeper of the run saved of itself."""
    warning: str = ""
    """Why it is not the last one."""


def is_first() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


@contextmanager
def held(out: Path) -> Generator[None]:
    """Make the folder and keep other runs out of it; the system lets go of it when the process ends, however it ends."""
    if not is_first():
        yield
        return
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK)
        lock.acquire(timeout=LINGER if _holder_is_gone(out) else 0)
        (out / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except Timeout:
        raise UserError(
            f"{out} is in use: {_holder(out)} trains there; wait for its end, stop it, or name another folder",
            file=str(out),
        ) from None
    except OSError as error:
        raise _unusable(out, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # as on a disk that has become read-only
            (out / HOLDER).unlink(missing_ok=True)
        lock.release()


def prepare(out: Path, resume: bool) -> None:
    """Sweep what a killed run left half written; refuse a folder that holds anything but a run that may be resumed."""
    try:
        for rest in (*out.glob(".*.tmp"), *out.glob(".tmp??????")):  # ours, and safetensors' own
            rest.unlink()
        names = {path.name for path in out.iterdir()} - {LOCK, HOLDER}
    except OSError as error:
        raise _unusable(out, error) from error
    if names and not (resume and (CONFIG in names or names <= EARLY)):
        raise UserError(f"{out} is not empty: name another folder, or resume the run in it (--resume)", file=str(out))


def newest(out: Path) -> Found | None:
    """The last checkpoint, or the one before it where that is damaged or missing; None where a run has yet to save one.

    A damaged one is set aside, so that the next save cannot put it in the place of the good one.
    """
    there = [out / name for name in (LAST, PREVIOUS) if (out / name).exists()]
    problems: list[CheckpointError] = []
    for path in there:
        try:
            _, meta, state = checkpoint.read_state(path)
        except CheckpointError as error:
            problems.append(error)
            continue
        if problems and is_first():
            os.replace(out / LAST, out / DAMAGED)
        return Found(path, meta, state["callbacks"]["Keeper"], _warning(path, problems, meta.step))
    if len(problems) == 2:
        raise CheckpointError(
            f"nothing to resume in {out}: {'; '.join(map(str, problems))}; start a new run in another folder,"
            f" from {BEST} if that is whole (--init)",
            file=str(out),
        )
    if problems:
        raise problems[0]
    if (out / BEST).exists():
        raise CheckpointError(
            f"{out} holds {BEST} but no {LAST} to resume: start a new run from it in another folder (--init)",
            file=str(out),
        )
    return None


def require_space(out: Path, detector: nn.Module, moments: int, averaged: bool) -> None:
    """Error unless the disk has room for a run's checkpoints: best, last, the one before, and one being written.

    ``moments`` is how many numbers the optimiser keeps for each weight.
    """
    weights = _bytes(detector.state_dict().values())
    state = weights * (2 if averaged else 1) + moments * _bytes(p for p in detector.parameters() if p.requires_grad)
    there = sum((out / name).stat().st_size for name in (BEST, LAST, PREVIOUS) if (out / name).exists())
    needed, free = weights + 3 * state - there, shutil.disk_usage(out).free
    if free < needed:
        raise UserError(
            f"{out}: the disk has {free:,} bytes free, but the checkpoints of this run need {needed:,}: make room, or"
            " name a folder on another disk (--out)",
            file=str(out),
            value=free,
        )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _warning(path: Path, problems: list[CheckpointError], step: int) -> str:
    if path.name == LAST:
        return ""
    why = f"{problems[0]}; it is now {DAMAGED}" if problems else f"{path.with_name(LAST)} is missing"
    return f"warning: {why}; going on from {path.name}, the state after step {step}"


def _holder(out: Path) -> str:
    try:
        return (out / HOLDER).read_text() or "another process"
    except OSError:
        return "another process"


def _holder_is_gone(out: Path) -> bool:
    """Whether the process that is named no longer runs here; its readers notice that within seconds."""
    words = _holder(out).split()
    if os.name == "nt" or words[0] != "process" or words[-1] != socket.gethostname():
        return False
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _unusable(out: Path, error: OSError) -> UserError:
    reason = "a file stands there" if isinstance(error, FileExistsError) else error.strerror or str(error)
    return UserError(f"{out}: cannot write there ({reason}): name another folder (--out)", file=str(out))
