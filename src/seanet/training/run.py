"""A run: its folder, its model, its data, and what it leaves behind."""

import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seanet import checkpoint, settings
from seanet.checkpoint import Meta
from seanet.config import Config
from seanet.errors import ConfigError, MissingExtra
from seanet.execution import require
from seanet.training import folder
from seanet.training.folder import Found
from seanet.training.log import Log
from seanet.training.optim import MOMENTS, Plan
from seanet.training.same import Identity, check_same, schedule_moved


@dataclass(frozen=True)
class Run:
    folder: Path
    history: list[dict[str, Any]] = field(default_factory=list)
    """An entry ``{"step", "epoch", "score", "metrics"}`` for each validation."""
    signal: int = 0
    """What interrupted it; 0: nothing did."""

    @property
    def best(self) -> dict[str, Any] | None:
        return max(self.history, key=lambda entry: entry["score"], default=None)

    @property
    def exit_code(self) -> int:
        """For a process: what a shell and a scheduler expect after a signal."""
        return 128 + self.signal if self.signal else 0


@dataclass(frozen=True)
class Job:
    """What a run trains, apart from its configuration."""

    build: Callable[[], nn.Module]
    """Makes the detector."""
    batches: Callable[[int], Any]
    """Micro-batches of this process from a step on."""
    evaluate: Callable[[nn.Module], dict[str, Any]]
    """Flat metrics."""
    images: int
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """For run.json."""
    identity: Callable[[], Identity] = dict
    """Fingerprints of the data, which a resumed run compares."""


def run(
    config: Config,
    job: Job,
    out: Path,
    resume: bool = False,
    start: Callable[[nn.Module], str] | None = None,
    device: str | None = None,
    tensorboard: bool = True,
) -> Run:
    """Train ``job`` in the folder ``out``; ``start`` gives a new detector its first weights and says what it did."""
    device = _device(config, device)
    plan = Plan(config.train, job.images)
    with folder.held(out):
        if folder.is_first():
            folder.prepare(out, resume)
        found = folder.newest(out) if resume else None
        identity, said = _identify(found, config, job)
        detector = _detector(job, config.train.seed)
        if start and not found:
            said.append(start(detector))
        done = found.meta.step if found else 0
        if not folder.is_first():
            return _go(config, job, plan, detector, out, device, None, found, identity)
        folder.require_space(out, detector, MOMENTS[config.train.optimizer], config.train.ema is not None)
        history = found.state["history"] if found else []
        log = Log(out, plan.steps, done, tensorboard, evaluated=history[-1]["step"] if history else 0)
        try:
            for sentence in (*said, _opening(plan, device, done)):
                if sentence:
                    log.screen.say(sentence)
            return _go(config, job, plan, detector, out, device, log, found, identity)
        finally:
            log.close()


def _identify(found: Found | None, config: Config, job: Job) -> tuple[Identity, list[str]]:
    """Fingerprints of the data, and what is to be said about going on; an error where the run would not be the same."""
    if not folder.is_first():
        return {}, []
    identity = job.identity()
    if found is None:
        return identity, []
    said = check_same(found, config, job.classes, identity)
    return identity, [found.warning, *said, *schedule_moved(found, config, job.images)]


def _go(
    config: Config,
    job: Job,
    plan: Plan,
    detector: nn.Module,
    out: Path,
    device: str,
    log: Log | None,
    found: Found | None,
    identity: Identity,
) -> Run:
    """Train from what was found, or from the start."""
    history = found.state["history"] if found else []
    if found and found.meta.step >= plan.steps and history and history[-1]["step"] >= found.meta.step:
        return _finished(Run(out, history), log)
    from seanet.training.engine import Stream, fit
    from seanet.training.keeper import Keeper

    meta = Meta(config, job.classes, job.category_ids)
    stream = Stream(job.batches, plan.steps * config.train.accumulate, found.meta.step if found else 0)
    began = time.time()
    _write_facts(config, job, device, log)
    keeper = Keeper(out, job.evaluate, log, identity)
    fit(detector, stream, keeper, plan, meta, device, resume=found.path if found else None)
    result = Run(out, keeper.history, keeper.signals.received)
    if log:
        _update(log, seconds=round(time.time() - began, 1), signal=result.signal)
    return _finished(result, log)


def _finished(result: Run, log: Log | None) -> Run:
    if log:
        log.write("metrics.json", json.dumps({"best": result.best, "history": result.history}, indent=1) + "\n")
    return result


def _device(config: Config, device: str | None) -> str:
    if find_spec("lightning") is None:
        raise MissingExtra("lightning", "train", "training")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    require(config.train.execution, torch.device(device))
    if config.train.precision == "fp16" and device == "cpu":
        raise ConfigError("train.precision=fp16 needs a GPU: take bf16 or fp32 on a CPU", field="train.precision")
    if device == "cuda" and config.train.devices > torch.cuda.device_count():
        raise ConfigError(
            f"train.devices is {config.train.devices}, but {torch.cuda.device_count()} GPUs are here",
            field="train.devices",
            value=config.train.devices,
        )
    return device


def _detector(job: Job, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return job.build()


def _opening(plan: Plan, device: str, done: int) -> str:
    train = plan.train
    parts = f"{train.devices} x {device}, micro-batches of {plan.micro_batch}"
    begun = f", going on after step {done}" if done else ""
    counted = f"{plan.steps} step{'s' if plan.steps > 1 else ''}"
    return f"{counted} of {train.batch} images ({plan.epoch(plan.steps):.3g} epochs) on {parts}{begun}"


def _write_facts(config: Config, job: Job, device: str, log: Log | None) -> None:
    if log is None:
        return
    log.write(folder.CONFIG, settings.dump_yaml(config))
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    _update(
        log,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=config.recipe,
        seed=config.train.seed,
        versions=checkpoint.versions(),
        machine={"system": platform.platform(), "python": platform.python_version(), "device": name},
        images=job.images,
        classes=len(job.classes),
        **job.facts,
    )


def _update(log: Log, **facts: Any) -> None:
    """Add to run.json; what an earlier part of a resumed run wrote stays under ``earlier``."""
    old: dict[str, Any] = {}
    with suppress(FileNotFoundError, json.JSONDecodeError):
        old = json.loads((log.folder / "run.json").read_text())
    if "date" in facts and "date" in old:
        facts["earlier"] = [*old.pop("earlier", []), {name: old[name] for name in ("date", "seconds") if name in old}]
        old = {}
    log.write("run.json", json.dumps(old | facts, indent=1) + "\n")
