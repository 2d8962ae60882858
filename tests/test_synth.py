"""Synthetic scenes: the same from the same seed, masks disjoint and true to the image, files that COCO tools read."""

import json

import numpy as np
import pytest
from PIL import Image

from seanet.data.outlines import OUTLINES, coverage, pose
from seanet.data.painting import paint
from seanet.data.presets import BOUNDARY, CLASSES
from seanet.data.scenes import Scene, render
from seanet.data.synth import synthesise
from seanet.errors import UserError

PLAIN = Scene(textured=0, shadow=0, alike=0, blur=(0, 0), noise=(0, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthesise(tmp_path_factory.mktemp("data") / "set", 12, size=128, seed=4, val=3)


def contents(folder, split="train"):
    return json.loads((folder / "annotations" / f"instances_{split}.json").read_text())


def test_a_larger_set_begins_with_the_smaller_one(folder, tmp_path):
    heard = []
    again = synthesise(
        tmp_path / "set", 20, size=128, seed=4, val=3, workers=2, progress=lambda *step: heard.append(step)
    )
    for split in ("train", "val"):
        small, large = contents(folder, split), contents(again, split)
        assert large["annotations"][: len(small["annotations"])] == small["annotations"]
        for record in small["images"]:
            name = record["file_name"]
            assert (folder / split / name).read_bytes() == (again / split / name).read_bytes()
    assert heard == [(k, 23) for k in range(1, 24)]


def test_seeds_splits_and_images_differ():
    pictures = [render(*key, size=64).image for key in [("train", 0), ("train", 1), ("val", 0)]]
    pictures.append(render("train", 0, size=64, seed=1).image)
    assert len({p.tobytes() for p in pictures}) == 4


def test_files_agree_with_pycocotools(folder):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools import mask as reference

    for split, count in (("train", 12), ("val", 3)):
        data = coco.COCO(str(folder / "annotations" / f"instances_{split}.json"))
        assert len(data.imgs) == count
        for image in data.imgs.values():
            assert Image.open(folder / split / image["file_name"]).size == (image["width"], image["height"])
            owner = render(split, image["id"] - 1, size=128, seed=4).owner
            together = np.zeros((128, 128), int)
            for k, annotation in enumerate(data.imgToAnns[image["id"]], 1):
                mask = data.annToMask(annotation)
                assert (mask == (owner == k)).all()
                assert annotation["area"] == mask.sum() > 0
                assert annotation["bbox"] == reference.toBbox(annotation["segmentation"]).tolist()
                together += mask
            assert together.max() <= 1, "masks overlap"


def test_every_class_appears(folder):
    data = contents(folder)
    assert [c["name"] for c in data["categories"]] == list(Scene().classes)
    assert {a["category_id"] for a in data["annotations"]} == {c["id"] for c in data["categories"]}
    assert len({a["id"] for a in data["annotations"]}) == len(data["annotations"])


def test_masks_lie_where_the_image_shows_the_object():
    """Plain objects on plain ground stand out inside their masks, and the ground outside does not."""
    for index in range(6):
        made = render("train", index, size=128, scene=PLAIN)
        inside = made.owner > 0
        core = np.pad(inside, 1)
        core = core[1:-1, :-2] & core[1:-1, 2:] & core[:-2, 1:-1] & core[2:, 1:-1] & inside
        ground = np.median(made.image[~inside], 0)
        far = np.abs(made.image - ground).sum(-1)
        assert np.median(far[core]) > 3 * np.median(far[~inside])


def test_every_object_stays_visible():
    strict = Scene(objects=(6, 6), together=1.0, visible=0.9)
    for index in range(4):
        made = render("train", index, size=128, scene=strict)
        assert len(made.labels) >= 2
        assert set(np.unique(made.owner)) == set(range(len(made.labels) + 1))


def test_the_benchmark_names_the_failure_of_each_image(tmp_path):
    data = contents(synthesise(tmp_path / "set", 9, size=96, val=0, preset="boundary"))
    kinds = ["none", "box", "blur", "clutter"]
    assert [record["failure"] for record in data["images"]] == [kinds[i % 4] for i in range(9)]
    assert [c["name"] for c in data["categories"]] == list(CLASSES) == list(OUTLINES)


@pytest.mark.parametrize("label", OUTLINES)
def test_outlines_cover_what_their_rings_enclose(label):
    """The area by the shoelace formula, holes taken off, is that of the pixels; a crossing outline would lose some."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rings = pose(rng, OUTLINES[label](rng), 120.0, (0.6, 1.0))
        x, y, cover = coverage(rings)
        areas = [abs(ring[:, 0] @ np.roll(ring[:, 1], -1) - ring[:, 1] @ np.roll(ring[:, 0], -1)) / 2 for ring in rings]
        assert cover.sum() == pytest.approx(areas[0] - sum(areas[1:]), rel=0.07)  # Pillow fills the rim too
        low, high = rings[0].min(0), rings[0].max(0)
        assert (high - low).max() == pytest.approx(120)
        assert (x, y) == tuple(np.floor(low).astype(int))
        assert cover.shape[::-1] == tuple(np.ceil(high) - (x, y))


def test_soft_boundaries_are_soft_where_the_mask_ends():
    """Half of the object's colour at the mask's boundary, all inside, none outside; hard ones jump."""
    cover = np.zeros((60, 60), np.float32)
    cover[:, :30] = 1
    profiles = {}
    for soft in (0.0, 3.0):
        canvas = np.zeros((3, 60, 60), np.float32)
        paint(np.random.default_rng(0), canvas, cover, 0, 0, np.full(3, 200, np.float32), 0.0, 0.0, soft)
        profiles[soft] = canvas[0, 25:35].mean(0) / canvas[0, 25:35, :15].mean()
    for soft, edge in profiles.items():
        assert edge[29] + edge[30] == pytest.approx(1, abs=0.1)
        assert edge[20] == pytest.approx(1, abs=0.1)
        assert edge[39] < 0.02
        assert (0.2 < edge[31] < 0.45) == (soft > 0)


def test_each_failure_is_what_its_name_says():
    made = {scene.failure: [render("val", i, 160, scene=scene) for i in range(8)] for scene in BOUNDARY}
    count = {kind: np.mean([len(m.labels) for m in images]) for kind, images in made.items()}
    assert count["clutter"] > 1.5 * count["none"]
    side = {
        k: np.mean([np.sqrt((m.owner == n + 1).sum()) for m in ms for n in range(len(m.labels))])
        for k, ms in made.items()
    }
    assert side["box"] > side["clutter"]
    detail = {k: np.mean([np.abs(np.diff(m.image.astype(int), 2, 0)).mean() for m in ms]) for k, ms in made.items()}
    assert detail["blur"] < 0.8 * detail["none"]


def test_photographs_as_ground(tmp_path):
    Image.fromarray(np.full((90, 120, 3), (10, 200, 30), np.uint8)).save(tmp_path / "a.png")
    made = render("val", 0, size=96, scene=PLAIN, photographs=(tmp_path / "a.png",))
    assert (np.abs(made.image[made.owner == 0].astype(int) - (10, 200, 30)).sum(-1) < 3).mean() > 0.8


def test_mistakes_name_what_is_wrong(folder, tmp_path):
    with pytest.raises(UserError, match="not empty"):
        synthesise(folder, 1)
    with pytest.raises(UserError, match="at least one"):
        synthesise(tmp_path / "a", 0)
    with pytest.raises(UserError, match="none or more"):
        synthesise(tmp_path / "a", 1, val=-1)
    with pytest.raises(UserError, match="64 to 4096"):
        synthesise(tmp_path / "a", 1, size=10)
    with pytest.raises(UserError, match="shapes, boundary; got zebra"):
        synthesise(tmp_path / "a", 1, preset="zebra")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no photographs"):
        synthesise(tmp_path / "a", 1, backgrounds=tmp_path / "none")
    assert [p.name for p in tmp_path.iterdir()] == ["none"]


def test_nothing_is_left_of_a_run_that_fails(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(tmp_path / "set", 3, size=64, val=1, progress=stop)
    assert not list(tmp_path.iterdir())
    synthesise(tmp_path, 1, size=64, val=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations", "train", "val"]
