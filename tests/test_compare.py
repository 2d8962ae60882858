"""``seanet compare``: figures equal the evaluation's, differences are paired, the page stands alone, mistakes are named."""

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from command import seanet
from found import detections, rle, write
from seanet.data.bitmaps import Bitmap
from seanet.data.coco import CocoData, read_coco
from seanet.errors import UserError
from seanet.evaluation.assess import assess
from seanet.evaluation.bootstrap import draws, mean_precision
from seanet.evaluation.boundary import NAMES
from seanet.evaluation.compare import Change, Row, compare, figures
from seanet.evaluation.matching import greedy, judged
from seanet.evaluation.sizes import hits_by_size
from seanet.report.cases import choose, view_of, wrong
from seanet.report.cells import Cell, changed
from seanet.report.charts import bar_chart, line_chart
from seanet.report.comparison import write_comparison

SIDE = 96  # pixels of an image of squares
CORNERS = ((8, 8), (60, 8), (8, 60), (60, 60))  # of four squares in it


def square(x: int, y: int) -> np.ndarray:
    bits = np.zeros((SIDE, SIDE), np.uint8)
    bits[y : y + 24, x : x + 24] = 1
    return bits


def entry(image_id: int, x: int, y: int, score: float = 0.9, category: int = 3) -> dict:
    found = {"image_id": image_id, "category_id": category, "score": score, "bbox": [x, y, 24, 24]}
    return found | {"segmentation": rle(square(x, y))}


@pytest.fixture
def squares(tmp_path):
    """Three images of four squares each, in a folder as exporters lay it out; its results files come beside it."""
    folder = tmp_path / "data" / "val"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for i in (1, 2, 3):
        Image.fromarray(noise.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(folder / f"{i}.png")
    objects = [
        {**entry(i, x, y), "id": 10 * i + j, "area": 576, "iscrowd": 0}
        for i in (1, 2, 3)
        for j, (x, y) in enumerate(CORNERS)
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE} for i in (1, 2, 3)],
        "categories": [{"id": 3, "name": "square"}, {"id": 7, "name": "circle"}],
        "annotations": objects,
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return tmp_path / "data"


def results(folder, name: str, moved: list[int | None]):
    """A results file in which the squares of every image lie that far to the right; None is not found."""
    found = [
        entry(i, x + by, y) for i in (1, 2, 3) for by, (x, y) in zip(moved, CORNERS, strict=True) if by is not None
    ]
    path = folder.parent / name
    path.write_text(json.dumps(found))
    return path


def read(folder) -> CocoData:
    return read_coco(folder / "val" / "_annotations.coco.json", folder / "val")


@pytest.fixture
def pair(squares):
    """A and B: B is worse on the first square, better on the second, and each misses one that the other finds."""
    a, b = results(squares, "a.json", [0, 3, 0, None]), results(squares, "b.json", [2, 0, None, 0])
    return compare(read(squares), [a, b], resamples=200)


def test_values_are_those_of_the_evaluation(tmp_path):
    data = write(tmp_path)
    both = [assess(data, detections(data, seed), 100) for seed in (0, 1)]
    rows = {row.key: row for row in figures(data, both, draws(len(data.images), 50, 0), 100)}
    for i, metrics in enumerate(a.metrics for a in both):
        for kind in ("bbox", "segm", "boundary"):
            for name in ("AP", "AP50", "AP75"):
                assert rows[f"{kind}/{name}"].values[i] == metrics[kind][name]
        bands = metrics["bands"]["all"]
        for name in ("TA", "TA@R", "band_iou", "boundary_f"):
            assert [rows[f"{name}/{width}"].values[i] for width in NAMES] == pytest.approx(list(bands[name].values()))
        for name in ("offset", "hausdorff95"):
            assert rows[name].values[i] == pytest.approx(bands[name])
        assert rows["found"].values[i] == bands["matched"] / bands["objects"]
    for row in rows.values():
        change = row.changes[0]
        assert math.isnan(change.by) or change.by == row.values[1] - row.values[0]
        assert math.isnan(change.low) or change.low <= change.high
    assert rows["TA common/3px"].values[0] != rows["TA/3px"].values[0]


@pytest.mark.parametrize("limit", [100, 3])
def test_hits_by_size_give_the_librarys_ap(tmp_path, limit):
    data = write(tmp_path, images=20, seed=3)
    measured = assess(data, detections(data, 2), limit)
    ones = np.ones((1, len(data.images)), np.int32)
    for name, hits in hits_by_size(data, measured, limit).items():
        wanted = measured.metrics["segm"][f"AP{name[0]}"]
        found = mean_precision(hits, ones).mean()
        assert math.isnan(found) if wanted is None else found == pytest.approx(wanted, abs=1e-12)
    assert 0 < measured.metrics["segm"]["APs"] < measured.metrics["segm"]["APm"] < 1


