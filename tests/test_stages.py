"""Mask Scoring and Cascade R-CNN: targets and refinements with known answers, and equality with a stage by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import batch_of, packed_dense, target
from seanet import config
from seanet.detector import best_first, build, inside, suppress
from seanet.errors import ConfigError
from seanet.heads import mean
from seanet.heads.classic import ClassicBoxHead
from seanet.heads.fcn_box import FullyConvBoxHead
from seanet.heads.scoring import MaskIouHead
from seanet.masks import crop_masks, predicted_iou
from seanet.recipes import recipe
from seanet.rois import match, match_and_sample
from seanet.settings import override
from seanet.types import Detections, Rois

SMALL = ["backbone.norm=batch", "backbone.frozen_stages=0"]


def detector(name: str, *changes: str):
    torch.manual_seed(0)
    return build(override(recipe(name), [*SMALL, *changes]), 3)


def rois_of(boxes: list[list[float]], image: int = 0) -> Rois:
    return Rois(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.full((len(boxes),), image))


# Mask IoU


def test_predicted_iou_counts_what_lies_outside_the_roi():
    """A 20 x 20 object; the RoI shows its left half and is filled: both = 200 of a union of 400."""
    mask = torch.zeros(1, 40, 40)
    mask[0, 10:30, 10:30] = 1
    masks, boxes = packed_dense(mask), torch.tensor([[10.0, 10, 20, 30]])
    assert masks.areas.tolist() == [400]
    share = crop_masks(masks, torch.tensor([0]), boxes, torch.tensor([[40, 40]]), 4)
    full = torch.ones(1, 4, 4)
    assert predicted_iou(full, share, boxes, masks.areas).tolist() == pytest.approx([0.5])
    assert predicted_iou(full * 0.4, share, boxes, masks.areas).tolist() == [0]
    upper = full.clone()
    upper[:, 2:] = 0
    assert predicted_iou(upper, share, boxes, masks.areas).tolist() == pytest.approx([0.25])


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_predicted_iou_equals_dense_masks(seed):
    """RoIs on whole pixels with as many cells: the IoU of the pasted mask with the object, counted pixel by pixel."""
    generator = torch.Generator().manual_seed(seed)
    size = 8
    mask = (torch.rand(1, 30, 30, generator=generator) < 0.5).float()
    x, y = torch.randint(0, 30 - size, (2,), generator=generator).tolist()
    boxes = torch.tensor([[x, y, x + size, y + size]], dtype=torch.float32)
    probability = torch.rand(1, size, size, generator=generator)
    masks = packed_dense(mask)
    share = crop_masks(masks, torch.tensor([0]), boxes, torch.tensor([[30, 30]]), size)
    pasted = torch.zeros(30, 30)
    pasted[y : y + size, x : x + size] = probability[0] >= 0.5
    wanted = (pasted * mask[0]).sum() / torch.maximum(pasted, mask[0]).sum()
    assert predicted_iou(probability, share, boxes, masks.areas).item() == pytest.approx(wanted.item(), abs=1e-6)


def test_a_mask_covers_no_more_than_its_object():
    """A RoI of 11 x 11 pixels whose target was cut from its rounded box, of 10 x 10: all of the 100 pixels, not 121."""
    full, boxes = torch.ones(1, 4, 4), torch.tensor([[9.6, 9.6, 20.6, 20.6]])
    assert predicted_iou(full, full, boxes, torch.tensor([100])).item() == pytest.approx(100 / 121)


def test_areas_of_windows():
    masks = torch.zeros(3, 20, 20)
    masks[0, 3, 4] = masks[1, 0:5, 2:7] = masks[2, 19, :] = 1
    assert packed_dense(masks).areas.tolist() == [1, 25, 20]


def test_mask_iou_learns_the_class_asked_for():
    head = MaskIouHead(config.MaskIou(convs=2, width=16), 3, 8, 14)
    crops = torch.randn(4, 8, 14, 14, requires_grad=True)
    probability = torch.rand(4, 28, 28)
    labels, wanted = torch.tensor([1, 2, 2, 3]), torch.tensor([0.1, 0.5, 0.9, 0.0])
    found = head(crops, probability)
    loss = head.loss(crops, probability, labels, wanted)["mask_iou"]
    assert loss.item() == pytest.approx(0.5 * (found[range(4), labels - 1] - wanted).square().mean().item(), rel=1e-5)
    grown = torch.autograd.grad(loss, head.iou.bias)[0]
    by_hand = torch.stack([(found[range(4), labels - 1] - wanted)[labels == k].sum() / 4 for k in (1, 2, 3)])
    assert torch.allclose(grown, by_hand, atol=1e-6)
    assert head.loss(crops[:0], probability[:0], labels[:0], wanted[:0])["mask_iou"].item() == 0
    ious = head.predict(crops * 1000, probability, labels)
    assert ious.min() >= 0
    assert ious.max() <= 1


def test_the_masks_score_teaches_the_features_and_not_the_mask():
    model = detector("seanet_ms_lite").train()
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    loss = model(batch_of(images, [target([(10, 20, 70, 80)], [2])]))["mask_iou"]
    loss.backward()
    assert loss > 0
    assert all(p.grad is None for p in model.mask_head.parameters())
    assert all(p.grad is not None for p in model.scoring.parameters())
    assert model.backbone.fpn.layer_blocks[0][0].weight.grad.any()


def test_the_parameters_of_mask_scoring():
    """Four convolutions over one more channel, then 256 x 7 x 7 -> 1024 -> 1024 -> K."""
    head = MaskIouHead(config.MaskIou(), 80, 256, 14)
    convolutions = (257 + 3 * 256) * 256 * 9 + 4 * 256
    layers = 256 * 49 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 80 + 80
    assert sum(p.numel() for p in head.parameters()) == convolutions + layers


def test_scores_are_the_product_of_three_factors_best_first():
    model = detector("seanet_ms_lite", "detections.score=0.0", "detections.limit=30").eval()
    torch.nn.init.constant_(model.box_heads[0].iou.bias, 0.6)
    torch.nn.init.normal_(model.scoring.iou.weight, std=0.3)
    torch.nn.init.constant_(model.scoring.iou.bias, 0.5)
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = model.predict(batch_of(images))
    assert torch.allclose(found.scores, found.cls_scores * found.box_ious * found.mask_ious)
    assert found.mask_ious.unique().numel() > 5
    assert found.rois.image.tolist() == sorted(found.rois.image.tolist())
    for i in (0, 1):
        assert (found.scores[found.rois.image == i].diff() <= 0).all()


def test_best_first_keeps_images_together():
    found = Detections(
        Rois(torch.zeros(4, 4), torch.tensor([0, 0, 1, 1])),
        torch.arange(4),
        torch.tensor([0.1, 0.9, 0.3, 0.8]),
        torch.ones(4),
    )
    assert best_first(found).labels.tolist() == [1, 0, 3, 2]


# Cascade


def test_match_equals_sampling_everything():
    targets = [target([(10, 10, 50, 50), (60, 60, 90, 100)], [2, 1]), target([], []), target([(0, 0, 30, 30)], [3])]
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(90, 2, generator=generator) * 60
    proposals = list(torch.cat((low, low + 5 + 40 * torch.rand(90, 2, generator=generator)), 1).split(30))
    rois, matched = match_and_sample(
        proposals, targets, config.Sampling(iou=0.3, rois=1000, positive_share=1.0), range(len(targets))
    )
    again = match(rois, targets, 0.3)
    assert matched.labels.any()
    assert all(torch.equal(getattr(matched, part), getattr(again, part)) for part in ("labels", "boxes", "index"))
    assert (match(rois, targets, 0.7).labels != 0).sum() < (again.labels != 0).sum()


def test_refined_boxes_of_the_classic_head():
    head = ClassicBoxHead(config.ClassicBox(width=8, class_agnostic=True, delta_weights=(20.0, 10.0)), 3, 4)
    for layer in (head.box_predictor.bbox_pred, head.box_predictor.cls_score):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    head.box_predictor.bbox_pred.bias.data = torch.tensor([2.0, 0.0, 0.0, 10 * torch.log(torch.tensor(2.0))])
    boxes, probability = head.refine(torch.randn(1, 4, 7, 7), rois_of([[10, 20, 30, 60]]))
    # A tenth of the width to the right; twice as high around the same centre.
    assert boxes[0].tolist() == pytest.approx([12, 0, 32, 80], abs=1e-3)
    assert probability[0].tolist() == pytest.approx([0.25] * 3)


def test_a_class_has_its_own_refined_box_unless_they_share_one():
    head = ClassicBoxHead(config.ClassicBox(width=8), 3, 4)
    torch.nn.init.zeros_(head.box_predictor.bbox_pred.weight)
    head.box_predictor.bbox_pred.bias.data = torch.arange(16.0) / 10
    crops, rois = torch.randn(5, 4, 7, 7), rois_of([[0, 0, 10, 10]] * 5)
    boxes, probability = head.refine(crops, rois)
    every = head.decode(crops, rois, 0.0).boxes
    assert torch.equal(boxes, every[range(5), probability.argmax(1)])


@pytest.mark.parametrize("changes", [{}, {"cell": "class_first"}, {"iou_weight": 0.0}])
def test_a_refined_box_is_the_one_that_would_be_decoded(changes):
    torch.manual_seed(0)
    head = FullyConvBoxHead(config.FcnBox(convs=1, **changes), 3, 8)
    crops, rois = torch.randn(6, 8, 7, 7), rois_of([[10, 10, 40, 50]] * 6)
    boxes, probability = head.refine(crops, rois)
    found = head.decode(crops, rois, -1.0)
    assert torch.equal(boxes, found.boxes[:, 0])
    assert torch.equal(probability, found.cls_scores)
    assert (found.box_ious is None) == ("iou_weight" in changes)


def test_a_cascade_of_one_stage_by_hand():
    """Two stages: the second sees the clipped boxes of the first; scores are the mean of both."""
    model = detector("cascade_rcnn_lite", "cascade.ious=[0.6]", "detections.score=0.0").eval()
    images = torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    batch = batch_of(images)
    features, proposals, _ = model.propose(batch)
    rois = Rois.cat(proposals)
    first, second = model.box_heads
    boxes, early = first.refine(model.box_pool(features, rois), rois)
    moved = inside(boxes, rois.image, batch.sizes)
    assert moved.boxes.amin() >= 0
    assert moved.boxes.amax(0).tolist() <= [128, 96, 128, 96]
    late = second.decode(model.box_pool(features, moved), moved, 0.0)
    late = type(late)(late.image, late.boxes, (early + late.scores) / 2, (early + late.cls_scores) / 2)
    wanted = suppress(late, batch.sizes, model.settings.detections)
    found = model.detect(features, rois, batch.sizes)
    assert torch.allclose(found.rois.boxes, wanted.rois.boxes)
    assert torch.allclose(found.scores, wanted.scores)


def test_further_stages_have_their_own_deltas_and_losses():
    model = detector("cascade_rcnn_lite").train()
    assert [head.coder.weights[0] for head in model.box_heads] == [10, 20, 30]
    assert all(head.box_predictor.bbox_pred.out_features == 4 for head in model.box_heads)
    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    batch = batch_of(images, [target([(10, 20, 90, 110)], [2])])
    losses = model(batch)
    assert {"box_class", "box_class_2", "box_class_3"} <= set(losses)
    model.settings = override(model.settings, ["cascade.weights=[1.0,0.25]"])
    heavier = model(batch)
    assert heavier["box_class_2"].item() == pytest.approx(2 * losses["box_class_2"].item(), rel=1e-5)
    assert heavier["box_class_3"].item() == pytest.approx(losses["box_class_3"].item(), rel=1e-5)


def test_a_cascade_needs_a_weight_for_each_stage():
    with pytest.raises(ConfigError, match=r"cascade.weights needs a value for each of the 3"):
        detector("cascade_rcnn_lite", "cascade.ious=[0.5,0.6,0.7]")


@pytest.mark.parametrize("family", ["mask_rcnn", "seanet"])
@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("objects", [[target([(10, 20, 70, 80)], [2])], [target([], [])]])
def test_stages_without_positive_rois_still_reach_every_parameter(family, precise, objects):
    """Processes that train together wait for each other's gradients: each has all of them at every step."""
    changes = ["cascade.ious=[1.0,1.0]", "scoring.kind=mask_iou", "scoring.width=32", "pool.kind=fused"]
    model = detector(f"{family}_lite", *changes).train()
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
        losses = model(batch_of(images, objects))
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert all(losses[f"box_regression_{stage}"] == 0 for stage in (2, 3))
    assert all(losses[f"box_class_{stage}"] > 0 for stage in (2, 3))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("family", ["cascade_rcnn", "seanet_cascade"])
