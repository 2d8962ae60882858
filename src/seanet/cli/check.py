"""``seanet data check``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.data import data_app
from seanet.cli.options import Json, counter, emit, require, require_folder, require_place, say
from seanet.config import Data
from seanet.errors import UserError


@data_app.command()
def check(
    data: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder of a COCO-style data set.", show_default=False)
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this split; may be repeated.  [all there are]")
    ] = None,
    train_json: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Annotations to train on, instead of those in DIR.")
    ] = None,
    train_images: Annotated[Path | None, typer.Option(metavar="DIR", help="Their images.")] = None,
    val_json: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Annotations to evaluate on, instead of those in DIR.")
    ] = None,
    val_images: Annotated[Path | None, typer.Option(metavar="DIR", help="Their images.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="HTML", help="Write a page with pictures.")] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a repaired copy into a new or empty folder.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read images; 0: this one.  [one for each core]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read only the headers of image files.")] = False,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Larger image files are refused (data.max_pixels).")
    ] = Data.max_pixels,
    json_: Json = False,
) -> None:
    """Find all that is wrong with a data set.

    Annotations, image files, copies within a split, leaks between splits, classes.  Exit code 1 if there are defects.
    """
    given = {"train": (train_json, train_images), "val": (val_json, val_images)}
    splits = splits_given(data, split or [], given)
    if html is not None:
        require_place(html, "--html")
    if fix is not None:
        require_folder(fix, "--fix", empty=True)
    from seanet.data.checking.check import check as look
    from seanet.report.check import facts, text
    from seanet.report.repaired import write_repaired

    title = str(data or splits[0].annotations)
    found = look(splits, max_pixels, quick=quick, workers=workers, progress=counter("images read:"))
    if html is not None:
        from seanet.report.check_page import write_sheet

        say(f"page: {write_sheet(html, found, title, workers=1 if workers is None else workers)}")
    emit(facts(found), json_, text(found, title))
    if fix is not None:
        found = write_repaired(found, fix)
        say(text(found, str(fix)))
        say(f"what was changed: {fix / 'repairs.txt'}")
        say(f"train with  --data {fix}" if found.clean else "what is left cannot be repaired: add what is missing")
    raise typer.Exit(0 if found.clean else 1)


def splits_given(data: Path | None, names: list[str], given: dict[str, tuple[Path | None, Path | None]]) -> Any:
    """Where the splits lie: in the files given, else in the folder of data."""
    from seanet.data.checking.kinds import SplitFiles, splits_in

    pairs = {}
    for name, (file, images) in given.items():
        if file is not None and images is not None:
            require(file, "annotations")
            pairs[name] = SplitFiles(name, file, images)
        elif file is not None or images is not None:
            raise UserError(f"--{name}-json and --{name}-images belong together: name both")
    if data is None and not pairs:
        raise UserError("no data to check: name their folder, or --train-json and --train-images")
    found = {split.name: split for split in splits_in(data, names)} if data is not None else {}
    return tuple((found | pairs).values())
