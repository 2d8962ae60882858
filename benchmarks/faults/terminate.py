"""SIGTERM at random moments of a short real training, start and evaluation among them.

    python benchmarks/faults/terminate.py --trials 50

Each run is then resumed and must end as if nothing had happened.  What counts: how the process ended (143, or by the
signal itself before training began, when there was nothing to save), and how many seconds that took.  In every fifth
trial the whole group of processes is told, as a scheduler does it, in every fifth the signal comes twice.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import short

ENDS = {143: "after its step", -signal.SIGTERM: "at once", 0: "had ended already"}


def trial(start: short.Start, folder: Path, rng: random.Random, number: int) -> dict:
    shutil.rmtree(folder, ignore_errors=True)
    task = short.training(start.data, folder, short.small())
    how = {3: "group", 4: "twice"}.get(number % 5, "process")
    moment = rng.uniform(0, start.seconds)
    child = short.fork(task, folder.with_suffix(".log"))
    code, told = child.wait(moment), time.monotonic()
    if code is None:
        (os.killpg if how == "group" else os.kill)(child.pid, signal.SIGTERM)
        if how == "twice":
            time.sleep(0.01)
            os.kill(child.pid, signal.SIGTERM)
        code = child.finish()
    found = {"how": how, "moment": round(moment, 3), "code": code, "seconds": round(time.monotonic() - told, 3)}
    again = short.fork(task, folder.with_suffix(".log"))
    if wrong := again.finish():
        return found | {"resumed": False, "equal": False, "resume": wrong, "said": again.text()[-2000:]}
    differs = short.compared(short.outcome(folder), start.expected)
    if not differs:
        shutil.rmtree(folder)
    return found | {"resumed": True, "equal": not differs, "differs": differs}


def main() -> None:
    options = short.options(__doc__, 50, "terminate").parse_args()
    start = short.start(options.work)
    trials = short.Trials(options.out, {"seed": options.seed, "images": short.IMAGES, "passes": short.PASSES})
    for number in trials.missing(options.trials):
        rng = random.Random(f"{options.seed} {number}")
        found = trial(start, options.work / f"trial{number}", rng, number)
        trials.add(number, **found)
        print(f"trial {number}: {found}", flush=True)
    told = [found for found in trials if found["code"]]
    ends = {name: sum(found["code"] == code for found in trials) for code, name in ENDS.items()}
    trials.finish(
        {
            "told to stop": len(told),
            **{f"ended {name}" if code else name: ends[name] for code, name in ENDS.items()},
            "ended otherwise": len(trials.found) - sum(ends.values()),
            "longest until the end, seconds": max((found["seconds"] for found in told), default=0),
            "resumed": short.share([found["resumed"] for found in trials]),
            "equal": short.share([found["equal"] for found in trials]),
        }
    )


if __name__ == "__main__":
    main()
