"""AP and AR equal those of a second library, which shares no code with the one that computes ours."""

import json

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from found import detections, write
from seanet.data.coco import CocoData, read_coco
from seanet.evaluation.coco import score

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR", "ARs", "ARm", "ARl")


def theirs(data: CocoData, found: list[dict], kind: str) -> list[float]:
    other = "segmentation" if kind == "bbox" else "bbox"
    truth = COCO(json.loads(data.file.read_text()))
    kept = [{k: v for k, v in entry.items() if k != other} for entry in found]
    evaluation = COCOeval_faster(truth, truth.loadRes(kept), kind, print_function=lambda *_: None)
    evaluation.run()
    return evaluation.all_stats[:12].tolist()


def same(data: CocoData, found: list[dict]) -> None:
    ours = score(data, found, 100)
    for kind in ("bbox", "segm"):
        values = [np.nan if value < 0 else value for value in theirs(data, found, kind)]
        figures = np.array([ours[kind][name] for name in NAMES], np.float64)  # None is nan
        assert figures == pytest.approx(values, abs=1e-9, nan_ok=True), kind


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("images", "objects", "crowd"), [(12, 6, 0.15), (3, 300, 0.0), (8, 5, 0.6)])
def test_random_results(tmp_path, images, objects, crowd, ties):
    """Crowd regions, more than 100 detections, a class without objects, an image without any, ties."""
    data = write(tmp_path, images=images, objects=objects, crowd=crowd)
    same(data, detections(data, ties=ties))


def test_results_on_photographs(coco_mini):
    """The truth of COCO, moved about and with wrong classes, as every fourth image's results."""
    data = read_coco(coco_mini / "annotations" / "instances_val2017.json", coco_mini / "val2017")
    same(data, [f for f in detections(data) if f["image_id"] % 4 == 0])
