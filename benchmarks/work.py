"""Arithmetic and memory of one training image, counted without computing anything: tensors are on torch's meta device.

    .venv/bin/python benchmarks/work.py seanet_r50 --size 800 1333

Every sampled RoI meets the box head, those that are positive (at most the sampled share) the boxes' regression, the mask
head and its scoring.  A cascade's stages count as the first does; in truth each but the last localises the other RoIs too,
without gradients, to make the next stage's.  GMAC are 10^9 multiplications with an addition; MB are what the forward pass
keeps for the backward pass, in float32.  Left out: proposals, losses, NMS, what a GPU's libraries need besides.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seanet.config import Config, FcnBox
from seanet.detector import Detector, build
from seanet.heads.edge_mask import EdgeAttentionMaskHead
from seanet.recipes import recipe


@contextmanager
def kept(parameters: set[int]) -> Iterator[dict[int, Tensor]]:
    """Tensors that the backward pass will need, by storage, without the parameters themselves."""
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in parameters:
            found[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


def parts(detector: Detector, config: Config, size: tuple[int, int]) -> dict[str, Callable[[], list[Tensor | None]]]:
    """What a training image passes through; each on an input of its own."""
    height, width = (-(-side // 32) * 32 for side in size)
    rois = config.sampling.rois
    positive = int(rois * config.sampling.positive_share)
    channels = config.backbone.channels

    def maps() -> list[Tensor | None]:
        features = list(detector.backbone(torch.empty(1, 3, height, width)).values())
        logits, deltas = detector.rpn.head(features)
        return [*features, *logits, *deltas]

    def crops(count: int, cells: int) -> Tensor:
        return torch.empty(count, channels, cells, cells, requires_grad=True)

    def boxes() -> list[Tensor | None]:
        outputs: list[Tensor | None] = []
        for head in detector.box_heads:
            if isinstance(config.box, FcnBox):
                outputs += [head.classify(crops(rois, head.size)), *head.localise(crops(positive, head.size))]
            else:
                outputs += head(crops(rois, head.size))
        return outputs

    def masks() -> list[Tensor | None]:
        head, taken = detector.mask_head, crops(positive, detector.mask_head.size)
        if isinstance(head, EdgeAttentionMaskHead):
            return [*head.of_labels(taken, torch.ones(positive, dtype=torch.int64), edges=True)]
        return [head(taken)]

    def scores() -> list[Tensor | None]:
        cells = detector.mask_head.size
        return [detector.scoring(crops(positive, cells), torch.empty(positive, 2 * cells, 2 * cells))]

    heads = {f"box head, {rois} RoIs": boxes, f"mask head, {positive} RoIs": masks}
    if detector.scoring is not None:
        heads[f"scoring, {positive} RoIs"] = scores
    return {"backbone, pyramid, RPN": maps, **heads}


def measured(part: Callable[[], list[Tensor | None]], parameters: set[int]) -> tuple[float, float, float]:
    """GMAC forward, GMAC forward and backward, MB."""
    counter = FlopCounterMode(display=False)
    with counter, kept(parameters) as tensors:
        outputs = [output for output in part() if output is not None]
        forward = counter.get_total_flops()
        size = sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())
        sum((output.sum() for output in outputs), torch.zeros(())).backward()
    return forward / 2e9, counter.get_total_flops() / 2e9, size / 1e6


def weights(detector: nn.Module) -> float:
    """MB of weights, and for those that are trained of gradients and momentum too."""
    return sum(p.numel() * (12 if p.requires_grad else 4) for p in detector.parameters()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["mask_rcnn_r50", "seanet_r50"])
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--classes", type=int, default=80)
    arguments = parser.parse_args()
    for name in arguments.models:
        with torch.device("meta"):
            config = recipe(name)
            detector = build(config, arguments.classes).train()
            parameters = {p.untyped_storage()._cdata for p in detector.parameters()}
            found = {n: measured(p, parameters) for n, p in parts(detector, config, tuple(arguments.size)).items()}
        found["an image"] = tuple(map(sum, zip(*found.values(), strict=True)))
        print(f"{name:<24}{'forward':>10}{'training':>10} GMAC{'kept MB':>10}")
        for part, (forward, training, megabytes) in found.items():
            print(f"  {part:<22}{forward:>10.0f}{training:>10.0f}{megabytes:>15.0f}")
        print(f"  {'weights, gradients, momentum':<42}{weights(detector):>15.0f}")


if __name__ == "__main__":
    main()
