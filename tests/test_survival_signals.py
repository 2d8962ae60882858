"""Signals at any moment of a run."""

import json
import os
import signal

import pytest

from seanet import checkpoint
from survival import equal, undisturbed
from test_train import Tiny, batches, config, go


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return undisturbed(tmp_path_factory)


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
