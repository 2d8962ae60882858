"""Many files through a model: their order, batches, bad files, and files reduced as they are decoded."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from builders import small_model
from seanet import streaming
from seanet.data.images import read_image
from seanet.data.loader import read_whole
from seanet.streaming import stream


@pytest.fixture(scope="module")
def model():
    return small_model(64, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three lying images, an upright one, a bad one between two lying ones."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (60, 90), "b": (80, 120), "c": (64, 96), "d": (90, 60), "e": (64, 96)}.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "e2.png").write_bytes(b"not an image")
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(folder / "f.png")
    return folder


def test_batches_find_what_single_images_find_in_their_order(model, folder, monkeypatch):
    paths = sorted(folder.iterdir())
    single = list(stream(model, paths))
    sizes = []
    predict = model.predict_batch
    monkeypatch.setattr(
        model, "predict_batch", lambda b, *rest, **more: sizes.append(len(b)) or predict(b, *rest, **more)
    )
    batched = list(stream(model, paths, batch=2))
    assert sizes == [2, 1, 1, 2]  # a and b, c, d alone as it is upright, e and f with the bad one between
    assert [outcome.path for outcome in batched] == paths
    assert [outcome.error is None for outcome in batched] == [True] * 5 + [False, True]
    for one, other in zip(single, batched, strict=True):
        if one.instances is not None:
            assert other.instances.path == one.path
            assert len(one.instances) == len(other.instances) > 0
            np.testing.assert_allclose(other.instances.boxes, one.instances.boxes, atol=1e-3)
            np.testing.assert_allclose(other.instances.score, one.instances.score, atol=1e-5)
            assert np.array_equal(other.pixels, one.pixels)


def test_only_bad_files(model, folder):
    (outcome,) = stream(model, [folder / "e2.png"], batch=4)
    assert "e2.png" in str(outcome.error)
    assert list(stream(model, [], batch=4)) == []


def test_few_files_are_read_ahead(model, folder, monkeypatch):
    reads = []
    read = streaming.read_whole
    monkeypatch.setattr(streaming, "read_whole", lambda path, config: reads.append(path) or read(path, config))
    outcomes = stream(model, [folder / "a.png"] * 40)
    next(outcomes)
    assert len(reads) <= streaming.AHEAD + 2 + streaming.READERS
    outcomes.close()


@pytest.fixture
def large(tmp_path):
    """A JPEG of 512 x 768: five times the network's 96 x 144 and more."""
    y, x = np.mgrid[:512, :768]
    picture = np.stack([x / 3, y / 2, 127 + 100 * np.sin(x / 20) * np.cos(y / 30)], 2).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "large.jpg", quality=95)
    return tmp_path / "large.jpg"


def test_a_large_jpeg_is_reduced_as_it_is_decoded(model, large):
    data = replace(model.config.data, short_sides=(96,), long_side=144, draft=True)
    seen, decoded, size = read_whole(large, data)
    assert (decoded.shape, size, seen.shape) == ((256, 384, 3), (512, 768), (96, 144, 3))
    plain, decoded, _ = read_whole(large, replace(data, draft=False))
    assert decoded.shape == (512, 768, 3)
    assert np.abs(seen.astype(int) - plain).mean() < 0.5


def test_overlays_get_the_pixels_of_the_file(model, large, monkeypatch):
    monkeypatch.setattr(model, "config", replace(model.config, data=replace(model.config.data, draft=True)))
    (kept,) = stream(model, [large])
    assert np.array_equal(kept.pixels, read_image(large))
    (without,) = stream(model, [large], pixels=False)
    assert without.pixels is None
    assert without.instances.size == (512, 768)
    assert np.array_equal(without.instances.boxes, kept.instances.boxes)
    assert np.array_equal(model.predict(large).boxes, kept.instances.boxes)
