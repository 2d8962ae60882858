"""What ``seanet predict`` writes: pictures and maps beside each other, and one COCO file of all images."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from seanet.errors import UserError
from seanet.instances import Instances
from seanet.report.draw import encoded, heat, overlay, write_label_map
from seanet.report.files import write_whole

KINDS = ("overlay", "coco", "labels", "edges")
COCO = "predictions.json"


class Outputs:
    """Files of each image as soon as it is added; ``predictions.json`` is whole when the ``with`` block ends well.

    ``NAME.overlay.jpg`` shows the masks; ``NAME.labels.png`` (16 bits) numbers the instances from 1, best first, and 0
    is background; ``NAME.edges.png`` shows the edge probability.  The COCO file has images, categories and annotations
    with scores, as annotation tools read them; they go to the disk at once, so memory does not grow with their number.
    """

    def __init__(self, folder: Path | str, kinds: Sequence[str], category_ids: Sequence[int], names: Sequence[str]):
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UserError(f"--save {unknown[0]} is unknown: choose from {', '.join(KINDS)}")
        self.folder, self.kinds = Path(folder), tuple(kinds)
        self.categories = [{"id": int(i), "name": name} for i, name in zip(category_ids, names, strict=True)]
        self.images: list[dict] = []
        self.taken: set[str] = set()
        self.objects = 0

    def __enter__(self) -> "Outputs":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if "coco" in self.kinds:
                self.unfinished = self.folder / f".{COCO}.{os.getpid()}"
                self.file = self.unfinished.open("w", encoding="utf-8")
                self.file.write('{"annotations": [')
        except OSError as error:
            raise UserError(f"{self.folder}: cannot write there ({error.strerror or error})") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if "coco" not in self.kinds:
            return
        with self.file:
            rest = json.dumps({"images": self.images, "categories": self.categories})
            self.file.write("\n], " + rest[1:] + "\n")
        if error is None:
            os.replace(self.unfinished, self.folder / COCO)
        else:
            self.unfinished.unlink(missing_ok=True)

    def add(self, path: Path, pixels: np.ndarray | None, instances: Instances) -> list[Path]:
        """Write what is wanted of one image; the files that are its own.  Only overlays need its pixels."""
        name = self._name(path)
        written = []
        if "overlay" in self.kinds:
            assert pixels is not None
            picture = overlay(pixels, Bitmaps(instances), instances.names, instances.score.tolist())
            written.append(write_whole(self.folder / f"{name}.overlay.jpg", encoded(picture, "JPEG", quality=92)))
        if "labels" in self.kinds:
            written.append(write_label_map(self.folder / f"{name}.labels.png", instances.label_map()))
        if "edges" in self.kinds:
            picture = heat(instances.edge_map())
            written.append(write_whole(self.folder / f"{name}.edges.png", encoded(picture, "PNG")))
        if "coco" in self.kinds:
            self._add_coco(path, instances)
        return written

    def _add_coco(self, path: Path, instances: Instances) -> None:
        from faster_coco_eval.core import mask as codec

        height, width = instances.size
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": str(path), "width": width, "height": height})
        for entry in instances.to_coco(number):
            comma = "," if self.objects else ""
            self.objects += 1
            area = int(codec.area({**entry["segmentation"], "counts": entry["segmentation"]["counts"].encode()}))
            self.file.write(f"{comma}\n" + json.dumps({"id": self.objects, **entry, "area": area, "iscrowd": 0}))

    def _name(self, path: Path) -> str:
        """The file's stem; files of the same name in other folders are numbered."""
        name, number = path.stem, 1
        while name in self.taken:
            number += 1
            name = f"{path.stem}-{number}"
        self.taken.add(name)
        return name


class Bitmaps(Sequence):
    """The masks of instances, each drawn when it is asked for: of a photograph, all at once are gigabytes."""

    def __init__(self, instances: Instances):
        self.instances = instances

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, i):
        return self.instances.bitmap(i)
