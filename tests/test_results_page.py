"""The results page: differences have known answers, words follow figures, and the page says what its records say."""

import json
import math
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from PIL import Image

from found import rle
from seanet.data.coco import CocoData, read_coco
from seanet.errors import UserError
from seanet.evaluation.assess import measure_results

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="not part of the package")
sys.path.append(str(ROOT / "benchmarks"))

import results  # noqa: E402
from experiment.differences import FIGURES, OF_FAILURES, difference, measure, write_differences  # noqa: E402
from experiment.errors import KINDS as MISTAKES  # noqa: E402
from experiment.errors import errors  # noqa: E402
from experiment.evidence import ALL, FIXED, Difference, Evidence, Pairing, read_evidence  # noqa: E402
from experiment.page import MAIN, PAIRS, answer  # noqa: E402
from experiment.pictures import choose, comparison  # noqa: E402
from experiment.rows import ROWS  # noqa: E402
from experiment.tables import change, fixed_table, level, of_paper, signed  # noqa: E402
from experiment.verdicts import BETTER, NOTHING, UNKNOWN, WITHIN, WORSE, beyond_noise, least, verdict  # noqa: E402

SIDE, LONG = 96, 24  # pixels of an image, and of the squares in it
CORNERS = ((8, 8), (60, 8), (8, 60), (60, 60))
KINDS = ("none", "box", "none", "box")  # of four images


def entry(image: int, x: int, y: int) -> dict:
    bits = np.zeros((SIDE, SIDE), np.uint8)
    bits[y : y + LONG, x : x + LONG] = 1
    return {"image_id": image, "category_id": 1, "score": 0.9, "bbox": [x, y, LONG, LONG], "segmentation": rle(bits)}


def found(moved: int = 0, missed: str = "") -> list[dict]:
    """The first square of every image moved to the right, the last one not found in images of the kind ``missed``."""
    return [
        entry(i, x + (moved if (x, y) == CORNERS[0] else 0), y)
        for i, kind in enumerate(KINDS, 1)
        for x, y in CORNERS
        if (x, y) != CORNERS[-1] or kind != missed
    ]


@pytest.fixture
def out(tmp_path) -> Path:
    """The folder of an ablation with its data, four squares in each image."""
    folder, annotations = tmp_path / "out" / "data" / "val", tmp_path / "out" / "data" / "annotations"
    folder.mkdir(parents=True)
    annotations.mkdir()
    for i, _ in enumerate(KINDS, 1):
        Image.new("RGB", (SIDE, SIDE), (90, 120, 150)).save(folder / f"{i}.png")
    images = [
        {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE, "failure": kind}
        for i, kind in enumerate(KINDS, 1)
    ]
    objects = [{**e, "id": i, "area": LONG**2, "iscrowd": 0} for i, e in enumerate(found(), 1)]
    content = {"images": images, "categories": [{"id": 1, "name": "square"}], "annotations": objects}
    (annotations / "instances_val.json").write_text(json.dumps(content))
    (tmp_path / "out" / "results").mkdir()
    return tmp_path / "out"


def data_of(out: Path) -> CocoData:
    return read_coco(out / "data" / "annotations" / "instances_val.json", out / "data" / "val")


def put(out: Path, row: str, entries: list[dict], seeds: int = 3) -> Path:
    """Results of a row, the same with every seed, and their records; -> the folder of the preset's records."""
    data, records = data_of(out), out.parent / "records" / "cpu"
    records.mkdir(parents=True, exist_ok=True)
    kinds = {}
    for kind in set(KINDS):
        part = replace(data, images=tuple(i for i, k in zip(data.images, KINDS, strict=True) if k == kind))
        ids = {image.id for image in part.images}
        kinds[kind] = measure_results(part, [e for e in entries if e["image_id"] in ids], 100)
    for seed in range(seeds):
        (out / "results" / f"{row}-s{seed}.json").write_text(json.dumps(entries))
        record = {"row": row, "seed": seed, "recipe": f"{row}_lite", "weights_of": ROWS[row].of, "steps": 9, "batch": 2}
        record |= {"data": {"images": {"train": 8, "val": 4}, "size": SIDE, "seed": 0, "digest": "0"}}
        record |= {"minutes": {"train": 30.0, "evaluate": 1.5}}
        record |= {"machine": {"device": "cpu", "threads": 1, "torch": "2", "seanet": "1"}}
        record |= {"metrics": measure_results(data, entries, 100), "by_failure": kinds}
        (records / f"{row}-s{seed}.json").write_text(json.dumps(record))
    return records


