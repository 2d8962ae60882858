"""Every setting of a model and of a run, once, as frozen dataclasses.  Free of torch: the command line reads it at once.

"Row n" is row n of the table of gaps in docs/paper.md: what the paper leaves open, what its authors ran, what we do.
Defaults are ours; ``recipes.paper_code`` sets what the authors ran.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, MinLen

Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Weight = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]


class Part:
    """A part of the configuration; unknown keys in files and overrides are errors."""

    __pydantic_config__ = {"extra": "forbid"}


Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Of convolutions and matrix products; what is sensitive to rounding (boxes, scores, losses, masks) is float32 in all.

``fp32`` leaves torch's own switches alone, whose default lets convolutions, not matrix products, of recent NVIDIA GPUs
round to TF32; ``tf32`` lets both.  ``bf16`` and ``fp16`` halve the memory of maps.
"""


@dataclass(frozen=True)
class Execution:
    """How a model is run, apart from what it is: the same results but for rounding, so no part of a Config."""

    precision: Precision = "fp32"
    channels_last: bool = True
    """Maps and weights with the channels of a cell side by side in memory."""
    substitutes: bool = True
    """On CPUs, and without ``compile``: quicker forms of float32 3 x 3 convolutions (Winograd's) and of RoIAlign."""
    compile: Literal["none", "default", "graphs"] = "none"
    """``default``: torch.compile, once for images of all sizes and any number of RoIs.  ``graphs``: CUDA graphs of the
    backbone, compiled anew for each size of image."""


@dataclass(frozen=True)
class Backbone(Part):
    name: str = "resnet50"
    """``resnet50``, ``resnet101``, ``resnext101_64x4d``, ``mobilenet_v2`` of torchvision, or ``timm/NAME`` for any
    timm model of images of any size with ``features_only`` maps of strides 4, 8, 16 and 32."""
    weights: str = "imagenet"
    """What training starts from: ``none``; ``imagenet`` (carried by an installed package, or in torch's cache, or
    fetched when that is allowed); ``auto`` (the same without fetching, else none); or a file of weights."""
    norm: Literal["frozen", "batch", "sync", "group"] = "frozen"
    frozen_stages: Annotated[int, Interval(ge=0, le=5)] = 2
    """How many of the stem and the four stages, from the image on, keep their weights."""
    stride_in: Literal["3x3", "1x1"] = "3x3"
    """Which convolution of a ResNet's block halves the map: the 3 x 3, or the first 1 x 1 as He et al. 2016 had it and
    weights of detectron2 need it."""
    channels: Count = 256
    """Width of the feature pyramid, and so of the heads."""


@dataclass(frozen=True)
class Rpn(Part):
    anchor_sizes: tuple[Positive, Positive, Positive, Positive, Positive] = (32, 64, 128, 256, 512)
    """One for each of the five levels of the pyramid."""
    aspect_ratios: Annotated[tuple[Positive, ...], MinLen(1)] = (0.5, 1.0, 2.0)
    positive_iou: Share = 0.7
    negative_iou: Share = 0.3
    sampled: Count = 256
    """Anchors of an image that enter the loss."""
    positive_share: Share = 0.5
    before_nms: tuple[Count, Count] = (2000, 1000)
    """Proposals of each level kept for the suppression: in training, in prediction."""
    after_nms: tuple[Count, Count] = (2000, 1000)
    """Proposals of an image: in training, in prediction."""
    nms: Share = 0.7


@dataclass(frozen=True)
class Sampling(Part):
    """RoIs of an image that train the heads."""

    iou: Share = 0.5
    rois: Count = 512
    positive_share: Share = 0.25


@dataclass(frozen=True)
class Pool(Part):
    kind: Literal["nearest", "fused"] = "nearest"
    """Row 1.  ``nearest``: the one level that fits the RoI; ``fused``: all four levels, then two 1 x 1 convolutions."""
    samples: Whole = 2
    """Points a side and cell; 0 lets RoIAlign adapt to the size of the RoI."""
    canonical_scale: Positive = 224.0
    """Side, in pixels of the network's input, of RoIs that ``nearest`` reads from stride 16; 224 suits images of 800."""


@dataclass(frozen=True)
class ClassicBox(Part):
    """Mask R-CNN's box head: two fully connected layers."""

    kind: Literal["classic"] = "classic"
    size: Count = 7
    width: Count = 1024
    class_agnostic: bool = False
    """One box for all classes, as Cascade R-CNN has it."""
    delta_weights: tuple[Positive, Positive] = (10.0, 5.0)
    """What the deltas of centres and of sides are multiplied by."""


