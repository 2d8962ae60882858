"""Geometry of samples, copy-paste, summed-area tables, and batches that do not depend on who reads them."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from seanet.config import Data
from seanet.data import transforms
from seanet.data.bitmaps import Bitmap
from seanet.data.coco import read_coco, to_bitmap
from seanet.data.loader import EpochSampler, EvalSet, TrainSet, collate, eval_loader, pack, read_for, train_loader
from seanet.data.transforms import Sample, View, paste, random_view, see
from seanet.errors import AnnotationError, ImageError
from seanet.types import Batch

SMALL = Data(short_sides=(48, 64), long_side=96, jitter=(0.5, 2.0), crop=0.5, colour=0.4, copy_paste=0.5)


@pytest.fixture
def data(tmp_path):
    """Five images of a bright object each: polygons and run lengths, a crowd, and one image without objects."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(5):
        width, height = (80, 60) if i % 2 else (60, 80)
        pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        images.append({"id": i + 10, "file_name": f"{i}.png", "width": width, "height": height})
        if i < 4:
            pixels[20:40, 10:50] = 255
            bits = np.zeros((height, width), np.uint8)
            bits[20:40, 10:50] = 1
            edges = np.flatnonzero(np.diff(bits.ravel(order="F"))) + 1
            runs = {"size": [height, width], "counts": np.diff([0, *edges, bits.size]).tolist()}
            shape = [[10, 20, 50, 20, 50, 40, 10, 40]] if i < 2 else runs
            entry = {"image_id": i + 10, "category_id": 1, "bbox": [10, 20, 40, 20], "area": 800, "iscrowd": 0}
            annotations.append(entry | {"id": i + 1, "segmentation": shape})
            if i == 2:
                annotations.append(entry | {"id": 9, "segmentation": runs, "iscrowd": 1})
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "bar"}]}
    (tmp_path / "data.json").write_text(json.dumps(content))
    return read_coco(tmp_path / "data.json", tmp_path)


def dense(mask: Bitmap, image: np.ndarray) -> np.ndarray:
    return mask.cut(0, 0, image.shape[1], image.shape[0]).bits.astype(bool)


def seen(data, index: int, view: View) -> Sample:
    record = data.images[index]
    return see(np.array(Image.open(record.path)), record, view)


@pytest.mark.parametrize("index", [0, 2])
def test_masks_and_boxes_follow_the_image(data, index):
    record = data.images[index]
    rng = np.random.default_rng(1)
    for _ in range(30):
        view = random_view(record.height, record.width, SMALL, rng)
        sample = seen(data, index, view)
        bright = sample.image.min(2) > 150
        for mask, box in zip(sample.masks, sample.boxes, strict=True):
            bits = dense(mask, sample.image)
            # Edges blur and may fall either way; the inside may not.
            assert np.count_nonzero(bits != bright) <= 1.1 * (bits.shape[0] + bits.shape[1]) * max(view.scale)
            assert np.abs(box - mask.window).max() <= 1
            assert box[0] < box[2] <= sample.image.shape[1]
            assert box[1] < box[3] <= sample.image.shape[0]
        if not len(sample):
            assert bright.sum() <= 0.02 * bright.size


@pytest.mark.parametrize("index", [0, 2])
def test_identity_flip_and_double(data, index):
    record = data.images[index]
    height, width = record.height, record.width
    plain = seen(data, index, View((0, 0, width, height), height, width))
    flipped = seen(data, index, View((0, 0, width, height), height, width, flip=True))
    doubled = seen(data, index, View((0, 0, width, height), 2 * height, 2 * width))
    assert plain.boxes.tolist() == [[10, 20, 50, 40]]
    assert plain.masks[0].window == (10, 20, 50, 40)
    assert plain.masks[0].area == 800
    assert np.array_equal(flipped.image, plain.image[:, ::-1])
    assert np.array_equal(dense(flipped.masks[0], flipped.image), dense(plain.masks[0], plain.image)[:, ::-1])
    assert flipped.boxes.tolist() == [[width - 50, 20, width - 10, 40]]
    assert doubled.boxes.tolist() == [[20, 40, 100, 80]]
    assert doubled.masks[0].area == 4 * 800


