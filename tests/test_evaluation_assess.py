"""Boundary AP equals the library's own; AP follows from the hits; every object has its row."""

import json
import math

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as codec
from hypothesis import given, settings
from hypothesis import strategies as st

from found import detections, rle, write
from seanet.data.coco import Categories, CocoData, read_coco, to_rle
from seanet.evaluation.assess import Assessment, assess
from seanet.evaluation.coco import score
from seanet.evaluation.matching import THRESHOLDS, Hits, greedy
from seanet.evaluation.pairs import Pairs

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR", "ARs", "ARm", "ARl")


def library(data: CocoData, found: list[dict], kind: str, limit: int = 100) -> list[float | None]:
    """The twelve numbers of the library's own mode."""
    truth = COCO(json.loads(data.file.read_text()))
    kept = [{k: v for k, v in f.items() if k != ("segmentation" if kind == "bbox" else "bbox")} for f in found]
    evaluation = COCOeval_faster(truth, truth.loadRes(kept), kind, print_function=lambda *_: None)
    evaluation.params.maxDets = sorted({1, min(10, limit), limit})
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])
    last = precision.shape[-1] - 1
    parts = [precision[..., 0, last], precision[0, ..., 0, last], precision[5, ..., 0, last]]
    parts += [precision[..., a, last] for a in (1, 2, 3)]
    parts += [recall[..., 0, m] for m in (0, min(1, last), last)] + [recall[..., a, last] for a in (1, 2, 3)]
    return [float(p[p > -1].mean()) if (p > -1).any() else None for p in parts]


@pytest.mark.parametrize(("seed", "ties"), [(0, False), (1, True), (2, True)])
def test_boundary_ap_is_the_librarys(tmp_path, seed, ties):
    """Crowd regions, a class without objects, masks over the frame, ties of score, odd sizes."""
    data = write(tmp_path, seed=seed)
    found = detections(data, seed, ties)
    metrics = assess(data, found, 100).metrics
    assert [metrics["boundary"][name] for name in NAMES] == pytest.approx(library(data, found, "boundary"), abs=1e-12)
    assert 0.02 < metrics["boundary"]["AP"] < metrics["segm"]["AP"]
    alone = score(data, found, 100)
    assert {key: metrics[key] for key in alone} == alone


def test_boundary_ap_with_more_than_100_detections(tmp_path):
    data = write(tmp_path, images=2, objects=300, crowd=0.05)
    found = detections(data)
    assert max(sum(f["image_id"] == i.id for f in found) for i in data.images) > 300
    for limit in (5, 100):
        metrics = assess(data, found, limit).metrics
        wanted = library(data, found, "boundary", limit)
        assert [metrics["boundary"][name] for name in NAMES] == pytest.approx(wanted, abs=1e-12)


