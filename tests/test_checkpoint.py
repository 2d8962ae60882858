"""Checkpoints: what goes in comes out, a failed write harms nothing, and a wrong file is named for what it is."""

import errno
import json

import pytest
import torch
from safetensors.torch import save_file

from seanet import checkpoint, recipes
from seanet.checkpoint import Meta
from seanet.errors import CheckpointError

META = Meta(recipes.recipe("seanet_lite"), ("cat", "dog"), (17, 18), 2.5, 40, {"segm/AP": 0.25, "segm/APl": None})


@pytest.fixture
def weights():
    return {"head.weight": torch.randn(3, 4), "head.bias": torch.zeros(3), "steps": torch.tensor(7)}


@pytest.fixture
def saved(tmp_path, weights):
    checkpoint.save_model(tmp_path / "best.safetensors", weights, META)
    return tmp_path / "best.safetensors"


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_model_round_trip(saved, weights):
    read, meta = checkpoint.read_model(saved.parent)
    assert same(read, weights)
    assert meta == META
    assert checkpoint.read_meta(saved) == META


def test_usual_rights(saved):
    (saved.parent / "other").touch()
    assert saved.stat().st_mode == (saved.parent / "other").stat().st_mode


def test_pack_round_trip():
    tree = {
        "state": {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.99)}, 1: {}},
        "list": [None, True, 2, 0.1, float("inf"), "text", [], {"dict": {}}],
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    tensors, plain = checkpoint.pack(tree, "trainer/")
    assert set(tensors) == {"trainer/state/0/step", "trainer/half"}
    back = checkpoint.unpack(tensors, json.loads(json.dumps(plain)))
    assert back["state"][0]["step"] is tensors["trainer/state/0/step"]
    assert back["state"][0]["betas"] == (0.9, 0.99)
    assert back["state"][1] == {}
    assert back["list"] == tree["list"]
    assert back["half"].dtype == torch.bfloat16


def test_pack_refuses_what_it_cannot_hold():
    with pytest.raises(TypeError, match="a/b is a set"):
        checkpoint.pack({"a": {"b": {1}}})


def test_state_stands_beside_the_model(tmp_path, weights):
    state = {"optimizer": {0: torch.ones(2)}, "shared": weights["head.weight"]}
    checkpoint.save_state(tmp_path / "last.safetensors", weights, META, state)
    assert same(checkpoint.read_model(tmp_path)[0], weights)
    _, meta, back = checkpoint.read_state(tmp_path / "last.safetensors")
    assert meta == META
    assert torch.equal(back["optimizer"][0], torch.ones(2))
    assert torch.equal(back["shared"], weights["head.weight"])


def test_model_alone_cannot_be_resumed(saved):
    with pytest.raises(CheckpointError, match=r"no state of its training: only last\.safetensors"):
        checkpoint.read_state(saved)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["save_file", "_flush"])
def test_full_disk_keeps_the_old_file(saved, weights, monkeypatch, call):
    old = saved.read_bytes()
    monkeypatch.setattr(checkpoint, call, full)
    with pytest.raises(
        CheckpointError, match=r"the disk is full.*: 68 bytes are needed and [\d,]+ bytes are free"
    ) as error:
        checkpoint.save_model(saved, weights, META)
    assert error.value.file == str(saved)
    assert saved.read_bytes() == old
    assert list(saved.parent.iterdir()) == [saved]


def test_missing_folder(tmp_path, weights):
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoint.save_model(tmp_path / "none" / "best.safetensors", weights, META)


WRONG = {
    "empty": (b"", "is empty"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a PNG image"),
    "html": (b"<!DOCTYPE html><html>404</html>", "is a web page"),
    "text": (b"epoch,loss\n1,2\n", "is a text file"),
    "torch": (b"PK\x03\x04" + bytes(99), r"can run code.*weights import"),
    "pickle": (b"\x80\x02}q\x00.", "can run code"),
    "noise": (bytes(range(255, 0, -1)), "is no safetensors file"),
    "header": ((9).to_bytes(8, "little") + b"{not json", "its header is no JSON"),
    "list": ((2).to_bytes(8, "little") + b"[]", "is no safetensors file"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files(tmp_path, kind):
    content, message = WRONG[kind]
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoint.read_model(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [4, 100, -1])
def test_truncated(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"cut short|not a file of weights"):
        checkpoint.read_model(saved)


def test_longer(saved):
    saved.write_bytes(saved.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="4 bytes follow its end"):
        checkpoint.read_model(saved)


def test_flipped_bit(saved):
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read_model(saved)


def test_missing_and_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.read_model(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="is a folder without best"):
        checkpoint.read_model(tmp_path)


def test_other_program(tmp_path, weights):
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="of another program"):
        checkpoint.read_model(tmp_path / "a.safetensors")


def rewritten(path, weights, **changes):
    text = json.loads(META.to_json())
    save_file(weights, path, {"seanet": json.dumps(text | changes), "digest": checkpoint.digest(weights)})


def test_newer_format(tmp_path, weights):
    rewritten(tmp_path / "a.safetensors", weights, format=99, versions={"seanet": "9.9"})
    with pytest.raises(CheckpointError, match=r"made by seanet 9\.9, which is newer"):
        checkpoint.read_model(tmp_path / "a.safetensors")


def test_unknown_setting(tmp_path, weights):
    rewritten(tmp_path / "a.safetensors", weights, config={"train": {"speed": 3}})
    with pytest.raises(CheckpointError, match=r"does not know: train\.speed"):
        checkpoint.read_model(tmp_path / "a.safetensors")


def test_weights_that_are_not_finite(tmp_path, weights):
    weights["head.bias"][1] = float("nan")
    checkpoint.save_model(tmp_path / "a.safetensors", weights, META)
    with pytest.raises(CheckpointError, match=r"not finite \(head.bias"):
        checkpoint.read_model(tmp_path / "a.safetensors")


def test_fits(saved):
    checkpoint.check_fits(saved, META, ("cat", "dog"))
    with pytest.raises(CheckpointError, match="trained on 2 classes, the data have 1"):
        checkpoint.check_fits(saved, META, ("cat",))
    with pytest.raises(CheckpointError, match="'dog' stands where the data have 'cow'"):
        checkpoint.check_fits(saved, META, ("cat", "cow"))
