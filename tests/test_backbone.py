"""Backbones of timm: ConvNeXt and Swin, at any size, with their own ImageNet weights' names."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from builders import batch_of, target
from seanet import config
from seanet.backbone import Backbone, NormedPyramid, build_backbone
from seanet.detector import build, count_parameters
from seanet.errors import CheckpointError, UserError
from seanet.recipes import recipe
from seanet.settings import override
from seanet.weights import start

timm = pytest.importorskip("timm")
SWIN = "timm/swin_tiny_patch4_window7_224"


@pytest.fixture
def small_swin(monkeypatch):
    """Swin with two narrow blocks a stage; all else, windows and shifts among it, as Swin-T has it."""
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, embed_dim=24, depths=(2, 2, 2, 2)))


def backbone(name: str, **settings) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(config.Backbone(name=name, norm="batch", frozen_stages=0, channels=16, **settings)).eval()


SIZES = [(64, 96), (100, 224), (75, 101), (96, 33), (384, 64)]


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_swin_takes_any_size(small_swin, size):
    maps = backbone(SWIN).body(torch.rand(2, 3, *size))
    for found, stride, width in zip(maps.values(), (4, 8, 16, 32), (24, 48, 96, 192), strict=True):
        assert found.shape == (2, width, *(-(-side // stride) for side in size))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_convnext_takes_any_size(size):
    maps = backbone("timm/convnext_atto").body(torch.rand(2, 3, *size))
    for found, stride, width in zip(maps.values(), (4, 8, 16, 32), (40, 80, 160, 320), strict=True):
        assert found.shape == (2, width, *(side // stride for side in size))


@torch.no_grad()
def test_a_map_as_high_as_it_is_wide_in_channels_stays_upright(small_swin):
    """24 rows of 24 channels: the shape alone does not tell which is which."""
    maps = backbone(SWIN).body(torch.rand(1, 3, 96, 128))
    assert maps["0"].shape == (1, 24, 24, 32)


@torch.no_grad()
def test_swin_at_its_own_size_is_timms(small_swin):
    body = backbone(SWIN).body
    plain = timm.create_model(SWIN.removeprefix("timm/"), features_only=True, pretrained=False, always_partition=True)
    plain.load_state_dict(body.network.state_dict())
    images = torch.rand(1, 3, 224, 224)
    for ours, theirs in zip(body(images).values(), plain.eval()(images), strict=True):
        assert torch.allclose(ours, theirs.permute(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize("size", [(100, 100), (150, 90), (224, 224)])
@torch.no_grad()
def test_opposite_borders_do_not_see_each_other(small_swin, size):
    """Two blocks of 7 x 7 windows, the second shifted by 3, see less than 21 cells, that is 84 pixels, far."""
    body = backbone(SWIN).body
    images = torch.rand(1, 3, *size)
    changed = images.clone()
    changed[..., -4:, :] += 1
    difference = (body(images)["0"] - body(changed)["0"]).abs().amax((0, 1, 3))
    assert difference[-1] > 0
    assert difference[: (size[0] - 84) // 4].max() == 0


@torch.no_grad()
def test_a_batch_of_swin_equals_its_images(small_swin):
    body = backbone(SWIN).body
    images = torch.rand(3, 3, 75, 101)
    together = body(images)
    for i in range(3):
        for name, alone in body(images[i : i + 1]).items():
            assert torch.allclose(together[name][i : i + 1], alone, atol=1e-5)


@torch.no_grad()
def test_the_pyramid_sees_maps_of_mean_0_and_variance_1():
    found = backbone("timm/convnext_atto")
    assert isinstance(found.fpn, NormedPyramid)
    seen = []
    found.fpn.inner_blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found(50 * torch.rand(1, 3, 64, 64))
    assert seen[0].mean(1).abs().max() < 1e-4
    assert torch.allclose(seen[0].var(1, correction=0), torch.ones(1), atol=0.05)


def test_batch_norms_leave_the_pyramid_as_it_was():
    assert not isinstance(backbone("timm/resnet18").fpn, NormedPyramid)
    assert not isinstance(backbone("resnet50").fpn, NormedPyramid)


@pytest.mark.parametrize("family", ["mask_rcnn", "seanet", "seanet_ms", "seanet_cascade"])
def test_swin_trains(small_swin, family):
    torch.manual_seed(0)
    small = ["backbone.channels=32", "mask.convs=1", "sampling.rois=16", "detections.score=0.0"]
    settings = override(recipe(f"{family}_swin_t"), small)
    detector = build(settings, 3).train()
    targets = [target([(10, 20, 60, 90)], [1]), target([(40, 5, 99, 60)], [2])]
    images = torch.randint(0, 256, (2, 3, 96, 101), dtype=torch.uint8)
    losses = detector(batch_of(images, targets))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    silent = [name for name, p in detector.backbone.body.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent
    assert len(detector.eval().predict(batch_of(images))) > 0


def test_convnext_t_and_swin_t_have_their_size():
    """timm's counts of the whole networks, less their classifiers and last norms."""
    for name, width in (("convnext_t", 768), ("swin_t", 768)):
        settings = recipe(f"seanet_{name}")
        with torch.device("meta"):
            counted = count_parameters(build(settings, 80))
            whole = timm.create_model(settings.backbone.name.removeprefix("timm/"), pretrained=False)
        head = 1000 * (width + 1) + 2 * width
        assert counted["backbone"] == sum(p.numel() for p in whole.parameters()) - head
        assert counted["total"] == counted["trainable"]


