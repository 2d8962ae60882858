"""Models side by side: they take turns, so that a machine whose speed drifts slows all of them alike.

Ratios are medians over the turns of a model's time by the first model's in the same turn.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from seanet import checkpoint
from seanet.bench.contenders import THEIRS, Contender, Setting, Task
from seanet.bench.fixed import write_photographs
from seanet.bench.memory import peaks
from seanet.bench.stages import Counter, macs, seconds, taken
from seanet.bench.subjects import Subject, stages_of, subject
from seanet.config import Execution
from seanet.evaluation.timed import device_name
from seanet.execution import require, running

SIDES = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product shows what the machine can do
OTHER, WHOLE = "other", "whole"

Turns = list[list[Path]]


def measure(
    contenders: Sequence[Contender],
    setting: Setting,
    task: Task = "predict",
    *,
    repeats: int = 5,
    images: Sequence[Path] = (),
    memory: bool = True,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """All that was found, as plain values; seconds are for a batch.  ``images`` instead of made ones: those of files."""
    for contender in contenders:
        require(contender.execution, torch.device(setting.device))
    with TemporaryDirectory() as folder:
        turns, subjects, models = files_of_turns(images, setting, repeats, Path(folder)), [], {}
        for contender in contenders:
            say(f"building {contender.name}")
            subjects.append(subject(contender, setting))
            models[contender.name] = described(contender) | counted(subjects[-1], task, turns[0])
        times, products = interleaved(subjects, task, turns, say)
        for model in subjects if memory else []:
            say(f"memory of {model.contender.name}")
            models[model.contender.name]["peak_mb"] = peaks(model, task, turns[0], Path(folder))
    for name, model in models.items():
        model["times"] = summaries(times[name], times[contenders[0].name])
    return {
        "machine": machine(setting.device),
        "task": task,
        "setting": asdict(setting),
        "repeats": repeats,
        "stages": [stage for stage in (*stages_of(task), OTHER) if any(stage in taken for taken in times.values())],
        "gmac_per_s": {precision: median(speeds) for precision, speeds in products.items()},
        "products": products,
        "models": models,
    }


def files_of_turns(images: Sequence[Path], setting: Setting, repeats: int, folder: Path) -> Turns:
    """The files of each turn's batch, the first turn being the one that warms up; fewer images than a batch repeat."""
    every = list(images) or write_photographs(folder, setting)
    wanted = setting.batch * (repeats + 1)
    cycled = (every * (wanted // len(every) + 1))[:wanted]
    return [cycled[i : i + setting.batch] for i in range(0, wanted, setting.batch)]


def described(contender: Contender) -> dict[str, Any]:
    what = THEIRS if contender.theirs else contender.config.recipe
    facts = {"what": what, "backbone": contender.config.backbone.name, "plain": contender.plain}
    weights = "random, calibrated" if contender.checkpoint is None else str(contender.checkpoint)
    return facts | {"weights": weights, "execution": asdict(contender.execution)}


def counted(model: Subject, task: Task, files: Sequence[Path]) -> dict[str, Any]:
    """Parameters, multiplications and detections; afterwards the model is ready.

    Multiplications are those of plain convolutions, whatever way they are then computed in.
    """
    model.calibrate(files)
    results: list[Any] = []
    with FlopCounterMode(display=False) as counter:
        found = taken(lambda: results.append(model.act(task, files)), model.parts(task), Counter(macs(counter)))
    facts: dict[str, Any] = {"parameters": model.parameters() | {WHOLE: sum(model.parameters().values())}}
    facts["gmac"] = {stage: count / 1e9 for stage, count in found.items() if count}
    facts["gmac"][WHOLE] = sum(facts["gmac"].values())
    if task == "predict":
        facts["detections"] = sum(map(len, results[0])) / len(files)
    model.ready()
    return facts


def interleaved(
    subjects: Sequence[Subject], task: Task, turns: Turns, say: Callable[[str], None]
) -> tuple[dict[str, dict[str, list[float]]], dict[str, list[float]]]:
    """Seconds of each model's stages in each turn, and GMAC/s of a matrix product in each precision between them."""
    times: dict[str, dict[str, list[float]]] = {model.contender.name: {} for model in subjects}
    products: dict[str, list[float]] = {}
    for turn, files in enumerate(turns):
        say(f"turn {turn} of {len(turns) - 1}" if turn else "warming up")
        for model in subjects:
            found, precision = timed(model, task, files), model.contender.execution
            speed = product(precision, model.device)
            if not turn:
                continue
            for stage, spent in found.items():
                times[model.contender.name].setdefault(stage, []).append(spent)
            products.setdefault(precision.precision, []).append(speed)
    return times, products


def timed(model: Subject, task: Task, files: Sequence[Path]) -> dict[str, float]:
    """Seconds of the stages, of what lies between them, and of the whole.

    A GPU works while the host goes on: there the whole is timed for itself, without a wait after each stage.
    """
    now = seconds(model.device)
    began = now()
    found = taken(lambda: model.act(task, files), model.parts(task), Counter(now))
    whole = now() - began
    found[OTHER] = whole - sum(found.values())
    if model.device.type == "cuda":
        began = now()
        model.act(task, files)
        whole = now() - began
    return found | {WHOLE: whole}


def product(execution: Execution, device: torch.device) -> float:
    """GMAC/s of a large matrix product in that precision."""
    now = seconds(device)
    with running(Execution(execution.precision, channels_last=False, substitutes=False), device):
        side = SIDES.get(device.type, SIDES["cpu"])
        a, b = torch.rand(2, side, side, device=device)
        a @ b  # finds out how it is done best
        began = now()
        a @ b
        return side**3 / (now() - began) / 1e9


def summaries(times: dict[str, list[float]], first: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    return {stage: summary(spent, first.get(stage)) for stage, spent in times.items()}


def summary(spent: list[float], first: list[float] | None) -> dict[str, Any]:
    """The samples, their median and extremes, and the median ratio to the first model's of the same turn."""
    found: dict[str, Any] = {"median": median(spent), "low": min(spent), "high": max(spent)}
    ratios = [] if first is None else [a / b for a, b in zip(spent, first, strict=True) if b > 0]
    return found | {"ratio": median(ratios) if ratios else None, "seconds": spent}


def machine(device: str) -> dict[str, Any]:
    facts = {"device": device_name(torch.device(device)), "system": platform.platform()}
    return facts | {
        "python": platform.python_version(),
        "cudnn": torch.backends.cudnn.version(),
        **checkpoint.versions(),
    }