def measured(out: Path, records: Path) -> Evidence:
    evidence = read_evidence(records, measured=False)
    content = measure(data_of(out), out / "results", evidence, PAIRS, resamples=200)
    write_differences(records, content)
    return read_evidence(records)


def test_a_row_differs_by_nothing_from_the_same_results(out):
    put(out, "mask_rcnn", found(moved=2, missed="box"))
    evidence = measured(out, put(out, "seanet", found(moved=2, missed="box")))
    for group in (ALL, "none", "box"):
        for key in FIGURES if group == ALL else OF_FAILURES:
            told = evidence.difference(*MAIN, key, group)
            assert told == Difference(0.0, (0.0, 0.0, 0.0), (0.0, 0.0), (0.0, 0.0)), key
            assert verdict(evidence, *MAIN, key, group) == NOTHING


def test_differences_by_construction(out):
    """A misses one square of four where images are of the kind box, and of all others has every pixel."""
    put(out, "mask_rcnn", found(missed="box"))
    evidence = measured(out, put(out, "seanet", found()))
    recall = evidence.difference(*MAIN, "TA@R/3px", "box")
    assert recall == Difference(0.25, (0.25,) * 3, (0.25, 0.25), (0.25, 0.25))  # whatever images are drawn
    precision = evidence.difference(*MAIN, "segm/AP", "box")
    assert precision.by == pytest.approx(25 / 101, abs=1e-6)  # of recalls 0, .01, ... 1 those to .75 are reached
    for key in OF_FAILURES:
        assert evidence.difference(*MAIN, key, "none").by == 0
        assert verdict(evidence, *MAIN, key, "box") == BETTER
    over_all = evidence.difference(*MAIN, "TA@R/3px")
    assert over_all.by == pytest.approx(0.125)
    low, high = over_all.images
    assert 0 <= low < 0.125 < high <= 0.25  # images of the kind box are drawn more and less often
    assert evidence.difference(*MAIN, "TA/3px").by == 0  # what is found is found as well


def test_every_figure_is_that_of_the_records(out):
    put(out, "mask_rcnn", found(moved=1))
    records = put(out, "seanet", found(moved=3, missed="none"))
    evidence = measured(out, records)
    for group in (ALL, "none", "box"):
        for key in OF_FAILURES:
            a, b = (fmean(evidence.values(row, key, group)) for row in reversed(MAIN))
            assert evidence.difference(*MAIN, key, group).by == pytest.approx(b - a, abs=1e-6)


def test_intervals_of_seeds():
    """Of three seeds the extremes of 27 equal draws have a share of 1/27, more than 2.5 %: they are the interval."""
    told = difference(np.repeat([[0.01], [0.02], [0.06]], 2001, axis=1))
    assert told.by == pytest.approx(0.03)
    assert told.images == pytest.approx((0.03, 0.03))
    stretch = math.sqrt(3 / 2)
    assert told.both == pytest.approx((0.03 - stretch * 0.02, 0.03 + stretch * 0.03))
    assert difference(np.zeros((2, 101))).both is None


