"""Damaged annotation files: each must be read, or be refused by a sentence that names it; none may crash or hang.

    python benchmarks/faults/annotations.py --count 10000 --seed 0 --out benchmarks/faults/annotations.json

Case ``seed`` is a small good file, changed one to four times in the ways below; all follows from the seed alone.  Every case
is read in a process of its own limits.  Whatever is accepted is measured: its own objects, given as results, must have
an AP of exactly 1, of boxes, masks and boundaries and of every class; and a tolerant reading must agree.  Linux only.
"""

import json
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cases import command, progress
from PIL import Image

from seanet.data.checking.workers import Limits, Lost, each
from seanet.data.coco import CocoData, read_coco, to_rle
from seanet.data.images import read_image
from seanet.errors import AnnotationError, ImageError
from seanet.evaluation.assess import assess
from seanet.evaluation.results import read_results

LIMITS = Limits(seconds=10, memory=2**30 - 2**28)  # a gigabyte with what the process holds anyway
SIZES = {1: (60, 40), 2: (33, 57), 9: (64, 64)}  # id of the image: width, height
JUNK: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    0.5,
    -0.0,
    1e-300,
    1e5,
    1e9,
    1e308,
    10**20,
    10**400,
    "",
    "x",
    "\0",
    "3",
]
JUNK += [float("nan"), float("inf"), float("-inf"), [], {}, [[]], [None], [[[]]], {"size": 3}, "\ud800", "../1.png"]
ANNOTATION_FIELDS = {"segmentation", "bbox", "area", "iscrowd", "image_id", "category_id"}


@dataclass(frozen=True)
class Outcome:
    end: str  # perfect, empty, refused, or what must not happen
    said: str
    seconds: float
    memory: float  # MB, the most that the process held so far


