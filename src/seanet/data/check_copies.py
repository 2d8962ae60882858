"""Images that show the same: twice in a split, or in two splits, where what a model learnt is then taken for what it can."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from seanet.data import check_kinds as kinds
from seanet.data.check_files import Seen, real
from seanet.data.check_kinds import Collector
from seanet.data.fingerprints import alike, groups
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


def note_copies(images: Sequence[Shown], order: Sequence[str], collector: Collector) -> dict[str, dict[int, str]]:
    """Note copies and leaks; the leaks come back, by split and image id, with why, less those to keep.

    Of two splits the later in ``order`` keeps its image: what is measured on stays as it was.
    """
    leaks: dict[str, dict[int, str]] = defaultdict(dict)
    copies: set[int] = set()
    for how, same in _ways(images):
        for members in same:
            by_split: dict[str, list[int]] = defaultdict(list)
            for index in members:
                by_split[images[index].split].append(index)
            for place in by_split.values():
                _note_within(images, place, how, copies, collector)
            _note_across(images, by_split, order, how, leaks, collector)
    return dict(leaks)


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


def _note_within(images: Sequence[Shown], place: list[int], how: str, copies: set[int], collector: Collector) -> None:
    first = images[place[0]]
    for index in place[1:]:
        if index in copies:
            continue
        copies.add(index)
        image = images[index]
        if how != "file":  # reading the annotations has noticed that
            said = f"{image.name}: {kinds.COPIES[how].replace('another', first.name)}"
            collector.note(image.split, "image", "noticed", kinds.COPIES[how], image.record.id, image.record.id, said)


def _note_across(
    images: Sequence[Shown],
    by_split: Mapping[str, list[int]],
    order: Sequence[str],
    how: str,
    leaks: dict[str, dict[int, str]],
    collector: Collector,
) -> None:
    splits = sorted(by_split, key=order.index)
    for split, later in pairwise(splits):
        other = images[by_split[later][0]]
        for index in by_split[split]:
            image = images[index]
            if image.record.id in leaks[split]:
                continue
            what = kinds.LEAKS[how].format(later)
            leaks[split][image.record.id] = what
            said = f"{image.name}: {kinds.COPIES[how].replace('another', other.name)}"
            collector.note(split, "image", "harmful", what, image.record.id, image.record.id, said)
