"""Small data sets of other formats: files, and the masks that should come out of them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from seanet.data.coco import CocoData, mask_bits

HEIGHT, WIDTH = 40, 60


def picture(file: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(file)
    return file


def text(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def objects(data: CocoData, image: int = 0) -> list[tuple[str, np.ndarray]]:
    record, found = data.images[image], []
    for a in record.annotations:
        bits, (x0, y0, x1, y1) = mask_bits(a, record.height, record.width)
        mask = np.zeros((record.height, record.width), bool)
        mask[y0:y1, x0:x1] = bits
        found.append((data.categories.names[a.label - 1], mask))
    return found


def equal(found: list[tuple[str, np.ndarray]], wanted: list[tuple[str, np.ndarray]]) -> bool:
    same = [a == b and np.array_equal(m, n) for (a, m), (b, n) in zip(found, wanted, strict=True)]
    return all(same)
