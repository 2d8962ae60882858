"""``seanet analyse``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import (
    LIMIT,
    MEASURED,
    Data,
    Device,
    Files,
    Json,
    MaxDetections,
    Split,
    counter,
    emit,
    require,
    require_data,
    require_place,
    reservations,
    say,
)
from seanet.errors import UserError


@app.command()
def analyse(
    run: Annotated[Path, typer.Argument(metavar="MODEL", help=MEASURED)],
    data: Data = None,
    split: Split = "val",
    out: Annotated[Path | None, typer.Option(metavar="HTML", help="Write a page with charts.")] = None,
    max_detections: MaxDetections = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Show where AP is lost, and how far predicted IoUs can be trusted.

    What true classes, boxes and masks, and no duplicates, would gain; what boxes cut off; whether predicted IoUs and
    scores are right.  Of results (.json) only what needs no model is told.
    """
    require(run, "a checkpoint, the folder of a run or a file of results")
    files = require_data(data, split)
    if out is not None:
        require_place(out, "--out")
    if run.suffix == ".json" and device:
        raise UserError(f"{run} holds results: --device is for checkpoints")
    found = (
        of_results(run, files, max_detections)
        if run.suffix == ".json"
        else of_model(run, files, max_detections, device)
    )
    from seanet.report.analysis import text, write_analysis

    found["left_out"] += reservations(files[0])
    if out is not None:
        assert data is not None  # or ``require_data`` would have refused it
        title = f"Where {'/'.join(run.resolve().parts[-2:])} loses AP on {data.name} ({split})"
        say(f"page: {write_analysis(out, found, title, f'{run} on {data}, split {split}')}")
    emit({"run": str(run), "data": str(data), "split": split, **found}, json_, text(found))


def of_results(file: Path, data: Files, limit: int | None) -> dict[str, Any]:
    from seanet.data.coco import read_coco
    from seanet.evaluation.analysis import analyse
    from seanet.evaluation.oracle import mend_results
    from seanet.evaluation.results import read_results

    truth = read_coco(*data)
    return analyse(truth, mend_results(truth, read_results(file, truth)), limit or LIMIT)


def of_model(run: Path, data: Files, limit: int | None, device: str | None) -> dict[str, Any]:
    from seanet.data.coco import read_coco
    from seanet.evaluation.analysis import analyse
    from seanet.evaluation.oracle import rerun
    from seanet.predict import load

    model = load(run, device).limited(limit=limit)
    truth = read_coco(*data, categories=model.categories)
    return analyse(truth, rerun(model, truth, progress=counter("predicted")), model.config.detections.limit)
