"""A model over a data set with a watch in hand: its detections, and what a comparison says about it."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from seanet import checkpoint
from seanet.config import Execution
from seanet.data.coco import Categories, CocoData
from seanet.detector import count_parameters
from seanet.errors import UserError
from seanet.evaluation.run import predictions
from seanet.instances import Instances
from seanet.predict import Model, load
from seanet.types import Batch

UNKNOWN = -1  # the id of a class that the data do not have


@dataclass(frozen=True)
class Found:
    entries: list[dict]
    facts: dict[str, Any]
    parameters: int
    latency: dict[str, Any]
    left_out: int


class Timed(Model):
    """A model that notes how long each batch took, from the host's pixels to instances on the host."""

    def __init__(self, model: Model, categories: Categories):
        super().__init__(model.detector, model.config, categories, model.execution)
        self.seconds: list[float] = []

    def predict_batch(self, batch: Batch, sizes: list[tuple[int, int]], *, edges: bool = False) -> list[Instances]:
        begin = time.perf_counter()
        found = super().predict_batch(batch, sizes, edges=edges)
        self.seconds.append(time.perf_counter() - begin)
        return found


def detect(
    path: Path,
    data: CocoData,
    max_detections: int,
    device: str | None,
    execution: Execution | None,
    say: Callable[[str], None],
) -> Found:
    """Detections as entries of a COCO results file, in the categories of ``data``."""
    categories, meta = classes(path, data), checkpoint.read_meta(path)
    model = Timed(load(path, device, execution).limited(limit=max_detections), categories)
    entries: list[dict] = []
    for done, (record, instances) in enumerate(predictions(model, data), 1):
        entries += instances.to_coco(record.id)
        if done % max(1, len(data.images) // 5) == 0:
            say(f"{path}: {done} of {len(data.images)} images")
    kept = [entry for entry in entries if entry["category_id"] != UNKNOWN]
    with safe_open(checkpoint.find(path), framework="pt") as file:
        digest = (file.metadata() or {}).get("digest")
    facts = {"recipe": meta.config.recipe, "digest": digest, "epoch": meta.epoch, "step": meta.step}
    latency = {"ms": 1000 * statistics.median(model.seconds), "images": len(model.seconds)}
    latency["device"] = device_name(model.device)
    return Found(kept, facts, count_parameters(model.detector)["total"], latency, len(entries) - len(kept))


def classes(path: Path, data: CocoData) -> Categories:
    """A model's classes with the ids that the data give them, by name; it must know all that have objects there."""
    names = checkpoint.read_meta(path).classes
    ids = dict(zip(data.categories.names, data.categories.ids, strict=True))
    used = {data.categories.names[a.label - 1] for image in data.images for a in image.annotations}
    if missing := sorted(used - set(names)):
        raise UserError(
            f"{path} does not know {len(missing)} of the {len(used)} classes with objects in {data.file} "
            f"({shown(missing)}): it knows {shown(names)}; compare models that were trained on these classes"
        )
    return Categories(tuple(ids.get(name, UNKNOWN) for name in names), names)


def shown(names: list[str] | tuple[str, ...], limit: int = 5) -> str:
    return ", ".join(map(repr, names[:limit])) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' * (threads != 1)}"


def processor() -> str:
    """The processor's name where Linux tells it, else its kind."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
