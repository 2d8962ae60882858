"""What is wrong with a path that a stranger wrote."""

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath


def unsafe(name: str) -> str:
    """Why a file name could lead out of the image folder; empty if it cannot."""
    if "\0" in name:
        return "holds a NUL byte"
    try:
        longest = max(len(os.fsencode(part)) for part in name.split("/"))
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if longest > 255 or len(name) > 4000:
        return "is longer than 255 bytes"
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "is an absolute path"
    return "leads upwards" if ".." in name.replace("\\", "/").split("/") else ""


def irregular(path: Path) -> str:
    """What keeps a path from being read as a file; opening a pipe would wait for ever, so it is only looked at."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be reached ({getattr(error, 'strerror', error)})"
    if stat.S_ISREG(mode):
        return "" if os.access(path, os.R_OK) else "cannot be read: its permissions forbid it"
    return "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"
