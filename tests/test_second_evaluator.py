"""AP and AR equal those of a second library, which shares no code with the one that computes ours."""

import json
from pathlib import Path

import hotcoco
import pytest

from found import detections, write
from seanet.data.coco import CocoData, read_coco
from seanet.evaluation.coco import score

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def theirs(data: CocoData, found: list[dict], kind: str, folder: Path) -> dict[str, float]:
    other = "segmentation" if kind == "bbox" else "bbox"
    (folder / "found.json").write_text(json.dumps([{k: v for k, v in f.items() if k != other} for f in found]))
    truth = hotcoco.COCO(str(data.file))
    evaluation = hotcoco.COCOeval(truth, truth.load_res(str(folder / "found.json")), kind)
    evaluation.run()
    return evaluation.get_results()


def same(data: CocoData, found: list[dict], folder: Path) -> None:
    ours = score(data, found, 100)
    for kind in ("bbox", "segm"):
        expected = theirs(data, found, kind, folder)
        for name in NAMES:
            value = expected[name] if expected[name] >= 0 else None
            assert ours[kind][name] == pytest.approx(value, abs=1e-9), (kind, name)
        assert ours[kind]["AR"] == pytest.approx(expected["AR100"], abs=1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("images", "objects", "crowd"), [(12, 6, 0.15), (3, 300, 0.0), (8, 5, 0.6)])
def test_random_results(tmp_path, images, objects, crowd, ties):
    """Crowd regions, more than 100 detections, a class without objects, an image without any, ties."""
    data = write(tmp_path, images=images, objects=objects, crowd=crowd)
    same(data, detections(data, ties=ties), tmp_path)


def test_results_on_photographs(coco_mini, tmp_path):
    """The truth of COCO, moved about and with wrong classes, as every fourth image's results."""
    data = read_coco(coco_mini / "annotations" / "instances_val2017.json", coco_mini / "val2017")
    same(data, [f for f in detections(data) if f["image_id"] % 4 == 0], tmp_path)
