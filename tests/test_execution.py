"""How a model is run changes its results by rounding only, and what a device cannot do is said before any work."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d
from typer.testing import CliRunner

from builders import batch_of, target
from seanet.backbone import FrozenNorm
from seanet.cli import app
from seanet.config import Execution
from seanet.errors import UserError
from seanet.execution import PLAIN, require, running, tensor_float
from seanet.predict import Model, build
from seanet.recipes import recipe
from seanet.settings import override

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SIZE = 96, 128


def fit(norm: nn.BatchNorm2d, maps: tuple[torch.Tensor]) -> None:
    """Else maps of random weights vanish on their way through the stages."""
    norm.running_var.fill_(maps[0].var())


def model(name: str, *changes: str) -> Model:
    """One whose scores, boxes and masks differ from RoI to RoI, as trained ones do."""
    torch.manual_seed(0)
    found = build(override(recipe(name), ["backbone.norm=batch", "rpn.after_nms=[60,60]", *changes]), 3)
    norms = [m for m in found.detector.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(fit) for norm in norms]
    with torch.no_grad():
        found.detector.features(batch_of(noise()))
        for hook in hooks:
            hook.remove()
        for parameter in found.detector.parameters():
            if parameter.ndim == 0:  # gamma, which starts as nothing
                parameter.fill_(0.5)
    return found.run_with(PLAIN)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return noise()


def noise() -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, *SIZE), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def features(model: Model, execution: Execution, image: torch.Tensor) -> list[torch.Tensor]:
    if model.execution != execution:
        model.run_with(execution)
    with torch.no_grad(), running(execution, CPU):
        return model.detector.features(batch_of(image))[1]


def heads(model: Model, execution: Execution, crops: dict[int, torch.Tensor]) -> list[torch.Tensor]:
    """Logits and ltrb of the box head, logits of the mask head."""
    if model.execution != execution:
        model.run_with(execution)
    detector = model.detector
    with torch.no_grad(), running(execution, CPU):
        outputs = [*detector.box_heads[0](crops[7]), *detector.mask_head(crops[14])]
    return [output for output in outputs if output is not None]


@pytest.fixture(scope="module")
def crops() -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {size: torch.randn(5, 64, size, size, generator=generator) for size in (7, 14)}


def far(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Largest difference as a share of the largest value."""
    return max(float((f - w).abs().max() / w.abs().max()) for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", ["seanet_lite", "mask_rcnn_lite"])
@pytest.mark.parametrize(
    ("execution", "limit"),
    [
        (Execution(substitutes=False), 1e-5),
        (Execution(), 1e-4),
        (Execution(precision="bf16"), 5e-2),
        (Execution(precision="fp16"), 1e-2),
    ],
)
def test_outputs_differ_by_rounding(name, execution, limit, image, crops):
    ours = model(name)
    wanted = features(ours, PLAIN, image), heads(ours, PLAIN, crops)
    found = features(ours, execution, image), heads(ours, execution, crops)
    assert far(found[0], wanted[0]) < limit
    assert far(found[1], wanted[1]) < limit
    assert all(logits.dtype == torch.float32 for logits in found[1])


def test_half_maps_take_half_the_memory(image):
    ours = model("seanet_lite")
    assert {f.dtype for f in features(ours, Execution(precision="bf16"), image)} == {torch.bfloat16}
    assert {f.dtype for f in features(ours, Execution(), image)} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mobilenet_is_spared_halves(precision, image):
    body = model("seanet_lite").detector.backbone.body
    with torch.no_grad():
        wanted = body(image / 255)
        with running(Execution(precision, substitutes=False), CPU):
            found = body(image / 255)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_weights_set_the_layout_of_maps(image):
    ours = model("seanet_lite")
    assert all(f.is_contiguous() for f in features(ours, PLAIN, image))
    assert all(f.is_contiguous(memory_format=torch.channels_last) for f in features(ours, Execution(), image))
    features(ours, PLAIN, image)
    assert all(w.is_contiguous() for w in ours.detector.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["seanet_ms_lite", "cascade_rcnn_lite"])
def test_what_leaves_a_half_precise_model_is_float32(name, precision, image):
    ours = model(name, "detections.score=0.0", "detections.limit=5").run_with(Execution(precision))
    with torch.inference_mode(), running(ours.execution, CPU):
        found = ours.detector.predict(batch_of(image))
    assert len(found) == 5
    for value in (found.rois.boxes, found.scores, found.cls_scores, found.masks, found.mask_ious):
        assert value is None or (value.dtype == torch.float32 and value.isfinite().all())


@pytest.mark.parametrize("name", ["seanet_cascade_lite", "seanet_ms_lite", "cascade_rcnn_lite"])
def test_half_precise_losses_are_float32_and_reach_all_weights(name, image):
    """A cast weight is kept for the forward pass: one that was first cast without a graph would learn nothing."""
    ours = model(name, "cascade.ious=[0.01]") if "cascade" in name else model(name)
    detector = ours.detector.train()
    batch = batch_of(image, [target([(10, 20, 60, 90), (40, 40, 120, 96)], [1, 3])])
    wanted = {key: float(value.detach()) for key, value in detector(batch).items()}
    with running(Execution(precision="bf16"), CPU):
        losses = detector(batch)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert {key: float(value.detach()) for key, value in losses.items()} == pytest.approx(wanted, rel=0.2, abs=0.05)
    sum(losses.values()).backward()
    trained = (p for head in detector.box_heads for p in head.parameters())
    assert all(p.grad is not None and p.grad.any() for p in trained)


def test_attention_stays_precise_where_scores_are_large():
    """Scores are not scaled, and the softmax makes of their rounding a factor: exp(200 x 2^-9) is 1.5."""
    attention = model("seanet_lite").detector.mask_head.position
    crops = torch.randn(3, 64, 14, 14, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for map_ in (attention.query, attention.key):
            map_.weight.mul_(6)
        scores = torch.einsum("rchw,rcHW->rhwHW", attention.query(crops), attention.key(crops))
        wanted = attention(crops) - crops
        with running(Execution(precision="bf16"), CPU):
            found = attention(crops) - crops
    assert scores.abs().max() > 100
    assert far([found], [wanted]) < 1e-2


def test_switches_come_back():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    with tensor_float():
        assert matmul.allow_tf32
        assert cudnn.allow_tf32
    assert (matmul.allow_tf32, cudnn.allow_tf32) == before
    with running(Execution(precision="bf16"), CPU):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"precision": "tf32"}, "precision tf32 is one of NVIDIA GPUs: on cpu take fp32 or bf16"),
        ({"compile": "graphs"}, "compile=graphs needs an NVIDIA GPU: on cpu take compile=default"),
    ],
)
def test_what_a_device_cannot_do(changes, says):
    with pytest.raises(UserError, match=f"^{says}$"):
        require(replace(PLAIN, **changes), CPU)


