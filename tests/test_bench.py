"""Models side by side: stages counted by a meter with known answers, arithmetic by closed forms, plain forms as oracles."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from command import seanet
from seanet.bench.calibrated import calibrate_head, settle, spread
from seanet.bench.contenders import SURVIVORS, Contender, Setting, contenders, passing
from seanet.bench.fixed import Proposals, around, dense, ellipse, photograph, samples, unit_boxes, write_photographs
from seanet.bench.largest import largest_batch
from seanet.bench.measure import files_of_turns, measure, summary
from seanet.bench.memory import Peak, here
from seanet.bench.ours import Ours
from seanet.bench.plain import make_plain
from seanet.bench.profile import TOP, top_operations
from seanet.bench.stages import Counter, Part, taken
from seanet.bench.theirs import Theirs
from seanet.config import Execution
from seanet.detector import build
from seanet.errors import UserError
from seanet.recipes import recipe
from seanet.report.bench import WHOLE, chart, lines, standing, write
from seanet.rois import match_and_sample
from seanet.types import Rois

SMALL = Setting(size=(64, 96), proposals=50, detections=8, survivors=0.8, classes=4, objects=3)
PLAIN = Execution(channels_last=False, substitutes=False)


def contender(name: str) -> Contender:
    return contenders([name], PLAIN)[0]


# Names


def test_settings_stand_behind_a_colon():
    first, second, third = contenders(
        ["seanet_lite:bf16,plain", "torchvision", "mask_rcnn_r50:substitutes=off"], Execution()
    )
    assert (first.plain, first.execution.precision, first.config.recipe) == (True, "bf16", "seanet_lite")
    assert (second.theirs, second.config.backbone.name) == (True, "mobilenet_v2"), "that of the first of ours"
    assert (third.execution.substitutes, third.execution.channels_last, third.plain) == (False, True, False)


def test_the_command_wide_settings_hold_where_a_name_says_nothing():
    first, second, third = contenders(["seanet_r50", "seanet_r50:fp32", "torchvision"], Execution("bf16"), plain=True)
    assert (first.execution.precision, second.execution.precision, third.execution.precision) == (
        "bf16",
        "fp32",
        "fp32",
    )
    assert (first.plain, third.plain) == (True, False)


def test_torchvision_alone_and_with_a_backbone():
    assert contender("torchvision").config.backbone.name == "resnet50"
    assert contender("torchvision_x101").config.backbone.name == "resnext101_64x4d"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["seanet_r5"], "no recipe named"),
        (["seanet_lite:fast"], "no setting 'fast'"),
        (["seanet_lite:substitutes=maybe"], "no setting 'substitutes=maybe'"),
        (["seanet_lite", "seanet_lite"], "named twice"),
        (["torchvision:bf16"], "takes no settings"),
        (["torchvision_r18"], "known are torchvision"),
        (["seanet_swin_t", "torchvision"], "torchvision builds no Mask R-CNN"),
    ],
)
def test_names_that_mean_nothing(names, message):
    with pytest.raises(UserError, match=message):
        contenders(names, Execution())


def test_a_contender_survives_json():
    before = replace(contender("seanet_lite:bf16,plain"), checkpoint=Path("somewhere"))
    assert Contender.from_dict(json.loads(json.dumps(before.to_dict()))) == before


# Stages


class Steps(nn.Module):
    """Methods that take known numbers of steps."""

    at = 0.0

    def forward(self) -> None:
        self.at += 2
        self.inner()
        self.at += 1

    def inner(self) -> None:
        self.at += 5


def test_stages_add_up_and_leave_no_trace():
    steps = Steps()

    def action() -> None:
        steps()
        steps.inner()
        steps.at += 100  # between the stages
        steps()

    parts = [Part("outer", steps), Part("inner", steps, "inner"), Part("never", Steps, "train")]
    assert taken(action, parts, Counter(lambda: steps.at)) == {"outer": 6, "inner": 15}
    assert not {"forward", "inner"} & set(vars(steps))
    assert Steps.train is nn.Module.train


def test_what_was_replaced_comes_back_after_a_mistake():
    steps = Steps()
    own = steps.inner = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        taken(lambda: steps.inner(), [Part("inner", steps, "inner")], Counter(lambda: steps.at))
    assert steps.inner is own


def test_ratios_are_medians_of_turns():
    """The machine is ten times slower in the second turn; medians of the times alone would say 2.5."""
    assert summary([2.0, 30.0, 4.0], [1.0, 10.0, 4.0])["ratio"] == 2
    assert summary([2.0], None)["ratio"] is None


# What stands still


def test_photographs_are_images_of_the_size(tmp_path):
    from seanet.data.images import read_image

    files = write_photographs(tmp_path, replace(SMALL, batch=2))
    assert [read_image(file).shape for file in files] == [(*SMALL.file, 3)] * 2
    assert files[0].read_bytes() == photograph(SMALL.file, 0) != files[1].read_bytes()


def test_turns_cycle_through_images():
    paths = [Path(name) for name in "abc"]
    turns = files_of_turns(paths, replace(SMALL, batch=2), 2, Path())
    assert turns == [[Path(a) for a in pair] for pair in ("ab", "ca", "bc")]


def test_proposals_lie_in_the_image():
    boxes = unit_boxes(500)
    assert boxes.shape == (500, 4)
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_proposals_around_objects_are_positive():
    truth = torch.tensor([[10.0, 10, 50, 90], [0, 0, 200, 20]])
    near = around(truth, 100)
    assert len(near) == 100
    assert box_iou(near, truth.repeat(50, 1)).diagonal().min() > 0.5


def test_samples_fill_the_positive_share():
    setting = replace(SMALL, proposals=1000, objects=8, size=(256, 320))
    model = Ours(contender("seanet_lite"), setting)
    truth = model.batch.targets[0]
    boxes = Proposals(1000).boxes(setting.size, truth.boxes, torch.device("cpu"))
    sampling = replace(recipe("seanet_r50").sampling)
    rois, matched = match_and_sample([boxes], model.batch.targets, sampling, [0])
    assert len(rois) == sampling.rois == 512
    assert int((matched.labels > 0).sum()) == 128


def test_dense_masks_are_the_samples():
    sample = samples(SMALL)[0]
    masks = dense(sample.masks, SMALL.size)
    sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
    assert masks.sum((1, 2)).tolist() == sides.prod(1).tolist()


def test_an_ellipse_covers_its_share():
    """pi / 4 of its box."""
    assert (ellipse(400) > 0).float().mean().item() == pytest.approx(torch.pi / 4, abs=2e-3)


# Calibration


def test_norms_take_the_statistics_of_what_they_meet():
    network = build(recipe("mask_rcnn_lite"), 2).backbone.eval()
    images = torch.rand(1, 3, 64, 64)
    settle(network, lambda: network(images))
    norm = next(m for m in network.modules() if hasattr(m, "running_var"))
    seen = []
    norm.register_forward_hook(lambda m, inputs, output: seen.append(output.clone()))
    network(images)
    assert seen[0].mean((0, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(seen[0].var((0, 2, 3), correction=0), torch.ones(seen[0].shape[1]), atol=2e-2)


def test_spread_outputs_have_the_mean_and_deviation():
    layer, inputs = nn.Linear(5, 3), torch.randn(200, 5)
    with torch.no_grad():
        outputs = spread(layer, inputs, 1.0, 2.0)
    assert torch.allclose(outputs.mean(0), torch.ones(3), atol=1e-4)
    assert torch.allclose(outputs.std(0, correction=0), torch.full((3,), 2.0), atol=1e-4)


@pytest.mark.parametrize("name", ["seanet_lite", "mask_rcnn_lite"])
def test_that_share_of_the_rois_passes_the_threshold(name):
    torch.manual_seed(0)
    head = build(recipe(name), 6).box_heads[0].eval()
    crops = torch.rand(100, 64, 7, 7)
    boxes = 50 * unit_boxes(100)
    with torch.no_grad():
        calibrate_head(head, crops, 0.05, 0.3)
        found = head.decode(crops, Rois(boxes, torch.zeros(100, dtype=torch.int64)), 0.05)
    assert int((found.cls_scores > 0.05).any(1).sum()) in range(15, 32)
    passed = len(found.scores) if name == "seanet_lite" else int((found.scores > 0.05).any(1).sum())
    assert passed == pytest.approx(30, abs=1)


@pytest.mark.parametrize("name", ["torchvision_lite", "seanet_lite", "mask_rcnn_lite", "seanet_cascade_lite"])
def test_about_the_wanted_boxes_are_found(name, tmp_path):
    setting = replace(SMALL, proposals=200, detections=20, survivors=0.3, size=(128, 160), classes=10)
    model = Theirs(contender(name), setting) if "torchvision" in name else Ours(contender(name), setting)
    files = write_photographs(tmp_path, setting)
    model.calibrate(files)
    assert len(model.predict(files)[0]) in range(14, 21)


# Plain forms


@pytest.mark.parametrize(
    "name", ["seanet_lite", "seanet_lite_fused", "seanet_lite_concat", "seanet_cascade_lite", "seanet_ms_lite"]
)
def test_plain_forms_find_the_same(name, tmp_path):
    files = write_photographs(tmp_path, SMALL)
    model = Ours(contender(name), SMALL)
    model.calibrate(files)
    del model.detector.mask_head.probability  # its own masks, not ellipses
    with torch.no_grad():
        for parameter in model.detector.mask_head.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    batch = model.resize(model.decode(files))
    rewritten = model.detector.eval().predict(batch, edges=True)
    make_plain(model.detector)
    plain = model.detector.predict(batch, edges=True)
    assert len(plain) == len(rewritten) > 0
    for field in ("labels", "scores", "cls_scores", "masks", "edges"):
        assert torch.allclose(getattr(plain, field).float(), getattr(rewritten, field).float(), atol=1e-4), field
    assert torch.allclose(plain.rois.boxes, rewritten.rois.boxes, atol=1e-3)


@pytest.mark.parametrize("name", ["seanet_lite", "seanet_lite_fused", "seanet_ms_lite"])
def test_plain_forms_learn_the_same(name):
    model = Ours(contender(name), SMALL)
    found = []
    for plain in (False, True):
        if plain:
            make_plain(model.detector)
        model.detector.zero_grad()
        loss = model.losses()
        loss.backward()
        gradients = {key: p.grad.clone() for key, p in model.detector.named_parameters() if p.grad is not None}
        found.append((loss.detach(), gradients))
    (rewritten, some), (plain, others) = found
    assert torch.allclose(rewritten, plain, rtol=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in others.values())
    for key, gradient in others.items():
        difference = gradient - some[key] if key in some else gradient
        assert float(difference.abs().max()) <= 1e-4 * largest, key


# Measured


def test_enough_proposals_pass_for_the_detections():
    assert (passing(1000, 100), passing(1000, 200), passing(100, 100)) == (SURVIVORS, 0.6, 1)


@pytest.fixture(scope="module")
def found():
    torch.set_num_threads(1)
    models = contenders(["torchvision", "seanet_lite", "seanet_lite:plain"], PLAIN)
    return measure(models, SMALL, repeats=2, memory=False)


def test_every_stage_is_there(found):
    theirs, ours, plain = (set(model["times"]) for model in found["models"].values())
    shared = {"decode", "resize", "backbone", "rpn", "box pool", "box head", "nms", "mask pool", "mask head", "rle"}
    assert theirs == shared | {"paste", "other", WHOLE}
    assert ours == plain == shared | {"other", WHOLE}
    assert set(found["stages"]) == theirs - {WHOLE}


def test_stages_and_the_rest_make_the_whole(found):
    for model in found["models"].values():
        for turn in range(2):
            parts = {stage: times["seconds"][turn] for stage, times in model["times"].items()}
            assert min(parts.values()) >= 0
            assert sum(parts.values()) == pytest.approx(2 * parts[WHOLE])


def test_the_first_model_is_one(found):
    first, *others = found["models"].values()
    assert {times["ratio"] for times in first["times"].values()} == {1}
    assert all(model["times"][WHOLE]["ratio"] > 0 for model in others)


def test_arithmetic_by_closed_forms(found):
    """torchvision's box head: two linear layers of 1024 and five numbers a class, the background among them."""
    theirs, ours, plain = found["models"].values()
    per_roi = 256 * 49 * 1024 + 1024 * 1024 + 1024 * 5 * (SMALL.classes + 1)
    assert theirs["gmac"]["box head"] * 1e9 == SMALL.proposals * per_roi
    towers = (2 + 2 + 3) * 49 * 9 * 64 * 64  # the B-IoU tower's first convolution sees twice the channels
    assert plain["gmac"]["box head"] * 1e9 == SMALL.proposals * (towers + 49 * 9 * 64 * (SMALL.classes + 5))
    assert ours["gmac"]["box head"] < plain["gmac"]["box head"]
    assert ours["gmac"]["mask head"] < plain["gmac"]["mask head"]
    assert ours["gmac"]["backbone"] == plain["gmac"]["backbone"]


