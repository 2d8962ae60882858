"""Training a detector on COCO-style data: what ``run`` trains, made of a configuration and two data sets."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from seanet.config import Config
from seanet.data.checking.headers import require_files
from seanet.data.coco import CocoData, find_split, read_coco
from seanet.data.feed import steady
from seanet.data.loader import Loader, train_loader
from seanet.detector import Detector, build
from seanet.evaluation.run import evaluate
from seanet.execution import prepare
from seanet.predict import Model
from seanet.training.folder import is_first
from seanet.training.optim import Plan
from seanet.training.run import Job, Run, run
from seanet.training.same import identity
from seanet.types import Batch
from seanet.weights.fitting import start_from
from seanet.weights.start import load_start

log = logging.getLogger(__name__)
Data = Path | str | tuple[CocoData, CocoData]


def train(
    config: Config,
    data: Data,
    out: Path | str,
    *,
    resume: bool = False,
    init: Path | str | None = None,
    reset_head: bool = False,
    download: bool = False,
    device: str | None = None,
    tensorboard: bool = True,
) -> Run:
    """Train ``config`` on ``data``, a folder or the sets to train on and to evaluate with, in the folder ``out``.

    ``resume`` goes on with the run in ``out`` exactly where it stopped, or begins it.  ``init`` is a checkpoint, or a
    file of another framework, whose weights a new run starts from, all that fit, rows of classes by the classes' names or,
    with ``reset_head``, none of them; else the backbone starts from ``config.backbone.weights``, fetched when ``download``
    allows it.  ``device`` is cpu, cuda or mps.
    """

    def start(detector: Any) -> str:
        if init is None:
            return load_start(detector, config.backbone, download)
        return start_from(detector, training.categories.names, Path(init), reset_head)

    training, validation = _read(data, config.data.max_pixels)
    job = coco_job(config, training, validation)
    return run(config, job, Path(out), resume=resume, start=start, device=device, tensorboard=tensorboard)


def coco_job(config: Config, training: CocoData, validation: CocoData) -> Job:
    """The detector of a configuration on two data sets of the same categories."""
    sets = {"train": training, "val": validation}
    for part, purpose in ((training, "train on"), (validation, "evaluate on")):
        part.require_images(purpose)
        part.require_clean(config.data.max_bad)
    categories, count = training.categories, len(training.categories)
    plan = Plan(config.train, len(training.images))

    def loader(place: int) -> Loader:
        return train_loader(
            training,
            config.data,
            batch=plan.micro_batch,
            seed=config.train.seed,
            workers=config.train.workers,
            rank=_rank(),
            world=config.train.devices,
            start=divmod(place, plan.parts),
        )

    def images(place: int) -> list[tuple[int, str]]:
        keys: Any = loader(place).batch_sampler
        records = [training.images[index] for _, index in next(iter(keys))]
        return [(record.id, str(record.path)) for record in records]

    def batches(step: int) -> Iterator[Batch]:
        return steady(loader, images, step * config.train.accumulate)

    def detector() -> Detector:
        made = build(config, count)
        prepare(made, config.train.execution)
        return made

    def metrics(detector: Any) -> dict[str, Any]:
        model = Model(detector, config, categories, replace(config.train.execution, precision="fp32"))
        return flat(evaluate(model, validation, workers=config.train.workers))

    return Job(
        build=detector,
        batches=batches,
        evaluate=metrics,
        images=len(training.images),
        classes=categories.names,
        category_ids=categories.ids,
        facts={"data": {name: _facts(part) for name, part in sets.items()}},
        identity=lambda: identity(sets),
    )


def flat(metrics: dict[str, Any]) -> dict[str, Any]:
    """``{"segm": {"AP": x}}`` -> ``{"segm/AP": x}``, without what is no number of a kind."""
    kinds = {kind: values for kind, values in metrics.items() if isinstance(values, dict)}
    return {
        f"{kind}/{name}": value
        for kind, values in kinds.items()
        for name, value in values.items()
        if value is None or isinstance(value, int | float)
    }


def _read(data: Data, max_pixels: int) -> tuple[CocoData, CocoData]:
    if isinstance(data, tuple):
        return data
    training = read_coco(*find_split(data, "train"))
    validation = read_coco(*find_split(data, "val"), categories=training.categories)
    if is_first():
        for line in require_files((training, validation), max_pixels):
            log.warning(line)
    return training, validation


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _facts(data: CocoData) -> dict[str, Any]:
    objects = sum(len(image.annotations) for image in data.images)
    repairs = data.repairs.summary()
    return {"file": str(data.file), "images": len(data.images), "annotations": objects, "repairs": repairs}
