"""Overlays, label maps, charts and pages."""

import re
import tracemalloc
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from seanet.errors import UserError
from seanet.report import draw
from seanet.report.charts import line_chart, ticks
from seanet.report.files import write_whole
from seanet.report.page import write_page

GREY = np.full((60, 80, 3), 100, np.uint8)


def disc(radius):
    y, x = np.mgrid[: 2 * radius, : 2 * radius] + 0.5
    return np.hypot(x - radius, y - radius) < radius


def dense(size, mask):
    bits, x, y = mask
    full = np.zeros((200, 200), bool)
    full[50 + y : 50 + y + bits.shape[0], 50 + x : 50 + x + bits.shape[1]] = bits
    return full[50 : 50 + size[0], 50 : 50 + size[1]]


MASKS = [(disc(12), 10, 5), (disc(15), 60, -8), (disc(9), 3, 50), (disc(10), 20, 12), (np.zeros((0, 4), bool), 7, 7)]


def test_overlay_changes_the_masks_and_nothing_else():
    before = GREY.copy()
    changed = (draw.overlay(GREY, MASKS) != GREY).any(-1)
    assert (changed == np.any([dense((60, 80), mask) for mask in MASKS], 0)).all()
    assert (before == GREY).all()


def test_masks_outside_the_image_change_nothing():
    away = [(disc(5), -30, 2), (disc(5), 2, 300), (disc(5), 90, 70)]
    assert (draw.overlay(GREY, away) == GREY).all()


def test_no_instances_leave_the_image_as_it_is():
    assert (draw.overlay(GREY, [], [], [], np.zeros((0, 4))) == GREY).all()


def test_best_instance_lies_on_top_with_its_outline_in_full_colour():
    both = [(np.ones((10, 10), np.uint8), 5, 5), (np.ones((10, 10), np.uint8), 10, 5)]
    drawn = draw.overlay(GREY, both, alpha=0.5)
    assert tuple(drawn[5, 12]) == draw.PALETTE[0]
    assert tuple(drawn[5, 17]) == draw.PALETTE[1]
    assert (drawn[8, 7] == np.round((100 + np.array(draw.PALETTE[0])) / 2)).all()


@pytest.mark.parametrize("scale", [1, 3])
def test_labels_and_boxes_stay_inside_the_image(scale):
    boxes = np.array([(x, y, x + b.shape[1], y + b.shape[0]) for b, x, y in MASKS])
    names = ["ring", "a very long name that is wider than the image", "é", "<b>", "none"]
    drawn = draw.overlay(GREY, MASKS, names, [0.9, 0.5, 0.1, 1, 0], boxes, scale=scale)
    assert drawn.shape == (60 * scale, 80 * scale, 3)
    assert drawn.dtype == np.uint8


def test_labels_avoid_each_other():
    taken = []
    for _ in range(4):
        taken.append(draw._free((20, 20, 70, 50), (30, 10), (100, 100), taken))
    assert sum(draw._shared(a, b) for i, a in enumerate(taken) for b in taken[:i]) == 0


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="expected 5 labels"):
        draw.overlay(GREY, MASKS, ["a"])
    with pytest.raises(ValueError, match="uint8"):
        draw.overlay(GREY / 255, MASKS)


def test_edges_are_light_over_a_dim_image():
    probability = np.zeros((5, 7), np.float32)
    probability[1, 3] = 0.8
    picture = draw.edge_overlay(GREY[:5, :7], probability)
    assert (picture[4, 6] == 35).all()
    assert (picture[1, 3] == draw.heat(np.array(0.8, np.float32))).all()
    assert draw.edge_overlay(GREY[:5, :7], probability, scale=2).shape == (10, 14, 3)


def test_outline_is_the_inner_boundary():
    assert draw.outline(np.ones((5, 6), bool)).sum() == 18
    assert draw.outline(np.ones((5, 6), bool), 2).sum() == 28
    assert not draw.outline(np.zeros((3, 3), bool)).any()