def test_drawn_seeds_stray_as_far_as_new_ones():
    """The variance of the draws is that of a mean of S seeds, s^2 / S."""
    values = np.random.default_rng(0).normal(0, 0.01, 40)
    low, high = difference(np.repeat(values[:, None], 4001, axis=1)).both
    assert (high - low) / 2 == pytest.approx(1.96 * stdev(values) / math.sqrt(40), rel=0.06)


def made(by: dict[str, tuple[float, tuple[float, float], int]], values: dict[str, list[float]]) -> Evidence:
    """Evidence in mask AP: levels of rows by seed, and differences to Mask R-CNN with (by, interval, seeds)."""
    records = {
        row: {
            seed: {"metrics": {"segm": {"AP": v}}, "weights_of": ROWS[row].of if row in ROWS else None}
            for seed, v in enumerate(own)
        }
        for row, own in values.items()
    }
    pairings = {}
    for row, (mean, interval, seeds) in by.items():
        told = Difference(mean, (mean,) * seeds, interval, interval if seeds > 2 else None)
        pairings[row, "mask_rcnn"] = Pairing(tuple(range(seeds)), {ALL: {"segm/AP": told}})
    return Evidence("cpu", records, pairings)


def test_noise_is_pooled_over_trained_rows_with_several_seeds():
    values = {"mask_rcnn": [0.31, 0.32, 0.33], "seanet": [0.42, 0.44], "seanet_box": [0.1]}
    evidence = made({}, values | {"seanet_read_nms_50": [0.1, 0.9]})
    deviation, freedom = evidence.noise("segm/AP")
    assert freedom == 3
    assert deviation == pytest.approx(math.sqrt((2 * 0.01**2 + 2 * 0.01**2) / 3))
    assert least(evidence, "segm/AP", 2) == pytest.approx(3.18 * deviation)
    assert level(values["mask_rcnn"]) == "32.0 ± 1.0"
    assert level([0.1]) == "10.0 ¹"


@pytest.mark.parametrize(
    ("by", "interval", "seeds", "word"),
    [
        (0.05, (0.03, 0.07), 3, BETTER),
        (-0.05, (-0.07, -0.03), 3, WORSE),
        (0.05, (-0.01, 0.11), 3, NOTHING),
        (0.02, (0.01, 0.03), 3, WITHIN),  # least: 2.78 x .01 x sqrt(2 / 3) = .0227
        (0.03, (0.01, 0.05), 1, WITHIN),  # least: 2.78 x .01 x sqrt(2) = .0393
        (0.04, (0.01, 0.07), 1, BETTER),
    ],
)
def test_words_follow_interval_and_noise(by, interval, seeds, word):
    values = {"mask_rcnn": [0.31, 0.32, 0.33], "seanet_box": [0.41, 0.42, 0.43], "seanet": [0.4] * seeds}
    if seeds == 3:
        values["seanet"], values["seanet_box"] = values["seanet_box"], [0.4]
    evidence = made({"seanet": (by, interval, seeds)}, values)
    assert verdict(evidence, *MAIN, "segm/AP") == word


def test_levels_beside_a_difference_are_of_its_seeds():
    evidence = made({"seanet": (0.07, (0.06, 0.08), 1)}, {"mask_rcnn": [0.3, 0.4, 0.5], "seanet": [0.37]})
    shared = evidence.shared(*MAIN)
    assert [evidence.values(row, "segm/AP", seeds=shared) for row in MAIN] == [[0.37], [0.3]]
    assert evidence.shared("seanet_box", "mask_rcnn") is None


def test_words_without_noise_of_seeds():
    """Of readings of the same weights the interval decides; where no row has several seeds nothing is said."""
    single = {"mask_rcnn": [0.3], "seanet": [0.31], "mask_rcnn_read_nms_60": [0.301]}
    told = {"mask_rcnn_read_nms_60": (0.001, (0.0005, 0.0015), 1), "seanet": (0.01, (0.005, 0.015), 1)}
    evidence = made(told, single)
    assert verdict(evidence, "mask_rcnn_read_nms_60", "mask_rcnn", "segm/AP") == BETTER
    assert verdict(evidence, *MAIN, "segm/AP") == UNKNOWN
    assert verdict(evidence, "seanet_box", "mask_rcnn", "segm/AP") == "-"


