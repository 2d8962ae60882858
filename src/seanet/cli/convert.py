"""``seanet data convert``: commands that convert the data sets of others."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seanet.cli.data import data_app
from seanet.cli.options import Json, Split, counted, counter, emit, require, require_folder, say
from seanet.errors import UserError

if TYPE_CHECKING:
    from seanet.data.formats.contents import Contents

convert_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
data_app.add_typer(convert_app, name="convert")

ANNOTATIONS = "annotations/instances_{}.json"  # of a split, as COCO lays them out

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Where annotations/ and images/, with links, go.")]
Name = Annotated[str, typer.Option("--split", metavar="NAME", help="What to call it, where no folders train, val do.")]


@convert_app.callback()
def convert_root() -> None:
    """Convert data sets to COCO's format, and from it.

    Images stay where they are: what is made of them are links.
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
    require_folder(out, "OUT")
    from seanet.data.formats.cityscapes import convert, find_splits
    from seanet.data.formats.converting import link_images

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

    What it says about the categories that its images were searched for is kept.
    """
    require(annotations, "the annotations of LVIS v1")
    require(images, "the folder of COCO's train2017 and val2017")
    require_folder(out, "OUT")
    from seanet.data.formats.converting import link_images
    from seanet.data.formats.lvis import convert, split_of

    contents = {split or split_of(annotations): convert(annotations, images)}
    link_images(out, images)
    write(out, contents, json_)


@convert_app.command()
def yolo(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder that holds data.yaml, or such a file.")],
    out: Out,
    json_: Json = False,
) -> None:
    """Convert YOLO's segments.

    One ring for each object; a box without an outline is skipped and counted.
    """
    require(source, "the folder that holds data.yaml")
    require_folder(out, "OUT")
    from seanet.data.formats.yolo import convert

    names, found = convert(source, counter("converted"))
    write_parts(out, names, {split: (part.contents, part.folder) for split, part in found.items()}, json_)


@convert_app.command()
def labelme(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder of LabelMe's JSON files and their images.")],
    out: Out,
    split: Name = "train",
    json_: Json = False,
) -> None:
    """Convert LabelMe's files.

    Polygons, rectangles, circles and masks; a group_id joins the parts of an object.
    """
    require(source, "a folder of LabelMe's JSON files")
    require_folder(out, "OUT")
    from seanet.data.formats.labelme import convert, place
    from seanet.report.files import write_whole

    found = convert(source, split, counter("converted"))
    names = require_names([part.contents for part in found.values()], out)
    for name, part in found.items():
        place(out, f"images/{name}", part.pictures, write_whole)
    write_parts(out, names, {name: (part.contents, None) for name, part in found.items()}, json_)


@convert_app.command()
def voc(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="VOCdevkit, or the folder of a year in it.")],
    out: Out,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="One list alone, such as trainval.")] = None,
    json_: Json = False,
) -> None:
    """Convert Pascal VOC's segmentation, with exact masks.

    Void pixels belong to no object.
    """
    require(source, "VOCdevkit")
    require_folder(out, "OUT")
    from seanet.data.formats.voc import SHOWN, convert, find_root

    names, found = convert(source, split, counter("converted"))
    pictures = find_root(source) / SHOWN
    write_parts(out, names, {name: (contents, pictures) for name, contents in found.items()}, json_)


@convert_app.command()
def labels(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="The folder of the images.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="The folder of label images of the same names.")],
    out: Out,
    class_: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Every value is an object of it.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Columns image,value,class and, if needed, crowd.")
    ] = None,
    numbers: Annotated[
        Path | None, typer.Option(metavar="JSON", help='Classes by number, {"24": "person"}: value // divisor.')
    ] = None,
    divisor: Annotated[int, typer.Option(min=2, help="Of --numbers.")] = 1000,
    ending: Annotated[str, typer.Option(metavar="TEXT", help="Of label images, as _mask in 1_mask.png.")] = "",
    split: Name = "train",
    json_: Json = False,
) -> None:
    """Convert label images, with exact masks.

    The value of a pixel says which object it belongs to, 0 is ground; PNG or TIFF. Name the classes in one of three
    ways: --class, --table or --numbers.
    """
    require(images, "the folder of the images")
    require(labels, "the folder of label images")
    require_folder(out, "OUT")
    from seanet.data.formats.labels import by_number, by_table, convert, one_class

    ways = [one_class(class_)] if class_ else []
    ways += [by_table(table)] if table else []
    ways += [by_number(numbers, divisor)] if numbers else []
    if len(ways) != 1:
        raise UserError("name the classes by exactly one of --class NAME, --table CSV and --numbers JSON")
    (classes,) = ways
    found = convert(images, labels, classes, split, ending, counter("converted"))
    names = require_names([part.contents for part in found.values()], out)
    write_parts(out, names, {name: (part.contents, part.folder) for name, part in found.items()}, json_)


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
    require_folder(out, "OUT", empty=True)
    from seanet.data.coco import find_split, read_coco
    from seanet.data.formats.cityscapes import results as files
    from seanet.evaluation.results import read_results
    from seanet.report.files import write_whole

    truth = read_coco(*find_split(data, split))
    entries = read_results(results, truth)
    for name, content in files(truth, entries):
        write_whole(out / name, content)
    found = {"out": str(out), "images": len(truth.images), "detections": len(entries)}
    emit(found, json_, f"{len(entries)} detections in {len(truth.images)} images: {out}")


def require_names(parts: "list[Contents]", out: Path) -> list[str]:
    """The classes, of which there must be one, where they are those of the objects."""
    from seanet.data.formats.contents import names_of

    if names := names_of(parts):
        return names
    notes = [line for part in parts for line in part.repairs.summary()]
    why = f": {'; '.join(notes[:3])}" if notes else ""
    raise UserError(f"there is no object that a mask can be made of, so nothing was written to {out}{why}")


def write_parts(out: Path, names: list[str], parts: dict[str, "tuple[Contents, Path | None]"], json_: bool) -> None:
    """Splits with the folders of their images, to which links are made where they are given."""
    from seanet.data.formats.converting import link_images

    for split, (_, folder) in parts.items():
        if folder:
            link_images(out, folder, f"images/{split}")
    contents = {split: part.content(names) for split, (part, _) in parts.items()}
    write(out, contents, json_, {split: part.repairs.summary() for split, (part, _) in parts.items()})


def write(
    out: Path, contents: dict[str, dict[str, Any]], json_: bool, notes: dict[str, list[str]] | None = None
) -> None:
    """The annotations of each split, what was counted in them, and what was noted on the way."""
    from seanet.data.formats.converting import counts
    from seanet.report.files import write_whole

    found = {}
    there = {file.stem.removeprefix("instances_") for file in (out / ANNOTATIONS).parent.glob("instances_*.json")}
    if others := sorted(there - contents.keys()):
        say(f"{out} had {', '.join(others)} before: what was converted then stays as it was")
    for split, content in contents.items():
        file = write_whole(out / ANNOTATIONS.format(split), json.dumps(content).encode())
        found[split] = {"file": str(file), **counts(content)} | ({"notes": notes[split]} if notes else {})
    emit(found, json_, "\n".join(described(split, numbers) for split, numbers in found.items()))


def described(split: str, numbers: dict[str, Any]) -> str:
    shown = [f"{name} {count}" for name, count in numbers["classes"].items()]
    classes = ", ".join(shown[:20]) + (f" and {len(shown) - 20} more classes" if len(shown) > 20 else "")
    images = f"{counted(numbers['images'], 'image')} ({numbers['empty_images']} without objects)"
    objects = f"{counted(numbers['objects'], 'object')}, {counted(numbers['crowds'], 'crowd region')}"
    return "\n  ".join([f"{split}: {images}, {objects}: {numbers['file']}", classes, *numbers.get("notes", [])])
