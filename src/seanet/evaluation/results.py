"""Files of results in COCO's format, of anybody's model, checked against the data before anything is computed."""

from __future__ import annotations

from pathlib import Path

from seanet.data.coco import CocoData


def read_results(path: Path | str, data: CocoData) -> list[dict]:
    """Entries with image_id, category_id, score, bbox and compressed run lengths as segmentation."""
    raise NotImplementedError