def test_parameters_are_those_of_the_recipe(found):
    from seanet.detector import count_parameters

    ours = found["models"]["seanet_lite"]["parameters"]
    counts = count_parameters(build(recipe("seanet_lite"), SMALL.classes))
    assert ours[WHOLE] == counts["total"]
    assert ours["backbone"] == counts["backbone"] + counts["fpn"]


def test_it_is_told_in_words_and_pictures(found, tmp_path):
    text = "\n".join(lines(found))
    assert all(name in text for name in (*found["models"], *found["stages"], "GMAC/s", "plain forms"))
    assert "did not find as many" not in text
    fewer = found["models"] | {"few": found["models"]["seanet_lite"] | {"detections": 1}}
    assert "few 1): their masks do not cost the same" in "\n".join(lines({**found, "models": fewer}))
    page, picture, values = (write(tmp_path / f"out.{kind}", found) for kind in ("html", "svg", "json"))
    assert json.loads(values.read_text())["models"].keys() == found["models"].keys()
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
    assert "prefers-color-scheme: dark" in page.read_text()
    assert page.read_text().count("<tr>") == sum(len(model["times"]) for model in found["models"].values()) + 13 + 4


def test_a_chart_of_bars_as_long_as_the_ratios(found):
    """Two parts of the same whole: the second model takes twice the time, all of it in its backbone."""

    def model(seconds: float, ratio: float) -> dict:
        return {"times": {stage: {"median": seconds, "ratio": ratio} for stage in ("backbone", WHOLE)}}

    drawn = ElementTree.fromstring(
        standing(chart({"stages": ["backbone"], "models": {"a": model(1.0, 1.0), "b": model(2.0, 2.0)}}))
    )
    bars = [float(r.get("width")) for r in drawn.iter() if r.tag.endswith("rect") and r.get("height") == "22"]
    assert bars[1] == pytest.approx(2 * bars[0], abs=0.2)


