"""Every kind of defect, planted in a clean data set, is found with its ids and its severity, and mended."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import seanet
from made import HEIGHT, RING, WIDTH, Made, annotation, picture, runs
from seanet.data.checking import files as check_files
from seanet.data.checking.check import check
from seanet.data.checking.kinds import splits_in
from seanet.data.coco import read_coco
from seanet.report.check import facts
from seanet.report.check_page import write_sheet
from seanet.report.repaired import write_repaired


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path / "data")


def found(made: Made, **options) -> dict[tuple, list]:
    """Ids by (split, subject, severity, what)."""
    made.write()
    checked = check(splits_in(made.folder), workers=0, **options)
    return {
        (one.kind.split, one.kind.subject, one.kind.severity, one.kind.what): [place.id for place in one.places]
        for one in checked.found
    }


def test_a_clean_data_set(made):
    assert found(made) == {}
    assert found(made, quick=True) == {}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-60])


def turned(path, seed=1):
    """A file that is upright only as its EXIF entry says, 48 x 64."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(seed).save(path, exif=exif)


FILES = {
    "missing": (lambda m: m.image(2).unlink(), "refused", "its file does not exist"),
    "folder": (lambda m: (m.image(2).unlink(), m.image(2).mkdir()), "refused", "its file is a folder"),
    "empty": (lambda m: m.image(2).write_bytes(b""), "refused", "its file has 0 bytes"),
    "truncated": (lambda m: truncate(m.image(2)), "refused", "its file is truncated or damaged"),
    "web page": (lambda m: m.image(2).write_text("<html>"), "refused", "its file is no image of a format that is read"),
    "heic": (
        lambda m: m.image(2).write_bytes(b"\0\0\0\x18ftypheix" + bytes(40)),
        "refused",
        "its file is no image of a format that is read",
    ),
    "too large": (lambda m: picture(2, 640, 480).save(m.image(2)), "refused", "its file has too many pixels"),
    "another size": (
        lambda m: picture(2, 32, 24).save(m.image(2)),
        "refused",
        "its file has another size than the annotations say",
    ),
    "unturned": (
        lambda m: turned(m.image(2)),
        "noticed",
        "annotations of pixels that its EXIF entry turns; they are read unturned",
    ),
    "another suffix": (
        lambda m: picture(2).save(m.image(2), "JPEG"),
        "noticed",
        "the end of its file's name is that of another format",
    ),
    "frames": (
        lambda m: picture(2).save(m.image(2), "PNG", save_all=True, append_images=[picture(8)]),
        "noticed",
        "it has several frames, of which the first counts",
    ),
    "transparency": (
        lambda m: picture(2).convert("RGBA").rotate(20).save(m.image(2)),
        "noticed",
        "its transparency varies and is ignored",
    ),
    "dark": (
        lambda m: Image.fromarray(np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH)).save(m.image(2)),
        "noticed",
        "its grey levels use a sixteenth of 16 bits, so it is nearly black",
    ),
    "one colour": (lambda m: Image.new("RGB", (WIDTH, HEIGHT)).save(m.image(2)), "noticed", "of one colour"),
}


@pytest.mark.parametrize(("plant", "severity", "what"), FILES.values(), ids=FILES)
def test_files(made, plant, severity, what):
    plant(made)
    seen = found(made, max_pixels=10_000)
    assert seen.pop(("train", "image", severity, what)) == [2]
    unread = what.startswith("its file does not") or what.endswith("folder")
    assert list(seen.values()) == ([[3, 4]] if unread else [])


def test_sizes_from_before_turning(made):
    """Annotations that fit the turned image alone say that width and height were taken too early."""
    turned(made.image(1), 1)
    made.entry("annotations", 1).update(segmentation=[[10, 40, 30, 40, 30, 60, 10, 60]], bbox=[10, 40, 20, 20])
    del made.contents["train"]["annotations"][1]
    seen = found(made)
    what = "width and height are those before its EXIF entry turns it, its annotations those after"
    assert seen["train", "image", "harmful", what] == [1]


ANNOTATIONS = {
    "box without size": ({"bbox": [10, 8, 0, 20]}, "repaired", "bbox not finite or of no size, taken from its mask"),
    "box outside": ({"bbox": [90, 90, 5, 5]}, "skipped", "bbox outside the image"),
    "no such category": ({"category_id": 77}, "skipped", "category_id of no category"),
    "category of another type": ({"category_id": "x"}, "refused", "category_id not a whole number from 0"),
    "run lengths": (
        {"segmentation": runs(0, 0, 9, 9) | {"size": [9, 9]}},
        "skipped",
        "run lengths of another size than the image",
    ),
    "crowd": ({"iscrowd": None}, "repaired", "iscrowd missing, read as 0"),
    "area": ({"area": 5000}, "repaired", "area wrong, counted anew, which moves it to another size class"),
    "id": ({"id": 0}, "renumbered", "id 0"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "severity", "what"), ANNOTATIONS.values(), ids=ANNOTATIONS)
