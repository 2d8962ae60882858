"""``seanet val``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from seanet.cli.app import app
from seanet.cli.options import Data, Device, Json, Set, adjust, counter, emit, require
from seanet.errors import UserError
from seanet.report.text import table


@app.command()
def val(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the folder of a run.")],
    data: Data = None,
    split: Annotated[str, typer.Option(help="Which annotations of the data set.")] = "val",
    max_detections: Annotated[int | None, typer.Option(min=1, help="Detections of an image that count.")] = None,
    results: Annotated[Path | None, typer.Option(metavar="JSON", help="Write the detections in COCO's format.")] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="AP of each class too.")] = False,
    set_: Set = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """COCO metrics of a checkpoint."""
    if data is None:
        raise UserError("--data DIR is needed: the folder of a COCO-style data set")
    require(checkpoint, "a checkpoint or the folder of a run")
    require(data, "a folder of data")
    from seanet.evaluation.run import evaluate
    from seanet.predict import load

    model = load(checkpoint, device)
    adjust(model, set_ or [])
    if max_detections is not None:
        model.limited(limit=max_detections)
    entries: list[dict] = []
    found = evaluate(model, data, split=split, results=entries, progress=counter("evaluated"))
    if results is not None:
        from seanet.report.files import write_whole

        write_whole(results, json.dumps(entries).encode())
    emit(found, json_, table(found, per_class))
