"""Data sets in COCO's format, written as others: images stay where they are, each with a link.  Free of torch.

What a format cannot hold is noted, object by object; the rest is exact.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seanet.data.coco import read_coco
from seanet.data.folders import find_splits
from seanet.data.formats import labelme, labels, voc, yolo
from seanet.data.formats.converting import Progress, by_stem, link_file
from seanet.data.images import PICTURES, image_size
from seanet.data.records import CocoData, ImageRecord
from seanet.data.repairs import Repairs
from seanet.errors import AnnotationError

Write = Callable[[Path, bytes], object]
"""Writes a file whole."""


@dataclass(frozen=True)
class Part:
    """A split, and what became of it."""

    data: CocoData
    folder: Path
    repairs: Repairs = field(default_factory=Repairs)

    def name(self, record: ImageRecord) -> Path:
        """Of an image, below the folder of images."""
        return record.path.relative_to(self.folder)

    def stem(self, record: ImageRecord) -> str:
        return self.name(record).with_suffix("").as_posix()


def read_parts(source: Path, splits: list[str] | None) -> dict[str, Part]:
    """The splits of a data set, which must agree on their classes."""
    parts = {name: Part(read_coco(*files), files[1]) for name, files in find_splits(source, splits or ()).items()}
    first = next(iter(parts.values())).data
    for part in parts.values():
        if part.data.categories.names != first.categories.names:
            message = f"{part.data.file}: its classes are not those of {first.file}: give them the same, in one order"
            raise AnnotationError(message, file=part.data.file, field="categories")
        by_stem((record.path for record in part.data.images), part.folder)  # or their files would have one name
        for record in part.data.images:
            _require_found(record, part.data.file)
            _require_upright(record, part.data.file)
    return parts


def _require_found(record: ImageRecord, file: Path) -> None:
    """Elsewhere images are found by their endings."""
    if record.path.suffix.lower() not in PICTURES:
        message = f"{file}: image {record.id} is {record.path.name}, by whose ending no image is found: rename it"
        raise AnnotationError(message, file=file, image_id=record.id, field="file_name", value=record.path.name)


def _require_upright(record: ImageRecord, file: Path) -> None:
    """Elsewhere nobody says whether annotations are of pixels before or after they are turned, so all must be after."""
    size = record.height, record.width
    if (found := image_size(record.path)) != size:
        message = (
            f"{file}: image {record.id} is said to be {size[1]} x {size[0]} pixels, but {record.path} is "
            f"{found[1]} x {found[0]} as others show it, turned as its EXIF entry says: save it without that entry"
        )
        raise AnnotationError(message, file=file, image_id=record.id, field="width", value=size)


def to_yolo(parts: dict[str, Part], out: Path, write: Write, progress: Progress | None = None) -> None:
    """``data.yaml``, and for each split ``images/SPLIT`` and ``labels/SPLIT``."""
    for split, part in parts.items():
        for done, (record, text) in enumerate(yolo.labels(part.data, part.repairs), 1):
            picture = Path("images", split, part.name(record))
            link_file(out, picture.as_posix(), record.path)
            write(out / yolo.label_name(picture), text.encode())
            _say(progress, done, part)
    write(
        out / "data.yaml", yolo.description(_names(parts), [split for split, part in parts.items() if part.data.images])
    )


def to_labelme(parts: dict[str, Part], out: Path, write: Write, progress: Progress | None = None) -> None:
    """For each split a folder of images with their JSON files beside them."""
    for split, part in parts.items():
        for done, (record, content) in enumerate(labelme.write(part.data, lambda record: record.path.name), 1):
            link_file(out, f"{split}/{part.name(record).as_posix()}", record.path)
            write(out / split / f"{part.stem(record)}.json", content)
            _say(progress, done, part)


def to_voc(parts: dict[str, Part], out: Path, write: Write, progress: Progress | None = None) -> None:
    """VOC's folders with the lists of the splits; names that two splits share begin with their split."""
    times = Counter(part.stem(record) for part in parts.values() for record in part.data.images)
    shared = any(count > 1 for count in times.values())
    for part in parts.values():
        voc.require_room(part.data)
    write(out / voc.LABELMAP, voc.labelmap(_names(parts)))
    for split, part in parts.items():
        prefix = f"{split}/" if shared else ""
        stems = {record.id: prefix + part.stem(record) for record in part.data.images}
        for done, (name, content) in enumerate(voc.write(part.data, stems, part.repairs), 1):
            write(out / name, content)
            _say(progress, done // 2, part)
        for record in part.data.images:
            link_file(out, f"{voc.SHOWN}/{prefix}{part.name(record).as_posix()}", record.path)
        write(out / voc.LISTS / f"{split}.txt", "".join(f"{stem}\n" for stem in stems.values()).encode())


def to_labels(parts: dict[str, Part], out: Path, write: Write, progress: Progress | None = None) -> None:
    """For each split ``images/SPLIT`` and ``labels/SPLIT``; ``objects.csv`` has the classes of all values."""
    rows: list[list[object]] = []
    for split, part in parts.items():
        names = {part.stem(record): record for record in part.data.images}
        for done, (stem, content, own) in enumerate(labels.write(part.data, part.stem, part.repairs), 1):
            link_file(out, f"images/{split}/{part.name(names[stem]).as_posix()}", names[stem].path)
            write(out / "labels" / split / f"{stem}.png", content)
            rows += [[f"{split}/{row[0]}", *row[1:]] for row in own]
            _say(progress, done, part)
    write(out / labels.TABLE, labels.table_of(rows))


def summary(part: Part) -> dict[str, Any]:
    """What a split held, and what was noted when it was read and when it was written."""
    singles = Counter(a.crowd for record in part.data.images for a in record.annotations)
    notes = [*part.data.repairs.summary(), *part.repairs.summary()]
    if not part.data.images:
        notes.append("no images, so there is nothing of it")
    return {"images": len(part.data.images), "objects": singles[False], "crowds": singles[True], "notes": notes}


def _names(parts: dict[str, Part]) -> tuple[str, ...]:
    return next(iter(parts.values())).data.categories.names


def _say(progress: Progress | None, done: int, part: Part) -> None:
    if progress and done:
        progress(done, len(part.data.images))
