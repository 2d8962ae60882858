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
    # Bytes of characters beyond ASCII are no digits.
    raw = [text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass") for text in texts]
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
    counts = _added_up(_values(codes, start, digits), first, np.diff(first, append=len(start)))
    for upto, wrong in ((ends, codes > 63), (number, digits > 7), (number, counts < 0)):
        sound[np.searchsorted(upto, np.flatnonzero(wrong), side="right")] = False
    return Runs(counts, first, sound)


def _values(codes: np.ndarray, start: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """Numbers of five bits a digit, lowest first; bit 4 of the last digit, which lacks bit 5, is the sign."""
    signed = (codes & 31).view(np.int8) - 32 * ((codes & 48) == 16).view(np.int8)
    values = signed[start].astype(np.int64)
    longer = np.flatnonzero(digits > 1)
    for place in range(1, min(int(digits.max(initial=1)), 7)):
        values[longer] += signed[start[longer] + place].astype(np.int64) << 5 * place
        longer = longer[digits[longer] > place + 1]
    return values


def _added_up(values: np.ndarray, first: np.ndarray, number: np.ndarray) -> np.ndarray:
    """From the fourth on, each number is the difference from the one two before it.

    So every other value is summed over all masks, less what the sum was before the mask's second and third number.
    """
    counts = np.empty_like(values)
    for odd in (0, 1):
        counts[odd::2] = values[odd::2].cumsum()
    before = counts[first], np.where(first > 0, counts[first - 1], 0)
    for odd in (0, 1):
        own = (first + number + 1 - odd) // 2 - (first + 1 - odd) // 2
        counts[odd::2] -= np.repeat(np.where(first % 2 == odd, *before), own)
    counts[first] = values[first]
    return counts
