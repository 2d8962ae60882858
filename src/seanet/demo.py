"""The whole way on a small scale: draw scenes, train, evaluate, predict, and show it on a page."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seanet.config import Config
from seanet.data.coco import CocoData, find_split, mask_bits, read_coco
from seanet.data.images import read_image
from seanet.data.synth import synthesise
from seanet.instances import Instances
from seanet.recipes import recipe as named
from seanet.report.charts import line_chart
from seanet.report.draw import edge_overlay, overlay
from seanet.report.outputs import Bitmaps
from seanet.report.page import Picture, write_page
from seanet.settings import override

SHOWN, SIDE = 8, 192  # images on the page; pixels a side
SETTINGS = [
    f"data.short_sides=[{SIDE}]",
    "train.schedule=cosine",
    "train.warmup=40",
    "train.lr=0.16",
    "train.workers=1",
    "train.validate_every=1000000",
]


def run(
    out: Path,
    recipe: str = "seanet_lite",
    steps: int = 280,
    images: tuple[int, int] = (200, 32),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Everything lands in ``out``, which must be new or empty: ``data``, ``run``, ``index.html``, ``metrics.json``.

    ``images`` are as many to train on and to evaluate with.  Returns the metrics and the path of the page.
    """
    began = time.monotonic()
    config = override(named(recipe), [*SETTINGS, f"train.steps={steps}"])
    from seanet.weights.start import FROM_SCRATCH, at_hand

    if not at_hand(config.backbone):
        say(f"no ImageNet weights for {config.backbone.name} on this machine: training from scratch, to lower figures")
        config = override(config, FROM_SCRATCH)
    say(f"drawing {sum(images)} scenes")
    data = synthesise(out / "data", images[0], SIDE, val=images[1])
    training, validation = (read_coco(*find_split(data, split)) for split in ("train", "val"))
    from seanet.predict import load
    from seanet.training import train

    result = train(config, (training, validation), out / "run", tensorboard=False)
    metrics = result.best["metrics"] if result.best else {}
    page = _page(out, load(out / "run"), config, validation, metrics, time.monotonic() - began)
    found = {"page": str(page), "run": str(out / "run"), "metrics": metrics, "seconds": time.monotonic() - began}
    (out / "metrics.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


def _page(out: Path, model, config: Config, data: CocoData, metrics: dict, seconds: float) -> Path:
    rows = []
    for record in data.images[:SHOWN]:
        pixels = read_image(record.path)
        found = model.predict(pixels, edges=config.mask.has_edges)
        rows.append(_row(pixels, record, data, found[found.score > model.default_score]))
    percent = {name: f"{100 * metrics[key]:.1f}" for name, key in SHARES.items() if metrics.get(key) is not None}
    summary = [*percent.items(), ("steps", config.train.steps), ("minutes in all", f"{seconds / 60:.1f}")]
    return write_page(
        out / "index.html",
        f"{config.recipe} on drawn scenes",
        summary,
        rows,
        [NOTE.format(score=model.default_score)],
        _curves(out / "run"),
    )


SHARES = {
    "mask AP": "segm/AP",
    "mask AP50": "segm/AP50",
    "boundary AP": "boundary/AP",
    "box AP": "bbox/AP",
    "box AP50": "bbox/AP50",
}
NOTE = (
    "Scenes that the model has not seen, and what it predicts there with a score over {score:.2f}, where precision and recall"
    " of its masks balance best (0.50 if none was right). AP is in percent, as COCO counts it; boundary AP by Boundary IoU,"
    " 2 % of the diagonal wide."
)


def _row(pixels: np.ndarray, record, data: CocoData, found: Instances) -> list[tuple[str, Picture]]:
    truth = [mask_bits(a, record.height, record.width) for a in record.annotations]
    masks = [(bits.astype(bool), window[0], window[1]) for bits, window in truth]
    names = [data.categories.names[a.label - 1] for a in record.annotations]
    row: list[tuple[str, Picture]] = [
        ("image", pixels),
        ("truth", overlay(pixels, masks, names, scale=2)),
        ("prediction", overlay(pixels, Bitmaps(found), found.names, found.score.tolist(), scale=2)),
    ]
    if found.edges is None:
        return row
    return [*row, ("edges", edge_overlay(pixels, found.edge_map(), scale=2))]


def _curves(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.split("_")[0] in ("rpn", "box", "mask", "edge")]
    series = {n: [(float(r["step"]), float(r[n])) for r in rows if r.get(n)] for n in names}
    return [line_chart({name: points for name, points in series.items() if points}, "losses", "step")]
