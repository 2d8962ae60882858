"""Masks of one image as bits of words: moving a mask costs 1/64 of its pixels.

J rows of words, C columns.  Bit b of word (j, c) is the pixel at x = x0 + c, y = 64 (j0 + j) + b of the image, so that
masks of one image lie word on word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seanet.data.bitmaps import Bitmap, runs_of

WORD = 64
Window = tuple[int, int, int, int]
"""x0, j0, x1, j1: columns of pixels and words of rows, half open."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A mask in its smallest window of columns and words."""

    words: np.ndarray  # (J, C) uint64
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the image, tight; all 0 for an empty mask

    @property
    def window(self) -> Window:
        x0, y0, x1, y1 = self.box
        return x0, y0 // WORD, x1, -(-y1 // WORD)

    @property
    def area(self) -> int:
        return int(np.bitwise_count(self.words).sum(dtype=np.int64))

    def cut(self, window: Window) -> np.ndarray:
        """Words of this mask in another window, which may reach past its own."""
        x0, j0, x1, j1 = self.window
        left, top, right, bottom = window
        words = np.zeros((bottom - top, right - left), np.uint64)
        a, b, c, d = max(x0, left), max(j0, top), min(x1, right), min(j1, bottom)
        if a < c and b < d:
            words[b - top : d - top, a - left : c - left] = self.words[b - j0 : d - j0, a - x0 : c - x0]
        return words


EMPTY = Packed(np.zeros((0, 0), np.uint64), (0, 0, 0, 0))


def pack(bitmap: Bitmap) -> Packed:
    """The same mask in words."""
    bitmap = bitmap.tight()
    if not bitmap.bits.size:
        return EMPTY
    x0, y0, x1, y1 = bitmap.window
    above, below = y0 % WORD, -y1 % WORD
    bits = np.pad(bitmap.bits.T, ((0, 0), (above, below)))
    columns = np.ascontiguousarray(np.packbits(bits, axis=1, bitorder="little")).view(np.uint64)
    return Packed(np.ascontiguousarray(columns.T), (x0, y0, x1, y1))


def unpack(words: np.ndarray, x0: int = 0, j0: int = 0) -> Bitmap:
    """(J, C) words as pixels, whole words of rows."""
    return Bitmap(bits_of(words).view(np.uint8).T, x0, j0 * WORD)


def bits_of(words: np.ndarray) -> np.ndarray:
    """(J, C) words -> (C, 64 J) bool: column by column, as run lengths go."""
    return np.unpackbits(np.ascontiguousarray(words.T).view(np.uint8), axis=1, bitorder="little").view(bool)


def pack_rle(rle: dict) -> Packed:
    """A mask from COCO's compressed run lengths, which are trusted, without drawing its pixels."""
    return pack_runs(runs_of(rle), rle["size"][0])


def pack_runs(counts: np.ndarray, height: int) -> Packed:
    """The same from run lengths, (n,) int64.

    Both ends of each run flip a bit; the parity of the flips up to a pixel, by doubling within a word and by a running
    sum over words, is the mask.
    """
    edges = np.cumsum(counts)
    start, last = edges[0 : len(edges) - 1 : 2], edges[1::2] - 1
    if (counts[1::2] == 0).any():
        filled = start <= last
        start, last = start[filled], last[filled]
    if not len(start):
        return EMPTY
    (first_x, first_y), (last_x, last_y) = np.divmod(start, height), np.divmod(last, height)
    x0, x1 = int(first_x[0]), int(last_x[-1]) + 1
    # A run that goes on in the next column fills its own to the last row and the next from the first.
    wraps = (first_x != last_x).any()
    y0, y1 = (0, height) if wraps else (int(first_y.min()), int(last_y.max()) + 1)
    j0, j1 = y0 // WORD, -(-y1 // WORD)
    stride = (j1 - j0) * WORD
    flips = np.concatenate([first_x * stride + first_y, last_x * stride + last_y + 1]) - (x0 * stride + j0 * WORD)
    words = np.zeros((x1 - x0) * (j1 - j0) + 1, np.uint64)  # the last run may flip the bit behind the last word
    np.bitwise_xor.at(words, flips >> 6, np.uint64(1) << (flips & 63).astype(np.uint64))
    for step in (1, 2, 4, 8, 16, 32):
        words ^= words << np.uint64(step)
    odd = np.bitwise_xor.accumulate(words >> np.uint64(63))
    words[1:] ^= -odd[:-1]
    words = np.ascontiguousarray(words[:-1].reshape(x1 - x0, j1 - j0).T)
    return Packed(words & frame(j0, j1, height) if wraps else words, (x0, y0, x1, y1))


def frame(j0: int, j1: int, height: int) -> np.ndarray:
    """(J, 1) words whose bits are set at the rows of an image of that height."""
    bits = np.arange(j0 * WORD, j1 * WORD) < height
    return np.packbits(bits, bitorder="little").view(np.uint64)[:, None]


def moved_down(words: np.ndarray, n: int) -> np.ndarray:
    """(J, ...) words with each pixel ``n`` rows further down; zeros come in from above."""
    whole, bits = divmod(n, WORD)
    if whole:
        words = np.concatenate([np.zeros_like(words[:whole]), words[:-whole]])
    moved = words << np.uint64(bits)
    if bits:
        moved[1:] |= words[:-1] >> np.uint64(WORD - bits)
    return moved


def moved_up(words: np.ndarray, n: int) -> np.ndarray:
    """The same, upwards."""
    whole, bits = divmod(n, WORD)
    if whole:
        words = np.concatenate([words[whole:], np.zeros_like(words[:whole])])
    moved = words >> np.uint64(bits)
    if bits:
        moved[:-1] |= words[1:] << np.uint64(WORD - bits)
    return moved


def moved_right(words: np.ndarray, n: int) -> np.ndarray:
    """(J, C) words with each pixel ``n`` columns further right, or left where n < 0; zeros come in."""
    moved, columns = np.zeros_like(words), words.shape[1]
    if abs(n) < columns:
        moved[:, max(n, 0) : columns + min(n, 0)] = words[:, max(-n, 0) : columns - max(n, 0)]
    return moved


def eroded(words: np.ndarray, n: int) -> np.ndarray:
    """Pixels whose square of 2n + 1 pixels a side lies within the mask; beyond the (J, C) words there is none."""
    words = moved_up(_run(words, 2 * n + 1, moved_down), n)
    return moved_right(_run(words, 2 * n + 1, moved_right), -n)


def _run(words: np.ndarray, length: int, moved) -> np.ndarray:
    """Pixels that end a run of that length, by doubling."""
    have = 1
    while have < length:
        step = min(have, length - have)
        ended = moved(words, step)
        ended &= words
        words = ended
        have += step
    return words
