"""Parameters and arithmetic of every recipe, by part, and the paper's tables beside them: writes docs/tables.md.

    .venv/bin/python benchmarks/parameters.py --out benchmarks/parameters.json --tables docs/tables.md

One image of 800 x 1216 pixels with 1000 proposals and 100 detections of 80 classes, whatever sizes a recipe trains on.
Nothing is computed: tensors are on torch's meta device.  GMAC are 10^9 multiplications with an addition, in convolutions,
matrix products and attention; RoIAlign, norms, proposals and NMS are left out.  The box heads count every proposal in
every tower, though prediction runs two of SEANet's three only where the class score allows it.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seanet.backbone import build_backbone
from seanet.config import Backbone, Config
from seanet.detector import Detector, build, count_parameters
from seanet.papers import TABLES
from seanet.recipes import EVERY, recipe
from seanet.report.files import write_whole
from seanet.report.tables import beside, table_markdown
from seanet.rois import FusedPool
from seanet.types import Rois

CLASSES, SIZE, PROPOSALS, DETECTIONS = 80, (800, 1216), 1000, 100
PARTS = ("backbone", "fpn", "rpn", "pool", "box_head", "mask_head", "scoring")
Counts = dict[str, float]


def macs(run: Callable[[], Any]) -> float:
    """Multiplications with an addition that a call makes."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2


@cache
def features_of(settings: Backbone) -> tuple[float, float, list[tuple[int, ...]]]:
    """MAC of a backbone and of its pyramid on one image, and the shapes of the five maps."""
    backbone, image = build_backbone(settings).eval(), torch.empty(1, 3, *SIZE)
    maps: dict[str, Tensor] = {}
    body = macs(lambda: maps.update(backbone.body(image)))
    pyramid: dict[str, Tensor] = {}
    fpn = macs(lambda: pyramid.update(backbone.fpn(maps)))
    return body, fpn, [tuple(level.shape) for level in pyramid.values()]


def work(detector: Detector, config: Config) -> Counts:
    """MAC of each part on one image."""
    body, fpn, shapes = features_of(config.backbone)
    channels = config.backbone.channels
    box_crops = torch.empty(PROPOSALS, channels, config.box.size, config.box.size)
    mask_crops = torch.empty(DETECTIONS, channels, config.mask.size, config.mask.size)
    pools = ((detector.box_pool, PROPOSALS), (detector.mask_pool, DETECTIONS))
    scoring = detector.scoring
    return {
        "backbone": body,
        "fpn": fpn,
        "rpn": macs(lambda: detector.rpn.head([torch.empty(shape) for shape in shapes])),
        "pool": sum(macs(lambda p=p, c=c: fuse(p, shapes[:4], c)) for p, c in pools),
        "box_head": sum(macs(lambda head=head: head(box_crops)) for head in detector.box_heads),
        "mask_head": macs(lambda: detector.mask_head.probability(mask_crops, labels(DETECTIONS))),
        "scoring": 0.0 if scoring is None else macs(lambda: scoring(mask_crops, masks(mask_crops))),
    }


def fuse(pool: nn.Module, shapes: list[tuple[int, ...]], count: int) -> None:
    """The convolutions of the pooling from all levels; the other pooling has none."""
    if isinstance(pool, FusedPool):
        pool([torch.empty(shape) for shape in shapes], Rois(torch.empty(count, 4), labels(count)))


def labels(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.int64)


def masks(crops: Tensor) -> Tensor:
    return torch.empty(len(crops), 2 * crops.shape[-2], 2 * crops.shape[-1])


def per_roi() -> Counts:
    """MMAC of each head for one RoI: the plain forms, and what prediction runs of the mask head."""
    ours, theirs = (build(recipe(name), CLASSES).eval() for name in ("seanet_r50", "mask_rcnn_r50"))
    box, mask = ours.box_heads[0], ours.mask_head
    small, large = torch.empty(1, 256, 7, 7), torch.empty(1, 256, 14, 14)
    many = torch.empty(DETECTIONS, 256, 14, 14)  # share what is made once
    found = {
        "Mask R-CNN's box head": macs(lambda: theirs.box_heads[0](small)),
        "box head": macs(lambda: box(small)),
        "of it classification": macs(lambda: box.classify(small)),
        "of it regression": macs(lambda: box.log_ltrb(box.box_tower(small))),
        "of it B-IoU": macs(lambda: box.iou(box.iou_tower(torch.cat((small, small), 1)))),
        "Mask R-CNN's mask head": macs(lambda: theirs.mask_head(large)),
        "mask head as it predicts": macs(lambda: mask.probability(many, labels(DETECTIONS))) / DETECTIONS,
        "the same with edges": macs(lambda: mask.probability(many, labels(DETECTIONS), edges=True)) / DETECTIONS,
    }
    mask.channel.linear = False
    found["mask head, plain"] = macs(lambda: mask(large))
    return {name: count / 1e6 for name, count in found.items()}


def affine() -> int:
    """Trainable parameters that the batch norms of R101 would have if they were not frozen."""
    base = recipe("mask_rcnn_r101")
    free = replace(base, backbone=replace(base.backbone, norm="batch"))
    return count_parameters(build(free, CLASSES))["trainable"] - count_parameters(build(base, CLASSES))["trainable"]