def test_boundary_ap_of_tiny_masks(tmp_path):
    data = write(tmp_path, images=2, crowd=0.0)
    content = json.loads(data.file.read_text())
    content["annotations"] = []
    for image in content["images"]:
        for k in range(1, 5):
            mask = np.zeros((image["height"], image["width"]), np.uint8)
            mask[0:k, 10 * k : 10 * k + 3] = 1
            entry = {"id": len(content["annotations"]) + 1, "image_id": image["id"], "category_id": 2, "iscrowd": 0}
            shape = {"segmentation": rle(mask), "bbox": [10 * k, 0, 3, k], "area": 3 * k}
            content["annotations"].append(entry | shape)
    data.file.write_text(json.dumps(content))
    data = read_coco(data.file, tmp_path)
    found = [
        {k: a[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 1 / a["id"]}
        for a in content["annotations"][::2]
    ]
    metrics = assess(data, found, 100).metrics
    assert [metrics["boundary"][name] for name in NAMES] == pytest.approx(library(data, found, "boundary"), abs=1e-12)


def some_of_coco(coco_mini, images: int = 12) -> tuple[CocoData, list[dict]]:
    """A part of COCO and results: its objects moved by some pixels, with other ones among them."""
    data = read_coco(coco_mini / "annotations" / "instances_val2017.json", coco_mini / "val2017")
    part = CocoData(data.file, data.images[:images], data.categories, data.repairs)
    rng, found = np.random.default_rng(0), []
    for image in part.images:
        for a in image.annotations * 2:
            mask = np.roll(codec.decode(to_rle(a, image.height, image.width)), rng.integers(-5, 6, 2), (0, 1))
            shape = {"segmentation": rle(mask), "bbox": codec.toBbox(codec.encode(np.asfortranarray(mask))).tolist()}
            ids = {"image_id": image.id, "category_id": data.categories.ids[a.label - 1]}
            found.append(ids | shape | {"score": float(rng.random())})
    return part, found


def test_boundary_ap_on_coco(coco_mini, tmp_path):
    data, found = some_of_coco(coco_mini)
    metrics = assess(data, found, 100).metrics
    content = json.loads(data.file.read_text())
    ids = {image.id for image in data.images}
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    file = tmp_path / "part.json"
    file.write_text(json.dumps(content))
    same = CocoData(file, data.images, data.categories, data.repairs)
    for kind in ("bbox", "segm", "boundary"):
        wanted = library(same, found, kind)
        assert [metrics[kind][name] for name in NAMES] == pytest.approx(wanted, abs=1e-9 if kind == "bbox" else 1e-12)
    assert metrics["boundary"]["AP"] > 0.1


def average_precision(hits: Hits) -> tuple[float, float]:
    """AP and AP50 as COCO computes them, class by class and threshold by threshold, in plain code."""
    values = []
    for label in range(1, hits.objects.shape[1] + 1):
        objects = hits.objects[:, label - 1].sum()
        if not objects:
            continue
        rows = np.flatnonzero(hits.label == label)
        rows = rows[np.argsort(-hits.score[rows], kind="stable")]
        for t in range(len(THRESHOLDS)):
            counted = ~hits.ignored[t, rows]
            true = hits.true[t, rows][counted]
            hit, tried = np.cumsum(true), np.arange(1, len(true) + 1)
            recall, precision = hit / objects, hit / tried
            best = [precision[recall >= r].max(initial=0) for r in np.linspace(0, 1, 101)]
            values.append((t, np.mean(best)))
    return float(np.mean([v for _, v in values])), float(np.mean([v for t, v in values if t == 0]))


@pytest.mark.parametrize(("seed", "ties", "limit"), [(0, False, 100), (3, True, 100), (4, True, 3)])
def test_ap_follows_from_the_hits(tmp_path, seed, ties, limit):
    data = write(tmp_path, seed=seed)
    data = CocoData(data.file, data.images[::-1], data.categories, data.repairs)  # the library goes by rising ids
    found = assess(data, detections(data, seed, ties), limit)
    for kind in ("bbox", "segm", "boundary"):
        hits = found.hits[kind]
        wanted = found.metrics[kind]["AP"], found.metrics[kind]["AP50"]
        assert average_precision(hits) == pytest.approx(wanted, abs=1e-9)
        assert hits.objects.sum() == found.metrics["objects"]
        assert not (hits.true & hits.ignored).any()
    assert found.hits["segm"].ignored.any()


def test_boxes_are_ranked_by_their_own_score(tmp_path):
    data = write(tmp_path)
    found = detections(data)
    rng = np.random.default_rng(0)
    mixed = [entry | {"box_score": float(rng.random())} for entry in found]
    metrics = assess(data, mixed, 100).metrics
    assert metrics["segm"] == assess(data, found, 100).metrics["segm"]
    wanted = library(data, [entry | {"score": entry["box_score"]} for entry in mixed], "bbox")
    assert [metrics["bbox"][name] for name in NAMES] == pytest.approx(wanted, abs=1e-12)


def test_ties_of_a_boxs_own_score_stand_as_they_came(tmp_path):
    data = write(tmp_path, seed=1)
    found = [entry | {"box_score": 0.5} for entry in detections(data, 1)]
    metrics = assess(data, found, 100).metrics
    assert metrics["bbox"] == score(data, found, 100)["bbox"]
    wanted = library(data, [entry | {"score": 0.5} for entry in found], "bbox")
    assert [metrics["bbox"][name] for name in NAMES] == pytest.approx(wanted, abs=1e-12)


def test_classes_may_stand_in_any_order(tmp_path):
    """The library sorts them by id, labels are in the order of the model's classes."""
    data = write(tmp_path, seed=2)
    found = detections(data, 2)
    ids, names = data.categories.ids, data.categories.names
    other = read_coco(
        data.file, tmp_path, Categories((90, 5, 2, 11), tuple(names[ids.index(i)] for i in (90, 5, 2, 11)))
    )
    one, two = (assess(d, found, 100).metrics for d in (data, other))
    for kind in ("bbox", "segm", "boundary"):
        assert one[kind] == two[kind]
    assert one["bands"]["per_class"] == two["bands"]["per_class"]
    assert len({part["AP"] for part in one["segm"]["per_class"].values()}) == 4


def plain_greedy(ious: np.ndarray, crowd: np.ndarray, threshold: float) -> list[int]:
    """COCO's loop for one image and class, as its paper's code has it: objects first, then crowd regions."""
    order = np.argsort(crowd, kind="stable")
    taken, result = set(), []
    for row in ious:
        least, best = min(threshold, 1 - 1e-10), -1
        for g in order:
            if g in taken and not crowd[g]:
                continue
            if best > -1 and not crowd[best] and crowd[g]:
                break
            if row[g] < least:
                continue
            least, best = row[g], int(g)
        taken |= {best} - {-1}
        result.append(best)
    return result


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 8), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_greedy_is_cocos_loop(detections, objects, seed):
    """Coarse values, so that many are equal and some lie on a threshold."""
    rng = np.random.default_rng(seed)
    ious = rng.choice([0.0, 0.3, 0.5, 0.55, 0.6, 0.75, 0.9, 1.0], (detections, objects))
    crowd = rng.random(objects) < 0.3
    found = greedy(ious, crowd, THRESHOLDS)
    assert found.shape == (10, detections)
    for t, threshold in enumerate(THRESHOLDS):
        assert found[t].tolist() == plain_greedy(ious, crowd, threshold)


