"""Multiplications of the second stage on trained models: the heads' plain forms beside what prediction runs.

    .venv/bin/python benchmarks/second_stage.py --of "COCO subset" RUN IMAGES --out benchmarks/second_stage.json

RUN is the folder of a trained SEANet, IMAGES a folder of pictures.  1000 proposals of an image meet the box head, what is
detected the mask head: above a score of .05, as ``seanet val`` does, or .5, as ``seanet predict`` does.  Plain: every tower
sees every RoI, every mask has a channel for each class, and edges are predicted.  As it runs: what is counted while the
model predicts.  The same at the width of ``seanet_r50`` with 80 classes is counted for as many RoIs and detections, since
they are all that the arithmetic depends on; Mask R-CNN's heads have the same RoIs and detections.  On a CPU: as it runs
with the quicker forms of ``seanet.cpu``, the transforms that these need included.
GMAC are 10^9 multiplications with an addition, mean over the images; RoIAlign and NMS are left out.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from seanet.config import Config
from seanet.cpu import Substitutes
from seanet.data.images import read_image
from seanet.data.loader import collate_images
from seanet.data.transforms import fit
from seanet.detector import Detector, build, build_rpn
from seanet.heads.edge_mask import ChannelAttention, EdgeAttentionMaskHead
from seanet.predict import load
from seanet.recipes import recipe
from seanet.report.files import write_whole
from seanet.streaming import find_images
from seanet.types import Detections, Rois

PROPOSALS, SCORES, CLASSES = 1000, (0.05, 0.5), 80


@dataclass(frozen=True)
class Work:
    """Of an image: RoIs, those that are localised, detections; GMAC."""

    rois: float
    localised: float
    detections: float
    plain_box: float
    plain_mask: float
    box: float
    mask: float
    cpu: float

    @property
    def ratio(self) -> float:
        return (self.plain_box + self.plain_mask) / (self.box + self.mask)

    @property
    def cpu_ratio(self) -> float:
        return (self.plain_box + self.plain_mask) / self.cpu


def gmac(run: Callable[[], Any], forms: Any = nullcontext) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), forms():
        run()
    return counter.get_total_flops() / 2e9


def plain_mask(head: EdgeAttentionMaskHead, crops: Tensor) -> float:
    """The mask head's plain form, with the mean of the channel attention after its convolutions."""
    assert isinstance(head.channel, ChannelAttention)
    head.channel.linear, linear = False, head.channel.linear
    found = gmac(lambda: head(crops))
    head.channel.linear = linear
    return found


@torch.no_grad()
def measured(detector: Detector, config: Config, path: Path) -> Work:
    """What the second stage does on one image."""
    batch = collate_images([fit(read_image(path), config.data)])
    features, proposals, _ = detector.propose(batch)
    rois, (head,), seen = Rois.cat(proposals), detector.box_heads, []
    hook = head.box_tower.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    found = detector.detect(features, rois, batch.sizes)
    hook.remove()
    crops = detector.box_pool(features, rois)

    def whole() -> Detections:
        return detector.with_masks(features, detector.detect(features, rois, batch.sizes), edges=False)

    return Work(
        len(rois),
        sum(seen),
        len(found),
        gmac(lambda: head(crops)),
        plain_mask(detector.mask_head, detector.mask_pool(features, found.rois)),
        gmac(lambda: detector.detect(features, rois, batch.sizes)),
        gmac(lambda: detector.with_masks(features, found, edges=False)),
        gmac(whole, Substitutes),
    )


def at_width(name: str, rois: int, localised: int, detections: int) -> Work:
    """The same for so many RoIs and detections of a recipe's heads."""
    runs = parts_at_width(name, rois, localised, detections, "meta")
    cpu = parts_at_width(name, rois, localised, detections, "cpu", Substitutes)
    return Work(rois, localised, detections, *runs[:4], cpu[2] + cpu[3])


