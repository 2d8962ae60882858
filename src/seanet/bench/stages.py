"""Watching the stages of a model from outside: callables are wrapped while it is measured, its own code knows nothing.

A meter says what a stage took: seconds, bytes, multiplications.  Stages do not lie inside each other.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

READING = ("decode", "resize")
HEADS = ("backbone", "rpn", "box pool", "box head", "nms", "mask pool", "mask head", "scoring")
PREDICTION = (*READING, *HEADS, "paste", "rle")
TRAINING = (*HEADS, "backward", "step")


@dataclass(frozen=True)
class Part:
    """A callable that belongs to a stage: attribute ``name`` of an instance, a class or a module."""

    stage: str
    owner: Any
    name: str = "forward"


class Meter(ABC):
    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def end(self) -> float:
        """What was taken since ``begin``."""

    def together(self, taken: Sequence[float]) -> float:
        """Of several calls that make one stage."""
        return sum(taken)


class Clock(Meter):
    """Seconds, until the device has finished."""

    def __init__(self, device: torch.device):
        self.device = device

    def begin(self) -> None:
        self.began = self.now()

    def end(self) -> float:
        return self.now() - self.began

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Macs(Meter):
    """Multiplications with an addition, in convolutions, matrix products and attention."""

    def __init__(self, counter: FlopCounterMode):
        self.counter = counter

    def begin(self) -> None:
        self.before = self.counter.get_total_flops()

    def end(self) -> float:
        return (self.counter.get_total_flops() - self.before) / 2


@contextmanager
def watched(parts: Sequence[Part], meter: Meter) -> Generator[dict[str, list[float]]]:
    """What each stage took, call by call, while the context lasts."""
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        for part in parts:
            calls = found.setdefault(part.stage, [])
            stack.enter_context(replaced(part.owner, part.name, metered(getattr(part.owner, part.name), meter, calls)))
        yield found


def metered(function: Callable, meter: Meter, calls: list[float]) -> Callable:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        meter.begin()
        result = function(*args, **kwargs)
        calls.append(meter.end())
        return result

    return call


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Generator[None]:
    """Another attribute of an instance, a class or a module for as long as the context lasts."""
    own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def taken(action: Callable[[], Any], parts: Sequence[Part], meter: Meter) -> dict[str, float]:
    """What an action takes in each of its stages."""
    with watched(parts, meter) as found:
        action()
    return {stage: meter.together(calls) for stage, calls in found.items() if calls}
