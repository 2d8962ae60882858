"""``seanet weights``: what a file is, and files of other frameworks as checkpoints of ours; headers that strangers wrote."""

import hashlib
import json
import struct
from argparse import Namespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torchvision.models.detection import maskrcnn_resnet50_fpn

import theirs
from command import seanet
from seanet import checkpoint
from seanet.checkpoint import Meta
from seanet.errors import CheckpointError
from seanet.headers import LONGEST, read_header, read_meta
from seanet.predict import load
from seanet.recipes import recipe

META = Meta(recipe("seanet_lite"), ("cat", "dog"), (17, 18), 2.5, 40, {"segm/AP": 0.25})


@pytest.fixture
def saved(tmp_path):
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16), "n": torch.tensor(7)}
    checkpoint.save_state(tmp_path / "last.safetensors", weights, META, {"optimizer": [torch.ones(2)]})
    return tmp_path / "last.safetensors"


def test_show_a_checkpoint(saved):
    text = seanet("weights", "show", saved).stdout
    assert f"{saved}: a checkpoint of seanet with the state of its training" in text
    assert "3 tensors, 10 numbers (BF16, F32, I64)" in text
    assert "2 classes: cat, dog" in text
    assert "metrics: segm/AP 0.25" in text
    refused = seanet("weights", "import", saved.parent, "--out", saved.parent / "new.safetensors", code=2).output
    assert f"{saved} is a checkpoint of seanet already" in refused
    found = json.loads(seanet("weights", "show", saved.parent, "--json").stdout)
    assert found["digest"] == checkpoint.digest(checkpoint.read_model(saved)[0])
    assert (found["recipe"], found["geometry"], found["step"]) == ("seanet_lite", "aligned", 40)
    assert found["category_ids"] == [17, 18]


def test_show_finds_a_flipped_bit(saved):
    data = bytearray(saved.read_bytes())
    data[read_header(saved).tensors["a"].start] ^= 1
    saved.write_bytes(data)
    assert "is damaged: its weights are not those" in seanet("weights", "show", saved, code=2).output


def test_show_files_of_others(tmp_path):
    tensors = {"backbone.layer1.0.conv1.weight": torch.ones(2, 3), "backbone.bn1.bias": torch.ones(2)}
    torch.save({"state_dict": tensors, "meta": {"CLASSES": ["car"]}, "args": Namespace()}, tmp_path / "a.pth")
    found = json.loads(seanet("weights", "show", tmp_path / "a.pth", "--json").stdout)
    assert found["framework"] == "mmdetection"
    assert found["form"] == "a zip archive of torch.save"
    assert (found["tensors"], found["numbers"], found["dtypes"]) == (2, 8, ["float32"])
    assert (found["classes"], found["left_unread"]) == (["car"], {"argparse.Namespace": 1})
    save_file(tensors, tmp_path / "b.safetensors", {"made": "elsewhere"})
    assert "a safetensors file" in seanet("weights", "show", tmp_path / "b.safetensors").stdout
    (tmp_path / "c.pth").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    said = seanet("weights", "show", tmp_path / "c.pth", code=2).output
    assert "is a PNG image, not a file of weights" in said
    (tmp_path / "d.pth").write_text("notes on a training")
    said = seanet("weights", "show", tmp_path / "d.pth", code=2).output
    assert "is a text file, not a file of weights" in said


def test_show_compares_a_digest_in_the_name(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pth")
    data = (tmp_path / "x.pth").read_bytes()
    right = tmp_path / f"resnet-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    for file, verdict in (
        (right, "as its name says"),
        (tmp_path / "resnet-00000000.pth", "where its name says 00000000"),
    ):
        file.write_bytes(data)
        assert verdict in seanet("weights", "show", file).stdout


def test_import_a_file_of_mmdetection(tmp_path):
    torch.save({"state_dict": theirs.filled(theirs.mmdetection(2))}, tmp_path / "theirs.pth")
    out = tmp_path / "ours.safetensors"
    text = seanet("weights", "import", tmp_path / "theirs.pth", "--classes", "cat,dog", "--out", out).output
    assert "set as these weights need it: pool.samples: 2 -> 0" in text
    assert f"{out}: mask_rcnn_r50 with " in text
    meta = read_meta(out)
    assert (meta.classes, meta.category_ids, meta.config.pool.samples) == (("cat", "dog"), (1, 2), 0)
    assert load(out, "cpu").categories.names == ("cat", "dog")
    wrong = seanet("weights", "import", tmp_path / "theirs.pth", "--classes", "cat", "--out", out, code=2).output
    assert "has 2 classes, but 1 names" in wrong
    assert (
        "names two classes"
        in seanet("weights", "import", tmp_path / "theirs.pth", "--classes", "cat,cat", "--out", out, code=2).output
    )


