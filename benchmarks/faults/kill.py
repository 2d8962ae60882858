"""Kills at random moments of a short real training; after each it is resumed and must end as if nothing had happened.

    python benchmarks/faults/kill.py --trials 200

In three of four trials the process is killed (SIGKILL) at a random moment, one of imports excepted; in the fourth it dies
inside a save: at a random byte of the file, or before or after one of the calls that make it durable.  A resumed run is
killed again with one chance in three.  Equal means: every step once in metrics.csv, all its numbers but the clock's, and
fingerprints of both checkpoints and of the optimiser.

    python benchmarks/faults/kill.py --saves 1000 --out benchmarks/faults/saves.json

kills a process that does nothing but save, again and again, with TMPDIR on another disk.  What was last said to be saved,
or the save after it, must load.
"""

import os
import random
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import short
import torch

from seanet import checkpoint

SMALLEST = 200_000  # bytes; a limit on files below this would also meet what is no checkpoint
CALLS = ("fsync", "replace")


def limited(pid: int, size: int) -> None:
    """The process dies at the write that would make any file longer than ``size``."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))


def mortal() -> None:
    """Past the limit of a file's size the kernel ends this process, which Python otherwise keeps it from."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def dies_at(name: str, call: int, after: bool) -> None:
    """The process kills itself at the ``call``-th call of ``os.fsync`` or ``os.replace``, before or after it."""
    real, calls, me = getattr(os, name), [0], os.getpid()

    def fatal(*args, **kwargs):
        calls[0] += os.getpid() == me
        if calls[0] == call and not after:
            os.kill(me, signal.SIGKILL)
        found = real(*args, **kwargs)
        if calls[0] == call:
            os.kill(me, signal.SIGKILL)
        return found

    setattr(os, name, fatal)


def killed(start: short.Start, folder: Path, rng: random.Random) -> dict:
    """Begin or resume the run in ``folder`` and kill it; its exit code is 0 if it was quicker."""
    moment = rng.uniform(0, start.seconds)
    child = short.fork(short.training(start.data, folder, short.small()), folder.with_suffix(".log"))
    if (code := child.wait(moment)) is None:
        os.kill(child.pid, signal.SIGKILL)
        code = child.finish()
    return {"how": "kill", "seconds": round(moment, 3), "code": died(code, child)}


def killed_inside(start: short.Start, folder: Path, rng: random.Random) -> dict:
    """The same, inside a save; begun anew as long as the run ends first."""
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        found = rng.choice((_at_byte, _at_call))(start, folder, rng)
        if found["code"]:
            return found


def _at_byte(start: short.Start, folder: Path, rng: random.Random) -> dict:
    moment, byte = rng.uniform(0, start.seconds), rng.randint(SMALLEST, start.size - 1)
    child = short.fork(short.training(start.data, folder, short.small(), mortal), folder.with_suffix(".log"))
    if (code := child.wait(moment)) is None:
        limited(child.pid, byte)
        code = child.finish()
    return {"how": "byte", "byte": byte, "seconds": round(moment, 3), "code": died(code, child)}


def _at_call(start: short.Start, folder: Path, rng: random.Random) -> dict:
    name, call, after = rng.choice(CALLS), rng.randint(1, 20), rng.random() < 0.5

    def fault() -> None:
        dies_at(name, call, after)

    child = short.fork(short.training(start.data, folder, short.small(), fault), folder.with_suffix(".log"))
    return {"how": name, "call": call, "after": after, "code": died(child.finish(), child)}


def died(code: int, child: short.Child) -> int:
    """An exit code that is no error of the run itself."""
    if code > 0:
        raise SystemExit(f"a run ended with {code} instead of being killed: {child.text()}")
    return code