def test_annotations(made, changes, severity, what):
    entry = made.entry("annotations", 3)
    entry.update(changes)
    seen = found(made)
    assert seen.pop(("train", "annotation", severity, what)) == [entry["id"]]
    too_many = ("train", "file", "refused", "more of its annotations have to be skipped than data.max_bad allows")
    assert seen == ({too_many: ["instances_train.json"]} if severity == "skipped" else {})


COPIES = {
    "bytes": (lambda source, copy: shutil.copy(source, copy), "the same bytes as"),
    "pixels": (lambda source, copy: Image.open(source).save(copy, compress_level=1), "the same pixels as"),
    "look": (lambda source, copy: Image.open(source).save(copy, "JPEG", quality=80), "looks like"),
}


@pytest.mark.parametrize(("copy", "words"), COPIES.values(), ids=COPIES)
def test_copies_and_leaks(made, copy, words):
    copy(made.image(1), made.image(3))
    copy(made.image(2, "val"), made.image(4))
    seen = {key: ids for key, ids in found(made).items() if "end of its file's name" not in key[3]}
    assert seen == {
        ("train", "image", "noticed", f"{words} another"): [3],
        ("train", "image", "harmful", f"{words} one of val"): [4],
    }


def test_images_of_one_colour_are_not_alike(made):
    for path in (made.image(1), made.image(2), made.image(1, "val")):
        Image.new("RGB", (WIDTH, HEIGHT), "white").save(path)
    assert found(made) == {
        ("train", "image", "noticed", "of one colour"): [1, 2],
        ("val", "image", "noticed", "of one colour"): [1],
    }


def test_one_file_in_two_splits(made):
    made.image(1, "val").unlink()
    made.image(1, "val").symlink_to(made.image(3))
    for options in ({}, {"quick": True}):
        assert found(made, **options) == {("train", "image", "harmful", "the same file as one of val"): [3]}


def test_what_is_trained_on_gives_way_by_whatever_name(made):
    shutil.copy(made.image(2, "val"), made.image(3))
    made.file().rename(made.file("train2017"))
    (made.folder / "train").rename(made.folder / "train2017")
    checked = check(splits_in(made.folder, ["val", "train2017"]), workers=0)
    assert checked.unusable == {"val": {}, "train2017": {3: "the same bytes as one of val"}}


def test_categories_of_one_split(made):
    made.contents["val"]["categories"] += [{"id": 8, "name": "owl"}, {"id": 9, "name": "hen"}]
    made.entry("annotations", 1, "val")["category_id"] = 8
    made.entry("annotations", 3, "val")["category_id"] = 8
    for number in (2, 4, 6, 8):
        made.entry("annotations", number)["category_id"] = 5
    none = "no annotation, so its AP will be n/a"
    assert found(made) == {
        ("val", "category", "refused", "not among the categories of train, so its objects would be refused"): ["owl"],
        ("val", "category", "noticed", "objects here, none in train"): ["cat"],
        ("train", "category", "noticed", "objects here, none in val"): ["dog"],
        ("train", "category", "noticed", none): ["cat"],
        ("val", "category", "noticed", none): ["dog", "hen"],
    }


def test_images_without_objects_files_without_images_and_splits_of_nothing(made):
    del made.contents["train"]["annotations"][:2]
    (made.folder / "train" / "more").mkdir()
    picture(7).save(made.folder / "train" / "more" / "a.png")
    made.contents["val"]["images"] = []
    seen = found(made)
    assert seen["train", "image", "noticed", "no objects"] == [1]
    assert seen["train", "file", "noticed", "not named by an image of train"] == ["more/a.png"]
    assert seen["val", "file", "refused", "lists no images that can be used"] == ["instances_val.json"]
    made.contents["val"] = {"nothing": 0}
    assert found(made)["val", "file", "refused", "cannot be used at all"] == ["instances_val.json"]


def test_a_file_that_kills_or_holds_its_reader(made, monkeypatch):
    real = check_files.read_closely

    def read(path, max_pixels):
        if path.name == "2.png":
            os.kill(os.getpid(), signal.SIGKILL)
        if path.name == "3.png":
            time.sleep(60)
        return real(path, max_pixels)

    monkeypatch.setattr(check_files, "read_closely", read)
    checked = check(splits_in(made.folder, ["train"]), workers=2, seconds=0.5)
    (only,) = checked.found
    assert [place.id for place in only.places] == [2, 3]
    assert only.kind.what == "its file takes too long to decode, or ends the process that does"
    assert "2.png ended its process (SIGKILL)" in only.places[0].said
    assert "3.png took longer than 0.5 s" in only.places[1].said