def test_boxes_between_stages_are_precise_and_carry_no_gradient(family, monkeypatch):
    model, seen = detector(f"{family}_lite").train(), []
    pool = model.box_pool.forward
    monkeypatch.setattr(
        model.box_pool, "forward", lambda features, rois: seen.append(rois.boxes) or pool(features, rois)
    )
    images = torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        model(batch_of(images, [target([(10, 20, 70, 80)], [2])]))
    assert len(seen) == 3
    for boxes in seen:
        assert boxes.dtype == torch.float32
        assert not boxes.requires_grad
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([128.0, 96, 128, 96])).all()
    assert not torch.equal(seen[0], seen[1])


def test_mean():
    assert mean([torch.tensor(1.0), torch.tensor(2.0), torch.tensor(6.0)]).item() == 3


# Parts of the heads that ablations leave out


@pytest.mark.parametrize(
    "changes",
    [
        ["box.iou_weight=0"],
        ["mask.edge_weight=0"],
        ["mask.design=concat"],
        ["mask.channel_attention=false", "mask.position_attention=false"],
    ],
)
def test_ablations_train_and_predict(changes):
    model = detector("seanet_lite", "detections.score=0.0", "detections.limit=5", *changes).train()
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    losses = model(batch_of(images, [target([(10, 20, 70, 80)], [2])]))
    sum(losses.values()).backward()
    assert ("box_iou" in losses) == ("box.iou_weight=0" not in changes)
    assert ("edge" in losses) == ("mask.edge_weight=0" not in changes)
    found = model.eval().predict(batch_of(images), edges=True)
    assert len(found) > 0
    assert (found.edges is not None) == model.settings.mask.has_edges
    assert (found.box_ious is not None) == ("box.iou_weight=0" not in changes)
    if found.box_ious is None:
        assert torch.equal(found.scores, found.cls_scores)


