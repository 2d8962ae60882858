"""``seanet compare``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import Data, Device, Json, emit, require, say
from seanet.errors import UserError


@app.command()
def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C ...]", help="Runs, checkpoints or COCO results files (.json) of anybody's models."
        ),
    ],
    data: Data = None,
    split: Annotated[str, typer.Option(help="Which annotations of the data set.")] = "val",
    out: Annotated[Path, typer.Option(metavar="HTML", help="The page.")] = Path("compare.html"),
    max_detections: Annotated[int, typer.Option(min=1, help="Detections of an image that count.")] = 100,
    device: Device = None,
    images: Annotated[int, typer.Option(min=0, help="Objects shown in pictures.")] = 12,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Draws of the images, for intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    json_: Json = False,
) -> None:
    """Compare models on the same data, on a page with figures, intervals, charts and pictures."""
    if len(models) < 2:
        raise UserError(f"a comparison takes at least two models or results files, got only {models[0]}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file for the page, such as {out / 'compare.html'}")
    if data is None:
        raise UserError("--data DIR is needed: the folder of a COCO-style data set")
    require(data, "a folder of data")
    for model in models:
        require(model, "a checkpoint, the folder of a run, or a COCO results file")
    from seanet.data.coco import find_split, read_coco
    from seanet.evaluation.compare import compare as measure
    from seanet.report.comparison import lines, write_comparison

    found = measure(
        read_coco(*find_split(data, split)),
        models,
        split=split,
        max_detections=max_detections,
        resamples=resamples,
        seed=seed,
        device=device,
        say=say,
    )
    written = write_comparison(out, found, images)
    for reason in written.unreadable:
        say(f"not shown: {reason}")
    facts: dict[str, Any] = {"page": str(written.path), "pictures": written.pictures, "not_shown": written.unreadable}
    emit(found.as_json() | facts, json_, f"{lines(found)}\n\npage: {written.path}")
