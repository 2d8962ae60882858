"""A data set divided into splits: classes in equal shares, groups never apart, the same for the same seed.  Free of torch.

The rarest class is dealt out first, for it leaves the least choice (iterative stratification: Sechidis, Tsoumakas and
Vlahavas, 2011); what is dealt are groups of images, and what is counted are images that show a class.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seanet.data.coco import CocoData, read_coco
from seanet.data.folders import SPLITS, find_splits, has_annotations, images_beside
from seanet.data.formats.converting import common_folder, read_object
from seanet.errors import AnnotationError, UserError

Shares = dict[str, float]
"""Split -> its share of the images; they sum to 1."""


MOST_TRIES, MOST_DEALT = 30, 60_000  # orders, and groups in all of them: a second or two


@dataclass(frozen=True)
class Pool:
    """Images and annotations as their files have them, with what the checks found out about the classes."""

    folder: Path  # that file names are below
    content: dict[str, Any]  # of a COCO file
    classes: dict[int, Counter[str]]  # image id -> objects of each class
    notes: list[str]

    @property
    def images(self) -> list[dict[str, Any]]:
        return self.content["images"]


@dataclass(frozen=True)
class Group:
    """Images that stay together."""

    ids: tuple[int, ...]
    shows: Counter[str]  # images that show a class


def find_single(source: Path, images: Path | None) -> tuple[Path, Path]:
    """Annotation file and image folder of a data set that is not divided."""
    file = source if source.is_file() else _only_file(source)
    images = images or images_beside(file)
    if images is None:
        message = "found no folder of its images in its place or beside it: name their folder with --images"
        raise UserError(f"{file}: {message}", file=file)
    return file, images


def _only_file(source: Path) -> Path:
    files = [file for place in (source, source / "annotations") for file in sorted(place.glob("*.json"))]
    files = [file for file in files if file.stem.startswith("instances")] or files
    if len(files) == 1:
        return files[0]
    there = [file.name for file in files] or [split for split in SPLITS if has_annotations(source, split)]
    if not there:
        raise UserError(f"{source} holds no JSON file: expected COCO's annotations", file=source)
    message = f"{source} holds {', '.join(there[:5])}: name one file, or put the splits together with --pool"
    raise UserError(message, file=source)


def read_pool(source: Path, images: Path | None, pool: bool) -> Pool:
    """An undivided data set, or with ``pool`` all splits of a divided one."""
    if not pool:
        return joined([find_single(source, images)])
    if images is not None or not source.is_dir():
        raise UserError("--pool takes a folder with splits, and finds their images itself: leave --images out")
    return joined(list(find_splits(source).values()))


def joined(files: Sequence[tuple[Path, Path]]) -> Pool:
    """The data of several files, which must have the same categories; ids are given anew where there is more than one."""
    folder = common_folder([images / "any" for _, images in files])
    merged: dict[str, Any] = {"images": [], "annotations": []}
    classes: dict[int, Counter[str]] = {}
    notes: list[str] = []
    for file, images in files:
        data, content = read_coco(file, images), read_object(file, "COCO's annotations")
        if merged.setdefault("categories", content["categories"]) != content["categories"]:
            raise AnnotationError(
                f"{file}: its categories are not those of {files[0][0]}: give them the same", file=file
            )
        merged = {**content, **merged}
        anew = _new_ids(data, len(merged["images"]) if len(files) > 1 else None)
        merged["images"] += _images(content["images"], anew, images.relative_to(folder))
        merged["annotations"] += _annotations(content["annotations"], anew, len(merged["annotations"]), len(files) > 1)
        names = data.categories.names
        classes |= {anew[r.id]: Counter(names[a.label - 1] for a in r.annotations if not a.crowd) for r in data.images}
        notes += data.repairs.summary()
    return Pool(folder, merged, classes, notes)


def _new_ids(data: CocoData, before: int | None) -> dict[int, int]:
    """Image id of a file -> id in the pool; None keeps them."""
    return {record.id: record.id if before is None else before + n for n, record in enumerate(data.images, 1)}


def _images(raw: list[dict[str, Any]], anew: dict[int, int], below: Path) -> list[dict[str, Any]]:
    once = {entry["id"]: entry for entry in raw}  # an entry may be there twice, if it is the same
    return [{**e, "id": anew[id], "file_name": (below / e["file_name"]).as_posix()} for id, e in once.items()]


def _annotations(raw: list[dict[str, Any]], anew: dict[int, int], before: int, number: bool) -> list[dict[str, Any]]:
    """Those of no image, which the checks noted as skipped, can go to no split."""
    known = [entry for entry in raw if isinstance(entry.get("image_id"), int) and entry["image_id"] in anew]
    ids = [{"id": before + n} if number else {} for n in range(1, len(known) + 1)]
    return [{**entry, "image_id": anew[entry["image_id"]], **id} for entry, id in zip(known, ids, strict=True)]


def groups_of(pool: Pool, by: str | None) -> list[Group]:
    """``by`` is a key of the image entries, or a regular expression of file names whose first group, or whole match, counts."""
    members: dict[object, list[int]] = defaultdict(list)
    for entry, key in zip(pool.images, _keys(pool, by), strict=True):
        members[key].append(entry["id"])
    return [Group(tuple(ids), Counter(name for id in ids for name in pool.classes[id])) for ids in members.values()]


def _keys(pool: Pool, by: str | None) -> list[object]:
    if by is None:
        return [entry["id"] for entry in pool.images]
    if any(by in entry for entry in pool.images):
        keys: list[object] = [entry.get(by) for entry in pool.images]
        what = f"no {by!r}"
    else:
        try:
            pattern = re.compile(by)
        except re.error as error:
            raise UserError(f"--group {by!r} is no key of the images and no regular expression ({error})") from error
        found = (pattern.search(entry["file_name"]) for entry in pool.images)
        keys = [match and (match[1] if pattern.groups else match[0]) for match in found]
        what = f"a file name without {by!r}"
    if lonely := [e["id"] for e, key in zip(pool.images, keys, strict=True) if not isinstance(key, str | int)]:
        message = (
            f"{len(lonely)} of {len(keys)} images have {what} (image {lonely[0]} first): --group must find one in each"
        )
        raise UserError(message, image_id=lonely[0], field=by)
    return keys


def assign(groups: Sequence[Group], shares: Shares, seed: int = 0) -> list[str]:
    """The split of each group: the best of several orders, as chance matters in small data sets."""
    rng = np.random.default_rng(seed)
    tries = max(1, min(MOST_TRIES, MOST_DEALT // max(len(groups), 1)))
    orders = [rng.permutation(len(groups)).tolist() for _ in range(tries)]
    return min((_deal(groups, shares, order) for order in orders), key=lambda splits: misfit(groups, splits, shares))


def misfit(groups: Sequence[Group], splits: Sequence[str], shares: Shares) -> tuple[int, float]:
    """Classes that a split has no image of; how far images and classes are from their shares, summed."""
    found: dict[str, Counter[str]] = {split: Counter() for split in shares}
    images: Counter[str] = Counter()
    for group, split in zip(groups, splits, strict=True):
        found[split].update(group.shows)
        images[split] += len(group.ids)
    total = _total(groups)
    apart = [abs(found[s][name] / count - share) for s, share in shares.items() for name, count in total.items()]
    apart += [abs(images[s] / max(images.total(), 1) - share) for s, share in shares.items()]
    return sum(not found[split][name] for split in shares for name in total), sum(apart)


def _deal(groups: Sequence[Group], shares: Shares, order: list[int]) -> list[str]:
    """A group goes to the split that still wants most of its rarest class, in a tie to the one that wants most images."""
    left = _total(groups)
    showing: dict[str, list[int]] = defaultdict(list)
    for index in order:
        for name in groups[index].shows:
            showing[name].append(index)
    total = sum(len(group.ids) for group in groups)
    wanted = {split: {name: share * count for name, count in left.items()} for split, share in shares.items()}
    room = {split: share * total for split, share in shares.items()}
    found: dict[int, str] = {}

    def give(index: int, name: str | None) -> None:
        group = groups[index]
        split = max(shares, key=lambda s: (round(wanted[s][name], 9) if name else 0, round(room[s], 9)))
        found[index] = split
        room[split] -= len(group.ids)
        for shown, count in group.shows.items():
            wanted[split][shown] -= count
            left[shown] -= count

    while any(left.values()):
        rarest = min((name for name in left if left[name]), key=lambda name: (left[name], name))
        waiting = [index for index in showing[rarest] if index not in found]
        for index in sorted(waiting, key=lambda index: -groups[index].shows[rarest]):
            give(index, rarest)
    for index in sorted((index for index in order if index not in found), key=lambda index: -len(groups[index].ids)):
        give(index, None)
    return [found[index] for index in range(len(groups))]


def _total(groups: Sequence[Group]) -> Counter[str]:
    """Images that show a class."""
    total: Counter[str] = Counter()
    for group in groups:
        total.update(group.shows)
    return total


def divide(pool: Pool, shares: Shares, by: str | None = None, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The content of a COCO file for each split, in the order of the images; no split may stay empty."""
    groups = groups_of(pool, by)
    splits = {id: split for group, split in zip(groups, assign(groups, shares, seed), strict=True) for id in group.ids}
    if empty := [split for split in shares if split not in splits.values()]:
        there = f"too few images ({len(pool.images)}) or groups of them ({len(groups)})"
        message = f"{', '.join(empty)} would get no image, there are {there}: take larger shares or smaller groups"
        raise UserError(message, field=empty[0])
    found: dict[str, dict[str, Any]] = {split: {**pool.content, "images": [], "annotations": []} for split in shares}
    for entry in pool.images:
        found[splits[entry["id"]]]["images"].append(entry)
    for entry in pool.content["annotations"]:
        found[splits[entry["image_id"]]]["annotations"].append(entry)
    return found


def shares_of(val: float, test: float) -> Shares:
    """Shares of train, val and test, those that are more than 0."""
    if not (0 <= val < 1 and 0 <= test < 1 and 0 < val + test < 1):
        raise UserError(f"--val {val:g} and --test {test:g} must be shares from 0 to 1 that leave some to train on")
    return {name: share for name, share in (("train", 1 - val - test), ("val", val), ("test", test)) if share}


def classes_of(pool: Pool, content: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Objects and images of each class of the pool in a split; crowd regions and skipped annotations do not count."""
    found = {entry["name"]: {"objects": 0, "images": 0} for entry in pool.content["categories"]}
    for entry in content["images"]:
        for name, count in pool.classes[entry["id"]].items():
            row = found.setdefault(name, {"objects": 0, "images": 0})  # read_coco renames what is there twice
            row["objects"] += count
            row["images"] += 1
    return found
