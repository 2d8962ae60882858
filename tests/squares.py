"""Data of squares, and detections of them: overlaps that can be told by hand."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as codec

from seanet.data.coco import CocoData, read_coco

SIDE = 100  # of every image
Square = tuple[float, float, float, float]
NAMES = {4: "cat", 9: "dog"}


def rle(*square: int) -> dict:
    """Run lengths of the pixels of a box, xyxy."""
    x0, y0, x1, y1 = square
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    found = codec.encode(mask)
    return {"size": [SIDE, SIDE], "counts": found["counts"].decode()}


def dense(code: dict) -> np.ndarray:
    return np.asarray(codec.decode(code))


def data_of(folder: Path, images: list[list[tuple]]) -> CocoData:
    """For each image its objects, (category id, box[, crowd]), that fill their boxes; laid out as a data set's val."""
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    pictures, annotations = [], []
    for i, objects in enumerate(images, 1):
        Image.new("RGB", (SIDE, SIDE)).save(folder / "val" / f"{i}.png")
        pictures.append({"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE})
        for category, (x0, y0, x1, y1), *crowd in objects:
            entry = {"id": len(annotations) + 1, "image_id": i, "category_id": category, "iscrowd": int(any(crowd))}
            entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            annotations.append(entry | {"segmentation": rle(x0, y0, x1, y1)})
    categories = [{"id": id, "name": name} for id, name in NAMES.items()]
    file = folder / "annotations" / "instances_val.json"
    file.write_text(json.dumps({"images": pictures, "annotations": annotations, "categories": categories}))
    return read_coco(file, folder / "val")


def found(image: int, category: int, box: Square, score: float = 0.9, mask: Square | None = None, **factors) -> dict:
    """An entry of a results file whose mask fills its box unless another one is given."""
    x0, y0, x1, y1 = box
    shape = rle(*(int(v) for v in mask or box))
    entry = {"image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
    return entry | {"segmentation": shape} | factors