def test_hits_by_size_give_the_librarys_ap_on_coco(coco_mini):
    data = read_coco(coco_mini / "annotations" / "instances_val2017.json", coco_mini / "val2017")
    data = replace(data, images=data.images[:10])
    measured = assess(data, detections(data, 2), 100)
    for name, hits in hits_by_size(data, measured, 100).items():
        found = mean_precision(hits, np.ones((1, 10), np.int32)).mean()
        assert found == pytest.approx(measured.metrics["segm"][f"AP{name[0]}"], abs=1e-12)


def test_objects_first_then_what_is_set_aside_and_crowds_are_shared():
    ious = np.array([[0.9, 0.6, 0.0], [0.9, 0.8, 0.0], [0.9, 0.0, 0.0], [0.0, 0.0, 0.7], [0.0, 0.0, 0.7]])
    crowd, aside = np.array([False, False, True]), np.array([True, False, True])
    true, ignored = judged(greedy(ious, crowd, np.array([0.5, 0.75]), aside), aside)
    assert true.tolist() == [[True, False, False, False, False], [False, True, False, False, False]]
    assert ignored.tolist() == [[False, True, False, True, True], [True, False, False, False, False]]


def test_a_model_differs_from_itself_by_nothing(squares):
    path = results(squares, "a.json", [0, 3, 0, None])
    found = compare(read(squares), [path, path], resamples=100)
    for row in found.rows:
        (change,) = row.changes
        assert not change.sure
        assert math.isnan(change.by) or (change.by, change.low, change.high) == (0, 0, 0)


def test_differences_of_shifted_squares(pair):
    """Every image is alike, so draws do not move the means, and intervals close on the differences."""
    row = pair.row
    assert row["found"].values == (0.75, 0.75)
    assert row["offset"].values[1] < row["offset"].values[0]
    # The band of 1 px around a square of 24 has 92 pixels inside and 100 outside.  Moved by d to the right, a square
    # misses a column of 24 and d - 1 more above and below it, and takes a column of 24.
    by_three, by_two = 1 - (24 + 4 + 24) / 192, 1 - (24 + 2 + 24) / 192
    assert row["TA/1px"].values == pytest.approx([(1 + by_three + 1) / 3, (by_two + 1 + 1) / 3])
    assert row["TA@R/1px"].values == pytest.approx([(1 + by_three + 1) / 4, (by_two + 1 + 1) / 4])
    assert row["TA common/1px"].values == pytest.approx([(1 + by_three) / 2, (by_two + 1) / 2])
    for name in ("TA/3px", "TA@R/3px", "found"):
        change = row[name].changes[0]
        assert (change.low, change.high) == pytest.approx((change.by, change.by))
    assert row["TA/3px"].changes[0].by > 0
    assert row["TA/3px"].changes[0].sure


def test_cases_are_the_largest_gain_and_loss_and_what_one_misses(pair):
    found = choose(pair, 12)
    assert {kind: [case.row % 4 for case in cases] for kind, cases in found.items()} == {
        "gain": [1, 1, 1],
        "loss": [0, 0, 0],
        "only B": [3, 3, 3],
        "only A": [2, 2, 2],
    }
    assert all(case.by > 0 for case in found["gain"])
    assert all(case.by < 0 for case in found["loss"])
    few = choose(pair, 5)
    assert [len(cases) for cases in few.values()] == [2, 2, 1, 0]
    assert not any(choose(pair, 0).values())


def test_errors_in_the_band():
    truth, found = Bitmap(np.ones((20, 20), np.uint8), 10, 10), Bitmap(np.ones((20, 20), np.uint8), 12, 10)
    near = Bitmap(np.ones((26, 26), np.uint8), 7, 7)
    added, missed = wrong(truth, found, near)
    assert (added.area, missed.area) == (40, 40)
    assert added.tight().window == (30, 10, 32, 30)
    assert missed.tight().window == (10, 10, 12, 30)
    assert wrong(truth, Bitmap(np.zeros((0, 0), np.uint8)), near)[1].area == 400


