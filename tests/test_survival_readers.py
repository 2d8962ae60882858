"""Processes that read images and die or hang, and files that go away."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest

from seanet import checkpoint
from seanet.data import feed
from seanet.data.coco import find_split, read_coco
from seanet.data.loader import EvalSet, TrainSet, train_loader
from seanet.data.synth import synthesise
from seanet.errors import ImageError, WorkerError
from seanet.evaluation.run import batches
from seanet.training.coco import coco_job
from seanet.training.run import run
from survival import SCORE, drawn, losses_of
from test_train import Tiny, same, small, weights


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return drawn(tmp_path_factory)


class Dim(Tiny):
    """As bright as the images are: what it learns tells them apart."""

    def forward(self, batch):
        return {"level": self.conv(batch.images.float() / 255).square().mean()}


def work(settings, scenes, out, evaluate=lambda detector: SCORE, **options):
    job = replace(coco_job(settings, *scenes), build=Dim, evaluate=evaluate)
    return run(settings, job, out, device="cpu", tensorboard=False, **options)


def test_a_process_that_is_being_begun_has_not_ended(scenes):
    """A signal that another has stopped may come in the midst of beginning it."""
    readers = feed.Readers(train_loader(scenes[0], small().data, batch=1, workers=1))
    readers.processes.append(multiprocessing.get_context().Process(target=print))
    assert not readers.ended()
    readers.close()


def dying(monkeypatch, kind, place, image, times, how=signal.SIGKILL):
    """A process that is to read an image ends instead, so many times; ``place`` counts them across processes."""
    place.mkdir()
    read = kind.__getitem__

    def deadly(self, key):
        marks = len(list(place.iterdir()))
        number = key[1] if isinstance(key, tuple) else key
        if self.data.images[number].id == image and marks < times:
            (place / str(marks)).touch()
            os.kill(os.getpid(), how)
        return read(self, key)

    monkeypatch.setattr(kind, "__getitem__", deadly)


def test_a_killed_reader_leaves_no_trace(tmp_path, scenes, monkeypatch, caplog):
    settings = small(workers=2, epochs=2, accumulate=1)
    work(settings, scenes, tmp_path / "whole")
    dying(monkeypatch, TrainSet, tmp_path / "marks", scenes[0].images[3].id, 2)
    work(settings, scenes, tmp_path / "run")
    told = re.findall(
        r"the process \d+, which reads images, was ended by SIGKILL, as the system does where memory", caplog.text
    )
    assert len(told) == caplog.text.count("reading goes on at the same place") == 2
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_an_image_that_kills_again_and_again_is_named(tmp_path, scenes, monkeypatch):
    settings = small(workers=2, epochs=2, batch=1, accumulate=1)
    record = scenes[0].images[3]
    dying(monkeypatch, TrainSet, tmp_path / "marks", record.id, 99, signal.SIGSEGV)
    message = (
        rf"the process \d+, which .* was ended by SIGSEGV, 3 times in a row on .* ids {record.id} \({record.path}\)"
    )
    with pytest.raises(WorkerError, match=message) as error:
        work(settings, scenes, tmp_path / "run")
    assert error.value.image_id == [record.id]
    assert error.value.file == str(record.path)


def test_a_reader_that_hangs_is_replaced(tmp_path, scenes, monkeypatch, caplog):
    """Patience ends once a reader has stopped itself, however slow the machine is."""
    marks, over = tmp_path / "marks", []

    class Impatient(threading.Timer):
        def run(self):
            while not self.finished.wait(0.01):
                if not over and list(marks.iterdir()):
                    over.append(True)
                    self.function()

    settings = small(workers=1, epochs=1, accumulate=1)
    dying(monkeypatch, TrainSet, marks, scenes[0].images[3].id, 1, signal.SIGSTOP)
    monkeypatch.setattr(feed.threading, "Timer", Impatient)
    work(settings, scenes, tmp_path / "run")
    assert caplog.text.count("no batch came within 600 s, so the processes that read images were ended") == 1
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.LAST).step == 3


def seen(scenes, workers):
    config = small().data
    return [
        (record.id, image.numpy().tobytes(), size)
        for records, images, sizes in batches(scenes[0], config, 1, workers)
        for record, image, size in zip(records, images.images, sizes, strict=True)
    ]


def test_an_evaluation_loses_and_repeats_no_image(tmp_path, scenes, monkeypatch, caplog):
    expected = seen(scenes, 0)
    assert [id for id, _, _ in expected] == [record.id for record in scenes[0].images]
    dying(monkeypatch, EvalSet, tmp_path / "marks", scenes[0].images[4].id, 2)
    assert seen(scenes, 2) == expected
    assert caplog.text.count("reading goes on at the same place") == 2


def test_an_image_that_ends_an_evaluation_is_named(tmp_path, scenes, monkeypatch):
    """While the readers of the training wait; what was learnt is kept."""
    record = scenes[0].images[4]
    dying(monkeypatch, EvalSet, tmp_path / "marks", record.id, 99)
    settings = small(workers=1, epochs=1, batch=1, accumulate=1)
    with pytest.raises(WorkerError, match=f"3 times in a row on the images with the ids {record.id} ") as error:
        work(settings, scenes, tmp_path / "run", evaluate=lambda detector: {"segm/AP": len(seen(scenes, 1))})
    assert error.value.image_id == [record.id]
    assert checkpoint.read_meta(tmp_path / "run" / checkpoint.LAST).step == 6


def test_readers_end_with_their_run(tmp_path, scenes):
    """Also while the error that ended it is held, as an interpreter does that shows it."""
    before = active_children()

    class Failing(Dim):
        def forward(self, batch):
            assert len(active_children()) == len(before) + 2
            raise KeyError("of the detector")

    job = replace(coco_job(small(workers=2, accumulate=1), *scenes), build=Failing)
    with pytest.raises(KeyError, match="of the detector") as error:
        run(small(workers=2, accumulate=1), job, tmp_path / "run", device="cpu", tensorboard=False)
    assert error.tb is not None
    assert active_children() == before
    assert getattr(signal.getsignal(signal.SIGCHLD), "__module__", None) != feed.__name__


LEAVING = """
import multiprocessing, os, signal, sys
sys.path[:0] = [{tests!r}]
from survival import find_split, read_coco
from seanet.training.coco import coco_job
from test_train import small

data = read_coco(*find_split({data!r}, "train"))
held = coco_job(small(workers=2, accumulate=1), data, data).batches(0)
next(held)
os.kill(multiprocessing.active_children()[0].pid, signal.SIGSTOP)
"""


@pytest.mark.slow
def test_an_interpreter_that_ends_waits_for_no_reader(tmp_path, scenes):
    """One hangs and none heeds SIGTERM, and nobody has closed what they read for: else this would last for ever."""
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING.format(tests=str(Path(__file__).parent), data=str(scenes[0].file.parent.parent)))
    subprocess.run([sys.executable, script], check=True, timeout=200, cwd=tmp_path)


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

    broken = replace(job, build=Dim, batches=interfering, evaluate=lambda detector: SCORE)
    with pytest.raises(ImageError, match="does not exist") as error:
        run(settings, broken, tmp_path / "run", device="cpu", tensorboard=False)
    assert error.value.file == victim
    assert "the state after step 1 is saved: --resume goes on from there" in capsys.readouterr().err
    victim.write_bytes(content)
    work(settings, sets, tmp_path / "run", resume=True)
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
