"""Weights of detectron2, mmdetection and torchvision's older files: every tensor finds its place, in our order and scale."""

import pickle
from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection import maskrcnn_resnet50_fpn

import theirs
from seanet.backbone import normalise
from seanet.errors import CheckpointError, UserError
from seanet.predict import build
from seanet.recipes import recipe
from seanet.settings import override
from seanet.weights.files import read_source
from seanet.weights.frameworks import STYLES
from seanet.weights.importing import foreign, import_weights
from seanet.weights.making import new_model

K = 5


@pytest.fixture(scope="module")
def ours():
    return build("mask_rcnn_r50", K)


@pytest.fixture(scope="module")
def of_detectron2():
    return theirs.filled(theirs.detectron2(K))


@pytest.fixture(scope="module")
def of_mmdetection():
    return theirs.filled(theirs.mmdetection(K))


def complete(report) -> bool:
    return not report.unused and not report.untouched


def test_all_of_detectron2_finds_its_place(ours, of_detectron2):
    report = import_weights(ours, of_detectron2)
    assert complete(report)
    assert report.framework == "detectron2"
    assert report.advice == ["backbone.stride_in: '3x3' -> '1x1'", "pool.samples: 2 -> 0"]
    found = ours.detector.state_dict()
    pairs = {
        "backbone.body.layer3.5.bn2.running_var": "backbone.bottom_up.res4.5.conv2.norm.running_var",
        "backbone.body.layer2.0.downsample.0.weight": "backbone.bottom_up.res3.0.shortcut.weight",
        "backbone.body.layer1.0.downsample.1.bias": "backbone.bottom_up.res2.0.shortcut.norm.bias",
        "backbone.fpn.inner_blocks.0.0.weight": "backbone.fpn_lateral2.weight",
        "backbone.fpn.layer_blocks.3.0.bias": "backbone.fpn_output5.bias",
        "rpn.head.cls_logits.weight": "proposal_generator.rpn_head.objectness_logits.weight",
        "box_heads.0.box_head.fc7.weight": "roi_heads.box_head.fc2.weight",
        "mask_head.mask_head.3.0.weight": "roi_heads.mask_head.mask_fcn4.weight",
        "mask_head.mask_predictor.conv5_mask.weight": "roi_heads.mask_head.deconv.weight",
    }
    assert all(torch.equal(found[own], of_detectron2[name]) for own, name in pairs.items())


def test_the_background_comes_first(ours, of_detectron2):
    import_weights(ours, of_detectron2)
    found, name = ours.detector.state_dict(), "roi_heads.box_predictor."
    scores, boxes = (
        found["box_heads.0.box_predictor.cls_score.weight"],
        found["box_heads.0.box_predictor.bbox_pred.bias"],
    )
    assert torch.equal(scores[0], of_detectron2[name + "cls_score.weight"][K])
    assert torch.equal(scores[1:], of_detectron2[name + "cls_score.weight"][:K])
    assert torch.equal(boxes, torch.cat((torch.zeros(4), of_detectron2[name + "bbox_pred.bias"])))
    masks = found["mask_head.mask_predictor.mask_fcn_logits.weight"]
    assert torch.equal(masks[1:], of_detectron2["roi_heads.mask_head.predictor.weight"])


def test_colours_of_caffe_are_exact(ours, of_detectron2):
    """Also at the image's border, where both pad with zeros after taking the mean off."""
    import_weights(ours, of_detectron2)
    image = torch.randint(0, 256, (1, 3, 20, 24), generator=torch.Generator().manual_seed(1)).float()
    bgr = image.flip(1) - torch.tensor([103.53, 116.28, 123.675])[:, None, None]
    wanted = F.conv2d(bgr, of_detectron2["backbone.bottom_up.stem.conv1.weight"], stride=2, padding=3)
    detector = ours.detector
    seen = normalise(image.to(torch.uint8), [(20, 24)], detector.mean, detector.std)
    found = F.conv2d(seen, detector.backbone.body["conv1"].weight, stride=2, padding=3)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=wanted.abs().max().item() * 1e-5)


@pytest.mark.parametrize(("style", "bgr"), [("pytorch", False), ("bgr", True)])
def test_other_styles_leave_the_scale(ours, of_mmdetection, style, bgr):
    import_weights(ours, of_mmdetection, style)
    weight = of_mmdetection["backbone.conv1.weight"]
    assert torch.equal(ours.detector.backbone.body["conv1"].weight, weight.flip(1) if bgr else weight)