def test_noise_may_be_lent_by_other_runs_of_the_same_data():
    many = made({}, {"mask_rcnn": [0.31, 0.32, 0.33], "seanet": [0.41, 0.42, 0.43]})
    told = {"seanet": (0.05, (0.03, 0.07), 1)}
    single = replace(made(told, {"mask_rcnn": [0.3], "seanet": [0.35]}), lender=many)
    assert single.noise("segm/AP") == many.noise("segm/AP")
    assert verdict(single, *MAIN, "segm/AP") == BETTER  # least: .0393, as above
    several = replace(made(told, {"mask_rcnn": [0.2, 0.4], "seanet": [0.35]}), lender=many)
    assert verdict(several, *MAIN, "segm/AP") == WITHIN


def test_numbers_as_text():
    assert [signed(v) for v in (0.0123, -0.0123, 0.0004, -0.0004, math.nan)] == ["+1.2", "−1.2", "0.0", "0.0", "-"]
    both = Difference(0.01, (0.01,) * 3, (0.002, 0.018), (-0.001, 0.021))
    assert change(both, sure=True) == "**+1.0 [−0.1, +2.1]**"
    assert change(replace(both, both=None)) == "+1.0 (+0.2, +1.8)"
    assert change(None) == "-"


def test_differences_of_the_paper():
    assert of_paper(2, "seanet", "mask_rcnn", "segm/AP") == "+1.2"
    assert of_paper(2, "seanet", "mask_rcnn", "bbox/AP50") == "−1.5"
    assert of_paper(4, "seanet_concat", "seanet", "segm/AP") == "−0.4"
    assert of_paper(4, "seanet_box_attention", "seanet", "segm/AP75") == "−0.8"
    assert of_paper(2, "seanet", "mask_rcnn", "boundary/AP") == "-"
    assert of_paper(2, "seanet_fused", "seanet", "segm/AP") == "-"


def boxes(*given: tuple[int, int, int, float]) -> list[dict]:
    """Detections in image 1 as (x, y, category, box score); all have the same mask and, as score, another order."""
    return [
        entry(1, 8, 8) | {"bbox": [x, y, LONG, LONG], "category_id": category, "score": -rank, "box_score": rank}
        for x, y, category, rank in given
    ]


def squares(*corners: tuple[int, int]) -> list[dict]:
    """Objects of image 1."""
    return [{**entry(1, x, y), "id": i, "area": LONG**2, "iscrowd": 0} for i, (x, y) in enumerate(corners, 1)]


def test_every_mistake_of_a_box(out):
    """A square of 24 px that is moved by 8 px along one side overlaps by 16 / 32 = .5, by 15 it does by 9 / 39 = .23."""
    content = json.loads((out / "data" / "annotations" / "instances_val.json").read_text())
    content["categories"].append({"id": 2, "name": "disc"})
    content["annotations"] = squares(*CORNERS, (8, 34), (34, 34))
    content["images"] = content["images"][:1]
    (out / "data" / "annotations" / "instances_val.json").write_text(json.dumps(content))
    found = boxes(
        (16, 8, 1, 0.9),  # true: at .5 exactly
        (8, 8, 1, 0.8),  # overlaps it better but comes later: a duplicate
        (60, 8, 2, 0.7),  # on a square, but named a disc
        (23, 60, 1, 0.6),  # off a square
        (75, 60, 2, 0.5),  # off a square, and named a disc
        (84, 40, 1, 0.4),  # nowhere
        (60, 8, 1, 0.3),  # true, but the seventh of six objects: not among the best
    )
    told = errors(data_of(out), found)
    assert told["objects"] == 6
    assert told["shares"] == {kind: pytest.approx(1 / 6, abs=1e-6) for kind in MISTAKES}
    assert told["reached"] == pytest.approx({"50": 2 / 6, "75": 2 / 6}, abs=1e-6)  # the first and the second square
    assert told["score"] == {"true": 0.9, "false": 0.6}  # of .8, .7, .6, .5, .4
    assert errors(data_of(out), [])["shares"] == dict.fromkeys(MISTAKES, 0.0)
    assert errors(data_of(out), found[2:3])["score"] == {"true": None, "false": 0.7}


