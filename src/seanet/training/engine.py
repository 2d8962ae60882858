"""The loop: a thin Lightning module and one callback.  Lightning brings devices, precision, accumulation and averages.

For Lightning the whole run is one epoch over one stream of batches that starts at any step; passes over the data,
validation and stopping are decided here from the step alone, so that a run goes on exactly from the middle of a pass.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from seanet.checkpoint import LAST, Meta, read_state, save_state
from seanet.config import Train
from seanet.errors import CheckpointError, DivergenceError
from seanet.execution import HALVES, running
from seanet.training.keeper import Keeper, Metrics
from seanet.training.log import Log
from seanet.training.optim import Plan, optimizer
from seanet.types import Batch

PRECISIONS: dict[str, Any] = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
LASTING = timedelta(hours=6)  # one process evaluates while the others wait


@dataclass
class Stream:
    """Micro-batches of a whole run; ``start(step)`` gives those from that step on."""

    start: Callable[[int], Iterable[Batch]]
    length: int
    step: int = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        yield from self.start(self.step)


@dataclass
class Watch:
    """Losses of the steps since the last look; looking waits for the device, so it happens each step only on a CPU."""

    seen: list[tuple[int, list[int] | None, dict[str, Tensor]]] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    first: int = 0

    def add(self, step: int, batch: Batch, losses: dict[str, Tensor]) -> None:
        self.seen.append((step, batch.ids, {name: value.detach() for name, value in losses.items()}))

    def check(self, last: int = 0) -> None:
        """Raise DivergenceError for the first step, of the ``last`` ones or of all, whose loss is not finite."""
        for step, ids, losses in self.seen[-last:]:
            terms = {name: float(value) for name, value in losses.items()}
            if not math.isfinite(sum(terms.values())):
                _diverged(step, ids, terms)

    def take(self, step: int) -> dict[str, float]:
        """Means since the last call, once they are known to be finite."""
        self.check()
        losses = [losses for _, _, losses in self.seen]
        means = {name: float(torch.stack([loss[name] for loss in losses]).mean()) for name in losses[0]}
        seconds = (time.perf_counter() - self.start) / max(1, step - self.first)
        self.seen, self.start, self.first = [], time.perf_counter(), step
        return {"seconds": seconds, "loss": sum(means.values()), **means}


def _diverged(step: int, ids: list[int] | None, terms: dict[str, float]) -> None:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
    images = ", ".join(map(str, ids)) if ids else "unknown"
    raise DivergenceError(
        f"the loss of step {step} is not finite ({shown}) on the images with the ids {images}: "
        f"lower train.lr, lengthen train.warmup or look at these images; the last checkpoint is good",
        image_id=ids,
        field=", ".join(name for name, value in terms.items() if not math.isfinite(value)),
        value=terms,
    )


class Module(lightning.LightningModule):
    """What happens in one step."""

    def __init__(self, detector: nn.Module, plan: Plan, meta: Meta):
        super().__init__()
        self.detector, self.plan, self.meta = detector, plan, meta
        self.watch, self.norm = Watch(), torch.zeros(())

    def training_step(self, batch: Batch, index: int) -> Tensor:
        losses = self.detector(batch)
        self.watch.add(self.trainer.global_step + 1, batch, losses)
        total = sum(losses.values())
        if total.device.type == "cpu":
            self.watch.check(last=1)
        return total

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout of a backbone: a function of the step, like all else that is random.
        torch.default_generator.manual_seed(batch.seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(batch.seed)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.plan.rate(self.trainer.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer(self.detector, self.plan.train)

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.norm = nn.utils.clip_grad_norm_(self.parameters(), self.plan.train.clip or math.inf)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["meta"] = self.described(checkpoint["global_step"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Else a run that was complete and is made longer would stop at once.
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False

    def described(self, step: int, metrics: Metrics | None = None) -> Meta:
        return replace(self.meta, step=step, epoch=self.plan.epoch(step), metrics=metrics or {})


class SafeCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as one safetensors file; a full disk stops the run only when it stays full."""

    patience = 3

    def __init__(self, say: Callable[[str], None]):
        self.say, self.failures = say, 0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        state = {name: value for name, value in checkpoint.items() if name not in ("meta", "state_dict")}
        weights = {name.removeprefix("detector."): value for name, value in checkpoint["state_dict"].items()}
        try:
            save_state(path, weights, checkpoint["meta"], state)
            self.failures = 0
        except CheckpointError as error:
            self.failures += 1
            if self.failures >= self.patience:
                raise
            self.say(f"warning: {error}")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        weights, _, state = read_state(path)
        return {**state, "state_dict": {f"detector.{name}": value for name, value in weights.items()}}

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def fit(
    detector: nn.Module,
    stream: Stream,
    evaluate: Callable[[nn.Module], Metrics],
    plan: Plan,
    meta: Meta,
    folder: Path,
    device: str,
    log: Log | None,
    resume: bool = False,
) -> Keeper:
    """Train; the returned keeper holds the history and the signal that ended the run, if one did."""
    ema = EMAWeightAveraging(decay=plan.train.ema) if plan.train.ema is not None else None
    keeper = Keeper(folder, evaluate, log, ema)
    say = log.screen.say if log else (lambda text: None)
    module = Module(detector.train(), plan, meta)
    with _quiet(), _switches(plan.train, torch.device(device)):
        trainer = _trainer(plan, [c for c in (ema, keeper) if c], device, SafeCheckpointIO(say))
        try:
            trainer.fit(module, stream, ckpt_path=folder / LAST if resume else None)
        except SystemExit:
            if not keeper.signals.received:  # else Lightning's answer to a second or an early interrupt
                raise
    return keeper


def _trainer(plan: Plan, callbacks: list[Any], device: str, io: CheckpointIO) -> lightning.Trainer:
    train = plan.train
    backend = "nccl" if device == "cuda" else "gloo"
    strategy = DDPStrategy(process_group_backend=backend, timeout=LASTING) if train.devices > 1 else "auto"
    return lightning.Trainer(
        accelerator=device,
        devices=train.devices,
        strategy=strategy,
        precision=PRECISIONS[train.precision],
        max_epochs=1,
        accumulate_grad_batches=train.accumulate,
        use_distributed_sampler=False,
        callbacks=callbacks,
        plugins=[io],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _switches(train: Train, device: torch.device) -> AbstractContextManager[None]:
    """All of the execution but halves, which Lightning brings with the scaling of their gradients."""
    halves = train.precision in HALVES
    return running(replace(train.execution, precision="fp32") if halves else train.execution, device)


@contextmanager
def _quiet() -> Generator[None]:
    """Without Lightning's adverts and advice; its import sets the level, so this comes after."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        yield
