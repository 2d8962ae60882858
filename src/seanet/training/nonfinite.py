"""Steps whose loss or gradient is not finite: found before they change a weight, kept for a replay, then left out or fatal.

To look means to wait for the device, so on a GPU only steps whose row is due are looked at, and all with ``skip``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from seanet import checkpoint
from seanet.checkpoint import Meta
from seanet.config import Train
from seanet.errors import CheckpointError, DivergenceError
from seanet.types import Batch, PackedMasks, Target

IN_A_ROW = 3  # steps left out one after another that end the run
KEPT = 3  # batches of a run that are kept
PATTERN = "bad_batch_*.safetensors"
Terms = dict[str, float]


@dataclass(frozen=True)
class Bad:
    """The first step that is not finite."""

    step: int
    ids: list[int] | None
    terms: Terms

    def message(self) -> str:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        images = ", ".join(map(str, self.ids)) if self.ids else "unknown"
        what = "gradient" if self.finite else "loss"
        return f"the {what} of step {self.step} is not finite ({shown}) on the images with the ids {images}"

    @property
    def finite(self) -> bool:
        """Whether the losses are finite, so that it is the gradient that is not."""
        return all(map(math.isfinite, self.terms.values()))

    def error(self, more: str) -> DivergenceError:
        worst = ", ".join(name for name, value in self.terms.items() if not math.isfinite(value))
        return DivergenceError(f"{self.message()}: {more}", image_id=self.ids, field=worst, value=self.terms)


@dataclass
class Guard:
    train: Train
    folder: Path
    say: Callable[[str], None]
    parts: list[Batch] = field(default_factory=list)
    """Micro-batches of the running step, where it will be looked at."""
    before: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Statistics that the forward pass of the running step changes, and what they were."""
    in_a_row: int = 0
    left_out: int = 0
    """The last step that was; steps count from 1."""
    skipped: int = 0
    """Since the last row of the log."""
    spoilt: bool = False
    """Whether a step that nobody looked at has spoilt the weights."""

    def __deepcopy__(self, memo: object) -> "Guard":
        """The copy of a module that holds averaged weights makes no steps of its own."""
        return self

    def looks(self, step: int, device: str) -> bool:
        return device == "cpu" or self.train.nonfinite == "skip" or step % self.train.log_every == 0

    def begin(self, detector: nn.Module) -> None:
        """Before the first part of a step."""
        norms = [m for m in detector.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
        self.parts, self.before = [], [(b, b.clone()) for norm in norms for b in norm.buffers()]

    def undo(self) -> None:
        """Take the running step's traces out of the detector."""
        for buffer, value in self.before:
            buffer.copy_(value)

    def skips(self, bad: Bad, detector: nn.Module, meta: Meta, rank: int) -> bool:
        """Whether the step is to be left out; else DivergenceError.  Its batch and the weights before it are kept."""
        self.undo()
        self.in_a_row += 1
        where = self._keep(bad, detector, meta, rank)
        hint = f"{where}lower train.lr, lengthen train.warmup or look at these images"
        if self.train.nonfinite == "stop":
            raise bad.error(f"{hint}; the last checkpoint is good")
        if self.in_a_row >= IN_A_ROW:
            raise bad.error(f"{IN_A_ROW} such steps in a row end the run; {hint}; the last checkpoint is good")
        self.skipped, self.left_out = self.skipped + 1, bad.step
        self.say(f"warning: {bad.message()}; the step is left out, {self.in_a_row} in a row")
        for parameter in detector.parameters():
            parameter.grad = None  # so neither weights nor momenta change
        return True

    def _keep(self, bad: Bad, detector: nn.Module, meta: Meta, rank: int) -> str:
        name = PATTERN.replace("*", f"{bad.step}.{rank}" if rank else str(bad.step))
        if len(list(self.folder.glob(PATTERN))) >= KEPT and not (self.folder / name).exists():
            return ""
        state = {"step": bad.step, "terms": bad.terms, "batches": [_plain(part) for part in self.parts]}
        try:
            checkpoint.save_state(self.folder / name, detector.state_dict(), meta, state)
        except CheckpointError as error:
            self.say(f"warning: {error}")
            return ""
        return f"'seanet replay {self.folder}' shows where it begins, from {name}; "


def read_bad(path: Path) -> tuple[checkpoint.Weights, Meta, dict[str, Any], list[Batch]]:
    """What was kept of a step: the weights before it, what they are, what was found, and its micro-batches."""
    weights, meta, state = checkpoint.read_state(path)
    if "batches" not in state:
        raise CheckpointError(
            f"{path} holds no batch of a step that was not finite: name a run or a {PATTERN}", file=path
        )
    return weights, meta, state, [_batch(plain) for plain in state["batches"]]


def _plain(batch: Batch) -> dict[str, Any]:
    targets = batch.targets and [
        {"boxes": t.boxes, "labels": t.labels, "masks": [t.masks.tables, t.masks.starts, t.masks.windows]}
        for t in batch.targets
    ]
    sizes = [[int(side) for side in size] for size in batch.sizes]
    return {"images": batch.images, "sizes": sizes, "targets": targets, "ids": batch.ids, "seeds": batch.seeds}


def _batch(plain: dict[str, Any]) -> Batch:
    targets = plain["targets"] and [Target(t["boxes"], t["labels"], PackedMasks(*t["masks"])) for t in plain["targets"]]
    sizes = [(height, width) for height, width in plain["sizes"]]
    return Batch(plain["images"], sizes, targets, plain["ids"], plain["seeds"])
