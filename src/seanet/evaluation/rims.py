"""Boundary IoU (Cheng et al. 2021) of many pairs of masks at once.  Free of torch.

M masks of images of any sizes, as bits of words one after the other: of mask m the word (j, c), whose bit b is the pixel
x = x0 + c, y = 64 (j0 + j) + b, stands at first + c J + j, for J words in each of its C columns; ``packed`` has one mask alone.
After each mask stands a word that is zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from seanet.evaluation.columns import spread
from seanet.evaluation.packed import WORD, Packed, eroded
from seanet.evaluation.runs import Runs

AT_ONCE = 500_000  # words of pairs that are compared


@dataclass(frozen=True)
class Stack:
    words: np.ndarray  # (n,) uint64
    first: np.ndarray  # (M,)
    box: np.ndarray  # (M, 4) x0, y0, x1, y1 in pixels of the image, tight; all 0 for an empty mask

    @property
    def columns(self) -> np.ndarray:
        """(M,) C."""
        return self.box[:, 2] - self.box[:, 0]

    @property
    def top(self) -> np.ndarray:
        """(M,) j0."""
        return self.box[:, 1] // WORD

    @property
    def rows(self) -> np.ndarray:
        """(M,) J."""
        return -(-self.box[:, 3] // WORD) - self.top

    @property
    def pixels(self) -> np.ndarray:
        """(M,) of each mask."""
        return np.add.reduceat(np.bitwise_count(self.words), self.first, dtype=np.int64)

    def mask(self, m: int) -> Packed:
        x0, y0, x1, y1 = self.box[m].tolist()
        columns, first = x1 - x0, int(self.first[m])
        rows = -(-y1 // WORD) - y0 // WORD
        words = self.words[first : first + columns * rows].reshape(columns, rows)
        return Packed(np.ascontiguousarray(words.T), (x0, y0, x1, y1))

    def paste(self, masks: np.ndarray, words: np.ndarray, right: np.ndarray, up: np.ndarray) -> None:
        """Write some masks, rows (N,), into empty words (J, C): columns of pixels go to the right, words of rows up."""
        rows = self.rows[masks]
        place, owner = spread(self.first[masks], self.columns[masks] * rows)
        column, row = np.divmod(place - self.first[masks][owner], rows[owner])
        words[row + (self.top[masks] - up)[owner], column + (self.box[masks, 0] + right)[owner]] = self.words[place]


def stack(runs: Runs, height: np.ndarray) -> Stack:
    """Masks of images of ``height`` (M,), which are sound."""
    starts, stops, owner = _filled(runs)
    tall = height[owner]
    (left, above), (right, below) = np.divmod(starts, tall), np.divmod(stops - 1, tall)
    box, wraps = _boxes(left, above, right, below, owner, height)
    flat = Stack(np.zeros(0, np.uint64), np.zeros(0, np.int64), box)
    lengths = flat.columns * flat.rows + 1
    first = np.cumsum(lengths) - lengths
    stride, origin = WORD * flat.rows, WORD * (first - flat.top - box[:, 0] * flat.rows)
    ends = np.stack([left * stride[owner] + above, right * stride[owner] + below + 1], 1)
    found = replace(flat, words=_between((ends + origin[owner, None]).ravel(), int(lengths.sum())), first=first)
    _cut(found, np.flatnonzero(wraps), height)
    return found


def _between(ends: np.ndarray, number: int) -> np.ndarray:
    """``number`` words whose bits are set from the first to before the second of the ``ends``, the third to the fourth ...

    Those of one word alone are 2 to the power of the second less 2 to the power of the first; what begins further left
    takes one from the word.
    """
    words, odd = np.zeros(number, np.uint64), np.zeros(number, bool)
    powers = np.uint64(1) << (ends & 63).astype(np.uint64)
    powers[::2] = -powers[::2]
    word = ends >> 6
    begin = np.flatnonzero(np.diff(word, prepend=-1))
    if len(begin):
        words[word[begin]] = np.add.reduceat(powers, begin)
        odd[word[begin]] = np.diff(begin, append=len(word)) & 1
        words[1:] -= np.logical_xor.accumulate(odd)[:-1]
    return words


def _filled(runs: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Begin and end, in pixels of its mask, of each run that is not empty and no background, and the mask of each."""
    ends = np.cumsum(runs.counts)
    place, owner = spread(np.zeros_like(runs.first), runs.number // 2)
    rows = runs.first[owner] + 2 * place + 1
    before = (ends[runs.first] - runs.counts[runs.first])[owner]
    starts, stops = ends[rows - 1] - before, ends[rows] - before
    kept = np.flatnonzero(starts < stops)
    return starts[kept], stops[kept], owner[kept]


def _boxes(
    left: np.ndarray, above: np.ndarray, right: np.ndarray, below: np.ndarray, owner: np.ndarray, height: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tight boxes (M, 4) from the ends of the runs, and which masks have a run that goes on in the next column (M,)."""
    box, wraps = np.zeros((len(height), 4), np.int64), np.zeros(len(height), bool)
    if not len(owner):
        return box, wraps
    begin = np.flatnonzero(np.diff(owner, prepend=-1))
    masks = owner[begin]
    wraps[masks] = np.logical_or.reduceat(left != right, begin)
    whole = wraps[masks]
    box[masks, 0], box[masks, 2] = left[begin], np.maximum.reduceat(right, begin) + 1
    box[masks, 1] = np.where(whole, 0, np.minimum.reduceat(above, begin))
    box[masks, 3] = np.where(whole, height[masks], np.maximum.reduceat(below, begin) + 1)
    return box, wraps


def _cut(found: Stack, masks: np.ndarray, height: np.ndarray) -> None:
    """Take away what lies below the image, which runs that go on in the next column fill."""
    masks = masks[height[masks] % WORD > 0]
    place, owner = spread(np.zeros_like(masks), found.columns[masks])
    rows = found.rows[masks][owner]
    inside = (np.uint64(1) << (height[masks] % WORD).astype(np.uint64)) - np.uint64(1)
    found.words[found.first[masks][owner] + place * rows + rows - 1] &= inside[owner]


def rims(masks: Stack, width: np.ndarray) -> Stack:
    """The bands of Boundary IoU, ``width`` (M,) pixels wide: what erosion takes away."""
    words = masks.words.copy()
    sides = masks.box[:, 2:] - masks.box[:, :2]
    thick = np.flatnonzero(sides.min(1) > 2 * width)  # of others erosion leaves nothing
    kinds, group = np.unique(np.stack([width[thick], masks.rows[thick]], 1), axis=0, return_inverse=True)
    for kind, (n, rows) in enumerate(kinds.tolist()):
        own = thick[group.ravel() == kind]
        column, owner = spread(np.zeros_like(own), masks.columns[own])
        places = (masks.first[own][owner] + column * rows) + np.arange(rows)[:, None]
        # A column of zeros between two masks is enough to keep them apart.
        aside = np.arange(len(owner)) + owner
        beside = np.zeros((rows, len(owner) + len(own)), np.uint64)
        beside[:, aside] = masks.words[places]
        words[places] &= ~eroded(beside, n)[:, aside]
    return replace(masks, words=words)


def ious(masks: Stack, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of each pair of masks, (P,) rows of both, 0 if both are empty; the two are of one image."""
    low = np.maximum(masks.box[a, 0], masks.box[b, 0]), np.maximum(masks.top[a], masks.top[b])
    bottom = masks.top + masks.rows
    columns = np.maximum(np.minimum(masks.box[a, 2], masks.box[b, 2]) - low[0], 0)
    rows = np.maximum(np.minimum(bottom[a], bottom[b]) - low[1], 0)
    steps = masks.rows[a], masks.rows[b]
    starts = [
        masks.first[m] + (low[0] - masks.box[m, 0]) * step + low[1] - masks.top[m]
        for m, step in zip((a, b), steps, strict=True)
    ]
    common = np.zeros(len(a), np.int64)
    part = np.cumsum(columns * rows) // AT_ONCE
    for own in np.split(np.arange(len(a)), np.flatnonzero(np.diff(part)) + 1):
        column, pair = spread(np.zeros_like(own), columns[own])
        first, second = (s[own][pair] + column * step[own][pair] for s, step in zip(starts, steps, strict=True))
        one, of = spread(first, rows[own][pair])
        other, _ = spread(second, rows[own][pair])
        bits = np.bitwise_count(masks.words[one] & masks.words[other])
        common[own] = np.bincount(pair[of], bits, len(own))
    pixels = masks.pixels
    union = pixels[a] + pixels[b] - common
    return np.divide(common, union, out=np.zeros(len(a)), where=union > 0)
