"""Masks of M x M cells in their boxes, at the image's pixels: as probabilities, bits, and run lengths.  Free of torch.

Windows are h x w pixels of an image of H x W.  A mask of a whole photograph is drawn in strips of columns, so that memory
grows with a strip and not with the box, and most of its pixels are not drawn at all: where the cells around them are all
inside or all outside, so are they.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

STRIP = 2**18  # pixels of a strip, if that is more than the width of a cell


def paste(cells: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Cells of a box at the image's pixels: bilinear between the cells' centres, at the centre of each pixel.

    Only pixels whose centre lies in the box have a value; beyond the outermost centres the outermost cells go on.
    Returns (h, w) float32 and the column and row of the first pixel.
    """
    rows, columns, left, top = _weights(cells, box, size)
    return rows @ cells @ columns.T, left, top


def _weights(cells: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Interpolation of the rows (h, M) and columns (w, M) of a window, and the column and row of its first pixel."""
    x0, y0, x1, y1 = (float(side) for side in box)
    rows, top = _interpolation(y0, y1, cells.shape[0], size[0])
    columns, left = _interpolation(x0, x1, cells.shape[1], size[1])
    return rows, columns, left, top


def _interpolation(low: float, high: float, cells: int, limit: int) -> tuple[np.ndarray, int]:
    """Weights (pixels, cells) along one axis, and the first pixel."""
    first = max(int(np.ceil(low - 0.5)), 0)
    last = min(int(np.ceil(high - 0.5)), limit)
    centres = np.arange(first, max(last, first), dtype=np.float32) + 0.5
    position = (centres - low) / max(high - low, 1e-6) * cells - 0.5
    distance = np.abs(np.clip(position, 0, cells - 1)[:, None] - np.arange(cells, dtype=np.float32))
    return np.clip(1 - distance, 0, None).astype(np.float32), first


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
    rows, columns, left, top = _weights(cells, box, size)
    bits = np.empty((len(rows), len(columns)), bool)
    for part, drawn, kept in _strips(cells, rows, columns, threshold):
        bits[:, part] = np.repeat(drawn, np.diff(kept, append=len(rows)), axis=1).T
    return bits, left, top


def paste_rle(cells: np.ndarray, box: np.ndarray, size: tuple[int, int], threshold: float) -> dict:
    """COCO's compressed RLE of what ``paste_bits`` gives, without the bits."""
    rows, columns, left, top = _weights(cells, box, size)
    strips = _strips(cells, rows, columns, threshold)
    flips = [
        _flips(drawn, np.append(kept, len(rows)) + top, left + part.start, size[0]) for part, drawn, kept in strips
    ]
    return _rle_of_flips(np.concatenate([np.zeros(0, np.int64), *flips]), size)


def encode_rle(bits: np.ndarray, left: int, top: int, size: tuple[int, int]) -> dict:
    """COCO's compressed RLE of a bitmap at its place in an image, without building the image."""
    rows = np.arange(top, top + bits.shape[0] + 1)
    return _rle_of_flips(_flips(bits.T, rows, left, size[0]), size)


def _strips(
    cells: np.ndarray, rows: np.ndarray, columns: np.ndarray, threshold: float
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Columns of a window, their bits (w', n) column by column, and the n rows that these are of.

    A row that is left out repeats the one before.
    """
    step = max(STRIP // max(len(rows), 1), len(columns) // cells.shape[1], 1)
    for start in range(0, len(columns), step):
        part = columns[start : start + step]
        kept = _rows_to_draw(rows, cells[:, part.any(0)] >= threshold)
        yield slice(start, start + len(part)), part @ (rows[kept] @ cells).T >= threshold, kept


def _rows_to_draw(rows: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Rows of pixels, (h, M) weights, that are not sure to repeat the one before; ``above``: (M, m) cells, 0 or 1.

    Between cells that all lie above the threshold, or all below, so does every pixel.
    """
    touched = rows > 0
    sure_above, sure_below = ~(touched @ ~above.all(1)), ~(touched @ above.any(1))
    repeats = (sure_above[1:] & sure_above[:-1]) | (sure_below[1:] & sure_below[:-1])
    return np.flatnonzero(np.concatenate([np.ones(min(len(rows), 1), bool), ~repeats]))


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