def test_masks_inside_given_boxes_are_those_of_the_prediction():
    model = detector("seanet_ms_lite", "detections.score=0.0", "detections.limit=8").eval()
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    found = model.predict(batch_of(images))
    again = model.predict_inside(batch_of(images), found.rois, found.labels)
    assert torch.allclose(again.masks, found.masks, atol=1e-5)
    assert torch.allclose(again.mask_ious, found.mask_ious, atol=1e-5)
    assert torch.equal(again.scores, again.mask_ious)


def test_boxes_are_ranked_without_the_mask():
    """Whatever makes the box's score, here a weighted geometric mean, it goes to the results as it is."""
    from seanet.data.coco import Categories
    from seanet.predict import Model

    settings = override(recipe("seanet_ms_lite"), [*SMALL, "box.iou_power=0.3", "detections.score=0.0"])
    torch.manual_seed(0)
    model = Model(build(settings, 2).eval(), settings, Categories((1, 2), ("a", "b")))
    torch.nn.init.constant_(model.detector.box_heads[0].iou.bias, 0.5)
    torch.nn.init.constant_(model.detector.scoring.iou.bias, 0.5)
    entries = model.predict(torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()).to_coco(1)
    assert entries
    for entry in entries:
        assert entry["box_score"] == pytest.approx(entry["cls_score"] ** 0.7 * entry["box_iou"] ** 0.3, rel=1e-4)
        assert entry["score"] == pytest.approx(entry["box_score"] * entry["mask_iou"], rel=1e-4)