@dataclass(frozen=True)
class FcnBox(Part):
    """SEANet's fully convolutional box head with its B-IoU branch (section 3.1)."""

    kind: Literal["fcn"] = "fcn"
    size: Count = 7
    convs: Count = 4
    regression: Literal["roi", "pixels"] = "roi"
    """Row 2.  Unit of the predicted distances: half a side of the RoI, or pixels of the network's image."""
    points: Literal["continuous", "floor"] = "continuous"
    """Row 3.  Cell points of equation 1 as they are, or floored with boxes whose last pixel counts."""
    positives: Literal["matched", "any"] = "matched"
    """Row 4.  Cells inside the ground truth their RoI matches (IoU of ``sampling.iou``), or inside any ground truth."""
    giou_clamp: Literal["shifted", "plain"] = "shifted"
    """Row 5.  What is kept above zero before the logarithm: (GIoU + 1) / 2, or GIoU itself."""
    iou_target: Literal["giou", "iou", "clamped_giou"] = "giou"
    """Row 6.  What the B-IoU branch learns to predict."""
    iou_detached: bool = True
    """Row 6.  Keep the gradient of the B-IoU loss out of the regression tower's boxes."""
    iou_loss: Literal["squared", "cross_entropy"] = "squared"
    """Row 7."""
    iou_activation: Literal["clamp", "sigmoid"] = "clamp"
    """Row 7.  What maps the B-IoU output to 0..1 at inference; ``cross_entropy`` needs ``sigmoid``."""
    iou_power: Share | None = None
    """Row 7.  None: score = class x iou; a: score = class^(1-a) x iou^a."""
    cell: Literal["product", "class_first"] = "product"
    """Row 8.  The cell that speaks for its RoI: the best product of all classes, or of the class with the best score."""
    normaliser: Literal["positives", "positives_and_rois"] = "positives"
    """Row 9.  What the sums of the losses are divided by."""
    class_weight: Positive = 1.0
    regression_weight: Positive = 1.0
    iou_weight: Weight = 0.5
    """0: no B-IoU branch; the class score alone ranks."""


@dataclass(frozen=True)
class ClassicMask(Part):
    """Mask R-CNN's mask head: four convolutions and one deconvolution."""

    kind: Literal["classic"] = "classic"
    size: Count = 14
    """Cells a side of the RoI crop; masks have twice as many."""
    convs: Count = 4
    target: Literal["soft", "hard", "integer"] = "soft"
    """Row 12.  Share of each cell that the object covers; the same cut at one half; the same with RoIs rounded to pixels."""

    @property
    def has_edges(self) -> bool:
        """Whether edges can be asked for."""
        return False


@dataclass(frozen=True)
class EdgeMask(Part):
    """SEANet's mask head with channel attention and supervised edge attention (section 3.2)."""

    kind: Literal["edge"] = "edge"
    size: Annotated[int, Ge(9)] = 14
    """Cells a side of the RoI crop; masks have twice as many.  The channel attention's two 5 x 5 convolutions need 9."""
    convs: Count = 4
    reduction: Count = 16
    """Narrowing of the two fully connected layers of the channel attention."""
    channel_attention: bool = True
    position_attention: bool = True
    design: Literal["sum", "concat"] = "sum"
    """How the edge path joins the mask path (table 4)."""
    target: Literal["soft", "hard", "integer"] = "soft"
    """Row 12.  As for the classic mask head."""
    edge_context: bool = True
    """Row 10.  Look one cell past the RoI, so that edges are the object's, never the crop's or the image's."""
    edge_positive_weight: Positive | None = None
    """Row 11.  Weight of an edge cell; None: equation 2, for each RoI."""
    activation: Literal["linear", "relu"] = "linear"
    """Row 14.  What stands between the pairs of convolutions that could be collapsed into one."""
    background_channel: bool = False
    """Row 15.  One more mask channel, for the background, that is never trained."""
    mask_weight: Positive = 1.0
    edge_weight: Weight = 1.0
    """0: the edge path is not supervised, and there are no edges to ask for."""

    @property
    def has_edges(self) -> bool:
        """Whether edges can be asked for."""
        return self.edge_weight > 0


@dataclass(frozen=True)
class Unscored(Part):
    """Masks are ranked by the score of their box."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class MaskIou(Part):
    """Mask Scoring R-CNN's head, which predicts how well a mask fits its object (Huang et al. 2019)."""

    kind: Literal["mask_iou"] = "mask_iou"
    convs: Count = 4
    """The last of them halves the crop."""
    width: Count = 1024
    weight: Positive = 0.5


BoxHead = ClassicBox | FcnBox
MaskHead = ClassicMask | EdgeMask
Scoring = Unscored | MaskIou


