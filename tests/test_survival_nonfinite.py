"""Losses and gradients that are not finite."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from seanet import checkpoint
from seanet.cli import app
from seanet.errors import CheckpointError, DivergenceError
from seanet.training import nonfinite, train
from seanet.training.replay import replay
from survival import cut, drawn, undisturbed
from test_train import Tiny, batches, config, go, losses, rows, same, small, weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return undisturbed(tmp_path_factory)


class Diverging(Tiny):
    """Loss or gradient of some steps, numbered from 0, or of batches with ``bad`` seeds are not finite."""

    steps, bad, where = set(), set(), "loss"

    def forward(self, batch):
        found = super().forward(batch)
        if batch.seed // 2 not in self.steps and batch.seed not in self.bad:
            return found
        if self.where == "loss":
            return found | {"level": found["level"] / 0}
        return found | {"shape": found["shape"] + (self.conv.weight - self.conv.weight.detach()).abs().sum().sqrt()}


def diverging(steps, where="loss"):
    return type("Diverging", (Diverging,), {"steps": set(steps), "where": where})


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(tmp_path, whole, where):
    with pytest.raises(
        DivergenceError, match=rf"the {where} of step 6 is not finite .* ids 4, 5: 'seanet replay"
    ) as error:
        go(config(), tmp_path / "run", build=diverging([5], where))
    assert error.value.image_id == [4, 5]
    cut(tmp_path / "cut", 5)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "cut"))
    kept, meta, state, parts = nonfinite.read_bad(tmp_path / "run" / "bad_batch_6.safetensors")
    assert (meta.step, state["step"], parts[0].ids, parts[0].seed) == (5, 6, [4, 5], 10)
    assert same(kept, weights(tmp_path / "cut"))
    assert torch.equal(parts[0].images, next(iter(batches(config().train, 5))).images)


def test_the_run_goes_on_with_steps_left_out(tmp_path, whole):
    """Resumed with other settings of what to do, it is the run that left them out from the start."""
    with pytest.raises(DivergenceError):
        go(config(), tmp_path / "run", build=diverging([5]))
    go(config(nonfinite="skip"), tmp_path / "run", build=diverging([5]), resume=True)
    go(config(nonfinite="skip"), tmp_path / "skip", build=diverging([5]))
    assert same(weights(tmp_path / "run"), weights(tmp_path / "skip"))
    found = rows(tmp_path / "skip")
    assert [row["step"] for row in found if row["skipped"] == "1"] == ["6"]
    assert losses(tmp_path / "skip")[:5] == losses(whole)[:5]


class Normed(Diverging):
    """Its statistics change with each image, also in the midst of a step that is left out."""

    def train(self, mode=True):
        return nn.Module.train(self, mode)


@pytest.mark.parametrize(("optimizer", "ema", "accumulate"), [("sgd", None, 1), ("adamw", 0.9, 1), ("sgd", 0.9, 2)])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_left_out_never_was(tmp_path, optimizer, ema, accumulate, where):
    """Weights, momenta, averages and statistics are those of a run that never had it, whole or cut and resumed after it.

    Of two parts the second is bad, and both are left out.
    """
    train = {"nonfinite": "skip", "optimizer": optimizer, "ema": ema, "accumulate": accumulate, "lr": 0.01}
    settings = config(**train, steps=4, epochs=1, warmup=0, drops=())
    made = type("Made", (Normed,), {"bad": {2 + 2 // accumulate * (accumulate - 1)}, "where": where})

    def feeding(skipped, end=None):
        def feed(train, step):
            for number, batch in enumerate(batches(train, step), step * accumulate):
                if number // accumulate == end:
                    os.kill(os.getpid(), signal.SIGTERM)
                if number // accumulate != skipped:
                    yield batch

        return feed

    go(settings, tmp_path / "skip", build=made)
    assert go(settings, tmp_path / "cut", build=made, batches=feeding(None, 1)).exit_code == 143
    go(settings, tmp_path / "cut", build=made, resume=True)
    three = replace(settings, train=replace(settings.train, steps=3))
    go(three, tmp_path / "never", build=made, batches=feeding(1))
    (never,) = [checkpoint.read_state(tmp_path / "never" / checkpoint.LAST)]
    for name in ("skip", "cut"):
        found = checkpoint.read_state(tmp_path / name / checkpoint.LAST)
        assert same(found[0], never[0])
        if ema:
            assert same(found[2]["current_model_state"], never[2]["current_model_state"])
    assert [row["step"] for row in rows(tmp_path / "skip") if row["skipped"] == "1"] == ["2"]


def test_three_in_a_row_end_the_run(tmp_path):
    with pytest.raises(DivergenceError, match=r"loss of step 6 is not finite.*: 3 such steps in a row end the run"):
        go(config(nonfinite="skip", epochs=5), tmp_path / "run", build=diverging([1, 3, 4, 5]))
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.LAST).step == 5
    assert len(list((tmp_path / "run").glob("bad_batch_*"))) == nonfinite.KEPT


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_replay_says_where_it_begins(tmp_path, where):
    """The loss is an output of the whole; the gradient of a root at zero is that of the convolution's weight."""
    made = diverging([5], where)
    with pytest.raises(DivergenceError):
        go(config(), tmp_path / "run", build=made)
    account = replay(tmp_path / "run", lambda config, classes: made())
    assert (account.reproduced, account.step, account.ids, account.images) == (True, 6, [4, 5], [4, 5])
    assert (account.module, account.gradient) == (
        ("the losses", "conv.weight") if where == "loss" else ("", "conv.weight")
    )
    image = next(iter(batches(config().train, 5))).images[0]
    assert account.ranges[0] == (float(image.min()), float(image.max()))
    assert replay(tmp_path / "run", lambda config, classes: made()) == account
    healthy = replay(tmp_path / "run", lambda config, classes: Tiny())
    assert (healthy.reproduced, healthy.images) == (False, [])


