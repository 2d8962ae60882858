"""Recipes: one function a model family, one name for each backbone.  Free of torch.

``RECIPES`` are the families.  ``ABLATIONS`` are the rows of the paper's tables between its baseline and SEANet, and each
ingredient alone; ``papers`` says which name is which row.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches

from seanet.config import (
    Backbone,
    Cascade,
    ClassicBox,
    ClassicMask,
    Config,
    Data,
    Detections,
    EdgeMask,
    FcnBox,
    MaskIou,
    Pool,
    Rpn,
    Sampling,
    Train,
    Unscored,
)
from seanet.errors import ConfigError

THREE_STAGES = Cascade(ious=(0.6, 0.7))


def mask_rcnn(backbone: str) -> Config:
    """Mask R-CNN, the baseline of every comparison."""
    return BACKBONES[backbone](Config(recipe=f"mask_rcnn_{backbone}"))


def seanet(backbone: str) -> Config:
    """SEANet: the box head with B-IoU and the mask head with edge attention on the same Mask R-CNN."""
    heads = Config(recipe=f"seanet_{backbone}", box=FcnBox(), mask=EdgeMask(), detections=Detections(nms=0.6))
    return BACKBONES[backbone](heads)


def ms_rcnn(backbone: str) -> Config:
    """Mask Scoring R-CNN: the mask's predicted IoU is a factor of the score."""
    return BACKBONES[backbone](Config(recipe=f"ms_rcnn_{backbone}", scoring=MaskIou()))


def seanet_ms(backbone: str) -> Config:
    """SEANet's heads in Mask Scoring R-CNN: score = class x B-IoU x mask IoU (row 19)."""
    return replace(seanet(backbone), recipe=f"seanet_ms_{backbone}", scoring=ms_rcnn(backbone).scoring)


def cascade_rcnn(backbone: str) -> Config:
    """Cascade Mask R-CNN: three box heads in a row, each with one box for all classes."""
    heads = Config(recipe=f"cascade_rcnn_{backbone}", box=ClassicBox(class_agnostic=True), cascade=THREE_STAGES)
    return BACKBONES[backbone](heads)


def seanet_cascade(backbone: str) -> Config:
    """SEANet's box head three times in a row: the best box of each RoI is the next stage's RoI (row 19)."""
    return replace(seanet(backbone), recipe=f"seanet_cascade_{backbone}", cascade=THREE_STAGES)


def mask_rcnn_fused(backbone: str) -> Config:
    """The baseline with the pooling of the authors' code (row 1): how much of a gain is the pooling's."""
    return replace(mask_rcnn(backbone), recipe=f"mask_rcnn_{backbone}_fused", pool=Pool(kind="fused"))


def seanet_fused(backbone: str) -> Config:
    """SEANet with the pooling of the authors' code (row 1)."""
    return replace(seanet(backbone), recipe=f"seanet_{backbone}_fused", pool=Pool(kind="fused"))


def seanet_box(backbone: str) -> Config:
    """The box head with B-IoU alone (table 2)."""
    return replace(seanet(backbone), recipe=f"seanet_{backbone}_box", mask=mask_rcnn(backbone).mask)


def seanet_box_plain(backbone: str) -> Config:
    """The box head alone, without B-IoU."""
    config = seanet_box(backbone)
    return replace(config, recipe=f"seanet_{backbone}_box_plain", box=replace(config.box, iou_weight=0.0))


def seanet_edge(backbone: str) -> Config:
    """The mask head with supervised edge attention alone (table 2: attention + L_edge)."""
    return replace(mask_rcnn(backbone), recipe=f"seanet_{backbone}_edge", mask=seanet(backbone).mask)


def seanet_attention(backbone: str) -> Config:
    """The mask head alone, its edge path not supervised (table 2: attention)."""
    return _unsupervised(seanet_edge(backbone), f"seanet_{backbone}_attention")


def seanet_box_attention(backbone: str) -> Config:
    """Both heads, the edge path not supervised (table 2: box head + attention; table 4: no edge supervision)."""
    return _unsupervised(seanet(backbone), f"seanet_{backbone}_box_attention")


def seanet_concat(backbone: str) -> Config:
    """SEANet whose edge path stands beside the mask path instead of being added to it (table 4)."""
    config = seanet(backbone)
    return replace(config, recipe=f"seanet_{backbone}_concat", mask=replace(config.mask, design="concat"))


def seanet_channel(backbone: str) -> Config:
    """Of the mask head's ingredients channel attention alone: no position attention, no edge supervision."""
    config = seanet_attention(backbone)
    return replace(config, recipe=f"seanet_{backbone}_channel", mask=replace(config.mask, position_attention=False))


def seanet_position(backbone: str) -> Config:
    """Of the mask head's ingredients position attention alone: no channel attention, no edge supervision."""
    config = seanet_attention(backbone)
    return replace(config, recipe=f"seanet_{backbone}_position", mask=replace(config.mask, channel_attention=False))


def seanet_supervision(backbone: str) -> Config:
    """Of the mask head's ingredients edge supervision alone: neither attention."""
    config = seanet_edge(backbone)
    mask = replace(config.mask, channel_attention=False, position_attention=False)
    return replace(config, recipe=f"seanet_{backbone}_supervision", mask=mask)


