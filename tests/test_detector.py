"""The detector as a whole: gradients, batches, empty and crowded images, determinism, every recipe."""

from dataclasses import replace

import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d, batched_nms, clip_boxes_to_image, remove_small_boxes

from builders import batch_of, target
from seanet import config
from seanet.backbone import normalise
from seanet.detector import Detector, build, count_parameters, last_scores, suppress
from seanet.errors import ConfigError
from seanet.heads import Candidates, fcn_box, over_processes
from seanet.heads.fcn_box import FullyConvBoxHead, Localised
from seanet.recipes import RECIPES, paper_code, recipe
from seanet.rois import match_and_sample
from seanet.settings import override
from seanet.types import Detections, Rois

SMALL = ["backbone.norm=batch", "backbone.frozen_stages=0"]


LITE = [name for name in RECIPES if name.endswith("_lite")]


def small(name: str, *changes: str) -> Detector:
    torch.manual_seed(0)
    return build(override(recipe(name), [*SMALL, *changes]), 3)


def pictures(count: int, height: int = 128, width: int = 160) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


TARGETS = [target([(10, 20, 60, 90), (40, 40, 120, 128)], [1, 3]), target([(100, 5, 160, 60)], [2])]


def test_parameters_by_part_are_the_papers():
    parts = {name: count_parameters(build(recipe(name), 80)) for name in ("mask_rcnn_r50", "seanet_r50")}
    code = count_parameters(build(recipe("seanet_r50_paper_code"), 80))
    base, ours = parts["mask_rcnn_r50"], parts["seanet_r50"]
    assert (base["box_head"], base["mask_head"], base["pool"]) == (14_310_805, 2_643_537, 0)
    assert (ours["box_head"], ours["mask_head"], ours["pool"]) == (7_869_781, 9_486_994, 0)
    assert code["pool"] == 656_384
    assert ours["box_head"] - base["box_head"] == -6_441_024
    assert ours["mask_head"] - base["mask_head"] == 6_843_457
    assert all(base[part] == ours[part] for part in ("backbone", "fpn", "rpn"))
    assert base["total"] == sum(base[p] for p in base if p not in ("total", "trainable"))


@pytest.mark.parametrize("backbone", ["r50", "r101"])
def test_totals_come_near_table_6(backbone):
    """Trainable parameters in millions; the paper counts the affine parameters of batch norms, about 0.1."""
    paper = {"mask_rcnn": 63.17, "seanet": 64.89 - 2 * 0.656}  # without the pairs of the authors' pooling
    for family, millions in paper.items():
        trainable = count_parameters(build(recipe(f"{family}_{backbone}"), 80))["trainable"] / 1e6
        assert trainable == pytest.approx(millions - (18.99 if backbone == "r50" else 0), abs=0.2)


@pytest.mark.parametrize("name", LITE)
@pytest.mark.parametrize("pool", ["nearest", "fused"])
def test_the_gradient_reaches_every_parameter(name, pool):
    detector = small(name, f"pool.kind={pool}", *(["cascade.ious=[0.01,0.01]"] if "cascade" in name else [])).train()
    losses = detector(batch_of(pictures(2), TARGETS))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    silent = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    if name.startswith("seanet"):  # gamma starts at 0, so what it scales learns from the second step on
        assert "mask_head.position.gamma" not in silent
        silent = [name for name in silent if not name.startswith("mask_head.position.")]
    if not name.startswith("seanet") or pool == "nearest":  # levels that no RoI of these images falls on
        silent = [name for name in silent if "fpn.layer_blocks" not in name and "fpn.inner_blocks" not in name]
    assert not silent


def test_paper_code_trains():
    detector = build(override(paper_code(recipe("seanet_lite")), [*SMALL]), 3).train()
    sum(detector(batch_of(pictures(2), TARGETS)).values()).backward()
    assert len(detector.eval().predict(batch_of(pictures(1)))) <= 1000


def test_losses_depend_on_the_seed_of_the_batch_alone():
    detector = small("seanet_lite", "sampling.rois=8").train()
    first = detector(batch_of(pictures(2), TARGETS, seed=5))
    torch.randn(7)
    again = detector(batch_of(pictures(2), TARGETS, seed=5))
    other = detector(batch_of(pictures(2), TARGETS, seed=6))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_what_is_drawn_of_an_image_does_not_depend_on_those_beside_it(monkeypatch):
    """Anchors and RoIs: so two processes draw what one does."""
    detector, drawn = small("seanet_lite", "sampling.rois=8").train(), []
    detector.backbone.eval()  # norms of the batch would mix the images
    real = detector.rpn.sampler._draw
    monkeypatch.setattr(detector.rpn.sampler, "_draw", lambda *given: drawn.append(real(*given)) or drawn[-1])
    images, chosen = pictures(2), []
    for rows in ([0, 1], [1]):
        batch = replace(batch_of(images[rows], [TARGETS[i] for i in rows]), seeds=[5 + i for i in rows])
        with torch.no_grad():
            _, proposals, _ = detector.propose(batch)
        rois, _ = match_and_sample(proposals, batch.targets, detector.settings.sampling, batch.seeds)
        chosen.append(rois.boxes[rois.image == rows.index(1)])
    assert torch.allclose(*chosen, atol=1e-3)
    assert len(drawn) == 3
    assert all(map(torch.equal, drawn[1], drawn[2]))