def parts_at_width(
    name: str, rois: int, localised: int, detections: int, device: str, forms: Any = nullcontext
) -> Sequence[float]:
    """GMAC of the box head and the mask head, plain, then as they run; on the device meta nothing is computed."""
    with torch.device(device):
        detector = build(recipe(name), CLASSES).eval()
        (box,), mask, channels = detector.box_heads, detector.mask_head, detector.settings.backbone.channels
        small, few = (torch.empty(count, channels, box.size, box.size) for count in (rois, localised))
        large, labels = (
            torch.empty(detections, channels, mask.size, mask.size),
            torch.ones(detections, dtype=torch.int64),
        )
        plain = (gmac(lambda: box(small)), plain_mask(mask, large)) if device == "meta" else (0.0, 0.0)
        box_runs = gmac(lambda: (box.classify(small), box.localise(few)), forms)
        return *plain, box_runs, gmac(lambda: mask.probability(large, labels), forms)


def mask_rcnn(name: str, rois: int, detections: int) -> float:
    """GMAC of the second stage of Mask R-CNN."""
    with torch.device("meta"):
        detector = build(recipe(name), CLASSES).eval()
        (box,), mask, channels = detector.box_heads, detector.mask_head, detector.settings.backbone.channels
        small = torch.empty(rois, channels, box.size, box.size)
        large = torch.empty(detections, channels, mask.size, mask.size)
        return gmac(lambda: (box(small), mask(large)))


def more_proposals(detector: Detector, config: Config) -> Config:
    """The detector proposes as many RoIs as the large recipes do."""
    settings = replace(config.rpn, before_nms=(PROPOSALS,) * 2, after_nms=(PROPOSALS,) * 2)
    rpn = build_rpn(settings, config.backbone.channels).eval()
    rpn.load_state_dict(detector.rpn.state_dict())
    detector.rpn = rpn
    return replace(config, rpn=settings)


def count(run: Path, folder: Path, limit: int) -> list[dict[str, Any]]:
    """For each threshold, means over the images, and the same at the width of ``seanet_r50``."""
    model, found = load(run, "cpu"), []
    config, paths = more_proposals(model.detector, model.config), find_images([folder])[:limit]
    for score in SCORES:
        model.configure(replace(config, detections=replace(config.detections, score=score)))
        each = [measured(model.detector, config, path) for path in paths]
        mean = Work(*(sum(column) / len(each) for column in zip(*map(astuple, each), strict=True)))
        rois, localised, detections = round(mean.rois), round(mean.localised), round(mean.detections)
        wide = at_width("seanet_r50", rois, localised, detections)
        rows = {config.recipe: entry(mean), "seanet_r50": entry(wide)}
        found.append({"score": score, "images": len(each), "heads": rows})
        found[-1]["mask_rcnn_r50"] = round(mask_rcnn("mask_rcnn_r50", rois, detections), 3)
    return found


def entry(work: Work) -> Mapping[str, float]:
    return {
        name: round(value, 3)
        for name, value in {**asdict(work), "ratio": work.ratio, "cpu_ratio": work.cpu_ratio}.items()
    }


def lines(found: Mapping[str, Any]) -> Sequence[str]:
    heads = "images score heads_of RoIs localised detections plain_GMAC as_it_runs ratio on_a_CPU ratio Mask_R-CNN"
    text = [f"| {' | '.join(heads.split()).replace('_', ' ')} |"]
    text.append("|---|---:|---|" + "---:|" * 9)
    for name, thresholds in found.items():
        for one in thresholds:
            for heads, w in one["heads"].items():
                plain, runs = w["plain_box"] + w["plain_mask"], w["box"] + w["mask"]
                cells = [f"{w[part]:.0f}" for part in ("rois", "localised", "detections")]
                cells += [
                    f"{plain:.1f}",
                    f"{runs:.1f}",
                    f"{w['ratio']:.2f}",
                    f"{w['cpu']:.1f}",
                    f"{w['cpu_ratio']:.2f}",
                ]
                cells.append(f"{one['mask_rcnn_r50']:.1f}" if heads == "seanet_r50" else "")
                text.append(f"| {name} | {one['score']} | `{heads}` | {' | '.join(cells)} |")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs=3, action="append", required=True, metavar=("NAME", "RUN", "IMAGES"))
    parser.add_argument("--limit", type=int, default=16, help="images of each folder")
    parser.add_argument("--out", type=Path, help="where the counts go as JSON")
    arguments = parser.parse_args()
    found = {name: count(Path(run), Path(folder), arguments.limit) for name, run, folder in arguments.of}
    print("\n".join(lines(found)))
    if arguments.out:
        write_whole(arguments.out, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
