"""Many image files through a model: found, decoded ahead, predicted in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seanet.config import Config
from seanet.data.images import read_image
from seanet.errors import ImageError, UserError
from seanet.instances import Instances
from seanet.predict import Model

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
AHEAD = 3  # images decoded while the network works


@dataclass(frozen=True)
class Outcome:
    """One file of many: its pixels and instances, or why it could not be read."""

    path: Path
    pixels: np.ndarray | None = None
    instances: Instances | None = None
    error: ImageError | None = None


def stream(model: Model, paths: Iterable[Path], *, edges: bool = False) -> Iterator[Outcome]:
    """File by file, decoding a few ahead: memory does not grow with their number.  A bad file does not stop the rest."""
    for path, pixels in _decoded(paths, model.config):
        if isinstance(pixels, ImageError):
            yield Outcome(path, error=pixels)
        else:
            yield Outcome(path, pixels, model.predict_pixels(pixels, edges=edges, path=path))


def find_images(inputs: Iterable[str | Path]) -> list[Path]:
    """Files, the images of folders, and what globs match, in order and once each; nothing found is an error."""
    found: dict[Path, None] = {}
    for item in map(Path, inputs):
        if item.is_dir():
            matches = sorted(p for p in item.iterdir() if p.suffix.lower() in SUFFIXES)
        elif any(sign in str(item) for sign in "*?[") and not item.exists():
            base = Path(item.anchor) if item.is_absolute() else Path()
            matches = sorted(base.glob(str(item.relative_to(base))))
        else:
            matches = [item]
        if not matches:
            raise UserError(f"{item}: no images there (looked for {', '.join(sorted(SUFFIXES))})", file=item)
        found |= dict.fromkeys(matches)
    return list(found)


def _decoded(paths: Iterable[Path], config: Config) -> Iterator[tuple[Path, np.ndarray | ImageError]]:
    def read(path: Path) -> np.ndarray | ImageError:
        try:
            return read_image(path, config.data.max_pixels)
        except ImageError as error:
            return error

    waiting = deque()
    with ThreadPoolExecutor(1) as pool:
        for path in paths:
            waiting.append((path, pool.submit(read, path)))
            if len(waiting) > AHEAD:
                path, future = waiting.popleft()
                yield path, future.result()
        while waiting:
            path, future = waiting.popleft()
            yield path, future.result()
