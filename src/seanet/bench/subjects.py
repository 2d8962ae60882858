"""What is measured: a network with the actions of its users, and where its stages are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seanet.bench.contenders import Contender, Setting, Task
from seanet.bench.fixed import Proposals
from seanet.bench.stages import PREDICTION, TRAINING, Part

Rles = list[list[dict]]


class Subject(ABC):
    """``network`` with random weights, or those of a checkpoint, on the setting's device."""

    network: nn.Module
    optimizer: torch.optim.Optimizer | None = None

    def __init__(self, contender: Contender, setting: Setting):
        self.contender, self.setting = contender, setting
        self.device = torch.device(setting.device)

    @abstractmethod
    def calibrate(self, files: Sequence[Path]) -> None:
        """Give random weights the ways of trained ones; they then ``stand_still``."""

    @abstractmethod
    def stand_still(self) -> None:
        """Give every image the same proposals and masks, whatever the weights."""

    @abstractmethod
    def ready(self) -> None:
        """From now on run as the contender says; before, everything is plain float32."""

    @abstractmethod
    def predict(self, files: Sequence[Path]) -> Rles:
        """From files to run lengths, a list for each image."""

    @abstractmethod
    def losses(self) -> Tensor:
        """Of a training batch, in sum."""

    @abstractmethod
    def parts(self, task: Task) -> list[Part]:
        """The callables of each stage."""

    @abstractmethod
    def modules(self) -> Mapping[str, Sequence[nn.Module]]:
        """What holds the parameters of each stage."""

    def proposals(self) -> Proposals:
        return Proposals(self.setting.proposals)

    def train(self) -> None:
        """One step of SGD."""
        self.backward(self.losses())
        self.step()

    def backward(self, total: Tensor) -> None:
        total.backward()

    def step(self) -> None:
        if self.optimizer is None:
            trained = [p for p in self.network.parameters() if p.requires_grad]
            self.optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)  # so small that nothing moves
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def act(self, task: Task, files: Sequence[Path]) -> Any:
        return self.train() if task == "train" else self.predict(files)

    def parameters(self) -> dict[str, int]:
        """Their number in each stage that has any."""
        counts = {s: sum(p.numel() for m in modules for p in m.parameters()) for s, modules in self.modules().items()}
        return {stage: count for stage, count in counts.items() if count}


def stages_of(task: Task) -> tuple[str, ...]:
    """In their order."""
    return TRAINING if task == "train" else PREDICTION


def subject(contender: Contender, setting: Setting) -> Subject:
    from seanet.bench.ours import Ours
    from seanet.bench.theirs import Theirs

    return (Theirs if contender.theirs else Ours)(contender, setting)
