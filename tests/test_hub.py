"""Models as the Hugging Face Hub keeps them: a folder's round trip is exact, and nothing here reaches for a network."""

import errno
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import torch

from builders import small_model
from command import seanet
from seanet import checkpoint
from seanet.checkpoint import Meta
from seanet.errors import CheckpointError, MissingExtra, UserError
from seanet.predict import Model, load
from test_imports import imports, modules

METRICS = {"segm/AP": 0.25, "segm/APl": None}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = small_model(64, 96)
    file = tmp_path_factory.mktemp("run") / "best.safetensors"
    meta = Meta(made.config, made.categories.names, (17, 18), 2.5, 40, METRICS)
    checkpoint.save_model(file, made.detector.state_dict(), meta)
    return load(file, "cpu")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_folder_there_and_back(tmp_path, model):
    folder = model.save_pretrained(tmp_path / "shared", license="mit", data="two drawn classes")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    back = Model.from_pretrained(folder, device="cpu")
    assert (back.config, back.categories, back.meta) == (model.config, model.categories, model.meta)
    there, here = model.detector.state_dict(), back.detector.state_dict()
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name], here[name]) for name in there)


def test_the_hubs_own_methods_work(tmp_path, model):
    from seanet.hub import Shared

    Shared(model).save_pretrained(tmp_path)
    back = Shared.from_pretrained(tmp_path).model
    assert back.meta == model.meta


def test_the_card(tmp_path, model):
    text = (model.save_pretrained(tmp_path, license="mit", data="two drawn classes") / "README.md").read_text()
    from huggingface_hub import ModelCard

    facts = ModelCard(text).data
    assert (facts.license, facts.library_name, facts.pipeline_tag) == ("mit", "seanet", "image-segmentation")
    assert "# seanet_lite\n\nInstance segmentation of 2 classes: cat, dog." in text
    assert "| segm/AP | 25.0 |" in text
    assert "APl" not in text
    assert "Trained on two drawn classes." in text


def test_a_repository_without_a_network(tmp_path, monkeypatch, model):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"^somebody/something: no exchange with the Hugging Face Hub"):
        Model.from_pretrained("somebody/something", cache_dir=tmp_path)
    with pytest.raises(UserError, match="no exchange"):
        model.push_to_hub("somebody/something")
    with pytest.raises(UserError, match="no exchange"):
        Model.from_pretrained("not/a/repository", cache_dir=tmp_path)
    assert (
        "expected OWNER/NAME" in seanet("weights", "pull", "name", "--out", tmp_path / "a.safetensors", code=2).output
    )


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path, monkeypatch):
    asked = []

    class Busy(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, format, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        address = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        Thread(target=server.serve_forever, daemon=True).start()
        said = seanet("weights", "pull", "a/b", "--out", tmp_path / "a.safetensors", code=2).stderr
        server.shutdown()
    assert asked == ["/a/b/main/model.safetensors"]
    assert said.startswith("error: a/b: no exchange with the Hugging Face Hub (")
    assert len(said.splitlines()) == 1


def test_a_fetched_model_is_written_whole_or_not_at_all(tmp_path, model, monkeypatch):
    from seanet import hub

    shared, out = model.save_pretrained(tmp_path / "shared"), tmp_path / "new" / "fetched.safetensors"
    monkeypatch.setattr(hub, "_fetched", lambda repository, options: shared / hub.FILE)
    there, here = checkpoint.read_model(shared / hub.FILE), checkpoint.read_model(hub.fetch("owner/name", out))
    assert checkpoint.digest(here[0]) == checkpoint.digest(there[0])
    assert here[1] == there[1]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = out.read_bytes()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match="the disk is full"):
        hub.fetch("owner/name", out)
    assert out.read_bytes() == before
    assert [file.name for file in out.parent.iterdir()] == [out.name]


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist"):
        Model.from_pretrained(tmp_path)


def test_without_the_extra(tmp_path, monkeypatch, model):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "seanet.hub", raising=False)
    monkeypatch.delattr("seanet.hub", raising=False)
    with pytest.raises(MissingExtra, match=r"seanet\[hub\]"):
        model.save_pretrained(tmp_path)


def test_the_hub_is_imported_by_nobody_else():
    used = [module for module in modules() if any(name.startswith("huggingface_hub") for name in imports(module, True))]
    assert used == ["hub"]
    assert not any(name.startswith("seanet.hub") for module in modules() for name in imports(module, False))


def test_a_transport_that_fails(tmp_path, monkeypatch):
    """Versions of the Hub's client speak through different libraries, none of whose errors are OSErrors."""
    failing = type("ConnectError", (Exception,), {"__module__": "httpx2"})

    def fail(*_, **__):
        raise failing("Name or service not known")

    monkeypatch.setattr("seanet.hub.get_hf_file_metadata", fail)
    with pytest.raises(UserError, match=r"a/b: no exchange .*Name or service not known"):
        Model.from_pretrained("a/b", cache_dir=tmp_path)
