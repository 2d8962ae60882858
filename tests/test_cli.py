"""The command line, in this process: what it prints where, and its exit codes."""

import json
import subprocess
import sys

import pytest

from command import seanet
from seanet import __version__
from seanet.recipes import RECIPES
from seanet.report.text import finite


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "data"
    seanet("data", "synth", folder, "--images", 2, "--val", 2, "--size", 64)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model that has learnt nothing, with scores above every threshold."""
    from seanet.checkpoint import Meta, save_model
    from seanet.predict import build
    from seanet.settings import override

    config = override(RECIPES["seanet_lite"], ["detections.score=0.0", "detections.limit=5", "data.short_sides=[64]"])
    names = ("ring", "star", "fork", "crescent", "blob")
    model = build(config, names)
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save_model(path, model.detector.state_dict(), Meta(config, names, (1, 2, 3, 4, 5)))
    return path


def test_help_names_every_command():
    text = seanet("--help").output
    for command in ("train", "val", "predict", "info", "recipes", "demo", "doctor", "data"):
        assert command in text
        assert seanet(command, "--help").output
    assert seanet("--version").output == f"seanet {__version__}\n"


def test_as_a_module():
    found = subprocess.run([sys.executable, "-m", "seanet", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout == f"seanet {__version__}\n"


def test_recipes():
    lines = json.loads(seanet("recipes", "--json").stdout)
    assert list(lines) == list(RECIPES)
    assert len(set(lines.values())) == len(lines), "two recipes read the same"
    assert all(name in seanet("recipes").stdout for name in RECIPES)


def test_options_of_recipes_that_would_be_ignored(tmp_path):
    assert "--table" in seanet("recipes", "--runs", tmp_path, code=2).stderr
    assert "--all" in seanet("recipes", "--all", "--table", 2, code=2).stderr
    file = tmp_path / "run.json"
    file.write_text("{}")
    assert f"{file} is no folder" in seanet("recipes", "--table", 2, "--runs", file, code=2).stderr


def test_lists_of_commands_show_whole_sentences(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group in ((), ("data",), ("data", "convert"), ("weights",)):
        lines = seanet(*group, "--help").output.partition("Commands:")[2].splitlines()
        assert not [line for line in lines if line.endswith("...")]


def test_mistakes_are_one_message_and_exit_code_2(tmp_path):
    result = seanet("train", "seanet_lit", "--data", tmp_path, code=2)
    assert result.stderr.startswith("error: there is no recipe named 'seanet_lit': did you mean seanet_lite")
    assert not result.stdout
    result = seanet("train", "seanet_lite", "--data", tmp_path, "--set", "train.lrr=1", "--lr", -1, code=2)
    assert "train.lrr is no setting: did you mean train.lr?" in result.stderr
    assert "train.lr should be greater than 0, got -1" in result.stderr
    assert "does not exist" in seanet("val", tmp_path / "x.safetensors", "--data", tmp_path, code=2).stderr
    assert "--data" in seanet("val", tmp_path, code=2).stderr
    seanet("train", code=2)
    seanet("nonsense", code=2)


@pytest.mark.parametrize("place", [0, 2])
def test_debug_shows_where_a_mistake_arose(place):
    from seanet.errors import ConfigError

    args = ["train", "seanet_lit"]
    with pytest.raises(ConfigError):
        seanet(*args[:place], "--debug", *args[place:])


def test_interruption(monkeypatch):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("seanet.data.synth.synthesise", interrupted)
    assert "interrupted" in seanet("data", "synth", "x", code=130).stderr


def test_a_full_disk_is_one_line(monkeypatch):
    def full(*args, **settings):
        raise OSError(28, "No space left on device", "x/1.jpg")

    monkeypatch.setattr("seanet.data.synth.synthesise", full)
    assert "No space left on device: 'x/1.jpg'" in seanet("data", "synth", "x", code=2).stderr


def test_synth_writes_into_new_folders_only(scenes):
    assert (scenes / "annotations" / "instances_train.json").exists()
    result = seanet("data", "synth", scenes, code=2)
    assert "error:" in result.stderr


def test_conversions_look_first_where_they_will_write(scenes):
    file = scenes / "annotations" / "instances_val.json"
    for args in (("cityscapes", scenes, file), ("lvis", file, scenes, file)):
        assert f"{file} is a file: name a folder" in seanet("data", "convert", *args, code=2).stderr


@pytest.mark.parametrize(("size", "limit"), [(63, "64"), (4097, "4096")])
def test_synth_says_which_sizes_it_draws(tmp_path, size, limit):
    said = seanet("data", "synth", tmp_path / "x", "--size", size, code=2).stderr
    assert "--size" in said
    assert limit in said


def test_bad_data_are_refused_before_torch_is_waited_for(scenes, tmp_path, monkeypatch):
    content = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    content["annotations"][0]["segmentation"] = None
    file = tmp_path / "val.json"
    file.write_text(json.dumps(content))
    monkeypatch.setitem(sys.modules, "seanet.training", None)  # importing it would fail
    named = ("--val-json", file, "--val-images", scenes / "val")
    result = seanet("train", "seanet_lite", "--data", scenes, *named, "--out", tmp_path / "run", code=2)
    assert f"{file}: " in result.stderr
    assert "more than max_bad" in result.stderr


def test_info_of_a_recipe():
    found = json.loads(seanet("info", "seanet_lite", "--classes", 3, "--set", "box.convs=1", "--json").stdout)
    assert found["recipe"] == "seanet_lite"
    assert found["config"]["box"]["convs"] == 1
    parts = ["backbone", "fpn", "rpn", "pool", "box_head", "mask_head", "scoring"]
    assert list(found["parameters"]) == ["total", "trainable", *parts]
    assert found["parameters"]["total"] == sum(found["parameters"][part] for part in parts)


def test_info_of_a_checkpoint(checkpoint):
    for path in (checkpoint, checkpoint.parent):
        found = json.loads(seanet("info", path, "--json").stdout)
        assert found["class_names"] == ["ring", "star", "fork", "crescent", "blob"]
        assert found["classes"] == 5


def test_val(scenes, checkpoint, tmp_path):
    file = tmp_path / "results.json"
    result = seanet("val", checkpoint, "--data", scenes, "--max-detections", 3, "--results", file, "--json")
    found = json.loads(result.stdout)
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR"} <= set(found["bbox"])
    assert set(found["bbox"]) == set(found["segm"])
    assert found["images"] == 2
    assert found["max_detections"] == 3
    assert len(json.loads(file.read_text())) <= 6
    table = seanet("val", checkpoint, "--data", scenes, "--per-class", "--set", "detections.limit=1").stdout
    assert "segm" in table
    assert "crescent" in table
    assert "only detections" in seanet("val", checkpoint, "--data", scenes, "--set", "mask.convs=1", code=2).stderr
    said = seanet("val", checkpoint, "--data", scenes, "--device", "abacus", code=2).stderr
    assert "error: device 'abacus' cannot be used" in said


def test_val_of_a_model_on_data_without_objects(scenes, checkpoint, tmp_path):
    content = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content | {"annotations": []}))
    (tmp_path / "val").symlink_to(scenes / "val")
    assert "no object" in seanet("val", checkpoint, "--data", tmp_path, code=2).stderr


def test_predict_goes_on_after_bad_files(scenes, checkpoint, tmp_path):
    import numpy as np
    from PIL import Image

    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    kinds = [part for kind in ("overlay", "coco", "labels", "edges") for part in ("--save", kind)]
    out = tmp_path / "out"
    result = seanet("predict", checkpoint, scenes / "val", bad, "--out", out, *kinds, "--json", code=1)
    assert str(bad) in result.stderr
    found = json.loads(result.stdout)
    assert len(found["images"]) == 2
    assert len(found["failed"]) == 1
    assert all((tmp_path / file).exists() for row in found["images"] for file in row["files"])
    assert sum(len(row["files"]) for row in found["images"]) == 6

    content = json.loads((out / "predictions.json").read_text())
    assert len(content["images"]) == 2
    assert len(content["categories"]) == 5
    assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    labels = np.asarray(Image.open(next(out.glob("*.labels.png"))))
    assert labels.shape == (64, 64)
    assert not list(out.glob(".*")), "nothing unfinished stays"

    out = tmp_path / "batched"
    seanet("predict", checkpoint, scenes / "val", bad, "--out", out, "--save", "coco", "--batch", 2, code=1)
    batched = json.loads((out / "predictions.json").read_text())["annotations"]
    for one, other in zip(content["annotations"], batched, strict=True):
        np.testing.assert_allclose(other["bbox"], one["bbox"], atol=1e-2)


def scores_of(model, images, out, *options) -> tuple[list[float], float]:
    """What ``seanet predict`` keeps, best first, and over which score."""
    said = json.loads(seanet("predict", model, images, "--out", out, "--save", "coco", "--json", *options).stdout)
    found = json.loads((out / "predictions.json").read_text())["annotations"]
    return sorted((a["score"] for a in found), reverse=True), said["score"]


def test_predict_keeps_what_was_best_in_validation(scenes, checkpoint, tmp_path):
    from dataclasses import replace

    from seanet.checkpoint import read_model, save_model

    images = scenes / "val"
    every, _ = scores_of(checkpoint, images, tmp_path / "every", "--score", 0)
    assert scores_of(checkpoint, images, tmp_path / "unmeasured")[1] == 0.5
    between = (every[1] + every[2]) / 2
    weights, meta = read_model(checkpoint)
    save_model(tmp_path / "measured.safetensors", weights, replace(meta, metrics={"best_f1/score": between}))
    kept, over = scores_of(tmp_path / "measured.safetensors", images, tmp_path / "measured")
    assert (kept, over) == (every[:2], between)
    assert scores_of(tmp_path / "measured.safetensors", images, tmp_path / "given", "--score", 0)[0] == every


def test_predict_keeps_by_the_score_that_it_writes(scenes, tmp_path):
    """Mask Scoring lowers scores after boxes were chosen by theirs."""
    from seanet.checkpoint import Meta, save_model
    from seanet.predict import build
    from seanet.settings import override

    config = override(RECIPES["ms_rcnn_lite"], ["detections.limit=5", "data.short_sides=[64]"])
    model = build(config, ("ring", "star"))
    model.detector.state_dict()["scoring.iou.bias"].fill_(0.5)  # an untrained one may be negative
    save_model(tmp_path / "ms.safetensors", model.detector.state_dict(), Meta(config, ("ring", "star"), (1, 2)))
    every, _ = scores_of(tmp_path / "ms.safetensors", scenes / "val", tmp_path / "every", "--score", 0)
    between = (every[1] + every[2]) / 2
    kept, _ = scores_of(tmp_path / "ms.safetensors", scenes / "val", tmp_path / "kept", "--score", between)
    assert kept == every[:2]


def test_predict_without_any_image(checkpoint, tmp_path):
    seanet("predict", checkpoint, tmp_path, code=2)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    seanet("predict", checkpoint, bad, "--out", tmp_path / "out", code=2)
    assert "choose from" in seanet("predict", checkpoint, bad, "--save", "film", code=2).stderr


def test_equal_names_in_other_folders_do_not_overwrite(tmp_path):
    from pathlib import Path

    from seanet.report.outputs import Outputs

    outputs = Outputs(tmp_path, [], [1], ["x"])
    assert [outputs._name(Path(name)) for name in ("a/1.jpg", "b/1.jpg", "1-2.jpg")] == ["1", "1-2", "1-2-2"]


def test_doctor():
    found = json.loads(seanet("doctor", "--json").stdout)
    assert found["ok"]
    assert found["advice"]
    assert all(found["versions"].values())
    assert set(found["checks"].values()) == {"ok"}


def test_public_names_resolve():
    import seanet as package

    for name in package.__all__:
        assert getattr(package, name) is not None


def test_strict_json():
    assert finite({"a": float("nan"), 1: [float("inf"), 2.0, True]}) == {"a": None, "1": [None, 2.0, True]}


def test_train_then_resume(scenes, tmp_path):
    """A step of the smallest model, then one more."""
    out = tmp_path / "run"
    args = ["train", "mask_rcnn_lite", "--data", scenes, "--out", out, "--batch", 1, "--workers", 0]
    args += ["--set", "data.short_sides=[64]", "--set", "backbone.weights=none", "--set", "backbone.channels=16"]
    found = json.loads(seanet(*args, "--steps", 1, "--json").stdout)
    assert found["out"] == str(out)
    assert found["best"]["step"] == 1
    assert "not empty" in seanet(*args, "--steps", 1, code=2).stderr
    image = next((scenes / "val").iterdir())
    assert "edge attention" in seanet("predict", out, image, "--save", "edges", code=2).stderr
    text = seanet(*args, "--steps", 2, "--resume").stdout
    assert "segm" in text
    assert f"seanet predict {out}" in text
    assert json.loads(seanet("info", out / "last.safetensors", "--json").stdout)["step"] == 2


def test_train_names_what_is_missing(scenes, tmp_path):
    assert "--data" in seanet("train", "seanet_lite", code=2).stderr
    file = scenes / "annotations" / "instances_train.json"
    assert "belong together" in seanet("train", "seanet_lite", "--train-json", file, code=2).stderr
    args = ["--train-json", file, "--train-images", scenes / "train"]
    assert "no data to val with" in seanet("train", "seanet_lite", *args, code=2).stderr
    assert "found no annotations" in seanet("train", "seanet_lite", "--data", tmp_path, code=2).stderr