def test_sums_are_divided_by_the_counts_of_all_processes(monkeypatch):
    """As if another process had three: 2 here and 3 there are 2.5 for each."""
    like = torch.zeros(())
    assert (over_processes(7, like), over_processes(0, like)) == (7, 1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(3))
    assert over_processes(2, like) == 2.5
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total)
    assert over_processes(0, like) == 0.5


def test_the_generators_outside_stay_where_they_were():
    detector = small("seanet_lite").train()
    torch.manual_seed(3)
    wanted = torch.randn(4)
    torch.manual_seed(3)
    detector(batch_of(pictures(2), TARGETS))
    assert torch.equal(torch.randn(4), wanted)


@pytest.mark.parametrize("name", LITE)
def test_images_without_objects_train(name):
    detector = small(name).train()
    losses = detector(batch_of(pictures(2), [target([], []), target([], [])]))
    sum(losses.values()).backward()
    assert all(losses[name].item() == 0 for name in losses if not name.startswith(("rpn_class", "box_class")))
    assert all(p.grad is not None for p in detector.mask_head.parameters())


@pytest.mark.parametrize("name", LITE)
def test_a_batch_equals_its_images_one_by_one(name):
    detector = small(name, "detections.score=0.0").eval()
    images = pictures(3)
    together = detector.predict(batch_of(images))
    for i in range(3):
        alone = detector.predict(batch_of(images[i : i + 1]))
        mine = together[together.rois.image == i]
        assert len(alone) == len(mine) > 0
        assert torch.equal(alone.labels, mine.labels)
        assert torch.allclose(alone.rois.boxes, mine.rois.boxes, atol=1e-2)
        assert torch.allclose(alone.scores, mine.scores, atol=1e-4)
        assert torch.allclose(alone.masks, mine.masks, atol=1e-3)


@pytest.mark.parametrize("name", LITE)
def test_no_detections(name):
    found = small(name, "detections.score=1.0").eval().predict(batch_of(pictures(2)), edges=True)
    assert len(found) == 0
    assert found.masks.shape == (0, 28, 28)
    assert found.rois.boxes.shape == (0, 4)


def test_scores_are_the_product_of_their_factors():
    detector = small("seanet_lite", "detections.score=0.0").eval()
    torch.nn.init.constant_(detector.box_heads[0].iou.bias, 0.6)
    found = detector.predict(batch_of(pictures(1)), edges=True)
    assert len(found) > 0
    assert torch.allclose(found.scores, found.cls_scores * found.box_ious)
    assert found.edges.shape == found.masks.shape
    assert (found.scores.diff() <= 0).all()


def test_no_proposals():
    detector = small("seanet_lite").eval()
    detector.rpn.min_size = 1e6
    assert len(detector.predict(batch_of(pictures(1)))) == 0


