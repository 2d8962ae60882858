"""LVIS's average precision, computed by hotcoco: an image is judged only by what it was searched for.

A detection counts in an image where its category was outlined or was looked for in vain; elsewhere nobody knows, and it
is left out.  Where not every object of a category was outlined, detections that match none are left out too.  The
best detections of an image count, of all categories together.  Free of torch.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotcoco import COCO, COCOeval

from seanet.data.coco import CocoData
from seanet.data.entries import read_lists
from seanet.data.repairs import Findings
from seanet.data.values import is_int
from seanet.evaluation.coco import (
    KINDS,
    Averages,
    Kind,
    averages,
    facts,
    ground_truth,
    mean,
    numbered,
    summarise,
    tabled,
    within,
)
from seanet.evaluation.columns import Objects

DETECTIONS = 300  # of an image, in LVIS's own protocol
MARK = b'"neg_category_ids"'
FREQUENCIES = ("r", "c", "f")


@dataclass(frozen=True)
class Federation:
    """What LVIS says beyond its objects; category ids are those of ``CocoData.categories``."""

    frequency: dict[int, str]  # category -> r, c or f
    absent: dict[int, list[int]]  # image -> categories that were looked for in vain
    partial: dict[int, list[int]]  # image -> categories of which not every object is outlined


def is_federated(file: Path) -> bool:
    """Whether an annotation file says what its images were searched for; its text is only looked through."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(MARK) >= 0


def score(data: CocoData, results: list[dict], max_detections: int = DETECTIONS) -> dict[str, Any]:
    """AP of results against the objects of ``data``, whose file is LVIS's or was converted from it.

    ``results`` are entries of a COCO results file with box and RLE.  For both kinds: AP over IoU .50:.95, AP50, AP75,
    APs, APm, APl by size, APr, APc, APf of rare, common and frequent categories, AR, ARs, ARm, ARl; ``per_class`` AP and
    AP50 by name.  Shares of one; None where the data hold no such object.  ``unjudged`` counts what was left out for
    its category alone.
    """
    federation, results = read_federation(data), within(data, results)
    truth = _truth(data, federation)
    scores = {kind: _judge(data, federation, truth, results, kind, max_detections) for kind in KINDS}
    best = _best(results, max_detections, "score")
    unjudged = len(best) - len(_judged(data, federation, best))
    return scores | facts(data, len(best), max_detections) | {"unjudged": unjudged}


def in_place_of_coco(
    metrics: dict[str, Any], data: CocoData, results: list[dict], max_detections: int
) -> dict[str, Any]:
    """COCO's metrics with LVIS's AP for theirs, if that is what the data's file asks for; else as they are.

    What is measured object by object stays.  Of ``boundary`` only the width does, of ``best_f1`` nothing: AP and F1 there
    do not know what was searched for.
    """
    if not is_federated(data.file):
        return metrics
    found = metrics | score(data, results, max_detections)
    if "boundary" in metrics:
        found["boundary"] = {"width": metrics["boundary"]["width"]}
        del found["best_f1"]
    return found


def read_federation(data: CocoData) -> Federation:
    """From the file that ``data`` were read from."""
    findings = Findings(data.file)
    lists = read_lists(findings)
    ids = _ids(data, lists["categories"])
    frequency = {ids[entry["id"]]: _frequency(entry, findings) for entry in lists["categories"] if entry["id"] in ids}
    absent, partial = {}, {}
    for entry in lists["images"]:
        absent[entry["id"]] = _categories(entry, "neg_category_ids", ids, findings)
        partial[entry["id"]] = _categories(entry, "not_exhaustive_category_ids", ids, findings)
    return Federation(frequency, absent, partial)


