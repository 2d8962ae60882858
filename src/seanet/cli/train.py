"""``seanet train``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import Data, Json, Set, complete_recipe, counter, emit, say
from seanet.errors import UserError
from seanet.report.text import summary


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A name that 'seanet recipes' lists.", autocompletion=complete_recipe),
    ],
    data: Data = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the run.  [runs/RECIPE]")] = None,
    train_json: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Annotations to train on, instead of those in --data.")
    ] = None,
    train_images: Annotated[Path | None, typer.Option(metavar="DIR", help="Their images.")] = None,
    val_json: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Annotations to evaluate on, instead of those in --data.")
    ] = None,
    val_images: Annotated[Path | None, typer.Option(metavar="DIR", help="Their images.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="YAML", help="Settings on top of the recipe's.")] = None,
    set_: Set = None,
    epochs: Annotated[float | None, typer.Option(metavar="N", help="Passes over the images (train.epochs).")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Steps, instead of epochs (train.steps).")] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Images of a step, on all devices (train.batch).")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Learning rate for 16 images a step (train.lr).")
    ] = None,
    devices: Annotated[int | None, typer.Option(metavar="N", help="GPUs (train.devices).")] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that read images, for each device (train.workers).")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of everything drawn (train.seed).")] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT", help="Checkpoint, or weights of torchvision, detectron2 or mmdetection, to start from."
        ),
    ] = None,
    reset_head: Annotated[
        bool, typer.Option("--reset-head", help="With --init: begin the layers that name classes anew.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Allow fetching the backbone's weights.")] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Begin without looking at the headers of all image files.")
    ] = False,
    json_: Json = False,
) -> None:
    """Train a recipe on your own images."""
    from seanet.recipes import recipe as named
    from seanet.settings import load_yaml, override

    if reset_head and init is None:
        raise UserError("--reset-head belongs to --init CKPT: name the weights to start from")
    settings = named(recipe)
    if config is not None:
        settings = load_yaml(config, settings)
    short = {"epochs": epochs, "steps": steps, "batch": batch, "lr": lr}
    short |= {"devices": devices, "workers": workers, "seed": seed}
    given = [f"train.{name}={value}" for name, value in short.items() if value is not None]
    settings = override(settings, [*(set_ or []), *given])
    sets = read_sets(data, {"train": (train_json, train_images), "val": (val_json, val_images)})
    for part in sets:
        part.require_clean(settings.data.max_bad)  # as training does, but before torch is waited for
    if not no_check and first_process():
        check_files(sets, settings.data.max_pixels)

    from seanet.training import train as run

    result = run(
        settings, sets, out or Path("runs") / recipe, resume=resume, init=init, reset_head=reset_head, download=download
    )
    if first_process():
        found = {"out": str(result.folder), "best": result.best, "history": result.history, "signal": result.signal}
        emit(found, json_, summary(result))
    raise typer.Exit(result.exit_code)


def first_process() -> bool:
    """Of those that train together."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def check_files(sets: Any, max_pixels: int) -> None:
    """Refuse image files that training would stop at, all at once, before it starts."""
    from seanet.data.checking.headers import require_files

    for line in require_files(sets, max_pixels, counter("headers of images read:")):
        say(f"warning: {line}")


def read_sets(data: Path | None, given: Mapping[str, tuple[Path | None, Path | None]]) -> Any:
    """The sets to train on and to evaluate with: the files given for one, else what the folder of data has."""
    from seanet.data.coco import find_split, read_coco

    sets: list[Any] = []
    for split, (file, images) in given.items():
        if file is not None and images is not None:
            found = file, images
        elif file is not None or images is not None:
            raise UserError(f"--{split}-json and --{split}-images belong together: name both")
        elif data is not None:
            found = find_split(data, split)
        else:
            raise UserError(
                f"no data to {split} with: name their folder (--data), or --{split}-json and --{split}-images"
            )
        sets.append(read_coco(*found, categories=sets[0].categories if sets else None))
        for line in sets[-1].repairs.summary()[:10]:
            say(f"{found[0]}: {line}")
    return tuple(sets)
