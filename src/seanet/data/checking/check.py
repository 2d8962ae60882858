"""All that is wrong or odd about a data set, at once: its annotations, its image files, and how its splits go together.

Free of torch.  ``fix`` makes annotations without the defects, ``headers`` is what training does before it starts.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seanet.config import Data
from seanet.data.checking import kinds
from seanet.data.checking.copies import Copies, Twins, shown
from seanet.data.checking.files import Seen, judge, real, see_all, unnamed
from seanet.data.checking.kinds import Collector, Found, SplitFiles
from seanet.data.checking.workers import Progress
from seanet.data.coco import read_coco
from seanet.data.entries import read_annotations
from seanet.data.images import MAX_PIXELS
from seanet.data.records import CocoData
from seanet.data.segmentations import FARTHEST
from seanet.data.values import is_number
from seanet.errors import AnnotationError


@dataclass(frozen=True)
class Check:
    """A data set that was looked at."""

    splits: tuple[SplitFiles, ...]
    data: Mapping[str, CocoData]
    """By split; none of a split whose annotations could not be read at all."""
    found: tuple[Found, ...]
    seen: Mapping[str, Seen]
    """By ``real`` path of the image files."""
    unusable: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """By split and image id, why: images that training would stop at, or that leak into another split."""
    swapped: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Images whose width and height are exchanged, as their EXIF entries explain."""
    twins: Twins = field(default_factory=dict)
    """What images are copies of."""
    quick: bool = False
    """Pixels were not decoded, so that damage among them and what looks alike could not be found."""

    @property
    def clean(self) -> bool:
        return not any(found.defect for found in self.found)


def check(
    splits: Sequence[SplitFiles],
    max_pixels: int = MAX_PIXELS,
    *,
    quick: bool = False,
    workers: int | None = None,
    seconds: float = 60,
    known: Mapping[str, Seen] | None = None,
    progress: Progress | None = None,
) -> Check:
    """Read everything once.

    ``quick`` leaves it at the headers of image files.  ``workers`` are processes that decode (None: one for each core),
    for at most ``seconds`` a file.  ``known`` files are not read again.
    """
    collector = Collector()
    data = _read(splits, collector)
    paths = [image.path for part in data.values() for image in part.images if real(image.path) not in (known or {})]
    workers = min(os.cpu_count() or 1, 8) if workers is None else workers
    seen = see_all(paths, max_pixels, quick=quick, workers=workers, seconds=seconds, progress=progress)
    seen |= known or {}
    unusable, swapped = {}, {}
    for split, part in data.items():
        unusable[split], swapped[split] = _note_images(split, part, seen, collector)
        _note_totals(split, part, collector)
    order = [split.name for split in splits]
    images = [image for split, part in data.items() for image in shown(split, part.images, seen)]
    giving_way = sorted(order, key=lambda name: name != kinds.training(order))  # what is trained on first
    copies = Copies(images, giving_way, collector)
    for split, leaks in copies.leaks.items():
        unusable[split] = leaks | unusable[split]
    _note_categories(data, collector)
    _note_unnamed(splits, data, collector)
    return Check(tuple(splits), data, collector.found(order), seen, unusable, swapped, copies.twins, quick)


def _read(splits: Sequence[SplitFiles], collector: Collector) -> dict[str, CocoData]:
    data = {}
    for split in splits:
        try:
            data[split.name] = read_coco(split.annotations, split.images, tolerant=True)
        except AnnotationError as error:
            what = "cannot be used at all"
            collector.note(split.name, "file", "refused", what, split.annotations.name, said=str(error))
            continue
        collector.add(split.name, data[split.name].repairs)
    return data


def _note_images(
    split: str, data: CocoData, seen: Mapping[str, Seen], collector: Collector
) -> tuple[dict[int, str], frozenset[int]]:
    """Images that cannot be used, with why, and those whose sizes are exchanged."""
    unusable, swapped = {}, set()
    reach = _reach(data, seen)
    for record in data.images:
        for severity, what, said in judge(record, seen[real(record.path)], reach.get(record.id, (0, 0))):
            collector.note(split, "image", severity, what, record.id, record.id, said)
            if severity == "refused":
                unusable[record.id] = what
            if what == kinds.SWAPPED:
                swapped.add(record.id)
    return unusable, frozenset(swapped)


