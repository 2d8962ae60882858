"""What several commands share: their options, and how they speak."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet import config
from seanet.errors import UserError
from seanet.report.text import finite


def complete_recipe(incomplete: str) -> list[str]:
    from seanet.recipes import EVERY

    return [name for name in EVERY if name.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    from seanet.config import Config, EdgeMask, FcnBox, MaskIou
    from seanet.settings import paths

    names = {*paths(Config()), *paths(Config(box=FcnBox(), mask=EdgeMask(), scoring=MaskIou()))}
    return sorted(f"{name}=" for name in names if name.startswith(incomplete))


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting, e.g. train.lr=0.005.", autocompletion=complete_setting
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of a COCO-style data set: annotations/ beside the folders of images."),
]
Split = Annotated[str, typer.Option(metavar="NAME", help="Which annotations of the data set, such as train2017.")]
MaxDetections = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Detections of an image that count.  [as the model has it; 100 of results]"),
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Each group of images on its own too: those that agree in a key of their entries, such as site.",
    ),
]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps.  [cuda where there is one, else cpu]")
]
Precision = Annotated[
    config.Precision | None,
    typer.Option(
        help="Of convolutions: tf32 is for NVIDIA GPUs; bf16 and fp16 pay where the processor has them.  [fp32]"
    ),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the model first, in about a minute: for many images on a GPU.")
]
Files = tuple[Path, Path]  # annotations, and the folder of their images
MEASURED = "A checkpoint, the folder of a run, or anybody's COCO results (.json)."
LIMIT = 100  # detections of an image, where no model says how many


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def emit(found: Any, as_json: bool, text: str) -> None:
    """The result on stdout: strict JSON, or text for people."""
    print(json.dumps(finite(found), ensure_ascii=False, indent=2, default=str) if as_json else text, flush=True)


def counted(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)


def counter(verb: str) -> Callable[[int, int], None]:
    """Says about ten times how far something is."""

    def progress(done: int, total: int) -> None:
        if done % -(-total // 10) == 0 or done == total:
            say(f"{verb} {done} of {total}")

    return progress


def execution(precision: config.Precision | None, compile_: bool) -> config.Execution:
    return config.Execution(precision or "fp32", compile="default" if compile_ else "none")


def require(path: Path, what: str) -> None:
    """Name a missing path before torch is waited for."""
    if not path.exists():
        raise UserError(f"{path} does not exist: expected {what}", file=str(path))


def require_data(data: Path | None, split: str) -> Files:
    """The annotations of a split and the folder of their images, before torch is waited for."""
    if data is None:
        raise UserError("--data DIR is needed: the folder of a COCO-style data set")
    require(data, "a folder of data")
    from seanet.data.coco import find_split

    return find_split(data, split)


def require_place(file: Path, option: str) -> None:
    """Refuse a file that could not be written, before anything is computed for it."""
    if file.is_dir():
        raise UserError(f"{option} {file} is a folder: name a file in it")
    _require_writable(file, file.absolute().parent, option)


def require_folder(folder: Path, option: str, empty: bool = False) -> None:
    """Refuse a folder that could not be written into, or, where it must be a new or ``empty`` one, that is neither."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{option} {folder} is a file: name a folder")
    if empty and folder.exists() and any(folder.iterdir()):
        raise UserError(f"{option} {folder} is not empty: name a new or empty folder, as old files would count too")
    _require_writable(folder, folder.absolute(), option)


def _require_writable(path: Path, within: Path, option: str) -> None:
    above = next(folder for folder in (within, *within.parents) if folder.exists())
    if not above.is_dir():
        raise UserError(f"{option} {path} cannot be written: {above} is no folder")
    if not os.access(above, os.W_OK):
        raise UserError(f"{option} {path} cannot be written: {above} may not be written to")


def reservations(file: Path) -> list[str]:
    """What to know about AP as COCO defines it, of the data in this file: nothing, or a sentence."""
    from seanet.evaluation.lvis import is_federated

    if not is_federated(file):
        return []
    return [
        f"{file}: AP here is COCO's, so detections of classes that an image was not searched for count as wrong; "
        "'seanet val' gives LVIS's own AP"
    ]


def adjust(model: Any, assignments: list[str]) -> None:
    """Settings of a loaded model that its weights do not depend on."""
    from seanet.settings import differences, override

    settings = override(model.config, assignments)
    free = ("detections.", "data.")
    if fixed := [line for line in differences(model.config, settings) if not line.startswith(free)]:
        raise UserError(f"only detections.* and data.* can be changed in a trained model, not {'; '.join(fixed)}")
    model.configure(settings)