def test_a_crowd_region_forgives_and_a_free_object_is_taken(out):
    """Of two objects almost at one place each has a box there; in a crowd region no box is false."""
    file = out / "data" / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    first, second, region = squares((8, 8), (10, 8), (60, 60))
    content |= {"images": content["images"][:1], "annotations": [first, second, region | {"iscrowd": 1}]}
    file.write_text(json.dumps(content))
    told = errors(data_of(out), boxes((60, 60, 1, 0.9), (9, 8, 1, 0.8), (9, 8, 1, 0.7)))
    assert told["objects"] == 2
    assert told["shares"]["true"] == told["reached"]["75"] == 1


def in_true_boxes(level: float, most: float = 0.9) -> dict:
    """The part of a record about masks in the true boxes, every share the same."""

    def figures(value: float) -> dict:
        shares = {name: dict.fromkeys(("1px", "3px", "8px"), value) for name in ("TA", "boundary_f", "band_iou")}
        return {"mask_iou": value, "bands": {"all": shares | {"offset": -value}}}

    return figures(level) | {"ceiling": figures(most) | {"cells": 28}}


def test_the_mask_head_alone():
    """Rows are bold beyond 2.78 x .01 x sqrt(2 / 3) = .0227, and those without such a measurement left out."""
    values = {"mask_rcnn": [0.6, 0.61, 0.62], "seanet": [0.63, 0.64, 0.65], "seanet_edge": [0.62, 0.63, 0.64]}
    evidence = made({}, values | {"seanet_box": [0.5]})
    evidence.records["seanet_edge"].pop(2)
    for row, own in values.items():
        for seed, record in evidence.records[row].items():
            record["fixed"] = in_true_boxes(own[seed])
    rows = ("mask_rcnn", "seanet", "seanet_edge", "seanet_box")
    assert evidence.noise("mask_iou", FIXED)[1] == 5
    assert [beyond_noise(evidence, row, "mask_rcnn", "TA/1px", FIXED) for row in rows] == [False, True, False, False]
    table = fixed_table(evidence, rows, "mask_rcnn").splitlines()
    shares = lambda text: " | ".join([text] * 7)  # noqa: E731
    assert table[2] == f"| `mask_rcnn` | 3 | {shares('61.0 ± 1.0')} | −0.61 ± 0.01 |"
    assert table[3] == f"| `seanet` | 3 | {shares('**64.0 ± 1.0**')} | **−0.64 ± 0.01** |"
    assert table[4] == f"| `seanet_edge` | 2 | {shares('62.5 ± 0.7')} | −0.62 ± 0.01 |"
    assert table[5] == f"| most with 28 x 28 cells |  | {shares('90.0')} | −0.90 |"
    assert len(table) == 6


def test_pairs_are_of_rows():
    assert {row for pair in PAIRS for row in pair} <= ROWS.keys()
    assert len(set(PAIRS)) == len(PAIRS)


def test_cases_are_chosen_by_their_difference(out):
    """B is better on the first square of all images, and best where A moved it farthest; it loses nothing."""
    data, files = data_of(out), {"a": out / "a.json", "b": out / "b.json"}
    moved = [entry(e["image_id"], 8 + e["image_id"], 8) if e["bbox"][:2] == [8, 8] else e for e in found()]
    files["a"].write_text(json.dumps(moved))
    files["b"].write_text(json.dumps(found()))
    compared = comparison(data, files)
    chosen = choose(compared)
    image = compared.contenders[0].assessment.pairs.image
    assert [data.images[image[case.row]].id for case in chosen["gains"]] == [4, 3, 2, 1]
    assert chosen["losses"] == []
    assert len({int(image[case.row]) for case in chosen["sample"]}) == 4


