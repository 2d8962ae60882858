"""Documents about data, weights and reliability name commands, options and files: all of them are there."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from typer.main import get_command

from seanet.cli import app

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "docs" / name for name in ("formats.md", "weights.md", "reliability.md")]
FOLDERS = ("benchmarks/", "docs/", "src/", "tests/")
SCRIPTS = ROOT / "benchmarks" / "faults"  # scripts whose names stand alone
pytestmark = pytest.mark.skipif(not DOCUMENTS[0].is_file(), reason="the documents are no part of the package")


@cache
def quoted() -> frozenset[str]:
    """What stands between backticks, and the lines of blocks."""
    found: set[str] = set()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8") if document.is_file() else ""
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found.update(line.partition("  #")[0].strip() for line in block.splitlines())
        found.update(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)))
    return frozenset(found)


def commands(group: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Words of every command, such as data convert yolo, with its options."""
    yield words, {name for parameter in group.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for name, inner in getattr(group, "commands", {}).items():
        yield from commands(inner, (*words, name))


COMMANDS = dict(commands(get_command(app)))
OPTIONS = {option for options in COMMANDS.values() for option in options}


def named(words: list[str]) -> tuple[str, ...]:
    """As many of a line's first words as are a command."""
    return next(tuple(words[:n]) for n in range(len(words), -1, -1) if tuple(words[:n]) in COMMANDS)


def options_in(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--")]


@pytest.mark.parametrize("line", sorted(text for text in quoted() if re.match(r"(seanet|convert) \w", text)))
def test_commands_exist(line):
    words = shlex.split(line)
    words = words[1:] if words[0] == "seanet" else ["data", *words]
    command = named(words)
    assert command
    following = words[len(command) :]
    inner = [other for other in COMMANDS if other[:-1] == command]
    assert not inner or not following, f"{following[0]} is no command of {' '.join(command)}"
    assert set(options_in(following)) <= COMMANDS[command] | {"--help"}


def test_options_exist():
    lone = [shlex.split(text)[0] for text in quoted() if text.startswith("--")]
    assert lone
    assert set(options_in(lone)) <= OPTIONS


def script(word: str) -> Path:
    return ROOT / word if "/" in word else SCRIPTS / word


@pytest.mark.parametrize("line", sorted(text for text in quoted() if re.search(r"\w\.py\b", text)))
def test_scripts_take_the_options_that_are_named(line):
    words = shlex.split(line)
    file = script(next(word for word in words if ".py" in word))
    assert file.is_file()
    text = file.read_text(encoding="utf-8")
    for shared, call in (("short.py", "short.options("), ("cases.py", "command(campaign")):
        text += (SCRIPTS / shared).read_text(encoding="utf-8") if call in text else ""
    assert [option for option in options_in(words) if f'"{option}"' not in text] == []


def test_files_exist():
    places = [text for text in quoted() if text.startswith(FOLDERS) and " " not in text]
    assert places
    assert [place for place in places if not (ROOT / place).exists()] == []
