"""LVIS v1, made into a file that ``read_coco`` takes: the same lists, with names of image files.  Free of torch.

What LVIS says beyond COCO stays in the file, for ``evaluation.lvis``: the categories that an image was searched for in
vain (``neg_category_ids``), those of which not every object is outlined (``not_exhaustive_category_ids``), and how many
images show a category (``frequency``: rare, common or frequent).
"""

from pathlib import Path
from typing import Any

from seanet.data.entries import read_lists
from seanet.data.files import unsafe
from seanet.data.repairs import Findings
from seanet.errors import AnnotationError, UserError

SPLITS = ("train", "val")


def split_of(file: Path) -> str:
    """``train`` or ``val``, as the name of an annotation file ends."""
    for split in SPLITS:
        if file.stem.endswith(split):
            return split
    raise UserError(f"{file}: its name ends neither in train nor in val: say which it is with --split", file=file)


def convert(file: Path, images: Path) -> dict[str, Any]:
    """The content of a COCO file; ``file_name`` is below ``images``, which holds COCO's ``train2017`` and ``val2017``."""
    findings = Findings(file)
    lists = read_lists(findings)
    entries = [_named(entry, findings) for _, entry in findings.objects(lists["images"], "images")]
    _require_images([entry["file_name"] for entry in entries], images, findings)
    # LVIS has no crowd regions; what it leaves open it says image by image.
    annotations = [{"iscrowd": 0, **entry} for _, entry in findings.objects(lists["annotations"], "annotations")]
    info = {"description": f"LVIS, from {file.name}"}
    return {"info": info, "images": entries, "annotations": annotations, "categories": lists["categories"]}


def _named(entry: dict[str, Any], findings: Findings) -> dict[str, Any]:
    """With the ``file_name`` that the address of its picture ends in: FOLDER/NAME."""
    address = entry.get("coco_url")
    parts = address.split("/")[-2:] if isinstance(address, str) else []
    if len(parts) < 2 or not all(parts) or unsafe("/".join(parts)):
        raise findings.error(
            f"image {entry.get('id')!r} has the coco_url {address!r}: expected LVIS v1, where it ends in "
            f"FOLDER/NAME.jpg",
            image_id=entry.get("id"),
            field="coco_url",
            value=address,
        )
    return {**entry, "file_name": "/".join(parts)}


def _require_images(names: list[str], images: Path, findings: Findings) -> None:
    missing = [name for name in names if not (images / name).is_file()]
    if missing:
        folders = ", ".join(sorted({name.partition("/")[0] for name in names}))
        raise AnnotationError(
            f"{findings.file}: {len(missing)} of its {len(names)} images are not below {images} ({missing[0]} first): "
            f"give the folder that holds all of {folders}",
            file=findings.file,
            field="images",
            value=missing,
        )
