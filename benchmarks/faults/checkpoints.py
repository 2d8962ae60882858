"""Damaged files of weights: each is refused in a sentence that names it, or gives the numbers that were saved, to the bit.

    python benchmarks/faults/checkpoints.py --count 2000 --seed 0 --out benchmarks/faults/checkpoints.json

Case ``seed`` of each form is a good file, damaged in one of the ways below; both follow from the seed alone.  A plain
safetensors file, a pickle of arrays and torch.save's older form have no checksums: what of their numbers is changed without
their form being changed is counted as "unseen"; our checkpoints have a digest and torch.save's archives have checksums.
"""

import argparse
import io
import json
import pickle
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save

from seanet import checkpoint
from seanet.checkpoint import Meta
from seanet.errors import UserError
from seanet.recipes import recipe
from seanet.weights.files import read_tensors
from seanet.weights.show import describe

SECONDS, MEMORY = 10, 2**30
Weights = dict[str, torch.Tensor]
UNCHECKED = ("safetensors", "pkl", "older")  # forms without a checksum


def weights() -> Weights:
    generator = torch.Generator().manual_seed(0)
    found = {f"layer{i}.weight": torch.randn(7, 5, generator=generator) for i in range(6)}
    return found | {
        "half": torch.randn(9, generator=generator).half(),
        "count": torch.tensor(3),
        "flag": torch.ones(2) > 0,
    }


def files(folder: Path) -> dict[str, bytes]:
    """A good file of each form."""
    own, found = folder / "own.safetensors", weights()
    checkpoint.save_model(own, found, Meta(recipe("seanet_lite"), ("cat", "dog"), (1, 2), 1.0, 2, {"segm/AP": 0.5}))
    zipped, older = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": found, "epoch": 3}, zipped)
    torch.save({"state_dict": found, "epoch": 3}, older, _use_new_zipfile_serialization=False)
    arrays = {name: value.numpy() for name, value in found.items()}
    return {
        "checkpoint": own.read_bytes(),
        "safetensors": save(found),
        "pth": zipped.getvalue(),
        "older": older.getvalue(),
        "pkl": pickle.dumps({"model": arrays}, 4),
    }


def flip(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 1, 2, 8))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def cut(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def drop(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    del data[start : start + dice.choice((1, 4, 64, 512))]


def repeat(data: bytearray, dice: random.Random) -> None:
    start, place = dice.randrange(len(data)), dice.randrange(len(data))
    data[place:place] = data[start : start + dice.choice((1, 8, 100))]


def noise(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    piece = dice.randbytes(dice.choice((1, 2, 8, 32)))
    data[start : start + len(piece)] = piece


def number(data: bytearray, dice: random.Random) -> None:
    """Lengths and counts of 4 and 8 bytes that are too large, negative, or nothing."""
    kind = dice.choice(["<I", "<Q"])
    most = 2 ** (8 * struct.calcsize(kind))
    start = dice.randrange(max(len(data) - 8, 1))
    piece = struct.pack(kind, dice.choice((0, 1, most - 1, most // 2, most // 2 - 1, 2**31 - 1, dice.randrange(2**20))))
    data[start : start + len(piece)] = piece


def words(data: bytearray, dice: random.Random) -> None:
    """Texts of headers and pickles changed for others."""
    pairs = [
        (b"F32", b"I64"),
        (b"F32", b"F64"),
        (b"shape", b"shapf"),
        (b"[7,5]", b"[5,7]"),
        (b"[7,5]", b"[9,9]"),
        (b"0,", b"-1,"),
    ]
    pairs += [
        (b"FloatStorage", b"HalfStorage\n"),
        (b"_rebuild_tensor_v2", b"_rebuild_qtensor__"),
        (b"K\x07K\x05", b"K\x05K\x07"),
    ]
    pairs += [
        (b"K\x07K\x05", b"K\xffK\xff"),
        (b"classes", b"klasses"),
        (b"[", b"[" * 3000),
        (b"{", b'{"a":' * 3000),
        (b"1", b"1e999"),
    ]
    known = [pair for pair in pairs if pair[0] in data]
    old, new = dice.choice(known or [(data[:1], b"")])
    place = dice.choice([i for i in range(len(data)) if data[i : i + len(old)] == old])
    data[place : place + len(old)] = new


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [flip, flip, cut, drop, repeat, noise, number, words]


def damaged(data: bytes, seed: int) -> bytes:
    dice, found = random.Random(seed), bytearray(data)
    dice.choice(DAMAGES)(found, dice)
    return bytes(found)


def read(form: str, file: Path) -> Weights:
    describe(file)
    return checkpoint.read_model(file)[0] if form == "checkpoint" else read_tensors(file)


def same(found: Weights, wanted: Weights) -> bool:
    return found.keys() == wanted.keys() and all(
        value.dtype == wanted[name].dtype and torch.equal(value, wanted[name]) for name, value in found.items()
    )


def outcome(form: str, file: Path, wanted: Weights) -> tuple[str, str]:
    try:
        found = read(form, file)
    except UserError as error:
        return ("refused" if str(file) in str(error) and "\n" not in str(error).strip() else "unnamed"), str(error)
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"[:300]
    return ("the same" if same(found, wanted) else "unseen" if form in UNCHECKED else "other"), ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="Cases of each form.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, Any] = {}
    bad, slowest = [], 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with TemporaryDirectory() as folder:
        file, wanted = Path(folder) / "damaged.bin", weights()
        for form, good in files(Path(folder)).items():
            counts: Counter[str] = Counter()
            for seed in range(options.seed, options.seed + options.count):
                file.write_bytes(damaged(good, seed))
                began = time.monotonic()
                end, said = outcome(form, file, wanted)
                seconds = time.monotonic() - began
                slowest = max(slowest, seconds)
                counts[end] += 1
                if end in ("error", "other", "unnamed") or seconds > SECONDS:
                    bad.append(f"{form} {seed}: {end} in {seconds:.1f} s: {said}")
            table[form] = dict(sorted(counts.items()))
            print(f"{form:<12} {table[form]}", flush=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"slowest {slowest:.2f} s, memory grew by {grown / 2**20:.0f} MB, {len(bad)} wrong")
    print("\n".join(bad[:30]))
    if options.out:
        found = {"count": options.count, "seed": options.seed, "forms": table, "slowest_s": round(slowest, 2)}
        options.out.write_text(json.dumps(found | {"memory_mb": round(grown / 2**20), "wrong": bad}, indent=1) + "\n")
    return bool(bad) or grown > MEMORY


if __name__ == "__main__":
    sys.exit(main())
