"""``seanet data convert``: commands that convert the data sets of others."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.data import data_app
from seanet.cli.options import Json, Split, counter, emit, require, require_place
from seanet.errors import UserError

convert_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
data_app.add_typer(convert_app, name="convert")

ANNOTATIONS = "annotations/instances_{}.json"  # of a split, as COCO lays them out


@convert_app.callback()
def convert_root() -> None:
    """Convert data sets to COCO's format.

    Images stay where they are: OUT/images is a link to them.
    """


@convert_app.command()
def cityscapes(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder that holds gtFine and leftImg8bit.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where annotations/ and the link images go.")],
    json_: Json = False,
) -> None:
    """Convert Cityscapes, with exact masks.

    The eight classes with instances; groups become crowd regions.
    """
    require(source, "the folder that holds gtFine and leftImg8bit")
    require_place(out / ANNOTATIONS.format("train"), "OUT")
    from seanet.data.cityscapes import convert, find_splits
    from seanet.data.converting import link_images

    contents = {split: convert(source, split, counter(f"{split}: converted")) for split in find_splits(source)}
    link_images(out, source / "leftImg8bit")
    write(out, contents, json_)


@convert_app.command()
def lvis(
    annotations: Annotated[Path, typer.Argument(metavar="JSON", help="lvis_v1_train.json or lvis_v1_val.json.")],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="The folder of COCO's train2017 and val2017.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where annotations/ and the link images go.")],
    split: Annotated[str | None, typer.Option(metavar="NAME", help="train or val.  [as the file's name ends]")] = None,
    json_: Json = False,
) -> None:
    """Convert LVIS v1.

    With what it says about the categories that its images were searched for.
    """
    require(annotations, "the annotations of LVIS v1")
    require(images, "the folder of COCO's train2017 and val2017")
    require_place(out / ANNOTATIONS.format("train"), "OUT")
    from seanet.data.converting import link_images
    from seanet.data.lvis import convert, split_of

    contents = {split or split_of(annotations): convert(annotations, images)}
    link_images(out, images)
    write(out, contents, json_)


@convert_app.command()
def cityscapes_results(
    results: Annotated[Path, typer.Argument(metavar="JSON", help="What  seanet val --results  wrote.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The converted data set.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    split: Split = "val",
    json_: Json = False,
) -> None:
    """Write results as Cityscapes takes them.

    For its own evaluation and its server: a text file and masks for each image.
    """
    require(results, "a COCO results file")
    from seanet.data.cityscapes import results as files
    from seanet.data.coco import find_split, read_coco
    from seanet.evaluation.results import read_results
    from seanet.report.files import write_whole

    require_place(out / "results.txt", "OUT")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: name a new or empty folder, as old results would count too", file=out)
    truth = read_coco(*find_split(data, split))
    entries = read_results(results, truth)
    for name, content in files(truth, entries):
        write_whole(out / name, content)
    found = {"out": str(out), "images": len(truth.images), "detections": len(entries)}
    emit(found, json_, f"{len(entries)} detections in {len(truth.images)} images: {out}")


def write(out: Path, contents: dict[str, dict[str, Any]], json_: bool) -> None:
    """The annotations of each split, and what was counted in them."""
    from seanet.data.converting import counts
    from seanet.report.files import write_whole

    found = {}
    for split, content in contents.items():
        file = write_whole(out / ANNOTATIONS.format(split), json.dumps(content).encode())
        found[split] = {"file": str(file), **counts(content)}
    emit(found, json_, "\n".join(described(split, numbers) for split, numbers in found.items()))


def described(split: str, numbers: dict[str, Any]) -> str:
    shown = [f"{name} {count}" for name, count in numbers["classes"].items()]
    classes = ", ".join(shown[:20]) + (f" and {len(shown) - 20} more classes" if len(shown) > 20 else "")
    return (
        f"{split}: {numbers['images']} images ({numbers['empty_images']} without objects), {numbers['objects']} objects, "
        f"{numbers['crowds']} crowd regions: {numbers['file']}\n  {classes}"
    )
