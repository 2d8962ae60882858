"""Between steps: rows of the log, validation, checkpoints, signals and the end."""

import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import nn

from seanet import checkpoint
from seanet.errors import CheckpointError, ConfigError
from seanet.training.log import Log
from seanet.training.same import Identity

REST = 30.0  # seconds between checkpoints where passes over the data are short
Metrics = dict[str, Any]  # flat, such as segm/AP; numbers or None


class Keeper(lightning.Callback):
    """Decides from the step alone what is due after it."""

    def __init__(self, folder: Path, evaluate: Callable[[nn.Module], Metrics], log: Log | None, data: Identity):
        self.folder, self.evaluate, self.logbook, self.data = folder, evaluate, log, data
        self.ema: Any = None
        self.saver: Any = None
        self.history: list[dict[str, Any]] = []
        self.in_a_row = 0
        self.signals, self.saved, self.saved_step = Signals(), time.monotonic(), 0

    @property
    def best(self) -> dict[str, Any] | None:
        return max(self.history, key=lambda entry: entry["score"], default=None)

    def say(self, text: str) -> None:
        if self.logbook:
            self.logbook.screen.say(text)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "data": self.data, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.in_a_row = state_dict["history"], state_dict.get("in_a_row", 0)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.signals.catch()  # Lightning has put its own handlers in the place of ours
        plan, watch, step = pl_module.plan, pl_module.watch, trainer.global_step
        watch.first, watch.start = step, time.perf_counter()
        pl_module.guard.in_a_row, self.saved_step = self.in_a_row, step
        self._rate_again(plan.train.metric)
        stopped_before_validation = step and (not self.history or self.history[-1]["step"] < step)
        if stopped_before_validation and plan.validates(step):
            self._validate(trainer, pl_module)
            self._save(trainer)
        trainer.should_stop = self._no_better(plan.train.patience) or step >= plan.steps
        if trainer.should_stop:
            self._insist(trainer)
        self.signals.lossless = False

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Whatever ends the run, the last step that is complete is kept.  What interrupts means it: leave now."""
        whole = not pl_module.updating and not pl_module.guard.spoilt
        unsaved = trainer.global_step > self.saved_step
        if not whole or not unsaved or not isinstance(exception, Exception) or isinstance(exception, CheckpointError):
            return
        pl_module.guard.undo()
        try:
            self._save(trainer, alone=True)
        except CheckpointError as error:
            self.say(f"warning: {error}")
        else:
            self.say(f"the state after step {trainer.global_step} is saved: --resume goes on from there")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        plan, step = pl_module.plan, trainer.global_step
        if (batch_idx + 1) % plan.train.accumulate:
            return
        pl_module.updating, self.in_a_row = False, pl_module.guard.in_a_row
        pl_module.guard.before = []  # from here on there is nothing to undo
        stop = self.signals.agreed(trainer)
        ends = plan.ends_epoch(step)
        if ends or stop or step % plan.train.log_every == 0:
            self._row(trainer, pl_module, step)
        if stop or plan.validates(step) or (ends and self._rested(trainer)):
            self._save(trainer)
        if plan.validates(step) and not stop:
            self._validate(trainer, pl_module)
            self._save(trainer)
            stop = self.signals.agreed(trainer) or self._no_better(plan.train.patience)
        trainer.should_stop = bool(stop)
        if stop or step >= plan.steps:
            self._insist(trainer)

    def _rested(self, trainer: lightning.Trainer) -> bool:
        """Whether the last save is long enough ago, by the first process's clock: all save together, or wait for ever."""
        return trainer.strategy.broadcast(time.monotonic() - self.saved >= REST)

    def _row(self, trainer: lightning.Trainer, module: Any, step: int) -> None:
        module.require_unspoilt(module.watch.bad(), step + 1)
        plan, guard = module.plan, module.guard
        means = _over_processes(trainer, module.watch.take(step))
        if plan.train.nonfinite == "skip":
            means["skipped"], guard.skipped = guard.skipped, 0
        if not self.logbook:
            return
        rate, norm = plan.rate(step - 1), float(module.norm)
        self.logbook.row({"step": step, "epoch": plan.epoch(step), "lr": rate, "grad_norm": norm, **means})
        losses = "  ".join(f"{name} {value:.3f}" for name, value in means.items() if name not in ("seconds", "skipped"))
        self.logbook.screen.step(step, f"lr {rate:.2g}  {losses}")

    def _save(self, trainer: lightning.Trainer, alone: bool = False) -> None:
        """``alone``: without waiting for the other processes, which may have ended."""
        path = self.folder / checkpoint.LAST
        if not alone:
            trainer.save_checkpoint(path, weights_only=False)
        elif trainer.is_global_zero:
            self.saver.save_checkpoint(trainer._checkpoint_connector.dump_checkpoint(False), path)
        self.saved = time.monotonic()
        if not self.saver.failures:
            self.saved_step = trainer.global_step

    def _insist(self, trainer: lightning.Trainer) -> None:
        """There is no later save that could succeed: CheckpointError where this one fails again."""
        if trainer.is_global_zero and self.saver.failures:
            self.saver.patience = 0
            self._save(trainer, alone=True)

    def _rate_again(self, metric: str) -> None:
        """Scores by the metric that is asked for now, which may be another than before."""
        best = self.best
        for entry in self.history:
            value = entry["metrics"].get(metric)
            entry["score"] = -1.0 if value is None else value
        if best and self.best and best is not self.best:
            self.say(
                f"warning: by {metric} the best evaluation is that after step {self.best['step']}, but"
                f" {checkpoint.BEST} holds the weights of step {best['step']} until a better one is found"
            )

    def _validate(self, trainer: lightning.Trainer, module: Any) -> None:
        """Evaluate in the first process, with the averaged weights if there are any; the next save writes the best."""
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
            weights = {name: value.detach().cpu().clone() for name, value in module.detector.state_dict().items()}
            self.saver.owed = self.folder / checkpoint.BEST, weights, module.described(step, metrics)
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


def _over_processes(trainer: lightning.Trainer, means: dict[str, float]) -> dict[str, float]:
    """Each process saw its share of the images."""
    if trainer.world_size == 1:
        return means
    values = torch.tensor(list(means.values()), dtype=torch.float64, device=trainer.strategy.root_device)
    return dict(zip(means, trainer.strategy.reduce(values, reduce_op="mean").tolist(), strict=True))


class Signals:
    """SIGINT and SIGTERM end the run after its step; a second one, or one while nothing would be lost, at once."""

    def __init__(self) -> None:
        self.received, self.lossless, self.process = 0, False, os.getpid()

    @contextmanager
    def caught(self) -> Generator[None]:
        """From the start of a run to its end; before its first step nothing would be lost."""
        former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.lossless = True
        self.catch()
        try:
            yield
        finally:
            with suppress(ValueError):  # not the main thread, as below
                for number, handler in former.items():
                    signal.signal(number, handler)

    def catch(self) -> None:
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