def test_import_cocos_classes(tmp_path):
    """torchvision numbers them 1..90 and ten have no class; their rows go, and COCO's numbers stay."""
    state = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).state_dict()
    torch.save(state, tmp_path / "theirs.pth")
    out = tmp_path / "ours.safetensors"
    seanet("weights", "import", tmp_path / "theirs.pth", "--classes", "coco", "--out", out)
    weights, meta = checkpoint.read_model(out)
    assert len(meta.classes) == 80
    assert (meta.classes[0], meta.category_ids[0]) == ("person", 1)
    assert (meta.classes[-1], meta.category_ids[-1]) == ("toothbrush", 90)
    assert meta.config.geometry == "legacy"
    rows = weights["box_heads.0.box_predictor.cls_score.weight"]
    assert torch.equal(rows, state["roi_heads.box_predictor.cls_score.weight"][[0, *meta.category_ids]])
    masks = weights["mask_head.mask_predictor.mask_fcn_logits.bias"]
    assert torch.equal(masks, state["roi_heads.mask_predictor.mask_fcn_logits.bias"][[0, *meta.category_ids]])


def test_import_says_what_is_missing(tmp_path):
    out = tmp_path / "a.safetensors"
    assert (
        "does not exist: expected a file of weights"
        in seanet("weights", "import", tmp_path / "no.pth", "--out", out, code=2).output
    )
    (tmp_path / "theirs.pth").touch()
    for command in (("import", tmp_path / "theirs.pth"), ("pull", "a/b")):
        said = seanet("weights", *command, "--out", tmp_path / "x.pth", code=2).output
        assert "x.pth must end in .safetensors" in said
    assert "--reset-head belongs to --init" in seanet("train", "seanet_lite", "--reset-head", code=2).output


def header(tmp_path, content: object, data: bytes = b"") -> bytes:
    text = json.dumps(content).encode() if not isinstance(content, bytes) else content
    return struct.pack("<Q", len(text)) + text + data


BAD = {
    "offsets missing": ({"a": {"dtype": "F32", "shape": [1]}}, "does not describe tensors"),
    "a shape that is a text": ({"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}, "does not describe"),
    "a negative shape": ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "does not describe tensors"),
    "true for a number": ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, "does not describe"),
    "more numbers than bytes": ({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, "does not describe"),
    "metadata of numbers": ({"__metadata__": {"seanet": 1}}, "does not describe tensors"),
    "a list of metadata": ({"__metadata__": []}, "does not describe tensors"),
    "nested too deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "its header is no JSON"),
    "not finished": (b'{"a": 1', "its header is no JSON"),
}


@pytest.mark.parametrize("kind", BAD)
def test_headers_that_describe_no_tensors(tmp_path, kind):
    content, message = BAD[kind]
    (tmp_path / "a.safetensors").write_bytes(header(tmp_path, content))
    with pytest.raises(CheckpointError, match=message):
        read_header(tmp_path / "a.safetensors")


def test_a_header_that_is_too_long(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", LONGEST + 1) + b"{" + b" " * LONGEST)
    with pytest.raises(CheckpointError, match=r"header of 16,000,001 bytes, where 16,000,000 are allowed"):
        read_header(tmp_path / "a.safetensors")


PLAIN = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
), max_leaves=6)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    field=st.sampled_from(["config", "classes", "category_ids", "epoch", "step", "metrics", "versions", "format", ""]),
    value=PLAIN,
)
def test_descriptions_of_any_types(tmp_path_factory, field, value):
    """Anything in the place of any part is refused, or comes back as it was written."""
    plain = json.loads(META.to_json())
    text = json.dumps(plain | {field: value} if field else value)
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    file.write_bytes(save({"a": torch.ones(1)}, {"seanet": text}))
    try:
        meta = read_meta(file)
    except CheckpointError as error:
        named = str(error).startswith(str(file))
    else:
        named = field in {"", "config", "format"} or json.loads(meta.to_json())[field] == value
    assert named
