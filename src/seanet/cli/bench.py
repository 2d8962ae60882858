"""``seanet bench``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import Device, Json, emit, require_place, say
from seanet.errors import UserError


@app.command()
def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODELS",
            help="Recipes, runs, checkpoints, torchvision; settings behind a colon, such as seanet_r50:plain,bf16.  "
            "[torchvision mask_rcnn_r50 seanet_r50]",
        ),
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(metavar="H W", min=32, help="The network's image.")] = (800, 1216),
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Images at once.")] = 1,
    proposals: Annotated[int, typer.Option(metavar="N", min=1, help="Boxes of an image for the box head.")] = 1000,
    detections: Annotated[int, typer.Option(metavar="N", min=1, help="Boxes of an image for the mask head.")] = 100,
    survivors: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the proposals that random weights let pass the score threshold.  [0.35, or three times what the "
            "detections need]",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Turns that count.")] = 5,
    device: Device = None,
    precision: Annotated[str, typer.Option(metavar="NAME", help="Of ours: fp32, tf32, bf16 or fp16.")] = "fp32",
    compile_: Annotated[bool, typer.Option("--compile", help="Ours compiled.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Ours in the paper's plain forms, without rewrites.")] = False,
    train: Annotated[bool, typer.Option("--train", help="A training step instead of a prediction.")] = False,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Predict these images instead of made ones.")
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="Of the CPU.  [as torch chooses]")] = None,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too, in processes of their own.")] = True,
    profile: Annotated[
        bool, typer.Option("--profile", help="Only name the operations that take the most time.")
    ] = False,
    largest: Annotated[bool, typer.Option("--largest", help="Only find how many images a GPU holds.")] = False,
    json_: Json = False,
    out: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A .json, .html or .svg; may be repeated.")
    ] = None,
) -> None:
    """Measure time, memory and arithmetic of models, stage by stage.

    Models take turns in one process; figures are ratios to the first.  Recipes have random weights, calibrated so that as
    many boxes pass each stage as in a trained model, and see the same proposals.
    """
    if profile and largest:
        raise UserError("--profile and --largest ask for different things: name one of them")
    if train and images is not None:
        raise UserError("--images are predicted: --train makes its own images with objects")
    require_places(out or [], allowed=not (profile or largest))
    from seanet.bench.contenders import PRECISIONS, Setting, Task, contenders, passing
    from seanet.config import Execution

    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    execution = Execution(precision, compile="default" if compile_ else "none")
    names = models or ["torchvision", "mask_rcnn_r50", "seanet_r50"]
    task: Task = "train" if train else "predict"
    found = contenders(names, execution, plain)
    if train and any(contender.plain and contender.config.cascade.ious for contender in found):
        raise UserError("a cascade has no plain form in training: leave out --train or plain")
    share = passing(proposals, detections) if survivors is None else survivors
    setting = Setting(size, batch, proposals, detections, share, device=device_of(device, threads))
    if profile or largest:
        answers, text = asked(found, setting, task, largest)
        emit(answers, json_, text)
        return
    from seanet.bench.measure import measure
    from seanet.report.bench import lines, write
    from seanet.streaming import find_images

    files = find_images([images]) if images is not None else []
    result = measure(found, setting, task, repeats=repeats, images=files, memory=memory, say=say)
    for path in out or []:
        write(path, result)
    emit(result, json_, "\n".join(lines(result)))


def require_places(out: Sequence[Path], allowed: bool) -> None:
    """Before anything is computed for these files."""
    if out and not allowed:
        raise UserError("--out takes what models are measured to be, not --profile or --largest")
    if out:
        from seanet.report.bench import require_suffix

        for path in out:
            require_suffix(path)
            require_place(path, "--out")


def device_of(name: str | None, threads: int | None) -> str:
    """The device's name, after it was found to be there."""
    import torch

    from seanet.predict import require_device

    if threads is not None:
        torch.set_num_threads(threads)
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    require_device(device)
    return device


def asked(found: Sequence[Any], setting: Any, task: Any, largest: bool) -> tuple[dict[str, Any], str]:
    """The answers of ``--largest`` or ``--profile`` for each model, as values and as text."""
    from seanet.report.bench import largest_lines, profile_lines

    if largest:
        from seanet.bench.largest import largest_batch

        batches = {contender.name: largest_batch(contender, setting, task, say) for contender in found}
        return batches, "\n".join(largest_lines(batches))
    from seanet.bench.profile import top_of

    operations = {contender.name: top_of(contender, setting, task, say) for contender in found}
    return operations, "\n".join(profile_lines(operations))
