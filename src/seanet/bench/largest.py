"""How many images fit: batches double until the memory of the GPU does not hold one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from seanet.bench.contenders import Contender, Setting, Task
from seanet.bench.fixed import write_photographs
from seanet.bench.subjects import subject
from seanet.errors import UserError

MOST = 1024  # images of a batch that nobody exceeds


def largest_batch(
    contender: Contender, setting: Setting, task: Task, say: Callable[[str], None] = lambda message: None
) -> dict[str, Any]:
    """The largest power of two that runs, 0 if none does, and the GPU's memory that each batch took at most, in MB."""
    device = torch.device(setting.device)
    if device.type != "cuda":
        raise UserError(f"--largest asks how many images a GPU's memory holds: it needs --device cuda, not {device}")
    taken: dict[int, float] = {}
    batch = 1
    while batch <= MOST:
        say(f"{contender.name}: {batch} image(s)")
        try:
            taken[batch] = memory_of(contender, replace(setting, batch=batch), task)
        except torch.cuda.OutOfMemoryError:
            break
        finally:
            gc.collect()  # callables that were replaced hold what they belong to
            torch.cuda.empty_cache()
        batch *= 2
    return {"largest": max(taken, default=0), "mb": taken}


def memory_of(contender: Contender, setting: Setting, task: Task) -> float:
    """MB at the most, weights included, of the second action: the first chooses its algorithms."""
    with TemporaryDirectory() as folder:
        files, model = write_photographs(Path(folder), setting), subject(contender, setting)
        model.calibrate(files)
        model.ready()
        model.act(task, files)
        torch.cuda.reset_peak_memory_stats(model.device)
        model.act(task, files)
        return torch.cuda.max_memory_allocated(model.device) / 2**20
