"""``seanet data split`` and ``seanet data stats``: a data set divided, and what it is made of."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.convert import ANNOTATIONS
from seanet.cli.data import data_app
from seanet.cli.options import Json, counted, emit, require, require_folder

Images = Annotated[Path | None, typer.Option(metavar="DIR", help="Their folder, where SRC does not show it.")]


@data_app.command()
def split(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A COCO file, or the folder that holds one.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    val: Annotated[float, typer.Option(metavar="SHARE", help="Of the images, to evaluate on.")] = 0.2,
    test: Annotated[float, typer.Option(metavar="SHARE", help="Of the images, to keep for the end.")] = 0.0,
    group: Annotated[
        str | None,
        typer.Option(metavar="KEY|REGEX", help="Images alike in this key, or this part of their name, stay together."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order in which images are dealt out.")] = 0,
    images: Images = None,
    pool: Annotated[bool, typer.Option("--pool", help="Put the splits of SRC together first.")] = False,
    json_: Json = False,
) -> None:
    """Divide a data set, with each class in equal shares.

    Images stay where they are: OUT/images has links.
    """
    require(source, "a COCO file, or the folder that holds one")
    require_folder(out, "OUT", empty=True)
    from seanet.data.formats.converting import link_images
    from seanet.data.split import classes_of, divide, read_pool, shares_of
    from seanet.report.files import write_whole

    shares, data = shares_of(val, test), read_pool(source, images, pool)
    contents, found = divide(data, shares, group, seed), {}
    for name, content in contents.items():
        link_images(out, data.folder, f"images/{name}")
        file = write_whole(out / ANNOTATIONS.format(name), json.dumps(content).encode())
        found[name] = {"file": str(file), "images": len(content["images"]), "classes": classes_of(data, content)}
    emit(
        {"out": str(out), "splits": found, "notes": data.notes},
        json_,
        "\n".join([*data.notes, *divided(found), str(out)]),
    )


def divided(found: dict[str, dict[str, Any]]) -> list[str]:
    """A row for each class: its objects, and the images that show it, in each split; then the classes that are missing."""
    names = list(next(iter(found.values()))["classes"])
    width = max(map(len, [*names, "images"]))
    lines = [" " * width + "".join(f"{split:>18}" for split in found)]
    lines.append("images".ljust(width) + "".join(f"{part['images']:>18}" for part in found.values()))
    for name in names:
        cells = (f"{part['classes'][name]['objects']} in {part['classes'][name]['images']}" for part in found.values())
        lines.append(name.ljust(width) + "".join(f"{cell:>18}" for cell in cells))
    for split, part in found.items():
        if missing := [name for name in names if not part["classes"][name]["objects"]]:
            lines.append(f"{split} has no object of: {', '.join(missing)}")
    return lines


@data_app.command()
def stats(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a COCO-style data set.")],
    split: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="One of them, or several.  [train, val and test]")
    ] = None,
    short_side: Annotated[int, typer.Option(min=1, help="Pixels that images are scaled to.")] = 800,
    long_side: Annotated[int, typer.Option(min=1, help="Pixels that none is scaled beyond.")] = 1333,
    cells: Annotated[int, typer.Option(min=1, help="Cells a side of a mask.")] = 28,
    json_: Json = False,
) -> None:
    """Show what a data set is made of.

    Sizes, shapes and outlines of its objects, and what they mean for a network.
    """
    require(data, "the folder of a COCO-style data set")
    from seanet.data.coco import read_coco
    from seanet.data.folders import find_splits
    from seanet.data.stats import stats as measured

    files = find_splits(data, split or ())
    found = {name: measured(read_coco(*own), short_side, long_side, cells) for name, own in files.items()}
    emit(found, json_, "\n\n".join("\n".join(described(*item)) for item in found.items()))


QUANTILES = ("min", "q10", "median", "q90", "max")


def described(split: str, found: dict[str, Any]) -> list[str]:
    """The numbers of a split as lines."""
    images = f"{counted(found['images'], 'image')} ({found['empty_images']} without objects)"
    head = f"{split}: {images}, {counted(found['objects'], 'object')}, {counted(found['crowds'], 'crowd region')}"
    net, outlines = found["network"], found["outlines"]
    rows = {
        "short side of images": found["short_side"],
        "long side of images": found["long_side"],
        "objects of an image": found["objects_per_image"],
        "area of objects": found["area"],
        "share of its box": found["fill"],
        "thinness of outlines": found["thinness"],
        f"side at {net['short_side']} / {net['long_side']}": net["side"],
        "image pixels / cell": net["pixels_per_cell"],
    }
    lines = [head, *found["notes"]]
    lines.append(" " * 22 + "".join(f"{name:>10}" for name in QUANTILES))
    lines += [name.ljust(22) + quantities(values) for name, values in rows.items()]
    lines.append(
        f"of {outlines['looked_at']} objects looked at, {outlines['with_parts']:.0%} have several parts "
        f"and {outlines['with_holes']:.0%} have holes"
    )
    return [*lines, *advice(net), "", *classes(found["classes"])]


def quantities(values: dict[str, float] | None) -> str:
    return "".join(f"{'-' if values is None else format(values[name], '.4g'):>10}" for name in QUANTILES)


def advice(net: dict[str, Any]) -> list[str]:
    """What follows for settings."""
    size = f"{net['short_side']} / {net['long_side']}"
    lines = [
        f"{net['below_eight_features']:.0%} of the objects are below 32 pixels a side at {size}, which is eight cells "
        f"of the finest features" + (": try larger data.short_sides" if net["below_eight_features"] > 0.25 else "")
    ]
    lines.append(
        f"{net['coarser_than_image']:.0%} of the objects have masks of {net['cells']} cells a side that are half as fine "
        f"as their image, or less" + (": try mask.size=28" if net["coarser_than_image"] > 0.25 else "")
    )
    return lines


def classes(found: dict[str, dict[str, Any]]) -> list[str]:
    width = max(map(len, [*found, "class"]))
    titles = ("objects", "images", "small", "medium", "large", "area", "fill", "thinness")
    lines = ["class".ljust(width) + "".join(f"{title:>10}" for title in titles)]
    for name, row in found.items():
        shares = [f"{row[size]:.0%}" if row["objects"] else "-" for size in ("small", "medium", "large")]
        medians = [format(row[key]["median"], ".4g") if row[key] else "-" for key in ("area", "fill", "thinness")]
        cells = [str(row["objects"]), str(row["images_with"]), *shares, *medians]
        lines.append(name.ljust(width) + "".join(f"{cell:>10}" for cell in cells))
    return lines
