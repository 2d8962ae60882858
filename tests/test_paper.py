"""docs/paper.md names places of the code: they exist, and every place of the two heads is named.  Nothing is imported."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "paper.md"
SOURCE = ROOT / "src" / "seanet"
pytestmark = pytest.mark.skipif(not DOCUMENT.is_file(), reason="the document is no part of the package")


@cache
def quoted() -> tuple[str, ...]:
    """All that stands between backticks."""
    return tuple(re.findall(r"`([^`\n]+)`", DOCUMENT.read_text(encoding="utf-8"))) if DOCUMENT.is_file() else ()


@cache
def names(file: str) -> frozenset[str]:
    """What a module defines: functions, classes, constants, and with their class's name methods and fields."""
    body = ast.parse((SOURCE / file).read_text(encoding="utf-8")).body
    found = set(defined(body))
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for name in defined(node.body)}
    return frozenset(found)


def defined(body: list[ast.stmt]) -> list[str]:
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.AnnAssign):
            found.append(ast.unparse(node.target))
        elif isinstance(node, ast.Assign):
            found += map(ast.unparse, node.targets)
    return found


PLACES = sorted({text for text in quoted() if re.fullmatch(r"[\w/]+\.py: \S+", text)})


@pytest.mark.parametrize("place", PLACES)
def test_places_exist(place):
    file, name = place.split(": ")
    assert (SOURCE / file).is_file()
    assert name in names(file)


def test_nothing_is_named_in_another_form():
    """A place that the pattern above does not know would never be looked for."""
    assert len(PLACES) > 60
    assert [text for text in quoted() if ".py:" in text and text not in PLACES] == []
    for text in quoted():
        if text.endswith(".py") and "/" in text:
            assert (ROOT / text).is_file() or (SOURCE / text).is_file(), text


def test_settings_exist():
    """``part.name`` is a field of one of the classes that a part can be."""
    tree = ast.parse((SOURCE / "config.py").read_text(encoding="utf-8"))
    classes = {node.name: defined(node.body) for node in tree.body if isinstance(node, ast.ClassDef)}
    unions = {
        ast.unparse(n.targets[0]): ast.unparse(n.value).split(" | ") for n in tree.body if isinstance(n, ast.Assign)
    }
    (whole,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    fields = {ast.unparse(n.target): ast.unparse(n.annotation) for n in whole.body if isinstance(n, ast.AnnAssign)}
    parts = {part: unions.get(kind, [kind]) for part, kind in fields.items()}
    named = [text for text in quoted() if re.fullmatch(r"[a-z]+\.[a-z_]+", text) and text.partition(".")[0] in parts]
    assert len(named) > 30
    for text in named:
        part, _, name = text.partition(".")
        assert any(name in classes[kind] for kind in parts[part]), text


@pytest.mark.parametrize("file", ["heads/fcn_box.py", "heads/edge_mask.py"])
def test_every_function_of_the_two_heads_is_in_the_paper(file):
    """The table headed by the file names each of its functions and methods."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.partition(f"| `{file}` | the paper |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w.]+)`", table))
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = (n.name for n in node.body if isinstance(n, ast.FunctionDef) and n.name != "__init__")
            functions |= {f"{node.name}.{name}" for name in methods}
    assert functions <= named
    assert {name for name in named if name != "squeeze"} <= names(file)


def test_every_row_of_the_gaps_is_named_where_it_is_decided():
    """Rows 1 to 19, each once, in order; each row with a setting is named beside a line of the method."""
    text = DOCUMENT.read_text(encoding="utf-8")
    method, _, gaps = text.partition("## What the paper leaves open")
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", gaps, re.MULTILINE)]
    assert rows == list(range(1, 20))
    named = {int(n) for words in re.findall(r"rows? ([\d, and]+)", method) for n in re.findall(r"\d+", words)}
    assert named >= set(range(1, 18))
