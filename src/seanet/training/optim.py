"""How long a run is, its learning rate at each step, and its optimiser."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from seanet.config import Train
from seanet.errors import ConfigError

MOMENTS = {"sgd": 1, "adamw": 2}  # numbers that an optimiser keeps for each weight


@dataclass(frozen=True)
class Plan:
    """A run as a number of optimiser steps; all else follows from the step, so that it can stop and go on anywhere."""

    train: Train
    images: int
    """Of the training set."""

    def __post_init__(self) -> None:
        parts = self.train.devices * self.train.accumulate
        if self.train.batch % parts:
            raise ConfigError(
                f"train.batch is {self.train.batch}, which train.devices x train.accumulate = {parts} does not divide",
                field="train.batch",
                value=self.train.batch,
            )

    @property
    def micro_batch(self) -> int:
        """Images that a device takes at once."""
        return self.train.batch // (self.train.devices * self.train.accumulate)

    @property
    def parts(self) -> int:
        """Micro-batches, each of all devices, that one pass over the data takes; the last is filled up."""
        return math.ceil(self.images * self.train.accumulate / self.train.batch)

    @property
    def steps(self) -> int:
        wanted = self.train.epochs * self.parts / self.train.accumulate
        return self.train.steps or max(1, math.ceil(wanted - 1e-6))

    def epoch(self, step: int) -> float:
        """Passes over the data that so many steps have made."""
        return step * self.train.accumulate / self.parts

    def position(self, step: int) -> tuple[int, int]:
        """Pass, and micro-batch within it, that the step with that index begins with."""
        return divmod(step * self.train.accumulate, self.parts)

    def ends_epoch(self, step: int) -> bool:
        """Whether the last of so many steps finished a pass, or the run."""
        return step >= self.steps or self.position(step)[0] > self.position(step - 1)[0]

    def validates(self, step: int) -> bool:
        every = self.train.validate_every
        return step >= self.steps or self.position(step)[0] // every > self.position(step - 1)[0] // every

    def rate(self, step: int) -> float:
        """Learning rate of the step with that index, from 0: linear warm-up times drops or half a cosine."""
        train = self.train
        base = train.lr * (train.batch / 16 if train.optimizer == "sgd" else 1)
        done = step / self.steps
        if train.schedule == "cosine":
            base *= (1 + math.cos(math.pi * done)) / 2
        else:
            base *= 0.1 ** sum(done >= drop for drop in train.drops)
        warmup = min(train.warmup, self.steps // 4)
        if step >= warmup:
            return base
        return base * (train.warmup_from + (1 - train.warmup_from) * step / warmup)


def optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW; vectors (norms and biases) are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=train.lr)
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum)
