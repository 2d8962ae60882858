"""What tells whether two image files show the same: their bytes, their pixels, and how they look.

A look is a grey copy of 16 x 16 cells.  Another size, format or quality moves no cell by more than 3 of 255 levels in
photographs, and those of two of them differ by 30 and more somewhere.  A crop or a flip is another look.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16
NEAR = 4  # grey levels by which every cell of the same picture agrees
PLAIN = 24  # grey levels between the darkest and the brightest cell, below which a look tells nothing


@dataclass(frozen=True, slots=True)
class Fingerprint:
    bytes: str
    pixels: str
    look: bytes | None  # None: too plain to tell


def fingerprint(path: Path, pixels: np.ndarray) -> Fingerprint | None:
    """Of a file and its (H, W, 3) uint8 pixels; None if they have one colour, which many images do."""
    if (pixels == pixels[0, 0]).all():
        return None
    with path.open("rb") as file:
        raw = hashlib.file_digest(file, "sha256").hexdigest()
    shown = hashlib.sha256(str(pixels.shape).encode())
    shown.update(np.ascontiguousarray(pixels).data)
    return Fingerprint(raw, shown.hexdigest(), look(pixels))


def look(pixels: np.ndarray) -> bytes | None:
    """Grey levels of 16 x 16 cells of (H, W, 3) uint8 pixels; None if they are nearly the same all over."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return small.tobytes() if np.ptp(np.asarray(small)) >= PLAIN else None


def groups(keys: Sequence[Hashable | None]) -> list[list[int]]:
    """Indices of equal keys, for each key that occurs more than once; None equals nothing."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is not None:
            found[key].append(index)
    return [indices for indices in found.values() if len(indices) > 1]


def alike(looks: Sequence[bytes | None]) -> list[list[int]]:
    """Indices of looks whose cells all agree within ``NEAR``, or do with a third's, in groups of two and more."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for index, one in enumerate(looks):
        if one is not None:
            places[one].append(index)
    different = list(places)
    root = list(range(len(different)))
    for a, b in _near(different):
        root[_top(root, a)] = _top(root, b)
    joined: dict[int, list[int]] = defaultdict(list)
    for number, one in enumerate(different):
        joined[_top(root, number)] += places[one]
    return [sorted(indices) for indices in joined.values() if len(indices) > 1]


def _top(root: list[int], number: int) -> int:
    while root[number] != number:
        root[number] = number = root[root[number]]
    return number


def _near(looks: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Pairs that agree.  If all cells do, so do their means and those of the quarters, which rules most pairs out."""
    cells = np.frombuffer(b"".join(looks), np.uint8).reshape(len(looks), SIDE, SIDE).astype(np.float32)
    quarters = cells.reshape(-1, 2, SIDE // 2, 2, SIDE // 2).mean((2, 4)).reshape(-1, 4)
    means = quarters.mean(1)
    order = np.argsort(means, kind="stable")
    ends = np.searchsorted(means[order], means[order] + NEAR, side="right")
    for place, (index, end) in enumerate(zip(order.tolist(), ends.tolist(), strict=True)):
        others = order[place + 1 : end]
        others = others[(np.abs(quarters[others] - quarters[index]) <= NEAR).all(1)]
        others = others[(np.abs(cells[others] - cells[index]) <= NEAR).all((1, 2))]
        for other in others.tolist():
            yield index, other
