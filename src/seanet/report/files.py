"""Files that appear complete or not at all."""

import os
from pathlib import Path

from seanet.errors import UserError


def write_whole(path: Path | str, data: bytes) -> Path:
    """Write beside ``path``, then take its place, so that no reader ever meets half a file.  UserError if that fails."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(data)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})", file=path) from error
    return path
