"""How the time of a prediction grows: with objects, the image's size, images at once, proposals; one of them at a time.

    python benchmarks/scaling.py torchvision mask_rcnn_lite seanet_lite --out benchmarks/scaling.json

All else stays as ``seanet bench`` has it: random weights, calibrated so that as many RoIs and boxes pass as the setting
says, the same proposals for every model, models in turns.  Times are those of a batch, from image files to run lengths.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from seanet.bench.contenders import Contender, Setting, contenders, passing
from seanet.bench.measure import WHOLE, machine, measure
from seanet.cli.options import say
from seanet.config import Execution
from seanet.report.bench import standing
from seanet.report.charts import line_chart
from seanet.report.files import write_whole

OBJECTS = (5, 10, 30, 100, 300)
PROPOSALS = (100, 300, 1000, 2000)
BATCHES = (1, 2, 4, 8)
SCALES = (0.5, 0.75, 1.0, 1.5)  # of the image's sides
UNITS = {"objects": "detections", "pixels": "megapixels of the image", "images": "images", "proposals": "proposals"}


def sweeps(base: Setting) -> dict[str, dict[float, Setting]]:
    """Of each factor its values and what is then measured."""

    def sized(scale: float) -> Setting:
        height, width = (round(scale * side / 32) * 32 for side in base.size)
        return replace(base, size=(height, width))

    sizes = [sized(scale) for scale in SCALES]
    return {
        "objects": {n: replace(base, detections=n, survivors=passing(base.proposals, n)) for n in OBJECTS},
        "pixels": {one.size[0] * one.size[1] / 1e6: one for one in sizes},
        "images": {n: replace(base, batch=n) for n in BATCHES},
        "proposals": {n: replace(base, proposals=n, survivors=passing(n, base.detections)) for n in PROPOSALS},
    }


def grown(models: list[Contender], settings: dict[float, Setting], repeats: int) -> list[dict[str, Any]]:
    """For each value of a factor the times of each model's whole, their ratio to the first model, and what was found."""
    rows = []
    for value, setting in settings.items():
        say(f"{value:g}")
        found = measure(models, setting, repeats=repeats, memory=False)["models"]
        whole = {name: one["times"][WHOLE] | {"detections": one["detections"]} for name, one in found.items()}
        rows.append({"value": value, "setting": asdict(setting), "models": whole})
    return rows


def charts(found: dict[str, Any]) -> str:
    """One above the other in one SVG: milliseconds by each factor."""
    drawn = []
    for factor, rows in found["factors"].items():
        series = {
            name: [(row["value"], 1000 * row["models"][name]["median"]) for row in rows] for name in found["models"]
        }
        drawn.append(line_chart(series, f"By {factor}", UNITS[factor], "ms a batch", marked=True))
    height = 310
    inner = [svg.replace("<svg ", f'<svg y="{i * height}" width="560" height="300" ') for i, svg in enumerate(drawn)]
    outer = f'<svg viewBox="0 0 560 {height * len(drawn)}" font-family="inherit">'
    return standing("".join([outer, *inner, "</svg>"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["torchvision", "mask_rcnn_lite", "seanet_lite"])
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--proposals", type=int, default=1000, help="where it is not the factor")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=UNITS, action="append", help="factors; all where none is named")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    parser.add_argument("--chart", type=Path, help="where the charts go as SVG")
    args = parser.parse_args()
    models = contenders(args.models, Execution())
    base = Setting(tuple(args.size), proposals=args.proposals, device=args.device)
    found: dict[str, Any] = {"machine": machine(args.device), "models": args.models, "factors": {}}
    for factor, settings in sweeps(base).items():
        if not args.only or factor in args.only:
            say(factor)
            rows = found["factors"][factor] = grown(models, settings, args.repeats)
            for row in rows:
                times = "".join(
                    f"{1000 * one['median']:>14.1f} ms {one['ratio']:>6.2f}" for one in row["models"].values()
                )
                print(f"{factor:<10}{row['value']:>8.3g}{times}", flush=True)
    if args.out:
        write_whole(args.out, (json.dumps(found, indent=1) + "\n").encode())
    if args.chart:
        write_whole(args.chart, charts(found).encode())


if __name__ == "__main__":
    main()
