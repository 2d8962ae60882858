"""A small annotation file in COCO's format and what can be changed in it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as reference

from seanet.data.coco import CocoData, read_coco

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
H, W = 40, 60


def content() -> dict[str, Any]:
    """Two images with a square each; two categories, of which the second has no object."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in (1, 2)],
        "annotations": [annotation(7), annotation(8, image_id=2)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }


def annotation(id: int, **changes: object) -> dict[str, Any]:
    fields = {"id": id, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    return fields | {"segmentation": [SQUARE]} | changes


def read(folder: Path, data: object, **options: Any) -> CocoData:
    """What becomes of content or of bytes."""
    file = folder / "data.json"
    file.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return read_coco(file, folder, **options)


def with_entry(part: str, **changes: object) -> dict[str, Any]:
    """With other fields in the first entry of a list."""
    data = content()
    data[part][0] |= changes
    return data


def with_annotation(**changes: object) -> dict[str, Any]:
    return with_entry("annotations", **changes)


def without(part: str, key: str) -> dict[str, Any]:
    data = content()
    del data[part][0][key]
    return data


def rle(bits: np.ndarray, compressed: bool = True) -> dict[str, Any]:
    if compressed:
        code = reference.encode(np.asfortranarray(bits))
        return {"size": list(bits.shape), "counts": code["counts"].decode()}
    edges = np.flatnonzero(np.diff(bits.ravel(order="F"))) + 1
    counts = np.diff([0, *edges, bits.size]).tolist()
    return {"size": list(bits.shape), "counts": counts if not bits.flat[0] else [0, *counts]}


def square_bits() -> np.ndarray:
    bits = np.zeros((H, W), np.uint8)
    bits[10:30, 10:30] = 1
    return bits
