"""With ``legacy`` geometry and the same weights, Mask R-CNN here is torchvision's Mask R-CNN."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_loss
from torchvision.ops import roi_align

from builders import batch_of, packed_dense, target
from seanet.config import Config
from seanet.execution import PLAIN
from seanet.instances import Instances
from seanet.masks import crop_masks_legacy
from seanet.pasting import paste_legacy
from seanet.predict import build
from seanet.recipes import recipe
from seanet.rois import match_and_sample
from seanet.types import Rois
from seanet.weights.importing import import_torchvision

CLASSES = 3


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1, min_size=128, max_size=256
    )
    for name, buffer in model.named_buffers():  # batch norms that do something
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    with torch.no_grad():  # scores that differ
        model.roi_heads.box_predictor.cls_score.weight.mul_(40)
        model.roi_heads.mask_predictor.mask_fcn_logits.weight.mul_(40)
    return model.eval()


@pytest.fixture(scope="module")
def ours(theirs):
    settings: Config = replace(recipe("mask_rcnn_r50"), geometry="legacy")
    settings = replace(settings, backbone=replace(settings.backbone, norm="batch", frozen_stages=0))
    model = build(settings, CLASSES).run_with(PLAIN)
    report = import_torchvision(model, theirs.state_dict())
    assert not report.unused
    assert not report.untouched
    return model


@pytest.mark.parametrize("size", [(128, 160), (128, 192), (160, 128)])
def test_predictions_are_equal(theirs, ours, size):
    images = torch.randint(0, 256, (1, 3, *size), generator=torch.Generator().manual_seed(size[1]), dtype=torch.uint8)
    with torch.no_grad():
        wanted = theirs([images[0] / 255])[0]
    found: Instances = ours.predict_batch(batch_of(images), [size])[0]
    assert len(found) == len(wanted["scores"]) > 10
    assert torch.equal(torch.from_numpy(found.boxes), wanted["boxes"])
    assert torch.equal(torch.from_numpy(found.score), wanted["scores"])
    assert torch.equal(torch.from_numpy(found.labels), wanted["labels"])
    for i in range(len(found)):
        pixels, left, top = paste_legacy(found.masks[i], found.boxes[i], size)
        dense = torch.zeros(size)
        dense[top : top + pixels.shape[0], left : left + pixels.shape[1]] = torch.from_numpy(pixels)
        assert torch.equal(dense, wanted["masks"][i, 0])


def test_losses_of_the_same_rois_are_equal(theirs, ours):
    images = torch.randint(0, 256, (2, 3, 128, 160), dtype=torch.uint8)
    targets = [target([(10, 20, 60, 90), (0, 40, 50, 128)], [1, 3]), target([(100, 5, 160, 60)], [2])]
    batch = batch_of(images, targets)
    detector = ours.detector
    torch.manual_seed(1)
    with torch.no_grad():
        features = list(detector.backbone((images / 255 - detector.mean) / detector.std).values())[:4]
        proposals = [
            torch.tensor([[8.0, 18, 62, 88], [5, 45, 48, 120], [60, 60, 100, 100]]),
            torch.tensor([[98.0, 4, 158, 62]]),
        ]
        rois, matched = match_and_sample(proposals, targets, ours.config.sampling, [1, 2])
        mine = detector.box_heads[0].loss(detector.box_pool(features, rois), rois, matched, targets)
        positive = matched.labels.nonzero().flatten()
        fg, found = rois[positive], matched[positive]
        mine |= detector.mask_head.loss(
            detector.mask_pool(features, fg), found.labels, detector.mask_targets(batch, fg, found.index)
        )[0]
        heads = theirs.roi_heads
        named = {str(i): feature for i, feature in enumerate(features)}
        sizes = batch.sizes
        logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(named, split(rois), sizes)))
        wanted = heads.box_coder.encode(list(split(Rois(matched.boxes, rois.image))), split(rois))
        box_class, box_regression = fastrcnn_loss(logits, deltas, [matched.labels], list(wanted))
        mask_logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(named, split(fg), sizes)))
        first = torch.tensor([0, 2])[fg.image]
        masks = [dense_masks([(10, 20, 60, 90), (0, 40, 50, 128)]), dense_masks([(100, 5, 160, 60)])]
        rows = [(found.index - first)[fg.image == i] for i in range(2)]
        labels = [torch.tensor([1, 3]), torch.tensor([2])]
        mask = maskrcnn_loss(mask_logits, split(fg), masks, labels, rows)
    assert torch.allclose(mine["box_class"], box_class, rtol=1e-6)
    assert torch.allclose(mine["box_regression"], box_regression, rtol=1e-6)
    assert torch.allclose(mine["mask"], mask, rtol=1e-6)


@pytest.mark.parametrize("truth", [target([(10, 20, 60, 90)], [1]), target([], [])])
def test_rpn_losses_are_equal(theirs, ours, truth):
    """Image by image, for each of ours is drawn from by a seed of its own."""
    images, targets = torch.randint(0, 256, (1, 3, 128, 160), dtype=torch.uint8), [truth]
    listed = ImageList((images / 255 - ours.detector.mean) / ours.detector.std, [(128, 160)])
    with torch.no_grad():
        features = theirs.backbone(listed.tensors)
        theirs.rpn.train()
        torch.manual_seed(7)
        _, wanted = theirs.rpn(listed, features, [{"boxes": t.boxes} for t in targets])
        theirs.rpn.eval()
        ours.detector.train().backbone.eval()
        _, _, mine = ours.detector.propose(batch_of(images, targets, seed=7))
        ours.detector.eval()
    assert torch.equal(mine["rpn_class"], wanted["loss_objectness"])
    assert torch.equal(mine["rpn_regression"], wanted["loss_rpn_box_reg"])


def split(rois: Rois) -> list[torch.Tensor]:
    return [rois.boxes[rois.image == i] for i in range(2)]


def dense_masks(boxes, size=(128, 160)) -> torch.Tensor:
    masks = torch.zeros(len(boxes), *size)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = 1
    return masks


def test_legacy_targets_are_torchvisions_roi_align(ours):
    generator = torch.Generator().manual_seed(3)
    bits = (torch.rand(4, 40, 50, generator=generator) > 0.4).to(torch.int32)
    masks = packed_dense(bits)
    boxes = torch.rand(30, 4, generator=generator) * 20
    boxes[:, 2:] += boxes[:, :2] + 1
    index = torch.arange(30) % 4
    found = crop_masks_legacy(masks, index, boxes, torch.tensor([[40, 50]] * 30), 28)
    wanted = roi_align(bits[:, None].float(), torch.cat((index[:, None].float(), boxes), 1), 28, 1.0)[:, 0]
    assert torch.equal(found, wanted)