def test_a_training_step(tmp_path):
    result = measure(contenders(["seanet_lite", "torchvision"], PLAIN), SMALL, "train", repeats=1, memory=False)
    for model in result["models"].values():
        assert {"backbone", "rpn", "box head", "mask head", "backward", "step"} < set(model["times"])
        assert model["gmac"]["backward"] > model["gmac"]["box head"]
    assert "A training step" in "\n".join(lines(result))


def test_peaks_of_stages_inside_each_other():
    """The outer stage holds 3 before and 2 after the inner one, which holds 10; 1 was there before."""

    class Held(Peak):
        held = most = 1

        def reset(self) -> None:
            self.most = self.held

        def now(self) -> int:
            return self.most

        def take(self, number: int) -> None:
            self.held += number
            self.most = max(self.most, self.held)

    meter = Held(torch.device("cpu"))
    meter.begin()
    meter.take(3)
    meter.take(-2)
    meter.begin()
    meter.take(9)
    meter.take(-9)
    assert meter.end() == 10
    meter.take(1)
    assert meter.end() == 10
    meter.begin()
    assert meter.end() == 2


def test_memory_of_each_stage(tmp_path):
    """What the heads of torchvision hold at once is in the whole; no stage holds less than nothing."""
    from dataclasses import asdict

    from safetensors.torch import save_file

    model = Ours(contender("seanet_lite"), SMALL)
    files = write_photographs(tmp_path, SMALL)
    save_file(model.network.state_dict(), tmp_path / "weights")
    order = {
        "contender": model.contender.to_dict(),
        "setting": json.loads(json.dumps(asdict(SMALL))),
        "task": "predict",
    }
    order |= {"files": [str(file) for file in files], "weights": str(tmp_path / "weights"), "threads": 1}
    peaks = here(order)
    assert {"backbone", "rpn", "rle", WHOLE} <= set(peaks)
    assert peaks[WHOLE] == max(peaks.values())


