"""What converters of data sets share: images stay where they are, and what was converted is counted.  Free of torch."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from seanet.data.files import irregular
from seanet.data.folders import SPLITS
from seanet.data.images import PICTURES
from seanet.errors import AnnotationError, UserError

Progress = Callable[[int, int], None]
"""Takes how many of how many are done."""


def link_images(out: Path, images: Path, name: str = "images") -> Path:
    """Make ``out/NAME`` a link to the folder of the original images; nothing is copied.

    A link of that kind, or a folder that somebody made in its place, stays.
    """
    link, images = out / name, images.resolve()
    if not images.is_dir():
        raise UserError(f"the image folder {images} does not exist: give the right one", file=images)
    if (link.is_symlink() and link.resolve() != images) or link.is_file():
        raise UserError(f"{link} is there already and does not lead to {images}: write to another folder", file=link)
    if not link.exists():
        _make_link(out, link, images)
    return link


def link_file(out: Path, name: str, file: Path) -> None:
    """Make ``out/NAME`` lead to an image; one that does already stays."""
    link, file = out / name, file.resolve()
    if link.is_symlink() and link.resolve() == file:
        return
    if link.is_symlink() or link.exists():
        raise UserError(f"{link} is there already and does not lead to {file}: write to another folder", file=link)
    _make_link(out, link, file)


def refuse_links(out: Path, file: Path) -> None:
    """Error if a folder between ``out`` and a file in it is a link, through which the file would land among originals."""
    between = [folder for folder in file.parents if out in folder.parents]
    if above := next((folder for folder in between if folder.is_symlink()), None):
        raise UserError(f"{above} is a link, and what it leads to is left alone: write to another folder", file=above)


def _make_link(out: Path, link: Path, target: Path) -> None:
    refuse_links(out, link)
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target, target_is_directory=target.is_dir())
    except OSError as error:
        advice = f"put a junction to {target}, or a copy of it, there and run this again"
        raise UserError(f"{link}: cannot be made a link ({error.strerror}): {advice}", file=link) from error


def counts(content: dict[str, Any]) -> dict[str, Any]:
    """Images, images without an object, objects, crowd regions, and objects of each class, of a COCO file's content."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    single = [entry for entry in content["annotations"] if not entry["iscrowd"]]
    found = Counter(names.get(entry.get("category_id"), "no category") for entry in single)
    return {
        "images": len(content["images"]),
        "empty_images": len({image["id"] for image in content["images"]} - {entry.get("image_id") for entry in single}),
        "objects": len(single),
        "crowds": len(content["annotations"]) - len(single),
        "classes": dict(found.most_common()),
    }


def split_folders(source: Path, name: str) -> dict[str, Path]:
    """The folders ``train``, ``val`` (or ``valid``) and ``test`` of a data set; without them it is one split, ``name``."""
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give the one that holds the data set", file=source)
    found = {split: source / word for split, words in SPLITS.items() for word in words if (source / word).is_dir()}
    return found or {name: source}


def common_folder(files: Iterable[Path]) -> Path:
    """The deepest folder that all the files are below."""
    return Path(os.path.commonpath([file.parent for file in files]))


def pictures_in(folder: Path) -> list[Path]:
    """Image files below a folder, by their endings, in the order of their names; hidden ones are not data."""
    files = (file for file in folder.rglob("*") if file.suffix.lower() in PICTURES)
    return sorted(file for file in files if not file.name.startswith("."))


def by_stem(files: Iterable[Path], folder: Path) -> dict[str, Path]:
    """Path below the folder, without its ending -> file; two files of one name cannot be told apart."""
    found: dict[str, Path] = {}
    for file in files:
        stem = file.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            message = f"{file} and {found[stem].name} have one name but for their endings: rename or remove one of them"
            raise AnnotationError(message, file=file)
        found[stem] = file
    return found


def read_text(file: Path, what: str) -> str:
    """A text file; AnnotationError, with ``what`` was expected, if it is none."""
    if reason := irregular(file):
        raise AnnotationError(f"{file} {reason}: expected {what}", file=file)
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{file} cannot be read ({error.strerror}): expected {what}", file=file) from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{file} is not UTF-8 text: expected {what}", file=file) from error


def read_object(file: Path, what: str) -> dict[str, Any]:
    """The object that a JSON file holds; AnnotationError, with ``what`` was expected, if it holds none."""
    text = read_text(file, what)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        message = f"{file} is not JSON: {error.msg} in {place}: expected {what}"
        raise AnnotationError(message, file=file) from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{file} is not JSON of a data set: {error}: expected {what}", file=file) from error
    if not isinstance(content, dict):
        raise AnnotationError(f"{file} holds no JSON object: expected {what}", file=file)
    return content
