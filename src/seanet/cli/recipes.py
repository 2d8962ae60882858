"""``seanet info`` and ``seanet recipes``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import Json, Set, complete_recipe, emit, say
from seanet.errors import UserError
from seanet.papers import paper_table
from seanet.report.tables import beside, describe, table_lines


@app.command()
def info(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE_OR_CHECKPOINT",
            help="A recipe, a checkpoint, or the folder of a run.",
            autocompletion=complete_recipe,
        ),
    ],
    classes: Annotated[int | None, typer.Option(min=1, help="Classes of a recipe's model.  [80]")] = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Show the parameters and settings of a model."""
    from seanet.recipes import EVERY, recipe
    from seanet.settings import override, to_dict

    facts: dict[str, Any] = {}
    if what not in EVERY and Path(what).exists():
        from seanet.checkpoint import read_meta

        meta = read_meta(what)
        settings, count = meta.config, len(meta.classes)
        facts = {"class_names": list(meta.classes), "step": meta.step, "epoch": meta.epoch, "metrics": meta.metrics}
    else:
        settings, count = recipe(what), 80
    settings, count = override(settings, set_ or []), classes or count
    from seanet.detector import build, count_parameters

    parameters = count_parameters(build(settings, count))
    found = {
        "recipe": settings.recipe,
        "classes": count,
        "parameters": parameters,
        **facts,
        "config": to_dict(settings),
    }
    lines = [f"{settings.recipe}, {count} classes"]
    lines += [f"  {name:<10} {number:>13,}" for name, number in parameters.items()]
    lines += [f"  {name:<10} {facts[name]}" for name in ("epoch", "step") if name in facts]
    emit(found, json_, "\n".join(lines))


@app.command()
def recipes(
    every: Annotated[bool, typer.Option("--all", help="The rows of the paper's ablations too.")] = False,
    table: Annotated[
        int | None,
        typer.Option(metavar="N", help="Table 1, 2, 3, 4 or 6 of the paper, beside our runs."),
    ] = None,
    runs: Annotated[Path | None, typer.Option(metavar="DIR", help="Where --table looks for our runs.  [runs]")] = None,
    json_: Json = False,
) -> None:
    """List the models that can be trained, or a table of the paper."""
    if table is not None:
        if every:
            raise UserError("--all lists recipes and --table shows a table: name one of them")
        if runs is not None and not runs.is_dir():
            raise UserError(f"{runs} is no folder: expected the one that holds the folders of runs", file=runs)
        found = beside(paper_table(table), runs or Path("runs"))
        for line in found["left_out"]:
            say(f"left out: {line}")
        emit(found, json_, "\n".join(table_lines(found)))
        return
    if runs is not None:
        raise UserError("--runs belongs to --table N: name a table of the paper")
    from seanet.recipes import ABLATIONS, EVERY, RECIPES

    lines = {name: describe(config) for name, config in (EVERY if every else RECIPES).items()}
    width = max(map(len, lines))
    shown = [f"{name:<{width}}  {line}" for name, line in lines.items()]
    if not every:
        shown += ["", f"--all adds {len(ABLATIONS)} that leave parts of SEANet out; --table N shows the paper's tables"]
    emit(lines, json_, "\n".join(shown))