@dataclass(frozen=True)
class Cascade(Part):
    """Further box heads, each trained on the boxes of the one before (Cai and Vasconcelos 2018); none: a plain R-CNN."""

    ious: tuple[Share, ...] = ()
    """Overlap that makes a RoI of each further stage positive, as ``sampling.iou`` does in the first: 0.6, 0.7."""
    weights: tuple[Positive, ...] = (0.5, 0.25)
    """Of the losses of each further stage."""
    sharpness: tuple[Positive, ...] = (2.0, 3.0)
    """What multiplies the classic head's ``delta_weights`` in each further stage: its boxes have less to mend."""


@dataclass(frozen=True)
class Detections(Part):
    """Row 16.  What leaves the box head."""

    score: Share = 0.05
    nms: Share = 0.5
    limit: Count = 100
    """Detections of an image; evaluation counts as many."""


@dataclass(frozen=True)
class Data(Part):
    """How images reach the network, and how training varies them.  Sides and areas are in pixels."""

    short_sides: Annotated[tuple[Count, ...], MinLen(1)] = (800,)
    """Training draws one of them for each image; prediction takes the last."""
    long_side: Count = 1333
    flip: Share = 0.5
    jitter: tuple[Positive, Positive] | None = None
    """Large-scale jitter: range of a further factor of size; what grows past the frame is cropped."""
    crop: Share = 0.0
    """Probability of cutting out a random window of 50 to 100 % of each side."""
    colour: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Strength of changes in brightness, contrast and saturation."""
    copy_paste: Share = 0.0
    """Probability of pasting objects of another image."""
    max_pixels: Count = 200_000_000
    """Larger image files are refused from their header."""
    draft: bool = False
    """Decode large JPEGs at a half, quarter or eighth of their size where 1.5 times the network's sides are left: three
    times faster, for pixels that differ by 0.3 of 255 levels on average (53 dB).  AP of 16 images moved by 0.5 at most for
    masks and by 1 for boxes, up and down: train with it to predict with it."""
    max_bad: Share = 0.01
    """Training stops before it starts when more than this share of the annotations had to be skipped."""


@dataclass(frozen=True)
class Train(Part):
    epochs: Positive = 24.0
    steps: Count | None = None
    """Optimiser steps; None: what ``epochs`` come to."""
    batch: Count = 16
    """Images of a step, over all devices and accumulated parts."""
    accumulate: Count = 1
    """Parts that a device takes its share of the batch in."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.02
    """For 16 images a step; SGD scales it by ``batch`` / 16."""
    momentum: Share = 0.9
    weight_decay: Weight = 1e-4
    schedule: Literal["step", "cosine"] = "step"
    drops: tuple[Share, ...] = (16 / 24, 22 / 24)
    """Where in the run the step schedule divides the rate by ten."""
    warmup: Whole = 1000
    """Steps of the linear warm-up, at most a quarter of the run."""
    warmup_from: Share = 0.001
    """Share of the rate that the warm-up starts at."""
    clip: Positive | None = 35.0
    """Largest norm of the gradient."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What a step does whose loss or gradient is not finite: end the run before it changes a weight, or be left out, its
    weights, momenta and place in the schedule apart, unless three in a row are.  Its batch is kept for ``seanet replay``.
    On a GPU ``stop`` looks at the steps whose row is due (``log_every``), ``skip`` at each, which costs a wait."""
    precision: Precision = "fp32"
    channels_last: bool = True
    """Memory layout of maps and weights, as for ``Execution``."""
    compile: bool = False
    """torch.compile of the backbone and of the heads' towers."""
    ema: Share | None = None
    """Decay of the averaged weights that are evaluated and kept; None: none."""
    seed: Whole = 0
    workers: Whole = 2
    """Processes that read images, for each device."""
    devices: Count = 1
    validate_every: Count = 1
    """Epochs between evaluations."""
    patience: Count | None = None
    """Evaluations without a better metric after which training stops."""
    metric: str = "segm/AP"
    log_every: Count = 10

    @property
    def execution(self) -> Execution:
        return Execution(self.precision, self.channels_last, compile="default" if self.compile else "none")


@dataclass(frozen=True)
class Config(Part):
    """A recipe: all that makes a model and trains it.  Saved with every run and inside every checkpoint."""

    recipe: str = "mask_rcnn_r50"
    geometry: Literal["aligned", "legacy"] = "aligned"
    """Row 13.  Continuous coordinates throughout, or torchvision's numbers (half-pixel RoIs, integer paste)."""
    backbone: Backbone = field(default_factory=Backbone)
    rpn: Rpn = field(default_factory=Rpn)
    sampling: Sampling = field(default_factory=Sampling)
    pool: Pool = field(default_factory=Pool)
    box: BoxHead = field(default_factory=ClassicBox)
    cascade: Cascade = field(default_factory=Cascade)
    mask: MaskHead = field(default_factory=ClassicMask)
    scoring: Scoring = field(default_factory=Unscored)
    detections: Detections = field(default_factory=Detections)
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