def test_objects_out_of_view_are_dropped(data):
    for index in (0, 2):
        assert not len(seen(data, index, View((52, 0, 60, 20), 40, 16)))
        (box,) = seen(data, index, View((30, 0, 60, 30), 60, 60)).boxes
        assert box.tolist() == [0, 40, 40, 60]


def test_fractions_of_a_pixel_survive(data):
    view = View((0, 0, 60, 80), 100, 75)
    np.testing.assert_allclose(seen(data, 0, view).boxes, [[12.5, 25, 62.5, 50]], atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
def test_a_reduced_jpeg_gives_the_view_of_the_whole_one(tmp_path, turned):
    """Windows count pixels of the file, whatever it was decoded at; of a turned file those of the upright image."""
    y, x = np.mgrid[:480, :640]
    picture = np.stack([x / 3, y / 2, 127 + 100 * np.sin(x / 25) * np.cos(y / 31)], 2).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6 if turned else 1
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95, exif=exif)
    height, width = (640, 480) if turned else (480, 640)
    view = View((30.5, 20, 430, 420), 60, 62, flip=True)
    config = Data(draft=True)
    whole, reduced = (
        read_for(view, tmp_path / "a.jpg", (height, width), c) for c in (replace(config, draft=False), config)
    )
    assert whole.shape == (height, width, 3)
    assert reduced.shape == (height // 4, width // 4, 3)
    assert np.abs(view.pixels(reduced, 4).astype(int) - view.pixels(whole)).mean() < 0.5


def test_sizes(data):
    assert transforms.fitted(480, 640, 800, 1333) == (800, 1067)
    assert transforms.fitted(400, 2000, 800, 1333) == (267, 1333)
    assert transforms.fitted(1, 20_000, 800, 1333) == (1, 1333)
    image = np.zeros((30, 20, 3), np.uint8)
    assert transforms.fit(image, Data(short_sides=(10, 40), long_side=99)).shape == (60, 40, 3)


def test_pasted_objects_hide_what_is_below(data):
    below = seen(data, 0, View((0, 0, 60, 80), 80, 60))
    above = seen(data, 1, View((0, 0, 80, 60), 30, 100))  # 100 x 30, reaching past the right side
    above = replace(above, image=np.full_like(above.image, 7))
    pasted = paste(below, above, np.random.default_rng(0))
    first, second = (dense(mask, below.image) for mask in pasted.masks)
    assert not (first & second).any()
    assert np.array_equal(first, dense(below.masks[0], below.image) & ~second)
    assert (pasted.image[second] == 7).all()
    assert np.array_equal(pasted.image[~second], below.image[~second])
    assert pasted.boxes[:, 2].max() <= 60
    covering = replace(above, masks=below.masks, image=below.image, boxes=below.boxes)
    assert len(paste(below, covering, np.random.default_rng(0))) == 1
    nothing = seen(data, 4, View((0, 0, 60, 80), 80, 60))
    assert len(paste(below, nothing, np.random.default_rng(0))) == 1
    assert len(paste(nothing, below, np.random.default_rng(0))) == 1


def test_colour_keeps_grey_and_shape():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.abs(transforms.vary_colour(image, 0.0, rng).astype(int) - image).max() <= 1
    grey = transforms.vary_colour(np.repeat(image[:, :, :1], 3, 2), 0.5, rng)
    assert np.abs(np.diff(grey.astype(int), axis=2)).max() <= 1


def test_packed_masks_count_any_rectangle():
    rng = np.random.default_rng(0)
    shapes = [(5, 7), (1, 1), (12, 3)]
    masks = [
        Bitmap((rng.random(s) < 0.5).astype(np.uint8), int(x), int(y))
        for s, (x, y) in zip(shapes, rng.integers(0, 9, (3, 2)), strict=True)
    ]
    packed = pack(masks)
    for mask, start, window in zip(masks, packed.starts.tolist(), packed.windows.tolist(), strict=True):
        assert tuple(window) == mask.window
        h, w = mask.bits.shape
        table = packed.tables[start : start + (h + 1) * (w + 1)].reshape(h + 1, w + 1)
        for _ in range(10):
            (y0, y1), (x0, x1) = sorted(rng.integers(0, h + 1, 2)), sorted(rng.integers(0, w + 1, 2))
            assert table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0] == mask.bits[y0:y1, x0:x1].sum()
    empty = pack([])
    assert (empty.tables.shape, empty.starts.shape, empty.windows.shape) == ((0,), (0,), (0, 4))
    assert (empty.tables.dtype, empty.starts.dtype, empty.windows.dtype) == (torch.int32, torch.int64, torch.int64)


