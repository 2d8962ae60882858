"""The application: one group of commands that turns mistakes into one line.

Results go to stdout, all else to stderr.  Exit codes: 0 done, 1 some inputs failed or the doctor worries, 2 a mistake
that the message tells how to mend, 130 interrupted.
"""

import errno
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from seanet import __version__
from seanet.cli.options import say
from seanet.errors import UserError


class Commands(TyperGroup):
    """Turns mistakes that a user can mend into one line; ``--debug`` may stand anywhere and shows where they arose."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(arg for arg in args[:end] if arg != "--debug"), *args[end:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            if ctx.params.get("debug"):
                raise
            say("error: " + str(error).replace("\n", "\n       "))
            raise typer.Exit(2) from None
        except OSError as error:
            if ctx.params.get("debug") or error.errno == errno.EPIPE:
                raise
            say(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            if ctx.params.get("debug"):
                raise
            say("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def show_version(wanted: bool) -> bool:
    if wanted:
        print(f"seanet {__version__}")
        raise typer.Exit()
    return wanted


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Instance segmentation whose masks keep their boundaries."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s", force=True)
