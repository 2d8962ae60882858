"""A COCO-style data set of synthetic scenes with exact masks, written to a folder."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec
from PIL import Image

from seanet.data.presets import PRESETS
from seanet.data.scenes import SPLITS, Scene, render
from seanet.errors import UserError

PHOTOGRAPHS = {".jpg", ".jpeg", ".png", ".webp"}

Drawn = tuple[bytes, list[dict[str, Any]]]  # an image file, and annotations less their ids
Draw = Callable[[str, int], Drawn]  # of a split and an index


def synthesise(
    out: Path,
    images: int,
    size: int = 256,
    seed: int = 0,
    val: int | None = None,
    preset: str = "shapes",
    backgrounds: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``annotations/instances_{train,val}.json``, ``train/`` and ``val/`` into a new or empty folder.

    ``images`` are for training, ``val`` (None: a fifth as many) for validation.  Image i of a split depends on the
    seed, the split and i alone, so a larger set begins with the smaller one.  ``preset`` names the scenes
    (``data.presets``); where these have a failure, each image's entry names its own.  ``backgrounds`` is a folder of
    photographs to use as ground.  ``workers`` are processes (None: one for each core if there is enough to do).
    ``progress`` hears (done, total).  The folder appears complete or not at all; its absolute path comes back.
    """
    out = Path(out).resolve()
    counts = {"train": images, "val": max(1, round(images / 5)) if val is None else val}
    _check(out, counts, size, preset)
    scenes = PRESETS[preset]
    draw = partial(_encoded, size=size, seed=seed, scenes=scenes, photographs=_photographs(backgrounds))
    new, unfinished = not out.exists(), out / ".unfinished"
    try:
        unfinished.mkdir(parents=True)
        _write(unfinished, counts, scenes, size, draw, workers, progress)
        for part in (*SPLITS, "annotations"):
            os.replace(unfinished / part, out / part)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if new and not any(out.iterdir()):
            out.rmdir()
    return out


def _check(out: Path, counts: dict[str, int], size: int, preset: str) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is not empty; name a new or empty folder for the synthetic data set.", file=out)
    if counts["train"] < 1 or counts["val"] < 0:
        wanted = "at least one image to train on and none or more to evaluate on"
        raise UserError(f"A data set needs {wanted}, got {counts}.", field="images", value=counts)
    if not 64 <= size <= 4096:
        raise UserError(f"Images can have 64 to 4096 pixels a side, got {size}.", field="size", value=size)
    if preset not in PRESETS:
        raise UserError(f"Known presets are {', '.join(PRESETS)}; got {preset}.", field="preset", value=preset)


def _classes(scenes: Sequence[Scene]) -> list[str]:
    """Each class once, in order."""
    return list(dict.fromkeys(name for scene in scenes for name in scene.classes))


def _photographs(folder: Path | None) -> tuple[Path, ...]:
    if folder is None:
        return ()
    files = tuple(sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in PHOTOGRAPHS))
    if not files:
        raise UserError(f"{folder} holds no photographs ({', '.join(sorted(PHOTOGRAPHS))}).", file=folder)
    return files


def _write(
    root: Path,
    counts: dict[str, int],
    scenes: Sequence[Scene],
    size: int,
    draw: Draw,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    total, done = sum(counts.values()), 0
    (root / "annotations").mkdir()
    for split, count in counts.items():
        (root / split).mkdir()
        records, annotations = [], []
        for index, (data, found) in enumerate(_in_order(partial(draw, split), count, workers)):
            name = f"{index:06d}.jpg"
            (root / split / name).write_bytes(data)
            records.append({"id": index + 1, "file_name": name, "width": size, "height": size})
            if failure := scenes[index % len(scenes)].failure:
                records[-1]["failure"] = failure
            for one in found:
                annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **one})
            done += 1
            if progress:
                progress(done, total)
        categories = [{"id": k, "name": name, "supercategory": "shape"} for k, name in enumerate(_classes(scenes), 1)]
        contents = {"info": {"description": f"Synthetic scenes, {split}"}, "licenses": [], "images": records}
        contents |= {"annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(contents))


def _in_order(draw: Callable[[int], Drawn], count: int, workers: int | None) -> Iterator[Drawn]:
    """Results 0..count-1, drawn by several processes where that is worth their start."""
    if workers is None:
        workers = min(os.cpu_count() or 1, 8) if count > 200 else 1
    if workers < 2 or sys.platform != "linux":
        yield from map(draw, range(count))
        return
    # Forked: a spawned process would run the caller's script again, and the children need numpy and Pillow alone.
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        for begin in range(0, count, 64 * workers):  # bounds what waits to be written
            yield from pool.map(draw, range(begin, min(begin + 64 * workers, count)), chunksize=8)


def _encoded(
    split: str, index: int, size: int, seed: int, scenes: Sequence[Scene], photographs: tuple[Path, ...]
) -> Drawn:
    """The bytes of an image file and its annotations, less their ids."""
    made = render(split, index, size, seed, scenes[index % len(scenes)], photographs)
    file = io.BytesIO()
    Image.fromarray(made.image).save(file, "JPEG", quality=95, subsampling=0)
    numbers = np.arange(1, len(made.labels) + 1, dtype=np.int16)[:, None, None]
    masks = (np.ascontiguousarray(made.owner.T) == numbers).view(np.uint8)  # columns first, as run lengths are
    codes, classes = codec.encode(masks.transpose(2, 1, 0)), _classes(scenes)
    found = [
        {
            "category_id": classes.index(label) + 1,
            "segmentation": {"size": [size, size], "counts": rle["counts"].decode("ascii")},
            "area": int(codec.area(rle)),
            "bbox": [int(v) for v in codec.toBbox(rle)],
            "iscrowd": 0,
        }
        for label, rle in zip(made.labels, codes, strict=True)
    ]
    return file.getvalue(), found
