"""Names and shapes of the tensors of other frameworks' Mask R-CNNs with a ResNet-50 and FPN, as their files have them."""

import torch

BLOCKS = (3, 4, 6, 3)
Shapes = dict[str, tuple[int, ...]]


def blocks():
    """Stage 1..4, block, channels in, width."""
    for stage, count in enumerate(BLOCKS):
        width = 64 * 2**stage
        for block in range(count):
            yield stage + 1, block, (64 if stage == 0 else 2 * width) if block == 0 else 4 * width, width


def norm(name: str, width: int, tracked: bool) -> Shapes:
    shapes: Shapes = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes | ({f"{name}.num_batches_tracked": ()} if tracked else {})


def layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def detectron2(classes: int, stages: int = 0) -> Shapes:
    """``stages`` of a cascade, whose heads are numbered and share a box; 0: a plain Mask R-CNN."""
    found: Shapes = {"pixel_mean": (3, 1, 1), "pixel_std": (3, 1, 1)}
    found |= {"backbone.bottom_up.stem.conv1.weight": (64, 3, 7, 7)}
    found |= norm("backbone.bottom_up.stem.conv1.norm", 64, False)
    for stage, block, inner, width in blocks():
        name = f"backbone.bottom_up.res{stage + 1}.{block}"
        sizes = {"conv1": (width, inner, 1, 1), "conv2": (width, width, 3, 3), "conv3": (4 * width, width, 1, 1)}
        sizes |= {"shortcut": (4 * width, inner, 1, 1)} if block == 0 else {}
        for part, shape in sizes.items():
            found |= {f"{name}.{part}.weight": shape} | norm(f"{name}.{part}.norm", shape[0], False)
    for level in (2, 3, 4, 5):
        found |= layer(f"backbone.fpn_lateral{level}", 256, 64 * 2**level, 1, 1)
        found |= layer(f"backbone.fpn_output{level}", 256, 256, 3, 3)
    found |= {f"proposal_generator.anchor_generator.cell_anchors.{i}": (3, 4) for i in range(5)}
    found |= layer("proposal_generator.rpn_head.conv", 256, 256, 3, 3)
    found |= layer("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1)
    found |= layer("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1)
    for number in [f".{i}" for i in range(stages)] or [""]:
        found |= layer(f"roi_heads.box_head{number}.fc1", 1024, 12544) | layer(
            f"roi_heads.box_head{number}.fc2", 1024, 1024
        )
        found |= layer(f"roi_heads.box_predictor{number}.cls_score", classes + 1, 1024)
        found |= layer(f"roi_heads.box_predictor{number}.bbox_pred", 4 if stages else 4 * classes, 1024)
    for i in (1, 2, 3, 4):
        found |= layer(f"roi_heads.mask_head.mask_fcn{i}", 256, 256, 3, 3)
    found |= {"roi_heads.mask_head.deconv.weight": (256, 256, 2, 2), "roi_heads.mask_head.deconv.bias": (256,)}
    return found | layer("roi_heads.mask_head.predictor", classes, 256, 1, 1)


def mmdetection(classes: int, stages: int = 0, scored: bool = False) -> Shapes:
    """As ``detectron2``; ``scored``: with the MaskIoU head of Mask Scoring R-CNN."""
    found: Shapes = {"backbone.conv1.weight": (64, 3, 7, 7)} | norm("backbone.bn1", 64, True)
    for stage, block, inner, width in blocks():
        name = f"backbone.layer{stage}.{block}"
        sizes = {1: (width, inner, 1, 1), 2: (width, width, 3, 3), 3: (4 * width, width, 1, 1)}
        for i, shape in sizes.items():
            found |= {f"{name}.conv{i}.weight": shape} | norm(f"{name}.bn{i}", shape[0], True)
        if block == 0:
            found |= {f"{name}.downsample.0.weight": (4 * width, inner, 1, 1)}
            found |= norm(f"{name}.downsample.1", 4 * width, True)
    for i in range(4):
        found |= layer(f"neck.lateral_convs.{i}.conv", 256, 256 * 2**i, 1, 1)
        found |= layer(f"neck.fpn_convs.{i}.conv", 256, 256, 3, 3)
    found |= layer("rpn_head.rpn_conv", 256, 256, 3, 3) | layer("rpn_head.rpn_cls", 3, 256, 1, 1)
    found |= layer("rpn_head.rpn_reg", 12, 256, 1, 1)
    for number in [f".{i}" for i in range(stages)] or [""]:
        head = f"roi_head.bbox_head{number}"
        found |= layer(f"{head}.shared_fcs.0", 1024, 12544) | layer(f"{head}.shared_fcs.1", 1024, 1024)
        found |= layer(f"{head}.fc_cls", classes + 1, 1024)
        found |= layer(f"{head}.fc_reg", 4 if stages else 4 * classes, 1024)
        masks = f"roi_head.mask_head{number}"
        for i in range(4):
            found |= layer(f"{masks}.convs.{i}.conv", 256, 256, 3, 3)
        found |= {f"{masks}.upsample.weight": (256, 256, 2, 2), f"{masks}.upsample.bias": (256,)}
        found |= layer(f"{masks}.conv_logits", classes, 256, 1, 1)
    if scored:
        for i in range(4):
            found |= layer(f"roi_head.mask_iou_head.convs.{i}.conv", 256, 257 if i == 0 else 256, 3, 3)
        found |= layer("roi_head.mask_iou_head.fcs.0", 1024, 12544) | layer("roi_head.mask_iou_head.fcs.1", 1024, 1024)
        found |= layer("roi_head.mask_iou_head.fc_mask_iou", classes, 1024)
    return found


def filled(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random numbers, none of them twice the same in a tensor's neighbours."""
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    if "pixel_mean" in found:
        found["pixel_mean"] = torch.tensor([103.53, 116.28, 123.675])[:, None, None]
        found["pixel_std"] = torch.ones(3, 1, 1)
    return found
