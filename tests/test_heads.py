"""The paper's two heads: sizes, equations in closed form, rewrites against the plain form, empty input."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import generalized_box_iou

from builders import target
from seanet import config
from seanet.boxes import boxes_around, cell_points, distances, legacy_cell_points, ltrb_iou
from seanet.errors import ConfigError
from seanet.heads.classic import ClassicBoxHead, ClassicMaskHead
from seanet.heads.edge_mask import ChannelAttention, EdgeAttentionMaskHead, PositionAttention
from seanet.heads.fcn_box import FullyConvBoxHead
from seanet.heads.linear import Pair
from seanet.rois import build_pool
from seanet.types import Matched, Rois


def rois(count: int, seed: int = 0) -> Rois:
    low = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 100
    side = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1)) * 80 + 5
    return Rois(torch.cat((low, low + side), 1), torch.zeros(count, dtype=torch.int64))


def matched(found: Rois, labels: list[int]) -> Matched:
    """Each RoI's ground truth is the RoI moved a little."""
    return Matched(torch.tensor(labels), found.boxes + torch.tensor([2.0, -1.0, 3.0, 1.0]), torch.arange(len(found)))


def trained_like(head: torch.nn.Module) -> torch.nn.Module:
    """Weights that do something: the fresh predictors are almost zero, and gamma is."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.endswith(("class_logits.weight", "log_ltrb.weight", "iou.weight")):
                parameter.normal_(std=0.05)
            if name.endswith("gamma"):
                parameter.fill_(0.7)
            elif parameter.dim() == 1:  # biases, and what norms multiply with
                parameter.add_(0.1 * torch.randn_like(parameter))
    return head.eval()


def gradients(
    losses: dict[str, torch.Tensor], *modules: torch.nn.Module, inputs: tuple[torch.Tensor, ...] = ()
) -> list:
    """Of the sum of the losses, by every parameter and input."""
    wanted = [*inputs, *(p for module in modules for p in module.parameters())]
    return list(torch.autograd.grad(sum(losses.values()), wanted, materialize_grads=True))


def assert_close(found: list[torch.Tensor], wanted: list[torch.Tensor], share: float = 1e-4) -> None:
    """Each within ``share`` of its own largest value."""
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= share * b.abs().max() + 1e-7


def box_head(classes: int = 5, channels: int = 32, **changes) -> FullyConvBoxHead:
    torch.manual_seed(0)
    return trained_like(FullyConvBoxHead(replace(config.FcnBox(), **changes), classes, channels))


def mask_head(classes: int = 5, channels: int = 32, **changes) -> EdgeAttentionMaskHead:
    torch.manual_seed(0)
    return trained_like(EdgeAttentionMaskHead(replace(config.EdgeMask(), **changes), classes, channels))


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("head", "settings", "count"),
    [
        (FullyConvBoxHead, config.FcnBox(), 7_869_781),
        (ClassicBoxHead, config.ClassicBox(), 14_310_805),
        (EdgeAttentionMaskHead, config.EdgeMask(), 9_486_994),
        (ClassicMaskHead, config.ClassicMask(), 2_643_537),
    ],
)
def test_parameters_are_the_papers(head, settings, count):
    assert parameters(head(settings, 80, 256)) == count


def test_equation_1():
    points = cell_points(torch.tensor([[10.0, 20.0, 80.0, 34.0]]), 7)[0]
    assert points[0].tolist() == [15.0, 21.0]
    assert points[6].tolist() == [75.0, 21.0]
    assert points[7].tolist() == [15.0, 23.0]
    assert points[48].tolist() == [75.0, 33.0]
    assert legacy_cell_points(torch.tensor([[10.0, 20.0, 79.5, 34.0]]), 7)[0, 0].tolist() == [15.0, 21.0]


def test_equation_2():
    edges = torch.zeros(3, 28, 28, dtype=torch.bool)
    edges[1, :7] = True
    edges[2] = True
    weights = mask_head().edge_weights(edges)
    assert torch.equal(weights[0], torch.ones(28, 28))
    assert weights[1, 0, 0].item() == pytest.approx(1 / math.log(1.2 + 0.25))
    assert weights[1, 9, 9].item() == 1
    assert weights[2, 0, 0].item() == pytest.approx(1 / math.log(2.2))
    assert mask_head(edge_positive_weight=5.0).edge_weights(edges)[1, 0, 0].item() == 5


def test_giou_against_torchvision_and_by_hand():
    points = torch.rand(50, 2) * 20
    a, b = (boxes_around(points, torch.rand(50, 4) * 10 + 0.1) for _ in range(2))
    _, giou = ltrb_iou(distances(points, a), distances(points, b))
    assert torch.allclose(giou, generalized_box_iou(a, b).diagonal(), atol=1e-5)
    iou, giou = ltrb_iou(torch.tensor([[1.0, 1, 1, 1]]), torch.tensor([[1.0, 1, 3, 1]]))  # 2 x 2 in 4 x 2
    assert (iou.item(), giou.item()) == (0.5, 0.5)
    iou, giou = ltrb_iou(torch.tensor([[2.0, 0.5, 0, 0.5]]), torch.tensor([[0.0, 0.5, 2, 0.5]]))  # side by side
    assert (iou.item(), giou.item()) == (0, 0)
    iou, giou = ltrb_iou(torch.tensor([[3.0, 1, 1, 1]]), torch.tensor([[1.0, 3, 1, 1]]))  # 4 x 2 and 2 x 4 in 4 x 4
    assert giou.item() == pytest.approx(4 / 12 - 4 / 16)


def test_equation_5():
    giou = torch.tensor([1.0, 0.0, -0.5, -1.0])
    loss = box_head().regression_loss(giou)
    assert loss[:3].tolist() == pytest.approx([0, math.log(2), -math.log(0.25)])
    assert torch.isfinite(loss[3])
    assert box_head(giou_clamp="plain").regression_loss(giou)[2].item() == pytest.approx(math.log(2), abs=1e-5)


def plain_box_loss(head: FullyConvBoxHead, crops, found: Rois, match: Matched) -> dict[str, float]:
    """Equation 4 cell by cell, in Python."""
    logits, log_ltrb, iou = head(crops)
    focal = regression = quality = count = 0.0
    for r in range(len(found)):
        x0, y0, x1, y1 = found.boxes[r].tolist()
        gx0, gy0, gx1, gy1 = match.boxes[r].tolist()
        label = int(match.labels[r])
        for cell in range(49):
            x, y = x0 + (cell % 7 + 0.5) * (x1 - x0) / 7, y0 + (cell // 7 + 0.5) * (y1 - y0) / 7
            positive = label > 0 and gx0 < x < gx1 and gy0 < y < gy1
            for k in range(logits.shape[1]):
                p = torch.sigmoid(logits[r, k, cell]).item()
                hit = positive and k == label - 1
                focal -= 0.25 * (1 - p) ** 2 * math.log(p) if hit else 0.75 * p**2 * math.log(1 - p)
            if positive:
                count += 1
                l, t, r_, b = (log_ltrb[r, :, cell].exp() * torch.tensor([x1 - x0, y1 - y0] * 2) / 2).tolist()
                box = torch.tensor([[x - l, y - t, x + r_, y + b]])
                giou = generalized_box_iou(box, torch.tensor([[gx0, gy0, gx1, gy1]])).item()
                regression -= math.log((giou + 1) / 2)
                quality += (iou[r, cell].item() - giou) ** 2
    return {"box_class": focal / count, "box_regression": regression / count, "box_iou": 0.5 * quality / count}


def test_box_loss_equals_the_plain_loop():
    head, found = box_head(), rois(6)
    crops = torch.randn(6, 32, 7, 7)
    match = matched(found, [0, 2, 0, 5, 1, 0])
    losses = head.loss(crops, found, match, [])
    wanted = plain_box_loss(head, crops, found, match)
    for name, value in wanted.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4)


def test_positives_only_has_the_gradients_of_the_plain_form():
    """The towers see positive RoIs alone; the plain form runs them on all."""
    head, found = box_head().train(), rois(6)
    crops = torch.randn(6, 32, 7, 7, requires_grad=True)
    match = matched(found, [0, 2, 0, 5, 1, 0])
    sum(head.loss(crops, found, match, []).values()).backward()
    fast = [crops.grad.clone(), *(p.grad.clone() for p in head.parameters())]
    head.zero_grad()
    crops.grad = None
    head.localise = lambda _: tuple(t for t in FullyConvBoxHead.localise(head, crops))  # all RoIs ...
    original = head.assign
    positive = original(found, match, [])
    log_ltrb, iou = head.localise(crops)
    ltrb = head.to_pixels(log_ltrb[positive.roi, :, positive.cell], found.boxes[positive.roi])
    overlap, giou = ltrb_iou(ltrb, positive.ltrb)
    count = len(positive.roi)
    plain = head.regression_loss(giou).sum() / count
    plain = plain + 0.5 * head.iou_loss(iou[positive.roi, positive.cell], overlap, giou).sum() / count
    logits = head.classify(crops)
    one_hot = torch.zeros_like(logits)
    one_hot[positive.roi, positive.label - 1, positive.cell] = 1
    p = logits.sigmoid()
    focal = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
    focal = focal * torch.where(one_hot > 0, 0.25 * (1 - p) ** 2, 0.75 * p**2)
    (plain + focal.sum() / count).backward()
    for a, b in zip(fast, [crops.grad, *(p.grad for p in head.parameters())], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


CASCADED = [
    box_head,
    lambda: box_head(iou_weight=0.0),
    lambda: trained_like(ClassicBoxHead(config.ClassicBox(width=16), 5, 32)),
    lambda: trained_like(ClassicBoxHead(config.ClassicBox(width=16, class_agnostic=True), 5, 32)),
]


@pytest.mark.parametrize("build", CASCADED)
@pytest.mark.parametrize("labels", [[0, 2, 0, 5, 1, 0], [0] * 6, [1] * 6])
def test_loss_and_boxes_are_the_loss_and_the_refined_boxes(build, labels):
    head, found = build().train(), rois(6)
    crops, match = torch.randn(6, 32, 7, 7, requires_grad=True), matched(found, labels)
    losses, boxes = head.loss_and_boxes(crops, found, match, [])
    wanted = head.loss(crops, found, match, [])
    assert_close([*losses.values()], [*wanted.values()])
    assert_close(*(gradients(x, head, inputs=(crops,)) for x in (losses, wanted)))
    assert not boxes.requires_grad
    assert torch.allclose(boxes, head.refine(crops, found)[0], rtol=1e-4, atol=1e-3)


def test_each_tower_sees_each_roi_once():
    head, found, seen = box_head().train(), rois(6), {}
    for name in ("class_tower", "box_tower", "iou_tower"):
        tower = getattr(head, name)
        tower.register_forward_pre_hook(
            lambda _, x, n=name: seen.setdefault(n, []).append((len(x[0]), torch.is_grad_enabled()))
        )
    head.loss_and_boxes(torch.randn(6, 32, 7, 7), found, matched(found, [0, 2, 0, 5, 1, 0]), [])
    apart = [(3, True), (3, False)]
    assert seen == {"class_tower": [(6, True)], "box_tower": apart, "iou_tower": apart}


def plain_decode(head: FullyConvBoxHead, crops, found: Rois, threshold: float):
    """RoI by RoI, cell by cell: (RoI, box, scores, class scores, IoU) of the RoIs that can survive."""
    logits, log_ltrb, iou = head(crops)
    out = []
    for r in range(len(found)):
        x0, y0, x1, y1 = found.boxes[r].tolist()
        best, best_score = None, -1.0
        for cell in range(49):
            quality = min(max(iou[r, cell].item(), 0), 1)
            for k in range(logits.shape[1]):
                score = torch.sigmoid(logits[r, k, cell]).item() * quality
                if score > best_score:
                    best, best_score = cell, score
        if torch.sigmoid(logits[r]).max() <= threshold:
            continue
        x, y = x0 + (best % 7 + 0.5) * (x1 - x0) / 7, y0 + (best // 7 + 0.5) * (y1 - y0) / 7
        l, t, right, b = (log_ltrb[r, :, best].exp() * torch.tensor([x1 - x0, y1 - y0] * 2) / 2).tolist()
        scores = torch.sigmoid(logits[r, :, best])
        quality = iou[r, best].clamp(0, 1)
        out.append(((x - l, y - t, x + right, y + b), scores * quality, scores, quality))
    return out


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_decode_equals_the_plain_loop(share):
    """Also where a share of the RoIs is left out because their class scores alone cannot reach the threshold."""
    head, found = box_head(), rois(20)
    crops = torch.randn(20, 32, 7, 7)
    with torch.no_grad():
        head.iou.bias.fill_(0.5)
        threshold = head.classify(crops).sigmoid().amax((1, 2)).quantile(share).item() if share else 0.0
        candidates = head.decode(crops, found, threshold)
        wanted = plain_decode(head, crops, found, threshold)
    assert len(candidates.image) == len(wanted) > 0
    assert len(wanted) == 20 * (1 - share)
    for i, (box, scores, classes, quality) in enumerate(wanted):
        assert candidates.boxes[i, 0].tolist() == pytest.approx(box, rel=1e-4, abs=1e-3)
        assert torch.allclose(candidates.scores[i], scores, atol=1e-6)
        assert torch.allclose(candidates.cls_scores[i], classes, atol=1e-6)
        assert candidates.box_ious[i].item() == pytest.approx(quality.item(), abs=1e-5)


def test_class_first_takes_the_cell_of_the_best_class():
    head = box_head(cell="class_first")
    probability = torch.tensor([[[0.9, 0.1], [0.5, 0.6]]])  # class 0 has the largest score, in cell 0
    scores = probability * torch.tensor([[[0.1, 0.8]]])  # but cell 1 has the better boxes
    assert head.best_cell(probability, scores).tolist() == [0]
    assert box_head().best_cell(probability, scores).tolist() == [1]


def test_any_ground_truth_makes_a_cell_positive_and_the_smallest_wins():
    head = box_head(positives="any")
    found = Rois(torch.tensor([[0.0, 0.0, 70.0, 70.0]]), torch.tensor([0]))
    background = Matched(torch.tensor([0]), torch.zeros(1, 4), torch.tensor([0]))
    positive = head.assign(found, background, [target([(0, 0, 70, 70), (30, 30, 40, 40)], [1, 2])])
    assert len(positive.cell) == 49
    assert positive.label[positive.cell == 24].item() == 2
    assert (positive.label == 1).sum() == 48
    assert head.assign(found, background, [target([], [])]).cell.numel() == 0
    assert box_head().assign(found, background, []).cell.numel() == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"regression": "pixels", "points": "floor", "giou_clamp": "plain", "iou_target": "clamped_giou"},
        {"iou_loss": "cross_entropy", "iou_activation": "sigmoid", "iou_target": "iou"},
        {"iou_power": 0.4, "iou_detached": False, "normaliser": "positives_and_rois", "cell": "class_first"},
        {"positives": "any"},
    ],
)
def test_every_option_trains_and_decodes(changes):
    head, found = box_head(**changes), rois(4)
    losses = head.loss(torch.randn(4, 32, 7, 7), found, matched(found, [1, 0, 2, 0]), [target([(0, 0, 90, 90)], [3])])
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    with torch.no_grad():
        assert head.decode(torch.randn(4, 32, 7, 7), found, 0.0).boxes.shape == (4, 1, 4)


def test_detached_iou_keeps_out_of_the_boxes():
    found = rois(2)
    for detached in (True, False):
        head = box_head(iou_detached=detached)
        crops = torch.randn(2, 32, 7, 7)
        head.loss(crops, found, matched(found, [1, 2]), [])["box_iou"].backward()
        assert (head.log_ltrb.weight.grad is None) == detached


def test_cross_entropy_wants_the_sigmoid():
    with pytest.raises(ConfigError, match=r"set box\.iou_activation=sigmoid too"):
        box_head(iou_loss="cross_entropy")


@pytest.mark.parametrize("channels", [4, 24, 48, 100])
def test_heads_of_any_width(channels):
    """Groups of norms divide the channels, and what attention narrows keeps a channel."""
    found, crops = rois(2), torch.randn(2, channels, 14, 14)
    box, mask = box_head(channels=channels, convs=1), mask_head(channels=channels, convs=1)
    assert box.classify(crops[:, :, :7, :7]).shape == (2, 5, 49)
    assert box.decode(crops[:, :, :7, :7], found, -1.0).boxes.isfinite().all()
    assert mask.channel.gate[0].out_features == max(channels // 16, 1)
    assert mask.probability(crops, torch.tensor([1, 2]))[0].isfinite().all()


def test_rois_without_area_are_harmless():
    """What a cascade's boxes may become at an image's frame: background without a box, in numbers."""
    flat = Rois(
        torch.tensor([[10.0, 10, 10, 40], [160, 128, 160, 128], [0, 0, 0, 0]]), torch.zeros(3, dtype=torch.int64)
    )
    background, objects = matched(flat, [0, 0, 0]), [target([(5, 5, 30, 60)], [2])]
    crops = torch.randn(3, 32, 7, 7)
    heads = [box_head(), box_head(positives="any"), box_head(points="floor", regression="pixels")]
    for head in (*heads, ClassicBoxHead(config.ClassicBox(width=16), 5, 32)):
        head.zero_grad()
        loss = sum(head.loss(crops, flat, background, objects).values())
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in head.parameters())
        boxes, probability = head.refine(crops, flat)
        assert boxes.isfinite().all()
        assert probability.isfinite().all()
    for geometry in (True, False):
        for settings in (config.Pool(samples=0), config.Pool(), config.Pool(kind="fused")):
            pool = build_pool(settings, 7, geometry, 4)
            features = [torch.randn(1, 4, 128 // s, 160 // s) for s in (4, 8, 16, 32)]
            assert pool(features, flat).isfinite().all()


def test_no_rois_and_no_positives_give_zero_losses_with_a_graph():
    none = Rois(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    empty = Matched(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    for head in (box_head(), ClassicBoxHead(config.ClassicBox(width=16), 5, 32)):
        losses = head.loss(torch.zeros(0, 32, 7, 7), none, empty, [])
        assert all(loss.item() == 0 for loss in losses.values())
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in head.parameters())
        assert head.decode(torch.zeros(0, 32, 7, 7), none, 0.05).scores.shape == (0, 5)
    for head in (mask_head(), ClassicMaskHead(config.ClassicMask(), 5, 32)):
        size = 28 + 2 * head.context
        losses, _ = head.loss(torch.zeros(0, 32, 14, 14), empty.labels, torch.zeros(0, size, size))
        assert all(loss.item() == 0 for loss in losses.values())
        sum(losses.values()).backward()
        assert head.probability(torch.zeros(0, 32, 14, 14), empty.labels)[0].shape == (0, 28, 28)
    found = rois(3)
    losses = box_head().loss(torch.randn(3, 32, 7, 7), found, matched(found, [0, 0, 0]), [])
    assert losses["box_regression"].item() == losses["box_iou"].item() == 0


def test_mask_loss_by_hand():
    head = mask_head()
    crops, labels = torch.randn(3, 32, 14, 14), torch.tensor([1, 5, 2])
    targets = torch.rand(3, 30, 30)
    logits, edge = head(crops)
    losses, _ = head.loss(crops, labels, targets)
    hard = targets >= 0.5
    total_mask = total_edge = 0.0
    for r in range(3):
        total_mask += F.binary_cross_entropy_with_logits(logits[r, labels[r] - 1], targets[r, 1:-1, 1:-1]).item() / 3
        label = torch.zeros(28, 28)
        for y in range(28):
            for x in range(28):
                cells = [hard[r, y + 1 + dy, x + 1 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
                label[y, x] = float(hard[r, y + 1, x + 1] and not all(cells))
        weight = 1 / math.log(1.2 + label.mean().item())
        term = F.binary_cross_entropy_with_logits(edge[r], label, torch.where(label > 0, weight, 1.0))
        total_edge += term.item() / 3
    assert losses["mask"].item() == pytest.approx(total_mask, rel=1e-5)
    assert losses["edge"].item() == pytest.approx(total_edge, rel=1e-5)


def test_without_context_the_frame_of_the_crop_becomes_an_edge():
    full = torch.ones(1, 28, 28)
    head = mask_head(edge_context=False, target="hard", edge_positive_weight=5.0, background_channel=True)
    _, edge = head(crops := torch.randn(1, 32, 14, 14))
    label = torch.zeros(28, 28)
    label[[0, -1]], label[:, [0, -1]] = 1, 1
    wanted = F.binary_cross_entropy_with_logits(edge[0], label, torch.where(label > 0, 5.0, 1.0))
    assert head.loss(crops, torch.tensor([1]), full)[0]["edge"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_mean_before_the_convolutions_of_the_channel_attention():
    torch.manual_seed(0)
    attention = ChannelAttention(32, 4, torch.nn.Identity)
    for size in (14, 28):
        crops = torch.randn(3, 32, size, size)
        plain = attention.context(crops).mean((2, 3))
        assert torch.allclose(attention.squeeze(crops), plain, rtol=1e-4, atol=1e-5)
    assert not ChannelAttention(32, 4, torch.nn.ReLU).linear


def test_position_attention_starts_as_the_identity_and_attends_by_hand():
    attention = PositionAttention(32)
    crops = torch.randn(2, 32, 6, 6)
    assert torch.equal(attention(crops), crops)
    with torch.no_grad():
        attention.gamma.fill_(0.5)
    query, key, value = (f(crops).flatten(2) for f in (attention.query, attention.key, attention.value))
    share = (query.transpose(1, 2) @ key).softmax(2)  # (R, to, from)
    wanted = crops + 0.5 * torch.einsum("rcf,rtf->rct", value, share).view(crops.shape)
    assert torch.allclose(attention(crops), wanted, atol=1e-5)


def test_edges_come_on_request():
    head = mask_head()
    crops, labels = torch.randn(2, 32, 14, 14), torch.tensor([1, 3])
    masks, none = head.probability(crops, labels)
    assert none is None
    again, edges = head.probability(crops, labels, edges=True)
    logits, edge = head(crops)
    assert torch.equal(masks, again)
    assert torch.allclose(masks[1], logits[1, 2].sigmoid())
    assert torch.allclose(edges, edge.sigmoid())


MASKS = [
    {},
    {"design": "concat", "background_channel": True},
    {"activation": "relu"},
    {"edge_weight": 0.0, "channel_attention": False, "position_attention": False},
]


def plain_mask_head(**changes) -> EdgeAttentionMaskHead:
    """The head whose losses come from ``forward``, with nothing taken together."""
    head = mask_head(**changes).train()

    def of_labels(crops, labels, edges):
        logits, edge = head(crops)
        return logits[range(len(crops)), labels - 1 + head.settings.background_channel], edge if edges else None

    head.of_labels = of_labels
    if isinstance(head.channel, ChannelAttention):
        head.channel.linear = False
    return head


@pytest.mark.parametrize("changes", MASKS)
def test_linear_pairs_have_the_losses_and_gradients_of_the_plain_form(changes):
    crops, labels, targets = (
        torch.randn(4, 32, 14, 14, requires_grad=True),
        torch.tensor([1, 5, 2, 2]),
        torch.rand(4, 30, 30),
    )
    heads = [mask_head(**changes).train(), plain_mask_head(**changes)]
    (fast, probability), (plain, wanted) = (head.loss(crops, labels, targets) for head in heads)
    assert fast.keys() == plain.keys()
    assert_close([*fast.values(), probability], [*plain.values(), wanted])
    assert_close(*(gradients(x, head, inputs=(crops,)) for x, head in zip((fast, plain), heads, strict=True)))


@pytest.mark.parametrize("changes", MASKS)
def test_masks_and_edges_are_those_of_the_plain_form(changes):
    crops, labels = torch.randn(4, 32, 14, 14), torch.tensor([1, 5, 2, 2])
    with torch.no_grad():
        masks, edges = mask_head(**changes).probability(crops, labels, edges=True)
        wanted, edge = plain_mask_head(**changes).probability(crops, labels, edges=True)
    assert (masks - wanted).abs().max() < 1e-5
    assert (edges is None) == (edge is None) == (changes.get("edge_weight") == 0)
    if edges is not None:
        assert (edges - edge).abs().max() < 1e-5


def test_a_pair_costs_what_one_convolution_does():
    pair = Pair(torch.nn.Conv2d(8, 16, 3, padding=1), torch.nn.Identity, torch.nn.Conv2d(16, 4, 1))
    x, product = torch.randn(5, 8, 10, 10), 4 * 16 * 8 * 9
    found = [macs(lambda: pair(x)), macs(lambda: pair.collapsed(x))]
    assert found == [5 * 100 * 16 * (8 * 9 + 4), 5 * 100 * 4 * 8 * 9 + product + 4 * 16]
    flat = Pair(torch.nn.Conv2d(8, 16, 1), torch.nn.Identity, torch.nn.Conv2d(16, 4, 1))
    assert macs(lambda: flat.channel(x, torch.tensor([0, 1, 2, 3, 0]))) == 5 * 100 * 8 + 4 * 16 * 8 + 4 * 16


def macs(run) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("settings", [config.EdgeMask(size=28), config.ClassicMask(size=28)])
def test_larger_masks(settings):
    head = (EdgeAttentionMaskHead if settings.kind == "edge" else ClassicMaskHead)(settings, 3, 32)
    assert head.probability(torch.randn(1, 32, 28, 28), torch.tensor([2]))[0].shape == (1, 56, 56)
