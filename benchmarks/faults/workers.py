"""Processes that read images are killed or stopped at random moments; and two runs are started in one folder.

    python benchmarks/faults/workers.py --trials 50 --hung 5 --twice 20

A run whose reader was killed (SIGKILL) or hangs (SIGSTOP) must go on, and end as one that nothing happened to.  Of two
runs that are started in one folder, the second at a random moment of the first, exactly one trains; the other ends with
exit code 2 and names the process that holds the folder.
"""

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import short

from seanet.data import feed

READERS = 2
PATIENCE = 5.0  # seconds until a reader counts as hung, instead of minutes


def readers(pid: int) -> list[int]:
    """Processes that the main thread of ``pid`` has forked."""
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except FileNotFoundError:
        return []


def disturbed(child: short.Child, rng: random.Random, seconds: float, signal_: int) -> bool:
    """Send the signal to one of the readers at a random moment; False if there was none by then."""
    code = child.wait(rng.uniform(0, seconds))
    until = time.monotonic() + seconds
    while code is None and not (found := readers(child.pid)):
        if time.monotonic() > until:
            return False
        code = child.wait(0.005)
    if code is not None:
        return False
    os.kill(rng.choice(found), signal_)
    return True


def impatient() -> None:
    feed.PATIENCE = PATIENCE


def trial(start: short.Start, folder: Path, rng: random.Random, hang: bool) -> dict:
    config = short.small(workers=READERS)
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        child = short.fork(short.training(start.data, folder, config, impatient), folder.with_suffix(".log"))
        began = time.monotonic()
        if disturbed(child, rng, start.seconds, signal.SIGSTOP if hang else signal.SIGKILL):
            break
        child.sweep()
        with suppress(ChildProcessError):  # it had ended, and was waited for
            os.waitpid(child.pid, 0)
    code = child.finish()
    child.sweep()
    found = {"hung": hang, "code": code, "seconds": round(time.monotonic() - began, 1)}
    if code:
        return found | {"equal": False, "said": child.text()[-2000:]}
    differs = short.compared(short.outcome(folder), start.expected)
    said = [line for line in child.text().splitlines() if "reads images" in line]
    if not differs:
        shutil.rmtree(folder)
    return found | {"equal": not differs, "differs": differs, "said": " ".join(said)[:500]}


def rivals(start: short.Start, folder: Path, rng: random.Random) -> dict:
    """Two runs in one folder: their exit codes, and whether the one that trained came to what it should."""
    shutil.rmtree(folder, ignore_errors=True)
    task = short.training(start.data, folder, short.small())
    first = short.fork(task, folder.with_suffix(".first.log"))
    offset = rng.choice([0.0, rng.uniform(0, 0.2), rng.uniform(0, start.seconds * 0.8)])
    time.sleep(offset)
    second = short.fork(task, folder.with_suffix(".second.log"))
    codes = [first.finish(), second.finish()]
    found = {"offset": round(offset, 3), "codes": codes}
    if sorted(codes) != [0, 2]:
        return found | {"one": False, "said": [child.text()[-1000:] for child in (first, second)]}
    loser, winner = (first, second) if codes[0] else (second, first)
    differs = short.compared(short.outcome(folder), start.expected)
    named = str(winner.pid) in loser.text()
    if not differs:
        shutil.rmtree(folder)
    return found | {"one": True, "named": named, "equal": not differs, "said": loser.text()[-500:]}


def main() -> None:
    parser = short.options(__doc__, 50, "workers")
    parser.add_argument("--hung", type=int, default=5)
    parser.add_argument("--twice", type=int, default=20)
    options = parser.parse_args()
    start = short.start(options.work)
    trials = short.Trials(options.out, {"seed": options.seed, "killed": options.trials, "hung": options.hung})
    for number in trials.missing(options.trials + options.hung + options.twice):
        rng, folder = random.Random(f"{options.seed} {number}"), options.work / f"trial{number}"
        if number < options.trials + options.hung:
            found = trial(start, folder, rng, number >= options.trials)
        else:
            found = rivals(start, folder, rng)
        trials.add(number, **found)
        print(f"trial {number}: {found}", flush=True)
    single = [found for found in trials if "codes" not in found]
    pairs = [found for found in trials if "codes" in found]
    trials.finish(
        {
            "readers killed, run finished and equal": short.share([f["equal"] for f in single if not f["hung"]]),
            "readers hung, run finished and equal": short.share([f["equal"] for f in single if f["hung"]]),
            "two starts in one folder, one ran": short.share([f["one"] for f in pairs]),
            "the other named the process that holds it": short.share([f.get("named", False) for f in pairs]),
            "the one that ran is equal": short.share([f.get("equal", False) for f in pairs]),
        }
    )


if __name__ == "__main__":
    main()
