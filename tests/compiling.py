"""Counts the graphs that torch captures of a small model, for images of many sizes and any number of RoIs.

They run as they are, which needs no compiler.
"""

import json
from functools import partial

import torch
from torch._dynamo.utils import counters

from builders import batch_of
from seanet.config import Execution
from seanet.execution import PLAIN, prepare, running
from seanet.predict import build
from seanet.recipes import recipe

SIZES = ((96, 128), (128, 96), (64, 160), (64, 64), (192, 64), (96, 96))
ROIS = (9, 0, 1, 2, 30, 3, 200)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def main() -> None:
    torch.compile = partial(torch.compile, backend="eager")
    detector = build(recipe("seanet_lite"), 2).detector
    channels = detector.settings.backbone.channels
    images = [batch_of(torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)) for size in SIZES]
    crops = [torch.randn(rois, channels, 7, 7) for rois in ROIS]

    def run(execution: Execution) -> tuple[list[torch.Tensor], list[int]]:
        prepare(detector, execution)
        with torch.inference_mode(), running(execution, torch.device("cpu")):
            maps = [detector.features(image)[1][0] for image in images]
            counted, logits = [graphs()], []
            for some in crops:
                logits.append(detector.box_heads[0](some)[0])
                counted.append(graphs())
        return [*maps, *logits], counted

    (wanted, _), (found, counted) = run(PLAIN), run(Execution(compile="default"))
    error = max(float((f - w).abs().max() / w.abs().max()) for f, w in zip(found, wanted, strict=True) if len(w))
    print(json.dumps({"graphs of images": counted[0], "graphs of heads": counted[1:], "error": error}))


if __name__ == "__main__":
    main()
