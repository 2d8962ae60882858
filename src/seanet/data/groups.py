"""Groups of images that agree in a key of their entries in the annotation file: site, instrument, day, weather."""

import math
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from seanet.data.entries import open_lists
from seanet.data.repairs import Findings
from seanet.data.values import is_int, is_number, is_unicode, kind
from seanet.errors import AnnotationError

NOTHING = "(none)"  # the group of images that say nothing under the key
MOST = 50  # groups; of more nobody reads the table
SHOWN = 20  # keys in a message


def read_groups(file: Path, key: str) -> dict[str, frozenset[int]]:
    """The ids of the images of each group, names in order: numbers, then texts, then ``NOTHING``.

    A text, a number, true or false under ``key`` names the image's group, a list of texts several groups; null, an empty
    text and an empty list say nothing.  AnnotationError for a key that no image has, other values, and too many groups.
    """
    findings, keys = Findings(file), set()
    groups: dict[str, set[int]] = defaultdict(set)
    with open_lists(findings) as lists:
        for _, entry in findings.objects(lists.entries("images"), "images"):
            keys.update(entry)
            id = entry.get("id")
            if not is_int(id):
                continue  # ``read_coco`` refuses the file for it
            for name in _names(entry, key, findings):
                groups[name].add(id)
            if len(groups) > MOST:
                raise _too_many(groups, key, findings)
    if key not in keys:
        raise _unknown(key, keys, findings)
    return {name: frozenset(groups[name]) for name in sorted(groups, key=_order)}


def _names(entry: dict[str, Any], key: str, findings: Findings) -> list[str]:
    """Of all groups of an image."""
    value = entry.get(key)
    names = [_text(part) for part in (value if isinstance(value, list) else [value])]
    strange = isinstance(value, list) and not all(isinstance(part, str) for part in value)
    if strange or None in names:
        given = "a list of other things than texts" if strange else kind(value)
        wanted = "a text, a finite number, true, false or a list of texts, to group images by"
        message = f"image {entry['id']} has {given} under {key!r}: expected {wanted}"
        raise findings.error(message, image_id=entry["id"], field=key, value=value)
    return [name or NOTHING for name in names if name is not None] or [NOTHING]


def _text(value: object) -> str | None:
    """The name of a value's group, empty for null; None if there can be no such group."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if is_unicode(value) else None
    if not is_number(value) or not math.isfinite(value):
        return None
    return f"{value:.15g}" if isinstance(value, float) else str(value)  # 3.0 is 3


def _order(name: str) -> tuple[bool, bool, float, str]:
    """For sorting: what reads as a number by its size, so that 10 stands behind 9."""
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    is_text = not math.isfinite(number)
    return name == NOTHING, is_text, 0.0 if is_text else number, name


def _too_many(groups: Collection[str], key: str, findings: Findings) -> AnnotationError:
    examples = ", ".join(map(repr, sorted(groups, key=_order)[:3]))
    message = f"images have more than {MOST} values under {key!r}, such as {examples}"
    return findings.error(f"{message}: give a key of fewer values, or write a coarser one into the entries", field=key)


def _unknown(key: str, keys: Collection[str], findings: Findings) -> AnnotationError:
    shown = ", ".join(sorted(keys)[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
    have = f"give one of those that they have: {shown}" if keys else "it lists no images"
    return findings.error(f"no image has the key {key!r}: {have}", field=key)
