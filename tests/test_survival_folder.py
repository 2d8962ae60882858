"""A run's folder and its log: other runs, files in the way, disks that are full or read-only."""

import errno
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from seanet.errors import UserError
from seanet.training import folder
from survival import SCORE, equal, undisturbed
from test_train import config, go, losses


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return undisturbed(tmp_path_factory)


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


def test_what_a_killed_run_left_running_is_waited_for(tmp_path):
    """A process that has the lock although the one that is named as its holder is gone."""
    from filelock import FileLock

    if (dead := os.fork()) == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    out, into = os.pipe()
    if (left := os.fork()) == 0:
        FileLock(tmp_path / folder.LOCK).acquire()
        os.write(into, b"x")
        time.sleep(1)
        os._exit(0)
    os.read(out, 1)
    (tmp_path / folder.HOLDER).write_text(f"process {dead} on {socket.gethostname()}")
    with folder.held(tmp_path):
        assert (tmp_path / folder.HOLDER).read_text().startswith(f"process {os.getpid()} ")
    os.waitpid(left, 0)


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