def _unsupervised(config: Config, name: str) -> Config:
    return replace(config, recipe=name, mask=replace(config.mask, edge_weight=0.0))


def paper_code(config: Config) -> Config:
    """What the authors' code does where the paper says nothing or something else (column "paper_code" of docs/paper.md)."""
    return replace(
        config,
        recipe=config.recipe + "_paper_code",
        geometry="legacy",
        pool=Pool(kind="fused"),
        box=FcnBox(
            regression="pixels",
            points="floor",
            giou_clamp="plain",
            iou_target="clamped_giou",
            iou_detached=False,
            iou_activation="sigmoid",
            cell="class_first",
            normaliser="positives_and_rois",
        ),
        mask=EdgeMask(target="integer", edge_context=False, edge_positive_weight=5.0, background_channel=True),
        detections=Detections(score=0.05, nms=0.6, limit=1000),
        train=replace(config.train, batch=40, lr=0.04, warmup=500, warmup_from=1 / 3),  # 0.1 a step of 8 x 5 images
    )


def _r50(config: Config) -> Config:
    return config


def _r101(config: Config) -> Config:
    return replace(config, backbone=Backbone(name="resnet101"))


def _x101(config: Config) -> Config:
    return replace(config, backbone=Backbone(name="resnext101_64x4d"))


def _convnext_t(config: Config) -> Config:
    return _modern(config, "timm/convnext_tiny.fb_in1k")


def _swin_t(config: Config) -> Config:
    return _modern(config, "timm/swin_tiny_patch4_window7_224.ms_in1k")


def _modern(config: Config, name: str) -> Config:
    """Trained whole, with the optimiser such networks are trained with; ``norm="batch"`` leaves their layer norms alone.

    ``name`` says which weights: those of ImageNet's 1000 classes, as the ResNets have, not timm's choice of the day.
    """
    return replace(
        config,
        backbone=Backbone(name=name, norm="batch", frozen_stages=0),
        train=replace(config.train, optimizer="adamw", lr=1e-4, weight_decay=0.05),
    )


LIGHT: dict[type, dict[str, int]] = {
    ClassicBox: {"width": 256},
    FcnBox: {"convs": 2},
    ClassicMask: {"convs": 2},
    EdgeMask: {"convs": 2, "reduction": 4},
    MaskIou: {"convs": 2, "width": 256},
    Unscored: {},
}


def _lite(config: Config) -> Config:
    """Made for a CPU: narrow, small images, few RoIs, light heads."""
    return replace(
        config,
        backbone=Backbone(name="mobilenet_v2", channels=64),
        rpn=Rpn(anchor_sizes=(16, 32, 64, 128, 256), before_nms=(500, 300), after_nms=(300, 100), sampled=128),
        sampling=Sampling(rois=64),
        box=replace(config.box, **LIGHT[type(config.box)]),
        mask=replace(config.mask, **LIGHT[type(config.mask)]),
        scoring=replace(config.scoring, **LIGHT[type(config.scoring)]),
        data=Data(short_sides=(256,), long_side=448),
        train=Train(batch=4, lr=0.08, schedule="cosine", warmup=100),
    )


BACKBONES: dict[str, Callable[[Config], Config]] = {
    "r50": _r50,
    "r101": _r101,
    "x101": _x101,
    "convnext_t": _convnext_t,
    "swin_t": _swin_t,
    "lite": _lite,
}
PAPERS = ("r50", "r101", "x101")
FAMILIES: dict[str, Callable[[str], Config]] = {
    "mask_rcnn": mask_rcnn,
    "seanet": seanet,
    "ms_rcnn": ms_rcnn,
    "seanet_ms": seanet_ms,
    "cascade_rcnn": cascade_rcnn,
    "seanet_cascade": seanet_cascade,
}


ABLATED: tuple[Callable[[str], Config], ...] = (
    mask_rcnn_fused,
    seanet_fused,
    seanet_box_plain,
    seanet_box,
    seanet_attention,
    seanet_box_attention,
    seanet_edge,
    seanet_concat,
    seanet_channel,
    seanet_position,
    seanet_supervision,
)


def _named(configs: Iterable[Config]) -> dict[str, Config]:
    return {config.recipe: config for config in configs}


RECIPES: dict[str, Config] = {
    **_named(family(backbone) for backbone in BACKBONES for family in FAMILIES.values()),
    **_named(paper_code(seanet(backbone)) for backbone in PAPERS),
}
ABLATIONS: dict[str, Config] = _named(make(backbone) for backbone in (*PAPERS, "lite") for make in ABLATED)
EVERY: dict[str, Config] = RECIPES | ABLATIONS


def recipe(name: str) -> Config:
    """The configuration of that name; an unknown name is answered with the nearest ones."""
    if name in EVERY:
        return EVERY[name]
    near = get_close_matches(name, EVERY, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "'seanet recipes --all' lists them"
    raise ConfigError(f"there is no recipe named {name!r}: {hint}", field="recipe", value=name)