def _reach(data: CocoData, seen: Mapping[str, Seen]) -> dict[int, tuple[float, float]]:
    """How far down and right the annotations of unturned images reach, as the file says, before they were clipped."""
    turned = set()
    for record in data.images:
        header = seen[real(record.path)].header
        if header and header.stored == (record.height, record.width) != header.upright:
            turned.add(record.id)
    reach: dict[int, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for _, entry in read_annotations(data.file) if turned else ():
        if isinstance(entry.get("image_id"), int) and entry["image_id"] in turned:
            down, right = reach[entry["image_id"]]
            for x, y in corners(entry):
                down, right = max(down, y), max(right, x)
            reach[entry["image_id"]] = down, right
    return reach


def corners(entry: Mapping[str, object]) -> list[tuple[float, float]]:
    """Points (x, y) of an annotation that nobody has checked: its box's upper left and lower right, and its polygons'."""
    points = []
    box = numbers(entry.get("bbox"))
    if len(box) == 4:
        points += [(box[0], box[1]), (box[0] + box[2], box[1] + box[3])]
    rings = entry.get("segmentation")
    for ring in rings if isinstance(rings, list) else ():
        flat = numbers(ring)
        points += zip(flat[0::2], flat[1::2], strict=False)
    return points


def numbers(values: object) -> list[float]:
    """A list of coordinates that make sense; empty if it is none."""
    if not isinstance(values, list) or not all(is_number(value) and abs(value) <= FARTHEST for value in values):
        return []
    return [float(value) for value in values]


def _note_totals(split: str, data: CocoData, collector: Collector) -> None:
    if not data.images:
        collector.note(split, "file", "refused", "lists no images that can be used", data.file.name)
    elif not any(counts(data).values()):
        collector.note(split, "file", "harmful", "holds no objects that can be used", data.file.name)
    share = _skipped(data) / max(data.repairs.annotations, 1)
    if share > Data.max_bad:
        said = f"{share:.1%} of its annotations have to be skipped, more than data.max_bad = {Data.max_bad:.1%}"
        collector.note(split, "file", "refused", kinds.TOO_MANY, data.file.name, said=said)


def _skipped(data: CocoData) -> int:
    """Annotations that are skipped for their own sake."""
    found = data.repairs.found.items()
    return sum(len(at) for (_, verb, what), at in found if verb == "skipped" and what != "its image is refused")


def counts(data: CocoData) -> Counter[str]:
    """Objects of each category that has any, crowd regions aside."""
    names = data.categories.names
    return Counter(names[a.label - 1] for image in data.images for a in image.annotations if not a.crowd)


def _note_categories(data: Mapping[str, CocoData], collector: Collector) -> None:
    """Between what is trained on and the other splits."""
    train = kinds.training(data)
    if train is None:
        return
    known, learnt = data[train].categories.names, counts(data[train])
    for split, part in data.items():
        if split == train:
            continue
        there = counts(part)
        for name in there:
            if name not in known:
                collector.note(split, "category", "refused", kinds.UNKNOWN_THERE.format(train), name)
            elif name not in learnt:
                collector.note(split, "category", "noticed", kinds.ONLY_HERE.format(train), name)
        for name in learnt:
            if name not in there:
                collector.note(train, "category", "noticed", kinds.ONLY_HERE.format(split), name)


def _note_unnamed(splits: Sequence[SplitFiles], data: Mapping[str, CocoData], collector: Collector) -> None:
    """Once for each folder, which splits may share."""
    named = {real(image.path): None for part in data.values() for image in part.images}
    folders: dict[str, list[SplitFiles]] = defaultdict(list)
    for split in splits:
        if split.name in data:
            folders[real(split.images)].append(split)
    for sharing in folders.values():
        what = kinds.UNUSED.format(" or ".join(split.name for split in sharing))
        for name in unnamed(sharing[0].images, named):
            collector.note(sharing[0].name, "file", "noticed", what, name)
