"""Prediction: coordinates back to the file, forms of masks, files that cannot be read, checkpoints."""

import numpy as np
import pytest
import torch
from PIL import Image

from builders import small_model
from seanet import checkpoint
from seanet.errors import CheckpointError, ImageError, UserError
from seanet.instances import Instances
from seanet.predict import build, load
from seanet.streaming import find_images, stream
from seanet.weights.files import read_tensors
from seanet.weights.importing import import_torchvision
from seanet.weights.start import load_start


@pytest.fixture(scope="module")
def model():
    return small_model(96, 160)


def picture(height: int = 120, width: int = 200) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def squares() -> Instances:
    """Two instances with known masks in an image of 40 x 60."""
    return Instances(
        size=(40, 60),
        boxes=np.array([[10, 5, 30, 25], [20, 15, 60, 40]], np.float32),
        labels=np.array([1, 2]),
        category_ids=np.array([3, 9]),
        names=["cat", "dog"],
        score=np.array([0.9, 0.5], np.float32),
        cls_score=np.array([0.95, 0.6], np.float32),
        box_iou=None,
        masks=np.ones((2, 28, 28), np.float32),
        edges=np.full((2, 28, 28), 0.25, np.float32),
    )


def test_boxes_lie_in_the_file(model):
    found = model.predict(picture())
    assert len(found) > 0
    assert found.size == (120, 200)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2] <= 200 + 1e-3).all()
    assert (found.boxes[:, 3] <= 120 + 1e-3).all()
    assert found.boxes[:, 2].max() > 160  # network's image is 96 x 160
    assert set(found.names) <= {"cat", "dog"}
    assert np.allclose(found.score, found.cls_score * found.box_iou)


def test_every_way_to_hand_in_an_image_gives_the_same(model, tmp_path):
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = model.predict(pixels)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels)):
        assert np.array_equal(model.predict(image).boxes, wanted.boxes)
    assert model.predict(tmp_path / "a.png").path == tmp_path / "a.png"


def test_training_mode_is_left_as_it_was(model):
    model.detector.train()
    model.predict(picture())
    assert model.detector.training
    model.detector.eval()


def test_edges_on_request(model):
    assert model.predict(picture()).edges is None
    found = model.predict(picture(), edges=True)
    assert found.edge_map().shape == (120, 200)
    with pytest.raises(ValueError, match="edges=True"):
        model.predict(picture()).edge_map()


def test_forms_of_masks_agree():
    found = squares()
    dense = found.dense()
    assert dense[0, 5:25, 10:30].all()
    assert dense.sum((1, 2)).tolist() == [400, 1000]
    assert found.label_map()[20, 25] == 1  # the better one is on top
    assert found.label_map()[39, 59] == 2
    outer = found.polygons()[0][0][0]
    assert outer.min(0).tolist() == [10, 5]
    assert outer.max(0).tolist() == [30, 25]
    assert found.edge_map().max() == 0.25
    entry = found.to_coco(7)[1]
    assert entry["bbox"] == [20, 15, 40, 25]
    assert (entry["category_id"], entry["image_id"]) == (9, 7)
    picked = found[found.score > 0.7]
    assert picked.names == ["cat"]
    assert picked.masks.shape == (1, 28, 28)


def test_to_supervision():
    pytest.importorskip("supervision")
    found = squares().to_supervision()
    assert found.mask.shape == (2, 40, 60)
    assert found.class_id.tolist() == [0, 1]


def test_a_bad_file_does_not_stop_the_rest(model, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"not an image")
    Image.fromarray(picture()).save(tmp_path / "c.jpg")
    (tmp_path / "notes.txt").write_text("no image, and not meant to be")
    outcomes = list(stream(model, find_images([tmp_path])))
    assert [outcome.path.name for outcome in outcomes] == ["a.png", "b.png", "c.jpg"]
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert "b.png" in str(outcomes[1].error)


