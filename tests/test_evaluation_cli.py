"""``seanet val`` on results of anybody's model: tables, JSON, mistakes, and no torch."""

import json
import subprocess
import sys

import pytest

from command import seanet
from found import detections, write
from seanet.evaluation.assess import assess
from seanet.evaluation.coco import score
from seanet.report.text import finite, rows


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A folder of data, what it holds, and results of it."""
    folder = tmp_path_factory.mktemp("case")
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    data = write(folder / "val", images=4)
    data.file.rename(folder / "annotations" / "instances_val.json")
    found = detections(data)
    file = folder / "results.json"
    file.write_text(json.dumps(found))
    return folder, data, file, found


def test_json_holds_every_number(case):
    folder, data, file, found = case
    metrics = json.loads(seanet("val", file, "--data", folder, "--json").stdout)
    assert metrics == json.loads(json.dumps(finite(assess(data, found, 100).metrics)))
    metrics = json.loads(seanet("val", file, "--data", folder, "--no-boundary", "--max-detections", 2, "--json").stdout)
    assert metrics == json.loads(json.dumps(finite(score(data, found, 2))))


def test_tables(case):
    folder, data, file, found = case
    text = seanet("val", file, "--data", folder).stdout
    metrics = assess(data, found, 100).metrics
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    whole = metrics["bands"]["all"]
    assert float(lines["boundary"][0]) == pytest.approx(metrics["boundary"]["AP"], abs=6e-4)
    measures = [whole[key]["3px"] for key in ("TA", "TA@R", "band_iou", "boundary_f")]
    assert [float(cell) for cell in lines["3px"]] == pytest.approx(measures, abs=6e-4)
    shares = [*whole["TA@R"].values(), whole["offset"], whole["hausdorff95"]]
    assert [float(cell) for cell in lines["all"]] == pytest.approx(shares, abs=6e-4)
    low, high = metrics["bands"]["widths"]["2%"]
    assert f"2% = {low:.3g} to {high:.3g} px" in text
    assert f"{whole['matched']} of {whole['objects']} objects" in text
    assert "class 11" not in text
    classes = seanet("val", file, "--data", folder, "--per-class").stdout
    assert classes.count("class 11") == 4, "box, mask, boundary and bands"
    assert "class 90" not in classes
    assert "classes without objects, left out here: 1" in classes
    assert "band" not in seanet("val", file, "--data", folder, "--no-boundary").stdout


def test_numbers_of_large_images_stand_apart():
    lines = rows({"all": {"offset": -1234.5, "haus95": 23456.789, "TA": None}})
    assert [line.split() for line in lines] == [["offset", "haus95", "TA"], ["all", "-1234.500", "23456.789", "-"]]


def test_nothing_detected_is_said(case):
    folder, _, file, _ = case
    empty = file.with_name("empty.json")
    empty.write_text("[]")
    assert "nothing was detected" in seanet("val", empty, "--data", folder).stdout


def test_lvis_has_its_own_ap(case, tmp_path):
    """What an image was not searched for is not counted against a detection; objects are measured as ever."""
    folder, data, file, found = case
    truth = json.loads((folder / "annotations" / "instances_val.json").read_text())
    for image in truth["images"]:
        empty = all(a["image_id"] != image["id"] for a in truth["annotations"])
        image |= {"neg_category_ids": [2, 5, 11] if empty else [], "not_exhaustive_category_ids": []}
    for category in truth["categories"]:
        category["frequency"] = "f"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    (tmp_path / "val").symlink_to(folder / "val")
    metrics = json.loads(seanet("val", file, "--data", tmp_path, "--json").stdout)
    assert metrics["unjudged"] > 0
    assert "AP" not in metrics["boundary"]
    assert metrics["bands"] == assess(data, found, 100).metrics["bands"]
    text = seanet("val", file, "--data", tmp_path).stdout
    assert "TA@R" in text
    assert "Boundary IoU" not in text
    assert "'seanet val' gives LVIS's own AP" in seanet("analyse", file, "--data", tmp_path).stdout
    page = tmp_path / "page.html"
    assert (
        "LVIS's own AP" in seanet("compare", file, file, "--data", tmp_path, "--resamples", 100, "--out", page).stdout
    )
    assert "LVIS" in page.read_text(encoding="utf-8")
    assert "LVIS" not in seanet("analyse", file, "--data", folder).stdout


def test_mistakes(case):
    folder, _, file, _ = case
    assert "for checkpoints" in seanet("val", file, "--data", folder, "--device", "cpu", code=2).stderr
    truth = folder / "annotations" / "instances_val.json"
    assert "an annotation file" in seanet("val", truth, "--data", folder, code=2).stderr


def test_what_cannot_be_is_refused_before_a_model_is_read(case):
    """The folder stands for a model: reading it would be another mistake."""
    folder, _, file, _ = case
    args = ("val", folder, "--data", folder)
    for option in (("--per-class",), ("--no-boundary",), ("--max-detections", 3), ("--results", folder / "new.json")):
        assert "with --fixed-boxes nothing is detected" in seanet(*args, "--fixed-boxes", *option, code=2).stderr
    assert "--results" in seanet(*args, "--results", folder, code=2).stderr
    assert "no folder" in seanet(*args, "--results", file / "new.json", code=2).stderr
    for command in ("val", "analyse"):
        said = seanet(command, folder, "--data", folder, "--split", "test", code=2).stderr
        assert "found no annotations with images for 'test'" in said
    for out in ("", folder):
        assert "is a folder" in seanet("analyse", file, "--data", folder, "--out", out, code=2).stderr
    assert "no folder" in seanet("analyse", file, "--data", folder, "--out", file / "page.html", code=2).stderr


def test_results_never_wait_for_torch(case):
    folder, _, file, _ = case
    args = ["val", str(file), "--data", str(folder)]
    code = f"import sys; from seanet.cli import app; app({args!r}, standalone_mode=False)"
    code += "; print(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
