"""A model over a data set, image by image, into the numbers of ``evaluation.assess``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from seanet.data.coco import CocoData, ImageRecord, find_split, read_coco
from seanet.data.loader import eval_loader
from seanet.evaluation.assess import Assessment, assess, measure_results
from seanet.instances import Instances
from seanet.predict import Model

log = logging.getLogger("seanet")


def evaluate(
    model: Model,
    data: CocoData | Path | str,
    *,
    split: str = "val",
    batch: int = 1,
    workers: int = 2,
    boundary: bool = True,
    results: list[dict] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Metrics as ``evaluation.assess.measure_results`` gives them, with the model's own limit of detections an image.

    ``data`` is a folder whose ``split`` is found by itself, or what ``read_coco`` gave.  ``results``, if a list, is
    filled with the entries of a COCO results file; ``progress`` is called with images done and images in all.
    """
    data, entries = _collect(model, data, split, batch, workers, results, progress)
    limit = model.config.detections.limit
    metrics = measure_results(data, entries, limit, boundary)
    _warn(metrics)
    return metrics


def assess_model(
    model: Model,
    data: CocoData | Path | str,
    *,
    split: str = "val",
    batch: int = 1,
    workers: int = 2,
    results: list[dict] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Assessment:
    """As ``evaluate``, with every object's row and what AP is made of."""
    data, entries = _collect(model, data, split, batch, workers, results, progress)
    found = assess(data, entries, model.config.detections.limit)
    _warn(found.metrics)
    return found


def _collect(
    model: Model,
    data: CocoData | Path | str,
    split: str,
    batch: int,
    workers: int,
    results: list[dict] | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[CocoData, list[dict]]:
    """The data, read where need be, and what the model finds in them."""
    if not isinstance(data, CocoData):
        data = read_coco(*find_split(Path(data), split), categories=model.categories)
    entries = results if results is not None else []
    for done, (record, instances) in enumerate(predictions(model, data, batch=batch, workers=workers), 1):
        entries.extend(instances.to_coco(record.id))
        if progress:
            progress(done, len(data.images))
    return data, entries


def _warn(metrics: dict[str, Any]) -> None:
    if metrics["crowded_images"]:
        log.warning(
            "%d of %d images hold more than %d objects: raise detections.limit, or their recall is capped",
            metrics["crowded_images"],
            metrics["images"],
            metrics["max_detections"],
        )


def predictions(
    model: Model, data: CocoData, *, batch: int = 1, workers: int = 2
) -> Iterator[tuple[ImageRecord, Instances]]:
    """Each image of ``data`` with what is found in it."""
    records = iter(data.images)
    for images, sizes in eval_loader(data, model.config.data, batch, workers):
        yield from zip(islice(records, len(sizes)), model.predict_batch(images, sizes), strict=True)
