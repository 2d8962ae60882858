"""A disk that fills up or fails at each write of a checkpoint: what stood there must load, and a sentence say why.

    sudo python benchmarks/faults/disk.py --trials 100

Two parts, on small file systems in memory that this mounts, which needs root.  ``saves``: one checkpoint in the place of
another with a random number of bytes left, or a disk that is read-only, out of quota, closed to the user, failing, or
that allows no file so large.  ``trainings``: the disk fills at the n-th write of a short training, for that write or for
good; a run that ends is resumed once there is room, and all must end as if nothing had happened.
"""

import errno
import gc
import os
import random
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import short
import torch

from seanet import checkpoint
from seanet.errors import CheckpointError

WEIGHTS, BIGGEST = 1_500_000, 8_000_000  # numbers of a checkpoint; bytes of its file, at least
NOBODY = 65534
KINDS = ("full", "read-only", "quota", "closed", "failing flush", "failing rename", "file size")


@contextmanager
def mounted(where: Path, options: str) -> Generator[None]:
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], check=True)
    try:
        yield
    finally:
        while subprocess.run(["umount", where], capture_output=True).returncode:
            gc.collect()  # tensors that were read hold on to their file
            time.sleep(0.1)


def fill(folder: Path, left: int) -> None:
    """A file that leaves so many bytes free."""
    filler = folder / "filler"
    size = max(shutil.disk_usage(folder).free - left, 0)
    with filler.open("wb") as file:
        if size:
            os.posix_fallocate(file.fileno(), 0, size)


def save(path: Path, step: int) -> None:
    meta = checkpoint.Meta(short.small(), ("thing",), (1,), step=step)
    checkpoint.save_state(
        path, {"w": torch.full((WEIGHTS,), float(step))}, meta, {"m": torch.full((500_000,), float(step))}
    )


def loads_as(path: Path, step: int) -> bool:
    weights, meta, state = checkpoint.read_state(path)
    return meta.step == step and set(weights["w"].tolist()) == {float(step)} == set(state["m"].tolist())


def failing(name: str, number: int) -> None:
    def fail(*_):
        raise OSError(number, os.strerror(number))

    setattr(os, name, fail)


def prepared(kind: str, folder: Path, rng: random.Random) -> tuple[Callable[[], None], int]:
    """What happens in the child before it saves, and the bytes that are left where the disk is full."""
    left = max(rng.randint(-BIGGEST // 10, BIGGEST - 100_000), 0) if kind == "full" else -1
    limit = rng.randint(0, BIGGEST - 100_000)

    def fault() -> None:
        if kind == "full":
            fill(folder, left)
        elif kind == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        elif kind == "closed":
            os.setuid(NOBODY)
        elif kind == "file size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        else:
            failing("replace" if kind == "failing rename" else "fsync", errno.EDQUOT if kind == "quota" else errno.EIO)

    return fault, left


def one_save(work: Path, kind: str, rng: random.Random) -> dict:
    folder = work / "mounted"
    with mounted(folder, f"size={3 * BIGGEST}"):
        path = folder / checkpoint.LAST
        save(path, 1)
        if kind == "closed":
            os.chmod(folder, 0o555)
        fault, left = prepared(kind, folder, rng)

        def faulty() -> int:
            fault()
            save(path, 2)
            return 0

        child = short.fork(faulty, work / "save.log")
        code, said = child.finish(), child.text()
        if kind == "read-only":
            subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        wanted = [str(path), "bytes are needed", "free"]
        found = {"kind": kind, "left": left, "code": code, "names all": all(word in said for word in wanted)}
        reason = re.search(r"\((.*?)\)", said)
        return found | {
            "kept": loads_as(path, 1),
            "reason": reason[1] if reason else said[-300:],
            "unfinished": sum(rest.name.endswith(".tmp") for rest in folder.iterdir()),
        }


def counting(at: int, left: int, for_good: bool, folder: Path) -> Callable[[], None]:
    """In the child: the disk is full at the ``at``-th checkpoint that is written, and after it if it is so for good."""

    def before() -> None:
        real, calls = checkpoint.write, [0]

        def write(*args, **kwargs):
            calls[0] += 1
            if calls[0] == at:
                fill(folder, left)
            try:
                real(*args, **kwargs)
            except CheckpointError as error:
                print(f"write {calls[0]}: {error}", flush=True)
                raise
            finally:
                if calls[0] == at and not for_good:
                    (folder / "filler").unlink()
                print(f"writes: {calls[0]}", flush=True)

        checkpoint.write = write

    return before


def one_training(start: short.Start, work: Path, at: int, for_good: bool, rng: random.Random) -> dict:
    folder = work / "mounted"
    left = (0, 65_536, rng.randint(65_536, 10_000_000))[at % 3]
    config = short.small()
    with mounted(folder, "size=200m"):
        run = folder / "run"
        child = short.fork(
            short.training(start.data, run, config, counting(at, left, for_good, folder)), work / "training.log"
        )
        code, said = child.finish(), child.text()
        found = {
            "at": at,
            "for good": for_good,
            "left": left,
            "code": code,
            "failed writes": len(re.findall(r"^write \d+:", said, re.M)),
        }
        if code not in (0, 2):
            found["said"] = said[-2000:]
        (folder / "filler").unlink(missing_ok=True)
        if for_good and (run / checkpoint.LAST).exists():
            found["kept"] = checkpoint.read_state(run / checkpoint.LAST)[1].step
        again = short.fork(short.training(start.data, run, config), work / "resumed.log")
        wrong = again.finish()
        again.sweep()
        if wrong:
            return found | {"equal": False, "resume": again.text()[-2000:]}
        return found | {"equal": not short.compared(short.outcome(run), start.expected)}


def main() -> None:
    options = short.options(__doc__, 100, "disk").parse_args()
    start = short.start(options.work)
    trials = short.Trials(options.out, {"seed": options.seed, "saves": options.trials})
    folder = options.work / "counted"
    shutil.rmtree(folder, ignore_errors=True)
    counted = short.fork(
        short.training(start.data, folder, short.small(), counting(0, 0, False, folder)), folder.with_suffix(".log")
    )
    counted.finish()
    writes = counted.text().count("writes: ")
    for number in trials.missing(options.trials + 2 * writes):
        rng = random.Random(f"{options.seed} {number}")
        if number < options.trials:
            kind = KINDS[0] if number % 2 else KINDS[1 + number // 2 % (len(KINDS) - 1)]
            found = one_save(options.work, kind, rng)
        else:
            at, for_good = divmod(number - options.trials, 2)
            found = one_training(start, options.work, at + 1, bool(for_good), rng)
        trials.add(number, **found)
        print(f"trial {number}: {found}", flush=True)
    saves = [found for found in trials if "kind" in found]
    trainings = [found for found in trials if "at" in found]
    trials.finish(
        {
            "saves that failed as they should": short.share([found["code"] == 2 for found in saves]),
            "former checkpoint loads": short.share([found["kept"] for found in saves]),
            "message names path, bytes needed and free": short.share([found["names all"] for found in saves]),
            "unfinished files left": sum(found["unfinished"] > 0 for found in saves),
            "trainings, full for one write: went on": short.share(
                [f["code"] == 0 for f in trainings if not f["for good"]]
            ),
            "trainings, full for good: stopped with 2": short.share(
                [f["code"] == 2 for f in trainings if f["for good"]]
            ),
            "trainings equal in the end": short.share([found["equal"] for found in trainings]),
        }
    )


if __name__ == "__main__":
    main()
