"""Malicious files at every place that loads something: nothing of them may run.

    python benchmarks/faults/pickles.py --out benchmarks/faults/pickles.json

Each place loads each file of ``malice`` in a process whose audit hook counts what code does and reading does not: importing,
compiling and executing, opening files to write, sockets, processes.  The file must be refused in a sentence that names it,
or be taken without such an event; the canary that each would create must not appear; none may take 10 s or a gigabyte.
"""

import argparse
import codecs
import gc
import json
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # a process with threads must not fork

import malice
import torch

from seanet import checkpoint, hub, predict
from seanet.data.coco import read_coco
from seanet.data.images import read_image
from seanet.data.synth import synthesise
from seanet.errors import UserError
from seanet.evaluation.results import read_results
from seanet.recipes import recipe
from seanet.report.runs import find_runs
from seanet.settings import load_yaml, override
from seanet.training.folder import newest
from seanet.weights.files import read_source
from seanet.weights.fitting import start_from
from seanet.weights.importing import import_weights
from seanet.weights.making import new_model
from seanet.weights.show import describe
from seanet.weights.start import load_start

SECONDS, MEMORY = 10, 2**30
EVENTS = (
    "import",
    "exec",
    "compile",
    "marshal.",
    "pickle.",
    "code.",
    "subprocess.",
    "socket.",
    "ctypes.",
    "pty.",
    "http.",
)
EVENTS += (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.chmod",
)
EVENTS += (
    "os.symlink",
    "os.link",
    "os.putenv",
    "shutil.",
    "tempfile.",
    "urllib.",
    "webbrowser.",
    "sys.settrace",
    "gc.",
)
CODECS = (
    "cp437",
    "latin-1",
    "raw-unicode-escape",
    "unicode-escape",
    "utf-8-sig",
    "utf-16-le",
    "utf-16-be",
    "utf-32-le",
)
CODECS += ("utf-32-be",)  # Python's own modules, imported before the watch begins


class Watch:
    """What an audit hook sees while it is armed; hooks cannot be taken away, so each process has its own."""

    def __init__(self) -> None:
        self.armed, self.seen = False, []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if not self.armed:
            return
        if event == "open":
            _, mode, flags = arguments
            writing = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
            if writing:
                self.seen.append(f"open {arguments[0]!r} to write")
        elif event.startswith(EVENTS):
            self.seen.append(f"{event} {arguments[:1]!r}"[:200])


def places(folder: Path) -> dict[str, Callable[[Path], Any]]:
    """Every way into seanet for a file of somebody else."""
    model = predict.build(override(recipe("seanet_lite"), ["backbone.norm=batch"]), ["cat", "dog"])
    data = synthesise(folder / "data", 2, 64, val=1, workers=1)
    truth = read_coco(data / "annotations" / "instances_val.json", data / "val")
    backbone = model.config.backbone

    def as_run(file: Path) -> Path:
        run = folder / "run"
        run.mkdir(exist_ok=True)
        for name in ("best.safetensors", "last.safetensors", "run.json", "model.safetensors"):
            (run / name).write_bytes(file.read_bytes())
        return run

    def from_backbone(file: Path) -> str:
        from dataclasses import replace

        return load_start(model.detector, replace(backbone, weights=str(file)))

    return {
        "load": lambda file: predict.load(file, "cpu"),
        "load, a run's folder": lambda file: predict.load(file.parent / "run", "cpu"),
        "train --resume": lambda file: newest(file.parent / "run"),
        "train --resume, one file": checkpoint.read_state,
        "train --init": lambda file: start_from(model.detector, ("cat", "dog"), file),
        "backbone.weights": from_backbone,
        "import_weights": lambda file: import_weights(model, file),
        "weights import": lambda file: new_model(read_source(file), recipe("mask_rcnn_lite")),
        "weights show": describe,
        "from_pretrained": lambda file: hub.pretrained(str(file.parent / "run"), "cpu"),
        "runs of a table": lambda file: find_runs(file.parent / "run", ["seanet_lite"]),
        "train --config": load_yaml,
        "val RESULTS": lambda file: read_results(file, truth),
        "annotations": lambda file: read_coco(file, data / "val"),
        "images": read_image,
    } | {"prepared": as_run}


def attempt(place: Callable[[Path], Any], file: Path) -> tuple[str, str]:
    """How a load ended, and what was said."""
    try:
        place(file)
    except UserError as error:
        return "refused", str(error)
    except BaseException as error:
        return "error", f"{type(error).__name__}: {error}"[:300]
    return "taken", ""


def child(place: str, folder: Path, pipe: Any, only: list[str]) -> None:
    """All files at one place, once it was warmed by files that are good or plainly broken."""
    made = places(folder)
    prepare, load = made.pop("prepared"), made[place]
    for name in CODECS:
        codecs.lookup(name)
    canary, file, watch = folder / "canary", folder / "file.bin", Watch()
    for content in (b"", b"text", malice.good_zip(), malice.FILES["os.system"](canary), malice.FILES["tar"](canary)):
        file.write_bytes(content)
        prepare(file)
        attempt(load, file)
    rows = {}
    for name in only:
        file.write_bytes(malice.FILES[name](canary))
        prepare(file)
        gc.collect()
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        watch.seen, watch.armed = [], True
        end, said = attempt(load, file)
        watch.armed = False
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        rows[name] = {"end": end, "said": said, "events": watch.seen, "canary": canary.exists(), "memory": grown}
        rows[name]["seconds"] = round(time.monotonic() - began, 2)
    pipe.send(rows)


def wrong(row: dict[str, Any], folder: str) -> str:
    """What must not be, in a word; empty if all is well."""
    if row["canary"] or row["events"]:
        return "ran"
    if row["end"] == "error":
        return "error"
    if row["end"] == "refused" and folder not in row["said"]:
        return "unnamed"
    return "slow" if row["seconds"] > SECONDS else "large" if row["memory"] > MEMORY else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--places", nargs="*")
    parser.add_argument("--files", nargs="*", default=list(malice.FILES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    table, bad = {}, []
    with TemporaryDirectory() as given:
        folder = Path(given).resolve()
        every = [name for name in places(folder) if name != "prepared"]
        for place in options.places or every:
            mine, theirs = multiprocessing.get_context("fork").Pipe(False)
            process = multiprocessing.get_context("fork").Process(
                target=child, args=(place, folder / place.replace(" ", "_").replace("/", "_"), theirs, options.files)
            )
            (folder / place.replace(" ", "_").replace("/", "_")).mkdir(exist_ok=True)
            process.start()
            theirs.close()
            try:
                rows = mine.recv()
            except EOFError:
                rows = {}
                bad.append(f"{place}: its process died")
            process.join()
            bad += [
                f"{place}, {name}: {word}: {row}" for name, row in rows.items() if (word := wrong(row, str(folder)))
            ]
            table[place] = dict(Counter(row["end"] for row in rows.values()))
            print(f"{place:<26} {table[place]}", flush=True)
    found = {"files": len(options.files), "places": table, "wrong": bad}
    print(f"{len(options.files)} files at {len(table)} places: {len(bad)} wrong")
    print("\n".join(bad[:40]))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
