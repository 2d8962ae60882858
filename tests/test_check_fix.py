"""Whatever is done to a data set's annotations, its repaired copy is clean or has nothing left, and repairs are final."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import COUNTS, HEIGHT, RING, WIDTH, Made
from seanet.data.checking.check import Check, check
from seanet.data.checking.fix import mended
from seanet.data.checking.kinds import splits_in
from seanet.data.coco import read_coco
from seanet.report.check import facts
from seanet.report.repaired import write_repaired
from seanet.report.text import finite

VALUES: list[Any] = [
    None,
    0,
    -1,
    1,
    2,
    3,
    5,
    1e9,
    float("nan"),
    float("inf"),
    "x",
    "",
    [],
    {},
    [[]],
    True,
    1.5,
    10**400,
]
VALUES += [[1, 2, 3], [0, 0, 0, 0], [-5, -5, 30, 30], [50, 40, 100, 100]]  # boxes
VALUES += [[[1, 1, 2, 2, 3, 3]], [[-10, -10, 200, -10, 200, 200]], [[5] * 6], [RING, [1, 2]], [[float("nan")] * 6]]
VALUES += [{"size": [h, w], "counts": [0, 3072]} for h, w in ((HEIGHT, WIDTH), (WIDTH, HEIGHT))]
VALUES += [{"size": [HEIGHT, WIDTH], "counts": counts} for counts in ([100, 50, 2922], [3072], "PPYo1")]
VALUES += ["../a.png", "/etc/passwd", "1.png", "2.png", "é.png"]  # names of files
NOTHING_LEFT = {"lists no images that can be used", "holds no objects that can be used", "cannot be used at all"}

change = st.tuples(
    st.sampled_from(["train", "val"]),
    st.sampled_from(["annotations"] * 4 + ["images"] * 2 + ["categories"]),
    st.integers(0, 7),
    st.sampled_from(["set"] * 5 + ["delete", "repeat", "leave out", "replace"]),
    st.integers(0, 8),
    st.integers(0, len(VALUES) - 1),
)


def damage(content: dict[str, Any], part: str, place: int, act: str, key: int, value: int) -> None:
    entries, new = content[part], json.loads(json.dumps(VALUES[value]))
    if not entries:
        return
    place %= len(entries)
    entry = entries[place]
    if act == "replace":
        entries[place] = new
    elif act == "leave out":
        del entries[place]
    elif act == "repeat":
        entries.append(json.loads(json.dumps(entry)))
    elif isinstance(entry, dict) and entry:
        name = list(entry)[key % len(entry)]
        if act == "set":
            entry[name] = new
        else:
            del entry[name]


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Check:
    """The image files stay as they are and are read once; the annotations are kept to begin with anew."""
    made = Made(tmp_path_factory.mktemp("made") / "data")
    for split in COUNTS:
        (made.folder / f"{split}.clean").write_text(made.file(split).read_text())
    return check(splits_in(made.folder), workers=0)


@settings(max_examples=20, deadline=None)
@given(st.lists(change, min_size=1, max_size=6))
def test_repairs_are_complete_and_final(seen, changes):
    folder = seen.splits[0].annotations.parents[1]
    contents = {split: json.loads((folder / f"{split}.clean").read_text()) for split in COUNTS}
    for split, *what in changes:
        damage(contents[split], *what)
    for split in seen.splits:
        split.annotations.write_text(json.dumps(contents[split.name]))
    before = check(seen.splits, workers=0, known=seen.seen)
    json.dumps(finite(facts(before)), allow_nan=False)
    if len(before.data) < 2:
        return
    with TemporaryDirectory() as place:
        out = Path(place)
        after = write_repaired(before, out / "once")
        left = {found.kind.what for found in after.found if found.defect}
        assert left <= NOTHING_LEFT
        if before.clean:
            assert same(seen.splits, after.splits)
        if not left:
            assert same(after.splits, write_repaired(after, out / "twice").splits)
            train, val = after.splits
            known = read_coco(train.annotations, train.images).categories
            read_coco(val.annotations, val.images, categories=known)


def test_all_that_is_written_anew_is_listed(tmp_path):
    made = Made(tmp_path / "data")
    made.contents["train"]["annotations"][2]["iscrowd"] = True
    made.write()
    _, changes = mended(check(splits_in(made.folder), workers=0))
    assert changes["train"].annotations_changed == [{"id": 3, "image_id": 2, "changed": {"iscrowd": [True, 1]}}]


def same(some: tuple, others: tuple) -> bool:
    """Compared as text, in which NaN equals itself."""
    texts = [[json.dumps(json.loads(split.annotations.read_text())) for split in splits] for splits in (some, others)]
    return texts[0] == texts[1]
