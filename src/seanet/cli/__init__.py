"""The command line.  Commands import what they need: help, recipes and mistakes in settings never wait for torch."""

from seanet.cli.app import app

from seanet.cli import train, replay, val, compare, analyse, predict, bench, recipes, demo, data, weights  # isort: skip  # in the order of the help
from seanet.cli import check, convert, export, datasets  # isort: skip  # of the group data

__all__ = [
    "analyse",
    "app",
    "bench",
    "check",
    "compare",
    "convert",
    "data",
    "datasets",
    "demo",
    "export",
    "main",
    "predict",
    "recipes",
    "replay",
    "train",
    "val",
    "weights",
]


def main() -> None:
    """Entry point of ``seanet`` and ``python -m seanet``."""
    app(prog_name="seanet")
