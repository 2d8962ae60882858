"""Watching the stages of a model from outside: callables are wrapped while it is measured, its own code knows nothing.

A meter says what a stage took: seconds, bytes, multiplications.
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
        """What was taken since the last ``begin`` that has not ended."""

    def together(self, taken: Sequence[float]) -> float:
        """Of several calls that make one stage."""
        return sum(taken)


class Counter(Meter):
    """Differences of what ``now`` says; what a stage inside another takes is not the outer one's."""

    def __init__(self, now: Callable[[], float]):
        self.now = now
        self.open: list[list[float]] = []  # for each stage that has begun: when, and what inner stages took

    def begin(self) -> None:
        self.open.append([self.now(), 0.0])

    def end(self) -> float:
        began, inner = self.open.pop()
        whole = self.now() - began
        if self.open:
            self.open[-1][1] += whole
        return whole - inner


def seconds(device: torch.device) -> Callable[[], float]:
    """A clock that waits until the device has finished."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def macs(counter: FlopCounterMode) -> Callable[[], float]:
    """Multiplications with an addition so far, in convolutions, matrix products and attention."""
    return lambda: counter.get_total_flops() / 2


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
