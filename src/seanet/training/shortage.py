"""Memory that does not suffice: what to change, and by how much."""

from pathlib import Path

import torch

from seanet.checkpoint import LAST
from seanet.errors import OutOfMemory
from seanet.training.optim import Plan

SIGNS = ("out of memory", "not enough memory", "can't allocate memory")


def is_shortage(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in SIGNS)


def shortage(error: Exception, plan: Plan, device: str, folder: Path) -> OutOfMemory:
    """The error for a user; the settings in it are values to type."""
    train, advice = plan.train, []
    if part := next((n for n in range(2, plan.micro_batch + 1) if plan.micro_batch % n == 0), 0):
        advice.append(f"train.accumulate={train.accumulate * part} takes the same batch in smaller parts")
    if device == "cuda" and train.precision in ("fp32", "tf32"):
        advice.append("train.precision=bf16 halves the maps")
    advice.append("smaller images (data.short_sides, data.long_side) need less, in proportion to their area")
    kept = f"; --init {folder / LAST} keeps what was learnt" if (folder / LAST).exists() else ""
    details = str(error).partition("\n")[0][:200] or "no details"
    return OutOfMemory(
        f"the memory of the {device} does not suffice for micro-batches of {plan.micro_batch} images"
        f" ({details}): start a new run with other settings: {'; '.join(advice)}{kept}",
        field="train.accumulate",
        value=plan.micro_batch,
    )
