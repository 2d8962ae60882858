"""Run lengths of many masks at once.  Free of torch.  M masks, n runs of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seanet.evaluation.columns import spread


@dataclass(frozen=True)
class Runs:
    """COCO's run lengths of M masks, one after the other: pixels column by column, background first."""

    counts: np.ndarray  # (n,) int64
    first: np.ndarray  # (M,) where each mask's begin; one without any is not among M
    sound: np.ndarray  # (M,) bool: the text was well formed and no run is negative; the counts of others mean nothing

    @property
    def number(self) -> np.ndarray:
        """(M,) runs of each mask."""
        return np.diff(self.first, append=len(self.counts))

    @property
    def pixels(self) -> np.ndarray:
        """(M,) of image and mask together."""
        return np.add.reduceat(self.counts, self.first)


def unpack(texts: Sequence[str | bytes]) -> Runs:
    """Of compressed texts, as ``data.bitmaps.unpack_counts`` reads one; none of them may be empty."""
    raw = [text.encode("ascii", "replace") if isinstance(text, str) else text for text in texts]
    # A character that is none of ASCII becomes a question mark, which is well formed.
    sound = np.array([isinstance(text, bytes) or text.isascii() for text in texts], bool)
    codes = np.frombuffer(b"".join(raw), np.uint8) - np.uint8(48)  # what is below wraps round and is too large
    ends = np.cumsum([len(text) for text in raw])
    last = (codes & 32) == 0
    sound &= last[ends - 1]
    last[ends - 1] = True
    stop = np.flatnonzero(last)
    start = np.concatenate([[0], stop[:-1] + 1])
    number = np.searchsorted(stop, ends)  # numbers in all texts up to each
    first = np.concatenate([[0], number[:-1]])
    digits = stop - start + 1
    sound[np.searchsorted(ends, np.flatnonzero(codes > 63), side="right")] = False
    sound[np.searchsorted(number, np.flatnonzero(digits > 7), side="right")] = False
    counts = _values(codes, start, stop, digits)
    _add_up(counts, first, np.diff(first, append=len(counts)))
    sound[np.searchsorted(number, np.flatnonzero(counts < 0), side="right")] = False
    return Runs(counts, first, sound)


def _values(codes: np.ndarray, start: np.ndarray, stop: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """Numbers of five bits a digit, lowest first; bit 4 of the last digit is the sign."""
    values = (codes[start] & 31).astype(np.int64)
    for place in range(1, min(int(digits.max(initial=1)), 7)):
        longer = np.flatnonzero(digits > place)
        values[longer] |= (codes[start[longer] + place] & 31).astype(np.int64) << 5 * place
    negative = np.flatnonzero(codes[stop] & 16)
    values[negative] -= 1 << 5 * np.minimum(digits[negative], 7)
    return values


def _add_up(counts: np.ndarray, first: np.ndarray, number: np.ndarray) -> None:
    """From the fourth on, each number is the difference from the one two before it."""
    for begin in (1, 2):
        own = np.maximum(number - begin + 1, 0) // 2
        place, _ = spread(np.zeros_like(first), own)
        rows = np.repeat(first + begin, own) + 2 * place
        sums = np.concatenate([[0], np.cumsum(counts[rows])])
        before = np.cumsum(own) - own
        counts[rows] = sums[1:] - np.repeat(sums[before], own)
