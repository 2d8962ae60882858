"""LVIS's average precision, computed by faster-coco-eval: an image is judged only by what it was searched for.

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

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from seanet.data.coco import CocoData
from seanet.data.files import read_lists
from seanet.data.repairs import Findings
from seanet.data.values import is_int
from seanet.evaluation.coco import KINDS, Kind, facts, ground_truth, summarise, within

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
    truth = _truth(data, read_federation(data))
    results = within(data, results)
    scores = {kind: _summary(_judge(truth, results, kind, max_detections), data.categories.names) for kind in KINDS}
    best = _best(results, max_detections, "score")
    unjudged = len(best) - len(_judged(truth, best))
    return scores | facts(data, len(best), max_detections) | {"unjudged": unjudged}


def in_place_of_coco(
    metrics: dict[str, Any], data: CocoData, results: list[dict], max_detections: int
) -> dict[str, Any]:
    """COCO's metrics with LVIS's AP for theirs, if that is what the data's file asks for; else as they are.

    What is measured object by object stays.  Of ``boundary`` only the width does: its AP does not know what was searched for.
    """
    if not is_federated(data.file):
        return metrics
    found = metrics | score(data, results, max_detections)
    if "boundary" in metrics:
        found["boundary"] = {"width": metrics["boundary"]["width"]}
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
    """The content of an annotation file with what the library asks of LVIS's; categories by id, as it orders them."""
    truth = ground_truth(data)
    absent, partial, frequency = federation.absent, federation.partial, federation.frequency
    told = [category for category in truth["categories"] if category["id"] in frequency]
    return truth | {
        "images": [
            {**image, "neg_category_ids": absent[image["id"]], "not_exhaustive_category_ids": partial[image["id"]]}
            for image in truth["images"]
        ],
        "categories": [
            {**category, "frequency": frequency[category["id"]]} for category in sorted(told, key=lambda c: c["id"])
        ],
    }


def _best(results: list[dict], limit: int, rank: str) -> list[dict]:
    """The best of each image, whatever their categories; COCO's own limit is one for each category."""
    found: dict[int, list[dict]] = defaultdict(list)
    for entry in results:
        found[entry["image_id"]].append(entry)
    ranked = (sorted(own, key=lambda entry: -entry.get(rank, entry["score"])) for own in found.values())
    return [entry for own in ranked for entry in own[:limit]]


def _judged(truth: dict[str, Any], results: list[dict]) -> list[dict]:
    """Those of categories that their image was searched for."""
    searched = {image["id"]: set(image["neg_category_ids"]) for image in truth["images"]}
    for entry in truth["annotations"]:
        searched[entry["image_id"]].add(entry["category_id"])
    return [entry for entry in results if entry["category_id"] in searched[entry["image_id"]]]


def _judge(truth: dict[str, Any], results: list[dict], kind: Kind, limit: int) -> COCOeval_faster:
    """The library's evaluation, done.  Boxes are ranked by ``box_score`` where there is one."""
    # With a box at hand the library takes a mask's area from the box, which moves masks between small and large.
    shape, rank = ("bbox", "box_score") if kind == "bbox" else ("segmentation", "score")
    reference = COCO(truth)
    found = [
        {key: entry[key] for key in ("image_id", "category_id", shape)} | {"score": entry.get(rank, entry["score"])}
        # The library would leave the others out too, but fails where an image has no other.
        for entry in _judged(truth, _best(results, limit, rank))
    ]
    evaluation = COCOeval_faster(reference, reference.loadRes(found), kind, print_function=_silent, lvis_style=True)
    evaluation.params.maxDets = [limit]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _summary(evaluation: COCOeval_faster, names: tuple[str, ...]) -> dict[str, Any]:
    """COCO's summary, with AP by frequency and without the recall of few detections."""
    categories = evaluation.cocoGt.dataset["categories"]
    summary = summarise(evaluation)
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, 0]  # IoU, recall, class
    for group in FREQUENCIES:
        rows = [k for k, category in enumerate(categories) if category["frequency"] == group]
        values = precision[:, :, rows]
        values = values[values > -1]  # what does not exist
        summary[f"AP{group}"] = float(values.mean()) if values.size else None
    own, nothing = summary.pop("per_class"), {"AP": None, "AP50": None}
    del summary["AR1"], summary["AR10"]
    return summary | {"per_class": {name: own.get(name, nothing) for name in names}}


def _silent(*_: object) -> None:
    pass