def test_label_map_survives_its_file(tmp_path):
    numbers = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80)
    path = draw.write_label_map(tmp_path / "maps" / "a.png", numbers)
    assert (np.asarray(Image.open(path)) == numbers).all()
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_page_needs_nothing_but_itself(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    rows = [[("Image", noise), ("Truth", Image.fromarray(GREY)), ("Edges", GREY[..., 0])], [("<i>", noise)]]
    chart = line_chart({"mask": [(0, 1.0), (1, 0.5)]}, "Loss", "step", "loss")
    path = write_page(tmp_path / "page.html", "A & <b>", [("AP", 41.2)], rows, ["First <script>"], [chart])
    text = path.read_text()
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 4
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in sources)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert not re.search(r"href=|@import|url\(|<script", text)
    assert "A &amp; &lt;b&gt;" in text
    assert "First &lt;script&gt;" in text
    assert chart in text
    assert write_page(path, "Empty").read_text().count("<section") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_chart_is_sound_for_any_series():
    nan = float("nan")
    odd = {
        "a & b": [],
        "<one>": [(3, 2.0)],
        "flat": [(0, 1), (5, 1)],
        "gap": [(0, nan), (1, 1e-7)],
        "long": [(i, i) for i in range(5000)],
    }
    for series in [{}, odd, {"flat": [(2, 0), (3, 0)]}, *({k: v} for k, v in odd.items())]:
        svg = line_chart(series, "T < U", "x", "y")
        tree = ElementTree.fromstring(svg)
        assert "nan" not in svg
        for line in tree.iter("polyline"):
            points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
            assert len(points) <= 300
            assert all(0 <= x <= 560 and 0 <= y <= 300 for x, y in points)


def test_the_diagonal_leads_from_corner_to_corner():
    tree = ElementTree.fromstring(line_chart({"a": [(0.2, 0.1)]}, "T", up_to=(1, 1), diagonal="equal"))
    dashed = [path.get("d") for path in tree.iter("path") if path.get("stroke-dasharray")]
    legend, line = dashed
    assert line == "M58.0 256.0L546.0 56.0"
    assert legend != line
    assert [text.text for text in tree.iter("text")].count("equal") == 1
    assert len(list(tree.iter("rect"))) == 1, "the diagonal is no series"


def test_shares_that_are_all_zero_have_an_axis_from_zero_to_one():
    texts = [text.text for text in ElementTree.fromstring(line_chart({"a": [(1, 0), (3, 0)]}, "T")).iter("text")]
    assert "-1" not in texts
    assert "0" in texts


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder", tmp_path / "file" / "page.html"):
        with pytest.raises(UserError, match=f"{path}: cannot be written"):
            write_whole(path, b"")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


def test_legend_breaks_into_rows():
    tree = ElementTree.fromstring(line_chart({f"a_long_name_{k}": [(0, 1), (1, k)] for k in range(9)}, "T"))
    assert all(float(rect.get("x")) < 460 for rect in tree.iter("rect"))
    assert len({rect.get("y") for rect in tree.iter("rect")}) > 1


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.013, 0.017), (-3, 1200), (5, 5), (0, 0), (-2, -2), (1e-9, 3e-9)])
def test_ticks_span_the_data(low, high):
    marks = ticks(low, high, 5)
    assert 2 <= len(marks) <= 8
    assert marks[0] <= low <= high <= marks[-1]
    assert marks == sorted(set(marks))


def test_masks_are_drawn_one_at_a_time(monkeypatch):
    """60 masks that fill an image: together 18 MB, and the floats of one tint or map more than that."""
    monkeypatch.setattr(draw, "PART", 2**12)

    class Discs(Sequence):
        def __len__(self):
            return 60

        def __getitem__(self, i):
            return round_mask.copy(), i, 25

    image, round_mask = np.full((600, 600, 3), 90, np.uint8), disc(275)
    tracemalloc.start()
    draw.overlay(image, Discs(), ["a"] * 60)
    draw.heat(np.zeros((600, 600), np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