def _ids(data: CocoData, categories: list[dict[str, Any]]) -> dict[int, int]:
    """Category id of the file -> that of ``data``, which may be a model's, by name; what the model lacks is left out."""
    known = dict(zip(data.categories.names, data.categories.ids, strict=True))
    names = {entry["id"]: entry["name"] for entry in categories}
    pairs = {id: known.get(f"{name} ({id})", known.get(name)) for id, name in names.items()}
    return {id: own for id, own in pairs.items() if own is not None}


def _frequency(entry: dict[str, Any], findings: Findings) -> str:
    value = entry.get("frequency")
    if value not in FREQUENCIES:
        raise findings.error(
            f"category {entry['id']} has the frequency {value!r}: expected r, c or f, as in LVIS v1",
            field="frequency",
            value=value,
        )
    return value


def _categories(entry: dict[str, Any], field: str, ids: dict[int, int], findings: Findings) -> list[int]:
    value = entry.get(field)
    if not isinstance(value, list) or not all(map(is_int, value)):
        raise findings.error(
            f"image {entry['id']} has the {field} {value!r}: expected a list of category ids, as in LVIS v1",
            image_id=entry["id"],
            field=field,
            value=value,
        )
    return [ids[id] for id in value if id in ids]


def _truth(data: CocoData, federation: Federation) -> dict[str, Any]:
    """``coco.ground_truth`` with what the library asks of LVIS's; categories that the file does not have are none."""
    truth, ids = ground_truth(data, Objects.of(data)), data.categories.ids
    told = [category for category in truth["categories"] if ids[category["id"] - 1] in federation.frequency]
    searched = [
        {
            "neg_category_ids": [data.categories.label(id) for id in federation.absent[image.id]],
            "not_exhaustive_category_ids": [data.categories.label(id) for id in federation.partial[image.id]],
        }
        for image in data.images
    ]
    return truth | {
        "images": [image | more for image, more in zip(truth["images"], searched, strict=True)],
        "categories": [category | {"frequency": federation.frequency[ids[category["id"] - 1]]} for category in told],
    }


def _best(results: list[dict], limit: int, rank: str) -> list[dict]:
    """The best of each image, whatever their categories; COCO's own limit is one for each category."""
    found: dict[int, list[dict]] = defaultdict(list)
    for entry in results:
        found[entry["image_id"]].append(entry)
    ranked = (sorted(own, key=lambda entry: -entry.get(rank, entry["score"])) for own in found.values())
    return [entry for own in ranked for entry in own[:limit]]


def _judged(data: CocoData, federation: Federation, results: list[dict]) -> list[dict]:
    """Those of categories that their image was searched for."""
    ids = data.categories.ids
    searched = {i.id: {*federation.absent[i.id], *(ids[a.label - 1] for a in i.annotations)} for i in data.images}
    return [entry for entry in results if entry["category_id"] in searched[entry["image_id"]]]


def _judge(
    data: CocoData, federation: Federation, truth: dict[str, Any], results: list[dict], kind: Kind, limit: int
) -> dict[str, Any]:
    """The summary of one kind.  Boxes are ranked by ``box_score`` where there is one."""
    reference = COCO(truth)
    best = _judged(data, federation, _best(results, limit, "box_score" if kind == "bbox" else "score"))
    evaluation = COCOeval(reference, numbered(reference, tabled(data, best), kind), kind, lvis_style=True)
    evaluation.params.max_dets = [limit]
    return _summary(averages(evaluation), truth["categories"], data.categories.names)


def _summary(averages: Averages, categories: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """COCO's summary, with AP by frequency and without the recall of few detections."""
    summary = summarise(averages, tuple(category["name"] for category in categories))
    for group in FREQUENCIES:
        rows = [k for k, category in enumerate(categories) if category["frequency"] == group]
        summary[f"AP{group}"] = mean(averages.precision[:, rows, 0])
    own, nothing = summary.pop("per_class"), {"AP": None, "AP50": None}
    del summary["AR1"], summary["AR10"]
    return summary | {"per_class": {name: own.get(name, nothing) for name in names}}
