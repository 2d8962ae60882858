"""The lists of an annotation file, entry by entry: a file of any size is read in the memory of its largest entry.

Two passes: one that only finds where each list begins, for they come in any order, and one that decodes what is asked for.
"""

import codecs
import json
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from seanet.data.files import irregular
from seanet.data.repairs import Findings
from seanet.data.values import kind
from seanet.errors import AnnotationError

PARTS = ("images", "annotations", "categories")
CHUNK = 2**20  # bytes read at a time
LONGEST_TOKEN = 16  # characters; what the end of a chunk can cut in two, texts aside

_BLANK = re.compile(r"[ \t\n\r]*")
_PLAIN = r'[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"'


def _nested(depth: int) -> str:
    """Whatever holds no quotation mark or bracket without its other half, to a depth."""
    return _PLAIN if not depth else rf"{_PLAIN}|[\[{{](?:{_nested(depth - 1)})*+[\]}}]"


# Three deep: an annotation, its polygons, their points.  Nothing is ever tried twice, so that no file makes it slow.
_SKIMMED = re.compile(rf"(?:{_nested(3)})*+", re.DOTALL)
_decode = json.JSONDecoder().raw_decode


class Mark(NamedTuple):
    """A place in a file."""

    offset: int = 0  # bytes
    line: int = 1
    column: int = 1


