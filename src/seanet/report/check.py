"""What a check of a data set found, as lines of text and as values for JSON."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from seanet.data.checking.check import Check, counts
from seanet.data.checking.kinds import SEVERITIES, Found
from seanet.data.repairs import Place

SHOWN = 5  # ids in a line
QUICK = "; --quick did not look for copies, leaks between splits and damage behind image headers"


def facts(checked: Check) -> dict[str, Any]:
    """Everything, with all ids."""
    return {
        "clean": checked.clean,
        "quick": checked.quick,
        "defects": number(checked.found, defects=True),
        "notices": number(checked.found, defects=False),
        "splits": {split.name: _totals(checked, split.name) for split in checked.splits},
        "found": [_as_values(checked, found) for found in checked.found],
    }


def number(found: Iterable[Found], defects: bool) -> int:
    return sum(len(one.places) for one in found if one.defect == defects)


def _totals(checked: Check, split: str) -> dict[str, Any]:
    files = next(files for files in checked.splits if files.name == split)
    totals: dict[str, Any] = {"annotations": str(files.annotations), "images": str(files.images)}
    if split in checked.data:
        data = checked.data[split]
        usable = [image for image in data.images if image.id not in checked.unusable[split]]
        totals |= {"usable_images": len(usable), "images_without_objects": sum(not i.annotations for i in usable)}
        totals |= {"objects": counts(data).total(), "classes": dict(counts(data).most_common())}
    return totals


def _as_values(checked: Check, found: Found) -> dict[str, Any]:
    kind, files = found.kind, file_names(checked, found.kind.split)
    return {
        "split": kind.split,
        "severity": kind.severity,
        "subject": kind.subject,
        "what": kind.what,
        "count": len(found.places),
        "places": [
            {"id": place.id, "image_id": place.image_id, "file": files.get(place.image_id), "said": place.said or None}
            for place in found.places
        ],
    }


def file_names(checked: Check, split: str) -> dict[object, str]:
    """By image id."""
    data = checked.data.get(split)
    return {image.id: str(image.path) for image in data.images} if data else {}


def text(checked: Check, title: str) -> str:
    """A line for each kind, worst first, and one that says what to do."""
    lines = [described(checked, split.name) for split in checked.splits]
    for severity, group in groupby(checked.found, lambda found: found.kind.severity):
        lines += ["", f"{severity} ({SEVERITIES[severity]}):"]
        lines += [
            f"  {line}" for found in group for line in (f"{heading(found)} ({ids_of(checked, found)})", *_why(found))
        ]
    return "\n".join([*lines, "", closing(checked, title)])


def described(checked: Check, split: str) -> str:
    """A split's totals in a line."""
    totals = _totals(checked, split)
    if "objects" not in totals:
        return f"{split}: {totals['annotations']} cannot be used"
    empty = totals["images_without_objects"]
    without = f" ({empty:,} without objects)" if empty else ""
    images = _number(totals["usable_images"], "image")
    objects, classes = _number(totals["objects"], "object"), _number(len(totals["classes"]), "class")
    return f"{split}: {images}{without}, {objects} of {classes}: {totals['annotations']}"


def _number(count: int, word: str) -> str:
    return f"{count:,} {plural(word, count)}"


def heading(found: Found) -> str:
    """Such as "train: 2 images: width and height missing"."""
    kind, count = found.kind, len(found.places)
    return f"{kind.split}: {count:,} {plural(kind.subject, count)}: {kind.what}"


def ids_of(checked: Check, found: Found) -> str:
    """The first ids, and the files that go with them."""
    files = file_names(checked, found.kind.split)
    names = dict.fromkeys(files[place.image_id].rpartition("/")[2] for place in found.places if place.image_id in files)
    images = f": {_some(list(names))}" if names else ""
    return f"{_some([_called(place) for place in found.places])}{images}"


def _why(found: Found) -> list[str]:
    """Of files, which are few, whole sentences."""
    return [f"  {place.said}" for place in found.places if found.kind.subject == "file" and place.said]


def _called(place: Place) -> str:
    return str(place.id) if len(str(place.id)) <= 60 else f"{str(place.id)[:57]}..."


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def plural(word: str, count: int) -> str:
    if count == 1:
        return word
    return f"{word[:-1]}ies" if word.endswith("y") else word + ("es" if word.endswith("s") else "s")


def closing(checked: Check, title: str) -> str:
    """What to do next."""
    defects, notices = (number(checked.found, defects=wanted) for wanted in (True, False))
    unseen = QUICK if checked.quick else ""
    if not defects:
        return f"{title} is clean" + (f" ({notices:,} {plural('notice', notices)})" if notices else "") + unseen
    said = f"{title} has {defects:,} {plural('defect', defects)}: "
    refused = any(found.kind.severity == "refused" for found in checked.found)
    readable = all(split.name in checked.data for split in checked.splits)
    advice = "mend them" + (", or write a repaired copy with --fix OUT" if readable else "")
    return f"{said}training would {'stop' if refused else 'start'}; {advice}{unseen}"