def test_the_page(out, tmp_path):
    """Made from results, and word for word the same from what is kept."""
    put(out, "mask_rcnn", found())
    put(out, "seanet", found(moved=2, missed="box"))
    put(out, "mask_rcnn_read_nms_60", found())
    for row in ("mask_rcnn_fused", "seanet_fused"):
        put(out, row, found(), seeds=1)
    records, page = put(out, "seanet_box", found(), seeds=1).parent, tmp_path / "docs" / "results.md"
    options = ["--records", str(records), "--page", str(page)]
    results.main([*options, "--out", str(out), "--resamples", "50", "--jobs", "1"])
    text = page.read_text(encoding="utf-8")
    assert "- mask AP: **worse**" in text
    assert "| `seanet_box` | `mask_rcnn` | 1 ¹ |" in text
    assert "| `mask_rcnn_read_nms_60` | `mask_rcnn` | 3 |" in text
    assert "| `seanet` | 3 | 100.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 87.5 | 87.5 | 0.90 | - |" in text
    assert "The mask head alone" not in text
    assert "nan" not in text
    for picture in re.findall(r"\]\((results/.+?)\)", text):
        content = (page.parent / picture).read_bytes()
        assert (
            ElementTree.fromstring(content).tag.endswith("svg")
            if picture.endswith("svg")
            else content[:2] == b"\xff\xd8"
        )
    results.main(options)
    assert page.read_text(encoding="utf-8") == text
    assert "A longer schedule" not in text
    shutil.copytree(records / "cpu", longer := records / "cpu_long")
    for file in longer.glob("*-s?.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"steps": 36}))
    results.main(options)
    text = page.read_text(encoding="utf-8")
    assert "| 9 steps | one level | 100.0 ± 0.0 to " in text
    assert "| 36 steps | one level | 100.0 ± 0.0 to " in text
    assert "| 36 steps | all levels | 100.0 ¹ to 100.0 ¹ | 0.0 (0.0, 0.0) |" in text
    assert "on photographs" not in text[: text.index("## The data")].partition("| after |")[2]
    shown = text[text.index("## A longer schedule") :]
    assert "| `seanet_fused` | `mask_rcnn_fused` | 1 ¹ |" in shown
    assert "8 images to train on, 4 to measure by, 36 steps of 2." in text


def test_the_page_before_all_is_measured(out, tmp_path):
    put(out, "mask_rcnn", found())
    put(out, "seanet", found(moved=1))
    page = tmp_path / "docs" / "results.md"
    results.main(["--records", str(tmp_path / "records"), "--page", str(page)])
    text = page.read_text(encoding="utf-8")
    assert "not measured yet" in text
    assert not re.search(r"\*\*(better|worse)", text)


def test_mistakes_are_named(out, tmp_path):
    put(out, "mask_rcnn", found())
    records = put(out, "seanet", found(moved=2))
    evidence = measured(out, records)
    assert "\n".join(answer(evidence, {}))
    with pytest.raises(UserError, match=r"nowhere.*no records there"):
        read_evidence(tmp_path / "nowhere")
    (out / "results" / "seanet-s1.json").unlink()
    with pytest.raises(UserError, match=r"seanet-s1\.json does not exist though there is a record"):
        measured(out, records)
    put(out, "seanet", found(moved=3))
    with pytest.raises(UserError, match=r"of seanet is not that of the records beside it"):
        read_evidence(records)
    other = json.loads((records / "seanet-s0.json").read_text()) | {"steps": 10}
    (records / "seanet-s0.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="with the steps 9 and 10"):
        read_evidence(records, measured=False)