@cache
def good() -> dict[str, Any]:
    """Polygons of one and two rings, run lengths of both spellings, a crowd region, ids with gaps."""
    shapes = [_ellipse(30, 20, 12, 9), _ellipse(10, 10, 6, 8) + _ellipse(40, 25, 8, 5), _runs(1, 5, 5, 20, 10)]
    shapes += [_packed(1, 30, 8, 15, 25), _ellipse(16, 30, 14, 20), _runs(2, 0, 0, 33, 20), _packed(2, 3, 40, 9, 9)]
    shapes += [_ellipse(32.5, 32.5, 30.25, 30.25), _ellipse(8, 8, 3, 3)]
    images = [1, 1, 1, 1, 2, 2, 2, 9, 9]
    pairs = zip(shapes, images, strict=True)
    annotations = [_annotation(7 * i + 3, image, shape) for i, (shape, image) in enumerate(pairs)]
    annotations[5]["iscrowd"] = 1
    return {
        "info": {"year": 2026},
        "images": [{"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in SIZES.items()],
        "annotations": annotations,
        "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 90, "name": "tooth"}],
    }


def _ellipse(x: float, y: float, rx: float, ry: float, points: int = 16) -> list[list[float]]:
    angle = np.arange(points) * 2 * np.pi / points
    ring = np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)
    return [ring.round(2).ravel().tolist()]


def _runs(image: int, x: int, y: int, w: int, h: int) -> dict[str, Any]:
    """A rectangle."""
    width, height = SIZES[image]
    bits = np.zeros((height, width), np.int8)
    bits[y : y + h, x : x + w] = 1
    edges = np.flatnonzero(np.diff(bits.ravel(order="F"), prepend=0)).tolist()
    return {"size": [height, width], "counts": np.diff([0, *edges, height * width]).tolist()}


def _packed(image: int, x: int, y: int, w: int, h: int) -> dict[str, Any]:
    from faster_coco_eval.core import mask as codec

    raw = _runs(image, x, y, w, h)
    return {"size": raw["size"], "counts": codec.frPyObjects(raw, *raw["size"])["counts"].decode()}


def _annotation(id: int, image: int, shape: Any) -> dict[str, Any]:
    from seanet.data.segmentations import check_mask

    width, height = SIZES[image]
    mask = check_mask(deepcopy(shape), None, height, width, lambda *_: None)
    assert mask
    x0, y0, x1, y1 = mask.box
    entry = {"id": id, "image_id": image, "category_id": (2, 5, 90)[id % 3], "iscrowd": 0, "area": mask.area}
    return entry | {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": shape}


Way = Callable[[dict[str, Any], np.random.Generator], None]
"""Changes a file's content in place."""


def spot(node: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """A container somewhere in a tree that is not empty, and one of its keys or places; often an annotation's."""
    if rng.random() < 0.7 and isinstance(node, dict) and (entries := _entries(node, "annotations")):
        node = pick([entry for entry in entries if entry] or [node], rng)
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = keys[int(rng.integers(len(keys)))]
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.1:
            return node, key
        node = inner


def pick(items: list[Any], rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


def junk(data: dict, rng: np.random.Generator) -> None:
    node, key = spot(data, rng)
    node[key] = deepcopy(pick(JUNK, rng))


def remove(data: dict, rng: np.random.Generator) -> None:
    node, key = spot(data, rng)
    del node[key]


def rename(data: dict, rng: np.random.Generator) -> None:
    entry = pick(_entries(data) or [data], rng)
    if isinstance(entry, dict) and entry:
        key = pick(list(entry), rng)
        entry[pick([key.upper(), key + "s", "id", "bbox", "segmentation"], rng)] = entry.pop(key)


def nest(data: dict, rng: np.random.Generator) -> None:
    node, key = spot(data, rng)
    for _ in range(int(rng.choice([1, 2, 40, 200]))):
        node[key] = [node[key]] if rng.random() < 0.9 else {"x": node[key]}


def empty(data: dict, rng: np.random.Generator) -> None:
    node, key = spot(data, rng)
    node[key] = [] if rng.random() < 0.7 else {}


def repeat(data: dict, rng: np.random.Generator) -> None:
    """An entry again, itself or with another value somewhere."""
    part = pick([p for p in data if isinstance(data[p], list) and data[p]] or [None], rng)
    if part:
        data[part].append(deepcopy(pick(data[part], rng)))
        if rng.random() < 0.5 and isinstance(data[part][-1], dict) and data[part][-1]:
            junk(data[part][-1], rng)


def retype(data: dict, rng: np.random.Generator) -> None:
    """Numbers as texts, floats, large or negative ones."""
    node, key = spot(data, rng)
    if isinstance(node[key], int | float):
        node[key] = pick([str(node[key]), float(node[key]) + 0.0, -node[key], node[key] * 10**6, node[key] + 1], rng)


def swap_sides(data: dict, rng: np.random.Generator) -> None:
    image = pick(_entries(data, "images") or [{}], rng)
    image["width"], image["height"] = image.get("height"), image.get("width")


def damage_polygon(data: dict, rng: np.random.Generator) -> None:
    rings = [r for a in _entries(data, "annotations") for r in _rings(a)]
    if not rings:
        return
    ring, how = pick(rings, rng), int(rng.integers(9))
    i = int(rng.integers(len(ring)))
    if how == 0:
        del ring[i:]
    elif how == 1:
        ring[:] = [v * float(rng.choice([1e-3, 0.1, 10, 1e3, 1e6])) for v in ring]
    elif how == 2:
        ring[:] = [v + float(rng.choice([-80, -20, -0.5, 0.5, 20, 80])) for v in ring]
    elif how == 3:
        ring[:] = ring[:2] * (len(ring) // 2)
    elif how == 4:
        rng.shuffle(ring)
    elif how == 5:
        ring[1::2] = [ring[1]] * (len(ring) // 2)
    elif how == 6:
        ring[i] = float(rng.choice([-1e4, 1e4, 99_999, 1e5 + 1, 2.0**31, 0.005]))
    elif how == 7:
        ring.insert(i, ring[i])
    else:
        ring[:] = ring[::-1] + ring


def damage_runs(data: dict, rng: np.random.Generator) -> None:
    masks = [a["segmentation"] for a in _entries(data, "annotations") if isinstance(a.get("segmentation"), dict)]
    if not masks:
        return
    mask = pick(masks, rng)
    counts = mask.get("counts")
    if rng.random() < 0.2:
        mask["size"] = pick([[40, 60], [60, 40], [0, 0], [1, 2400], [40], "40", None, [40.0, 60.0]], rng)
    elif isinstance(counts, str) and counts:
        i = int(rng.integers(len(counts)))
        mask["counts"] = counts[:i] + chr(int(rng.integers(33, 130))) * int(rng.choice([0, 1, 1, 20])) + counts[i + 1 :]
    elif isinstance(counts, list) and len(counts) > 1:
        i, j = (int(v) for v in rng.integers(len(counts), size=2))
        change = int(rng.choice([0, 1, -1, 7, 10**4, 2**32]))
        if all(isinstance(counts[k], int) for k in (i, j)):
            counts[i], counts[j] = counts[i] + change, counts[j] - change * int(rng.integers(2))
        if rng.random() < 0.3:
            rng.shuffle(counts)


def confuse_ids(data: dict, rng: np.random.Generator) -> None:
    entry, other = pick(_entries(data) or [{}], rng), pick(_entries(data) or [{}], rng)
    key = pick(["id", "image_id", "category_id"], rng)
    entry[key] = other.get(pick(["id", "image_id", "category_id"], rng))


def shuffle(data: dict, rng: np.random.Generator) -> None:
    for part in ("images", "annotations", "categories"):
        if isinstance(data.get(part), list):
            data[part] = [data[part][i] for i in rng.permutation(len(data[part]))]
    names = list(data)
    rng.shuffle(names)
    for name in names:
        data[name] = data.pop(name)


def _entries(data: dict, part: str | None = None) -> list[dict]:
    lists = [data.get(p) for p in ((part,) if part else ("images", "annotations", "categories"))]
    return [entry for entries in lists if isinstance(entries, list) for entry in entries if isinstance(entry, dict)]


def _rings(annotation: dict) -> list[list]:
    """Those of numbers alone."""
    rings = annotation.get("segmentation")
    found = [r for r in rings if isinstance(r, list) and len(r) > 3] if isinstance(rings, list) else []
    return [r for r in found if all(isinstance(v, float) for v in r)]


WAYS: list[Way] = [junk, junk, remove, rename, nest, empty, repeat, retype, swap_sides, damage_polygon, damage_polygon]
WAYS += [damage_polygon, damage_runs, damage_runs, confuse_ids, shuffle]


def spoil(raw: bytes, rng: np.random.Generator) -> bytes:
    """A change of the text that knows nothing of what it says."""
    how, place = int(rng.integers(7)), int(rng.integers(len(raw)))
    end = min(len(raw), place + int(rng.integers(1, 60)))
    if how == 0:
        return raw[:place]
    if how == 1:
        return raw[:place] + raw[end:]
    if how == 2:
        return raw[:place] + rng.bytes(int(rng.integers(1, 20))) + raw[place:]
    if how == 3:
        return raw[:end] + raw[place:]
    if how == 4:
        return raw[:place] + bytes([raw[place] ^ int(rng.integers(1, 256))]) + raw[place + 1 :]
    if how == 5:
        marks = [b'"', b"[", b"]", b"{", b"}", b",", b":", b"-", b".", b"e", b"9" * 400, b"[" * 3000, b"NaN", b"\\u"]
        return raw[:place] + pick(marks, rng) + raw[place:]
    return raw.decode().encode(pick(["utf-16", "utf-8-sig", "utf-32"], rng))


def case(seed: int) -> tuple[list[str], bytes]:
    """Names of the changes, and the text."""
    rng = np.random.default_rng([29, seed])
    data, names = deepcopy(good()), []
    for _ in range(int(rng.integers(1, 5))):
        way = WAYS[int(rng.integers(len(WAYS)))]
        way(data, rng)
        names.append(way.__name__)
        if not data:
            break
    raw = json.dumps(data, indent=int(rng.integers(2)) or None).encode()
    if rng.random() < 0.15:
        raw = spoil(raw, rng)
        names.append("spoil")
    return names, raw


def own_results(data: CocoData) -> list[dict[str, Any]]:
    """Its objects, crowd regions aside, as a perfect model would find them."""
    return [
        {
            "image_id": image.id,
            "category_id": data.categories.ids[a.label - 1],
            "bbox": [a.box[0], a.box[1], a.box[2] - a.box[0], a.box[3] - a.box[1]],
            "segmentation": _text(to_rle(a, image.height, image.width)),
            "score": 1.0,
        }
        for image in data.images
        for a in image.annotations
        if not a.crowd
    ]


def _text(rle: dict[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {"size": [int(v) for v in rle["size"]], "counts": counts.decode() if isinstance(counts, bytes) else counts}


def judge(file: Path) -> tuple[str, str]:
    data = read_coco(file, file.parent)
    if _tolerant(file) != data.repairs.found:
        return "read otherwise when tolerant", ""
    for image in data.images:
        read_image(image.path, size=(image.height, image.width))
    results = own_results(data)
    if not results:
        return "empty", ""
    path = file.with_suffix(".results")
    path.write_text(json.dumps(results))
    metrics = assess(data, read_results(path, data), 100).metrics
    path.unlink()
    classes = {data.categories.names[a.label - 1] for image in data.images for a in image.annotations if not a.crowd}
    for kind in ("bbox", "segm", "boundary"):
        found = metrics[kind]["AP"], *(metrics[kind]["per_class"][name]["AP"] for name in classes)
        if any(value != 1 for value in found):
            return "imperfect", f"{kind}: {found}"
    return "perfect", ""


def trial(seed: int, folder: Path) -> Outcome:
    _, raw = case(seed)
    file = folder / f"case {seed}.json"
    file.write_bytes(raw)
    began = time.perf_counter()
    try:
        end, said = judge(file)
    except ImageError as error:  # of another size than the file says
        end, said = "refused" if error.file is not None and str(error.file) in str(error) else "unnamed", str(error)
    except AnnotationError as error:
        end, said = "refused" if names_all(error, file) else "unnamed", str(error)
        if not listed(file, error):
            end = "refused, yet not listed"
    except Exception as error:
        end, said = "another exception", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    file.unlink()
    return Outcome(end, said.replace(str(file), "FILE").replace(f"{file.parent}/", ""), seconds, memory())


def names_all(error: AnnotationError, file: Path) -> bool:
    """Whether the sentence names the file and the ids that it is about."""
    text = str(error)
    known = error.annotation_id is not None or "entry" in text or error.field not in ANNOTATION_FIELDS
    ids = [id for id in (error.image_id, error.annotation_id) if id is not None]
    return known and error.file == file and str(file) in text and all(str(id) in text or repr(id) in text for id in ids)


def listed(file: Path, error: AnnotationError) -> bool:
    """Whether a tolerant reading says the same: a list of entries, or why the file is refused.

    It may go on to a place where the text is no JSON, which a strict one does not reach.
    """
    try:
        refused = [place.said for key, places in _tolerant(file).items() for place in places if key[1] == "refused"]
    except AnnotationError as same:
        return str(same) == str(error) or same.field is None
    return all(str(file) in said for said in refused) and bool(refused)


def _tolerant(file: Path) -> dict:
    return read_coco(file, file.parent, tolerant=True).repairs.found


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def campaign(first: int, count: int, workers: int) -> dict:
    seeds = range(first, first + count)
    with TemporaryDirectory() as folder:
        for id, size in SIZES.items():
            Image.new("RGB", size).save(Path(folder) / f"{id}.png")
        answers = each(partial(trial, folder=Path(folder)), seeds, workers, LIMITS, progress)
    found = [Outcome(a.reason, "", LIMITS.seconds, 0) if isinstance(a, Lost) else a for a in answers]
    by_way, sentences = defaultdict(Counter), Counter()
    for seed, outcome in zip(seeds, found, strict=True):
        for name in case(seed)[0]:
            by_way[name][outcome.end] += 1
        sentences[outcome.said.removeprefix("FILE: ")[:60]] += outcome.end == "refused"
    return {
        "cases": count,
        "first seed": first,
        "outcomes": Counter(outcome.end for outcome in found),
        "ways": by_way,
        "sentences": dict(sentences.most_common(20)),
        "slowest, s": round(max(outcome.seconds for outcome in found), 3),
        "most memory, MB": round(max(outcome.memory for outcome in found), 1),
        "offending": [
            {"seed": seed, "ways": case(seed)[0], **asdict(outcome)}
            for seed, outcome in zip(seeds, found, strict=True)
            if outcome.end not in ("perfect", "empty", "refused")
        ],
    }


if __name__ == "__main__":
    command(campaign, __doc__)
