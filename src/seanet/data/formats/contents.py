"""COCO files in the making: one for each split of a data set that is being converted.  Free of torch.

Ids count from 1, masks are measured, and everything that could not be taken as it was is noted, with its place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from seanet.data.bitmaps import rings_to_rle
from seanet.data.repairs import Repairs
from seanet.data.segmentations import Mask, Skip, check_mask

Raw = list[list[float]] | dict[str, Any]
"""A segmentation as a COCO file has it: rings of x, y, x, y, ..., or run lengths."""


@dataclass
class Contents:
    """What becomes the COCO file of a split: its images, and the objects on each."""

    description: str
    repairs: Repairs = field(default_factory=Repairs)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add_image(self, file_name: str, height: int, width: int) -> None:
        """Begin an image: objects that are added from now on are on it."""
        id = len(self.images) + 1
        self.images.append({"id": id, "file_name": file_name, "width": width, "height": height})

    def add_object(self, name: str, segmentation: Raw, where: str, crowd: bool = False) -> None:
        """An object of the class ``name`` on the last image; one that no mask can be made of is skipped and noted.

        ``where`` is how notes call it.
        """
        self.repairs.annotations += 1
        image = self.images[-1]
        try:
            mask = check_mask(segmentation, None, image["height"], image["width"], lambda *n: self.note(*n, where))
            if mask is None:
                raise Skip("no outline")
        except Skip as skip:
            self.note("skipped", str(skip), where)
            return
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image["id"],
                "category_id": name,  # its id follows when all names are known
                **_measured(mask, image["height"], image["width"], crowd),
                "iscrowd": int(crowd),
            }
        )

    def note(self, verb: str, what: str, where: str) -> None:
        self.repairs.note("object", verb, what, where)

    def content(self, names: Sequence[str]) -> dict[str, Any]:
        """What the file holds; categories are numbered from 1 in the order of ``names``."""
        ids = {name: id for id, name in enumerate(names, 1)}
        return {
            "info": {"description": self.description},
            "images": self.images,
            "annotations": [{**entry, "category_id": ids[entry["category_id"]]} for entry in self.annotations],
            "categories": [{"id": id, "name": name} for name, id in ids.items()],
        }


def names_of(contents: Iterable[Contents]) -> list[str]:
    """Classes that occur in any split, in the order of the alphabet."""
    return sorted({entry["category_id"] for content in contents for entry in content.annotations})


def _measured(mask: Mask, height: int, width: int, crowd: bool) -> dict[str, Any]:
    x0, y0, x1, y1 = (round(side, 6) for side in mask.box)
    measures = {"area": mask.pixels(height, width), "bbox": [x0, y0, round(x1 - x0, 6), round(y1 - y0, 6)]}
    segmentation = mask.segmentation
    if isinstance(segmentation, list) and not crowd:
        return {"segmentation": [ring.round(6).tolist() for ring in segmentation], **measures}
    # Crowd regions are run lengths in COCO's files.
    rle = rings_to_rle(segmentation, height, width) if isinstance(segmentation, list) else segmentation
    return {"segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")}, **measures}
