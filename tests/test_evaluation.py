"""AP and AR equal pycocotools'; ground truth as prediction is perfect; limits and empty results."""

import contextlib
import io
import json

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from found import detections, write
from seanet.data.coco import CocoData, read_coco, to_rle
from seanet.evaluation.coco import score
from seanet.evaluation.run import evaluate, predictions
from seanet.predict import build
from seanet.recipes import recipe
from seanet.settings import override
from seanet.training.coco import flat

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR", "ARs", "ARm", "ARl")


def pycocotools(data: CocoData, found: list[dict], kind: str, limit: int) -> list[float]:
    """The twelve numbers; computed from the library's own arrays, since it prints -1 for limits other than 100."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data.file))
        kept = [{k: v for k, v in f.items() if k != ("segmentation" if kind == "bbox" else "bbox")} for f in found]
        evaluation = COCOeval(truth, truth.loadRes(kept), kind)
        evaluation.params.maxDets = [1, 10, limit]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    parts = [precision[..., 0, 2], precision[0, ..., 0, 2], precision[5, ..., 0, 2]]
    parts += [precision[..., a, 2] for a in (1, 2, 3)]
    parts += [recall[..., 0, m] for m in (0, 1, 2)] + [recall[..., a, 2] for a in (1, 2, 3)]
    return [float(p[p > -1].mean()) if (p > -1).any() else None for p in parts]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_pycocotools(tmp_path, seed, ties):
    data = write(tmp_path, seed=seed)
    found = detections(data, seed, ties)
    metrics = score(data, found, 100)
    for kind in ("bbox", "segm"):
        wanted = pycocotools(data, found, kind, 100)
        assert [metrics[kind][name] for name in NAMES] == pytest.approx(wanted, abs=1e-9)
        assert 0.05 < metrics[kind]["AP"] < 0.95


def test_equals_pycocotools_with_more_than_100_detections(tmp_path):
    data = write(tmp_path, images=3, objects=400, crowd=0.0)
    found = detections(data)
    assert max(sum(f["image_id"] == i.id for f in found) for i in data.images) > 400
    for limit in (100, 150):
        metrics = score(data, found, limit)
        for kind in ("bbox", "segm"):
            wanted = pycocotools(data, found, kind, limit)
            assert [metrics[kind][name] for name in NAMES] == pytest.approx(wanted, abs=1e-9)
    assert score(data, found, 20)["crowded_images"] > 0


def test_ground_truth_scores_one_on_coco(coco_mini):
    data = read_coco(coco_mini / "annotations" / "instances_val2017.json", coco_mini / "val2017")
    found = [
        {
            "image_id": image.id,
            "category_id": data.categories.ids[a.label - 1],
            "bbox": [a.box[0], a.box[1], a.box[2] - a.box[0], a.box[3] - a.box[1]],
            "segmentation": to_rle(a, image.height, image.width),
            "score": 1.0,
        }
        for image in data.images
        for a in image.annotations
        if not a.crowd
    ]
    metrics = score(data, found, 100)
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == 1.0
    assert (metrics["images"], metrics["objects"]) == (206, 1786 - 21)


def test_annotation_ids_from_zero_do_not_matter(tmp_path):
    write(tmp_path, crowd=0.0)
    content = json.loads((tmp_path / "truth.json").read_text())
    for entry in content["annotations"]:
        entry["id"] -= 1
    (tmp_path / "truth.json").write_text(json.dumps(content))
    data = read_coco(tmp_path / "truth.json", tmp_path)
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 1.0}
        | {"segmentation": a["segmentation"]}
        for a in content["annotations"]
    ]
    metrics = score(data, found, 100)
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == 1.0


def test_nothing_found_and_classes_without_objects(tmp_path):
    data = write(tmp_path)
    metrics = score(data, [], 100)
    assert metrics["bbox"]["AP"] == metrics["segm"]["AR"] == 0
    assert metrics["segm"]["per_class"]["class 90"] == {"AP": None, "AP50": None}
    assert metrics["detections"] == 0


def test_a_model_is_evaluated_at_the_files_resolution(tmp_path):
    data = write(tmp_path, images=4)
    torch.manual_seed(0)
    changes = ["data.short_sides=[64]", "detections.score=0.0", "detections.limit=7", "backbone.norm=batch"]
    model = build(override(recipe("mask_rcnn_lite"), changes), data.categories.names)
    entries, seen = [], []
    metrics = evaluate(model, data, workers=0, batch=3, results=entries, progress=lambda *p: seen.append(p))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert metrics["max_detections"] == 7
    assert {e["image_id"] for e in entries} == {1, 2, 3, 4}
    sizes = {image.id: [image.height, image.width] for image in data.images}
    assert all(entry["segmentation"]["size"] == sizes[entry["image_id"]] for entry in entries)
    assert {"boundary/AP", "segm/AP50", "bbox/AR"} <= set(flat(metrics)), "names for train.metric"
    plain = evaluate(model, data, workers=0, boundary=False)
    assert plain == {name: metrics[name] for name in plain}
    assert {"boundary", "bands", "best_f1"} == set(metrics) - set(plain)
    assert [sum(entry["image_id"] == image.id for entry in entries) for image in data.images] == [7] * 4
    pairs = list(predictions(model, data, batch=3, workers=0))
    assert [record.id for record, _ in pairs] == [1, 2, 3, 4]
    assert all(found.size == (record.height, record.width) for record, found in pairs)
