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

from seanet.checkpoint import PREVIOUS, Meta, Weights, read_state, save_model, save_state
from seanet.config import Train
from seanet.errors import CheckpointError
from seanet.execution import HALVES, running
from seanet.training.keeper import Keeper, Metrics
from seanet.training.nonfinite import Bad, Guard
from seanet.training.optim import Plan, optimizer
from seanet.training.shortage import is_shortage, shortage
from seanet.types import Batch

PRECISIONS: dict[str, Any] = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
LASTING = timedelta(hours=6)  # one process evaluates while the others wait


@dataclass
class Stream:
    """Micro-batches of a whole run; ``start(step)`` gives those from that step on."""

    start: Callable[[int], Iterable[Batch]]
    length: int
    step: int = 0
    running: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        self.running.append(iter(self.start(self.step)))
        return self.running[-1]

    def close(self) -> None:
        """End what reads, whoever still holds the stream."""
        while self.running:
            if hasattr(last := self.running.pop(), "close"):
                last.close()


@dataclass
class Watch:
    """Losses of the steps since the last look; looking waits for the device, so it happens each step only on a CPU."""

    seen: list[tuple[int, list[int] | None, dict[str, Tensor]]] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    first: int = 0

    def add(self, step: int, batch: Batch, losses: dict[str, Tensor]) -> None:
        self.seen.append((step, batch.ids, {name: value.detach() for name, value in losses.items()}))

    def bad(self) -> Bad | None:
        """The first step whose loss is not finite."""
        for step, ids, losses in self.seen:
            terms = {name: float(value) for name, value in losses.items()}
            if not math.isfinite(sum(terms.values())):
                return Bad(step, ids, terms)
        return None

    def of(self, step: int) -> Bad:
        """All images of a step and the means of its terms."""
        parts = [(ids, losses) for number, ids, losses in self.seen if number == step]
        ids = [id for part, _ in parts for id in part or []]
        terms = {name: float(torch.stack([losses[name] for _, losses in parts]).mean()) for name in parts[0][1]}
        return Bad(step, ids or None, terms)

    def drop(self, step: int) -> None:
        self.seen = [entry for entry in self.seen if entry[0] != step]

    def take(self, step: int) -> dict[str, float]:
        """Means since the last call, without the steps that were left out."""
        losses = [losses for _, _, losses in self.seen]
        means = {name: float(torch.stack([loss[name] for loss in losses]).mean()) for name in (losses or [{}])[0]}
        seconds = (time.perf_counter() - self.start) / max(1, step - self.first)
        self.seen, self.start, self.first = [], time.perf_counter(), step
        return {"seconds": seconds, **({"loss": sum(means.values())} if means else {}), **means}


