"""Training: closed forms of the schedules, and runs of a tiny stand-in for the detector."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from seanet import checkpoint, settings
from seanet.config import ClassicMask, Config, Train
from seanet.data.coco import Repairs, find_split, read_coco
from seanet.data.synth import synthesise
from seanet.errors import AnnotationError, CheckpointError, ConfigError, DivergenceError, UserError
from seanet.recipes import recipe
from seanet.training import train
from seanet.training.coco import coco_job
from seanet.training.log import Table
from seanet.training.optim import Plan, optimizer
from seanet.training.run import Job, run
from seanet.types import Batch

IMAGES = 6


class Tiny(nn.Module):
    """A convolution with two losses; what it draws at random depends on the seed of the batch alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.norm.requires_grad_(False).eval()

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, batch):
        draw = torch.Generator().manual_seed(batch.seed)
        image = batch.images.float() / 255
        out = nn.functional.dropout(self.norm(self.conv(image)), 0.1)
        image = image + 0.1 * torch.randn(1, generator=draw)
        return {
            "level": (out.mean((1, 2, 3)) - 0.5).square().mean(),
            "shape": (out[:, :, ::2, ::2] - image[:, :2, :-2:2, :-2:2]).square().mean(),
        }


def batches(train, step, poison=-1):
    """The order is a function of the position alone, as the real loader's."""
    per = train.batch // train.accumulate
    for position in range(step * train.batch, 10_000, per):
        index = [i % IMAGES for i in range(position, position + per)]
        images = [torch.randint(0, 256, (3, 10, 10), generator=torch.Generator().manual_seed(i)) for i in index]
        yield Batch(torch.stack(images).to(torch.uint8), [(10, 10)] * per, None, index, seeds=[position] * per)


def config(**train):
    return Config(
        train=Train(**{"batch": 2, "lr": 0.8, "warmup": 2, "log_every": 1, "workers": 0, "epochs": 3} | train)
    )


def job(config, evaluate=None, build=Tiny, batches=batches):
    return Job(
        build,
        lambda step: batches(config.train, step),
        evaluate or (lambda detector: {"segm/AP": float(detector.conv.weight.detach().abs().sum()), "bbox/AP": None}),
        IMAGES,
        ("thing",),
        (1,),
    )


def go(config, out, **options):
    details = {name: options.pop(name) for name in ("evaluate", "build", "batches") if name in options}
    return run(config, job(config, **details), out, device="cpu", tensorboard=False, **options)


def rows(out):
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def losses(out):
    return [(row["step"], row["lr"], row["grad_norm"], row["level"], row["shape"]) for row in rows(out) if row["loss"]]


def weights(out, name="last.safetensors"):
    return checkpoint.read_model(out / name)[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_step_schedule():
    plan = Plan(Train(epochs=24, batch=8, lr=0.02, warmup=100, warmup_from=0.01), images=400)
    assert plan.steps == 1200
    assert plan.rate(0) == pytest.approx(0.01 * 0.01)
    assert plan.rate(50) == pytest.approx(0.01 * (0.01 + 0.99 / 2))
    assert [plan.rate(s) for s in (100, 799, 800, 1099, 1100)] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4])


def test_cosine_schedule_and_short_warmup():
    plan = Plan(
        Train(steps=40, optimizer="adamw", schedule="cosine", lr=1e-3, warmup=1000, warmup_from=0.5), images=400
    )
    assert plan.rate(5) == pytest.approx(0.75 * 1e-3 * 0.9619397662556434)
    assert [plan.rate(s) for s in (20, 40)] == pytest.approx([5e-4, 0])


def test_plan_counts_passes():
    plan = Plan(Train(epochs=2.5, batch=4, validate_every=2), images=10)
    assert plan.steps == 8  # of 4, 4 and 2 + 2 images
    assert [s for s in range(1, 9) if plan.ends_epoch(s)] == [3, 6, 8]
    assert [s for s in range(1, 9) if plan.validates(s)] == [6, 8]
    assert [plan.position(s) for s in (0, 2, 3, 7)] == [(0, 0), (0, 2), (1, 0), (2, 1)]


