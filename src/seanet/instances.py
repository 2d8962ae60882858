"""What is found in one image, in the pixels of the file.  N instances, M mask cells a side.  Free of torch.

A mask lives in its box as M x M probabilities until somebody asks for pixels: 100 dense masks of a photograph are
hundreds of megabytes, their boxes a few.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from seanet import pasting
from seanet.errors import MissingExtra


@dataclass(frozen=True)
class Instances:
    """Best first.  ``score`` is the product of its factors: ``cls_score`` and, where a head predicts them, the IoUs.

    With ``box.iou_power`` the first two enter as powers (row 7).
    """

    size: tuple[int, int]  # height, width of the image
    boxes: np.ndarray  # (N, 4) float32 xyxy, pixel i covers i..i+1
    labels: np.ndarray  # (N,) int64, 1..K
    category_ids: np.ndarray  # (N,) int64, the data set's own ids
    names: list[str]  # N
    score: np.ndarray  # (N,) float32
    cls_score: np.ndarray  # (N,) float32
    box_iou: np.ndarray | None  # (N,) float32
    masks: np.ndarray  # (N, M, M) float32, probability inside the box
    edges: np.ndarray | None = None  # (N, M, M) float32, probability inside the box
    mask_iou: np.ndarray | None = None  # (N,) float32
    box_score: np.ndarray | None = None  # (N,) float32, the score without mask_iou, which says nothing of the box
    path: Path | None = None
    geometry: str = "aligned"
    threshold: float = 0.5

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, keep: np.ndarray | slice) -> Instances:
        """The instances at these rows (a mask, indices or a slice)."""
        picked = np.arange(len(self))[keep]
        changes = {
            f.name: getattr(self, f.name)[picked] for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, names=[self.names[i] for i in picked], **changes)

    def probability(self, i: int) -> tuple[np.ndarray, int, int]:
        """Probability at the pixels of one box: (h, w) float32 and the column and row of its first pixel."""
        return self._paste(self.masks[i], self.boxes[i])

    def edge(self, i: int) -> tuple[np.ndarray, int, int]:
        """As ``probability``, of the instance's edges."""
        if self.edges is None:
            raise ValueError(
                "these instances have no edges: predict with edges=True, with a model that has an edge head"
            )
        return self._paste(self.edges[i], self.boxes[i])

    def bitmap(self, i: int) -> tuple[np.ndarray, int, int]:
        """One mask at the pixels of its box: (h, w) bool and the column and row of its first pixel."""
        if self.geometry == "aligned":
            return pasting.paste_bits(self.masks[i], self.boxes[i], self.size, self.threshold)
        probability, left, top = self.probability(i)
        return probability >= self.threshold, left, top

    def dense(self) -> np.ndarray:
        """All masks at the size of the image, (N, H, W) bool: N times the image, so prefer the other forms."""
        masks = np.zeros((len(self), *self.size), dtype=bool)
        for i in range(len(self)):
            bits, left, top = self.bitmap(i)
            masks[i, top : top + bits.shape[0], left : left + bits.shape[1]] = bits
        return masks

    def rle(self) -> list[dict]:
        """COCO's compressed run lengths, one mask after the other; no mask is ever drawn whole."""
        if self.geometry == "aligned":
            drawn = zip(self.masks, self.boxes, strict=True)
            return [pasting.paste_rle(cells, box, self.size, self.threshold) for cells, box in drawn]
        return [pasting.encode_rle(*self.bitmap(i), self.size) for i in range(len(self))]

    def polygons(self, tolerance: float = 0.0) -> list[list[list[np.ndarray]]]:
        """For each instance its polygons, for each polygon its outer ring and then its holes, (n, 2) in pixels.

        The rings run along the pixels' sides; ``tolerance`` in pixels simplifies them.
        """
        from seanet.polygons import mask_polygons, simplify

        shapes = [mask_polygons(*self.bitmap(i)) for i in range(len(self))]
        return [[[simplify(ring, tolerance) if tolerance else ring for ring in p] for p in shape] for shape in shapes]

    def edge_map(self) -> np.ndarray:
        """The largest edge probability at each pixel of the image, (H, W) float32."""
        pixels = np.zeros(self.size, dtype=np.float32)
        for i in range(len(self)):
            values, left, top = self.edge(i)
            window = pixels[top : top + values.shape[0], left : left + values.shape[1]]
            np.maximum(window, values, out=window)
        return pixels

    def label_map(self) -> np.ndarray:
        """(H, W) uint16: 0 for background, else 1 + the row of the best instance there."""
        if len(self) > 65535:
            raise ValueError(f"a label map numbers at most 65535 instances, got {len(self)}")
        labels = np.zeros(self.size, dtype=np.uint16)
        for i in reversed(range(len(self))):
            bits, left, top = self.bitmap(i)
            labels[top : top + bits.shape[0], left : left + bits.shape[1]][bits] = i + 1
        return labels

    def to_coco(self, image_id: int) -> list[dict]:
        """Entries of a COCO results file with the factors of their scores; numbers are plain Python."""
        factors = {"cls_score": self.cls_score, "box_iou": self.box_iou, "mask_iou": self.mask_iou}
        factors["box_score"] = self.box_score
        entries = []
        for i, rle in enumerate(self.rle()):
            x0, y0, x1, y1 = (float(v) for v in self.boxes[i])
            entry = {
                "image_id": image_id,
                "category_id": int(self.category_ids[i]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "segmentation": rle,
                "score": float(self.score[i]),
            }
            entries.append(entry | {name: float(values[i]) for name, values in factors.items() if values is not None})
        return entries

    def to_supervision(self):
        """As ``supervision.Detections``, with dense masks."""
        try:
            import supervision  # ty: ignore[import-not-found]  # an extra that few install
        except ImportError:
            raise MissingExtra("supervision", "supervision", "to_supervision()") from None
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.dense(),
            confidence=self.score,
            class_id=self.labels - 1,
            data={"class_name": np.array(self.names)},
        )

    def _paste(self, cells: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, int, int]:
        return (pasting.paste if self.geometry == "aligned" else pasting.paste_legacy)(cells, box, self.size)
