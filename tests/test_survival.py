"""Runs that survive: damaged checkpoints, second runs, full disks, losses that are not finite, processes that die.

"The same" means bit for bit what the undisturbed run leaves.
"""

import errno
import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from seanet import checkpoint
from seanet.cli import app
from seanet.data.coco import find_split, read_coco
from seanet.data.synth import synthesise
from seanet.errors import CheckpointError, DivergenceError, ImageError, OutOfMemory, UserError, WorkerError
from seanet.data import feed
from seanet.training import folder, nonfinite
from seanet.training.coco import coco_job
from seanet.training.replay import replay
from seanet.training.run import run
from seanet.training.same import check_same, identity
from test_train import Tiny, batches, config, go, losses, rows, same, small, weights

SCORE = {"segm/AP": 0.5}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The undisturbed run of three passes of three steps."""
    out = tmp_path_factory.mktemp("whole") / "run"
    go(config(), out)
    return out


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = synthesise(tmp_path_factory.mktemp("scenes") / "data", 6, 64, val=1)
    return [read_coco(*find_split(out, split)) for split in ("train", "val")]


def cut(out, step):
    """A run that a signal ended after a step."""

    def interrupting(train, start):
        for number, batch in enumerate(batches(train, start), start):
            if number == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    assert go(config(), out, batches=interrupting).exit_code == 143
    return out


def equal(a, b):
    return losses(a) == losses(b) and all(
        same(weights(a, name), weights(b, name)) for name in (checkpoint.LAST, checkpoint.BEST)
    )


def spoil(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


# Checkpoints


def test_the_checkpoint_before_the_last_is_kept(tmp_path):
    cut(tmp_path / "run", 5)
    steps = [checkpoint.read_meta(tmp_path / "run" / name).step for name in (checkpoint.LAST, checkpoint.PREVIOUS)]
    assert steps == [5, 3]


@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_a_damaged_last_checkpoint_costs_only_its_steps(tmp_path, whole, capsys, how):
    out = cut(tmp_path / "run", 5)
    last = out / checkpoint.LAST
    if how == "flipped":
        spoil(last)
    elif how == "cut":
        last.write_bytes(last.read_bytes()[:1000])
    else:
        last.unlink()
    capsys.readouterr()
    go(config(), out, resume=True)
    said = capsys.readouterr().err
    assert "warning: " in said
    assert str(last) in said
    assert "going on from previous.safetensors, the state after step 3" in said
    assert equal(out, whole)
    assert (out / folder.DAMAGED).exists() == (how != "missing")


def test_two_damaged_checkpoints_are_named(tmp_path):
    out = cut(tmp_path / "run", 5)
    spoil(out / checkpoint.LAST)
    spoil(out / checkpoint.PREVIOUS)
    with pytest.raises(CheckpointError, match=r"nothing to resume.*last\.safetensors is damaged.*previous.*damaged"):
        go(config(), out, resume=True)


def test_a_run_whose_last_checkpoint_is_gone_does_not_begin_anew(tmp_path, whole):
    (tmp_path / "config.yaml").touch()
    (tmp_path / checkpoint.BEST).write_bytes((whole / checkpoint.BEST).read_bytes())
    with pytest.raises(CheckpointError, match=r"holds best\.safetensors but no last\.safetensors to resume"):
        go(config(), tmp_path, resume=True)


def test_damaged_best_weights_are_not_replaced_in_silence(tmp_path, whole):
    for name in (checkpoint.BEST, checkpoint.LAST):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    spoil(tmp_path / checkpoint.BEST)
    with pytest.raises(CheckpointError, match=r"best\.safetensors is damaged.*name last\.safetensors"):
        checkpoint.read_model(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_one_of_two_checkpoints_is_whole_whenever_a_save_stops(tmp_path, monkeypatch, links):
    """The save stops at each of its renames and flushes in turn, as a killed process does."""
    meta = checkpoint.Meta(config(), ("thing",), (1,))
    real = {name: getattr(os, name) for name in ("replace", "link", "fsync", "unlink")}
    calls = {"left": 0}

    class Killed(BaseException):
        pass

    def counting(name):
        def call(*args, **options):
            calls["left"] -= 1
            if calls["left"] < 0:
                raise Killed
            if name == "link" and not links:
                raise OSError(errno.EPERM, "no links here")
            return real[name](*args, **options)

        return call

    def save(step, allowed):
        calls["left"] = allowed
        keep = tmp_path / checkpoint.PREVIOUS
        state = {"callbacks": {"Keeper": {"history": []}}}
        weights = {"w": torch.full((3,), float(step))}
        checkpoint.save_state(tmp_path / checkpoint.LAST, weights, replace(meta, step=step), state, keep)

    for name in real:
        monkeypatch.setattr(os, name, counting(name))
    save(1, 99)
    save(2, 99)
    done, complete = 2, False
    for allowed in range(20):
        step = done + 1
        try:
            save(step, allowed)
            complete = True
        except Killed:
            pass
        calls["left"] = 99
        found = folder.newest(tmp_path)
        assert found is not None
        assert found.meta.step in (step, done)
        done = found.meta.step
        if complete:
            break
    assert complete
    assert done == step


def test_a_last_save_that_fails_is_an_error_and_can_be_made_up_for(tmp_path, whole, monkeypatch):
    """The disk is full from the final validation on: the one save left fails, and the evaluation is made again."""
    real, full = checkpoint.save_file, []

    def save_file(tensors, path, metadata):
        if full and "last" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, metadata)

    def evaluate(detector):
        score = {"segm/AP": float(detector.conv.weight.detach().abs().sum()), "bbox/AP": None}
        if evaluate.calls == 2:
            full.append(True)
        evaluate.calls += 1
        return score

    evaluate.calls = 0
    monkeypatch.setattr(checkpoint, "save_file", save_file)
    with pytest.raises(CheckpointError, match=r"the disk is full.* bytes are needed and [\d,]+ bytes are free"):
        go(config(), tmp_path / "run", evaluate=evaluate)
    full.clear()
    result = go(config(), tmp_path / "run", resume=True)
    assert [entry["step"] for entry in result.history] == [3, 6, 9]
    assert equal(tmp_path / "run", whole)
    assert (tmp_path / "run" / "metrics.json").read_text() == (whole / "metrics.json").read_text()
    assert [row["step"] for row in rows(tmp_path / "run")] == [row["step"] for row in rows(whole)]


# Folders


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path):
    """Killed as it may be, and whatever processes it leaves for a while."""
    out, into = os.pipe()
    if (first := os.fork()) == 0:
        with folder.held(tmp_path):
            left = os.fork()
            os.write(into, b"%d" % left) if left else None
            time.sleep(60)
    left = int(os.read(out, 99))
    try:
        with pytest.raises(UserError, match=rf"is in use: process {first} on \S+ trains there"), folder.held(tmp_path):
            pass
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    with folder.held(tmp_path):
        os.kill(left, signal.SIGKILL)


def test_a_run_holds_its_folder(tmp_path):
    def second(detector):
        with pytest.raises(UserError, match="is in use"):
            go(config(), tmp_path / "run", resume=True)
        return SCORE

    go(config(epochs=1), tmp_path / "run", evaluate=second)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match=r"run: cannot write there \(a file stands there\)"):
        go(config(), tmp_path / "run")
    with pytest.raises(UserError, match=r"deeper: cannot write there \(Not a directory\)"):
        go(config(), tmp_path / "run" / "deeper")


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refused(*args, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refused)
    with pytest.raises(UserError, match=r"run: cannot write there \(Read-only file system\)"):
        go(config(), tmp_path / "run")


def test_too_little_space_is_said_before_the_first_step(tmp_path, monkeypatch):
    """Weights of best, and three times weights and momenta: 3 x 2 x 9 + 2 numbers are trained, 11 more are kept."""
    sizes = replace_free(monkeypatch, 1000)
    with pytest.raises(UserError, match=r"1,000 bytes free, but the checkpoints of this run need 1,\d\d\d") as error:
        go(config(), tmp_path / "run")
    assert error.value.value == sizes.free == 1000
    trained, kept = 4 * (3 * 2 * 9 + 2), 4 * (2 * 4) + 8
    replace_free(monkeypatch, 4 * (trained + kept) + 3 * trained - 1)
    with pytest.raises(UserError, match="make room"):
        go(config(), tmp_path / "run")
    replace_free(monkeypatch, 4 * (trained + kept) + 3 * trained)
    go(config(epochs=1), tmp_path / "run")


def replace_free(monkeypatch, free):
    import shutil

    sizes = shutil._ntuple_diskusage(10**9, 10**9 - free, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: sizes)
    return sizes


@pytest.mark.parametrize(
    "left", [["metrics.csv"], ["metrics.csv", "config.yaml", "run.json", ".lock", ".last.safetensors.7.tmp"]]
)
def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path, whole, left):
    for name in left:
        (tmp_path / name).write_bytes(b"step,lr,loss\n1,0.1,0.2\n2,0.")
    go(config(), tmp_path, resume=True)
    assert equal(tmp_path, whole)
    assert not list(tmp_path.glob("*.tmp"))


# The log


def test_a_log_on_a_full_disk_is_written_when_there_is_room(tmp_path, whole, monkeypatch, capsys):
    real, full = os.replace, [True]

    def refusing(source, target):
        if str(target).endswith((".csv", ".json", ".yaml")) and full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    opened = Path.open

    def no_room(self, mode="r", *args, **options):
        if self.suffix == ".csv" and mode == "a" and full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *args, **options)

    def evaluate(detector):
        full[0] = not full[0]  # no room in the second pass
        return {"segm/AP": float(detector.conv.weight.detach().abs().sum()), "bbox/AP": None}

    full[0] = False
    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr(Path, "open", no_room)
    go(config(), tmp_path / "run", evaluate=evaluate)
    said = capsys.readouterr().err
    assert said.count("the log cannot be written (No space left on device)") == 2  # in the second pass, and at the end
    assert said.count("the log is written again, nothing of it is missing") == 1
    full[0] = False
    assert losses(tmp_path / "run") == losses(whole)[: len(losses(tmp_path / "run"))]


def test_half_a_row_is_no_row(tmp_path):
    from seanet.training.log import Table

    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,lr,loss\r\n1,0.1,0.5\r\n12,0.1,0.5\r\n\0\0\0\r\n1")
    assert [row["step"] for row in Table(path, after=99).rows] == ["1", "12"]
    assert path.read_text().split() == ["step,lr,loss", "1,0.1,0.5", "12,0.1,0.5"]


def test_an_evaluation_that_was_not_saved_leaves_no_row(tmp_path):
    from seanet.training.log import Table

    path = tmp_path / "metrics.csv"
    path.write_text("step,lr,segm/AP\n3,0.1,\n3,,0.5\n6,0.1,\n6,,0.6\n")
    assert [row["segm/AP"] for row in Table(path, after=6, evaluated=3).rows] == ["", "0.5", ""]


# Losses that are not finite


class Diverging(Tiny):
    """Loss or gradient of some steps, numbered from 0, are not finite; steps are told by the seeds of their batches."""

    steps, where = {6}, "loss"

    def forward(self, batch):
        found = super().forward(batch)
        if batch.seed // 2 not in self.steps:
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


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_left_out_leaves_momenta_alone(tmp_path, optimizer):
    """A run whose second step is left out is one that never had it, but for the rates, which are of the place."""
    settings = config(nonfinite="skip", optimizer=optimizer, steps=3, warmup=0, schedule="cosine", lr=0.01, drops=())
    constant = replace(settings, train=replace(settings.train, schedule="step"))
    go(constant, tmp_path / "skip", build=diverging([1]))

    def without(train, step):
        for batch in batches(train, step):
            if batch.seed // 2 != 1:
                yield batch

    two = replace(constant, train=replace(constant.train, steps=2))
    go(two, tmp_path / "never", batches=without)
    assert same(weights(tmp_path / "skip"), weights(tmp_path / "never"))


def test_three_in_a_row_end_the_run(tmp_path):
    with pytest.raises(DivergenceError, match=r"loss of step 6 is not finite.*: 3 such steps in a row end the run"):
        go(config(nonfinite="skip", epochs=5), tmp_path / "run", build=diverging([1, 3, 4, 5]))
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.LAST).step == 5
    assert len(list((tmp_path / "run").glob("bad_batch_*"))) == nonfinite.KEPT


def test_running_statistics_forget_the_step(tmp_path):
    class Normed(diverging([])):
        def train(self, mode=True):
            return nn.Module.train(self, mode)

        def forward(self, batch):
            found = super().forward(batch)
            return found if batch.seed // 2 != 4 else found | {"level": self.norm(self.conv(batch.images / 0)).sum()}

    go(config(nonfinite="skip"), tmp_path / "run", build=Normed)
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


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


def test_nothing_to_replay(tmp_path, whole):
    with pytest.raises(CheckpointError, match="no step of this run was kept"):
        replay(whole)
    with pytest.raises(CheckpointError, match=r"last\.safetensors holds no batch"):
        replay(whole / checkpoint.LAST)


# Processes that read images


def work(settings, scenes, out, **options):
    job = replace(coco_job(settings, *scenes), evaluate=lambda detector: SCORE)
    return run(settings, job, out, device="cpu", tensorboard=False, **options)


def dying(monkeypatch, place, image, times, how=signal.SIGKILL):
    """A process that is to read an image ends instead, so many times; ``place`` counts them across processes."""
    from seanet.data.loader import TrainSet

    place.mkdir()
    read = TrainSet.__getitem__

    def deadly(self, key):
        marks = len(list(place.iterdir()))
        if key[1] == image and marks < times:
            (place / str(marks)).touch()
            os.kill(os.getpid(), how)
        return read(self, key)

    monkeypatch.setattr(TrainSet, "__getitem__", deadly)


def test_a_killed_reader_leaves_no_trace(tmp_path, scenes, monkeypatch, caplog):
    settings = small(workers=2, epochs=2, accumulate=1)
    work(settings, scenes, tmp_path / "whole")
    dying(monkeypatch, tmp_path / "marks", 3, 2)
    work(settings, scenes, tmp_path / "run")
    assert caplog.text.count("reading goes on at the same place") == 2
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def losses_of(out):
    return [row | {"seconds": ""} for row in rows(out)]


def test_an_image_that_kills_again_and_again_is_named(tmp_path, scenes, monkeypatch):
    settings = small(workers=2, epochs=2, batch=1, accumulate=1)
    dying(monkeypatch, tmp_path / "marks", 3, 99, signal.SIGSEGV)
    record = scenes[0].images[3]
    with pytest.raises(WorkerError, match="3 times in a row on the images") as error:
        work(settings, scenes, tmp_path / "run")
    assert error.value.image_id == [record.id]
    assert error.value.file == str(record.path)


def test_a_reader_that_hangs_is_replaced(tmp_path, scenes, monkeypatch, caplog):
    monkeypatch.setattr(feed, "PATIENCE", 3.0)
    settings = small(workers=1, epochs=1, accumulate=1)
    dying(monkeypatch, tmp_path / "marks", 3, 1, signal.SIGSTOP)
    work(settings, scenes, tmp_path / "run")
    assert "no batch came within" in caplog.text
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.LAST).step == 3


def test_a_file_that_goes_away_costs_no_step(tmp_path, capsys):
    """Missing in the midst of a step; put back, the run goes on as if nothing had been."""
    out = synthesise(tmp_path / "data", 6, 64, val=1)
    sets = [read_coco(*find_split(out, split)) for split in ("train", "val")]
    settings = small(epochs=2)
    work(settings, sets, tmp_path / "whole")
    job = coco_job(settings, *sets)
    last = [part for _, part in zip(range(8), job.batches(0), strict=False)][3]  # second part of step 2
    victim = next(image.path for image in sets[0].images if image.id == last.ids[0])
    content = victim.read_bytes()

    def interfering(step):
        for number, batch in enumerate(job.batches(step)):
            if number == 2 and step == 0:
                victim.unlink()
            yield batch

    broken = replace(job, batches=interfering, evaluate=lambda detector: SCORE)
    with pytest.raises(ImageError, match="does not exist") as error:
        run(settings, broken, tmp_path / "run", device="cpu", tensorboard=False)
    assert error.value.file == victim
    assert "the state after step 1 is saved: --resume goes on from there" in capsys.readouterr().err
    victim.write_bytes(content)
    work(settings, sets, tmp_path / "run", resume=True)
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


# Memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
    ],
)
def test_too_little_memory_says_what_to_change(tmp_path, error):
    class Large(Tiny):
        def forward(self, batch):
            if batch.seed == 16:
                raise error
            return super().forward(batch)

    message = (
        r"micro-batches of 4 images .*train\.accumulate=2 takes the same batch in smaller parts.*--init \S+last\.safe"
    )
    with pytest.raises(OutOfMemory, match=message):
        go(config(batch=4, steps=9), tmp_path / "run", build=Large)
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.LAST).step == 4
    go(config(batch=4, accumulate=2, steps=2), tmp_path / "half")
    with pytest.raises(RuntimeError, match="another"):
        go(config(), tmp_path / "other", evaluate=lambda detector: (_ for _ in ()).throw(RuntimeError("another")))


# What a resumed run may change

CHANGES = [
    ("train.lr", 0.1), ("train.batch", 3), ("train.accumulate", 2), ("train.optimizer", "adamw"), ("train.momentum", 0.5),
    ("train.weight_decay", 0.0), ("train.schedule", "cosine"), ("train.drops", (0.5,)), ("train.warmup", 3),
    ("train.clip", 1.0), ("train.ema", 0.9), ("train.seed", 1), ("train.precision", "bf16"), ("data.flip", 0.0),
    ("detections.score", 0.1), ("backbone.norm", "batch"), ("geometry", "legacy"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), CHANGES)
def test_settings_that_make_it_another_run_are_refused(tmp_path, whole, key, value):
    room, _, name = key.rpartition(".")
    changed = config()
    changed = replace(changed, **({room: replace(getattr(changed, room), **{name: value})} if room else {name: value}))
    found = folder.newest(whole)
    with pytest.raises(
        CheckpointError, match=rf"other settings than those asked for(.|\n)*  {re.escape(key)}: "
    ) as error:
        check_same(found, changed, ("thing",), {})
    assert len(error.value.value) == 1
    assert "--init" in str(error.value)


def test_a_longer_run_says_what_becomes_of_the_rate(tmp_path, capsys):
    """Six of nine steps are two thirds, so the next would have a tenth of the rate; they are half of twelve."""
    cut(tmp_path / "run", 6)
    capsys.readouterr()
    go(config(epochs=4, workers=0, log_every=2), tmp_path / "run", resume=True)
    said = capsys.readouterr().err
    assert "other settings from here on: train.epochs: 3.0 -> 4; train.log_every: 1 -> 2" in said
    assert "the rate of step 7 is 0.1, where it would have been 0.01; the steps made keep theirs" in said


def test_other_data_are_refused(scenes, whole):
    train, val = scenes
    found = replace(folder.newest(whole), state={"history": [], "data": identity({"train": train, "val": val})})

    def differs(images):
        with pytest.raises(CheckpointError, match="other data than those asked for") as error:
            check_same(found, config(), ("thing",), identity({"train": replace(train, images=images), "val": val}))
        return error.value.value

    first, *rest = train.images
    objects = sum(len(image.annotations) for image in train.images)
    assert check_same(found, config(), ("thing",), identity({"train": train, "val": val})) == []
    assert differs(tuple(rest)) == [
        "train: 6 -> 5 images",
        f"train: {objects} -> {objects - len(first.annotations)} objects",
    ]
    assert differs((*rest, first)) == ["train: other ids, sizes or order of images", "train: other objects"]
    assert differs((replace(first, width=first.width + 1), *rest)) == ["train: other ids, sizes or order of images"]
    turned = replace(first, annotations=first.annotations[::-1])
    assert len(first.annotations) > 1
    assert differs((turned, *rest)) == ["train: other objects"]
    elsewhere = tuple(replace(image, path=Path("/elsewhere") / image.path.name) for image in train.images)
    same = replace(train, images=elsewhere, file=Path("/elsewhere/train.json"))
    assert check_same(found, config(), ("thing",), identity({"train": same, "val": val})) == []


def test_another_version_is_said(whole):
    found = folder.newest(whole)
    old = replace(found, meta=replace(found.meta, versions=found.meta.versions | {"torch": "2.0"}))
    assert check_same(old, config(), ("thing",), {})[0].startswith("warning: torch 2.0 -> ")


# Signals


@pytest.mark.parametrize("moment", ["build", "first batch", "save"])
def test_a_signal_ends_a_run_whenever_it_comes(tmp_path, whole, monkeypatch, moment):
    def tell(when):
        if when == moment and not tell.told:
            tell.told = True
            os.kill(os.getpid(), signal.SIGTERM)

    def telling(train, step):
        for batch in batches(train, step):
            tell("first batch")
            yield batch

    real = checkpoint.save_file

    def save_file(tensors, path, metadata):
        tell("save")
        real(tensors, path, metadata)

    class Built(Tiny):
        def train(self, mode=True):
            tell("build")
            return super().train(mode)

    tell.told = False
    monkeypatch.setattr(checkpoint, "save_file", save_file)
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = go(config(), tmp_path / "run", build=Built, batches=telling)
        assert result.exit_code == 143
    except KeyboardInterrupt:  # before there is a run to end
        assert moment == "build"
    finally:
        signal.signal(signal.SIGTERM, former)
    go(config(), tmp_path / "run", resume=True)
    assert equal(tmp_path / "run", whole)


def test_a_second_signal_in_a_save_does_no_harm(tmp_path, whole, monkeypatch):
    real = checkpoint.save_file

    def save_file(tensors, path, metadata):
        real(tensors, path, metadata)
        if metadata.get("trainer") and json.loads(metadata["seanet"])["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    def telling(train, step):
        for number, batch in enumerate(batches(train, step), step):
            if number == 4 and not step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(checkpoint, "save_file", save_file)
    assert go(config(), tmp_path / "run", batches=telling).exit_code == 143
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.LAST).step == 3
    monkeypatch.setattr(checkpoint, "save_file", real)
    go(config(), tmp_path / "run", resume=True)
    assert equal(tmp_path / "run", whole)
