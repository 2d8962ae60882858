"""``seanet replay``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from seanet.cli.app import app
from seanet.cli.options import Json, emit, require


@app.command()
def replay(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a run, or one of its bad_batch_*.safetensors.")
    ],
    json_: Json = False,
) -> None:
    """Make a step again whose loss was not finite.

    Says where that begins, and which images bring it.
    """
    require(run, "the folder of a run, or one of its bad_batch_*.safetensors")
    from seanet.training.replay import replay as make

    account = make(run)
    found = asdict(account) | {"file": str(account.file), "reproduced": account.reproduced}
    emit(found, json_, _text(account))


def _text(account: Any) -> str:
    lines = [f"step {account.step}, {account.file}"]
    lines += ["  ".join(f"{name} {value:.4g}" for name, value in account.losses.items())]
    shown = zip(account.ids, account.ranges, account.boxes, strict=True)
    for id, (low, high), sides in shown:
        targets = f"sides of its boxes {sides[0]:.4g} to {sides[1]:.4g} pixels" if sides else "no boxes"
        lines.append(f"image {id}: values {low:g} to {high:g}, {targets}")
    if not account.reproduced:
        return "\n".join([*lines, "It does not happen again here: all losses, outputs and gradients are finite."])
    if account.weight:
        lines.append(f"The weights before the step are not finite already, {account.weight} first.")
    if account.module:
        lines.append(f"The first output that is not finite is that of {account.module}.")
    if account.gradient:
        lines.append(f"The first gradient that is not finite is that of {account.gradient}.")
    alone = f"with the ids {', '.join(map(str, account.images))}" if account.images else "none: only all together do"
    return "\n".join([*lines, f"Images that bring it alone: {alone}."])