def trial(start: short.Start, folder: Path, rng: random.Random, inside: bool) -> dict:
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    kills = [(killed_inside if inside else killed)(start, folder, rng)]
    while kills[-1]["code"] and rng.random() < 1 / 3:
        kills.append(killed(start, folder, rng))
    found = {"inside": inside, "kills": kills}
    child = short.fork(short.training(start.data, folder, short.small()), folder.with_suffix(".log"))
    if child.finish():
        return found | {"resumed": False, "equal": False, "said": child.text()[-2000:]}
    differs = short.compared(short.outcome(folder), start.expected)
    left = [path.name for path in folder.iterdir() if path.name.startswith(".") and "tmp" in path.name]
    if not differs:
        shutil.rmtree(folder)
    seconds = round(time.monotonic() - began, 1)
    return found | {"resumed": True, "equal": not differs, "differs": differs, "left": left, "seconds": seconds}


def trainings(options) -> None:
    start = short.start(options.work)
    trials = short.Trials(options.out, {"seed": options.seed, "images": short.IMAGES, "passes": short.PASSES})
    for number in trials.missing(options.trials):
        rng = random.Random(f"{options.seed} {number}")
        found = trial(start, options.work / f"trial{number}", rng, number % 4 == 3)
        trials.add(number, **found)
        print(f"trial {number}: {found}", flush=True)
    kills = [kill for found in trials for kill in found["kills"] if kill["code"]]
    trials.finish(
        {
            "killed": len(kills),
            "killed inside a save": sum(kill["how"] != "kill" for kill in kills),
            "resumed": short.share([found["resumed"] for found in trials]),
            "equal": short.share([found["equal"] for found in trials]),
            "unfinished files left": sum(bool(found.get("left")) for found in trials),
        }
    )


def saving(path: Path, first: int, told: int) -> int:
    """Save states that say their number, and tell each number once its file is there, until this process is killed."""
    meta = checkpoint.Meta(short.small(), ("thing",), (1,))
    step = first
    while True:
        weights = {f"w{i}": torch.full((250_000,), float(step)) for i in range(8)}
        checkpoint.save_state(path, weights, replace(meta, step=step), {"step": step})
        os.write(told, step.to_bytes(8, "little"))
        step += 1


def saves(options) -> None:
    """Kills in a loop of saves."""
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = "/dev/shm"
    path, rng = options.work / checkpoint.LAST, random.Random(options.seed)
    path.unlink(missing_ok=True)
    lost, first, sizes = [], 1, 0
    for number in range(options.saves):
        ours, theirs = os.pipe()
        child = short.fork(lambda first=first, told=theirs: saving(path, first, told), options.work / "saves.log")
        os.close(theirs)
        if number == 0:
            os.read(ours, 8)  # there must be something to lose
        code = child.wait(rng.uniform(0, 0.12))
        if code is not None:
            raise SystemExit(f"saving ended with {code}: {child.text()}")
        os.kill(child.pid, signal.SIGKILL)
        child.finish()
        with os.fdopen(ours, "rb") as pipe:
            told = pipe.read()
        last = int.from_bytes(told[-8:], "little") if told else first - 1
        try:
            weights, meta, state = checkpoint.read_state(path)
            values = {float(value.min()) for value in weights.values()} | {
                float(value.max()) for value in weights.values()
            }
            good = meta.step == state["step"] and values == {float(meta.step)} and last <= meta.step <= last + 1
        except short.UserError as error:
            good, meta = False, None
            print(f"kill {number}: {error}")
        if not good:
            lost.append(number)
        first = (meta.step if meta else last) + 1
        sizes += any("tmp" in rest.name for rest in options.work.glob(".*"))
        for rest in options.work.glob(".*tmp*"):
            rest.unlink()
    trials = short.Trials(options.out, {"seed": options.seed, "saves": options.saves})
    trials.finish(
        {"killed": options.saves, "killed while a file was written": sizes, "saved": first - 1, "lost": len(lost)}
    )


def main() -> None:
    parser = short.options(__doc__, 200, "kill")
    parser.add_argument("--saves", type=int, default=0, help="this many kills in a loop of saves instead")
    options = parser.parse_args()
    saves(options) if options.saves else trainings(options)


if __name__ == "__main__":
    main()
