"""Where the checks of an annotation file say what they found: mistakes are errors, what could be helped is counted."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from seanet.data.values import is_int, kind
from seanet.errors import AnnotationError, UserError

SUBJECTS = {"images": "image", "annotations": "annotation", "categories": "category"}
"""What an entry of each of a file's lists is."""
ALL_OF_THEM = "`seanet data check` lists all that is wrong"


class Place(NamedTuple):
    """Where something was found."""

    id: object  # of its subject, as the file says it
    image_id: object = None  # of an annotation's image
    said: str = ""  # the whole sentence of a refusal


@dataclass
class Repairs:
    """What was wrong with a file and could be helped: annotations skipped, entries repaired, facts worth a line.

    Where the file was read tolerantly, also what could not be helped, under the verb "refused".
    """

    annotations: int = 0
    """Annotations of the file, skipped ones included."""
    found: dict[tuple[str, str, str], list[Place]] = field(default_factory=lambda: defaultdict(list))
    """(subject, verb, what) -> every place."""

    def note(self, subject: str, verb: str, what: str, id: object, image_id: object = None, said: str = "") -> None:
        self.found[subject, verb, what].append(Place(id, image_id, said))

    def count(self, verb: str) -> int:
        return sum(len(places) for (_, v, _), places in self.found.items() if v == verb)

    @property
    def skipped_share(self) -> float:
        """Of all annotations of the file."""
        return self.count("skipped") / max(self.annotations, 1)

    def summary(self, examples: int = 3) -> list[str]:
        """A line for each kind: "3 annotations skipped: box of zero width or height (ids 4, 9, 12)"."""
        lines = []
        for (subject, verb, what), places in self.found.items():
            ids = [place.id for place in places]
            shown = ", ".join(map(str, ids[:examples])) + (", ..." if len(ids) > examples else "")
            prefix = f"{_plural('id', len(ids))} " if all(map(is_int, ids)) else ""
            lines.append(f"{len(ids)} {_plural(subject, len(ids))} {verb}: {what} ({prefix}{shown})")
        return lines


class Refused(Exception):
    """An entry for which the whole file is refused, or which a tolerant reading leaves out."""

    def __init__(self, what: str, error: UserError):
        super().__init__(what)
        self.what = what
        """The same words for every entry of that kind."""
        self.error = error


@dataclass(frozen=True)
class Findings:
    """Of one file, while it is read."""

    file: Path
    repairs: Repairs = field(default_factory=Repairs)
    tolerant: bool = False
    """Entries that make the file untrustworthy are left out and noted, so that all of them can be shown at once."""

    def note(self, subject: str, verb: str, what: str, id: object, image_id: object = None) -> None:
        self.repairs.note(subject, verb, what, id, image_id)

    def refuse(self, refused: Refused, subject: str, id: object) -> None:
        """Raise the error, or, when tolerant, note it: its entry is then left out by the caller."""
        error = refused.error
        if self.tolerant:
            self.repairs.note(subject, "refused", refused.what, id, error.image_id, str(error))
            return
        error.args = (f"{error}; {ALL_OF_THEM}",)
        raise error from refused.__cause__

    def refusal(self, what: str, message: str, **facts: object) -> Refused:
        """To be raised where a single entry makes the file untrustworthy, and to be caught beside ``refuse``."""
        return Refused(what, self.error(message, **facts))

    def error(self, message: str, **facts: object) -> AnnotationError:
        """To be raised: what makes the file untrustworthy."""
        return AnnotationError(f"{self.file}: {message}", file=self.file, **facts)

    def objects(self, entries: Iterable[object], part: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Entries of one of the file's lists with their places in it, from 0; what is no object is refused."""
        for position, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield position, entry
                continue
            message = f"entry {position} of {part!r} is {kind(entry)}: expected an object {{...}}"
            self.refuse(self.refusal("no object", message, field=part, value=entry), SUBJECTS[part], f"#{position}")


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
