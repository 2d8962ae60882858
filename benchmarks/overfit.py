"""Trains a recipe on a few images and evaluates it on the same ones: if all of it works, it learns them by heart.

    .venv/bin/python benchmarks/overfit.py DATA seanet_lite --out runs/overfit

DATA is a COCO-style folder; its first images with objects are taken.  Prints the metrics as JSON.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from seanet.data.coco import find_split, read_coco
from seanet.recipes import recipe
from seanet.settings import override
from seanet.training import train

ALWAYS = ["data.flip=0", "train.validate_every=1000000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/overfit"))
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--size", type=int, default=256, help="Short side in pixels.")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    every = read_coco(*find_split(arguments.data, "train"))
    some = replace(every, images=tuple(i for i in every.images if i.annotations)[: arguments.images])
    changes = [*ALWAYS, f"train.steps={arguments.steps}", f"data.short_sides=[{arguments.size}]"]
    config = override(recipe(arguments.recipe), [*changes, *arguments.settings])
    run = train(config, (some, some), arguments.out)
    print(json.dumps(run.best["metrics"] if run.best else {}, indent=1))


if __name__ == "__main__":
    main()