def test_the_operations_that_take_most(tmp_path):
    model = Ours(contender("mask_rcnn_lite"), SMALL)
    top = top_operations(model, "predict", write_photographs(tmp_path, SMALL))
    assert len(top) == TOP
    assert [o["seconds"] for o in top] == sorted((o["seconds"] for o in top), reverse=True)
    assert 0 < sum(o["share"] for o in top) <= 1
    assert any("conv" in o["name"] for o in top)


def test_the_largest_batch_is_a_question_for_gpus():
    with pytest.raises(UserError, match="cuda"):
        largest_batch(contender("seanet_lite"), SMALL, "predict")


# Command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seanet_r5"], "no recipe named"),
        (["seanet_convnext_t", "torchvision"], "torchvision builds no Mask R-CNN"),
        (["seanet_lite", "--precision", "fp8"], "--precision fp8"),
        (["seanet_lite", "--out", "a.pdf"], "ending in .json"),
        (["seanet_lite", "--profile", "--largest"], "name one of them"),
        (["seanet_lite", "--profile", "--out", "a.json"], "--out takes"),
        (["seanet_cascade_lite:plain", "--train"], "no plain form in training"),
        (["seanet_lite", "--train", "--images", "."], "makes its own images"),
        (["seanet_lite", "--largest", "--device", "cpu"], "it needs --device cuda"),
        (["seanet_lite", "--device", "nowhere"], "nowhere"),
        (["seanet_lite:tf32", "--device", "cpu"], "tf32"),
    ],
)
def test_mistakes(arguments, message):
    assert message in seanet("bench", *arguments, code=2).output


def test_compiling_needs_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "needs a compiler" in seanet("bench", "seanet_lite", "--compile", "--device", "cpu", code=2).output


def test_the_command_measures(tmp_path):
    out = tmp_path / "bench.json"
    small = ["--size", 64, 96, "--proposals", 30, "--detections", 5, "--repeats", 1, "--no-memory", "--device", "cpu"]
    result = seanet("bench", "mask_rcnn_lite", *small, "--json", "--out", out)
    found = json.loads(result.stdout)
    assert found["models"].keys() == {"mask_rcnn_lite"}
    assert found["setting"]["size"] == [64, 96]
    assert json.loads(out.read_text()) == found