class Module(lightning.LightningModule):
    """What happens in one step."""

    def __init__(self, detector: nn.Module, plan: Plan, meta: Meta, guard: Guard):
        super().__init__()
        self.detector, self.plan, self.meta, self.guard = detector, plan, meta, guard
        self.watch, self.norm = Watch(), torch.zeros(())
        self.updating = False

    def training_step(self, batch: Batch, index: int) -> Tensor:
        step = self.trainer.global_step + 1
        if self.guard.looks(step, self.device.type):
            self.guard.parts.append(batch)
        try:
            losses = self.detector(batch)
        except (RuntimeError, ValueError, IndexError):  # as of boxes that are no numbers
            self.require_unspoilt(self.watch.bad(), step)
            raise
        self.watch.add(step, batch, losses)
        return sum(losses.values())

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx % self.plan.train.accumulate == 0:
            self.guard.begin(self.detector)
        # Dropout of a backbone: a function of the step, like all else that is random.
        torch.default_generator.manual_seed(batch.seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(batch.seed)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.plan.rate(self.trainer.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer(self.detector, self.plan.train)

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """The last moment before weights change."""
        self.norm = nn.utils.clip_grad_norm_(self.parameters(), self.plan.train.clip or math.inf)
        step = self.trainer.global_step + 1
        if self.guard.looks(step, self.device.type):
            self._look(step)
        self.updating = True

    def _look(self, step: int) -> None:
        bad = self.watch.bad()
        self.require_unspoilt(bad, step)
        # The scaler of fp16 leaves out steps of itself where the gradient overflows.
        infinite = not math.isfinite(self.norm) and self.plan.train.precision != "fp16"
        if not self._anywhere(bad is not None or infinite):
            self.guard.in_a_row = 0
        elif self.guard.skips(bad or self.watch.of(step), self.detector, self.described(step - 1), self.global_rank):
            self.watch.drop(step)

    def require_unspoilt(self, bad: Bad | None, step: int) -> None:
        """DivergenceError for a step before this one, which changed weights before anybody looked."""
        if bad is not None and bad.step < step:
            self.guard.spoilt = True
            raise bad.error(
                "lower train.lr, lengthen train.warmup or look at these images; the last checkpoint is good; resumed"
                " with train.nonfinite=skip, or with train.log_every=1, the batch is kept and can be replayed"
            )

    def _anywhere(self, bad: bool) -> bool:
        if self.trainer.world_size == 1:
            return bad
        told = torch.tensor(float(bad), device=self.device)
        return bool(self.trainer.strategy.reduce(told, reduce_op="max"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["meta"] = self.described(checkpoint["global_step"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counters as they stand after a step, whenever it was saved: in the midst of the next one or at the very end."""
        done = checkpoint["global_step"] * self.plan.train.accumulate
        counts = {"ready": done, "started": done, "processed": done, "completed": done - 1}
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        # Not the last: else a run that was complete and is made longer would stop at once.
        progress |= {"total": counts, "current": dict(counts), "is_last_batch": False}

    def described(self, step: int, metrics: Metrics | None = None) -> Meta:
        return replace(self.meta, step=step, epoch=self.plan.epoch(step), metrics=metrics or {})


class Averaging(EMAWeightAveraging):
    """The average moves with each step that is made, not with one that is left out."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        whole = (batch_idx + 1) % pl_module.plan.train.accumulate == 0
        if whole and pl_module.guard.left_out != trainer.global_step:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class SafeCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as one safetensors file; a full disk stops the run only when it stays full."""

    patience = 3

    def __init__(self, say: Callable[[str], None]):
        self.say, self.failures = say, 0
        self.owed: tuple[Path, Weights, Meta] | None = None
        """The best weights until they are written: before the state that knows of them, so that a resumed run has them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        state = {name: value for name, value in checkpoint.items() if name not in ("meta", "state_dict")}
        weights = {name.removeprefix("detector."): value for name, value in checkpoint["state_dict"].items()}
        try:
            if self.owed:
                save_model(*self.owed)
                self.owed = None
            save_state(path, weights, checkpoint["meta"], state, keep=Path(path).with_name(PREVIOUS))
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
    detector: nn.Module, stream: Stream, keeper: Keeper, plan: Plan, meta: Meta, device: str, resume: Path | None
) -> None:
    """Train; afterwards the keeper holds the history and the signal that ended the run, if one did."""
    ema = keeper.ema = Averaging(decay=plan.train.ema) if plan.train.ema is not None else None
    keeper.saver = SafeCheckpointIO(keeper.say)
    module = Module(detector.train(), plan, meta, Guard(plan.train, keeper.folder, keeper.say))
    with _quiet(), _switches(plan.train, torch.device(device)), keeper.signals.caught():
        trainer = _trainer(plan, [c for c in (ema, keeper) if c], device, keeper.saver)
        try:
            trainer.fit(module, stream, ckpt_path=resume)
        except (SystemExit, KeyboardInterrupt):
            if not keeper.signals.received:  # else an answer to a second or an early signal
                raise
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            raise shortage(error, plan, device, keeper.folder) from error
        finally:
            stream.close()


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
