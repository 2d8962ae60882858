"""How much a row differs from the row it is compared with, and how sure that is.  Free of torch.

Images are drawn with replacement, once for all rows and seeds, and so are the pairs of runs that share a seed: what makes an
image hard for everybody cancels, and luck in training is part of the interval.  Letters: B draws, S seeds, G groups of
images (all, and each kind of failure), F figures.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from experiment.evidence import ALL, DIFFERENCES, Difference, Evidence

from seanet.data.coco import CocoData
from seanet.errors import UserError
from seanet.evaluation.assess import Assessment, assess
from seanet.evaluation.bootstrap import draws, interval, mean_precision, means
from seanet.evaluation.boundary import NAMES
from seanet.evaluation.compare import at_recall
from seanet.evaluation.groups import hits_of, numbers
from seanet.evaluation.matching import THRESHOLDS
from seanet.evaluation.results import read_results
from seanet.report.files import write_whole

BANDS = ("1px", "3px", "8px")
PROFILE = tuple(f"segm/AP{round(100 * t)}" for t in THRESHOLDS)
PRECISION = {"segm": ("AP", *(key.removeprefix("segm/") for key in PROFILE))}
PRECISION |= dict.fromkeys(("bbox", "boundary"), ("AP", "AP50", "AP75"))
COLUMNS = [f"{name}/{width}" for name in ("TA@R", "TA", "band_iou", "boundary_f") for width in BANDS]
FIGURES = [f"{kind}/{name}" for kind, names in PRECISION.items() for name in names] + [*COLUMNS, "found"]
OF_FAILURES = ("segm/AP", "segm/AP75", "bbox/AP", "bbox/AP75", "boundary/AP", "TA@R/1px", "TA@R/3px", "TA@R/8px")
LIMIT = 100  # detections an image, COCO's
ENOUGH = 3  # seeds that are drawn: of two, a draw would show one alone half of the time
RESAMPLES, SEED = 1000, 0
DIGITS = 6

Say = Callable[[str], None]
T = TypeVar("T")


def failures(file: Path) -> dict[str, frozenset[int]]:
    """Ids of the images of each kind of failure, in the order in which the kinds come; none where no image names one."""
    found: dict[str, set[int]] = {}
    for image in json.loads(file.read_bytes())["images"]:
        if "failure" in image:
            found.setdefault(image["failure"], set()).add(image["id"])
    return {kind: frozenset(ids) for kind, ids in found.items()}


def measure(
    data: CocoData,
    results: Path,
    evidence: Evidence,
    pairs: Iterable[tuple[str, str]],
    *,
    resamples: int = RESAMPLES,
    jobs: int = 1,
    say: Say = lambda message: None,
) -> dict[str, Any]:
    """Differences of recorded rows, from the files in the folder ``results``: the content of differences.json.

    ``pairs`` are rows with the row they are compared with; those that share no seed are left out.  ``jobs`` files are read
    at once, each by a process.
    """
    kinds = failures(data.file)
    members = [np.array([image.id in ids for image in data.images]) for ids in kinds.values()]
    groups = [np.ones(len(data.images), bool), *members]
    # The first draw has every image once: it is the measurement itself.
    weights = np.concatenate([np.ones((1, len(data.images)), np.int32), draws(len(data.images), resamples, SEED)])
    runs = [(row, seed) for row, own in evidence.records.items() for seed in own]
    files = [results / f"{row}-s{seed}.json" for row, seed in runs]
    drawn: dict[tuple[str, int], np.ndarray] = {}
    for run, found in zip(runs, each(partial(of_results, data, groups, weights), files, jobs), strict=True):
        drawn[run] = found
        say(f"drew images for {run[0]}, seed {run[1]}: {len(drawn)} of {len(runs)}")
    facts = {"preset": evidence.preset, "images": len(data.images), "resamples": resamples, "seed": SEED}
    return facts | {"pairs": list(_pairs(drawn, evidence, pairs, [ALL, *kinds]))}


def each(of: Callable[[Path], T], files: Sequence[Path], jobs: int) -> Iterator[T]:
    """What ``of`` makes of every file, in their order."""
    if jobs == 1:
        yield from map(of, files)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(of, files)


def of_results(data: CocoData, groups: Sequence[np.ndarray], weights: np.ndarray, file: Path) -> np.ndarray:
    """(1 + B, G, F): every figure of a file of results for each draw."""
    measured = assess(data, results_of(file, data), LIMIT)
    return np.stack([figures(measured, member, weights) for member in groups], 1)


def results_of(file: Path, data: CocoData) -> list[dict]:
    if not file.is_file():
        raise UserError(
            f"{file} does not exist though there is a record of it: run benchmarks/ablation.py again", file=file
        )
    return read_results(file, data)


def figures(measured: Assessment, member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(1 + B, F): ``FIGURES`` of the images that are ``member`` (I,)."""
    weights, pairs = weights[:, member], measured.pairs
    found = []
    for kind, names in PRECISION.items():
        precision = mean_precision(hits_of(measured.hits[kind], member), weights)
        found += [precision.mean(1) if name == "AP" else precision[:, _threshold(name)] for name in names]
    rows = member[pairs.image]
    columns = [NAMES.index(width) for width in BANDS]
    several = [values[:, columns] for values in (at_recall(measured), pairs.trimap, pairs.band_iou, pairs.boundary_f)]
    values = np.concatenate([*several, (pairs.result >= 0)[:, None]], 1)[rows]
    return np.concatenate([np.stack(found, 1), means(values, numbers(member)[pairs.image[rows]], weights)], 1)