def test_views_hold_the_object_and_stay_inside_the_image(squares):
    image = read(squares).images[0]
    truth = Bitmap(np.ones((24, 24), np.uint8), 60, 8)
    far = Bitmap(np.ones((1, 96), np.uint8), 0, 40)
    for masks in ([], [far]):
        view = view_of(image, truth, masks)
        x0, y0, x1, y1 = view.window
        assert 0 <= x0 <= 60
        assert 0 <= y0 <= 8
        assert 84 <= x1 <= SIDE
        assert 32 <= y1 <= SIDE
        bits = view.bits(truth)
        assert bits.shape == view.size[::-1]
        assert bits.mean() == pytest.approx(24 * 24 / ((x1 - x0) * (y1 - y0)), rel=0.03)


def test_page_stands_alone(pair, tmp_path):
    pair = replace(pair, contenders=(replace(pair.contenders[0], name="<b>&"), pair.contenders[1]))
    written = write_comparison(tmp_path / "out" / "page.html", pair, 6)
    text = written.path.read_text(encoding="utf-8")
    assert written.pictures == 6
    assert not written.unreadable
    assert text.count("<article") == 6
    assert text.count("<img") == 6 * 3 * 2
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', text))
    assert not re.search(r"href=|@import|url\(|<script|http", re.sub(r"base64,[^\"]*", "", text))
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text
    assert "worse" in text
    best = [contender.assessment.metrics["best_f1"] for contender in pair.contenders]
    assert all(f"{found['F1']:.3f}, of what scores over" in text for found in best)
    assert "better" in text
    assert [p.name for p in written.path.parent.iterdir()] == ["page.html"]


def test_an_image_that_cannot_be_read_is_said_on_the_page(pair, tmp_path):
    first, *others = pair.data.images
    first.path.write_bytes(b"not an image")
    others[0].path.unlink()
    Image.new("RGB", (10, 10)).save(others[1].path)
    written = write_comparison(tmp_path / "page.html", pair, 12)
    assert written.pictures == 0
    assert len(written.unreadable) == 12
    text = written.path.read_text(encoding="utf-8")
    for image in pair.data.images:
        assert any(str(image.path) in line for line in written.unreadable)
        assert str(image.path) in text


@pytest.mark.parametrize(
    ("change", "better", "verdict"),
    [
        ((0.2, 0.1, 0.3), 1, "better"),
        ((-2, -3, -1), -1, "better"),
        ((2, 1, 3), -1, "worse"),
        ((2, 1, 3), 0, "differs"),
        ((0.2, -0.1, 0.3), 1, ""),
        ((0.2, math.nan, math.nan), 1, ""),
    ],
)
def test_verdicts(change, better, verdict):
    row = Row("k", "g", "n", "px", better, (0.0,), ())
    assert changed(Change(*change), row).verdict == verdict


def test_differences_that_round_to_nothing_have_no_sign():
    row = Row("k", "g", "n", "share", 1, (0.0,), ())
    assert changed(Change(-0.0001, -0.004, 0.012), row) == Cell("0.0", "−0.4 … +1.2", "")
    assert changed(Change(math.nan, math.nan, math.nan), row) == Cell("-")


def test_an_interval_that_leaves_out_zero_does_not_end_at_it():
    row = Row("k", "g", "n", "share", 1, (0.0,), ())
    assert changed(Change(-0.067, -0.103, -0.0004), row) == Cell("−6.7", "−10.3 … −0.04", "worse")
    assert changed(Change(-0.067, -0.103, 0.0), row) == Cell("−6.7", "−10.3 … 0.0", "")


def test_bars_are_as_long_as_their_values():
    nan = float("nan")
    svg = bar_chart({"a & b": [0.5, 0.25], "none": [nan, 0.0]}, ["A <1>", "B"], "T", width=420)
    tree = ElementTree.fromstring(svg)
    bars = [float(rect.get("width")) for rect in tree.iter("rect") if rect.get("height") == "9"]
    assert bars[0] == pytest.approx(2 * bars[1], abs=0.1)
    assert bars[2:] == [0]
    assert "nan" not in svg
    assert all(118 + bar < 420 - 40 for bar in bars)
    ElementTree.fromstring(bar_chart({}, ["A"], "T"))


def test_axes_reach_as_far_as_wanted():
    tree = ElementTree.fromstring(line_chart({"a": [(0.2, 0.1)]}, "T", size=(420, 290), up_to=(1, 1)))
    texts = [text.text for text in tree.iter("text")]
    assert texts.count("1") == 2
    assert texts.count("0") == 2