def test_batch_must_divide():
    with pytest.raises(ConfigError, match=r"train\.batch is 16, which .* = 3 does not divide"):
        Plan(Train(accumulate=3), images=10)


def test_norms_and_biases_are_not_decayed():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2).requires_grad_(False))
    decayed, plain = optimizer(model, Train(weight_decay=0.1)).param_groups
    assert ([p.ndim for p in decayed["params"]], decayed["weight_decay"]) == ([4], 0.1)
    assert ([p.ndim for p in plain["params"]], plain["weight_decay"]) == ([1, 1, 1], 0.0)


def test_table_widens_and_forgets_the_future(tmp_path):
    table = Table(tmp_path / "a.csv")
    table.add({"step": 1, "loss": 0.5})
    table.add({"step": 2, "segm/AP": 0.1})
    table.add({"step": 3, "loss": 0.25})
    assert (tmp_path / "a.csv").read_text().split() == ["step,loss,segm/AP", "1,0.5,", "2,,0.1", "3,0.25,"]
    Table(tmp_path / "a.csv", after=1).add({"step": 2, "loss": 1.0})
    assert (tmp_path / "a.csv").read_text().split() == ["step,loss,segm/AP", "1,0.5,", "2,1,"]


def test_run_leaves_its_folder(tmp_path):
    result = go(config(), tmp_path / "run")
    assert result.exit_code == 0
    assert [entry["step"] for entry in result.history] == [3, 6, 9]
    assert {p.name for p in result.folder.iterdir()} == {
        "best.safetensors", "last.safetensors", "previous.safetensors", "config.yaml", "run.json", "metrics.csv",
        "metrics.json", ".lock",
    }  # fmt: skip
    table = rows(result.folder)
    assert len(table) == 12
    assert float(table[-2]["loss"]) < float(table[0]["loss"])
    meta = checkpoint.read_meta(result.folder)
    assert meta.config == config()
    assert meta.step == result.best["step"]
    assert meta.metrics["segm/AP"] == result.best["score"]
    assert json.loads((result.folder / "metrics.json").read_text())["best"] == result.best
    assert json.loads((result.folder / "run.json").read_text())["images"] == IMAGES


def test_folder_in_use_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    for resume in (False, True):
        with pytest.raises(UserError, match="is not empty"):
            go(config(), tmp_path, resume=resume)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_resumed_run_is_the_uninterrupted_one(tmp_path, ema):
    """Interrupted in the middle of a pass by a signal, bit for bit."""
    settings = config(ema=ema, optimizer="adamw" if ema else "sgd", lr=0.05, accumulate=2)
    go(settings, tmp_path / "whole")

    def interrupting(train, step):
        for number, batch in enumerate(batches(train, step)):
            if number == 7:  # second half of step 4
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    cut = go(settings, tmp_path / "cut", batches=interrupting)
    assert cut.exit_code == 143
    assert checkpoint.read_meta(tmp_path / "cut" / "last.safetensors").step == 4
    result = go(settings, tmp_path / "cut", resume=True)
    assert [entry["step"] for entry in result.history] == [3, 6, 9]
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    for name in ("last.safetensors", "best.safetensors"):
        assert same(weights(tmp_path / "cut", name), weights(tmp_path / "whole", name))


def test_interrupted_validation_is_made_up_for(tmp_path):
    def interrupted(detector):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal should have ended this")

    cut = go(config(), tmp_path / "cut", evaluate=interrupted)
    assert (cut.exit_code, cut.history) == (130, [])
    assert [entry["step"] for entry in go(config(), tmp_path / "cut", resume=True).history] == [3, 6, 9]


def test_complete_run_can_be_made_longer(tmp_path):
    go(config(), tmp_path / "run")
    assert len(go(config(), tmp_path / "run", resume=True).history) == 3
    longer = go(config(epochs=4), tmp_path / "run", resume=True)
    assert [entry["step"] for entry in longer.history] == [3, 6, 9, 12]
    assert [int(step) for step, *_ in losses(tmp_path / "run")] == list(range(1, 13))


