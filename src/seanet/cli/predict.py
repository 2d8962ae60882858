"""``seanet predict``."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import Compile, Device, Json, Precision, emit, execution, require, say
from seanet.errors import UserError


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the folder of a run.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUTS", help="Images, folders of images, patterns such as 'a/*.jpg'.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results are written.")] = Path("predictions"),
    score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Keep what scores more; default: what was best in the model's validation (F1), else 0.5."
        ),
    ] = None,
    save: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="overlay, coco, labels or edges; may be repeated.")
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images at once, where those that follow each other are as large.")
    ] = 1,
    device: Device = None,
    precision: Precision = None,
    compile_: Compile = False,
    json_: Json = False,
) -> None:
    """Find the objects in images.  Files that cannot be read are named; the others go on."""
    require(checkpoint, "a checkpoint or the folder of a run")
    from seanet.predict import load
    from seanet.report.outputs import Outputs
    from seanet.streaming import find_images, stream

    kinds = save or ["overlay", "coco"]
    images = find_images(inputs)
    model = load(checkpoint, device, execution(precision, compile_))
    score = model.default_score if score is None else score
    model.limited(score=score)
    if "edges" in kinds and not model.config.mask.has_edges:
        raise UserError(
            f"--save edges needs a mask head with supervised edge attention; {checkpoint} is a {model.config.recipe}"
        )
    failed: list[str] = []
    done: list[dict[str, Any]] = []
    with Outputs(out, kinds, model.categories.ids, model.categories.names) as outputs:
        for outcome in stream(model, images, edges="edges" in kinds, batch=batch, pixels="overlay" in kinds):
            if outcome.instances is None:
                failed.append(str(outcome.error))
                say(f"error: {outcome.error}")
                continue
            found = outcome.instances[outcome.instances.score > score]  # a mask's IoU may have lowered it since
            files = outputs.add(outcome.path, outcome.pixels, found)
            counts = Counter(found.names)
            done.append({"image": str(outcome.path), "objects": dict(counts), "files": [str(file) for file in files]})
            if not json_:
                print(f"{outcome.path}: {', '.join(f'{n} {name}' for name, n in counts.items()) or 'nothing found'}")
    facts = {"out": str(out), "score": score, "images": done, "failed": failed}
    emit(facts, json_, f"{len(done)} of {len(images)} images, scores over {score:.3g}: {out}")
    if failed:
        raise typer.Exit(1 if done else 2)
