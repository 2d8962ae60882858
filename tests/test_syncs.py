"""Where a GPU would be waited for: only where boxes are matched, sampled, suppressed, or left out as hopeless."""

import importlib.util
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "syncs.py"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="not part of the package")

# By function of ours, how often an image of a batch of one may wait there.
ALLOWED = {
    "train": {
        "detector.py forward": 1,  # the positive RoIs
        "rois.py sample": 2,  # positive and negative RoIs
        "heads/fcn_box.py assign": 1,  # positive cells
        "heads/fcn_box.py learn": 1,  # the RoIs they are in
        "heads/classic.py loss_of": 1,  # positive RoIs
    },
    "predict": {
        "detector.py suppress": 1,  # what is above the threshold
        "heads/fcn_box.py decode": 1,  # RoIs that can be
    },
}


@pytest.fixture(scope="module")
def syncs():
    spec = importlib.util.spec_from_file_location("syncs", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("recipe", ["seanet_lite", "mask_rcnn_lite"])
def test_only_known_places_wait(syncs, recipe):
    for task, action in syncs.actions(recipe, 1).items():
        counts = {}
        for (operation, line), count in syncs.syncs(action).items():
            home, _, place = line.partition("/")
            file, _, rest = place.partition(":")
            if home == "seanet" and operation != "nms":
                name = f"{file} {rest.split()[1]}"
                counts[name] = counts.get(name, 0) + count
        assert counts
        assert {name: n for name, n in counts.items() if n > ALLOWED[task].get(name, 0)} == {}


def test_what_waits_is_seen(syncs):
    values, keep = torch.arange(4.0), torch.tensor([True, False, True, True])
    plain = {"sum": lambda: values.sum(), "rows": lambda: values[torch.tensor([0, 2])], "where": lambda: values * keep}
    waiting = {"mask": lambda: values[keep], "item": lambda: values.sum().item(), "nonzero": lambda: keep.nonzero()}
    waiting |= {
        "unique": lambda: values.unique(),
        "repeat": lambda: values.repeat_interleave(torch.tensor([1, 0, 2, 0])),
    }
    assert [name for name, action in plain.items() if syncs.syncs(action)] == []
    assert [name for name, action in waiting.items() if not syncs.syncs(action)] == []