def difference(by: np.ndarray) -> Difference:
    """Of what one figure differs by, (S, 1 + B): for each seed the measurement, then the draws of images.

    Three seeds and more are drawn too.  The mean of S drawn seeds strays less than that of S new ones would, by the root
    of (S - 1) / S, so it is stretched by as much.  How far seeds stray is taken from the measurement: in a draw of images
    they stray by the luck of the draw as well, which would then count twice.
    """
    seeds, mean = len(by), by.mean(0)
    images = interval(mean[1:])
    both = None
    if seeds >= ENOUGH:
        chosen = draws(seeds, by.shape[1] - 1, SEED) / seeds  # (B, S)
        strayed = chosen @ by[:, 0] - mean[0]
        both = interval(mean[1:] + math.sqrt(seeds / (seeds - 1)) * strayed)
    return Difference(float(mean[0]), tuple(by[:, 0].tolist()), images, both)


def write_differences(folder: Path, content: dict[str, Any]) -> Path:
    """One line for each pair, so that versions can be compared."""
    facts = json.dumps({name: value for name, value in content.items() if name != "pairs"})
    pairs = ",\n".join(json.dumps(pair, allow_nan=False) for pair in content["pairs"])
    text = "\n".join([facts[:-1] + ', "pairs": [', pairs, "]}", ""])
    return write_whole(folder / DIFFERENCES, text.encode())


def _pairs(
    drawn: Mapping[tuple[str, int], np.ndarray],
    evidence: Evidence,
    pairs: Iterable[tuple[str, str]],
    groups: Sequence[str],
) -> Iterator[dict[str, Any]]:
    for row, against in pairs:
        seeds = sorted(evidence.records.get(row, {}).keys() & evidence.records.get(against, {}).keys())
        if seeds:
            by = np.stack([drawn[row, seed] - drawn[against, seed] for seed in seeds])
            yield {"row": row, "against": against, "seeds": seeds, "groups": _groups(by, groups)}


def _groups(by: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Of (S, 1 + B, G, F)."""
    return {
        group: {
            key: _plain(difference(by[:, :, g, f]))
            for f, key in enumerate(FIGURES)
            if group == ALL or key in OF_FAILURES
        }
        for g, group in enumerate(groups)
    }


def _plain(d: Difference) -> dict[str, Any]:
    both = [_rounded(v) for v in d.both] if d.both else None
    each, images = ([_rounded(v) for v in values] for values in (d.each, d.images))
    return {"by": _rounded(d.by), "each": each, "images": images, "both": both}


def _rounded(value: float) -> float | None:
    return round(value, DIGITS) if math.isfinite(value) else None


def _threshold(name: str) -> int:
    return PROFILE.index(f"segm/{name}")
