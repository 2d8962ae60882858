"""The same seed gives the same bits: training by how it is read, prediction by what else is predicted; two processes."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from builders import small_model
from seanet import checkpoint, settings
from seanet.data.coco import find_split, read_coco
from seanet.data.synth import synthesise
from seanet.recipes import recipe
from seanet.streaming import stream
from seanet.training import train

CHANGES = {
    "data": {"short_sides": [64], "long_side": 96, "colour": 0.3, "copy_paste": 0.5, "crop": 0.5, "jitter": [0.7, 1.3]},
    "backbone": {"weights": "none", "channels": 16},
    "rpn": {"before_nms": [50, 50], "after_nms": [20, 20], "sampled": 16},
    "sampling": {"rois": 16},
    "cascade": {"ious": [0.6], "weights": [0.5], "sharpness": [2]},
    "scoring": {"kind": "mask_iou", "width": 16},
    "train": {"batch": 2, "steps": 2, "lr": 0.1, "log_every": 1, "ema": 0.9, "validate_every": 2},
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return synthesise(tmp_path_factory.mktemp("scenes") / "data", 4, 64, val=1)


def trained(scenes: Path, folder: Path, **changes) -> tuple[list[dict], str, str]:
    """Rows of a run's table less the clock, and fingerprints of its weights and of its optimiser."""
    config = settings.merge(settings.merge(recipe("seanet_lite"), CHANGES), {"train": changes})
    sets = tuple(read_coco(*find_split(scenes, split)) for split in ("train", "val"))
    train(config, sets, folder, device="cpu", tensorboard=False)
    return left_by(folder)


def left_by(folder: Path) -> tuple[list[dict], str, str]:
    with (folder / "metrics.csv").open() as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    weights, _, state = checkpoint.read_state(folder / checkpoint.LAST)
    return rows, checkpoint.digest(weights), checkpoint.digest(checkpoint.pack(state["optimizer_states"])[0])


def test_training_is_a_function_of_its_seed(tmp_path, scenes):
    """Whoever reads the images; with all that is drawn at random switched on."""
    first = trained(scenes, tmp_path / "a", workers=0)
    assert [row["step"] for row in first[0]] == ["1", "2", "2"]
    assert trained(scenes, tmp_path / "b", workers=2) == first


def test_prediction_does_not_depend_on_what_else_is_predicted(tmp_path):
    model, rng = small_model(64, 96), np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (64 + 8 * i, 96, 3), np.uint8)).save(path)
    alone = [model.predict(path).to_coco(0) for path in paths]
    assert all(alone)
    assert [model.predict(path).to_coco(0) for path in reversed(paths)] == alone[::-1]
    assert [outcome.instances.to_coco(0) for outcome in stream(model, paths) if outcome.instances] == alone


SCRIPT = """
import os
import torch
torch.set_num_threads(1)
from dataclasses import replace
from pathlib import Path
from seanet import settings
from seanet.data.coco import find_split, read_coco
from seanet.recipes import recipe
from seanet.training import keeper
from seanet.training.coco import coco_job
from seanet.training.run import run
keeper.REST = 1e9 * int(os.environ.get("LOCAL_RANK", 0))  # their clocks disagree on what is due
changes, devices = {changes!r}, {devices}
train = dict(batch=4, steps=4, workers=0, ema=None, devices=devices)
config = settings.merge(settings.merge(recipe("seanet_lite"), changes), dict(train=train, data=dict(crop=0, jitter=None)))
sets = tuple(read_coco(*find_split(Path({scenes!r}), split)) for split in ("train", "val"))
job = replace(coco_job(config, *sets), evaluate=lambda detector: {{"segm/AP": 0.5}})
run(config, job, Path({out!r}), device="cpu", tensorboard=False)
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path, scenes):
    """Each draws from its images by their own seeds, and divides its losses by the counts of both; images are of one size."""
    found = []
    for devices in (1, 2):
        script, out = tmp_path / f"{devices}.py", tmp_path / f"run{devices}"
        script.write_text(SCRIPT.format(changes=CHANGES, scenes=str(scenes), out=str(out), devices=devices))
        subprocess.run([sys.executable, script], check=True, timeout=250, cwd=tmp_path)
        weights, _ = checkpoint.read_model(out / checkpoint.LAST)
        found.append(([row for row in left_by(out)[0] if row["loss"]], weights))
    (rows, weights), (others, theirs) = found
    assert len(rows) == len(others) == 4
    assert {"box_iou", "box_iou_2", "mask", "edge", "mask_iou", "rpn_class"} <= rows[0].keys()
    for row, other in zip(rows, others, strict=True):
        for name in row.keys() - {"step", "epoch", "lr"}:
            if row[name]:
                assert float(other[name]) == pytest.approx(float(row[name]), rel=1e-5, abs=1e-5), name
    for name, value in weights.items():
        torch.testing.assert_close(theirs[name], value, atol=1e-5, rtol=1e-4)
