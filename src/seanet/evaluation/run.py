"""A model over a data set, image by image, into the numbers of ``evaluation.assess``."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from seanet.config import Data
from seanet.data.coco import CocoData, ImageRecord, find_split, read_coco
from seanet.data.feed import steady
from seanet.data.loader import Loader, eval_loader
from seanet.evaluation.assess import measure_results
from seanet.instances import Instances
from seanet.predict import Model
from seanet.types import Batch

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
    if not isinstance(data, CocoData):
        data = read_coco(*find_split(Path(data), split), categories=model.categories)
    entries = results if results is not None else []
    for done, (record, instances) in enumerate(predictions(model, data, batch=batch, workers=workers), 1):
        entries.extend(instances.to_coco(record.id))
        if progress:
            progress(done, len(data.images))
    metrics = measure_results(data, entries, model.config.detections.limit, boundary)
    _warn(metrics)
    return metrics


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
    for records, images, sizes in batches(data, model.config.data, batch, workers):
        yield from zip(records, model.predict_batch(images, sizes), strict=True)


def batches(
    data: CocoData, config: Data, batch: int, workers: int
) -> Iterator[tuple[list[ImageRecord], Batch, list[tuple[int, int]]]]:
    """The images of ``data`` for a model: their records, their pixels, and the height and width of their files.

    Processes that die or hang are replaced; WorkerError where that happens again and again at the same images.
    """

    def loader(place: int) -> Loader:
        return eval_loader(replace(data, images=data.images[place * batch :]), config, batch, workers)

    def records(place: int) -> list[ImageRecord]:
        return list(data.images[place * batch : (place + 1) * batch])

    def named(place: int) -> list[tuple[int, str]]:
        return [(record.id, str(record.path)) for record in records(place)]

    found = steady(loader, named, end=math.ceil(len(data.images) / batch))
    for place, (images, sizes) in enumerate(found):
        yield records(place), images, sizes