def test_other_means_are_refused(ours, of_detectron2):
    other = of_detectron2 | {"pixel_mean": torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]}
    with pytest.raises(CheckpointError, match=r"colours less .*122\.77.*only ImageNet's means"):
        import_weights(ours, other)


@pytest.mark.parametrize(
    "colours",
    [
        {"pixel_mean": torch.zeros(0), "pixel_std": torch.zeros(0)},
        {"pixel_mean": torch.full((3,), torch.nan), "pixel_std": torch.ones(3)},
        {"pixel_mean": torch.tensor([103.53, 116.28, 123.675]), "pixel_std": torch.tensor([1, 1, torch.nan])},
        {"pixel_mean": torch.tensor([103.53, 116.28, 123.675]), "pixel_std": torch.tensor([1, 1, 0.0])},
    ],
)
def test_colours_that_are_none(ours, of_detectron2, colours):
    with pytest.raises(CheckpointError, match="colours less"):
        import_weights(ours, of_detectron2 | colours)


@pytest.mark.parametrize("layer", ["cls_score", "bbox_pred"])
def test_weights_of_no_dimension_have_no_place(ours, of_detectron2, layer):
    name = f"roi_heads.box_predictor.{layer}.bias"
    report = import_weights(ours, of_detectron2 | {name: torch.tensor(1.0)})
    assert report.unused == [f"box_heads.0.box_predictor.{layer}.bias"]


def test_all_of_mmdetection_finds_its_place(ours, of_mmdetection):
    report = import_weights(ours, of_mmdetection)
    assert complete(report)
    assert report.advice == ["pool.samples: 2 -> 0"]
    found = ours.detector.state_dict()
    assert torch.equal(found["backbone.body.layer4.2.conv3.weight"], of_mmdetection["backbone.layer4.2.conv3.weight"])
    assert torch.equal(found["rpn.head.bbox_pred.bias"], of_mmdetection["rpn_head.rpn_reg.bias"])
    assert torch.equal(
        found["box_heads.0.box_predictor.cls_score.bias"][0], of_mmdetection["roi_head.bbox_head.fc_cls.bias"][K]
    )
    assert torch.equal(found["mask_head.mask_head.0.0.bias"], of_mmdetection["roi_head.mask_head.convs.0.conv.bias"])


def test_mask_scoring_of_mmdetection():
    scored = theirs.filled(theirs.mmdetection(K, scored=True))
    model = build("ms_rcnn_r50", K)
    assert complete(import_weights(model, scored))
    assert torch.equal(model.detector.scoring.convs[6].weight, scored["roi_head.mask_iou_head.convs.3.conv.weight"])
    assert torch.equal(model.detector.scoring.iou.weight, scored["roi_head.mask_iou_head.fc_mask_iou.weight"])


@pytest.mark.parametrize("framework", ["detectron2", "mmdetection"])
def test_boxes_of_a_cascade_mean_the_same(framework):
    """Decoded as each framework does it, from the numbers that its layer and that ours give for the same features."""
    weights = theirs.filled(getattr(theirs, framework)(K, stages=3))
    model = build("cascade_rcnn_r50", K)
    report = import_weights(model, weights)
    assert not report.untouched
    assert {name.split(".")[2] for name in report.unused} <= {"0", "1"}, "the masks of mmdetection's earlier stages"
    name = "roi_heads.box_predictor.{}.bbox_pred" if framework == "detectron2" else "roi_head.bbox_head.{}.fc_reg"
    box, features = torch.tensor([[10.0, 20, 50, 100]]), torch.rand(1, 1024) / 1024
    deviations = [(0.1, 0.2), (0.05, 0.1), (1 / 30, 1 / 15) if framework == "detectron2" else (0.033, 0.067)]
    for stage, (centre, side) in enumerate(deviations):
        head = model.detector.box_heads[stage]
        theirs_says = F.linear(features, *(weights[f"{name.format(stage)}.{part}"] for part in ("weight", "bias")))[0]
        x, y = 30 + theirs_says[0] * centre * 40, 60 + theirs_says[1] * centre * 80
        w, h = 40 * (theirs_says[2] * side).exp(), 80 * (theirs_says[3] * side).exp()
        found = head.coder.decode_single(head.box_predictor.bbox_pred(features), box)
        assert torch.allclose(found, torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2))[None], rtol=1e-4)


