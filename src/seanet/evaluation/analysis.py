"""Where a model's AP is lost, in one JSON-ready dict: oracles, boxes that cut their objects, trust in predicted IoUs.

Free of torch: a model's part is done when it comes here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seanet.data.coco import CocoData
from seanet.evaluation.assess import assess
from seanet.evaluation.calibration import calibrate
from seanet.evaluation.clipping import Clipping, clipping
from seanet.evaluation.oracle import NEED_MODEL, ORACLES, Reruns

KINDS = ("bbox", "segm", "boundary")
STEPS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the losses' histogram


def analyse(data: CocoData, reruns: Reruns, max_detections: int) -> dict[str, Any]:
    """``oracles``, ``clipping``, ``calibration``, ``fixed_boxes`` (None without a model), and what was left out and why.

    Each oracle has its ``AP`` by kind, the ``gain`` over ``plain`` and how many detections were ``changed`` or removed.
    """
    plain = assess(data, reruns.plain, max_detections)
    listed = [entries[:max_detections] for entries in plain.entries]
    clips, trust = clipping(data, listed), calibrate(data, listed)
    metrics = plain.metrics
    facts = {name: metrics[name] for name in ("images", "objects", "detections", "max_detections", "crowded_images")}
    return facts | {
        "oracles": oracles(data, reruns, max_detections, _aps(metrics)),
        "clipping": clips.by_size() | {"histogram": histogram(clips)},
        "calibration": trust,
        "fixed_boxes": None if reruns.fixed is None else reruns.fixed.summary(),
        "left_out": left_out(reruns, trust),
    }


def oracles(data: CocoData, reruns: Reruns, limit: int, plain: dict[str, float]) -> dict[str, Any]:
    """``plain`` first, then those of ``ORACLES`` that there are, in their order."""
    found: dict[str, Any] = {"plain": {"AP": plain}}
    untouched = {id(entry) for entry in reruns.plain}
    for name in ORACLES:
        if name in reruns.mended:
            entries = reruns.mended[name]
            scores = _aps(assess(data, entries, limit).metrics)
            changed = len(reruns.plain) - sum(id(entry) in untouched for entry in entries)
            gain = {kind: scores[kind] - plain[kind] for kind in KINDS}
            found[name] = {"AP": scores, "gain": gain, "changed": changed}
    return found


def _aps(metrics: dict[str, Any]) -> dict[str, float]:
    return {kind: metrics[kind]["AP"] for kind in KINDS}


def histogram(clips: Clipping) -> list[dict[str, Any]]:
    """Objects by the share that their boxes cut off; the first bin holds those that lose nothing."""
    loss = clips.loss[~np.isnan(clips.loss)]
    counts = np.histogram(loss[loss > 0], STEPS)[0]
    bins = [{"from": 0.0, "to": 0.0, "count": int((loss <= 0).sum())}]
    return bins + [{"from": a, "to": b, "count": int(n)} for a, b, n in zip(STEPS[:-1], STEPS[1:], counts, strict=True)]


def left_out(reruns: Reruns, trust: dict[str, Any]) -> list[str]:
    """Sentences for people."""
    found = []
    if reruns.fixed is None:
        names = ", ".join(ORACLES[name] for name in NEED_MODEL)
        found.append(
            f"left out: {names}; true boxes for the mask head alone: they need the model, not only its results"
        )
    for name in ("box_iou", "mask_iou"):
        if trust[name] is None and reruns.plain:
            found.append(f"left out: calibration of {name}, which these detections do not have")
    if not reruns.plain:
        found.append("there is not one detection")
    if trust["on_crowd"]:
        found.append(f"{trust['on_crowd']} detections on crowd regions take no part in the calibration")
    return found