def test_300_objects_and_boxes_of_one_pixel():
    generator = torch.Generator().manual_seed(0)
    low = torch.randint(0, 120, (300, 2), generator=generator)
    side = torch.randint(1, 9, (300, 2), generator=generator)
    boxes = torch.cat((low, low + side), 1)
    boxes[:10, 2:] = boxes[:10, :2] + 1
    crowded = target([tuple(box) for box in boxes.tolist()], [1 + i % 3 for i in range(300)])
    for name in ("seanet_lite", "mask_rcnn_lite"):
        losses = small(name).train()(batch_of(pictures(1, 128, 128), [crowded]))
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_normalise_pads_with_zeros():
    images = torch.full((2, 3, 64, 64), 255, dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.tensor([0.2, 0.2, 0.2])[:, None, None]
    found = normalise(images, [(64, 64), (20, 40)], mean, std)
    assert torch.allclose(found[0], ((1 - mean) / std).expand(3, 64, 64))
    assert found[1, :, 20:].abs().sum() == 0
    assert found[1, :, :, 40:].abs().sum() == 0
    assert torch.allclose(found[1, :, :20, :40], ((1 - mean) / std).expand(3, 20, 40))


def test_suppression_is_inside_a_class_and_an_image():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [0.0, 0, 10, 10]])[:, None]
    scores = torch.tensor([[0.9, 0.0], [0.8, 0.7], [0.6, 0.0]])
    candidates = Candidates(torch.tensor([0, 0, 1]), boxes, scores, scores)
    found = suppress(candidates, [(20, 20), (20, 20)], config.Detections(score=0.05, nms=0.5, limit=100))
    assert found.labels.tolist() == [1, 2, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found.rois.image.tolist() == [0, 0, 1]
    limited = suppress(candidates, [(20, 20), (20, 20)], config.Detections(limit=1))
    assert limited.scores.tolist() == pytest.approx([0.9, 0.6])


@pytest.mark.parametrize("shared", [True, False])
def test_suppression_equals_torchvisions_image_by_image(shared):
    """Three images, the middle one without candidates; classes share a box or have their own."""
    generator = torch.Generator().manual_seed(0)
    image = torch.tensor([0] * 12 + [2] * 20)
    low = torch.rand(32, 1 if shared else 4, 2, generator=generator) * 90 - 10
    boxes = torch.cat((low, low + 25 * torch.rand(low.shape, generator=generator)), 2)
    boxes[5, :, 2:] = boxes[5, :, :2]
    scores = torch.rand(32, 4, generator=generator)
    sizes, settings = [(60, 80), (50, 50), (80, 60)], config.Detections(score=0.3, nms=0.4, limit=15)
    found = suppress(Candidates(image, boxes, scores, scores / 2, scores[:, 0]), sizes, settings)
    seen = []
    for i, size in enumerate(sizes):
        row, column = torch.nonzero((scores > 0.3) & (image == i)[:, None], as_tuple=True)
        box = clip_boxes_to_image(boxes.expand(-1, 4, -1)[row, column], size)
        large = remove_small_boxes(box, 1e-2)
        row, column, box = row[large], column[large], box[large]
        keep = batched_nms(box, scores[row, column], column, 0.4)[:15]
        seen.append(len(keep))
        mine = found[found.rois.image == i]
        assert torch.equal(mine.rois.boxes, box[keep])
        assert torch.equal(mine.labels, column[keep] + 1)
        assert torch.equal(mine.scores, scores[row, column][keep])
        assert torch.equal(mine.cls_scores, mine.scores / 2)
        assert torch.equal(mine.box_ious, scores[row[keep], 0])
    assert seen[1] == 0 < seen[0]
    assert seen[2] == 15


class Told(FullyConvBoxHead):
    """A head of one cell that reads its outputs from the crops: K class logits, the box, the B-IoU."""

    def __init__(self, **changes):
        super().__init__(config.FcnBox(size=1, convs=0, **changes), 2, 4)
        self.rounds = []

    def classify(self, crops):
        return crops[:, :2].flatten(2)

    def localise(self, crops):
        self.rounds.append(len(crops))
        return Localised(crops[:, 2:6].flatten(2), crops[:, 6].flatten(1))


@pytest.mark.parametrize("changes", [{}, {"iou_power": 0.3}, {"iou_weight": 0.0}])
def test_boxes_that_cannot_be_detected_are_left_out(changes, monkeypatch):
    """The same detections as of all RoIs."""
    monkeypatch.setattr(fcn_box, "FIRST", 8)
    settings, sizes = config.Detections(score=0.05, nms=0.3, limit=5), [(100, 100), (80, 120)]
    localised = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        crops = torch.randn(60, 7, 1, 1, generator=generator)
        crops[:, 6] = crops[:, 6].abs() / 2
        low = 30 * torch.rand(60, 2, generator=generator)
        rois = Rois(torch.cat((low, low + 30), 1), (torch.arange(60) >= 40).long())
        head = Told(**changes)
        wanted = suppress(head.decode(crops, rois, settings.score), sizes, settings)
        assert head.rounds == [60]
        head.rounds.clear()
        floor = lambda c: last_scores(suppress(c, sizes, settings), 2, settings)  # noqa: E731
        found = suppress(head.decode(crops, rois, settings.score, floor=floor), sizes, settings)
        assert len(found) > 5
        for part in ("labels", "scores", "cls_scores"):
            assert torch.allclose(getattr(found, part), getattr(wanted, part))
        assert torch.allclose(found.rois.boxes, wanted.rois.boxes)
        assert torch.equal(found.rois.image, wanted.rois.image)
        assert head.rounds[0] == 16
        localised += sum(head.rounds)
    assert localised < 60 * 60


def test_who_was_left_out_has_a_chance_again(monkeypatch):
    """Two boxes fill the places; a better one suppresses both, so that a place is free for what scored less than they did."""
    monkeypatch.setattr(fcn_box, "FIRST", 2)
    settings, sizes = config.Detections(score=0.05, nms=0.3, limit=2), [(100, 100)]
    rois = Rois(
        torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 0, 20, 10], [60, 60, 80, 80]]), torch.zeros(4).long()
    )
    crops = torch.zeros(4, 7, 1, 1)  # boxes are the RoIs
    crops[:, :2] = -9
    crops[:, 0, 0, 0] = torch.tensor([0.9, 0.8, 0.5, 0.2]).logit()
    crops[:, 6, 0, 0] = torch.tensor([1 / 3, 1 / 3, 1, 1])
    head = Told()
    floor = lambda c: last_scores(suppress(c, sizes, settings), 1, settings)  # noqa: E731
    found = suppress(head.decode(crops, rois, settings.score, floor=floor), sizes, settings)
    assert head.rounds == [2, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.5, 0.2])
    assert torch.allclose(found.rois.boxes, rois.boxes[2:])


