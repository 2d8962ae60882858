"""What mask AP of small, medium and large objects is made of.

For a range of areas COCO sets aside the objects outside it, the detections that take one of them, and those that take
nothing and lie outside it themselves; neither counts for or against a model.
"""

from __future__ import annotations

from seanet.data.coco import CocoData
from seanet.evaluation.assess import Assessment
from seanet.evaluation.coco import RANGES
from seanet.evaluation.columns import Objects, Ranked
from seanet.evaluation.matching import Hits, hits, mask_areas, near_masks


def hits_by_size(data: CocoData, assessment: Assessment, limit: int) -> dict[str, Hits]:
    """``Hits`` of masks for each range of ``RANGES``; ``limit`` is that of detections an image."""
    entries = [entry for own in assessment.entries for entry in own]
    objects, found = Objects.of(data), Ranked.of(data, entries, limit)
    masks = [entry["segmentation"] for entry in entries]
    near = near_masks(objects, found, masks)
    area = mask_areas(found, masks)
    return {name: hits(data, objects, found, near, limits, area) for name, limits in RANGES.items()}
