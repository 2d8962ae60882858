"""The demo from the first scene to the page, with a few steps."""

import pytest

from seanet.demo import run
from seanet.errors import UserError
from seanet.predict import load


def test_the_whole_way(tmp_path):
    found = run(tmp_path / "demo", steps=10, images=(8, 4), say=lambda text: None)
    page = (tmp_path / "demo" / "index.html").read_text()
    assert found["page"] == str(tmp_path / "demo" / "index.html")
    assert {"segm/AP50", "bbox/AP"} <= found["metrics"].keys()
    assert page.count("<img") == 4 * 4  # image, truth, prediction, edges
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert load(tmp_path / "demo" / "run").config.recipe == "seanet_lite"
    with pytest.raises(UserError, match="demo"):
        run(tmp_path / "demo", steps=10, images=(8, 4))


def test_the_baseline_without_weights_at_hand_trains_from_scratch(tmp_path, monkeypatch):
    monkeypatch.setattr("seanet.weights.start.carried_file", lambda backbone: None)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    said = []
    run(tmp_path / "demo", "mask_rcnn_lite", steps=10, images=(8, 4), say=said.append)
    assert "from scratch" in said[0]
    assert (tmp_path / "demo" / "index.html").read_text().count("<img") == 4 * 3  # this head has no edges
    assert load(tmp_path / "demo" / "run").config.backbone.norm == "batch"
