"""Random data and results for tests of evaluation, without torch."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as codec

from seanet.data.coco import CocoData, read_coco, to_rle


def blob(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    cy, cx, ry, rx = rng.uniform(0, height), rng.uniform(0, width), *rng.uniform(4, 45, 2)
    return (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1).astype(np.uint8)


def rle(mask: np.ndarray) -> dict:
    found = codec.encode(np.asfortranarray(mask))
    return {"size": found["size"], "counts": found["counts"].decode()}


def write(folder: Path, images: int = 12, seed: int = 0, objects: int = 6, crowd: float = 0.15) -> CocoData:
    """Random ellipses of four classes with gaps in their ids; the last class has no objects; one image is empty."""
    rng = np.random.default_rng(seed)
    annotations, pictures = [], []
    for i in range(1, images + 1):
        height, width = (int(v) for v in rng.integers(90, 160, 2))
        Image.new("RGB", (width, height)).save(folder / f"{i}.png")
        pictures.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
        for _ in range(0 if i == images else int(rng.integers(1, objects + 1))):
            mask = blob(rng, height, width)
            if mask.sum() < 10:
                continue
            code = codec.encode(np.asfortranarray(mask))
            entry = {"id": len(annotations) + 1, "image_id": i, "category_id": int(rng.choice([2, 5, 11]))}
            entry |= {"segmentation": rle(mask), "bbox": codec.toBbox(code).tolist(), "area": float(mask.sum())}
            annotations.append(entry | {"iscrowd": int(rng.random() < crowd)})
    categories = [{"id": k, "name": f"class {k}"} for k in (2, 5, 11, 90)]
    (folder / "truth.json").write_text(
        json.dumps({"images": pictures, "annotations": annotations, "categories": categories})
    )
    return read_coco(folder / "truth.json", folder)


def detections(data: CocoData, seed: int = 0, ties: bool = False) -> list[dict]:
    """Objects moved a little, some with another class, and random ones."""
    rng, found = np.random.default_rng(seed), []
    for image in data.images:
        truth = [(a, codec.decode(to_rle(a, image.height, image.width))) for a in image.annotations]
        masks = [(np.roll(m, rng.integers(-4, 5, 2), (0, 1)), data.categories.ids[a.label - 1]) for a, m in truth * 2]
        masks += [(blob(rng, image.height, image.width), int(rng.choice([2, 5, 11, 90]))) for _ in range(5)]
        for mask, category in masks:
            code = codec.encode(np.asfortranarray(mask.astype(np.uint8)))
            value = float(rng.choice([0.2, 0.5])) if ties else float(rng.random())
            found.append(
                {
                    "image_id": image.id,
                    "category_id": int(category if rng.random() < 0.9 else 5),
                    "bbox": codec.toBbox(code).tolist(),
                    "segmentation": rle(mask),
                    "score": value,
                }
            )
    return found
