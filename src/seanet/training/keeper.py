"""Between steps: rows of the log, validation, checkpoints, signals and the end."""

import math
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import nn

from seanet import checkpoint
from seanet.errors import ConfigError, DivergenceError
from seanet.training.log import Log

REST = 30.0  # seconds between checkpoints where passes over the data are short
Metrics = dict[str, Any]  # flat, such as segm/AP; numbers or None


class Keeper(lightning.Callback):
    """Decides from the step alone what is due after it."""

    def __init__(self, folder: Path, evaluate: Callable[[nn.Module], Metrics], log: Log | None, ema: Any):
        self.folder, self.evaluate, self.logbook, self.ema = folder, evaluate, log, ema
        self.history: list[dict[str, Any]] = []
        self.signals, self.saved = Signals(), time.monotonic()

    @property
    def best(self) -> dict[str, Any] | None:
        return max(self.history, key=lambda entry: entry["score"], default=None)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.signals.catch()
        plan, watch, step = pl_module.plan, pl_module.watch, trainer.global_step
        watch.first, watch.start = step, time.perf_counter()
        stopped_before_validation = step and (not self.history or self.history[-1]["step"] < step)
        if stopped_before_validation and plan.validates(step):
            self._validate(trainer, pl_module)
        trainer.should_stop = self._no_better(plan.train.patience)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        plan, step = pl_module.plan, trainer.global_step
        if (batch_idx + 1) % plan.train.accumulate:
            return
        stop = self.signals.agreed(trainer)
        ends = plan.ends_epoch(step)
        if ends or stop or step % plan.train.log_every == 0:
            self._row(pl_module, step)
        rested = time.monotonic() - self.saved >= REST
        if stop or plan.validates(step) or (ends and rested):
            self._save(trainer)
        if plan.validates(step) and not stop:
            self._validate(trainer, pl_module)
            self._save(trainer)
            stop = self.signals.agreed(trainer) or self._no_better(plan.train.patience)
        trainer.should_stop = bool(stop)

    def _row(self, module: Any, step: int) -> None:
        means = module.watch.take(step)
        plan = module.plan
        rate, norm = plan.rate(step - 1), float(module.norm)
        if not math.isfinite(norm) and plan.train.precision != "fp16":  # whose scaler skips such steps
            raise DivergenceError(f"the gradient of step {step} is not finite: lower train.lr or lengthen train.warmup")
        if self.logbook:
            self.logbook.row({"step": step, "epoch": plan.epoch(step), "lr": rate, "grad_norm": norm, **means})
            losses = "  ".join(f"{name} {value:.3f}" for name, value in means.items() if name != "seconds")
            self.logbook.screen.step(step, f"lr {rate:.2g}  {losses}")

    def _save(self, trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(self.folder / checkpoint.LAST, weights_only=False)
        self.saved = time.monotonic()

    def _validate(self, trainer: lightning.Trainer, module: Any) -> None:
        """Evaluate in the first process, with the averaged weights if there are any, and keep the best."""
        if trainer.is_global_zero:
            with self._averaged(trainer, module), self.signals.at_once():
                self._enter(module, trainer.global_step, self.evaluate(module.detector))
        self.history = trainer.strategy.broadcast(self.history)
        module.watch.start = time.perf_counter()

    def _enter(self, module: Any, step: int, metrics: Metrics) -> None:
        name = module.plan.train.metric
        if name not in metrics:
            known = ", ".join(metrics)
            raise ConfigError(
                f"there is no metric {name!r} to choose the best by (train.metric); there are {known}",
                field="train.metric",
            )
        epoch, found = module.plan.epoch(step), metrics[name] is not None
        score = metrics[name] if found else -1.0
        best = self.best is None or score > self.best["score"]
        self.history.append({"step": step, "epoch": epoch, "score": score, "metrics": metrics})
        if best:
            meta = module.described(step, metrics)
            checkpoint.save_model(self.folder / checkpoint.BEST, module.detector.state_dict(), meta)
        if self.logbook:
            self.logbook.row({"step": step, "epoch": epoch, **metrics})
            shown = f"{score:.4f}" if found else "n/a"
            self.logbook.screen.say(f"epoch {epoch:.4g}, step {step}: {name} {shown}{' (best)' if best else ''}")

    @contextmanager
    def _averaged(self, trainer: lightning.Trainer, module: Any) -> Generator[None]:
        if self.ema:
            self.ema.on_validation_epoch_start(trainer, module)
        module.detector.eval()
        try:
            yield
        finally:
            module.detector.train()
            if self.ema:
                self.ema.on_validation_epoch_end(trainer, module)

    def _no_better(self, patience: int | None) -> bool:
        if patience is None or self.best is None:
            return False
        return len(self.history) - 1 - self.history.index(self.best) >= patience


class Signals:
    """SIGINT and SIGTERM end the run after its step; a second one, or one while nothing would be lost, at once."""

    def __init__(self) -> None:
        self.received, self.lossless, self.process = 0, False, os.getpid()

    def catch(self) -> None:
        """Lightning restores the former handlers when it ends."""
        self.process = os.getpid()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                signal.signal(number, self._handle)
            except ValueError:  # not the main thread: whoever owns that one decides
                return

    def _handle(self, number: int, frame: Any) -> None:
        if os.getpid() != self.process:
            return  # a worker that reads images: the step that needs its batch is still to finish
        again, self.received = self.received, number
        if again or self.lossless:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Generator[None]:
        self.lossless = True
        try:
            yield
        finally:
            self.lossless = False

    def agreed(self, trainer: lightning.Trainer) -> bool:
        """Whether any process was told to stop."""
        if trainer.world_size == 1:
            return bool(self.received)
        told = torch.tensor(float(self.received), device=trainer.strategy.root_device)
        self.received = int(trainer.strategy.reduce(told, reduce_op="max"))
        return bool(self.received)
