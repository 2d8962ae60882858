"""Writes docs/results.md from the records of benchmarks/ablation.py.

    python benchmarks/results.py --preset cpu --out runs/ablation/cpu

OUT is the folder in which the ablation ran: its results and data give differences with intervals and the mistakes of boxes,
which are kept beside the records, and pictures.  Without it the page is written from what is kept.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment.differences import RESAMPLES, measure, write_differences
from experiment.errors import measure_errors, write_errors
from experiment.evidence import RECORDS, read_evidence
from experiment.page import JUDGED, MAIN, PAIRS, write_page
from experiment.pictures import write_pictures

from seanet.data.coco import find_split, read_coco
from seanet.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
SHOWN = "cpu"  # the preset that the page is about; others have a section in it


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default=SHOWN)
    parser.add_argument("--out", type=Path, help="the folder of the runs; measure differences and draw pictures anew")
    parser.add_argument("--records", type=Path, default=RECORDS, help="the folder of all presets' records")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one for each core")
    return parser.parse_args(given)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def measure_anew(args: argparse.Namespace) -> None:
    """Differences of the preset, mistakes of its boxes, and pictures, from its results."""
    folder = args.records / args.preset
    data = read_coco(*find_split(args.out / "data", "val"))
    results = args.out / "results"
    before = read_evidence(folder, measured=False)
    found = measure(data, results, before, PAIRS, resamples=args.resamples, jobs=args.jobs, say=say)
    write_differences(folder, found)
    write_errors(folder, measure_errors(data, results, before, JUDGED, jobs=args.jobs, say=say))
    evidence = read_evidence(folder)
    if args.preset == SHOWN and MAIN in evidence.pairings:
        seed = evidence.pairings[MAIN].seeds[0]
        files = {row: results / f"{row}-s{seed}.json" for row in reversed(MAIN)}
        write_pictures(data, files, args.page.parent / args.page.stem)


def main(given: Sequence[str] | None = None) -> None:
    args = arguments(given)
    if args.out:
        measure_anew(args)
    write_page(read_evidence(args.records / SHOWN), args.page, args.records)
    say(f"{args.page} is written")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