@pytest.mark.parametrize("name", ["timm/convnext_atto", SWIN])
def test_imagenet_weights_come_by_name(name, monkeypatch):
    """What timm would fetch is made here; every tensor of the network takes it, and the pyramid keeps its own."""
    if name == SWIN:
        monkeypatch.setattr(timm, "create_model", partial(timm.create_model, embed_dim=24, depths=(2, 2, 2, 2)))
    made = timm.create_model

    def fetched(*args, pretrained=False, **settings) -> nn.Module:
        network = made(*args, pretrained=False, **settings)
        for p in network.parameters() if pretrained else ():
            nn.init.constant_(p, 0.25)
        return network

    settings = override(recipe("mask_rcnn_convnext_t"), [f"backbone.name={name}", "backbone.channels=16"])
    detector = build(settings, 2)
    with pytest.raises(UserError, match="--download"):
        start.load_start(detector, settings.backbone)
    monkeypatch.setattr(timm, "create_model", fetched)
    said = start.load_start(detector, settings.backbone, download=True)
    assert said == f"backbone: ImageNet weights of timm ({name.removeprefix('timm/')})"
    assert all((p == 0.25).all() for p in detector.backbone.body.parameters())
    assert not any((p == 0.25).all() for p in detector.backbone.fpn.parameters())


@pytest.mark.parametrize(("name", "unused"), [("timm/convnext_atto", 4), (SWIN, 4), ("timm/resnet18", 2)])
def test_a_file_of_timms_whole_network(name, unused, tmp_path, request):
    """Its names are others than those of the network of features; timm itself says where they belong."""
    if name == SWIN:
        request.getfixturevalue("small_swin")
    plain = name.removeprefix("timm/")
    whole = timm.create_model(plain, pretrained=False).state_dict()
    save_file(whole, tmp_path / "whole.safetensors")
    wanted = timm.create_model(plain, True, pretrained_cfg_overlay={"state_dict": whole}, features_only=True)
    settings = override(recipe("mask_rcnn_convnext_t"), [f"backbone.name={name}", "backbone.channels=16"])
    detector = build(settings, 2)
    file = replace(settings.backbone, weights=str(tmp_path / "whole.safetensors"))
    # A classifier, and where there is one its norm.
    assert f"({unused} of its tensors not used)" in start.load_start(detector, file)
    found = detector.backbone.body.network.state_dict()
    assert found.keys() == wanted.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.state_dict().items())
    with pytest.raises(CheckpointError, match="not of this backbone"):
        start.load_start(build(recipe("mask_rcnn_lite"), 2), file)


@pytest.mark.parametrize(
    "failure", [OSError("no route to huggingface.co"), RuntimeError("No pretrained weights exist")]
)
def test_weights_that_cannot_be_fetched(failure, monkeypatch):
    settings = override(recipe("mask_rcnn_convnext_t"), ["backbone.name=timm/convnext_atto", "backbone.channels=16"])
    detector = build(settings, 2)

    def unreachable(*args, **settings):
        raise failure

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match=f"could not be fetched .{failure}"):
        start.load_start(detector, settings.backbone, download=True)