def plant_everything(made: Made) -> None:
    """Of each kind of defect one; annotations 1 and 2, images 4 of train and 1 of val stay as they were."""
    made.image(2).write_bytes(b"")
    shutil.copy(made.image(2, "val"), made.image(3))
    for number in (5, 6, 7, 8):
        turned(made.folder / "train" / f"{number}.png", number)
        image = {"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT}
        made.contents["train"]["images"].append(image)
    made.contents["train"]["images"].append(made.entry("images", 1) | {})
    made.contents["train"]["annotations"] += [
        annotation(50, 5, segmentation=[[10, 40, 30, 40, 30, 60, 10, 60]], bbox=[10, 40, 20, 20], iscrowd=False),
        annotation(60, 6, bbox=[10, 8, 0, 20]),
        annotation(7, 6, category_id=5, segmentation=[[*RING], [1, 2]], bbox="no"),
        annotation(62, 6, segmentation={"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 10, 96, HEIGHT * 52]}, area=1),
        annotation(63, 6, segmentation=[[50, 30, 90, 30, 90, 45, 50, 45]], bbox=[50, 30, 40, 15], area=600),
        annotation(64, 6, category_id=77),
        annotation(65, 99),
        annotation(66, 7, segmentation=runs(40, 20, 60, 40), bbox=[40, 20, 20, 20]),
        annotation(66, 7, segmentation=runs(40, 20, 60, 40), bbox=[40, 20, 20, 20]),
        annotation(0, 8, area=None),
        "no annotation",
    ]
    made.contents["val"]["categories"] += [{"id": 5000, "name": "cat"}, {"id": 3000, "name": "owl"}]
    made.contents["val"]["annotations"].append(
        annotation(70, 1, category_id=5000, bbox=[20, 8, 20, 20], segmentation=runs(20, 8, 40, 28))
    )
    made.write()  # fmt: skip


def test_everything_is_mended(made, tmp_path):
    plant_everything(made)
    before = check(splits_in(made.folder), workers=0)
    assert not before.clean
    after = write_repaired(before, tmp_path / "out")
    assert after.clean
    new = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    assert [image["id"] for image in new["images"]] == [1, 4, 5, 6, 7, 8]
    assert (new["images"][2]["width"], new["images"][2]["height"]) == (HEIGHT, WIDTH)
    by_id = {entry["id"]: entry for entry in new["annotations"]}
    assert list(by_id) == [1, 2, 7, 8, 50, 60, 67, 62, 63, 66, 68]
    old = made.contents["train"]["annotations"]
    assert [by_id[i] for i in (1, 2, 8)] == [old[i - 1] for i in (1, 2, 8)]
    assert by_id[60] == old[9] | {"bbox": [10, 8, 20, 20]}
    assert by_id[67] == old[10] | {"id": 67, "segmentation": [RING], "bbox": [10, 8, 20, 20]}
    assert by_id[62]["segmentation"] == old[11]["segmentation"]
    assert max(by_id[63]["segmentation"][0]) <= WIDTH + 1
    assert by_id[63]["bbox"] == [50, 30, 14, 15]
    assert by_id[68]["area"] == 400
    assert new["info"] == {"year": 2026}
    changes = json.loads((tmp_path / "out" / "repairs.json").read_text())["train"]
    assert {one["id"]: one["why"] for one in changes["images_left_out"]} == {
        1: "listed twice",
        2: "its file has 0 bytes",
        3: "the same bytes as one of val",
    }
    assert {one["why"] for one in changes["annotations_left_out"]} == {
        "its image is left out",
        "category_id of no category",
        "image_id of no image",
        "exact copy of another",
        "no object",
    }
    strict = [read_coco(split.annotations, split.images) for split in after.splits]
    assert strict[1].categories.names == ("cat", "dog", "owl", "cat (5000)")
    read_coco(after.splits[1].annotations, after.splits[1].images, categories=strict[0].categories)
    assert not any(verb != "noticed" for part in strict for _, verb, _ in part.repairs.found)


def test_what_was_fine_stays(made, tmp_path):
    write_repaired(check(splits_in(made.folder), workers=0), tmp_path / "out")
    for split, content in made.contents.items():
        assert json.loads((tmp_path / "out" / "annotations" / f"instances_{split}.json").read_text()) == content
        assert (tmp_path / "out" / split).resolve() == made.folder / split
    assert "nothing changed" in (tmp_path / "out" / "repairs.txt").read_text()


def strict(text: str) -> dict:
    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_command(made, tmp_path):
    assert "is clean" in seanet("data", "check", made.folder).stdout
    made.image(2).write_bytes(b"")
    made.entry("annotations", 1)["bbox"] = [10, 8, float("nan"), 20]
    made.write()
    said = seanet("data", "check", made.folder, code=1).stdout
    assert "train: 1 image: its file has 0 bytes (2: 2.png)" in said
    assert "train: 1 annotation: bbox not finite or of no size, taken from its mask (1: 1.png)" in said
    assert said.splitlines()[-1].endswith("or write a repaired copy with --fix OUT")
    values = strict(seanet("data", "check", made.folder, "--json", code=1).stdout)
    assert (values["defects"], values["clean"]) == (2, False)
    assert values["found"][0]["places"][0]["id"] == 2
    assert values["splits"]["train"]["usable_images"] == 3
    assert "is clean" in seanet("data", "check", made.folder, "--split", "val").stdout
    out = tmp_path / "out"
    assert "is clean" in seanet("data", "check", made.folder, "--fix", out).stderr
    assert "is clean" in seanet("data", "check", out).stdout
    given = ("--val-json", made.file(), "--val-images", made.folder / "train")
    assert "val: 1 image" in seanet("data", "check", *given, code=1).stdout


def test_a_quick_look_says_what_it_did_not_look_for(made, tmp_path):
    """Here a copy of an image of val, which only its pixels show."""
    Image.open(made.image(2, "val")).save(made.image(3), compress_level=1)
    made.write()
    for said in (
        seanet("data", "check", made.folder, "--quick").stdout,
        seanet("data", "check", made.folder, "--fix", tmp_path / "out", "--quick").stderr,
    ):
        (last,) = [line for line in said.splitlines() if "is clean" in line]
        assert last.endswith("; --quick did not look for copies, leaks between splits and damage behind image headers")
    whole = seanet("data", "check", made.folder, code=1).stdout
    assert "the same pixels as one of val" in whole
    assert "--quick" not in whole


def test_files_are_called_as_they_were_given(made, tmp_path, monkeypatch):
    made.image(2).write_bytes(b"")
    picture(2, 32, 24).save(made.image(3))
    made.write()
    (tmp_path / "link").symlink_to(made.folder, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    checked = check(splits_in(Path("link"), ["train"]), workers=0)
    said = [place.said for one in checked.found for place in one.places]
    assert [text.split()[0] for text in said] == ["link/train/2.png", "link/train/3.png"]


def test_training_begins_with_a_look_at_all_files(made):
    made.image(2).write_bytes(b"")
    made.image(1, "val").write_bytes(b"<html>")
    said = seanet("train", "seanet_lite", "--data", made.folder, code=2).stderr
    assert "2 of 6 image files cannot be used" in said
    assert "train/2.png is empty" in said
    assert "val/1.png is an HTML or XML page" in said


def test_mistakes_in_the_command(made, tmp_path):
    assert "is not a folder" in seanet("data", "check", tmp_path / "none", code=2).stderr
    assert "found no annotations" in seanet("data", "check", made.folder, "--split", "test", code=2).stderr
    assert "name both" in seanet("data", "check", "--train-json", made.file(), code=2).stderr
    assert "no data to check" in seanet("data", "check", code=2).stderr
    assert "not empty" in seanet("data", "check", made.folder, "--fix", made.folder, code=2).stderr
    made.file().write_text("{")
    page = tmp_path / "page.html"
    said = seanet("data", "check", made.folder, "--html", page, code=1).stdout.splitlines()
    assert f"    {made.file()}: is not JSON" in said[said.index("refused (training stops):") + 2]
    assert said[-1].endswith("training would stop; mend them")
    assert f"{made.file()}: is not JSON" in page.read_text()
    assert "cannot be repaired" in seanet("data", "check", made.folder, "--fix", tmp_path / "out", code=2).stderr


def test_the_page_shows_the_offenders(made, tmp_path):
    plant_everything(made)
    made.contents["train"]["categories"].append({"id": 11, "name": "<b>"})
    made.contents["train"]["images"] += [{"id": ["<i>"], "file_name": "1.png"}, {"id": {}, "file_name": "1.png"}]
    made.write()
    checked = check(splits_in(made.folder), workers=0)
    page = write_sheet(tmp_path / "a.html", checked, "<data>").read_text()
    assert "<b>&lt;" not in page
    assert "image [&#34;&lt;i&gt;&#34;]" in page
    assert "&lt;data&gt;" in page
    assert "<data>" not in page
    for words in ("annotation 60 of image 6", "image 3 of train (3.png): the same bytes as image 2 of val (2.png)"):
        assert words in page
    both = (2 * 320 + 8, 320 * HEIGHT // WIDTH)  # the leak beside what it is a copy of
    assert f'width="{both[0]}" height="{both[1]}"' in page
    drawn = [one for one in facts(checked)["found"] if one["subject"] == "annotation"]
    assert page.count("data:image/") >= len(drawn)
    assert 'src="http' not in page
    assert len(page) < 2**21
