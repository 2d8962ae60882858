"""Groups of images by a key of their entries: who belongs where, and each measured as if there were no other."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from command import seanet
from found import detections, write
from seanet.data.coco import CocoData, read_coco
from seanet.data.groups import MOST, read_groups
from seanet.errors import AnnotationError
from seanet.evaluation.assess import assess, measure_results
from seanet.evaluation.bootstrap import draws
from seanet.evaluation.compare import compare, figures
from seanet.evaluation.groups import FEWEST, FIGURES, compare_groups, measure_groups, of_group
from seanet.report.comparison import lines, write_comparison
from squares import data_of
from squares import found as detection

SQUARE = (20, 20, 60, 60)
SHIFTED = (24, 20, 64, 60)  # IoU 36 / 44 = .818 with the square


def entries_file(folder, values: list[dict]):
    """An annotation file of images that have these keys, ids from 1."""
    images = [{"id": i, **value} for i, value in enumerate(values, 1)]
    content = {"annotations": [], "images": images, "categories": [{"id": 1, "name": "cat"}]}
    file = folder / "truth.json"
    file.write_text(json.dumps(content))
    return file


def groups_of(folder, *values: object, key: str = "site") -> dict[str, list[int]]:
    """Sorted ids, names in their order."""
    file = entries_file(folder, [{key: value} for value in values])
    return {name: sorted(ids) for name, ids in read_groups(file, key).items()}


def mark(file, key: str, values: list) -> None:
    content = json.loads(file.read_text())
    for image, value in zip(content["images"], values, strict=True):
        image[key] = value
    file.write_text(json.dumps(content))


@pytest.fixture
def halves(tmp_path):
    """Twelve images of one square each, by day and by night, and results: right by day, shifted by night."""
    images = range(1, 13)
    data = data_of(tmp_path, [[(4, SQUARE)] for _ in images])
    mark(data.file, "time", ["night" if i % 2 else "day" for i in images])
    found = [detection(i, 4, SHIFTED if i % 2 else SQUARE, 0.9 - i / 100) for i in images]
    (tmp_path / "found.json").write_text(json.dumps(found))
    (tmp_path / "right.json").write_text(json.dumps([detection(i, 4, SQUARE) for i in images]))
    return data, found, tmp_path


def test_values_name_groups_in_order(tmp_path):
    assert list(groups_of(tmp_path, "wet", "dry", "wet").items()) == [("dry", [2]), ("wet", [1, 3])]
    assert list(groups_of(tmp_path, 10, 9, 2.5, 9.0, "a", -1).items()) == [
        ("-1", [6]),
        ("2.5", [3]),
        ("9", [2, 4]),
        ("10", [1]),
        ("a", [5]),
    ]
    assert groups_of(tmp_path, True, False, True) == {"false": [2], "true": [1, 3]}


def test_texts_that_only_look_like_numbers_have_an_order_too(tmp_path):
    assert list(groups_of(tmp_path, "nan", "b", "inf", "7", "a")) == ["7", "a", "b", "inf", "nan"]


def test_a_list_puts_an_image_into_several_groups(tmp_path):
    found = groups_of(tmp_path, ["rain", "dusk"], ["rain"], "dusk", ["rain", "rain"])
    assert found == {"dusk": [1, 3], "rain": [1, 2, 4]}


def test_what_says_nothing_is_a_group_and_the_last(tmp_path):
    file = entries_file(
        tmp_path, [{"site": "zoo"}, {}, {"site": None}, {"site": ""}, {"site": []}, {"site": ["", "zoo"]}]
    )
    found = read_groups(file, "site")
    assert list(found) == ["zoo", "(none)"]
    assert found == {"zoo": {1, 6}, "(none)": {2, 3, 4, 5, 6}}


def test_an_unknown_key_is_answered_with_those_there_are(tmp_path):
    file = entries_file(tmp_path, [{"site": "a"}, {"weather": "wet"}])
    with pytest.raises(AnnotationError, match=r"no image has the key 'sight': .* that they have: id, site, weather$"):
        read_groups(file, "sight")
    with pytest.raises(AnnotationError, match="it lists no images"):
        read_groups(entries_file(tmp_path, []), "site")


def test_too_many_groups_are_refused(tmp_path):
    assert len(groups_of(tmp_path, *range(MOST))) == 50
    with pytest.raises(AnnotationError, match=r"more than 50 values under 'site', such as '0', '1', '2': give a key"):
        groups_of(tmp_path, *range(MOST + 1))


@pytest.mark.parametrize(
    ("value", "given"),
    [
        ({"name": "a"}, "an object"),
        ([1, 2], "a list of other things than texts"),
        (["a", None], "a list of other things than texts"),
        (float("inf"), "the number inf"),
        ("\ud800", "a text"),
    ],
)
def test_values_that_name_no_group_are_refused(tmp_path, value, given):
    with pytest.raises(AnnotationError, match=f"image 2 has {given} under 'site': expected a text") as caught:
        groups_of(tmp_path, "a", value)
    assert (caught.value.image_id, caught.value.field) == (2, "site")


def test_right_by_day_and_shifted_by_night(halves):
    data, found, _ = halves
    night, day = (
        measure_groups(data, found, read_groups(data.file, "time"), 100)[name]["segm"] for name in ("night", "day")
    )
    assert (day["AP"], day["AP75"]) == (1, 1)
    assert night["AP50"] == night["AP75"] == 1
    assert night["AP"] == pytest.approx(7 / 10), "found at the thresholds .50, .55, ..., .80"


def alone(folder, data: CocoData, ids: frozenset[int]) -> CocoData:
    """A data set of its own of these images."""
    content = json.loads(data.file.read_text())
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    folder.mkdir()
    (folder / "alone.json").write_text(json.dumps(content))
    return read_coco(folder / "alone.json", data.images[0].path.parent)


@pytest.mark.parametrize("boundary", [True, False])
def test_a_group_is_measured_as_its_images_alone(tmp_path, boundary):
    """To the last bit, ties of score, crowd regions, an image without objects and one of two groups included."""
    data = write(tmp_path, images=8, seed=5)
    found = detections(data, ties=True)
    mark(data.file, "site", ["a", "b", "a", ["a", "b"], None, "b", "a", "empty"])
    groups = read_groups(data.file, "site")
    measured = measure_groups(data, found, groups, 100, boundary)
    assert {name: part["images"] for name, part in measured.items()} == {"a": 4, "b": 3, "empty": 1, "(none)": 1}
    for name, ids in groups.items():
        own = alone(tmp_path / name, data, ids)
        wanted = measure_results(own, [entry for entry in found if entry["image_id"] in ids], 100, boundary)
        assert json.dumps(measured[name], sort_keys=True) == json.dumps(wanted, sort_keys=True)
    assert 0 < measured["a"]["segm"]["AP"] != measured["b"]["segm"]["AP"]
    assert measured["empty"]["segm"]["AP"] is None


def test_compared_groups_are_compared_as_their_images_alone(tmp_path):
    """Figures, differences and intervals are those of a comparison that never saw the other images."""
    data = write(tmp_path, images=15, seed=1)
    mark(data.file, "site", ["a", "b"] * 7 + ["empty"])
    sources = [tmp_path / "one.json", tmp_path / "two.json"]
    for seed, source in enumerate(sources):
        source.write_text(json.dumps(detections(data, seed)))
    comparison = compare(data, sources, resamples=100, seed=3)
    groups = read_groups(data.file, "site")
    by = compare_groups(comparison, "site", groups)
    assert [(g.name, g.images) for g in by.groups] == [("a", 7), ("b", 7), ("empty", 1)]
    for group in by.groups[:2]:
        own = of_group(data, groups[group.name])
        measured = [assess(own, json.loads(source.read_text()), 100) for source in sources]
        rows = {row.key: row for row in figures(own, measured, draws(group.images, 100, 3), 100)}
        assert [row.key for row in group.rows] == list(FIGURES)
        for row in group.rows:
            (change,), (wanted,) = row.changes, rows[row.key].changes
            assert row.values == pytest.approx(rows[row.key].values, abs=1e-12)
            assert (change.by, change.low, change.high) == pytest.approx(
                (wanted.by, wanted.low, wanted.high), abs=1e-12
            )
        assert group.objects == sum(not a.crowd for image in own.images for a in image.annotations)
    assert np.isnan([row.values for row in by.groups[2].rows]).all()


def test_a_page_and_its_text_show_each_group(halves):
    data, _, folder = halves
    comparison = compare(data, [folder / "right.json", folder / "found.json"], resamples=100)
    assert "by" not in comparison.as_json()
    plain = write_comparison(folder / "plain.html", comparison, images=0).path.read_text(encoding="utf-8")
    assert "By time" not in plain
    page, file = folder / "page.html", folder / "found.json"
    args = ["compare", folder / "right.json", file, "--data", folder, "--out", page, "--resamples", 100]
    told = json.loads(seanet(*args, "--by", "time", "--json").stdout)
    assert told["by"]["key"] == "time"
    day, night = (told["by"]["groups"][name] for name in ("day", "night"))
    assert (day["images"], day["objects"]) == (6, 6)
    (change,) = night["figures"]["segm/AP"]["differences"]
    assert [change[name] for name in ("by", "low", "high")] == pytest.approx([-0.3] * 3)
    assert change["excludes_zero"]
    assert not any(figure["differences"][0]["by"] for figure in day["figures"].values())
    text = page.read_text(encoding="utf-8")
    assert "By time" in text
    assert "time night: 6 images, 6 objects" in text
    said = seanet(*args, "--by", "time").stdout
    at = said.index("time night: 6 images, 6 objects")
    assert "−30.0  (−30.0 … −30.0)  worse" in said[at:]
    assert "−30.0" not in said[said.index("time day") : at]
    assert "time" not in lines(comparison).replace(str(folder), "")


@pytest.mark.parametrize(("images", "sure"), [(FEWEST, True), (FEWEST - 1, False)])
def test_few_images_have_no_interval(halves, images, sure):
    """Every image of the night says the same, yet so few may do so by chance."""
    data, _, folder = halves
    comparison = compare(data, [folder / "right.json", folder / "found.json"], resamples=100)
    by = compare_groups(comparison, "time", {"night": range(1, 2 * images, 2)})
    (change,) = by.groups[0].rows[0].changes
    assert by.groups[0].images == images
    assert change.by == pytest.approx(-0.3)
    assert (change.sure, np.isfinite([change.low, change.high]).all()) == (sure, sure)
    assert ("(" in lines(replace(comparison, by=by)).split("time night")[1].split("Boundary AP")[0]) == sure


def test_val_shows_a_row_for_each_group(halves):
    data, found, folder = halves
    args = ["val", folder / "found.json", "--data", folder]
    said = seanet(*args, "--by", "time").stdout
    assert said.startswith(seanet(*args).stdout.rstrip())
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines()[-3:]}
    parts = measure_groups(data, found, read_groups(data.file, "time"), 100)
    assert list(rows) == ["by", "day", "night"]
    for name in ("day", "night"):
        part = parts[name]
        shares = [part["segm"]["AP"], part["segm"]["AP75"], part["boundary"]["AP"]]
        shares += [part["bands"]["all"]["TA@R"]["3px"], part["bbox"]["AP"]]
        assert rows[name] == ["6", "6", *(f"{share:.3f}" for share in shares)]
    told = json.loads(seanet(*args, "--by", "time", "--json").stdout)
    assert told.pop("by") == {"key": "time", "groups": json.loads(json.dumps(parts))}
    assert told == json.loads(seanet(*args, "--json").stdout)
    bare = seanet(*args, "--by", "time", "--no-boundary").stdout.splitlines()[-3:]
    assert "mask AP" in bare[0]
    assert "TA@R" not in bare[0]
    assert bare[1].split() == ["day", "6", "6", "1.000", "1.000", "1.000"]


def test_a_checkpoint_by_group_is_its_results_by_group(halves):
    from builders import small_model
    from seanet.checkpoint import Meta, save_model

    _, _, folder = halves
    model = small_model(64, 64).limited(limit=4)
    names = model.categories.names
    save_model(folder / "best.safetensors", model.detector.state_dict(), Meta(model.config, names, (4, 9), 1.0, 1))
    shared = ["--data", folder, "--by", "time", "--json"]
    told = json.loads(seanet("val", folder / "best.safetensors", "--results", folder / "own.json", *shared).stdout)
    assert [group["detections"] for group in told["by"]["groups"].values()] == [24, 24]
    assert told == json.loads(seanet("val", folder / "own.json", "--max-detections", 4, *shared).stdout)


def test_mistakes_on_the_command_line(halves):
    _, _, folder = halves
    results = folder / "found.json"
    said = seanet("val", results, "--data", folder, "--by", "tiem", code=2).stderr
    assert "no image has the key 'tiem': give one of those that they have: file_name, height, id, time, width" in said
    said = seanet("compare", results, results, "--data", folder, "--by", "tiem", code=2).stderr
    assert "no image has the key 'tiem'" in said
    said = seanet("val", folder, "--data", folder, "--by", "tiem", code=2).stderr
    assert "no image has the key 'tiem'" in said, "before the folder is read as a model"
    said = seanet("val", folder, "--data", folder, "--by", "time", "--fixed-boxes", code=2).stderr
    assert "leave out" in said
    assert "--by" in said


def test_results_by_group_never_wait_for_torch(halves):
    _, _, folder = halves
    args = ["val", str(folder / "found.json"), "--data", str(folder), "--by", "time"]
    code = f"import sys; from seanet.cli import app; app({args!r}, standalone_mode=False)"
    code += "; print(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
