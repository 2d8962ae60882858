"""Before training: all image files that it would stop at, at once and from their headers alone."""

import os
from collections.abc import Sequence
from pathlib import Path

from seanet.data.checking.files import real, see_all
from seanet.data.checking.workers import Progress
from seanet.data.images import MAX_PIXELS, fits
from seanet.data.records import CocoData
from seanet.errors import ImageError

MANY = 2000  # files, from which on processes are worth their start
SHOWN = 10  # files that are named


def require_files(
    sets: Sequence[CocoData], max_pixels: int = MAX_PIXELS, progress: Progress | None = None
) -> list[str]:
    """Error that names the image files that cannot be opened or are of another size than their annotations say.

    Lines to warn with come back: files that are trained on and measured by, the first and the second of ``sets``, and
    images that are read unturned because only then they have the size that their annotations say.
    """
    paths = [image.path for part in sets for image in part.images]
    many = len(paths) >= MANY
    workers = min(os.cpu_count() or 1, 4) if many else 0
    seen = see_all(paths, max_pixels, quick=True, workers=workers, progress=progress if many else None)
    bad: dict[Path, str] = {}
    unturned: list[Path] = []
    for image in (image for part in sets for image in part.images):
        found = seen[real(image.path)]
        try:
            if found.header is None:
                bad[image.path] = found.said
            elif not fits(found.header, (image.height, image.width), image.path):
                unturned.append(image.path)
        except ImageError as error:
            bad[image.path] = str(error)
    if bad:
        raise _unusable(bad, len(paths))
    return _shared(sets) + _unturned(unturned)


def _unusable(bad: dict[Path, str], total: int) -> ImageError:
    """A line for each of the first files."""
    first = next(iter(bad))
    if len(bad) == 1:
        return ImageError(f"{bad[first]}; `seanet data check` lists all that is wrong", file=first)
    lines = "\n".join([*list(bad.values())[:SHOWN], *["..."][: len(bad) > SHOWN]])
    message = f"{len(bad)} of {total} image files cannot be used; `seanet data check` lists all that is wrong:\n{lines}"
    return ImageError(message, file=first, value=list(bad))


def _shared(sets: Sequence[CocoData]) -> list[str]:
    files = [{real(image.path) for image in part.images} for part in sets[:2]]
    shared = set.intersection(*files) if len(files) == 2 else set()
    if not shared:
        return []
    what = "images are both trained on and measured by, so results will be too good"
    return [f"{len(shared)} {what}, such as {min(shared)}: `seanet data check --fix OUT` leaves them out of training"]


def _unturned(paths: Sequence[Path]) -> list[str]:
    if not paths:
        return []
    what = (
        f"read unturned, against their EXIF entries, as their annotations say: {len(paths)} images, such as {paths[0]}"
    )
    return [f"{what}; `seanet data check` tells whether boxes and masks agree"]