@pytest.mark.parametrize(("name", "value"), [("precision", "fp8"), ("compile", "fast")])
def test_unknown_values_are_answered_with_the_known(name, value):
    execution = Execution()
    object.__setattr__(execution, name, value)  # as where nothing checks types
    with pytest.raises(UserError, match=f"^{name} should be .* or .*, got '{value}'$"):
        require(execution, CPU)


@pytest.mark.parametrize(("device", "variable", "usual"), [(CPU, "CXX", "g++ or clang"), (CUDA, "CC", "gcc or clang")])
def test_a_missing_compiler_is_named(device, variable, usual, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match=rf"no {usual.replace('+', '.')}.* here: install one .* variable {variable}"):
        require(Execution(compile="default"), device)
    monkeypatch.setenv(variable, "/nowhere/compiler -O2")
    with pytest.raises(UserError, match="there is no /nowhere/compiler here"):
        require(Execution(compile="default"), device)


def frozen_norm(norm: type[FrozenBatchNorm2d]) -> FrozenBatchNorm2d:
    found = norm(6)
    generator = torch.Generator().manual_seed(0)
    for name, buffer in found.named_buffers():
        buffer.copy_(torch.rand(6, generator=generator) + 0.5 * (name == "running_var"))
    return found


def test_frozen_norms_are_torchvisions():
    ours, theirs = frozen_norm(FrozenNorm), frozen_norm(FrozenBatchNorm2d)
    maps = [torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    found, wanted = ours(maps[0]), theirs(maps[1])
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6)
    for output in (found, wanted):
        output.square().sum().backward()
    assert torch.allclose(maps[0].grad, maps[1].grad, rtol=1e-5)


def test_frozen_norms_keep_precision_and_take_the_place_of_maps_without_gradient():
    norm = frozen_norm(FrozenNorm)
    map_ = torch.randn(1, 6, 4, 4).bfloat16()
    wanted = frozen_norm(FrozenBatchNorm2d)(map_.float())
    found = norm(map_)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), wanted, rtol=2e-2, atol=2e-2)
    assert found is map_


def test_training_settings_say_how_it_runs():
    settings = override(recipe("seanet_lite"), ["train.precision=tf32", "train.compile=true", "train.channels_last=no"])
    assert settings.train.execution == Execution("tf32", channels_last=False, compile="default")
    assert recipe("seanet_lite").train.execution == Execution()
    with pytest.raises(UserError, match=r"train\.precision"):
        override(recipe("seanet_lite"), ["train.precision=fp8"])


@pytest.mark.slow
def test_sizes_of_images_and_numbers_of_rois_are_compiled_for_once():
    """Square images are compiled for too, once: torch takes their sides for one number.  Heads may be compiled twice.

    In a process of its own, as the checks of all annotations would be compiled here.
    """
    script = Path(__file__).with_name("compiling.py")
    found = json.loads(subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout)
    assert found["graphs of images"] == 2
    heads = [graphs - 2 for graphs in found["graphs of heads"]]
    assert heads[0] == heads[2] == 5  # of 5 parts; none for no RoI and for one
    assert heads[-3] == heads[-1] <= 10
    assert found["error"] < 1e-5


def test_results_of_others_have_no_precision(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text("{}")
    (tmp_path / "images").mkdir()
    results = tmp_path / "results.json"
    results.write_text("[]")
    for option in (("--precision", "bf16"), ("--compile",)):
        found = CliRunner().invoke(app, ["val", str(results), "--data", str(tmp_path), *option])
        assert found.exit_code == 2
        assert "are for checkpoints" in found.output
