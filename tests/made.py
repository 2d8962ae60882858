"""A small data set, clean until a test plants something in it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as codec

WIDTH, HEIGHT = 64, 48
RING = [10, 8, 30, 8, 30, 28, 10, 28]
COUNTS = {"train": 4, "val": 2}


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Soft blots, of another look for every seed."""
    levels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)


def runs(*box: int) -> dict[str, Any]:
    bits = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    bits[box[1] : box[3], box[0] : box[2]] = 1
    code = codec.encode(bits)
    return {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}


def annotation(id: int, image_id: int, **changes: Any) -> dict[str, Any]:
    """A square of 20 pixels a side, a polygon for odd ids, run lengths for even ones."""
    shape = [RING] if id % 2 else runs(10, 8, 30, 28)
    entry = {"id": id, "image_id": image_id, "category_id": 3 + 2 * (id % 2), "segmentation": shape}
    return entry | {"bbox": [10, 8, 20, 20], "area": 400, "iscrowd": 0, "note": f"n{id}"} | changes


@dataclass
class Made:
    """Images i of a split are i.png, with annotations 2 i - 1 and 2 i."""

    folder: Path
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "annotations").mkdir(parents=True)
        for split, count in COUNTS.items():
            (self.folder / split).mkdir()
            images, annotations = [], []
            for i in range(1, count + 1):
                picture(i if split == "train" else 100 + i).save(self.image(i, split))
                images.append({"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT, "date": "today"})
                annotations += [annotation(2 * i - 1, i), annotation(2 * i, i)]
            categories = [{"id": 3, "name": "cat", "supercategory": "pet"}, {"id": 5, "name": "dog"}]
            content = {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": categories}
            self.contents[split] = content
        self.write()

    def image(self, number: int, split: str = "train") -> Path:
        return self.folder / split / f"{number}.png"

    def file(self, split: str = "train") -> Path:
        return self.folder / "annotations" / f"instances_{split}.json"

    def write(self) -> None:
        for split, content in self.contents.items():
            self.file(split).write_text(json.dumps(content))

    def entry(self, part: str, number: int, split: str = "train") -> dict[str, Any]:
        """To be changed; the first has number 1."""
        return self.contents[split][part][number - 1]
