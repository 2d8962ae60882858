"""What a check of a data set can find, how bad each of it is, and how findings are put together."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from seanet.data.folders import find_splits
from seanet.data.repairs import Place, Repairs

SEVERITIES = {
    "refused": "training stops",
    "harmful": "training does not notice, to its harm",
    "skipped": "training leaves it out",
    "dropped": "training leaves it out",
    "repaired": "training mends it",
    "clipped": "training cuts it",
    "renumbered": "training numbers it anew",
    "renamed": "training names it anew",
    "noticed": "no defect, worth a look",
}
"""Worst first; all but the last are defects."""

FILES = {
    "missing": "its file is missing or none",
    "permissions": "its file may not be read",
    "empty": "its file has 0 bytes",
    "format": "its file is no image of a format that is read",
    "damaged": "its file is truncated or damaged",
    "pixels": "its file has too many pixels",
    "values": "its file holds values that are not finite",
    "size": "its file has another size than the annotations say",
    "lost": "its file takes too long to decode, or ends the process that does",
}
"""Why a file cannot be used, by the ``field`` of its ImageError: all are refused."""

UNTURNED = "annotations of pixels that its EXIF entry turns; they are read unturned"
SWAPPED = "width and height are those before its EXIF entry turns it, its annotations those after"
SUFFIX = "the end of its file's name is that of another format"
PLAIN = "of one colour"
NO_OBJECTS = "no objects"
TOO_MANY = "more of its annotations have to be skipped than data.max_bad allows"
UNUSED = "not named by an image of {}"
COPIES = {
    "file": "the same file as another",
    "bytes": "the same bytes as another",
    "pixels": "the same pixels as another",
    "look": "looks like another",
}
"""Of two images of a split; the first that holds is told."""
LEAKS = {how: words.replace("another", "one of {}") for how, words in COPIES.items()}
"""Of two images of different splits."""
ONLY_HERE = "objects here, none in {}"
UNKNOWN_THERE = "not among the categories of {}, so its objects would be refused"


@dataclass(frozen=True)
class Kind:
    split: str
    subject: str  # annotation, image, category, file
    severity: str
    what: str


@dataclass(frozen=True)
class Found:
    """All places of a kind."""

    kind: Kind
    places: tuple[Place, ...]

    @property
    def defect(self) -> bool:
        return self.kind.severity != "noticed"


class Collector:
    """Findings of all splits, as they come."""

    def __init__(self) -> None:
        self.places: dict[Kind, list[Place]] = defaultdict(list)

    def note(
        self, split: str, subject: str, severity: str, what: str, id: object, image_id: object = None, said: str = ""
    ) -> None:
        self.places[Kind(split, subject, severity, what)].append(Place(_plain(id), _plain(image_id), said))

    def add(self, split: str, repairs: Repairs) -> None:
        for (subject, verb, what), places in repairs.found.items():
            for place in places:
                self.note(split, subject, verb, what, *place)

    def found(self, splits: Iterable[str]) -> tuple[Found, ...]:
        """Worst first, then by split as given and by number."""
        order, rank = list(splits), list(SEVERITIES)
        kinds = sorted(
            self.places,
            key=lambda kind: (rank.index(kind.severity), order.index(kind.split), -len(self.places[kind])),
        )
        return tuple(Found(kind, tuple(self.places[kind])) for kind in kinds)


def _plain(id: object) -> object:
    """An id as it is, or, where a file has a list or an object in its place, the text of that."""
    return id if id is None or isinstance(id, int | float | str) else json.dumps(id)


def training(splits: Iterable[str]) -> str | None:
    """The first that is trained on, by its name, such as train2017."""
    return next((split for split in splits if split.startswith("train")), None)


@dataclass(frozen=True)
class SplitFiles:
    """Where a split lies."""

    name: str
    annotations: Path
    images: Path


def splits_in(folder: Path | str, wanted: Iterable[str] = ()) -> tuple[SplitFiles, ...]:
    """The wanted splits of a data set, or all that it has."""
    return tuple(SplitFiles(name, *files) for name, files in find_splits(folder, wanted).items())
