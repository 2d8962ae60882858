"""The command line in this process."""

from typer.testing import CliRunner, Result

from seanet import cli


def seanet(*args: object, code: int = 0) -> Result:
    """What ``seanet ARGS`` printed; it must end with ``code``, and a mistake never with a traceback."""
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result
