"""Which operations take the time: torch's profiler over one action of a model that has warmed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from seanet.bench.contenders import Contender, Setting, Task
from seanet.bench.fixed import write_photographs
from seanet.bench.subjects import Subject, subject

TOP = 10


def top_of(
    contender: Contender, setting: Setting, task: Task, say: Callable[[str], None] = lambda message: None
) -> list[dict[str, Any]]:
    """``top_operations`` of a model that is built for it."""
    say(f"profiling {contender.name}")
    with TemporaryDirectory() as folder:
        files, model = write_photographs(Path(folder), setting), subject(contender, setting)
        model.calibrate(files)
        model.ready()
        return top_operations(model, task, files)


def top_operations(model: Subject, task: Task, files: Sequence[Path]) -> list[dict[str, Any]]:
    """The ten with the most time of their own on the device, without what they call, most first."""
    model.act(task, files)
    cuda = model.device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=kinds) as seen:
        model.act(task, files)
        if cuda:
            torch.cuda.synchronize(model.device)
    found = [(event, own_seconds(event, cuda)) for event in seen.key_averages()]
    total = sum(seconds for _, seconds in found)
    top = sorted(found, key=lambda pair: -pair[1])[:TOP]
    return [{"name": e.key, "seconds": s, "share": s / (total or 1), "calls": e.count} for e, s in top]


def own_seconds(event: Any, cuda: bool) -> float:
    return (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