def count(names: Iterable[str]) -> dict[str, Any]:
    """Parameters and GMAC of recipes, by part."""
    found = {}
    for name in names:
        config = recipe(name)
        detector = build(config, CLASSES).eval()
        gmac = {part: round(number / 1e9, 3) for part, number in work(detector, config).items()}
        found[name] = {
            "parameters": count_parameters(detector),
            "gmac": {"total": round(sum(gmac.values()), 3), **gmac},
        }
    return found


def document(found: Mapping[str, Any], runs: Path) -> str:
    """docs/tables.md."""
    lines = [
        "# The paper's tables, and what every recipe costs",
        "",
        "This file is written by",
        "",
        "```",
        "python benchmarks/parameters.py --out benchmarks/parameters.json --tables docs/tables.md --runs runs",
        "```",
        "",
        "## The paper's rows as recipes",
        "",
        "On a screen, with runs of your own: `seanet recipes --table 2 --runs runs`. Table 5 is not here: the paper does not",
        "say how it measures accuracy in bands around boundaries; [paper.md](paper.md) defines what `seanet val` measures.",
        "",
    ]
    for table in TABLES.values():
        lines += table_markdown(beside(table, runs))
    return "\n".join([*lines, *costs(found)]).rstrip() + "\n"


def costs(found: Mapping[str, Any]) -> list[str]:
    """The part of docs/tables.md that comes from parameters.json."""
    recipes = found["recipes"]
    height, width = found["image"]
    deep = [name for name in recipes if "r101" in name.split("_")]
    bodies = [f"mask_rcnn_{name}" for name in ("r50", "r101", "x101", "convnext_t", "swin_t", "lite")]
    return [
        "## Parameters and arithmetic",
        "",
        f"One image of {height} x {width} pixels, {found['proposals']} proposals, {found['detections']} detections, "
        f"{found['classes']} classes; GMAC are 10^9 multiplications with an",
        "addition. Frozen batch norms hold no parameters. Every proposal counts in every tower of the box head.",
        "",
        "### Table 6 beside our counts, millions of trainable parameters, R101",
        "",
        *table_6(found),
        "",
        "### Heads, with R101",
        "",
        *by_part(recipes, deep, ("pool", "box_head", "mask_head", "scoring")),
        "",
        "The same with R50, X101, ConvNeXt-T and Swin-T but for the backbones' share of the total; all recipes stand in",
        "`benchmarks/parameters.json`.",
        "",
        "### Backbones, with Mask R-CNN's heads",
        "",
        *by_part(recipes, bodies, ("backbone", "fpn", "rpn")),
        "",
        "Swin's images grow to whole windows, here to 896 x 1344 pixels.",
        "",
        "### One RoI, MMAC",
        "",
        "| head | MMAC |",
        "|---|---:|",
        *(f"| {name} | {number:,.0f} |" for name, number in found["mmac_per_roi"].items()),
        "",
    ]


def table_6(found: Mapping[str, Any]) -> list[str]:
    """What is between our counts and the paper's: affine parameters of batch norms, four pairs of convolutions."""
    recipes, norms = found["recipes"], found["affine_of_frozen_norms"] / 1e6
    pair = recipes["seanet_r101_fused"]["parameters"]["pool"] / 2 / 1e6
    lines = ["| row | recipe | trainable | affine of frozen norms | four pairs of the pooling | sum | paper |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for row in TABLES[6].rows:
        millions = recipes[row.recipe]["parameters"]["trainable"] / 1e6
        pairs = 0.0 if row.name == "Mask R-CNN" else 4 * pair
        cells = (f"{x:.2f}" for x in (millions, norms, pairs, millions + norms + pairs, row.figures[0]))
        lines.append(f"| {row.name} | `{row.recipe}` | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "The authors' code pools from all levels with two pairs of 1x1 convolutions (`pool.kind=fused`), and builds two pairs",
        "more that it never uses. Frozen batch norms hold buffers here and parameters there.",
    ]


def by_part(recipes: Mapping[str, Any], names: Iterable[str], parts: tuple[str, ...]) -> list[str]:
    """Rows of millions of parameters and GMAC, of some parts and in all."""
    heads = [f"{part.replace('_', ' ')} {unit}" for part in (*parts, "total") for unit in ("M", "GMAC")]
    lines = [f"| recipe | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for name in names:
        one = recipes[name]
        cells = [
            text
            for part in (*parts, "total")
            for text in (f"{one['parameters'][part] / 1e6:.2f}", f"{one['gmac'][part]:.1f}")
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the counts go as JSON")
    parser.add_argument("--tables", type=Path, help="where the tables go as Markdown")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs of ours lie")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with torch.device("meta"):
        found = {
            "image": SIZE,
            "proposals": PROPOSALS,
            "detections": DETECTIONS,
            "classes": CLASSES,
            "affine_of_frozen_norms": affine(),
            "mmac_per_roi": {name: round(number, 1) for name, number in per_roi().items()},
            "recipes": count(EVERY),
        }
    if args.out:
        write_whole(args.out, (json.dumps(found, indent=1) + "\n").encode())
    text = document(found, args.runs)
    if args.tables:
        write_whole(args.tables, text.encode())
    else:
        print(text)


if __name__ == "__main__":
    main()
