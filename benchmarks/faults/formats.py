"""Damaged data sets of other formats: each must be converted, or be refused by a sentence that names a file of it.

    python benchmarks/faults/formats.py --count 10000 --seed 0 --out benchmarks/faults/formats.json

Case ``seed`` is a small good data set of YOLO, LabelMe, Pascal VOC or label images, of which one file is damaged once or
twice; all follows from the seed alone.  Every case is converted in a process of its own limits.  What is converted must
then be read as COCO's format without a repair.  Linux only.
"""

import json
import re
import resource
import shutil
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cases import command, progress
from PIL import Image

from seanet.data.checking.workers import Limits, Lost, each
from seanet.data.coco import read_coco
from seanet.data.formats import exporting, labelme, labels, voc, yolo
from seanet.data.formats.contents import Contents, names_of
from seanet.errors import UserError
from seanet.report.files import write_whole

LIMITS = Limits(seconds=10, memory=2**30 - 2**28)  # a gigabyte with what the process holds anyway
KINDS = ("yolo", "labelme", "voc", "labels")
FINE = {"noticed", "dropped"}  # verbs of findings that no converter can spare the reader
TOKENS = [
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "1e9",
    "0.5",
    "99999999999999999999",
    "x",
    "",
    "null",
    "[]",
    "{}",
    '"x"',
    "true",
]
TOKENS += ["../../x", "/etc/passwd", "\0", "é", ":", ",", "- ", "&a", "*a", "<!DOCTYPE a>", "\n", "[" * 3000, "9" * 400]

Converted = dict[str, tuple[Contents, Path | None]]


@dataclass(frozen=True)
class Outcome:
    end: str  # converted, refused, or what must not happen
    said: str
    seconds: float
    memory: float  # MB, the most that the process held so far


def build(root: Path) -> None:
    """A data set of COCO's, and the same in each format; VOC's also with XML files in place of some classes."""
    shapes = [[[5, 5, 25, 5, 25, 20, 5, 20]], [[30, 5, 40, 5, 35, 15], [42, 5, 50, 5, 46, 15]], runs()]
    images, annotations = [], []
    for id in (1, 2):
        images.append({"id": id, "file_name": f"{id}.png", "width": 60, "height": 40})
        (root / "coco" / "images").mkdir(parents=True, exist_ok=True)
        Image.effect_noise((60, 40), 50).convert("RGB").save(root / "coco" / "images" / f"{id}.png")
        for shape in shapes:
            entry = {"id": len(annotations) + 1, "image_id": id, "category_id": 1 + len(annotations) % 2, "iscrowd": 0}
            annotations.append(entry | {"segmentation": shape})
    content = {"images": images, "annotations": annotations, "categories": [{"id": k, "name": f"c{k}"} for k in (1, 2)]}
    (root / "coco" / "train.json").write_text(json.dumps(content))
    for kind in KINDS:
        getattr(exporting, f"to_{kind}")(exporting.read_parts(root / "coco", None), root / kind, write_whole)
    (root / "voc" / "SegmentationClass" / "2.png").unlink()
    (root / "voc" / "Annotations").mkdir()
    names = "".join(f"<object><name>c{k}</name></object>" for k in (2, 1, 2))
    (root / "voc" / "Annotations" / "2.xml").write_text(f"<annotation>{names}</annotation>")


def runs() -> dict[str, Any]:
    """A frame of 20 x 15 pixels with a hole."""
    mask = np.zeros((40, 60), int)
    mask[22:37, 5:25] = 1
    mask[26:30, 10:15] = 0
    flat = np.r_[0, mask.ravel(order="F")]
    return {"size": [40, 60], "counts": np.diff(np.r_[0, np.flatnonzero(np.diff(flat)), flat.size - 1]).tolist()}


def spoil(raw: bytes, rng: np.random.Generator) -> bytes:
    how, place = int(rng.integers(6)), int(rng.integers(len(raw) or 1))
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
        return raw[:place] + bytes(len(raw) - place)
    return raw[:place] + bytes(byte ^ int(rng.integers(1, 256)) for byte in raw[place : place + 1]) + raw[place + 1 :]


def reword(raw: bytes, rng: np.random.Generator) -> bytes:
    """One number or word of a text becomes something else, or a line comes twice, or is missing."""
    text = raw.decode(errors="surrogateescape")
    lines, words = text.splitlines(keepends=True), list(re.finditer(r"[-\w.]+", text))
    how = rng.random()
    if how < 0.1 and lines:
        lines.insert(int(rng.integers(len(lines))), lines[int(rng.integers(len(lines)))])
        text = "".join(lines)
    elif how < 0.2 and lines:
        lines.pop(int(rng.integers(len(lines))))
        text = "".join(lines)
    elif words:
        word = words[int(rng.integers(len(words)))]
        text = text[: word.start()] + TOKENS[int(rng.integers(len(TOKENS)))] + text[word.end() :]
    return text.encode(errors="surrogateescape")


