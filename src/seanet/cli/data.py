"""``seanet data``: the group of commands about data sets, and the one that draws them."""

from pathlib import Path
from typing import Annotated

import typer

from seanet.cli.app import app
from seanet.cli.options import counter, say

data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")


@data_app.callback()
def data_root() -> None:
    """Check, convert, divide, describe and draw data sets."""


@data_app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    preset: Annotated[
        str, typer.Option(help="shapes, or boundary: thin far parts, soft boundaries, crowds of like colour.")
    ] = "shapes",
    images: Annotated[int, typer.Option(min=1, help="Images to train on.")] = 200,
    val: Annotated[int | None, typer.Option(min=0, help="Images to evaluate on.  [a fifth as many]")] = None,
    size: Annotated[int, typer.Option(min=64, max=4096, help="Pixels a side.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes.")] = 0,
    backgrounds: Annotated[Path | None, typer.Option(metavar="DIR", help="Photographs to use as ground.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that draw.  [one for each core, where that pays]")
    ] = None,
) -> None:
    """Draw scenes with exact masks, as a COCO-style data set.

    Of the preset boundary each image's entry names its "failure" (none, box, blur or clutter): see val --by failure.
    """
    import time

    from seanet.data.synth import synthesise

    began = time.perf_counter()
    folder = synthesise(
        out, images, size, seed, val, preset, backgrounds=backgrounds, workers=workers, progress=counter("drawn")
    )
    seconds, drawn = time.perf_counter() - began, len([*folder.glob("*/*.jpg")])
    say(f"{drawn} images in {seconds:.1f} s, {drawn / seconds:.0f} a second")
    print(f"{folder}: train with  seanet train seanet_lite --data {folder}")
