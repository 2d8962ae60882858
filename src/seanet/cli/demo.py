"""``seanet demo`` and ``seanet doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from seanet.cli.app import app
from seanet.cli.options import Json, complete_recipe, emit, say


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path("runs/demo"),
    recipe: Annotated[str, typer.Option(help="What to train.", autocompletion=complete_recipe)] = "seanet_lite",
    steps: Annotated[int, typer.Option(min=10, help="Steps to train.")] = 280,
    json_: Json = False,
) -> None:
    """Draw scenes, train on them, and show the masks.

    Needs no data and no download; a CPU will do.
    """
    from seanet.recipes import recipe as named

    named(recipe)
    from seanet.demo import SHARES, run

    found = run(out, recipe, steps, say=say)
    metrics = {name: found["metrics"].get(key) for name, key in SHARES.items()}
    lines = [f"{name}: {value:.3f}" for name, value in metrics.items() if value is not None]
    lines += [f"page: {found['page']}", f"model: {found['run']}  (seanet predict {found['run']} IMAGE)"]
    emit(found, json_, "\n".join(lines))


@app.command()
def doctor(json_: Json = False) -> None:
    """Look at this machine and its packages, and say what is missing."""
    from seanet.doctor import examine, render

    found = examine()
    emit(found, json_, render(found))
    raise typer.Exit(0 if found["ok"] else 1)
