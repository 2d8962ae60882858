"""A repaired copy of a data set: new annotation files beside links to the images, and a list of all that was changed."""

import json
from collections.abc import Mapping
from pathlib import Path

from seanet.data.checking.check import Check, check
from seanet.data.checking.fix import Changes, mended
from seanet.data.checking.kinds import splits_in
from seanet.data.formats.converting import link_images
from seanet.errors import UserError
from seanet.report.files import write_whole
from seanet.report.text import finite


def write_repaired(checked: Check, out: Path) -> Check:
    """Write the copy into ``out``, a new or empty folder, and check it."""
    require_empty(out)
    contents, changes = mended(checked)
    for split in checked.splits:
        link_images(out, split.images, split.name)
        text = json.dumps(contents[split.name], ensure_ascii=False)
        write_whole(out / "annotations" / f"instances_{split.name}.json", text.encode())
    _write_changes(out, changes)
    return check(splits_in(out, list(contents)), workers=0, known=checked.seen, quick=checked.quick)


def require_empty(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is not empty: name a new or empty folder for the repaired copy", file=out)


def _write_changes(out: Path, changes: Mapping[str, Changes]) -> None:
    found = finite({name: vars(done) for name, done in changes.items()})
    write_whole(out / "repairs.json", json.dumps(found, ensure_ascii=False, indent=1).encode())
    lines = [line for name, done in changes.items() for line in (f"{name}:", *done.lines())]
    write_whole(out / "repairs.txt", ("\n".join(lines) + "\n").encode())
