"""Images to a feature pyramid: a torchvision or timm network and torchvision's FPN.  B images, C channels."""

import math
from collections import OrderedDict
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from seanet import config
from seanet.errors import ConfigError, MissingExtra

STRIDES = (4, 8, 16, 32)
RESNETS = ("resnet50", "resnet101", "resnext101_64x4d")


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's in one pass instead of two, in the precision of the map.

    Where no gradient is wanted it overwrites the map, which is a convolution's and nobody else's: fresh memory costs a CPU
    as much as the pass.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        scale, shift = (value.to(x.dtype)[:, None, None] for value in (scale, shift))
        return torch.addcmul(shift, x, scale, out=None if x.requires_grad else x)


NORMS = {
    "frozen": FrozenNorm,
    "batch": nn.BatchNorm2d,
    "sync": nn.SyncBatchNorm,
    "group": lambda width: nn.GroupNorm(math.gcd(32, width), width),
}


class Backbone(nn.Module):
    """Five maps of C channels with strides 4, 8, 16, 32 and 64."""

    def __init__(self, body: nn.Module, widths: list[int], stages: list[list[nn.Module]], settings: config.Backbone):
        super().__init__()
        self.body = body
        pyramid = NormedPyramid if any(isinstance(m, nn.LayerNorm) for m in body.modules()) else FeaturePyramidNetwork
        self.fpn = pyramid(widths, settings.channels, LastLevelMaxPool())
        self._frozen = [module for stage in stages[: settings.frozen_stages] for module in stage]
        for module in self._frozen:
            module.requires_grad_(False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> OrderedDict[str, Tensor]:
        return self.fpn(self.body(images))

    def train(self, mode: bool = True):
        """Frozen stages keep their statistics too."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


class PreciseLayers(IntermediateLayerGetter):
    """Maps of MobileNetV2, in float32 whatever the precision of the run.

    bf16 moved the maps of a trained model by a tenth and fp16 by a hundredth; bf16 cost two models 0.9 and 3.3 points of box
    AP on 16 images.
    """

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> OrderedDict[str, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


class NormedPyramid(FeaturePyramidNetwork):
    """A layer norm before each lateral convolution.

    Networks such as ConvNeXt and Swin normalise a stage's map where the next stage, or the classifier, takes it over; these
    maps come before that.  Their authors add such norms for detection too (Liu et al. 2021, 2022).
    """

    def __init__(self, widths: list[int], channels: int, extra: LastLevelMaxPool):
        super().__init__(widths, channels, extra)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        pairs = zip(x.items(), self.norms, strict=True)
        return super().forward(
            OrderedDict((name, norm(m.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)) for (name, m), norm in pairs)
        )


def build_backbone(settings: config.Backbone) -> Backbone:
    if settings.name.startswith("timm/"):
        return _timm(settings)
    if settings.name in RESNETS:
        return _resnet(settings)
    if settings.name == "mobilenet_v2":
        return _mobilenet(settings)
    raise ConfigError(
        f"backbone.name: there is no backbone {settings.name!r}; known are {', '.join(RESNETS)}, mobilenet_v2"
        " and timm/NAME",
        field="backbone.name",
        value=settings.name,
    )


def _resnet(settings: config.Backbone) -> Backbone:
    network = getattr(torchvision.models, settings.name)(weights=None, norm_layer=NORMS[settings.norm])
    if settings.stride_in == "1x1":
        for stage in (network.layer2, network.layer3, network.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
    body = IntermediateLayerGetter(network, {f"layer{i + 1}": str(i) for i in range(4)})
    stages = [[body["conv1"], body["bn1"]], *([body[f"layer{i + 1}"]] for i in range(4))]
    return Backbone(body, [256, 512, 1024, 2048], stages, settings)


def _mobilenet(settings: config.Backbone) -> Backbone:
    """MobileNetV2 without its last convolution, which is as large as all the rest and made for classification."""
    features = torchvision.models.mobilenet_v2(weights=None, norm_layer=NORMS[settings.norm]).features
    last = (3, 6, 13, 17)  # the last blocks with strides 4, 8, 16, 32
    body = PreciseLayers(features, {str(block): str(i) for i, block in enumerate(last)})
    blocks = list(body.values())
    starts = (0, 2, 4, 7, 14, 18)
    stages = [blocks[a:b] for a, b in pairwise(starts)]
    return Backbone(body, [24, 32, 96, 320], stages, settings)


def _timm(settings: config.Backbone) -> Backbone:
    try:
        import timm
    except ImportError:
        raise MissingExtra("timm", "timm", f"the backbone {settings.name}") from None
    if settings.norm == "group":
        raise ConfigError("backbone.norm: 'group' is not available for timm backbones; take frozen, batch or sync")
    name = settings.name.removeprefix("timm/")
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:3]) or "see timm.list_models()"
        raise ConfigError(f"backbone.name: timm has no model {name!r} ({near})", field="backbone.name", value=name)
    try:
        network: Any = timm.create_model(name, features_only=True, pretrained=False, **_any_size(name))
    except RuntimeError as error:  # a tag that the model does not have, or no maps of features
        raise ConfigError(f"backbone.name: {error}", field="backbone.name", value=settings.name) from error
    strides = network.feature_info.reduction()
    if not set(STRIDES) <= set(strides):
        raise ConfigError(f"backbone.name: {settings.name} gives maps of strides {strides}; 4, 8, 16 and 32 are needed")
    picked = [strides.index(stride) for stride in STRIDES]
    widths = [network.feature_info.channels()[i] for i in picked]
    stages = [[network]] if settings.frozen_stages == 5 else [[]]
    if 0 < settings.frozen_stages < 5:
        raise ConfigError("backbone.frozen_stages: timm backbones are trained whole (0) or kept whole (5)")
    body = _with_norm(_TimmMaps(network, picked), settings.norm)
    return Backbone(body, widths, stages, settings)


def _any_size(name: str) -> dict[str, Any]:
    """What makes timm's Swin take images of any size with the windows and tables of its ImageNet weights."""
    return {"strict_img_size": False, "always_partition": True} if name.startswith("swin") else {}


class _TimmMaps(nn.Module):
    """Four of a timm network's maps, channels first, of images of any size: ceil(H / s) x ceil(W / s) cells each.

    Transformers with shifted windows get whole windows at every stage: timm shifts its maps before it pads them, so that
    opposite borders of an image would see each other wherever the sides are no multiples of window x stride.
    """

    def __init__(self, network: nn.Module, picked: list[int]):
        super().__init__()
        self.network, self.picked = network, picked
        self.channels_last = getattr(network, "output_fmt", None) == "NHWC"
        blocks: list[Any] = [m for m in network.modules() if hasattr(m, "shift_size")]
        windows = [max(block.window_size) for block in blocks]
        self.multiple = 32 * max(windows) if windows else 1

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        height, width = images.shape[-2:]
        maps = self.network(F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple)))
        found = (self.first(maps[p], height, width, stride) for p, stride in zip(self.picked, STRIDES, strict=True))
        return OrderedDict((str(i), m) for i, m in enumerate(found))

    def first(self, features: Tensor, height: int, width: int, stride: int) -> Tensor:
        """Channels first, without what the padding added."""
        if self.channels_last:
            features = features.permute(0, 3, 1, 2)
        if self.multiple > 1:
            features = features[..., : math.ceil(height / stride), : math.ceil(width / stride)]
        return features.contiguous()


def _with_norm(body: nn.Module, name: str) -> nn.Module:
    if name == "sync":
        return nn.SyncBatchNorm.convert_sync_batchnorm(body)
    if name == "frozen":
        from timm.layers import freeze_batch_norm_2d

        return freeze_batch_norm_2d(body)
    return body


def normalise(images: Tensor, sizes: list[tuple[int, int]], mean: Tensor, std: Tensor) -> Float[Tensor, "b 3 h w"]:
    """uint8 RGB to the statistics of ImageNet; padding becomes zero after that, as the convolutions' own padding is."""
    scaled = (images.to(mean.dtype) / 255 - mean) / std
    height, width = images.shape[-2:]
    if all(size == (height, width) for size in sizes):
        return scaled
    limit = torch.tensor(sizes, device=images.device)
    rows = torch.arange(height, device=images.device) < limit[:, 0:1]  # (B, H)
    columns = torch.arange(width, device=images.device) < limit[:, 1:2]
    return scaled * (rows[:, None, :, None] & columns[:, None, None, :])
