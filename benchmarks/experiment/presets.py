"""How large the ablation is: data, steps, seeds and the settings that all of its rows share.  Free of torch."""

from dataclasses import dataclass, replace
from typing import Literal

from seanet.errors import UserError

SHARED = ("train.validate_every=1000000",)  # the last weights alone are measured, by the ablation itself
FROM_SCRATCH = ("backbone.weights=none", "backbone.norm=group", "backbone.frozen_stages=0")
"""For a backbone whose ImageNet weights are not at hand."""


@dataclass(frozen=True)
class Drawing:
    """Synthetic images of the preset "boundary" of ``seanet data synth``."""

    size: int
    """Pixels a side, of the images and of the network's input."""
    images: int
    """To train on."""
    val: int
    """To measure by."""
    seed: int = 0


@dataclass(frozen=True)
class Preset:
    name: str
    backbone: str
    drawing: Drawing | None
    """The data; None: those of a folder that is given, with all classes made one."""
    steps: int
    batch: int
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    """Beyond those of steps and batch; the same in every row."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    """Of one run."""
    measured: int = 1
    """Images at once where the last weights are measured."""
    readers: int = 0
    """Processes that read those images."""
    init: str | None = None
    """The preset whose last weights each row starts from, seed by seed; None: as its recipe says."""


def _sized(size: int, *settings: str) -> tuple[str, ...]:
    return (f"data.short_sides=[{size}]", f"data.long_side={size}", *SHARED, *settings)


CPU = Preset(
    "cpu", "lite", Drawing(192, 4000, 500), 1200, 4, (0, 1, 2), _sized(192, "train.lr=0.16", "train.workers=0")
)
LONG = replace(CPU, name="cpu_long", steps=4800, seeds=(0,))
"""Whether what ``cpu`` shows is a matter of its short schedule."""
GPU = Preset(
    "gpu",
    "r50",
    Drawing(512, 6000, 1000),
    1500,
    16,
    (0,),
    _sized(512, "train.precision=bf16", "train.channels_last=true", "train.workers=6"),
    device="cuda",
    threads=4,
    measured=16,
    readers=6,
)
"""Steps so that both main rows, with their data and their measuring, take less than 25 minutes on one H100, if a step of
seanet_r50 takes 0.25 s there: an estimate.  The data take less than one of them on 16 cores: an image of 320 pixels takes
13 ms of a core, one of 512 then about 33 ms, and 8 processes draw the 7000."""
PHOTOGRAPHS = Preset("photographs", "lite", None, 1600, 4, (0,), (*SHARED, "train.workers=0"), init=LONG.name)
"""Fine-tuning at the recipe's own size and rate on a folder of photographs, whose classes are made one: of COCO's 80, a few
hundred photographs show most too seldom to be learned in so few steps."""
TINY = Preset(
    "tiny",
    "lite",
    Drawing(96, 6, 4),
    2,
    2,
    (0,),
    _sized(96, "train.workers=0", "backbone.weights=none", "backbone.channels=16", "train.log_every=1"),
)
PRESETS = {preset.name: preset for preset in (CPU, LONG, GPU, PHOTOGRAPHS, TINY)}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}: there are {', '.join(PRESETS)}", field="preset", value=name)
    return PRESETS[name]