def test_command_of_two_results_files_never_imports_torch(squares):
    a, b = results(squares, "a.json", [0, 3, 0, None]), results(squares, "b.json", [2, 0, None, 0])
    out = squares.parent / "page.html"
    args = ["compare", a, b, "--data", squares, "--out", out, "--resamples", 100, "--images", 4, "--json"]
    code = "import sys; from seanet.cli import app; app(sys.argv[1:], standalone_mode=False); assert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert found["page"] == str(out)
    assert found["pictures"] == 4
    assert out.stat().st_size > 10_000
    assert [model["kind"] for model in found["models"]] == ["results", "results"]
    assert found["data"]["objects"] == 12
    figure = found["figures"]["segm/AP"]
    assert figure["values"] == [model["metrics"]["segm"]["AP"] for model in found["models"]]
    assert figure["differences"][0]["by"] == figure["values"][1] - figure["values"][0]


def test_no_detections_are_a_result_too(squares):
    none, b = results(squares, "none.json", [None] * 4), results(squares, "b.json", [0, 0, 0, 0])
    out = squares.parent / "page.html"
    result = seanet("compare", none, b, "--data", squares, "--out", out, "--resamples", 100, "--images", 1)
    assert f"{none}: no detections" in result.stdout
    assert "100.0" in result.stdout
    assert out.exists()


def refused(squares, *models: object, options: tuple = ()) -> str:
    out = squares.parent / "page.html"
    result = seanet("compare", *models, "--data", squares, "--out", out, *options, code=2)
    assert not out.exists()
    assert not result.stdout
    assert result.stderr.count("error:") == 1
    return result.stderr


def test_mistakes_are_one_sentence(squares):
    good = results(squares, "a.json", [0, 0, 0, 0])
    assert "at least two" in refused(squares, good)
    assert "two to 8" in refused(squares, *[good] * 9)
    assert "does not exist" in refused(squares, good, squares.parent / "no.json")
    assert "is a folder" in refused(squares, good, good, options=("--out", squares))
    assert "--device" in refused(squares, good, good, options=("--device", "cpu"))
    assert "--data" in seanet("compare", good, good, code=2).stderr
    other = squares.parent / "other.json"
    other.write_text(json.dumps([entry(i, 8, 8) for i in (1, 41, 42)]))
    said = refused(squares, good, other)
    assert str(other) in said
    assert "41" in said
    other.write_text(json.dumps([entry(1, 8, 8, category=5)]))
    assert "category" in refused(squares, good, other)
    content = json.loads((squares / "val" / "_annotations.coco.json").read_text())
    (squares / "val" / "_annotations.coco.json").write_text(json.dumps(content | {"annotations": []}))
    assert "no object" in refused(squares, good, good)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint that has learnt nothing, whose classes stand in another order than the data's, one more among them."""
    import torch

    from seanet.checkpoint import Meta, save_model
    from seanet.predict import build
    from seanet.recipes import recipe
    from seanet.settings import override

    torch.manual_seed(0)
    changes = ["detections.score=0.0", "detections.limit=4", "data.short_sides=[64]", "backbone.norm=batch"]
    config, names = override(recipe("mask_rcnn_lite"), changes), ("circle", "star", "square")
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save_model(path, build(config, names).detector.state_dict(), Meta(config, names, (1, 2, 3), 2.5, 70))
    return path


def test_models_and_results_mixed(squares, model):
    a = results(squares, "a.json", [0, 0, 0, 0])
    out = squares.parent / "page.html"
    run = seanet(
        *("compare", a, model, "--data", squares, "--out", out, "--images", 1),
        *("--resamples", 100, "--max-detections", 5, "--json"),
    )
    found = json.loads(run.stdout)["models"][1]
    assert (found["kind"], found["recipe"], found["epoch"], found["step"]) == ("model", "mask_rcnn_lite", 2.5, 70)
    assert found["latency"]["images"] == 3
    assert found["latency"]["ms"] > 0
    assert found["parameters"] > 1e6
    assert found["detections"] + found["left_out"] == 15
    assert found["metrics"]["max_detections"] == 5
    page = out.read_text(encoding="utf-8")
    assert "recipe mask_rcnn_lite, weights " in page
    assert "epoch 2.5, step 70" in page


def test_a_models_classes_get_the_ids_of_the_data(squares, model):
    from seanet.evaluation.timed import UNKNOWN, classes

    data = read(squares)
    assert classes(model, data).ids == (7, UNKNOWN, 3)
    other = replace(data, categories=replace(data.categories, names=("hexagon", "circle")))
    with pytest.raises(UserError, match=r"'hexagon'.*knows 'circle', 'star', 'square'"):
        classes(model, other)
