"""Data sets divided: closed forms of shares, groups that stay together, ids and entries that stay what they were."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from command import seanet
from seanet.data.coco import find_split, read_coco
from seanet.data.split import Group, assign, divide, groups_of, misfit, read_pool, shares_of
from seanet.errors import AnnotationError, UserError

SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]
CATEGORIES = [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog", "colour": "brown"}]


def singles(*classes: str) -> list[Group]:
    """Groups of one image each, that show the classes in its word, a letter each."""
    return [Group((n,), Counter(word)) for n, word in enumerate(classes)]


def dealt(groups: list[Group], splits: list[str]) -> dict[str, tuple[int, dict[str, int]]]:
    """Images and images of each class, by split."""
    images: Counter[str] = Counter()
    shows: dict[str, Counter[str]] = {split: Counter() for split in splits}
    for group, split in zip(groups, splits, strict=True):
        images[split] += len(group.ids)
        shows[split].update(group.shows)
    return {split: (images[split], dict(shows[split])) for split in images}


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_exact_where_they_can_be(seed: int):
    groups = singles(*["a"] * 100, *["b"] * 20, *["ab"] * 10, *[""] * 10)
    found = dealt(groups, assign(groups, {"train": 0.7, "val": 0.2, "test": 0.1}, seed))
    assert found == {
        "train": (98, {"a": 77, "b": 21}),
        "val": (28, {"a": 22, "b": 6}),
        "test": (14, {"a": 11, "b": 3}),
    }


def test_the_rarest_class_is_dealt_first():
    """Two images show c, and both splits get one, whatever else is on them."""
    groups = singles(*["a"] * 17, "abc", "c", *["b"] * 5)
    for seed in range(10):
        found = dealt(groups, assign(groups, {"train": 0.5, "val": 0.5}, seed))
        assert [shows for _, shows in found.values()] == [{"a": 9, "b": 3, "c": 1}] * 2


def test_large_groups_are_dealt_before_small_ones():
    """A patient with half of all images, and ten with the other half: the halves come out even."""
    groups = [Group(tuple(range(10)), Counter(a=10)), *(Group((10 + n,), Counter("a")) for n in range(10))]
    splits = assign(groups, {"train": 0.5, "val": 0.5})
    assert dealt(groups, splits) == {"train": (10, {"a": 10}), "val": (10, {"a": 10})}
    assert len(set(splits[1:])) == 1


@given(
    st.lists(st.lists(st.sampled_from(["", "a", "b", "ab", "c", "abc"]), min_size=1, max_size=4), max_size=30),
    st.integers(0, 3),
)
@settings(max_examples=15, deadline=None)
def test_each_group_has_a_split_and_one_seed_one_result(words: list[list[str]], seed: int):
    groups, first = [], 0
    for own in words:
        groups.append(Group(tuple(range(first, first + len(own))), Counter("".join(own))))
        first += len(own)
    shares = {"train": 0.6, "val": 0.4}
    splits = assign(groups, shares, seed)
    assert len(splits) == len(groups)
    assert set(splits) <= {"train", "val"}
    assert splits == assign(groups, shares, seed)
    everything_in_one = ["train"] * len(groups)
    assert misfit(groups, splits, shares) <= misfit(groups, everything_in_one, shares)


def test_misfit_by_hand():
    groups = singles("a", "a", "a", "b")
    # train: 2 of 3 a and no b, of 3 of 4 images; val: the rest; wanted is one half of each.
    assert misfit(groups, ["train", "train", "val", "val"], {"train": 0.5, "val": 0.5}) == (
        1,
        pytest.approx(2 * (2 / 3 - 1 / 2) + 2 * 1 / 2 + 0),
    )


def source(root: Path, name: str = "instances_all", start: int = 1, folder: str = "images") -> Path:
    """Twenty images of five patients, all with a cat, every fifth with a dog; ids have gaps."""
    images, annotations = [], []
    (root / folder).mkdir(parents=True, exist_ok=True)
    for n in range(20):
        entry = {"id": start + 3 * n, "file_name": f"p{n % 5}_{n}.jpg", "width": 20, "height": 20}
        images.append(entry | {"patient": f"P{n % 5}", "licence": 4})
        Image.new("RGB", (20, 20)).save(root / folder / entry["file_name"])
        for category in (2, 5) if n % 5 == 0 else (2,):
            annotations.append(
                {"id": 7 * len(annotations) + 1, "image_id": entry["id"], "category_id": category, "iscrowd": 0}
                | {"segmentation": SQUARE, "bbox": [1, 1, 8, 8], "area": 64, "score": 0.5}
            )
    content = {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": CATEGORIES}
    file = root / "annotations" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return root


def contents(out: Path) -> dict[str, dict]:
    files = sorted((out / "annotations").iterdir())
    return {file.stem.removeprefix("instances_"): json.loads(file.read_text()) for file in files}


def by_id(entries: list[dict]) -> list[dict]:
    return sorted(entries, key=lambda entry: entry["id"])


def test_entries_stay_what_they_were(tmp_path: Path):
    root = source(tmp_path / "src")
    said = json.loads(seanet("data", "split", root, tmp_path / "out", "--test", "0.25", "--json").stdout)
    whole = json.loads((root / "annotations/instances_all.json").read_text())
    found = contents(tmp_path / "out")
    assert {split: len(part["images"]) for split, part in found.items()} == {"train": 11, "val": 4, "test": 5}
    for part in ("images", "annotations"):
        assert by_id([entry for content in found.values() for entry in content[part]]) == whole[part]
    for split, content in found.items():
        assert content["categories"] == CATEGORIES
        assert content["info"] == {"year": 2026}
        data = read_coco(*find_split(tmp_path / "out", split))
        assert not data.repairs.count("repaired") + data.repairs.count("skipped")
        assert {r.path.resolve().parent for r in data.images} == {(root / "images").resolve()}
        assert said["splits"][split]["classes"]["cat"] == {"objects": len(data.images), "images": len(data.images)}
    assert sum(part["classes"]["dog"]["objects"] for part in said["splits"].values()) == 4


@pytest.mark.parametrize("group", ["patient", "^p[0-9]", "^(p[0-9])_"])
def test_groups_are_never_divided(group: str, tmp_path: Path):
    pool = read_pool(source(tmp_path), None, pool=False)
    assert sorted(len(g.ids) for g in groups_of(pool, group)) == [4] * 5
    found = divide(pool, {"train": 0.8, "val": 0.2}, group)
    patients = [{entry["patient"] for entry in part["images"]} for part in found.values()]
    assert sorted(map(len, patients)) == [1, 4]
    assert not patients[0] & patients[1]


def test_the_table_says_what_is_missing(tmp_path: Path):
    """One patient has all dogs, so one of the splits has none."""
    text = seanet("data", "split", source(tmp_path / "src"), tmp_path / "out", "--group", "patient").stdout
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert rows["images"] == ["16", "4"]
    assert rows["cat"] == ["16", "in", "16", "4", "in", "4"]
    assert rows["dog"] in (["4", "in", "4", "0", "in", "0"], ["0", "in", "0", "4", "in", "4"])
    empty = "val" if rows["dog"][0] == "4" else "train"
    assert f"{empty} has no object of: dog" in text


def test_groups_that_cannot_be_told(tmp_path: Path):
    pool = read_pool(source(tmp_path), None, pool=False)
    del pool.images[3]["patient"]
    for group, message in (
        ("patient", r"1 of 20 images have no 'patient' \(image 10 first\)"),
        ("_1([0-9])", r"10 of 20 images have a file name without"),
        ("(", "is no key of the images and no regular expression"),
    ):
        with pytest.raises(UserError, match=message):
            groups_of(pool, group)


def test_splits_without_images(tmp_path: Path):
    pool = read_pool(source(tmp_path), None, pool=False)
    with pytest.raises(
        UserError, match=r"val would get no image, there are too few images \(20\) or groups of them \(5\)"
    ):
        divide(pool, {"train": 0.95, "val": 0.05}, "patient")
    for val, test in ((0, 0), (0.6, 0.4), (-0.1, 0.3), (1.2, 0), (float("nan"), 0)):
        with pytest.raises(UserError, match="must be shares from 0 to 1"):
            shares_of(val, test)


def test_existing_splits_are_pooled_when_asked(tmp_path: Path):
    """Ids of the two files clash, and so do names of images."""
    root = source(tmp_path / "src", "instances_train", folder="train")
    source(root, "instances_val", folder="val")
    asked = seanet("data", "split", root, tmp_path / "out", code=2).stderr
    assert "instances_train.json, instances_val.json: name one file, or put the splits together with --pool" in asked
    seanet("data", "split", root, tmp_path / "out", "--pool", "--val", "0.5")
    found = contents(tmp_path / "out")
    assert {split: len(part["images"]) for split, part in found.items()} == {"train": 20, "val": 20}
    images = by_id([entry for part in found.values() for entry in part["images"]])
    assert [entry["id"] for entry in images] == list(range(1, 41))
    names = Counter(entry["file_name"].partition("/")[0] for entry in images)
    assert names == {"train": 20, "val": 20}
    annotations = by_id([entry for part in found.values() for entry in part["annotations"]])
    assert [entry["id"] for entry in annotations] == list(range(1, 49))
    before = json.loads((root / "annotations/instances_val.json").read_text())["annotations"]
    patients = {entry["id"]: entry["patient"] for entry in images}
    dogs = Counter(patients[a["image_id"]] for a in annotations if a["category_id"] == 5)
    assert dogs == {"P0": 8}
    assert len(before) == 24
    for split in ("train", "val"):
        assert len(read_coco(*find_split(tmp_path / "out", split)).images) == 20


def test_pools_of_other_categories(tmp_path: Path):
    root = source(tmp_path, "instances_train", folder="train")
    file = source(root, "instances_val", folder="val") / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace('"cat"', '"lynx"'))
    with pytest.raises(AnnotationError, match=r"instances_val.json: its categories are not those of .*instances_train"):
        read_pool(root, None, pool=True)


def test_files_are_found(tmp_path: Path):
    root = source(tmp_path / "src")
    file = root / "annotations/instances_all.json"
    assert len(read_pool(file, root / "images", pool=False).images) == 20
    assert len(read_pool(file, None, pool=False).images) == 20
    with pytest.raises(UserError, match="--pool takes a folder with splits"):
        read_pool(file, None, pool=True)
    with pytest.raises(UserError, match="holds no JSON file"):
        read_pool(root / "images", None, pool=False)
    (root / "images").rename(root / "pictures")
    with pytest.raises(
        UserError, match=r"instances_all.json: found no folder of its images .*: name their folder with"
    ):
        read_pool(root, None, pool=False)
    (root / "pictures").rename(root / "images")
    (root / "annotations/captions_all.json").write_text("{}")
    assert len(read_pool(root, None, pool=False).images) == 20


def test_a_folder_of_images_and_annotations_side_by_side(tmp_path: Path):
    root = source(tmp_path / "src")
    (root / "train").mkdir()
    for picture in (root / "images").iterdir():
        picture.rename(root / "train" / picture.name)
    (root / "annotations/instances_all.json").rename(root / "train/_annotations.coco.json")
    (root / "images").rmdir()
    assert len(read_pool(root / "train", None, pool=False).images) == 20
    assert len(read_pool(root / "train/_annotations.coco.json", None, pool=False).images) == 20
    with pytest.raises(UserError, match="holds train: name one file, or put the splits together with --pool"):
        read_pool(root, None, pool=False)


def test_annotations_of_no_image_are_said_to_be_left_out(tmp_path: Path):
    root = source(tmp_path / "src")
    file = root / "annotations/instances_all.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["image_id"] = 999
    file.write_text(json.dumps(content))
    said = json.loads(seanet("data", "split", root, tmp_path / "out", "--json").stdout)
    assert said["notes"] == ["1 annotation skipped: image_id of no image (id 1)"]
    assert sum(len(part["annotations"]) for part in contents(tmp_path / "out").values()) == 23