def test_resume_with_other_settings(tmp_path):
    go(config(), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"other settings(.|\n)*train\.lr: 0\.8 -> 0\.1") as error:
        go(config(lr=0.1, workers=3, batch=3), tmp_path / "run", resume=True)
    assert "workers" not in str(error.value)
    assert "train.batch: 2 -> 3" in str(error.value)


def test_accumulated_parts_equal_the_whole_batch(tmp_path, monkeypatch):
    class Fixed(Tiny):
        def forward(self, batch):
            return super().forward(replace(batch, seeds=None))

    monkeypatch.setattr(nn.functional, "dropout", lambda x, p: x)
    go(config(batch=4, steps=5, accumulate=2), tmp_path / "parts", build=Fixed)
    go(config(batch=4, steps=5), tmp_path / "whole", build=Fixed)
    for name, value in weights(tmp_path / "parts").items():
        torch.testing.assert_close(value, weights(tmp_path / "whole")[name])


def test_divergence_names_step_terms_and_images(tmp_path):
    class Diverging(Tiny):
        def forward(self, batch):
            found = super().forward(batch)
            return found | {"level": found["level"] / (0 if batch.ids == [0, 1] and batch.seed > 6 else 1)}

    message = r"loss of step 7 is not finite \(level inf, shape \S+\) on the images with the ids 0, 1"
    with pytest.raises(DivergenceError, match=message) as error:
        go(config(), tmp_path / "run", build=Diverging)
    assert (error.value.image_id, error.value.field) == ([0, 1], "level")
    assert checkpoint.read_meta(tmp_path / "run" / "last.safetensors").step == 6
    weights(tmp_path / "run")


def test_patience(tmp_path):
    result = go(config(patience=1, epochs=9), tmp_path / "run", evaluate=lambda detector: {"segm/AP": 0.5})
    assert [entry["step"] for entry in result.history] == [3, 6]
    assert result.best["step"] == 3
    again = go(config(patience=1, epochs=9), tmp_path / "run", resume=True)
    assert checkpoint.read_meta(tmp_path / "run" / "last.safetensors").step == 6
    assert again.history == result.history
    assert len(go(config(patience=2, epochs=4), tmp_path / "run", resume=True).history) == 4


def test_unknown_metric(tmp_path):
    with pytest.raises(ConfigError, match=r"no metric 'mask/AP' .* there are segm/AP, bbox/AP"):
        go(config(metric="mask/AP"), tmp_path / "run")


