"""Files that appear complete or not at all."""

import os
from pathlib import Path


def write_whole(path: Path | str, data: bytes) -> Path:
    """Write beside ``path``, then take its place, so that no reader ever meets half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
