"""What a resumed run may change; memory that does not suffice."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seanet import checkpoint
from seanet.errors import CheckpointError, OutOfMemory
from seanet.training import folder
from seanet.training.same import check_same, identity
from survival import cut, drawn, undisturbed
from test_train import Tiny, config, go


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return undisturbed(tmp_path_factory)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return drawn(tmp_path_factory)


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
