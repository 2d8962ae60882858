"""Images that show the same: twice in a split, or in two splits, where what a model learnt is then taken for what it can."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from seanet.data.checking import kinds
from seanet.data.checking.files import Seen, real
from seanet.data.checking.fingerprints import alike, groups
from seanet.data.checking.kinds import Collector
from seanet.data.records import ImageRecord


@dataclass(frozen=True)
class Shown:
    """An image of a split."""

    split: str
    record: ImageRecord
    file: str
    seen: Seen

    @property
    def name(self) -> str:
        return f"image {self.record.id} of {self.split} ({self.record.path.name})"


def shown(split: str, records: Iterable[ImageRecord], seen: Mapping[str, Seen]) -> list[Shown]:
    files = [(record, real(record.path)) for record in records]
    return [Shown(split, record, file, seen[file]) for record, file in files if seen[file].header]


Twins = dict[tuple[str, int, str], tuple[str, int]]
"""(split, image id, what was found) -> (split, image id) of the other."""


class Copies:
    """Notes copies and leaks of ``images``; of two splits the later in ``order`` keeps its image, as it measures."""

    def __init__(self, images: Sequence[Shown], order: Sequence[str], collector: Collector):
        self.images, self.order, self.collector = images, order, collector
        self.leaks: dict[str, dict[int, str]] = defaultdict(dict)
        """Images that are to give way, by split and id, with why."""
        self.twins: Twins = {}
        self.told: set[int] = set()
        for how, same in _ways(images):
            for members in same:
                self._add(members, how)

    def _add(self, members: list[int], how: str) -> None:
        by_split: dict[str, list[int]] = defaultdict(list)
        for index in members:
            by_split[self.images[index].split].append(index)
        for first, *others in by_split.values():
            self._within(first, others, how)
        for split, later in pairwise(sorted(by_split, key=self.order.index)):
            self._across(by_split[split], by_split[later][0], how)

    def _within(self, first: int, others: list[int], how: str) -> None:
        for index in others:
            if index not in self.told and how != "file":  # reading the annotations has noticed that
                self._note(index, first, "noticed", kinds.COPIES[how], how)
            self.told.add(index)

    def _across(self, members: list[int], kept: int, how: str) -> None:
        what = kinds.LEAKS[how].format(self.images[kept].split)
        for index in members:
            image = self.images[index]
            if image.record.id not in self.leaks[image.split]:
                self.leaks[image.split][image.record.id] = what
                self._note(index, kept, "harmful", what, how)

    def _note(self, index: int, other: int, severity: str, what: str, how: str) -> None:
        image, twin = self.images[index], self.images[other]
        id = image.record.id
        said = f"{image.name}: {kinds.COPIES[how].replace('another', twin.name)}"
        self.collector.note(image.split, "image", severity, what, id, id, said)
        self.twins[image.split, id, what] = twin.split, twin.record.id


def _ways(images: Sequence[Shown]) -> list[tuple[str, list[list[int]]]]:
    """Groups of images that are the same in each way, the surest way first."""
    prints = [image.seen.print for image in images]
    ways: dict[str, Callable[[], list[list[int]]]] = {
        "file": lambda: groups([image.file for image in images]),
        "bytes": lambda: groups([found and found.bytes for found in prints]),
        "pixels": lambda: groups([found and found.pixels for found in prints]),
        "look": lambda: alike([None if found is None else found.look for found in prints]),
    }
    return [(how, find()) for how, find in ways.items()]
