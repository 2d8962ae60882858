"""Masks of M x M cells in their boxes, at the image's pixels: as probabilities, bits, and run lengths.  Free of torch.

Windows are h x w pixels of an image of H x W.  A mask of a whole photograph is drawn in strips of columns, so that memory
grows with a strip and not with the box, and most of its pixels are not drawn at all: where the cells around them are all
inside or all outside, so are they.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

STRIP = 2**18  # pixels of a strip, if that is more than the width of a cell


@dataclass(frozen=True)
class Taps:
    """Where the n pixels of one axis lie between the centres of cells: after ``cell``, by ``part`` of the way to ``after``."""

    first: int  # pixel of the image
    cell: np.ndarray  # (n,)
    after: np.ndarray  # (n,)
    part: np.ndarray  # (n,) float32 in 0..1

    def __len__(self) -> int:
        return len(self.cell)

    def __getitem__(self, keep: np.ndarray | slice) -> Taps:
        return Taps(self.first, self.cell[keep], self.after[keep], self.part[keep])

    def between(self, values: np.ndarray) -> np.ndarray:
        """Rows (M, k) of cells -> (n, k) of pixels.  Not as a product of matrices, whose threads cost more than they do."""
        values = np.ascontiguousarray(values)
        pixels = values[self.cell]
        pixels *= (1 - self.part)[:, None]
        pixels += values[self.after] * self.part[:, None]
        return pixels


def paste(cells: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Cells of a box at the image's pixels: bilinear between the cells' centres, at the centre of each pixel.

    Only pixels whose centre lies in the box have a value; beyond the outermost centres the outermost cells go on.
    Returns (h, w) float32 and the column and row of the first pixel.
    """
    rows, columns = _taps(cells, box, size)
    return columns.between(rows.between(cells).T).T, columns.first, rows.first


def _taps(cells: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[Taps, Taps]:
    """Of the rows and of the columns of a box's window."""
    x0, y0, x1, y1 = (float(side) for side in box)
    return _along(y0, y1, cells.shape[0], size[0]), _along(x0, x1, cells.shape[1], size[1])


def _along(low: float, high: float, cells: int, limit: int) -> Taps:
    first = max(int(np.ceil(low - 0.5)), 0)
    last = min(int(np.ceil(high - 0.5)), limit)
    centres = np.arange(first, max(last, first), dtype=np.float32) + 0.5
    position = ((centres - low) / max(high - low, 1e-6) * cells - 0.5).clip(0, cells - 1)
    cell = position.astype(np.int64)
    return Taps(first, cell, np.minimum(cell + 1, cells - 1), (position - cell).astype(np.float32))


def paste_legacy(cells: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """torchvision's paste: the mask padded by one cell, the box grown to match and rounded to pixels."""
    import torch
    from torchvision.models.detection.roi_heads import expand_boxes, expand_masks, paste_mask_in_image

    padded, scale = expand_masks(torch.from_numpy(cells)[None, None], padding=1)
    grown = expand_boxes(torch.from_numpy(np.asarray(box, dtype=np.float32))[None], scale).to(torch.int64)[0]
    pasted = paste_mask_in_image(padded[0, 0], grown, *size).numpy()
    left, top = (max(int(v), 0) for v in grown[:2])
    right, bottom = (int(v) + 1 for v in grown[2:])
    return pasted[top:bottom, left:right], left, top


def paste_bits(
    cells: np.ndarray, box: np.ndarray, size: tuple[int, int], threshold: float
) -> tuple[np.ndarray, int, int]:
    """Where the pasted cells reach the threshold: (h, w) bool and the column and row of the first pixel."""
    rows, columns = _taps(cells, box, size)
    bits = np.empty((len(rows), len(columns)), bool)
    for part, drawn, kept in _strips(cells, rows, columns, threshold):
        bits[:, part] = np.repeat(drawn, np.diff(kept, append=len(rows)), axis=1).T
    return bits, columns.first, rows.first


def paste_rle(cells: np.ndarray, box: np.ndarray, size: tuple[int, int], threshold: float) -> dict:
    """COCO's compressed RLE of what ``paste_bits`` gives, without the bits."""
    rows, columns = _taps(cells, box, size)
    flips = [
        _flips(drawn, np.append(kept, len(rows)) + rows.first, columns.first + part.start, size[0])
        for part, drawn, kept in _strips(cells, rows, columns, threshold)
    ]
    return _rle_of_flips(np.concatenate([np.zeros(0, np.int64), *flips]), size)


def encode_rle(bits: np.ndarray, left: int, top: int, size: tuple[int, int]) -> dict:
    """COCO's compressed RLE of a bitmap at its place in an image, without building the image."""
    rows = np.arange(top, top + bits.shape[0] + 1)
    return _rle_of_flips(_flips(bits.T, rows, left, size[0]), size)


def _strips(
    cells: np.ndarray, rows: Taps, columns: Taps, threshold: float
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Columns of a window, their bits (w', n) column by column, and the n rows that these are of.

    A row that is left out repeats the one before.
    """
    step = max(STRIP // max(len(rows), 1), len(columns) // cells.shape[1], 1)
    for start in range(0, len(columns), step):
        part = columns[start : start + step]
        kept = _rows_to_draw(rows, cells[:, part.cell[0] : part.after[-1] + 1] >= threshold)
        yield slice(start, start + len(part)), part.between(rows[kept].between(cells).T) >= threshold, kept


def _rows_to_draw(rows: Taps, above: np.ndarray) -> np.ndarray:
    """Rows of pixels that are not sure to repeat the one before; ``above``: (M, m) cells, 0 or 1.

    Between cells that all lie above the threshold, or all below, so does every pixel.
    """
    repeats = np.zeros(len(rows), bool)
    for side in (above, ~above):
        agreed: np.ndarray = np.all(side, axis=1)
        sure = agreed[rows.cell] & agreed[rows.after]
        repeats[1:] |= sure[1:] & sure[:-1]
    return np.flatnonzero(~repeats)


def _flips(bits: np.ndarray, rows: np.ndarray, left: int, height: int) -> np.ndarray:
    """Where runs begin and end, counted down the image's columns: bits (w, n) of columns from ``left`` on.

    ``rows`` (n + 1) are the image's rows of the bits, and of the end of the last one.
    """
    width, count = bits.shape
    framed = np.zeros(width * (count + 1) + 1, bool)  # a column's last run ends in what stands between the columns
    framed[1:].reshape(width, count + 1)[:, :count] = bits
    column, row = np.divmod(np.flatnonzero(framed[1:] != framed[:-1]), count + 1)
    return (column + left) * height + rows[row]


def _rle_of_flips(flips: np.ndarray, size: tuple[int, int]) -> dict:
    """A run that ends where the next begins, at the image's last row and at its first, goes on."""
    from seanet.data.bitmaps import runs_to_rle

    meets = flips[1:] == flips[:-1]
    flips = flips[~(np.append(meets, False) | np.append(False, meets))[: len(flips)]]
    counts = np.diff(flips, prepend=0, append=size[0] * size[1])
    counts = counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts
    rle = runs_to_rle(counts, *size)
    return rle | {"counts": rle["counts"].decode("ascii")}
