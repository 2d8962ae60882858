"""Run lengths of many masks at once.  Free of torch.  M masks, n runs of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
    raw = [text if isinstance(text, bytes) else _ascii(text) for text in texts]
    codes = np.frombuffer(b"".join(raw), np.uint8) - np.uint8(48)  # what is below wraps round and is too large
    ends = np.cumsum(list(map(len, raw)))
    last = (codes & 32) == 0
    sound = last[ends - 1]
    last[ends - 1] = True
    stop = np.flatnonzero(last)
    start = np.concatenate([[0], stop[:-1] + 1])
    number = np.searchsorted(stop, ends)  # numbers in all texts up to each
    first = np.concatenate([[0], number[:-1]])
    digits = stop - start + 1
    counts = _added_up(_values(codes, start, stop, digits), first, np.diff(first, append=len(start)))
    for upto, wrong in ((ends, codes > 63), (number, digits > 7), (number, counts < 0)):
        sound[np.searchsorted(upto, np.flatnonzero(wrong), side="right")] = False
    return Runs(counts, first, sound)


def _ascii(text: str) -> bytes:
    """A text of other characters is as long and malformed."""
    return text.encode() if text.isascii() else b"\x7f" * len(text)


def _values(codes: np.ndarray, start: np.ndarray, stop: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """Numbers of five bits a digit, lowest first; bit 4 of the last digit is the sign."""
    values = (codes[start] & 31).astype(np.int64)
    for place in range(1, min(int(digits.max(initial=1)), 7)):
        longer = np.flatnonzero(digits > place)
        values[longer] |= (codes[start[longer] + place] & 31).astype(np.int64) << 5 * place
    negative = np.flatnonzero(codes[stop] & 16)
    values[negative] -= 1 << 5 * np.minimum(digits[negative], 7)
    return values


def _added_up(counts: np.ndarray, first: np.ndarray, number: np.ndarray) -> np.ndarray:
    """From the fourth on, each number is the difference from the one two before it.

    Written in two columns, each mask's first number in the second of a row of its own, they are sums down the columns.
    """
    rows = number // 2 + 1
    begin = np.cumsum(rows) - rows
    place = np.arange(len(counts)) + np.repeat(2 * begin + 1 - first, number)
    table = np.zeros((int(rows.sum()), 2), np.int64)
    table.ravel()[place] = counts
    sums = table.cumsum(0)
    sums -= np.repeat(sums[begin], rows, axis=0)
    sums[begin] = table[begin]
    return sums.ravel()[place]
