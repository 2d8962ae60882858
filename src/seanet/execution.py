"""How a detector is run: precision, memory layout, convolutions, compilation.  What it computes is the same in all.

``require`` answers before anything is read or computed, ``prepare`` changes a detector once, ``running`` holds around
each use of it.
"""

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, get_args, get_type_hints

import torch
from torch import nn

from seanet.config import Execution
from seanet.cpu import Substitutes
from seanet.detector import Detector
from seanet.errors import ConfigError, UserError

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
KNOWN = {name: get_args(kind) for name, kind in get_type_hints(Execution).items() if get_args(kind)}
PARTS = (
    64  # of a detector, compiled each for itself; to torch they are one function, compiled 8 times at most by default
)
PLAIN = Execution(channels_last=False, substitutes=False)
"""What torch does by itself."""


def require(execution: Execution, device: torch.device) -> None:
    """Raise UserError where ``device``, or what is installed beside it, cannot run so."""
    for name, known in KNOWN.items():
        value = getattr(execution, name)
        if value not in known:
            wanted = " or ".join(map(repr, known))
            raise ConfigError(f"{name} should be {wanted}, got {value!r}", field=name, value=value)
    _require_precision(execution.precision, device)
    if execution.compile == "graphs" and device.type != "cuda":
        raise UserError(f"compile=graphs needs an NVIDIA GPU: on {device.type} take compile=default")
    if execution.compile != "none":
        _require_compiler(device)


def _require_precision(precision: str, device: torch.device) -> None:
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"precision tf32 is one of NVIDIA GPUs: on {device.type} take fp32 or bf16")
    if precision in HALVES and not torch.amp.is_autocast_available(device.type):
        raise UserError(f"precision {precision} is not available on {device.type}: take fp32")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f"{torch.cuda.get_device_name(device)} has no bf16: take fp16 or fp32")


def _require_compiler(device: torch.device) -> None:
    """torch.compile writes C++ on a CPU, and on a GPU Triton, whose launchers are C."""
    variable, usual = ("CC", ("gcc", "clang")) if device.type == "cuda" else ("CXX", ("g++", "clang++"))
    wanted = [os.environ[variable].split()[0]] if os.environ.get(variable) else usual
    if sys.platform != "win32" and not any(map(shutil.which, wanted)):
        raise UserError(
            f"compiling needs a compiler, and there is no {' or '.join(wanted)} here: install one (on Debian and Ubuntu "
            f"the package g++), name it in the environment variable {variable}, or leave out compile"
        )


def prepare(detector: Detector, execution: Execution) -> None:
    """Give the weights their layout, and compile what is run most, or no longer; names and values stay.

    Convolutions give maps the layout of their weights, so images need none.
    """
    detector.to(memory_format=torch.channels_last if execution.channels_last else torch.contiguous_format)
    heads = [head for head in (*detector.box_heads, detector.mask_head, detector.scoring) if head is not None]
    parts = [part for head in heads for part in head.children()]
    for module in (detector.backbone, *parts):
        module._compiled_call_impl = None
    if execution.compile == "graphs":
        detector.backbone.compile(mode="reduce-overhead")
    if execution.compile == "default":
        detector.backbone.compile(dynamic=True)
        for part in parts:
            _compile_for_many(part)


def _compile_for_many(part: nn.Module) -> None:
    """As ``part.compile(dynamic=True)``, but plain for one RoI and for none.

    torch compiles for sizes of 0 and 1 anew: seconds in which a user would wait in the middle of a data set.
    """
    plain, compiled = part._call_impl, torch.compile(part._call_impl, dynamic=True)
    # What nn.Module.compile sets, and copies and checkpoints of a module leave out.
    part._compiled_call_impl = lambda crops, *rest: (compiled if len(crops) > 1 else plain)(crops, *rest)


@contextmanager
def running(execution: Execution, device: torch.device) -> Generator[None]:
    """Forward passes inside are in this precision, by these convolutions; the settings outside come back."""
    with ExitStack() as stack:
        stack.enter_context(precise(execution.precision, device))
        if execution.substitutes and execution.compile == "none" and device.type == "cpu":
            stack.enter_context(Substitutes())
        if execution.compile != "none":
            stack.enter_context(torch._dynamo.config.patch(recompile_limit=PARTS))
        yield


def precise(precision: str, device: torch.device) -> Any:
    if precision in HALVES:
        return torch.autocast(device.type, HALVES[precision])
    return tensor_float() if precision == "tf32" else nullcontext()


@contextmanager
def tensor_float() -> Generator[None]:
    """Products of float32 may be rounded to TF32."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = True
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value
