"""``seanet val``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import Data, Device, Json, Set, adjust, counter, emit, require
from seanet.errors import UserError
from seanet.report.text import table

LIMIT = 100  # detections of an image, where no model says how many


@app.command()
def val(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="A checkpoint, the folder of a run, or anybody's COCO results (.json)."
        ),
    ],
    data: Data = None,
    split: Annotated[str, typer.Option(help="Which annotations of the data set.")] = "val",
    max_detections: Annotated[int | None, typer.Option(min=1, help="Detections of an image that count.")] = None,
    boundary: Annotated[
        bool, typer.Option("--boundary/--no-boundary", help="Boundary AP, and accuracy along the objects' boundaries.")
    ] = True,
    fixed: Annotated[
        bool,
        typer.Option("--fixed-boxes", help="Masks of the true classes in the true boxes instead: the mask head alone."),
    ] = False,
    results: Annotated[Path | None, typer.Option(metavar="JSON", help="Write the detections in COCO's format.")] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="The numbers of each class too.")] = False,
    set_: Set = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """COCO metrics and boundary metrics of a checkpoint or of results."""
    if data is None:
        raise UserError("--data DIR is needed: the folder of a COCO-style data set")
    require(checkpoint, "a checkpoint, the folder of a run or a file of results")
    require(data, "a folder of data")
    if checkpoint.suffix == ".json":
        if set_ or device or results or fixed:
            options = "--set, --device, --results and --fixed-boxes"
            raise UserError(f"{checkpoint} holds results: {options} are for checkpoints")
        found = score_file(checkpoint, data, split, max_detections or LIMIT, boundary)
    elif fixed:
        return in_true_boxes(checkpoint, data, split, set_ or [], device, json_)
    else:
        found = run_model(checkpoint, data, split, max_detections, boundary, results, set_ or [], device)
    return emit(found, json_, table(found, per_class))


def score_file(file: Path, data: Path, split: str, limit: int, boundary: bool) -> dict[str, Any]:
    from seanet.data.coco import find_split, read_coco
    from seanet.evaluation.assess import measure_results
    from seanet.evaluation.results import read_results

    truth = read_coco(*find_split(data, split))
    return measure_results(truth, read_results(file, truth), limit, boundary)


def in_true_boxes(
    checkpoint: Path, data: Path, split: str, changes: list[str], device: str | None, json_: bool
) -> None:
    from seanet.evaluation.oracle import fixed_boxes
    from seanet.predict import load
    from seanet.report.analysis import fixed_text

    model = load(checkpoint, device)
    adjust(model, changes)
    found = fixed_boxes(model, data, split=split, progress=counter("evaluated"))
    emit(found, json_, fixed_text(found))


def run_model(
    checkpoint: Path,
    data: Path,
    split: str,
    limit: int | None,
    boundary: bool,
    results: Path | None,
    changes: list[str],
    device: str | None,
) -> dict[str, Any]:
    from seanet.evaluation.run import evaluate
    from seanet.predict import load

    model = load(checkpoint, device)
    adjust(model, changes)
    if limit is not None:
        model.limited(limit=limit)
    entries: list[dict] = []
    found = evaluate(model, data, split=split, boundary=boundary, results=entries, progress=counter("evaluated"))
    if results is not None:
        from seanet.report.files import write_whole

        write_whole(results, json.dumps(entries).encode())
    return found
