"""Peak memory of one action in a process that does nothing else, stage by stage: ``python -m seanet.bench.memory``.

On Linux the high-water mark of the process is set back before each stage; elsewhere there is only that of the whole.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from seanet.bench.contenders import Contender, Setting, Task
from seanet.bench.stages import Meter, taken
from seanet.bench.subjects import Subject, subject

MB = 2**20
STATUS, MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak(Meter):
    """Bytes that are held at most, beyond those held when the meter was made."""

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()
        self.base = self.now()
        self.open: list[float] = []  # for each stage that has begun: the most before a stage inside it began or ended

    def begin(self) -> None:
        self.open = [max(most, self.now()) for most in self.open]
        self.reset()
        self.open.append(0)

    def end(self) -> float:
        self.open = [max(most, self.now()) for most in self.open]
        return self.open.pop() - self.base

    def together(self, taken: Sequence[float]) -> float:
        return max(taken)

    def reset(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif MARK.exists():
            MARK.write_text("5")

    def now(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return high_water()


def high_water() -> int:
    """Bytes; Linux's own record, since a child's ``ru_maxrss`` begins with its parent's."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def peaks(calibrated: Subject, task: Task, files: Sequence[Path], folder: Path) -> dict[str, float]:
    """Megabytes of each stage and of the ``whole``, of the same weights in a fresh process."""
    weights = folder / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in calibrated.network.state_dict().items()}, weights)
    order: dict[str, Any] = {
        "contender": calibrated.contender.to_dict(),
        "setting": asdict(calibrated.setting),
        "task": task,
    }
    order |= {"files": [str(file) for file in files], "weights": str(weights), "threads": torch.get_num_threads()}
    command = [sys.executable, "-m", "seanet.bench.memory", json.dumps(order)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(found.splitlines()[-1])


def here(order: dict[str, Any]) -> dict[str, float]:
    """What ``peaks`` orders, in this process."""
    torch.set_num_threads(order["threads"])
    setting = Setting(**order["setting"] | {"size": tuple(order["setting"]["size"])})
    task: Task = order["task"]
    files = [Path(file) for file in order["files"]]
    model = subject(Contender.from_dict(order["contender"]), setting)
    model.network.load_state_dict(load_file(order["weights"]))
    if model.contender.checkpoint is None:
        model.stand_still()
    model.ready()
    meter = Peak(model.device)
    meter.begin()
    found = taken(lambda: model.act(task, files), model.parts(task), meter)
    return {stage: most / MB for stage, most in (found | {"whole": meter.end()}).items()}


if __name__ == "__main__":
    print(json.dumps(here(json.loads(sys.argv[1]))))
