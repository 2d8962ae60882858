"""What a check is made of: processes with limits, fingerprints of images, and the look at headers before training."""

import os
import signal
import sys
import time
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from made import Made, picture
from seanet.data.checking.fingerprints import NEAR, SIDE, alike, fingerprint, groups, look
from seanet.data.checking.headers import require_files
from seanet.data.checking.kinds import splits_in
from seanet.data.checking.workers import Limits, Lost, _Team, each
from seanet.data.coco import read_coco
from seanet.errors import ImageError


def misbehave(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        time.sleep(60)
    if number == 7:
        return len(bytearray(2**30))
    if number == 40:
        os._exit(9)
    return number * number


def test_culprits_are_known_and_the_rest_is_done():
    said = []
    found = each(misbehave, range(60), 3, Limits(0.5, 2**28), lambda *place: said.append(place))
    lost = {i: value.reason for i, value in enumerate(found) if isinstance(value, Lost)}
    assert lost == {
        3: "ended its process (SIGKILL)",
        5: "took longer than 0.5 s",
        7: "needs more than 256 MB of memory",
        40: "ended its process (exit code 9)",
    }
    assert all(value == i * i for i, value in enumerate(found) if i not in lost)
    assert said == [(i, 60) for i in range(1, 61)]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_a_process_that_ends_between_two_items():
    team = _Team(abs, [1, 2], Limits(), None)
    try:
        worker = team._start()
        worker.process.kill()
        worker.process.join()
        team.spans.append((0, 1))
        team._hand_out(worker)
        team._listen()
        assert team.results == [Lost("ended its process (SIGKILL)"), None]
    finally:
        team.end()


@pytest.mark.parametrize("workers", [0, 2])
def test_exceptions_of_the_work_are_raised(workers):
    with pytest.raises(ZeroDivisionError):
        each(lambda number: 1 // number, [2, 1, 0], workers)
    assert each(abs, [], workers) == []


def test_groups():
    assert groups(["a", None, "b", "a", None, "c", "b", "a"]) == [[0, 3, 7], [2, 6]]


def test_looks_near_each_other_are_found_as_by_comparing_all():
    rng = np.random.default_rng(0)
    bases = rng.integers(10, 240, (12, SIDE, SIDE))
    looks = [(bases[i % 12] + rng.integers(-3, 4, (SIDE, SIDE)) * (i // 24)).astype(np.uint8) for i in range(60)]
    near = [set() for _ in looks]
    for a, b in combinations(range(60), 2):
        if np.abs(looks[a].astype(int) - looks[b]).max() <= NEAR:
            near[a].add(b)
            near[b].add(a)
    joined, waiting = [], set(range(60))
    while waiting:
        group, reached = {min(waiting)}, {min(waiting)}
        while reached:
            reached = {b for a in reached for b in near[a]} - group
            group |= reached
        waiting -= group
        joined.append(sorted(group))
    texts = [one.tobytes() for one in looks]
    assert sorted(alike([None, *texts])) == [[i + 1 for i in group] for group in joined if len(group) > 1]


def test_a_look_survives_size_and_quality_and_tells_pictures_apart(tmp_path):
    looks = []
    for seed in range(8):
        full = picture(seed, 256, 192)
        full.save(tmp_path / "a.jpg", quality=60)
        half = full.resize((128, 96))
        looks += [look(np.asarray(image)) for image in (full, Image.open(tmp_path / "a.jpg").convert("RGB"), half)]
    assert sorted(alike(looks)) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(8)]


def test_fingerprints(tmp_path):
    path, pixels = tmp_path / "a", np.asarray(picture(0))
    path.write_bytes(b"1")
    one = fingerprint(path, pixels)
    assert one == fingerprint(path, pixels.copy())
    turned = fingerprint(path, pixels.transpose(1, 0, 2))
    assert (one.bytes, one.pixels) != (turned.bytes, turned.pixels)
    faint = pixels // 32 + 100
    assert fingerprint(path, faint).look is None
    assert fingerprint(path, np.full_like(pixels, 7)) is None
    # The same numbers in another shape are another picture.
    assert fingerprint(path, pixels.reshape(24, 128, 3)).pixels != one.pixels


def sets_of(made: Made) -> list:
    return [read_coco(split.annotations, split.images) for split in splits_in(made.folder)]


def test_all_files_are_named_before_training(tmp_path):
    made = Made(tmp_path / "data")
    sets = sets_of(made)
    assert require_files(sets) == []
    made.image(1).write_bytes(b"")
    with pytest.raises(ImageError, match=r"1\.png is empty \(0 bytes\)") as caught:
        require_files(sets)
    assert caught.value.file == made.image(1)
    picture(1, 30, 30).save(made.image(2))
    made.image(2, "val").write_bytes(b"%PDF-1.7")
    with pytest.raises(ImageError, match="3 of 6 image files") as caught:
        require_files(sets)
    assert caught.value.value == [made.image(1), made.image(2), made.image(2, "val")]
    assert "30 x 30 pixels, but its annotations say 64 x 48" in str(caught.value)
    assert "is a PDF file" in str(caught.value)


def test_large_sets_are_read_by_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("seanet.data.checking.headers.MANY", 6)
    made, said = Made(tmp_path / "data"), []
    require_files(sets_of(made), progress=lambda *place: said.append(place))
    assert said[-1] == (6, 6)


def test_files_of_two_sets_are_told(tmp_path):
    train, _ = sets_of(Made(tmp_path / "data"))
    (line,) = require_files([train, train])
    assert line.startswith("4 images are both trained on and measured by")


def test_unturned_images_are_told(tmp_path):
    made, exif = Made(tmp_path / "data"), Image.Exif()
    exif[0x0112] = 8
    picture(3).save(made.image(3), exif=exif)
    (line,) = require_files(sets_of(made))
    assert line.startswith("read unturned")
    assert str(made.image(3)) in line
