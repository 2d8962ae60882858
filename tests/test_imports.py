"""Imports go one way, and what answers at once never waits for torch.  Read from the sources, nothing is imported."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "seanet"

# A room may import from its own line and from the lines above it.
LINES = [
    {"errors", "config"},
    {"recipes", "settings", "papers"},
    {"headers", "pickles"},
    {"types"},
    {"boxes", "masks", "polygons"},
    {"anchors", "rois", "backbone", "heads"},
    {"detector"},
    {"cpu"},
    {"execution"},
    {"data"},
    {"pasting"},
    {"instances"},
    {"checkpoint"},
    {"training", "evaluation", "predict", "streaming", "weights", "hub", "export"},
    {"bench"},
    {"report"},
    {"serve", "demo", "doctor", "cli"},
    {"__main__"},
]
# Rooms that see less than the lines above them.
ONLY = {
    "config": {"errors"},
    "errors": set(),
    "recipes": {"config", "errors"},
    "settings": {"config", "errors"},
    "papers": {"errors"},
    "headers": {"config", "errors", "settings"},
    "pickles": {"errors"},
    "data": {"config", "errors", "types", "boxes", "masks", "polygons"},
}
WITHOUT_TORCH = ["__init__", "config", "errors", "recipes", "settings", "papers", "polygons", "cli", "doctor", "report"]
WITHOUT_TORCH += [
    "data.coco",
    "data.synth",
    "data.formats",
    "data.checking",
    "evaluation.lvis",
]
WITHOUT_TORCH += ["pasting", "instances", "headers", "pickles", "weights.archives", "weights.names", "weights.show"]
WITHOUT_TORCH += [f"evaluation.{name}" for name in ("bootstrap", "compare", "sizes")]
WITHOUT_TORCH += [
    f"evaluation.{name}" for name in ("overlap", "calibration", "clipping", "fixed", "oracle", "analysis")
]
WITHOUT_TORCH += [
    f"evaluation.{name}"
    for name in ("coco", "columns", "packed", "runs", "rims", "matching", "boundary", "pairs", "assess", "results")
]
WITHOUT_TORCH += ["evaluation.threshold"]
WITHOUT_TORCH += ["data.folders", "data.images", "data.split", "data.stats"]
WITHOUT_TORCH += ["data.groups", "evaluation.groups"]
WITHOUT_TORCH += ["data.entries", "data.crossings", "data.loops", "data.plain", "data.single"]
WITHOUT_TORCH += ["bench.contenders"]


def modules() -> list[str]:
    names = (path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", ".") for path in SOURCE.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") for name in names)


def file_of(module: str) -> Path:
    path = SOURCE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def statements(body: list[ast.stmt], inner: bool) -> Iterator[ast.stmt]:
    """Import statements; with ``inner`` those of functions too.  What only type checkers read is left out."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse, inner)
        elif inner or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for name in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, name, None) or [], inner)
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body, inner)


@cache
def imports(module: str, inner: bool) -> frozenset[str]:
    """Dotted names that a module imports; ``from seanet import x`` names ``seanet.x``."""
    found = set()
    for node in statements(ast.parse(file_of(module).read_text(encoding="utf-8")).body, inner):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert not node.level, f"{module}: relative imports hide where a name comes from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own(name: str) -> str | None:
    """The module of seanet that an imported name belongs to."""
    if not name.startswith("seanet."):
        return None
    parts = name.split(".")[1:]
    while parts and not file_of(".".join(parts)).exists():
        parts.pop()
    return ".".join(parts) or "__init__"


def at_once(module: str) -> frozenset[str]:
    """All that importing a module imports from outside, through every module of seanet on the way."""
    seen, waiting, outside = set(), [module], set()
    while waiting:
        if (name := waiting.pop()) in seen:
            continue
        seen.add(name)
        waiting += ["__init__"] + [parent for parent in [name.rpartition(".")[0]] if parent]
        for imported in imports(name, inner=False):
            home = own(imported)
            if home is None:
                outside.add(imported.partition(".")[0])
            else:
                waiting.append(home)
    return frozenset(outside)


@pytest.mark.parametrize("module", modules())
def test_imports_go_one_way(module):
    room = module.partition(".")[0]
    if room == "__init__":
        return
    place = next((i for i, line in enumerate(LINES) if room in line), None)
    assert place is not None, f"{room} is new: say in LINES where it stands"
    allowed = (ONLY[room] if room in ONLY else set().union(*LINES[: place + 1])) | {room}
    used = {home.partition(".")[0] for name in imports(module, inner=True) if (home := own(name))} - {"__init__"}
    assert used <= allowed, f"{module} must not import {sorted(used - allowed)}"


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_no_torch_at_module_level(room):
    inside = [module for module in modules() if module == room or module.startswith(room + ".")]
    assert inside, f"{room} is gone: say what took its place"
    for module in inside:
        assert not at_once(module) & {"torch", "torchvision", "lightning"}, module


def test_the_command_line_imports_nothing_heavy():
    heavy = {"torch", "torchvision", "pydantic", "numpy", "yaml", "PIL"}
    code = f"import sys, seanet.cli; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names():
    import seanet

    assert seanet.__all__ == sorted(seanet.__all__)
    assert set(seanet.__all__) == {
        "Config",
        "Execution",
        "Instances",
        "UserError",
        "__version__",
        "build",
        "evaluate",
        "import_torchvision",
        "import_weights",
        "load",
        "recipe",
        "train",
    }
    assert set(seanet.__all__) <= set(dir(seanet))
    assert not set(seanet.__all__) & set(modules()), "a module would take the place of a public name"
    for name, home in seanet._HOMES.items():
        assert file_of(home).exists(), f"seanet.{name} should come from {home}"
    with pytest.raises(AttributeError, match="nothing"):
        seanet.nothing  # noqa: B018


def test_light_public_names_resolve():
    import seanet
    from seanet.config import Config

    assert seanet.Config is Config
    assert isinstance(seanet.recipe("seanet_lite"), Config)
