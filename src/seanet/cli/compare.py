"""``seanet compare``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import (
    By,
    Compile,
    Data,
    Device,
    Json,
    Precision,
    Split,
    emit,
    execution,
    require,
    require_data,
    require_place,
    reservations,
    say,
)
from seanet.errors import UserError


@app.command()
def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODELS", help="Two to eight checkpoints, folders of runs, or anybody's COCO results (.json)."
        ),
    ],
    data: Data = None,
    split: Split = "val",
    out: Annotated[Path, typer.Option(metavar="HTML", help="The page.")] = Path("compare.html"),
    max_detections: Annotated[int, typer.Option(metavar="N", min=1, help="Detections of an image that count.")] = 100,
    device: Device = None,
    precision: Precision = None,
    compile_: Compile = False,
    by: By = None,
    images: Annotated[int, typer.Option(metavar="N", min=0, help="Objects shown in pictures.")] = 12,
    resamples: Annotated[
        int, typer.Option(metavar="N", min=100, max=100_000, help="Draws of the images, for intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the draws.")] = 0,
    json_: Json = False,
) -> None:
    """Compare models on the same data, on one page.

    The first is A, with which all others are compared: figures, intervals of the differences, charts, and the objects
    whose boundaries differ most.
    """
    if len(models) < 2:
        raise UserError(f"a comparison takes at least two models or results files, got only {models[0]}")
    for model in models:
        require(model, "a checkpoint, the folder of a run, or a COCO results file")
    files = require_data(data, split)
    if (device or precision or compile_) and all(model.suffix == ".json" for model in models):
        raise UserError("all models are files of results: --device, --precision and --compile are for checkpoints")
    require_place(out, "--out")
    from seanet.data.coco import read_coco
    from seanet.data.groups import read_groups
    from seanet.evaluation.compare import compare as measure
    from seanet.evaluation.groups import compare_groups
    from seanet.report.comparison import lines, write_comparison

    groups = {} if by is None else read_groups(files[0], by)
    found = measure(
        read_coco(*files),
        models,
        split=split,
        max_detections=max_detections,
        resamples=resamples,
        seed=seed,
        device=device,
        execution=execution(precision, compile_),
        say=say,
    )
    found = replace(found, notes=(*found.notes, *reservations(found.data.file)))
    if by is not None:
        found = replace(found, by=compare_groups(found, by, groups))
    written = write_comparison(out, found, images)
    for reason in written.unreadable:
        say(f"not shown: {reason}")
    facts: dict[str, Any] = {"page": str(written.path), "pictures": written.pictures, "not_shown": written.unreadable}
    emit(found.as_json() | facts, json_, f"{lines(found)}\n\npage: {written.path}")