def test_torchvisions_older_names():
    """Those of its published files, written before its layers of convolutions were numbered."""
    state = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=K + 1).state_dict()
    older = {}
    for name, value in state.items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for i in range(4):
            name = name.replace(f"roi_heads.mask_head.{i}.0.", f"roi_heads.mask_head.mask_fcn{i + 1}.")
            for blocks in ("inner", "layer"):
                name = name.replace(f"fpn.{blocks}_blocks.{i}.0.", f"fpn.{blocks}_blocks.{i}.")
        older[name] = value
    assert len(older.keys() - state.keys()) == 26
    report = import_weights(build("mask_rcnn_r50", K), older)
    assert complete(report)
    assert report.advice == ["geometry: 'aligned' -> 'legacy'"]


def test_halving_in_the_first_convolution():
    model = build(override(recipe("mask_rcnn_r50"), ["backbone.stride_in=1x1"]), 1)
    blocks = [model.detector.backbone.body[f"layer{i}"][0] for i in (1, 2, 3, 4)]
    assert [block.conv1.stride[0] for block in blocks] == [1, 2, 2, 2]
    assert [block.conv2.stride[0] for block in blocks] == [1, 1, 1, 1]


META = {
    "meta": {
        "CLASSES": tuple("abcde"),
        "config": "img_norm_cfg = dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0,",
    }
}
META["meta"]["config"] += " 1.0], to_rgb=False)\nbackbone=dict(style='caffe')"


def test_a_file_of_mmdetection_makes_a_model(tmp_path, of_mmdetection):
    torch.save(META | {"state_dict": of_mmdetection, "args": Namespace(lr=1)}, tmp_path / "theirs.pth")
    source = read_source(tmp_path / "theirs.pth")
    assert source.left == {"argparse.Namespace": 1}
    assert foreign(source).style == STYLES["caffe"]
    model, report = new_model(source, recipe("mask_rcnn_r50"))
    assert complete(report)
    assert not report.advice
    assert model.categories.names == tuple("abcde")
    assert (model.config.backbone.stride_in, model.config.pool.samples) == ("1x1", 0)
    with pytest.raises(UserError, match=r"theirs\.pth: has 5 classes, but 2 names"):
        new_model(source, recipe("mask_rcnn_r50"), "a,b")


def test_a_pickle_of_detectron2(tmp_path, ours, of_detectron2):
    arrays = {name: value.numpy() for name, value in of_detectron2.items()}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    assert complete(import_weights(ours, tmp_path / "model.pkl"))


def test_seanet_takes_what_it_shares(of_detectron2):
    report = import_weights(build("seanet_r50", K), of_detectron2)
    assert {name.split(".")[0] for name in report.taken} == {"backbone", "rpn"}
    assert {name.split(".")[0] for name in report.untouched} == {"box_heads", "mask_head"}


def test_what_cannot_be_taken(ours, of_detectron2):
    deeper = of_detectron2 | {"backbone.bottom_up.res4.22.conv1.weight": torch.rand(256, 1024, 1, 1)}
    with pytest.raises(CheckpointError, match=r"another backbone than resnet50.*1 of its tensors.*layer3\.22"):
        import_weights(ours, deeper)
    with pytest.raises(CheckpointError, match=r"^holds weights that are not finite \(rpn"):
        import_weights(ours, of_detectron2 | {"proposal_generator.rpn_head.conv.bias": torch.full((256,), torch.nan)})
    with pytest.raises(CheckpointError, match=r"backbone alone.*backbone\.weights=FILE"):
        import_weights(ours, {"layer1.0.conv1.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="none of these tensors"):
        import_weights(ours, {"a": torch.zeros(1)})
    with pytest.raises(UserError, match="no style 'rgb'"):
        import_weights(ours, of_detectron2, "rgb")


def test_a_file_that_cannot_be_taken_is_named(tmp_path, ours):
    torch.save({"a": torch.zeros(1)}, tmp_path / "theirs.pth")
    with pytest.raises(CheckpointError, match=r"theirs\.pth: none of these tensors") as error:
        import_weights(ours, tmp_path / "theirs.pth")
    assert error.value.file == str(tmp_path / "theirs.pth")


def test_names_under_a_prefix(ours, of_mmdetection):
    assert complete(import_weights(ours, {f"module.{name}": value for name, value in of_mmdetection.items()}))
