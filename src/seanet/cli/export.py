"""``seanet data convert to-...``: commands that write COCO's format as others."""

from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.convert import convert_app
from seanet.cli.options import Json, counted, counter, emit, require, require_folder

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a COCO-style data set.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")]
Splits = Annotated[
    list[str] | None, typer.Option("--split", metavar="NAME", help="One of them, or several.  [train, val and test]")
]


@convert_app.command()
def to_yolo(data: Data, out: Out, split: Splits = None, json_: Json = False) -> None:
    """Write YOLO's segments.

    One ring for each object: parts and holes are joined by bridges of zero width. Crowd regions are left out.
    """
    export("to_yolo", data, out, split, json_)


@convert_app.command()
def to_labelme(data: Data, out: Out, split: Splits = None, json_: Json = False) -> None:
    """Write LabelMe's files, beside links to the images.

    Polygons stay polygons, run lengths become masks.
    """
    export("to_labelme", data, out, split, json_)


@convert_app.command()
def to_voc(data: Data, out: Out, split: Splits = None, json_: Json = False) -> None:
    """Write Pascal VOC's segmentation.

    Where objects overlap the smaller one has the pixels. Crowd regions become void.
    """
    export("to_voc", data, out, split, json_)


@convert_app.command()
def to_labels(data: Data, out: Out, split: Splits = None, json_: Json = False) -> None:
    """Write label images and a table of their classes.

    Values of 16 bits; objects.csv has the class of each. Where objects overlap the smaller one has the pixels.
    """
    export("to_labels", data, out, split, json_)


def export(kind: str, data: Path, out: Path, splits: list[str] | None, json_: bool) -> None:
    require(data, "the folder of a COCO-style data set")
    require_folder(out, "OUT", empty=True)
    from seanet.data.formats import exporting
    from seanet.report.files import write_whole

    parts = exporting.read_parts(data, splits)
    getattr(exporting, kind)(parts, out, write_whole, counter("written"))
    found = {split: exporting.summary(part) for split, part in parts.items()}
    emit({"out": str(out), "splits": found}, json_, "\n".join(map(described, found, found.values())) + f"\n{out}")


def described(split: str, numbers: dict[str, Any]) -> str:
    kinds = {"images": "image", "objects": "object", "crowds": "crowd region"}
    head = ", ".join(counted(numbers[key], word) for key, word in kinds.items())
    return "\n  ".join([f"{split}: {head}", *numbers["notes"]])
