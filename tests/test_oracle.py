"""Oracles on detections of squares, whose AP can be told by hand, and on a small model."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as codec
from typer.testing import CliRunner

from seanet import checkpoint
from seanet.cli import app
from seanet.data.bitmaps import Bitmap
from seanet.data.coco import Annotation
from seanet.data.loader import collate_images
from seanet.errors import UserError
from seanet.evaluation.analysis import analyse
from seanet.evaluation.fixed import draw, fixed_boxes
from seanet.evaluation.oracle import ORACLES, Scene, cut_to_box, mend, mend_results, rerun
from seanet.instances import Instances
from seanet.predict import build
from seanet.recipes import recipe
from seanet.report.analysis import fixed_text
from seanet.settings import override
from squares import NAMES, SIDE, data_of, dense, found, rle

A, B, C = (10, 10, 40, 40), (60, 60, 90, 90), (10, 60, 40, 90)
HALF_FOUND = 51 / 101  # AP where one of two objects is found first: 51 of COCO's 101 recalls
SMALL = ["backbone.norm=batch", "data.short_sides=[64]", "data.long_side=96", "detections.score=0.0"]


def instances(boxes: list, labels: list[int], cells: np.ndarray) -> Instances:
    n = len(boxes)
    one = np.ones(n, np.float32)
    return Instances(
        size=(SIDE, SIDE),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        category_ids=np.array([list(NAMES)[k - 1] for k in labels], np.int64),
        names=[NAMES[list(NAMES)[k - 1]] for k in labels],
        score=one * 0.9,
        cls_score=one * 0.9,
        box_iou=None,
        masks=np.broadcast_to(cells, (n, 28, 28)).astype(np.float32),
    )


class Stub:
    """Finds what it is told to, with the lower half of each box as mask, and draws ``cells`` in boxes that it is given."""

    config = override(recipe("seanet_lite"), SMALL)

    def __init__(self, images: list[list[tuple]], cells: np.ndarray | None = None):
        self.images, self.cells, self.seen = images, np.ones((28, 28)) if cells is None else cells, []

    def predict_batch(self, batch, sizes):
        drawn = np.repeat([0.0, 1.0], 14)[:, None] * np.ones(28)
        told = [self.images[id - 1] for id in batch.ids]
        return [instances([box for _, box in image], [label for label, _ in image], drawn) for image in told]

    def predict_inside(self, batch, sizes, boxes, labels):
        self.seen += zip(boxes, labels, strict=True)
        return [instances(list(b), k.tolist(), self.cells) for b, k in zip(boxes, labels, strict=True)]


def aps(data, reruns) -> dict[str, tuple[float, float]]:
    """AP of boxes and masks by oracle."""
    oracles = analyse(data, reruns, 100)["oracles"]
    return {name: (oracle["AP"]["bbox"], oracle["AP"]["segm"]) for name, oracle in oracles.items()}


def test_nothing_can_be_mended_in_a_perfect_result(tmp_path):
    data = data_of(tmp_path, [[(4, A), (9, B)], [(9, C)], []])
    reruns = mend_results(data, [found(1, 4, A), found(1, 9, B), found(2, 9, C)])
    numbers = analyse(data, reruns, 100)
    assert set(numbers["oracles"]) == {"plain", "no_duplicates", "masks", "classes_boxes_masks", "all"}
    for oracle in numbers["oracles"].values():
        assert oracle["AP"] == {"bbox": 1, "segm": 1, "boundary": 1}
    assert numbers["clipping"]["all"]["mean"] == 0
    assert numbers["clipping"]["histogram"][0] == {"from": 0, "to": 0, "count": 3}
    assert any("need the model" in line for line in numbers["left_out"])
    assert any("box_iou" in line for line in numbers["left_out"])


def test_wrong_classes_and_poor_masks(tmp_path):
    data = data_of(tmp_path, [[(4, A), (9, B)], [(9, C)]])
    model = Stub([[(2, A), (1, B)], [(1, C)]])
    reruns = rerun(model, data, batch=2, workers=0)
    found = aps(data, reruns)
    assert found["plain"] == found["boxes"] == found["masks"] == (0, 0)
    assert found["classes"] == found["classes_boxes"] == found["classes_boxes_masks"] == (1, 1)  # masks were drawn anew
    boxes, labels = model.seen[0]
    assert boxes.tolist() == [list(A), list(B)] * 2
    assert labels.tolist() == [1, 2, 1, 2]
    assert reruns.mended["boxes"] == reruns.plain


MOVED = (14, 10, 44, 40)  # an IoU of 26/34 with A: right at .5 to .75


def test_moved_boxes(tmp_path):
    data = data_of(tmp_path, [[(4, A)]])
    numbers = aps(data, rerun(Stub([[(1, MOVED)]]), data, workers=0))
    assert numbers["plain"] == pytest.approx((0.6, 0))  # lower halves: IoU 13/47
    assert numbers["classes"] == numbers["plain"]
    assert numbers["boxes"] == (1, 1)
    assert numbers["masks"] == pytest.approx((0.6, 0.8))  # 26/30 of the object lie in the box: right at .5 to .85


def test_moved_boxes_of_wrong_classes(tmp_path):
    data = data_of(tmp_path, [[(4, A)]])
    numbers = aps(data, rerun(Stub([[(2, MOVED)]]), data, workers=0))
    assert numbers["plain"] == numbers["boxes"] == (0, 0)
    assert numbers["classes"] == pytest.approx((0.6, 0.6))  # the mask fills the box that was found
    assert numbers["classes_boxes"] == (1, 1)


def test_duplicates(tmp_path):
    data = data_of(tmp_path, [[(4, A), (4, B)]])
    entries = [found(1, 4, A, 0.9), found(1, 4, (10, 10, 40, 39), 0.8), found(1, 4, B, 0.7), found(1, 4, C, 0.1)]
    reruns = mend_results(data, entries)
    numbers = aps(data, reruns)
    assert numbers["plain"][0] == numbers["classes_boxes_masks"][0] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert numbers["no_duplicates"] == numbers["all"] == (1, 1)
    assert [entry["score"] for entry in reruns.mended["no_duplicates"]] == [0.9, 0.7, 0.1]
    assert analyse(data, reruns, 100)["oracles"]["no_duplicates"]["changed"] == 1


def test_what_no_box_found_stays_lost(tmp_path):
    data = data_of(tmp_path, [[(4, A), (4, B)]])
    numbers = aps(data, mend_results(data, [found(1, 4, A), found(1, 4, C, 0.5)]))
    assert [ap for ap, _ in numbers.values()] == pytest.approx([HALF_FOUND] * len(numbers))


def test_detections_without_an_object_are_left_alone(tmp_path):
    data = data_of(tmp_path, [[(4, A), (9, B, True)]])
    entries = [found(1, 9, C), found(1, 9, B), found(1, 4, (10, 10, 40, 24))]  # nothing, a crowd, an IoU of 14/30
    scene = Scene.of(data.images[0], entries, data.categories.ids)
    for mended in mend(scene, [rle(*A)]).values():
        assert all(entry is own for entry, own in zip(mended, entries, strict=True))


def test_of_two_objects_in_one_box_a_detection_keeps_its_own(tmp_path):
    data = data_of(tmp_path, [[(4, A), (9, A), (4, B)]])
    scene = Scene.of(data.images[0], [found(1, 9, A), found(1, 4, A), found(1, 9, B)], data.categories.ids)
    assert scene.any.tolist() == [1, 0, 2]
    assert scene.same.tolist() == [1, 0, -1]
    assert scene.misnamed == [2]


def test_masks_in_fixed_boxes(tmp_path):
    data = data_of(tmp_path, [[(4, A), (9, B), (9, C, True)], []])
    full = fixed_boxes(Stub([[], []]), data, batch=2, workers=0)
    assert (full["mask_iou"], full["objects"], full["images"]) == (1, 2, 2)
    assert full["bands"]["all"]["TA"]["3px"] == 1
    assert full["bands"]["all"]["offset"] == 0
    assert "true boxes of 2 objects: mask IoU 1.000" in fixed_text(full)
    left = fixed_boxes(Stub([[], []], np.ones((28, 1)) * np.repeat([1.0, 0.0], 14)), data, workers=0)
    assert left["mask_iou"] == pytest.approx(0.5)
    none = fixed_boxes(Stub([[], []], np.zeros((28, 28))), data, workers=0)
    assert none["mask_iou"] == 0
    assert none["bands"]["all"]["matched"] == 2  # a mask too poor to be matched counts all the same
    # Labelled right is what of the band lies outside: 4 x 30 x 3 inside less corners, outside with round corners.
    inside = 30**2 - 24**2
    outside = none["bands"]["all"]["TA"]["3px"]
    assert outside == pytest.approx(1 - inside / (inside + 4 * 30 * 3 + 4 * corner(3)))


def test_the_most_that_cells_can_show(tmp_path):
    """A square fills its box, so cells of any number show it; other shapes they show as far as they go."""
    data = data_of(tmp_path, [[(4, A), (9, B), (9, C, True)], []])
    ceiling = fixed_boxes(Stub([[], []], np.zeros((28, 28))), data, workers=0)["ceiling"]
    assert (ceiling["cells"], ceiling["mask_iou"]) == (28, 1)
    assert ceiling["bands"]["all"]["TA"]["1px"] == 1
    # An L of three quadrants of 4 x 4 pixels: one cell says no more than that over half is covered; 2 x 2 cells hold it,
    # but between their centres the inner corner is rounded: of its pixels one, at .375 x .375, is more than half covered.
    bits = np.zeros((40, 40), np.uint8, order="F")
    bits[20:28, 10:18] = 1
    bits[20:24, 14:18] = 0
    shape = Annotation(1, 1, 1, (10.0, 20.0, 18.0, 28.0), codec.encode(bits), 48.0, False)
    for cells, pixels in ((1, 64), (2, 49)):
        (drawn,) = draw([shape], (40, 40), cells, "aligned")
        assert codec.decode(drawn).sum() == pixels
    assert draw([], (40, 40), 28, "aligned") == []


def corner(width: int) -> int:
    """Pixels within a distance of a corner, in the quadrant beyond it."""
    return sum(np.hypot(x + 0.5, y + 0.5) <= width for x in range(width) for y in range(width))


def test_results_without_detections(tmp_path):
    data = data_of(tmp_path, [[(4, A)]])
    numbers = analyse(data, mend_results(data, []), 100)
    assert {ap for oracle in numbers["oracles"].values() for ap in oracle["AP"].values()} == {0}
    assert numbers["clipping"]["all"] == {"objects": 1, "found": 0} | dict.fromkeys(
        ("mean", "median", "over 1%", "over 5%", "over 10%")
    )
    assert "there is not one detection" in numbers["left_out"]


def test_data_without_objects(tmp_path):
    data = data_of(tmp_path, [[(4, A, True)], []])
    for ask in (lambda: mend_results(data, []), lambda: fixed_boxes(Stub([[], []]), data, workers=0)):
        with pytest.raises(UserError, match="no object"):
            ask()


sides = st.floats(-5, 30, width=32)


@given(arrays(np.uint8, (9, 7), elements=st.integers(0, 1)), sides, sides, sides, sides)
def test_cutting_keeps_pixels_whose_centre_is_inside(bits, x0, y0, x1, y1):
    y, x = np.mgrid[:20, :25] + 0.5
    mask = np.zeros((20, 25), np.uint8)
    mask[4:13, 11:18] = bits
    code = cut_to_box(Bitmap(bits, 11, 4), (x0, y0, x1, y1), (20, 25))
    assert np.array_equal(dense(code), mask * ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build(override(recipe("seanet_ms_lite"), SMALL), list(NAMES.values()))
    model.categories = type(model.categories)(tuple(NAMES), tuple(NAMES.values()))
    torch.nn.init.constant_(model.detector.box_heads[0].iou.bias, 0.7)
    return model


def test_masks_inside_the_boxes_that_were_found_are_those_that_were_found(model):
    rng = np.random.default_rng(0)
    batch = collate_images([rng.integers(0, 256, size, dtype=np.uint8) for size in ((64, 96, 3), (64, 80, 3))])
    sizes = [(128, 240), (64, 80)]  # the first file is larger than what the network sees, and of another shape
    before = model.predict_batch(batch, sizes)
    assert all(len(found) > 5 for found in before)
    backwards = [found[::-1] for found in before]
    after = model.predict_inside(batch, sizes, [f.boxes for f in backwards], [f.labels for f in backwards])
    for one, other in zip(backwards, after, strict=True):
        assert other.size == one.size
        assert np.allclose(other.boxes, one.boxes, atol=1e-3)
        assert np.array_equal(other.category_ids, one.category_ids)
        assert np.abs(other.masks - one.masks).max() < 1e-3
    nothing = [np.zeros((0, 4), np.float32)] * 2, [np.zeros(0, np.int64)] * 2
    assert [len(found) for found in model.predict_inside(batch, sizes, *nothing)] == [0, 0]


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_run_is_analysed(model, tmp_path):
    data_of(tmp_path, [[(4, A)], [(9, B), (4, C)]])
    meta = checkpoint.Meta(model.config, model.categories.names, model.categories.ids)
    checkpoint.save_model(tmp_path / "best.safetensors", model.detector.state_dict(), meta)
    page = tmp_path / "a.html"
    said = run(
        "analyse", tmp_path, "--data", tmp_path, "--device", "cpu", "--max-detections", 20, "--json", "--out", page
    )
    assert said.exit_code == 0, said.output
    numbers = json.loads(said.stdout)
    assert set(numbers["oracles"]) == {"plain", *ORACLES}
    assert numbers["fixed_boxes"]["objects"] == 3
    assert numbers["max_detections"] == 20
    assert numbers["calibration"]["box_iou"]["detections"] == numbers["detections"] > 0
    assert numbers["calibration"]["mask_iou"]["detections"] == numbers["detections"]
    assert numbers["left_out"] == []
    assert page.read_text().count("<svg") == 10
    fixed = run("val", tmp_path, "--data", tmp_path, "--device", "cpu", "--fixed-boxes", "--json")
    assert fixed.exit_code == 0, fixed.output
    assert json.loads(fixed.stdout)["objects"] == 3
    assert "true boxes" in run("val", tmp_path, "--data", tmp_path, "--device", "cpu", "--fixed-boxes").stdout


def test_results_are_analysed(tmp_path):
    data_of(tmp_path, [[(4, A)], [(9, B), (4, C)]])
    file = tmp_path / "results.json"
    file.write_text(json.dumps([found(1, 4, A), found(2, 4, B)]))
    said = run("analyse", file, "--data", tmp_path)
    assert said.exit_code == 0, said.output
    assert "true classes + boxes + masks" in said.stdout
    assert "left out: true classes, true boxes" in said.stdout
    file.write_text(json.dumps([found(1, 4, A) | {"box_iou": 0.75}]))
    numbers = json.loads(run("analyse", file, "--data", tmp_path, "--json").stdout)
    assert numbers["calibration"]["box_iou"]["bias"] == pytest.approx(-0.25)
    refused = run("val", file, "--data", tmp_path, "--fixed-boxes")
    assert refused.exit_code == 2
    assert "are for checkpoints" in refused.stderr


def test_mistakes_are_one_line(tmp_path):
    data_of(tmp_path, [[(4, A, True)]])
    (tmp_path / "results.json").write_text("[]")
    for words, sentence in {
        ("analyse", tmp_path / "no.json", "--data", tmp_path): "does not exist",
        ("analyse", tmp_path / "results.json"): "--data DIR is needed",
        ("analyse", tmp_path / "results.json", "--data", tmp_path): "no object",
        ("analyse", tmp_path / "results.json", "--data", tmp_path, "--device", "cpu"): "for checkpoints",
    }.items():
        said = run(*words)
        assert said.exit_code == 2, said.output
        assert sentence in said.stderr
        assert "Traceback" not in said.stderr