def test_scores_to_exceed():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 10], [40.0, 0, 50, 10]])
    found = Detections(
        Rois(boxes, torch.tensor([0, 0, 2])), torch.ones(3, dtype=torch.int64), *torch.tensor([[0.9, 0.4, 0.8]] * 2)
    )
    settings = config.Detections(score=0.1, limit=2)
    assert last_scores(found, 3, settings).tolist() == pytest.approx([0.4, 0.1, 0.1])
    assert last_scores(found[torch.arange(0)], 2, settings).tolist() == pytest.approx([0.1, 0.1])


def test_frozen_stages_keep_weights_and_statistics():
    detector = build(override(recipe("mask_rcnn_lite"), ["backbone.norm=batch", "backbone.frozen_stages=2"]), 3).train()
    before = {k: v.clone() for k, v in detector.backbone.body.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], 0.1)
    sum(detector(batch_of(pictures(2), TARGETS)).values()).backward()
    optimizer.step()
    after = detector.backbone.body.state_dict()
    frozen = [k for k in after if int(k.split(".")[0]) < 4]
    assert frozen
    assert all(torch.equal(before[k], after[k]) for k in frozen)
    assert any(not torch.equal(before[k], after[k]) for k in after if k not in frozen)


def test_x101_is_the_64x4d_network():
    body = build(recipe("mask_rcnn_x101"), 2).backbone.body
    assert sum(p.numel() for p in body.parameters()) == pytest.approx(81.4e6, rel=0.02)  # 83.46 M with classifier


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/convnext_atto"])
def test_timm_backbones(name):
    pytest.importorskip("timm")
    detector = small("seanet_lite", f"backbone.name={name}").train()
    sum(detector(batch_of(pictures(1), TARGETS[:1])).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.backbone.parameters() if p.grad is not None)
    with pytest.raises(ConfigError, match="group"):
        build(override(recipe("seanet_lite"), [f"backbone.name={name}", "backbone.norm=group"]), 2)


def test_timm_norms_freeze():
    pytest.importorskip("timm")
    body = small("seanet_lite", "backbone.name=timm/resnet18", "backbone.norm=frozen").backbone.body
    assert any(isinstance(m, FrozenBatchNorm2d) for m in body.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in body.modules())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("backbone.name=resnet5000", "resnet5000"),
        ("backbone.name=timm/no_such_net", "no_such_net"),
        ("backbone.name=timm/resnet18.no_such_tag", "no_such_tag"),
        ("backbone.name=timm/vit_tiny_patch16_224", r"strides \[16, 16, 16\]"),
    ],
)
def test_unknown_backbones_are_named(change, says):
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match=says):
        build(override(recipe("seanet_lite"), [change]), 2)


def test_group_and_sync_norms_build():
    group = build(override(recipe("mask_rcnn_r50"), ["backbone.norm=group"]), 2)
    assert any(isinstance(m, torch.nn.GroupNorm) for m in group.backbone.body.modules())
    narrow = build(override(recipe("mask_rcnn_lite"), ["backbone.norm=group"]), 2)  # from 16 channels on
    assert narrow.backbone.body(torch.rand(1, 3, 64, 64))["0"].shape == (1, 24, 16, 16)
    sync = build(override(recipe("mask_rcnn_r50"), ["backbone.norm=sync"]), 2)
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in sync.backbone.body.modules())


def test_mixed_precision_stays_close():
    detector = small("seanet_lite", "detections.score=0.0").eval()
    images = pictures(1)
    plain = detector.predict(batch_of(images))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = detector.predict(batch_of(images))
        losses = small("seanet_lite").train()(batch_of(images, TARGETS[:1]))
    assert mixed.rois.boxes.dtype == mixed.scores.dtype == mixed.masks.dtype == torch.float32
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert abs(plain.scores.max() - mixed.scores.max()) < 0.02
