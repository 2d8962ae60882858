"""What converters of data sets share: images stay where they are, and what was converted is counted.  Free of torch."""

from collections import Counter
from pathlib import Path
from typing import Any

from seanet.errors import UserError


def link_images(out: Path, images: Path) -> Path:
    """Make ``out/images`` a link to the folder of the original images; nothing is copied.

    A link of that kind, or a folder that somebody made in its place, stays.
    """
    link, images = out / "images", images.resolve()
    if not images.is_dir():
        raise UserError(f"the image folder {images} does not exist: give the right one", file=images)
    if (link.is_symlink() and link.resolve() != images) or link.is_file():
        raise UserError(f"{link} is there already and does not lead to {images}: write to another folder", file=link)
    if link.exists():
        return link
    out.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(images, target_is_directory=True)
    except OSError as error:
        advice = f"put a junction to {images}, or a copy of it, there and run this again"
        raise UserError(f"{link}: cannot be made a link ({error.strerror}): {advice}", file=link) from error
    return link


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