def test_a_replay_names_the_module_and_the_image(tmp_path, monkeypatch):
    class Spoilt(Tiny):
        """What the convolution gives is infinite on one image."""

        def forward(self, batch):
            found = super().forward(batch)
            hot = torch.tensor([id == 3 for id in batch.ids]).float().reshape(-1, 1, 1, 1)
            return found | {"level": self.conv(hot / (1 - hot) + batch.images.float()).mean()}

    with pytest.raises(DivergenceError, match="of step 2 is not finite"):
        go(config(), tmp_path / "run", build=Spoilt)
    account = replay(tmp_path / "run", lambda config, classes: Spoilt())
    assert (account.ids, account.images, account.module) == ([2, 3], [3], "conv")
    monkeypatch.setattr("seanet.training.replay.replay", lambda path: account)
    shown = CliRunner().invoke(app, ["replay", str(tmp_path / "run")])
    assert shown.exit_code == 0
    assert "The first output that is not finite is that of conv." in shown.output
    assert "Images that bring it alone: with the ids 3." in shown.output


def test_a_real_detector_is_replayed(tmp_path, tmp_path_factory):
    """A rate that no network bears: after its first step weights are so large that losses or gradients overflow."""
    reckless = small(lr=1e7, warmup=0, clip=None, accumulate=1, steps=4)
    with pytest.raises(DivergenceError, match="of step 2 is not finite"):
        train(reckless, tuple(drawn(tmp_path_factory)), tmp_path / "run", device="cpu", tensorboard=False)
    account = replay(tmp_path / "run")
    assert (account.reproduced, account.step, len(account.ids)) == (True, 2, 2)
    assert account.images
    assert account.module or account.gradient


def test_nothing_to_replay(tmp_path, whole):
    with pytest.raises(CheckpointError, match="no step of this run was kept"):
        replay(whole)
    with pytest.raises(CheckpointError, match=r"last\.safetensors holds no batch"):
        replay(whole / checkpoint.LAST)


TWO = """
import os, sys
sys.path[:0] = [{tests!r}]
import torch, test_train as t
torch.set_num_threads(1)
rank = int(os.environ.get("LOCAL_RANK", 0))

class Bad(t.Tiny):
    def forward(self, batch):
        found = super().forward(batch)
        return found | {{"level": found["level"] / (rank != 1 or batch.ids != [5])}}

def shares(train, step):
    for batch in t.batches(train, step):
        yield t.Batch(batch.images[rank::2], batch.sizes[rank::2], None, batch.ids[rank::2], batch.seeds[rank::2])

settings = t.config(batch=4, devices=2, accumulate=2, steps=4, epochs=1, ema=0.9, nonfinite="skip")
t.go(settings, t.Path({out!r}), build=Bad, batches=shares)
"""


@pytest.mark.slow
def test_two_processes_leave_out_the_same_step(tmp_path):
    """Image 5 is bad in the second process alone: in the first part of step 2 and the second part of step 3."""
    script = tmp_path / "two.py"
    script.write_text(TWO.format(tests=str(Path(__file__).parent), out=str(tmp_path / "run")))
    subprocess.run([sys.executable, script], check=True, timeout=200, cwd=tmp_path)
    assert [row["step"] for row in rows(tmp_path / "run") if row["skipped"] == "1"] == ["2", "3"]
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())
    kept = {path.name for path in (tmp_path / "run").glob(nonfinite.PATTERN)}
    assert {"bad_batch_2.safetensors", "bad_batch_2.1.safetensors"} <= kept
