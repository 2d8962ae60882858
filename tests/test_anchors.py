"""Anchors meet the objects a few at a time: the labels are those of torchvision's matcher, whatever the part's size."""

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from seanet import anchors
from seanet.anchors import assign


def boxes_on_a_grid(count: int, seed: int, whole: int = 4) -> torch.Tensor:
    """Corners on multiples of ``whole``, so that many overlaps are equal."""
    draw = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    low = (draw[:, :2] * 80 / whole).floor() * whole
    return torch.cat((low, low + whole + (draw[:, 2:] * 40 / whole).floor() * whole), 1)


@pytest.mark.parametrize("pairs", [1, 1000, 2**21])
@pytest.mark.parametrize("objects", [1, 2, 17])
def test_labels_are_those_of_the_whole_matrix(pairs, objects, monkeypatch):
    monkeypatch.setattr(anchors, "PAIRS", pairs)
    grid, truth = boxes_on_a_grid(400, 0), boxes_on_a_grid(objects, objects)
    labels, found = assign(grid, truth, 0.7, 0.3)
    matched = Matcher(0.7, 0.3, allow_low_quality_matches=True)(box_iou(truth, grid))
    wanted = torch.where(matched == Matcher.BETWEEN_THRESHOLDS, -1.0, (matched >= 0).float())
    assert torch.equal(labels, wanted)
    assert labels.unique().tolist() == [-1, 0, 1]
    assert torch.equal(found[labels == 1], truth[matched[matched >= 0]])


def test_an_image_without_objects_is_background():
    labels, found = assign(boxes_on_a_grid(9, 0), torch.zeros(0, 4), 0.7, 0.3)
    assert not labels.any()
    assert found.shape == (9, 4)