def damage(root: Path, rng: np.random.Generator) -> str:
    """Damage a file of a data set; its ending."""
    files = sorted(file for file in root.rglob("*") if file.is_file())
    file = files[int(rng.integers(len(files)))]
    raw = file.read_bytes()
    file.unlink()  # it may be a link to a picture that other cases need
    if rng.random() < 0.05:
        return f"{file.suffix} gone"
    is_text = file.suffix in (".txt", ".yaml", ".json", ".csv", ".xml")
    for _ in range(int(rng.integers(1, 3))):
        raw = (reword if is_text and rng.random() < 0.7 else spoil)(raw, rng)
    file.write_bytes(raw)
    return file.suffix


def case(seed: int, good: Path, folder: Path) -> tuple[str, str, Path]:
    """Format, what was damaged, and the data set."""
    rng = np.random.default_rng([41, seed])
    kind = KINDS[int(rng.integers(len(KINDS)))]
    root = folder / f"case {seed}"
    shutil.copytree(good / kind, root, symlinks=True)
    return kind, damage(root, rng), root


def convert(kind: str, root: Path) -> tuple[list[str], Converted]:
    if kind == "yolo":
        names, splits = yolo.convert(root)
        return names, {name: (split.contents, split.folder) for name, split in splits.items()}
    if kind == "voc":
        names, parts = voc.convert(root)
        return names, {name: (part, root / voc.SHOWN) for name, part in parts.items()}
    if kind == "labelme":
        found = labelme.convert(root)
        for name, split in found.items():
            labelme.place(root / "out", f"images/{name}", split.pictures, write_whole)
        contents = {name: (split.contents, root / "out" / "images" / name) for name, split in found.items()}
    else:
        images = labels.convert(root / "images", root / "labels", labels.by_table(root / labels.TABLE))
        contents = {name: (split.contents, split.folder) for name, split in images.items()}
    return names_of(part for part, _ in contents.values()), contents


def judge(kind: str, root: Path) -> tuple[str, str]:
    names, contents = convert(kind, root)
    if not names:
        return "converted", "nothing"
    for split, (part, folder) in contents.items():
        file = write_whole(root / f"{split}.json", json.dumps(part.content(names)).encode())
        assert folder is not None
        found = read_coco(file, folder).repairs
        if unclean := {verb for _, verb, _ in found.found} - FINE:
            return "unclean", f"{unclean}: {found.summary()}"
    return "converted", ""


def trial(seed: int, good: Path, folder: Path) -> Outcome:
    kind, _, root = case(seed, good, folder)
    began = time.perf_counter()
    try:
        end, said = judge(kind, root)
    except UserError as error:
        end, said = "refused" if str(root) in str(error) else "unnamed", str(error)
    except Exception as error:
        end, said = "another exception", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    shutil.rmtree(root)
    return Outcome(end, said.replace(str(root), "ROOT"), seconds, memory())


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def campaign(first: int, count: int, workers: int) -> dict[str, Any]:
    seeds = range(first, first + count)
    with TemporaryDirectory() as made:
        good, folder = Path(made) / "good", Path(made) / "cases"
        build(good)
        trial(0, good, folder)  # whatever is imported late
        answers = each(partial(trial, good=good, folder=folder), seeds, workers, LIMITS, progress)
        shutil.rmtree(folder)
        found = [Outcome(a.reason, "", LIMITS.seconds, 0) if isinstance(a, Lost) else a for a in answers]
        what = []
        for seed in seeds:
            what.append(case(seed, good, folder)[:2])
            shutil.rmtree(folder)
    by_kind, by_file, sentences = defaultdict(Counter), defaultdict(Counter), Counter()
    for (kind, ending), outcome in zip(what, found, strict=True):
        by_kind[kind][outcome.end] += 1
        by_file[ending][outcome.end] += 1
        sentences[re.sub(r"\d+", "0", outcome.said)[:70]] += outcome.end == "refused"
    return {
        "cases": count,
        "first seed": first,
        "outcomes": Counter(outcome.end for outcome in found),
        "formats": by_kind,
        "files": by_file,
        "sentences": dict(sentences.most_common(30)),
        "slowest, s": round(max(outcome.seconds for outcome in found), 3),
        "most memory, MB": round(max(outcome.memory for outcome in found), 1),
        "offending": [
            {"seed": seed, "case": own, **asdict(outcome)}
            for seed, own, outcome in zip(seeds, what, found, strict=True)
            if outcome.end not in ("converted", "refused")
        ],
    }


if __name__ == "__main__":
    command(campaign, __doc__)
