"""``seanet val``."""

import gc
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import (
    LIMIT,
    MEASURED,
    By,
    Compile,
    Data,
    Device,
    Files,
    Json,
    MaxDetections,
    Precision,
    Set,
    Split,
    adjust,
    counter,
    emit,
    execution,
    require,
    require_data,
    require_place,
)
from seanet.config import Execution
from seanet.errors import UserError
from seanet.report.groups import group_table
from seanet.report.text import table


@app.command()
def val(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MEASURED)],
    data: Data = None,
    split: Split = "val",
    max_detections: MaxDetections = None,
    boundary: Annotated[
        bool, typer.Option("--boundary/--no-boundary", help="Boundary AP, and accuracy along the objects' boundaries.")
    ] = True,
    fixed: Annotated[
        bool,
        typer.Option("--fixed-boxes", help="The mask head alone instead: masks of the true classes in the true boxes."),
    ] = False,
    results: Annotated[Path | None, typer.Option(metavar="JSON", help="Write the detections as COCO results.")] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="The numbers of each class too.")] = False,
    by: By = None,
    set_: Set = None,
    device: Device = None,
    precision: Precision = None,
    compile_: Compile = False,
    json_: Json = False,
) -> None:
    """Measure a model, or anybody's results.

    COCO's AP of boxes and masks, Boundary AP, and accuracy in bands along the objects' boundaries.
    """
    require(model, "a checkpoint, the folder of a run or a file of results")
    files = require_data(data, split)
    if results is not None:
        require_place(results, "--results")
    how = execution(precision, compile_)
    if model.suffix == ".json":
        if set_ or device or precision or compile_ or results or fixed:
            options = "--set, --device, --precision, --compile, --results and --fixed-boxes"
            raise UserError(f"{model} holds results: {options} are for checkpoints")
        found = score_file(model, files, max_detections or LIMIT, boundary, by)
    elif fixed:
        if results or max_detections or per_class or by is not None or not boundary:
            options = "--results, --max-detections, --per-class, --by and --no-boundary"
            raise UserError(f"with --fixed-boxes nothing is detected: leave out {options}")
        return in_true_boxes(model, files, set_ or [], device, how, json_)
    else:
        found = run_model(model, files, max_detections, boundary, by, results, set_ or [], device, how)
    text = table(found, per_class)
    return emit(found, json_, text if by is None else f"{text}\n\n{group_table(found['by'])}")


def score_file(file: Path, data: Files, limit: int, boundary: bool, by: str | None) -> dict[str, Any]:
    from seanet.data.coco import read_coco
    from seanet.data.groups import read_groups
    from seanet.evaluation.assess import measure_results
    from seanet.evaluation.groups import measure_groups
    from seanet.evaluation.results import read_results

    gc.disable()  # a million small objects that are all needed: looking through them again and again costs a sixth
    try:
        groups = None if by is None else read_groups(data[0], by)
        truth = read_coco(*data)
        entries = read_results(file, truth)
        found = measure_results(truth, entries, limit, boundary)
        if groups is not None:
            found["by"] = {"key": by, "groups": measure_groups(truth, entries, groups, limit, boundary)}
        return found
    finally:
        gc.enable()


def in_true_boxes(
    checkpoint: Path, data: Files, changes: list[str], device: str | None, how: Execution, json_: bool
) -> None:
    from seanet.data.coco import read_coco
    from seanet.evaluation.fixed import fixed_boxes
    from seanet.predict import load
    from seanet.report.analysis import fixed_text

    model = load(checkpoint, device, how)
    adjust(model, changes)
    truth = read_coco(*data, categories=model.categories)
    found = fixed_boxes(model, truth, progress=counter("evaluated"))
    emit(found, json_, fixed_text(found))


def run_model(
    checkpoint: Path,
    data: Files,
    limit: int | None,
    boundary: bool,
    by: str | None,
    results: Path | None,
    changes: list[str],
    device: str | None,
    how: Execution,
) -> dict[str, Any]:
    from seanet.data.coco import read_coco
    from seanet.data.groups import read_groups

    groups = None if by is None else read_groups(data[0], by)  # a wrong key is said before the seconds that torch takes
    from seanet.evaluation.groups import measure_groups
    from seanet.evaluation.run import evaluate
    from seanet.predict import load

    model = load(checkpoint, device, how)
    adjust(model, changes)
    if limit is not None:
        model.limited(limit=limit)
    truth = read_coco(*data, categories=model.categories)
    truth.require_objects("measure by")
    entries: list[dict] = []
    found = evaluate(model, truth, boundary=boundary, results=entries, progress=counter("evaluated"))
    if results is not None:
        from seanet.report.files import write_whole

        write_whole(results, json.dumps(entries).encode())
    if groups is not None:
        groups_found = measure_groups(truth, entries, groups, model.config.detections.limit, boundary)
        found["by"] = {"key": by, "groups": groups_found}
    return found
