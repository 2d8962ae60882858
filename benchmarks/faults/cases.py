"""What the campaigns of made-up cases share: their command line, and how they say how far they are."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def progress(done: int, total: int) -> None:
    if done % -(-total // 10) == 0:
        print(f"{done} of {total}", flush=True)


def command(campaign: Callable[[int, int, int], dict[str, Any]], about: str, out: Path | None = None) -> None:
    """``campaign`` takes the first seed, the count and the processes; it ends with 1 where a case was offending."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()
    found = campaign(args.seed, args.count, args.workers)
    text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    raise SystemExit(bool(found["offending"]))