class Window:
    """A stretch of a file's text, from the place that was reached on; it grows as far as the next value needs it."""

    def __init__(self, handle: BinaryIO, findings: Findings):
        self.handle, self.findings = handle, findings
        self.go(Mark())

    def go(self, mark: Mark) -> None:
        self.handle.seek(mark.offset)
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.first = mark  # of the text
        self.text, self.at = "", 0

    def mark(self) -> Mark:
        """Where the next character stands."""
        before, (offset, line, column) = self.text[: self.at], self.first
        lines = before.count("\n")
        column = len(before) - before.rfind("\n") if lines else column + len(before)
        return Mark(offset + len(before.encode()), line + lines, column)

    def peek(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            self.at = _end(_BLANK, self.text, self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._grow():
                return ""

    def take(self, wanted: str) -> str:
        """Move behind the next character, which has to be one of these."""
        if not (found := self.peek()) or found not in wanted:
            raise self.broken(f"Expecting {' or '.join(map(repr, wanted))}")
        self.at += 1
        return found

    def value(self) -> Any:
        """Decode the next value and move behind it."""
        self.peek()
        while True:
            try:
                found, end = _decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if not (_is_cut(error) and self._grow()):
                    self.at = error.pos
                    raise self.broken(error.msg.removesuffix(" at")) from error
            except (ValueError, RecursionError) as error:
                where = self.mark()
                message = f"is not JSON of a data set: {error} after line {where.line}, column {where.column}"
                raise self.findings.error(f"{message}: export it again") from error
            else:
                # The rest of a number may stand in the next chunk: 1.5 cut behind its point is a 1.
                whole = end + LONGEST_TOKEN < len(self.text) or not isinstance(found, int | float)
                if whole or not self._grow():
                    self.at = end
                    return found

    def entries(self) -> Iterator[Any]:
        """The values of the list that begins here."""
        self.take("[")
        if self.peek() == "]":
            self.at += 1
            return
        yield self.value()
        while self.take(",]") == ",":
            yield self.value()

    def skim(self) -> None:
        """Move behind the list that begins here; what stands in it is not checked."""
        self.take("[")
        while True:
            self.at = _end(_SKIMMED, self.text, self.at)
            if self.at == len(self.text):
                if not self._grow():
                    raise self.broken("Expecting ']'")
            elif self.text[self.at] == "]":
                self.at += 1
                return
            else:
                self.value()  # cut by the end of the text, nested deeper, or no JSON

    def broken(self, reason: str) -> AnnotationError:
        """To be raised: the text is no JSON here."""
        where = self.mark()
        place = f"line {where.line}, column {where.column}"
        return self.findings.error(f"is not JSON: {reason} in {place}: export it again")

    def _grow(self) -> bool:
        """Read on, twice as far each time if nothing is passed meanwhile; False at the end of the file."""
        try:
            raw = self.handle.read(max(CHUNK, len(self.text) - self.at))
        except OSError as error:
            raise self.findings.error(f"cannot be read ({error.strerror})") from error
        try:
            more = self.decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            offset = self.first.offset + len(self.text.encode()) + error.start
            line = self.first.line + self.text.count("\n") + error.object.count(b"\n", 0, error.start)
            message = f"is not UTF-8 text (line {line}, byte {offset}): save it as UTF-8"
            raise self.findings.error(message) from error
        if raw:
            self.first, self.text, self.at = self.mark(), self.text[self.at :] + more, 0
        return bool(raw)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    assert found  # both patterns match nothing as well
    return found.end()


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Whether more text could help."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - LONGEST_TOKEN


class Lists:
    """The three lists of an annotation file; one at a time can be read."""

    def __init__(self, window: Window):
        self._window, self._findings = window, window.findings
        self._marks: dict[str, Mark] = {}
        try:
            self._find()
        except AnnotationError:
            # A quotation mark too few lets the search run past the mistake: decoding tells where it is.
            for part in self._marks:
                for _ in self.entries(part):
                    pass
            raise
        self._check()

    def entries(self, part: str) -> Iterator[Any]:
        """Whatever stands in one of the lists."""
        self._window.go(self._marks[part])
        return self._window.entries()

    def _find(self) -> None:
        window = self._window
        if (first := window.peek()) != "{":
            found = [] if first == "[" else window.value()
            raise self._findings.error(
                f"holds {kind(found)}: expected an object with images, annotations and categories", field="file"
            )
        window.take("{")
        if window.peek() == "}":
            window.take("}")
        else:
            self._pass()
            while window.take(",}") == ",":
                self._pass()
        if window.peek():
            raise window.broken("Extra data")

    def _pass(self) -> None:
        """Move behind the next name and what stands under it."""
        window, findings = self._window, self._findings
        if window.peek() != '"':
            raise window.broken("Expecting property name enclosed in double quotes")
        part = window.value()
        window.take(":")
        is_list = window.peek() == "["
        if part not in PARTS:
            for _ in window.entries() if is_list else [window.value()]:
                pass
        elif part in self._marks:
            raise findings.error(f"has two lists {part!r}: make them one", field=part)
        elif is_list:
            self._marks[part] = window.mark()
            window.skim()
        else:
            value = window.value()
            raise findings.error(f"{part!r} is {kind(value)}: expected a list", field=part, value=value)

    def _check(self) -> None:
        for part in PARTS:
            if part not in self._marks:
                advice = "" if part != "categories" else ", each with an id and a name"
                raise self._findings.error(f"has no {part!r}: expected COCO's list of them{advice}", field=part)
        if not any(True for _ in self.entries("categories")):
            message = "'categories' is empty: list at least one, with an id and a name"
            raise self._findings.error(message, field="categories", value=[])


@contextmanager
def open_lists(findings: Findings) -> Generator[Lists]:
    """The lists of the file that the findings are about, while it is open."""
    if reason := irregular(findings.file):
        raise findings.error(f"{reason}: give COCO's annotation file")
    try:
        handle = findings.file.open("rb")
    except OSError as error:
        raise findings.error(f"cannot be read ({error.strerror})") from error
    with handle:
        window = Window(handle, findings)
        window.go(Mark(_start(handle, findings)))
        yield Lists(window)


def _start(handle: BinaryIO, findings: Findings) -> int:
    """The byte with which the text begins."""
    first = handle.read(3)
    if first[:2] == b"\x1f\x8b":
        raise findings.error("is compressed: unpack it with gunzip")
    if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise findings.error("is UTF-16 text: save it as UTF-8")
    if first != codecs.BOM_UTF8:
        return 0
    findings.note("file", "repaired", "byte order mark ignored", findings.file.name)
    return len(first)


def read_lists(findings: Findings) -> dict[str, list[Any]]:
    """The three lists of an annotation file; their entries are not looked at."""
    with open_lists(findings) as lists:
        return {part: list(lists.entries(part)) for part in PARTS}


def read_annotations(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The annotations of a file that was found readable before, with their places in the list, one in memory at a time."""
    with open_lists(Findings(file)) as lists:
        for place, entry in enumerate(lists.entries("annotations")):
            if isinstance(entry, dict):
                yield place, entry
