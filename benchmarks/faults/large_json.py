"""How long an annotation file of so many megabytes takes to be read, and in how much memory, beside ``json.load``.

    python benchmarks/faults/large_json.py --megabytes 500 --out large_json.json

The file looks like COCO's: outlines of some 24 points with two decimals, a run length in twenty, seven objects an
image.  Its images are there but empty: nobody opens them.  Each reading has a process of its own.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, PER_IMAGE, PER_FOLDER = 640, 480, 7, 1000
READERS = ("json.load", "entries", "read_coco")


def outline(rng: np.random.Generator) -> list[float]:
    """A star-shaped ring of 4 to 44 points, two decimals, within the image."""
    n = int(rng.integers(4, 45))
    angle = np.sort(rng.random(n)) * 2 * math.pi
    radius = rng.uniform(5, 100) * rng.uniform(0.7, 1, n)
    x = (rng.uniform(105, WIDTH - 105) + radius * np.cos(angle)).round(2)
    y = (rng.uniform(105, HEIGHT - 105) + radius * np.sin(angle)).round(2)
    return np.stack([x, y], 1).ravel().tolist()


def annotation(id: int, image: int, rng: np.random.Generator) -> dict:
    if rng.random() < 0.05:
        x, y, side = (int(v) for v in rng.integers(10, 100, 3))
        runs = [x * HEIGHT + y, *[side, HEIGHT - side] * (side - 1), side]
        counts = [*runs, WIDTH * HEIGHT - sum(runs)]
        shape = {"segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}, "bbox": [x, y, side, side]}
        shape |= {"area": side * side}
    else:
        ring = outline(rng)
        x, y = np.array(ring[::2]), np.array(ring[1::2])
        area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
        box = [x.min(), y.min(), float(np.ptp(x)).__round__(2), float(np.ptp(y)).__round__(2)]
        shape = {"segmentation": [ring], "bbox": box, "area": area}
    return {"id": id, "image_id": image, "category_id": int(rng.integers(1, 81)), "iscrowd": 0, **shape}


def write(folder: Path, megabytes: float, seed: int = 0) -> Path:
    """The file and its images; lists in COCO's order: categories come last."""
    file, rng, size, images = folder / "large.json", np.random.default_rng(seed), 0, 0
    rows = [annotation(0, 0, rng) for _ in range(2000)]  # written again and again under other ids
    part = folder / "annotations.part"
    with part.open("w") as out:
        while size < megabytes * 1e6:
            for row in rows[:: -1 if images % 2 else 1][images % len(rows) :][:PER_IMAGE]:
                size += out.write(f"{',' if size else ''}{json.dumps(row | _ids(size, images))}\n")
            images += 1
    with file.open("w") as out, part.open() as annotations:
        out.write('{"info": {}, "images": [\n' + ",\n".join(_images(folder, images)) + '],\n"annotations": [\n')
        out.writelines(annotations)
        categories = [{"id": k, "name": f"class {k}"} for k in range(1, 81)]
        out.write(f'],\n"categories": {json.dumps(categories)}}}')
    part.unlink()
    return file


def _ids(id: int, image: int) -> dict:
    return {"id": id + 1, "image_id": image}


def _images(folder: Path, count: int) -> Iterator[str]:
    for image in range(count):
        name = f"{image // PER_FOLDER:04}/{image:012}.jpg"
        if image % PER_FOLDER == 0:
            (folder / name).parent.mkdir()
        (folder / name).touch()
        yield json.dumps({"id": image, "file_name": name, "width": WIDTH, "height": HEIGHT, "license": 1})


def read(reader: str, file: Path) -> dict:
    """Seconds, and megabytes of memory at the worst moment beyond those of the imports."""
    from seanet.data.coco import read_coco
    from seanet.data.entries import open_lists
    from seanet.data.repairs import Findings

    before, start = peak(), time.perf_counter()
    if reader == "json.load":
        with file.open() as handle:
            kept = json.load(handle)
    elif reader == "entries":
        with open_lists(Findings(file)) as lists:
            kept = sum(1 for part in ("images", "annotations") for _ in lists.entries(part))
    else:
        kept = read_coco(file, file.parent)
        assert sum(len(image.annotations) for image in kept.images) > 0.9 * kept.repairs.annotations
    seconds = time.perf_counter() - start
    del kept
    return {"seconds": round(seconds, 2), "megabytes": round(peak() - before, 1)}


def peak() -> float:
    """Of this program; getrusage would count what the parent held when it started it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=500)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help="one that is there already, beside its images")
    args = parser.parse_args()
    if args.reader:
        print(json.dumps(read(args.reader, args.file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = args.file or write(Path(folder), args.megabytes)
        found: dict = {"file megabytes": round(file.stat().st_size / 1e6, 1)}
        for reader in READERS:
            command = [sys.executable, __file__, "--reader", reader, "--file", str(file)]
            found[reader] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            found[reader]["times the file"] = round(found[reader]["megabytes"] / found["file megabytes"], 2)
    text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
