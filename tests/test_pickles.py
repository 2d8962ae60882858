"""Files of torch and detectron2 are read to the bit, and nothing of any file is run.

The files that try are those of benchmarks/faults/malice.py, which benchmarks/faults/pickles.py brings to every place that
loads something.
"""

import importlib.util
import io
import pickle
import re
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from seanet.errors import CheckpointError
from seanet.pickles.described import StandIn
from seanet.weights.archives import is_archive, read_archive
from seanet.weights.files import read_source

ROOT = Path(__file__).resolve().parent.parent
MALICE = ROOT / "benchmarks" / "faults" / "malice.py"


def malice():
    spec = importlib.util.spec_from_file_location("malice", MALICE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = malice().FILES if MALICE.is_file() else {}
TAKEN = {"zip: good, a pickle behind it", "memo of 4 billion", "a key that takes for ever to hash"}
SLOW = {"a million lists", "deep lists"}


@pytest.mark.parametrize("kind", sorted(FILES.keys() - SLOW))
def test_nothing_runs(tmp_path, kind):
    file, canary = tmp_path / "file.pth", tmp_path / "canary"
    file.write_bytes(FILES[kind](canary))
    if kind in TAKEN:
        read_archive(file)
    else:
        with pytest.raises(CheckpointError) as error:
            read_archive(file)
        assert str(error.value).startswith(f"{file}: is not taken, and nothing of it was run: ")
        assert "\n" not in str(error.value)
    assert not canary.exists()


@pytest.mark.skipif(not FILES, reason="not part of the package")
def test_the_files_would_run(tmp_path):
    """Else nothing would be shown: Python's own reader runs them."""
    for i, kind in enumerate(("os.system", "INST", "eval", "getattr chain", "pkl: beside weights")):
        canary = tmp_path / str(i)
        pickle.loads(FILES[kind](canary))
        assert canary.exists(), kind


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(6, 5, generator=generator)
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    found = {str(dtype): (noise * 50).to(dtype) for dtype in (*kinds, torch.int8)}
    found |= {"bytes": (noise * 20).abs().to(torch.uint8), "bool": noise > 0, "scalar": torch.tensor(3)}
    found |= {"transposed": noise.t(), "part": noise[2:4, ::2], "row": noise[3], "empty": noise[:0], "same": noise}
    return found | {"parameter": torch.nn.Parameter(noise[:2])}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        value.dtype == wanted[name].dtype and torch.equal(value, wanted[name].detach()) for name, value in found.items()
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_to_the_bit(tmp_path, protocol, zipped):
    content = {"state_dict": OrderedDict(tensors()), "meta": {"CLASSES": ("a", "b"), "at": 2.5}, "args": Namespace(x=1)}
    torch.save(content, tmp_path / "a.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    source = read_source(tmp_path / "a.pth")
    assert same(source.tensors, torch.load(tmp_path / "a.pth", weights_only=False)["state_dict"])
    assert source.content["meta"] == {"CLASSES": ("a", "b"), "at": 2.5}
    assert source.left == {"argparse.Namespace": 1}


def test_newer_types(tmp_path):
    content = {"a": torch.arange(4).to(torch.uint16), "b": torch.rand(3).to(torch.float8_e4m3fn)}
    torch.save(content, tmp_path / "a.pth")
    found = read_source(tmp_path / "a.pth").tensors
    assert found["a"].dtype == torch.uint16
    assert torch.equal(found["b"].view(torch.uint8), content["b"].view(torch.uint8))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_arrays(tmp_path, protocol):
    noise = np.random.default_rng(0).normal(size=(3, 4))
    arrays = {
        "f4": noise.astype("f4"),
        "fortran": np.asfortranarray(noise),
        "i8": np.arange(5),
        "none": np.zeros((0, 2)),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, protocol))
    assert same(
        read_source(tmp_path / "a.pkl").tensors, {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}
    )


def test_arrays_of_python_2(tmp_path):
    """Its strings were bytes; they come as such, or as text."""
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K\x02\x85" + dtype + b"\x89U\x08" + np.array([1.5, -2], "<f4").tobytes() + b"tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}U\x01w" + made + state + b"s.")
    assert read_source(tmp_path / "a.pkl").tensors["w"].tolist() == [1.5, -2]


def test_what_mmengine_keeps_beside_its_weights(tmp_path):
    """A buffer with its methods, which older protocols name by getattr, and a mapping of its own."""
    buffer = b"cmmengine.logging.history_buffer\nHistoryBuffer\n"
    method = b"cbuiltins\ngetattr\n(" + buffer + b"X\x04\0\0\0meantR"
    hub = b"(X\x04\0\0\0loss" + buffer + b")\x81}X\x04\0\0\0mean" + method + b"sb" + b"d"
    config = b"cmmengine.config.config\nConfigDict\n)R(X\x01\0\0\0aK\x01u"
    content = b"\x80\x02}(X\x0b\0\0\0message_hub" + hub + b"X\x03\0\0\0cfg" + config + b"u."
    (tmp_path / "a.pkl").write_bytes(content)
    archive = read_archive(tmp_path / "a.pkl")
    assert archive.content["cfg"] == StandIn("mmengine.config.config.ConfigDict")
    assert archive.left["mmengine.logging.history_buffer.HistoryBuffer"] == 2
    with pytest.raises(CheckpointError, match="holds no named tensors"):
        read_source(tmp_path / "a.pkl")


@pytest.fixture
def small():
    content = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True])}
    with io.BytesIO() as file:
        torch.save(content, file)
        return file.getvalue(), content


def test_flipped_bits_of_an_archive_are_found(tmp_path, small):
    """Or changes nothing: each record has a checksum."""
    data, content = small
    file, refused = tmp_path / "a.pth", 0
    for place in range(0, len(data), 7):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            found = read_source(file).tensors
        except CheckpointError:
            refused += 1
        else:
            assert same(found, content), place
    assert refused > len(data) / 28


def test_every_cut_is_found(tmp_path, small):
    data, content = small
    older = io.BytesIO()
    torch.save(content, older, _use_new_zipfile_serialization=False)
    for whole in (data, older.getvalue()):
        for end in range(0, len(whole), 3):
            (tmp_path / "a.pth").write_bytes(whole[:end])
            with pytest.raises(CheckpointError):
                read_source(tmp_path / "a.pth")


def test_what_is_no_file_of_weights(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such file"):
        is_archive(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="no regular file"):
        is_archive(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("readme.txt", "text")
    with pytest.raises(CheckpointError, match=r"none that torch\.save writes"):
        read_archive(tmp_path / "a.zip")


BANNED = {
    r"weights_only=False\b": {
        "training/keeper.py"
    },  # Lightning's word for the whole state, written through seanet.checkpoint
    r"\btorch\.load\(": set(),
    r"\byaml\.(load|unsafe_load|full_load)\(": {"data/formats/yolo.py"},  # by a SafeLoader that knows fewer words
    r"(?<![\w.])(eval|exec)\(": set(),
    r"\bextractall\(": set(),
    r"^\s*(import|from) (c?[pP]ickle|dill|joblib|cloudpickle|marshal|shelve)\b": set(),
    r"allow_pickle=True": set(),
}


def test_no_door_is_open():
    """No line of the sources loads what could run; ``pickletools`` only takes operations apart."""
    for pattern, known in BANNED.items():
        sources = {path.relative_to(ROOT / "src" / "seanet").as_posix(): path for path in (ROOT / "src").rglob("*.py")}
        found = {name for name, path in sources.items() if re.search(pattern, path.read_text(encoding="utf-8"), re.M)}
        assert found <= known, pattern