def test_find_images(tmp_path):
    for name in ("b.jpg", "a.png", "c.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_images([tmp_path])] == ["a.png", "b.jpg"]
    assert [p.name for p in find_images([str(tmp_path / "*.jpg"), tmp_path])] == ["b.jpg", "a.png"]
    assert find_images([tmp_path / "missing.jpg"]) == [tmp_path / "missing.jpg"]  # named when it is read
    with pytest.raises(UserError, match="no images there"):
        find_images([str(tmp_path / "*.bmp")])


def test_missing_file_is_named(model, tmp_path):
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        model.predict(tmp_path / "missing.jpg")


def test_a_checkpoint_gives_back_the_model(model, tmp_path):
    meta = checkpoint.Meta(model.config, model.categories.names, model.categories.ids)
    checkpoint.save_model(tmp_path / "best.safetensors", model.detector.state_dict(), meta)
    again = load(tmp_path, "cpu")
    assert again.config == model.config
    assert again.categories == model.categories
    assert np.array_equal(again.predict(picture()).boxes, model.predict(picture()).boxes)
    with pytest.raises(CheckpointError, match="nowhere"):
        load(tmp_path / "nowhere.safetensors")


def test_start_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = build("mask_rcnn_r50", 2)
    settings = model.config.backbone
    with pytest.raises(UserError, match="--download"):
        load_start(model.detector, settings)
    donor = build("mask_rcnn_r50", 2).detector.backbone.body
    weights = {name: torch.randn_like(tensor) for name, tensor in donor.state_dict().items()}
    torch.save(weights | {"fc.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    from dataclasses import replace

    said = load_start(model.detector, replace(settings, weights=str(tmp_path / "resnet.pth")))
    assert "1 of its tensors not used" in said
    assert torch.equal(model.detector.backbone.body["conv1"].weight, weights["conv1.weight"])
    assert "random" in load_start(model.detector, replace(settings, weights="none"))
    assert "random" in load_start(model.detector, replace(settings, weights="auto"))
    del weights["conv1.weight"]
    torch.save(weights, tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"conv1\.weight"):
        load_start(model.detector, replace(settings, weights=str(tmp_path / "resnet.pth")))


def test_a_malicious_file_of_weights_runs_nothing(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(CheckpointError, match="nothing of it was run"):
        read_tensors(tmp_path / "evil.pth")
    torch.save(Evil(), tmp_path / "zip.pth")
    with pytest.raises(CheckpointError, match="nothing of it was run"):
        read_tensors(tmp_path / "zip.pth")
    assert not (tmp_path / "executed").exists()


def test_importing_into_seanet_takes_what_they_share():
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    report = import_torchvision(build("seanet_r50", 2), theirs.state_dict())
    assert any(name.startswith("rpn.") for name in report.taken)
    assert all(name.startswith(("box_heads.", "mask_head.")) for name in report.unused + report.untouched)
    cascade = import_torchvision(build("cascade_rcnn_r50", 2), theirs.state_dict())
    boxes = [f"box_heads.0.box_predictor.bbox_pred.{part}" for part in ("bias", "weight")]
    assert cascade.unused == boxes
    assert "box_heads.0.box_head.fc6.weight" in cascade.taken
    later = [name for name in cascade.untouched if name not in boxes]
    assert len(later) == len(cascade.untouched) - 2
    assert {name[:12] for name in later} == {"box_heads.1.", "box_heads.2."}
    with pytest.raises(CheckpointError, match="none of these"):
        import_torchvision(build("seanet_r50", 2), {"a": torch.zeros(1)})


def test_weights_of_another_layout_are_refused(tmp_path, model):
    weights = model.detector.state_dict()
    weights["box_head.old"] = weights.pop("box_heads.0.iou.bias")
    meta = checkpoint.Meta(model.config, model.categories.names, model.categories.ids)
    checkpoint.save_model(tmp_path / "best.safetensors", weights, meta)
    with pytest.raises(CheckpointError, match=r"2 in all, box_head\.old first: load it with the version that wrote it"):
        load(tmp_path, "cpu")
