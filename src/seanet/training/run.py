"""A run: its folder, its model, its data, and what it leaves behind."""

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seanet import checkpoint, settings
from seanet.checkpoint import Meta
from seanet.config import Config
from seanet.errors import CheckpointError, ConfigError, MissingExtra, UserError
from seanet.execution import require
from seanet.training.log import Log
from seanet.training.optim import Plan

FREE = ("epochs", "steps", "workers", "devices", "patience", "validate_every", "log_every", "metric")
"""Settings of ``train`` that a resumed run may change."""


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
    resume, done = _open(out, config, job, resume)
    detector = _detector(job, config.train.seed)
    said = start(detector) if start and not resume else ""
    log = Log(out, plan.steps, done, tensorboard) if _first() else None
    try:
        for sentence in (said, _opening(plan, device, done)):
            if log and sentence:
                log.screen.say(sentence)
        return _go(config, job, plan, detector, out, device, log, done if resume else None)
    finally:
        if log:
            log.close()


def _go(
    config: Config,
    job: Job,
    plan: Plan,
    detector: nn.Module,
    out: Path,
    device: str,
    log: Log | None,
    done: int | None,
) -> Run:
    """Train from the step ``done``, or from the start when that is None."""
    if done is not None and done >= plan.steps:
        return Run(out, checkpoint.read_state(out / checkpoint.LAST)[2]["callbacks"]["Keeper"]["history"])
    from seanet.training.engine import Stream, fit

    meta = Meta(config, job.classes, job.category_ids)
    stream = Stream(job.batches, plan.steps * config.train.accumulate, done or 0)
    began = time.time()
    _write_facts(out, config, job, device, log)
    keeper = fit(detector, stream, job.evaluate, plan, meta, out, device, log, resume=done is not None)
    result = Run(out, keeper.history, keeper.signals.received)
    if log:
        _update(out / "run.json", seconds=round(time.time() - began, 1), signal=result.signal)
        (out / "metrics.json").write_text(json.dumps({"best": result.best, "history": result.history}, indent=1) + "\n")
    return result


def _first() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


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


def _open(out: Path, config: Config, job: Job, resume: bool) -> tuple[bool, int]:
    """Make or check the run's folder: whether there is something to resume, and the step it goes on from."""
    last = out / checkpoint.LAST
    allowed = resume and ((out / "config.yaml").exists() or not out.exists())
    resume = resume and last.exists()
    if not _first():
        return resume, checkpoint.read_meta(last).step if resume else 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        for rest in out.glob(".*.tmp"):
            rest.unlink()
        if not allowed and any(out.iterdir()):
            raise UserError(
                f"{out} is not empty: name another folder, or resume the run in it (--resume)", file=str(out)
            )
    except OSError as error:
        raise UserError(f"{out}: cannot write there ({error.strerror or error})", file=str(out)) from error
    if not resume:
        return False, 0
    meta = checkpoint.read_meta(last)
    _check_same(last, meta, config, job)
    return True, meta.step


def _check_same(last: Path, meta: Meta, config: Config, job: Job) -> None:
    """Only what leaves the steps already made as they were may differ."""
    checkpoint.check_fits(last, meta, job.classes)
    freed = replace(config.train, **{name: getattr(meta.config.train, name) for name in FREE})
    lines = settings.differences(meta.config, replace(config, train=freed))
    if lines:
        shown = "".join(f"\n  {line}" for line in lines)
        raise CheckpointError(
            f"{last} was trained with other settings than those asked for; "
            f"take them back, or start a new run from it (--init):{shown}",
            file=str(last),
        )


def _detector(job: Job, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return job.build()


def _opening(plan: Plan, device: str, done: int) -> str:
    train = plan.train
    parts = f"{train.devices} x {device}, micro-batches of {plan.micro_batch}"
    begun = f", going on after step {done}" if done else ""
    return f"{plan.steps} steps of {train.batch} images ({plan.epoch(plan.steps):.3g} epochs) on {parts}{begun}"


def _write_facts(out: Path, config: Config, job: Job, device: str, log: Log | None) -> None:
    if log is None:
        return
    (out / "config.yaml").write_text(settings.dump_yaml(config), encoding="utf-8")
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    _update(
        out / "run.json",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=config.recipe,
        seed=config.train.seed,
        versions=checkpoint.versions(),
        machine={"system": platform.platform(), "python": platform.python_version(), "device": name},
        images=job.images,
        classes=len(job.classes),
        **job.facts,
    )


def _update(path: Path, **facts: Any) -> None:
    """Add to a JSON file; what an earlier part of a resumed run wrote stays under ``earlier``."""
    old: dict[str, Any] = {}
    with suppress(FileNotFoundError, json.JSONDecodeError):
        old = json.loads(path.read_text())
    if "date" in facts and "date" in old:
        facts["earlier"] = [*old.pop("earlier", []), {name: old[name] for name in ("date", "seconds") if name in old}]
        old = {}
    path.write_text(json.dumps(old | facts, indent=1) + "\n")