def test_collate(data):
    samples = [seen(data, i, View((0, 0, 60, 80), 80, 60)) for i in (4, 0, 2)]
    batch = collate(samples)
    assert batch.images.shape == (3, 3, 96, 64)
    assert batch.images.dtype == torch.uint8
    assert not batch.images[:, :, 80:].any()
    assert not batch.images[:, :, :, 60:].any()
    assert batch.sizes == [(80, 60)] * 3
    assert batch.ids == [14, 10, 12]
    none, one, other = batch.targets
    assert (none.boxes.shape, none.labels.shape, len(none.masks)) == ((0, 4), (0,), 0)
    assert (none.boxes.dtype, none.labels.dtype) == (torch.float32, torch.int64)
    for target, sample in ((one, samples[1]), (other, samples[2])):
        alone = pack(sample.masks)
        assert torch.equal(target.masks.tables, alone.tables)
        assert torch.equal(target.masks.starts, alone.starts)
        assert torch.equal(target.masks.windows, alone.windows)
        assert len(target.boxes) == 1  # the crowd is left out
    assert collate(samples[:1]).targets[0].masks.tables.shape == (0,)


def same(a: Batch, b: Batch) -> bool:
    def targets(t: Batch) -> list[torch.Tensor]:
        return [v for x in t.targets for v in (x.boxes, x.labels, x.masks.tables, x.masks.starts, x.masks.windows)]

    pairs = zip([a.images, *targets(a)], [b.images, *targets(b)], strict=True)
    return (a.sizes, a.ids, a.seeds) == (b.sizes, b.ids, b.seeds) and all(torch.equal(x, y) for x, y in pairs)


def test_batches_do_not_depend_on_workers_or_on_where_a_run_resumed(data):
    state = torch.random.get_rng_state()
    loader = train_loader(data, SMALL, batch=2, seed=3)
    plain = [*loader, *loader]  # two epochs
    assert len(plain) == 6
    assert len({tuple(batch.seeds) for batch in plain}) == 6
    workers = train_loader(data, SMALL, batch=2, seed=3, workers=2)
    assert all(same(a, b) for a, b in zip(plain, [*workers, *workers], strict=True))
    resumed = train_loader(data, SMALL, batch=2, seed=3, start=(0, 2))
    assert len(resumed) == 1
    assert all(same(a, b) for a, b in zip(plain[2:], [*resumed, *resumed], strict=True))
    other = next(iter(train_loader(data, SMALL, batch=2, seed=4)))
    assert not same(plain[0], other)
    assert torch.equal(torch.random.get_rng_state(), state)
    pickle.loads(pickle.dumps(TrainSet(data, SMALL)))  # for workers that are spawned


