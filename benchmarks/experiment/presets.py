"""How large the ablation is: images, steps, seeds and the settings that all of its rows share.  Free of torch."""

from dataclasses import dataclass
from typing import Literal

from seanet.errors import UserError

SHARED = ("train.validate_every=1000000",)  # the last weights alone are measured, by the ablation itself
FROM_SCRATCH = ("backbone.weights=none", "backbone.norm=group", "backbone.frozen_stages=0")
"""For a backbone whose ImageNet weights are not at hand."""


@dataclass(frozen=True)
class Preset:
    name: str
    backbone: str
    size: int
    """Pixels a side, of the images and of the network's input."""
    images: int
    """To train on."""
    val: int
    """To measure by."""
    steps: int
    batch: int
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    """Beyond those of size, steps and batch; the same in every row."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    """Of one run."""
    data_seed: int = 0


def _sized(size: int, *settings: str) -> tuple[str, ...]:
    return (f"data.short_sides=[{size}]", f"data.long_side={size}", *SHARED, *settings)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("cpu", "lite", 192, 4000, 500, 1200, 4, (0, 1, 2), _sized(192, "train.lr=0.16", "train.workers=0")),
        # Steps so that both main rows, with their data and their measuring, take less than 25 minutes on one H100, if a
        # step of seanet_r50 takes 0.25 s there: an estimate.
        Preset(
            "gpu",
            "r50",
            512,
            6000,
            1000,
            1500,
            16,
            (0,),
            _sized(512, "train.precision=bf16", "train.channels_last=true", "train.workers=6"),
            device="cuda",
            threads=4,
        ),
        Preset(
            "tiny",
            "lite",
            96,
            6,
            4,
            2,
            2,
            (0,),
            _sized(96, "train.workers=0", "backbone.weights=none", "backbone.channels=16", "train.log_every=1"),
        ),
    )
}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}: there are {', '.join(PRESETS)}", field="preset", value=name)
    return PRESETS[name]
