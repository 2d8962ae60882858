"""Trains the rows of the paper's tables, and single switches, at equal data, seeds and schedule, and records what comes out.

    python benchmarks/ablation.py --preset cpu --rows main table2

The data are drawn once (``seanet data synth --preset boundary``); each row and seed is a run of ``seanet train``, whose last
weights are measured once on the val split.  OUT holds data, runs, logs and results; the records, small JSON files,
lie in benchmarks/experiment/records/PRESET.  The same command goes on with what was interrupted.

    python benchmarks/ablation.py --preset photographs --data DIR --rows main

Each row and seed goes on from what it learned of the drawn images, on a COCO-style folder of other images.  All classes are
made one, in annotations that are written to OUT/data; the images stay where they are.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from experiment.materials import place, provide
from experiment.presets import FROM_SCRATCH, PRESETS, Preset, preset
from experiment.records import Cell, read
from experiment.rows import GROUPS, ROWS, group, recipe_of
from experiment.runner import Experiment, Runner, Runs, figures, measuring, order, outstanding, training
from experiment.starts import keep

from seanet.errors import UserError

RECORDS = Path(__file__).resolve().parent / "experiment" / "records"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu", help=", ".join(PRESETS))
    parser.add_argument(
        "--rows", nargs="+", default=["main"], metavar="ROW", help=f"all, {', '.join(GROUPS)}, or names"
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of the preset's")
    parser.add_argument("--out", type=Path, help="default: runs/ablation/PRESET")
    parser.add_argument("--data", type=Path, metavar="DIR", help="of photographs: a COCO-style folder, train and val")
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="OUT",
        help="of photographs: where cpu_long ran; default: runs/ablation/cpu_long",
    )
    parser.add_argument("--records", type=Path, help="default: benchmarks/experiment/records/PRESET")
    parser.add_argument("--jobs", type=int, help="runs at once; default: one for each core, or each of --devices")
    parser.add_argument(
        "--devices", nargs="+", type=int, default=[0], help="GPUs of a preset for them, one run on each"
    )
    parser.add_argument("--backbone", help="instead of the preset's: lite, r50, r101 or x101")
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    parser.add_argument("--dry-run", action="store_true", help="show what is left to do, without data or training")
    return parser.parse_args(given)


def chosen(args: argparse.Namespace) -> Preset:
    """The preset as the command line changes it."""
    found = preset(args.preset)
    changed = {name: value for name in ("backbone", "steps") if (value := getattr(args, name)) is not None}
    found = replace(found, **changed)
    if found.steps < 1:
        raise UserError(f"--steps is {found.steps}: at least one is needed", field="steps")
    return found


def with_weights(found: Preset) -> Preset:
    """From scratch where the ImageNet weights of a GPU's backbone are not at hand; said aloud, since it costs much."""
    from seanet.weights.start import at_hand

    if found.device == "cpu" or at_hand(recipe_of(ROWS["mask_rcnn"], found).backbone):
        return found
    print(f"no ImageNet weights of {found.backbone} at hand: all rows are trained from scratch ({FROM_SCRATCH})")
    return replace(found, settings=(*found.settings, *FROM_SCRATCH))


def source(args: argparse.Namespace, found: Preset) -> Runs | None:
    """The ablation whose last weights the rows start from."""
    if found.init is None:
        if args.init_from:
            raise UserError(
                f"--init-from is given, but rows of {found.name} start as their recipes say", field="init_from"
            )
        return None
    return Runs(preset(found.init), (args.init_from or folder_of(found.init)).resolve())


def folder_of(name: str) -> Path:
    return Path("runs") / "ablation" / name


def slots(args: argparse.Namespace, found: Preset) -> list[str]:
    if found.device == "cuda":
        import torch

        if max(args.devices) >= torch.cuda.device_count():
            raise UserError(
                f"--devices {max(args.devices)} is asked for, but there are {torch.cuda.device_count()} GPUs here:"
                " name others, or take --preset cpu",
                field="devices",
            )
        return [str(device) for device in args.devices]
    jobs = args.jobs or max(1, (os.cpu_count() or 1) // found.threads)
    return [str(job) for job in range(jobs)]


def listing() -> str:
    lines = [f"{'row':<26}{'against':<14}{'of':<12}note"]
    for row in ROWS.values():
        lines.append(f"{row.name:<26}{row.against or '-':<14}{row.of or '-':<12}{row.note}")
    groups = [f"{name}: {', '.join(row.name for row in rows)}" for name, rows in GROUPS.items()]
    return "\n".join([*lines, "", *groups])


def plan(experiment: Experiment, cells: Sequence[Cell]) -> str:
    """The commands of what is left."""
    lines = []
    for cell in cells:
        if not cell.row.of:
            lines.append(shlex.join(training(experiment, cell)))
        lines.append(shlex.join(measuring(experiment, cell)))
    return "\n".join(lines)


def table(experiment: Experiment, cells: Sequence[Cell]) -> str:
    """A line for each row, means over the seeds that are recorded."""
    lines = [f"{'row':<26}{'seeds':<10}{'mask AP':>9}{'boundary AP':>13}{'TA@R 3 px':>11}"]
    for row in dict.fromkeys(cell.row for cell in cells):
        there = [cell for cell in cells if cell.row == row and experiment.record(cell).exists()]
        if not there:
            continue
        columns = zip(*(figures(read(experiment.record(cell))) for cell in there), strict=True)
        means = [mean(column) if None not in column else float("nan") for column in columns]
        seeds = " ".join(str(cell.seed) for cell in there)
        lines.append(f"{row.name:<26}{seeds:<10}{means[0]:>9.4f}{means[1]:>13.4f}{means[2]:>11.4f}")
    return "\n".join(lines)


def ablation(args: argparse.Namespace) -> int:
    """-> the exit code: 1 where a cell failed."""
    found = chosen(args)
    cells = order([group(name) for name in args.rows], args.seeds or found.seeds)
    out = (args.out or folder_of(found.name)).resolve()
    records = (args.records or RECORDS / found.name).resolve()
    if args.list:
        print(listing())
        return 0
    found, before = with_weights(found), source(args, found)
    there = place(out, found, args.data)
    if args.dry_run:
        experiment = Experiment(found, out, records, there, {})
        left = [cell for cell in cells if not experiment.record(cell).exists()]
        print(plan(experiment, left))
        return 0
    free = slots(args, found)
    experiment = Experiment(found, out, records, there, provide(out, found, there))
    if before:
        keep(experiment, before, cells)
    left = outstanding(experiment, cells)
    print(f"{len(cells)} cells, {len(left)} to do, {len(free)} at once", flush=True)
    failed = Runner(experiment, free).run(left)
    print(table(experiment, cells))
    for cell, reason in failed.items():
        print(f"failed: {cell.name}: {reason}")
    return int(bool(failed))


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        code = ablation(arguments())
    except UserError as error:
        print(f"ablation: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        code = 130
    raise SystemExit(code)


if __name__ == "__main__":
    main()