def test_every_image_comes_once_an_epoch_over_all_ranks():
    upright = [i % 3 == 0 for i in range(103)]
    ranks = [EpochSampler(upright, 4, seed=1, rank=rank, world=2) for rank in range(2)]
    first = [[index for step in rank for _, index in step] for rank in ranks]
    assert [len(indices) for indices in first] == [52, 52]
    assert set(first[0] + first[1]) == set(range(103))
    assert len(set(first[0]) & set(first[1])) <= 1
    assert [rank.epoch for rank in ranks] == [1, 1]
    second = [index for step in ranks[0] for _, index in step]
    assert second != first[0]
    sampler = EpochSampler(upright, 4, seed=1)
    mixed = sum(len({upright[index] for _, index in step}) > 1 for step in sampler)
    assert mixed <= 2
    sampler.seek(0, 5)
    sampler.set_epoch(0)
    assert len(sampler) == sampler.steps - 5
    sampler.set_epoch(1)
    assert len(sampler) == sampler.steps
    assert [index for _, index in next(iter(EpochSampler([True], 3)))] == [0, 0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_reaches_the_user(data, workers):
    path = data.images[3].path
    path.write_bytes(path.read_bytes()[:-60])
    for loader in (train_loader(data, SMALL, batch=5, workers=workers), eval_loader(data, SMALL, 5, workers)):
        with pytest.raises(ImageError) as caught:
            list(loader)
        assert str(caught.value).startswith(str(path))
        assert caught.value.file == path
        del caught  # its frames would keep the worker until some later test


def test_evaluation_reads_whole_images_in_order(data):
    config = Data(short_sides=(32, 120), long_side=200)
    found = list(eval_loader(data, config, batch=2))
    assert [id for batch, _ in found for id in batch.ids] == [10, 11, 12, 13, 14]
    batch, sizes = found[0]
    assert sizes == [(80, 60), (60, 80)]
    assert batch.sizes == [(160, 120), (120, 160)]
    assert batch.targets is None
    parts = [eval_loader(data, config, rank=rank, world=2) for rank in range(2)]
    assert [[batch.ids[0] for batch, _ in part] for part in parts] == [[10, 12, 14], [11, 13]]
    assert len(EvalSet(data, config)) == 5


def test_training_stops_on_bad_data_before_it_starts(data):
    with pytest.raises(AnnotationError, match="no images"):
        TrainSet(replace(data, images=()), SMALL)
    data.repairs.note("annotation", "skipped", "bbox outside the image", 3)
    with pytest.raises(AnnotationError, match=r"20\.0% .*bbox outside the image \(id 3\)"):
        TrainSet(data, SMALL)
    TrainSet(data, replace(SMALL, max_bad=0.2))


def test_many_objects_stay_small_in_memory(tmp_path):
    side, annotations = 1000, []
    for i in range(300):
        x, y = 50 * (i % 20), 50 * (i // 20)
        shape = [[x, y, x + 40, y, x + 40, y + 40, x, y + 40]]
        entry = {"image_id": 1, "category_id": 1, "bbox": [x, y, 40, 40], "area": 1600, "iscrowd": 0}
        annotations.append(entry | {"id": i + 1, "segmentation": shape})
    Image.new("RGB", (side, side)).save(tmp_path / "a.png")
    images = [{"id": 1, "file_name": "a.png", "width": side, "height": side}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (tmp_path / "data.json").write_text(json.dumps(content))
    data = read_coco(tmp_path / "data.json", tmp_path)
    (key,) = next(iter(EpochSampler([False], 1)))
    sample = TrainSet(data, Data(short_sides=(1000,), flip=1.0))[key]
    assert len(sample) == 300
    assert sum(mask.bits.nbytes for mask in sample.masks) < 1e6  # dense masks would take 300 MB
    assert collate([sample]).targets[0].masks.tables.nbytes < 3e6


def test_a_part_of_coco(coco_mini):
    data = read_coco(coco_mini / "annotations" / "instances_val2017.json", coco_mini / "val2017")
    config = Data(short_sides=(320,), long_side=533, jitter=(0.5, 1.5), flip=0.5)
    batch = next(iter(train_loader(data, config, batch=4, seed=0)))
    for target in batch.targets:
        assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()
        assert ((target.boxes - target.masks.windows).abs() <= 1).all()
    record = data.images[0]
    sample = see(
        np.zeros((record.height, record.width, 3), np.uint8),
        record,
        transforms.whole_view(record.height, record.width, config),
    )
    scale = np.prod(transforms.whole_view(record.height, record.width, config).scale)
    for annotation, mask in zip([a for a in record.annotations if not a.crowd], sample.masks, strict=True):
        area = to_bitmap(annotation, record.height, record.width).area * scale
        assert abs(mask.area - area) <= 0.1 * area + 20
