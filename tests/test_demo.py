"""The demo from the first scene to the page, with a few steps."""

import pytest

from seanet.demo import run
from seanet.errors import UserError
from seanet.predict import load


@pytest.mark.parametrize("recipe", ["seanet_lite", "mask_rcnn_lite"])
def test_the_whole_way(tmp_path, recipe):
    found = run(tmp_path / "demo", recipe, steps=10, images=(8, 4), say=lambda text: None)
    page = (tmp_path / "demo" / "index.html").read_text()
    assert found["page"] == str(tmp_path / "demo" / "index.html")
    assert {"segm/AP50", "bbox/AP"} <= found["metrics"].keys()
    assert page.count("<img") == 4 * (4 if recipe == "seanet_lite" else 3)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert load(tmp_path / "demo" / "run").config.recipe == recipe
    with pytest.raises(UserError, match="demo"):
        run(tmp_path / "demo", recipe, steps=10, images=(8, 4))


def test_without_weights_at_hand_it_trains_from_scratch(tmp_path, monkeypatch):
    monkeypatch.setattr("seanet.weights.carried_file", lambda backbone: None)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    said = []
    run(tmp_path / "demo", steps=10, images=(8, 4), say=said.append)
    assert "from scratch" in said[0]
    assert load(tmp_path / "demo" / "run").config.backbone.norm == "batch"
