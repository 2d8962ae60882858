"""Checkpoints that are damaged, missing or cannot be written."""

import errno
import os
import re
from dataclasses import replace

import pytest
import torch

from seanet import checkpoint
from seanet.errors import CheckpointError
from seanet.training import folder
from survival import cut, equal, undisturbed
from test_train import config, go, rows, same, weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return undisturbed(tmp_path_factory)


def spoil(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


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
        if full and checkpoint.LAST in path.name:
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


def failing_best(monkeypatch, times):
    """The disk is full when the best weights are written, so many times."""
    real, calls = checkpoint.save_file, []

    def save_file(tensors, path, metadata):
        if checkpoint.BEST in path.name:
            calls.append(path)
            if len(calls) <= times:
                raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", save_file)


def test_best_weights_wait_for_room(tmp_path, whole, monkeypatch, capsys):
    """They are those of their step, although training has gone on when they are written."""
    failing_best(monkeypatch, 2)
    scores = iter([0.9, 0.1, 0.2])
    found = []

    def evaluate(detector):
        found.append({name: value.clone() for name, value in detector.state_dict().items()})
        return {"segm/AP": next(scores)}

    go(config(ema=0.5), tmp_path / "run", evaluate=evaluate)
    assert len(re.findall(r"warning: \S+best\.safetensors could not be written", capsys.readouterr().err)) == 2
    assert same(weights(tmp_path / "run", checkpoint.BEST), found[0])
    assert not same(found[0], found[1])
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.BEST).step == 3


def test_best_weights_that_never_find_room_end_the_run(tmp_path, whole, monkeypatch):
    """With the state before that evaluation, so that a resumed run makes it again."""
    failing_best(monkeypatch, 99)
    with pytest.raises(CheckpointError, match=r"best\.safetensors could not be written \(the disk is full\)"):
        go(config(), tmp_path / "run")
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.LAST).step == 3
    monkeypatch.undo()
    go(config(), tmp_path / "run", resume=True)
    assert equal(tmp_path / "run", whole)
    assert (tmp_path / "run" / "metrics.json").read_text() == (whole / "metrics.json").read_text()


@pytest.mark.parametrize("steps", [3, 6])
def test_a_run_does_not_end_well_without_its_best_weights(tmp_path, monkeypatch, steps):
    failing_best(monkeypatch, 99)
    with pytest.raises(CheckpointError, match="best"):
        go(config(steps=steps, epochs=1, validate_every=steps // 3), tmp_path / "run")
    with pytest.raises(CheckpointError, match="best"):  # only the evaluation is left to make
        go(config(steps=steps, epochs=1, validate_every=steps // 3), tmp_path / "run", resume=True)
