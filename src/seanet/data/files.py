"""Files that a stranger may have made: an annotation file's lists, and what is wrong with a path."""

import json
import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from seanet.data.repairs import Findings
from seanet.data.values import kind

PARTS = ("images", "annotations", "categories")


def read_lists(findings: Findings) -> dict[str, list[Any]]:
    """The three lists of an annotation file; their entries are not looked at."""
    content = _parsed(_text(findings), findings)
    if not isinstance(content, dict):
        raise findings.error(
            f"holds {kind(content)}: expected an object with images, annotations and categories", field="file"
        )
    for part in PARTS:
        if part not in content:
            advice = "" if part != "categories" else ", each with an id and a name"
            raise findings.error(f"has no {part!r}: expected COCO's list of them{advice}", field=part)
        value = content[part]
        if not isinstance(value, list):
            raise findings.error(f"{part!r} is {kind(value)}: expected a list", field=part, value=value)
    if not content["categories"]:
        message = "'categories' is empty: list at least one, with an id and a name"
        raise findings.error(message, field="categories", value=[])
    return {part: content[part] for part in PARTS}


def unsafe(name: str) -> str:
    """Why a file name could lead out of the image folder; empty if it cannot."""
    if "\0" in name:
        return "holds a NUL byte"
    try:
        longest = max(len(os.fsencode(part)) for part in name.split("/"))
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if longest > 255 or len(name) > 4000:
        return "is longer than 255 bytes"
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "is an absolute path"
    return "leads upwards" if ".." in name.replace("\\", "/").split("/") else ""


def irregular(path: Path) -> str:
    """What keeps a path from being read as a file; opening a pipe would wait for ever, so it is only looked at."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be reached ({getattr(error, 'strerror', error)})"
    if stat.S_ISREG(mode):
        return "" if os.access(path, os.R_OK) else "cannot be read: its permissions forbid it"
    return "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"


def _parsed(text: str, findings: Findings) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise findings.error(f"is not JSON: {error.msg} in {place}: export it again") from error
    except (ValueError, RecursionError) as error:
        raise findings.error(f"is not JSON of a data set: {error}: export it again") from error


def _text(findings: Findings) -> str:
    raw = _bytes(findings)
    if raw[:2] == b"\x1f\x8b":
        raise findings.error("is compressed: unpack it with gunzip")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise findings.error("is UTF-16 text: save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text (line {line}, byte {error.start}): save it as UTF-8"
        raise findings.error(message) from error
    if raw.startswith(b"\xef\xbb\xbf"):
        findings.note("file", "repaired", "byte order mark ignored", findings.file.name)
    return text


def _bytes(findings: Findings) -> bytes:
    if reason := irregular(findings.file):
        raise findings.error(f"{reason}: give COCO's annotation file")
    try:
        return findings.file.read_bytes()
    except OSError as error:
        raise findings.error(f"cannot be read ({error.strerror})") from error
