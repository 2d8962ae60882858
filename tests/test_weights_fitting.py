"""The weights that training starts from: rows of classes go by name, the rest by name and shape, and a line says it all."""

import pytest
import torch

from seanet import checkpoint
from seanet.config import ClassicMask
from seanet.errors import CheckpointError
from seanet.predict import build
from seanet.weights.fitting import Known, fit, rows_of, start_from

OLD, NEW = ("cat", "dog", "bird"), ("dog", "cow", "cat", "fish")
FAMILIES = ("mask_rcnn_lite", "seanet_ms_lite", "cascade_rcnn_lite", "seanet_r50_paper_code")


def saved(folder, recipe, classes=OLD):
    model = build(recipe, classes)
    meta = checkpoint.Meta(model.config, model.categories.names, model.categories.ids)
    checkpoint.save_model(folder / "old.safetensors", model.detector.state_dict(), meta)
    return model, folder / "old.safetensors"


@pytest.mark.parametrize("recipe", FAMILIES)
def test_rows_go_by_name(recipe):
    """Every tensor whose shape depends on the number of classes is one that names them; nothing else is."""
    old, new = build(recipe, OLD), build(recipe, NEW)
    before, given = {k: v.clone() for k, v in new.detector.state_dict().items()}, old.detector.state_dict()
    fitted = fit(new.detector, NEW, Known(given, OLD, ""))
    assert fitted.classes == ["dog", "cat"]
    assert not fitted.anew
    found = new.detector.state_dict()
    changed = {name for name in found if found[name].shape != given[name].shape}
    assert changed == {name for name in found if rows_of(name, new.config)}
    assert len(changed) >= 4
    for name in changed:
        each = found[name].shape[0] - given[name].shape[0]
        first = len(given[name]) - each * 3
        assert torch.equal(found[name][:first], given[name][:first])
        rows = [part.split(each) for part in (found[name][first:], given[name][first:], before[name][first:])]
        now, theirs, own = rows
        wanted = [theirs[1], own[1], theirs[0], own[3]]
        assert all(torch.equal(a, b) for a, b in zip(now, wanted, strict=True)), name
    assert all(torch.equal(found[name], given[name]) for name in found.keys() - changed)


def test_other_order_of_the_same_classes(tmp_path):
    old, file = saved(tmp_path, "seanet_lite")
    new = build("seanet_lite", OLD[::-1])
    said = start_from(new.detector, OLD[::-1], file)
    assert said == f"weights of {file}; classes kept by name: bird, dog, cat"
    name = "box_heads.0.class_logits.bias"
    assert torch.equal(new.detector.state_dict()[name], old.detector.state_dict()[name].flip(0))


def test_what_is_said(tmp_path):
    _, file = saved(tmp_path, "seanet_lite")
    said = start_from(build("seanet_lite", NEW).detector, NEW, file)
    assert said.endswith("; classes kept by name: dog, cat; classes new: cow, fish; classes no longer there: bird")
    same = build("seanet_lite", OLD)
    assert start_from(same.detector, OLD, file) == f"weights of {file}"


def test_reset_head(tmp_path):
    old, file = saved(tmp_path, "mask_rcnn_lite")
    new = build("mask_rcnn_lite", OLD)
    before = {name: value.clone() for name, value in new.detector.state_dict().items()}
    said = start_from(new.detector, OLD, file, reset_head=True)
    assert "all layers that name classes begin anew" in said
    found, given = new.detector.state_dict(), old.detector.state_dict()
    for name, value in found.items():
        assert torch.equal(value, before[name] if rows_of(name, new.config) else given[name])


def test_no_class_in_common(tmp_path):
    _, file = saved(tmp_path, "mask_rcnn_lite")
    new = build("mask_rcnn_lite", ["car"])
    before = new.detector.state_dict()["box_heads.0.box_predictor.cls_score.weight"].clone()
    said = start_from(new.detector, ["car"], file)
    assert "classes new: car; classes no longer there: cat, dog, bird" in said
    assert "these begin anew: box_heads.0.box_predictor.cls_score, box_heads.0.box_predictor.bbox_pred" in said
    assert torch.equal(new.detector.state_dict()["box_heads.0.box_predictor.cls_score.weight"], before)


def test_another_recipe(tmp_path):
    _, file = saved(tmp_path, "mask_rcnn_lite")
    said = start_from(build("seanet_lite", OLD).detector, OLD, file)
    assert "these begin anew: box_heads.0.class_tower.0" in said
    assert "these have no place here: box_heads.0.box_head.fc6" in said


def test_nothing_fits(tmp_path):
    model = build("seanet_lite", OLD)
    meta = checkpoint.Meta(model.config, OLD, (1, 2, 3))
    checkpoint.save_model(tmp_path / "odd.safetensors", {"a": torch.ones(1)}, meta)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: nothing of it fits into seanet_lite"):
        start_from(model.detector, OLD, tmp_path / "odd.safetensors")


def test_a_file_of_another_framework(tmp_path):
    """Its classes have no names, so the layers that name them begin anew."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4).state_dict()
    torch.save({"model": theirs, "epoch": 3}, tmp_path / "theirs.pth")
    new = build("mask_rcnn_r50", ("a", "b", "c"))
    said = start_from(new.detector, ("a", "b", "c"), tmp_path / "theirs.pth")
    assert "theirs.pth, of torchvision (for its numbers: geometry: 'aligned' -> 'legacy')" in said
    assert "it does not name its classes, so the layers that do begin anew" in said
    found = new.detector.state_dict()
    assert torch.equal(found["box_heads.0.box_head.fc7.weight"], theirs["roi_heads.box_head.fc7.weight"])
    scores = "box_predictor.cls_score.weight"
    assert not torch.equal(found[f"box_heads.0.{scores}"], theirs[f"roi_heads.{scores}"])


def test_scores_without_weights_count_no_classes(tmp_path):
    """A model as large as a bias of a few bytes says could fill all memory."""
    conv = torch.zeros(64, 3, 7, 7)
    bias = torch.zeros(10_000_000)
    torch.save({"backbone.body.conv1.weight": conv, "roi_heads.box_predictor.cls_score.bias": bias}, tmp_path / "a.pth")
    new = build("mask_rcnn_r50", ("a", "b"))
    with pytest.raises(CheckpointError, match="another backbone"):
        start_from(new.detector, ("a", "b"), tmp_path / "a.pth")


def test_another_mask_head_keeps_its_own(tmp_path):
    from dataclasses import replace

    model, file = saved(tmp_path, "seanet_lite")
    other = build(replace(model.config, mask=ClassicMask(convs=2)), OLD)
    assert start_from(other.detector, OLD, file).split("; ")[1].startswith("these begin anew: mask_head.mask_head.0.0")
