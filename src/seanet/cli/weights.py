"""``seanet weights``: what files of weights are, and those of other frameworks as checkpoints of ours."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import Json, Set, complete_recipe, emit, require, require_place, say
from seanet.errors import UserError

weights_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(weights_app, name="weights")
SHOWN = 8  # names of tensors in a line


@weights_app.callback()
def weights_root() -> None:
    """Show, import and exchange files of weights."""


@weights_app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any file of weights, or the folder of a run.")],
    json_: Json = False,
) -> None:
    """Say what a file of weights is, without running anything of it."""
    require(file, "a file of weights or the folder of a run")
    from seanet.weights.show import describe, lines

    found = describe(file)
    emit(found, json_, "\n".join(lines(found)))


@weights_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of torchvision, detectron2 or mmdetection.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The checkpoint to write, a .safetensors file.")],
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="The model to build.", autocompletion=complete_recipe)
    ] = "mask_rcnn_r50",
    classes: Annotated[
        str,
        typer.Option(metavar="NAMES", help="a,b,c or a file with a name in each line, or coco.  [as the file says]"),
    ] = "",
    style: Annotated[
        str, typer.Option(metavar="STYLE", help="pytorch, caffe or bgr.  [as the file says, else as usual]")
    ] = "",
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Write another framework's Mask R-CNN as a checkpoint of ours."""
    require(file, "a file of weights")
    _require_checkpoint(out)
    from seanet.recipes import recipe as named
    from seanet.settings import differences, override

    settings = override(named(recipe), set_ or [])
    _require_foreign(file)
    from seanet.checkpoint import Meta, save_model
    from seanet.weights.files import read_source
    from seanet.weights.making import new_model

    model, report = new_model(read_source(file), settings, classes, style)
    save_model(out, model.detector.state_dict(), Meta(model.config, model.categories.names, model.categories.ids))
    found: dict[str, Any] = {
        "out": str(out),
        "framework": report.framework,
        "classes": list(model.categories.names),
        "settings": differences(settings, model.config),
        **{part: getattr(report, part) for part in ("taken", "unused", "untouched")},
    }
    for line in found["settings"]:
        say(f"set as these weights need it: {line}")
    text = [f"{out}: {recipe} with {len(report.taken)} tensors of {report.framework}"]
    parts = {"have no place here": report.unused, "keep random weights": report.untouched}
    text += [f"  {len(names)} {what}: {_few(names)}" for what, names in parts.items() if names]
    emit(found, json_, "\n".join(text))


@weights_app.command()
def push(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint or the folder of a run.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="For yourself alone.")] = False,
    license_: Annotated[str, typer.Option("--license", metavar="ID", help="Licence of the weights, e.g. mit.")] = "",
    data: Annotated[str, typer.Option(metavar="TEXT", help="What it was trained on, for the model card.")] = "",
) -> None:
    """Share a model on the Hugging Face Hub, with a model card."""
    require(checkpoint, "a checkpoint or the folder of a run")
    _require_repository(repository)
    from seanet.predict import load

    _quiet_client()
    print(load(checkpoint, "cpu").push_to_hub(repository, private=private, license=license_, data=data))


@weights_app.command()
def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the Hugging Face Hub.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The checkpoint to write, a .safetensors file.")],
    revision: Annotated[str | None, typer.Option(metavar="REV", help="Branch, tag or commit.")] = None,
) -> None:
    """Fetch a model from the Hugging Face Hub."""
    _require_repository(repository)
    _require_checkpoint(out)
    from seanet.hub import fetch

    _quiet_client()
    print(fetch(repository, out, revision))


def _require_checkpoint(out: Path) -> None:
    """Refuse a name under which nobody would take the file for what it is."""
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors, as it will be a file of that kind", file=str(out))
    require_place(out, "--out")


def _quiet_client() -> None:
    """The Hub's client prints its warnings itself, and they need no printing twice, nor each of its requests a line."""
    logging.getLogger("huggingface_hub").propagate = False
    for transport in ("httpx", "httpx2"):
        logging.getLogger(transport).setLevel(logging.WARNING)


def _require_foreign(file: Path) -> None:
    """Refuse a checkpoint of ours, and what holds no weights, before torch is waited for."""
    from seanet.headers import find, read_header
    from seanet.weights.archives import is_archive

    if not is_archive(found := find(file)) and "seanet" in read_header(found).metadata:
        raise UserError(f"{found} is a checkpoint of seanet already: use it as it is", file=str(found))


def _require_repository(repository: str) -> None:
    if repository.count("/") != 1:
        raise UserError(f"{repository!r} is no repository: expected OWNER/NAME", field="repository", value=repository)


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
