"""Many image files through a model, in their order: read ahead, predicted in batches while the last results are used."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from seanet.config import Data
from seanet.data.images import PICTURES, read_image
from seanet.data.loader import STRIDE, collate_images, read_whole
from seanet.errors import ImageError, UserError
from seanet.instances import Instances
from seanet.predict import Model

AHEAD = 3  # images read while the network works, or as many as a batch has
READERS = 2  # threads that read: Pillow decodes and resamples without holding the others up


@dataclass(frozen=True)
class Outcome:
    """One file of many: its instances, and its pixels where they are wanted, or why it could not be read."""

    path: Path
    pixels: np.ndarray | None = None
    instances: Instances | None = None
    error: ImageError | None = None


@dataclass(frozen=True)
class Read:
    """A file as the network sees it, (height, width) of the file, and its pixels where they are wanted."""

    path: Path
    seen: np.ndarray
    size: tuple[int, int]
    pixels: np.ndarray | None

    @property
    def padded(self) -> tuple[int, ...]:
        return tuple(math.ceil(side / STRIDE) for side in self.seen.shape[:2])


def stream(
    model: Model, paths: Iterable[Path], *, edges: bool = False, batch: int = 1, pixels: bool = True
) -> Iterator[Outcome]:
    """File by file; a bad one does not stop the rest.  Memory does not grow with their number.

    Up to ``batch`` files that follow each other and are padded to the same sides go through the network together, so
    that none sees another padding than it would alone.  While the caller uses what was found, the network goes on.
    """
    files = _read_ahead(partial(_read, config=model.config.data, pixels=pixels), paths, max(AHEAD, batch))
    with ThreadPoolExecutor(1) as network:
        working: Future[list[Outcome]] | None = None
        for group in _groups(files, batch):
            following = network.submit(_predicted, model, group, edges)
            if working:
                yield from working.result()
            working = following
        if working:
            yield from working.result()


def _read(path: Path, config: Data, pixels: bool) -> Read | Outcome:
    try:
        seen, decoded, size = read_whole(path, config)
        if pixels and decoded.shape[:2] != size:
            decoded = read_image(path, config.max_pixels)
    except ImageError as error:
        return Outcome(path, error=error)
    return Read(path, seen, size, decoded if pixels else None)


def _read_ahead(read, paths: Iterable[Path], ahead: int) -> Iterator[Read | Outcome]:
    waiting: deque[Future[Read | Outcome]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _groups(files: Iterable[Read | Outcome], batch: int) -> Iterator[list[Read | Outcome]]:
    """Files that follow each other, at most ``batch`` that were read and are padded alike; bad ones are among them."""
    group: list[Read | Outcome] = []
    padded: list[tuple[int, ...]] = []
    for file in files:
        if isinstance(file, Read):
            if len(padded) == batch or (padded and padded[0] != file.padded):
                yield group
                group, padded = [], []
            padded.append(file.padded)
        group.append(file)
    if group:
        yield group


def _predicted(model: Model, group: list[Read | Outcome], edges: bool) -> list[Outcome]:
    good = [file for file in group if isinstance(file, Read)]
    if not good:
        return [file for file in group if isinstance(file, Outcome)]
    batch = collate_images([file.seen for file in good])
    found = iter(model.predict_batch(batch, [file.size for file in good], edges=edges))
    return [
        file if isinstance(file, Outcome) else Outcome(file.path, file.pixels, replace(next(found), path=file.path))
        for file in group
    ]


def find_images(inputs: Iterable[str | Path]) -> list[Path]:
    """Files, the images of folders, and what globs match, in order and once each; nothing found is an error."""
    found: dict[Path, None] = {}
    for item in map(Path, inputs):
        if item.is_dir():
            matches = sorted(p for p in item.iterdir() if p.suffix.lower() in PICTURES)
        elif any(sign in str(item) for sign in "*?[") and not item.exists():
            base = Path(item.anchor) if item.is_absolute() else Path()
            matches = sorted(base.glob(str(item.relative_to(base))))
        else:
            matches = [item]
        if not matches:
            raise UserError(f"{item}: no images there (looked for {', '.join(sorted(PICTURES))})", file=item)
        found |= dict.fromkeys(matches)
    return list(found)