def test_full_disk_is_survived_for_a_while(tmp_path, monkeypatch, capsys):
    real, left = checkpoint.save_file, [2]

    def full_at_first(tensors, path, metadata):
        if "last" in str(path) and left[0]:
            left[0] -= 1
            raise OSError(28, "No space left on device")
        real(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", full_at_first)
    go(config(), tmp_path / "run")
    assert capsys.readouterr().err.count("the disk is full") == 2
    assert checkpoint.read_meta(tmp_path / "run" / "last.safetensors").step == 9


def test_half_precision(tmp_path):
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        go(config(precision="fp16"), tmp_path / "run")
    assert len(go(config(precision="bf16", epochs=1), tmp_path / "run").history) == 1


def test_start_is_for_new_runs(tmp_path, capsys):
    settings, calls = config(), []
    go(settings, tmp_path / "run", start=lambda detector: calls.append(detector) or "from somewhere")
    go(config(epochs=4), tmp_path / "run", resume=True, start=lambda detector: calls.append(detector) or "again")
    assert len(calls) == 1
    assert "from somewhere" in capsys.readouterr().err


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = synthesise(tmp_path_factory.mktemp("scenes") / "data", 5, 64, val=2)
    return [read_coco(*find_split(folder, split)) for split in ("train", "val")]


def small(**train):
    """A real detector that a CPU trains in a moment."""
    data = {"short_sides": [64], "long_side": 96, "colour": 0.3, "copy_paste": 0.5}
    weights, rpn = {"weights": "none", "channels": 16}, {"before_nms": [50, 50], "after_nms": [20, 20], "sampled": 16}
    train = {"batch": 2, "accumulate": 2, "epochs": 2, "lr": 0.1, "log_every": 1, "workers": 0} | train
    changes = {"data": data, "backbone": weights, "rpn": rpn, "sampling": {"rois": 16}, "train": train}
    return settings.merge(recipe("seanet_lite"), changes)


def test_real_run_goes_on_exactly_with_other_workers(tmp_path, scenes, monkeypatch):
    """In the middle of a pass, with augmentation, random RoIs and averaged weights."""

    def work(config, folder, stop=0, **options):
        job = replace(coco_job(config, *scenes), evaluate=lambda detector: {"segm/AP": 0.5})
        whole = job.batches

        def interrupting(step):
            for number, batch in enumerate(whole(step), 1):
                if number == stop:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        return run(
            config, replace(job, batches=interrupting), tmp_path / folder, device="cpu", tensorboard=False, **options
        )

    work(small(ema=0.9), "whole")
    assert work(small(ema=0.9, workers=1), "cut", stop=4).exit_code == 143
    work(small(ema=0.9), "cut", resume=True)
    found, expected = rows(tmp_path / "cut"), rows(tmp_path / "whole")
    assert len(found) == 7
    assert [row | {"seconds": ""} for row in found] == [row | {"seconds": ""} for row in expected]
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_train_and_start_from_another_run(tmp_path, scenes, capsys):
    first = train(small(epochs=1), tuple(scenes), tmp_path / "first", device="cpu", tensorboard=False)
    assert set(first.best["metrics"]) >= {"bbox/AP", "segm/AP", "segm/AP50"}
    assert "backbone: random weights" in capsys.readouterr().err
    facts = json.loads((first.folder / "run.json").read_text())
    assert facts["data"]["val"]["images"] == 2
    fewer = replace(small(epochs=1), mask=ClassicMask(convs=2))
    train(fewer, tuple(scenes), tmp_path / "second", init=first.folder, device="cpu", tensorboard=False)
    said = " ".join(capsys.readouterr().err.split())
    assert f"weights of {first.folder / 'best.safetensors'}; these begin anew: mask_head" in said


@pytest.mark.parametrize(("empty", "purpose"), [(0, "train on"), (1, "evaluate on")])
def test_no_images(tmp_path, scenes, empty, purpose):
    sets = list(scenes)
    sets[empty] = replace(sets[empty], images=())
    with pytest.raises(AnnotationError, match=f"nothing to {purpose}"):
        train(small(), tuple(sets), tmp_path / "run", device="cpu", tensorboard=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bad", [0, 1])
def test_data_with_too_much_skipped_are_refused(tmp_path, scenes, bad):
    sets = [replace(part, repairs=Repairs(annotations=10)) for part in scenes]
    sets[bad].repairs.note("annotation", "skipped", "no segmentation", 3)
    with pytest.raises(
        AnnotationError, match=r"10\.0% of its annotations had to be skipped, more than max_bad = 1\.0%"
    ):
        train(small(), tuple(sets), tmp_path / "run", device="cpu", tensorboard=False)
    assert not (tmp_path / "run").exists()


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}]
import torch, test_train as t
torch.set_num_threads(1)
config = t.config(batch=4, devices=2)

def shares(train, step):
    import os
    rank = int(os.environ.get("LOCAL_RANK", 0))
    for batch in t.batches(train, step):
        yield t.Batch(batch.images[rank::2], batch.sizes[rank::2], None, batch.ids[rank::2], batch.seeds[rank::2])

result = t.go(config, t.Path({out!r}), batches=shares)
assert [entry["step"] for entry in result.history] == [2, 4, 6], result.history
"""


@pytest.mark.slow
def test_two_processes(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), out=str(tmp_path / "run")))
    subprocess.run([sys.executable, script], check=True, timeout=200, cwd=tmp_path)
    assert checkpoint.read_meta(tmp_path / "run" / "last.safetensors").step == 6