def test_every_object_has_its_row(tmp_path):
    data = write(tmp_path, seed=5)
    found = assess(data, detections(data, 5), 100)
    pairs = found.pairs
    objects = [(i, a) for i, image in enumerate(data.images) for a in image.annotations if not a.crowd]
    assert pairs.annotation.tolist() == [a.id for _, a in objects]
    assert pairs.image.tolist() == [i for i, _ in objects]
    assert 5 < (pairs.result >= 0).sum() < len(objects)
    for row, (i, a) in enumerate(objects):
        image, d = data.images[i], pairs.result[row]
        if d < 0:
            assert np.isnan([pairs.score[row], pairs.iou[row], *pairs.trimap[row], pairs.offset[row]]).all()
            continue
        entry = found.entries[i][d]
        assert (entry["image_id"], entry["category_id"]) == (image.id, data.categories.ids[a.label - 1])
        assert pairs.score[row] == entry["score"]
        truth = codec.decode(to_rle(a, image.height, image.width)).astype(bool)
        mask = codec.decode(entry["segmentation"]).astype(bool)
        assert pairs.iou[row] == pytest.approx((truth & mask).sum() / (truth | mask).sum())
        assert pairs.iou[row] >= 0.5
    # The matches at .5 are AP50's own true positives.
    assert (pairs.result >= 0).sum() == found.hits["segm"].true[0].sum()


def perfect(data: CocoData) -> list[dict]:
    return [
        {"image_id": image.id, "category_id": data.categories.ids[a.label - 1], "score": 1.0}
        | {"segmentation": to_rle(a, image.height, image.width), "bbox": [0, 0, 1, 1]}
        for image in data.images
        for a in image.annotations
        if not a.crowd
    ]


def test_summaries(tmp_path):
    data = write(tmp_path, seed=6)
    found = perfect(data)
    whole = assess(data, found, 100).metrics["bands"]["all"]
    assert set(whole["TA"].values()) == set(whole["TA@R"].values()) == set(whole["boundary_f"].values()) == {1.0}
    assert (whole["offset"], whole["hausdorff95"], whole["matched"]) == (0, 0, whole["objects"])
    kept = found[: len(found) // 2]
    metrics = assess(data, kept, 100).metrics
    half = metrics["bands"]["all"]
    assert half["matched"] == len(kept)
    assert set(half["TA"].values()) == {1.0}
    assert half["TA@R"]["3px"] == pytest.approx(len(kept) / len(found))
    parts = metrics["bands"]
    assert sum(parts[name]["objects"] for name in ("small", "medium", "large")) == len(found)
    assert sum(part["objects"] for part in parts["per_class"].values()) == len(found)
    assert parts["per_class"]["class 90"]["TA@R"]["1px"] is None
    assert parts["widths"]["8px"] == [8, 8]
    assert json.loads(json.dumps(metrics)) == metrics
    assert metrics["boundary"]["width"]["ratio"] == 0.02


def test_an_object_that_fills_its_image_is_left_out(tmp_path):
    data = write(tmp_path, seed=7)
    content = json.loads(data.file.read_text())
    image = content["images"][-1]  # the empty one
    full = np.ones((image["height"], image["width"]), np.uint8)
    entry = {"id": 999, "image_id": image["id"], "category_id": 2, "segmentation": rle(full), "iscrowd": 0}
    entry |= {"bbox": [0, 0, image["width"], image["height"]], "area": full.sum().item()}
    content["annotations"].append(entry)
    data.file.write_text(json.dumps(content))
    data = read_coco(data.file, tmp_path)
    for found in (perfect(data), perfect(data)[:-1]):
        whole = assess(data, found, 100).metrics["bands"]["all"]
        assert whole["without_boundary"] == 1
        assert set(whole["TA@R"].values()) == {1.0}


def test_only_the_best_of_an_image_are_paired(tmp_path):
    """The limit of the bands is one for the whole image, that of AP is each class's."""
    data = write(tmp_path, images=3, crowd=0.0, objects=12)
    found = assess(data, perfect(data), 2)
    matched = [(found.pairs.result[found.pairs.image == i] >= 0).sum() for i in range(len(data.images))]
    assert matched == [min(2, len(image.annotations)) for image in data.images]


def test_nothing_found(tmp_path):
    data = write(tmp_path)
    found: Assessment = assess(data, [], 100)
    assert found.metrics["boundary"]["AP"] == 0
    assert found.metrics["bands"]["all"]["TA@R"]["1px"] == 0
    assert found.metrics["bands"]["all"]["TA"]["1px"] is None
    assert found.hits["segm"].true.shape == (10, 0)
    assert found.hits["segm"].objects.sum() == found.metrics["objects"]


def test_images_without_objects(tmp_path):
    data = write(tmp_path, images=1)
    found = assess(data, [], 100)
    assert isinstance(found.pairs, Pairs)
    assert found.metrics["bands"]["all"]["objects"] == 0
    assert found.metrics["bands"]["all"]["TA@R"]["1px"] is None
    assert all(math.isnan(v) for v in found.metrics["bands"]["widths"]["1px"])
