"""Batches for training and evaluation.  Everything random follows from (seed, epoch, image), nothing from the workers.

So a run continues exactly from a position (epoch, step), whatever the number of processes that read images.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from seanet.config import Data
from seanet.data import transforms
from seanet.data.bitmaps import Bitmap
from seanet.data.images import image_size, read_image
from seanet.data.records import CocoData, ImageRecord
from seanet.data.transforms import Sample, View
from seanet.errors import UserError
from seanet.types import Batch, PackedMasks, Target

STRIDE = 32  # padded sides are its multiples, for every level of the pyramid to fit
POOL = 16  # steps whose images are sorted by orientation together


def read_for(view: View, path: Path, size: tuple[int, int], config: Data) -> np.ndarray:
    """(H, W, 3) uint8 of a file of ``size``, reduced by a whole number as it is decoded where the view allows it."""
    enough = view.short_side(*size) if config.draft else None
    return read_image(path, config.max_pixels, short_side=enough, size=size)


def read_whole(path: Path, config: Data) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """What prediction sees of a file, the maybe reduced pixels this was made of, and the file's (height, width)."""
    size = image_size(path, config.max_pixels)
    view = transforms.whole_view(*size, config)
    pixels = read_for(view, path, size, config)
    return view.pixels(pixels, size[1] // pixels.shape[1]), pixels, size


class CocoImages(Dataset):
    """Reads lists of keys at once, and hands a user's mistake on as a value, for the loader to raise it unchanged."""

    def __init__(self, data: CocoData, config: Data):
        self.data, self.config = data, config

    def __len__(self) -> int:
        return len(self.data.images)

    def __getitems__(self, keys: Sequence) -> list | UserError:
        try:
            return [self[key] for key in keys]
        except UserError as error:
            return error

    def pixels(self, record: ImageRecord, view: View) -> np.ndarray:
        """(H, W, 3) uint8 in the frame that the annotations were drawn in; reduced where the view allows it."""
        return read_for(view, record.path, (record.height, record.width), self.config)


class TrainSet(CocoImages):
    """Augmented samples; the key (epoch, index) decides all that is random in one."""

    def __init__(self, data: CocoData, config: Data, seed: int = 0):
        super().__init__(data, config)
        data.require_images("train on")
        data.require_clean(config.max_bad)
        self.seed = seed

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        epoch, image = index
        stream = np.random.SeedSequence([self.seed, epoch, image])
        rng = np.random.default_rng(stream)
        sample = self._view(image, rng, int(stream.generate_state(1)[0]))
        if rng.random() < self.config.copy_paste:
            sample = transforms.paste(sample, self._view(int(rng.integers(len(self))), rng), rng)
        if self.config.colour:
            sample = replace(sample, image=transforms.vary_colour(sample.image, self.config.colour, rng))
        return sample

    def _view(self, index: int, rng: np.random.Generator, seed: int = 0) -> Sample:
        record = self.data.images[index]
        view = transforms.random_view(record.height, record.width, self.config, rng)
        return transforms.see(self.pixels(record, view), record, view, seed)


class EvalSet(CocoImages):
    """Whole images at the size for prediction: pixels of the network, id, and (height, width) of the file."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, tuple[int, int]]:
        record = self.data.images[index]
        view = transforms.whole_view(record.height, record.width, self.config)
        pixels = self.pixels(record, view)
        return view.pixels(pixels, record.width // pixels.shape[1]), record.id, (record.height, record.width)


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Steps of an epoch as lists of keys (epoch, index), this rank's share of each; order = f(seed, epoch).

    Every image comes once an epoch; images of the epoch's beginning fill up its last steps.  Most steps hold images
    that are all upright or all lying, for less padding.  After its last step it goes on to the next epoch.
    """

    def __init__(self, upright: Sequence[bool], batch: int, seed: int = 0, *, rank: int = 0, world: int = 1):
        self.upright = np.asarray(upright, bool)
        self.batch, self.seed, self.rank, self.world = batch, seed, rank, world
        self.epoch = self.step = 0

    @property
    def steps(self) -> int:
        """Of a whole epoch."""
        return math.ceil(len(self.upright) / (self.batch * self.world))

    def seek(self, epoch: int, step: int = 0) -> None:
        """Continue there: the next step drawn is number ``step`` of ``epoch``."""
        self.epoch, self.step = epoch, step

    def set_epoch(self, epoch: int) -> None:
        """As ``seek``, but a position inside that epoch stays."""
        if epoch != self.epoch:
            self.seek(epoch)

    def __len__(self) -> int:
        return self.steps - self.step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        for indices in self._order(epoch)[self.step :, self.rank :: self.world].tolist():
            yield [(epoch, index) for index in indices]
        self.seek(epoch + 1)

    def _order(self, epoch: int) -> np.ndarray:
        """(steps, batch * world) indices of images."""
        rng = np.random.default_rng([self.seed, epoch])
        order = np.resize(rng.permutation(len(self.upright)), self.steps * self.batch * self.world)
        rows = order.reshape(self.steps, -1)
        for start in range(0, self.steps, POOL):
            pool = rows[start : start + POOL]
            alike = pool.ravel()[np.argsort(self.upright[pool.ravel()], kind="stable")]
            rows[start : start + POOL] = rng.permutation(alike.reshape(pool.shape))
        return rows


class Loader(DataLoader):
    """A DataLoader that raises a user's mistake as it is, not wrapped in the traceback of a worker."""

    def __iter__(self) -> Iterator:  # ty: ignore[incompatible-method-override]  # torch names its private iterator
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                try:
                    raise batch
                finally:
                    del batch  # it and this frame would hold each other, and the workers with them
            yield batch


def train_loader(
    data: CocoData,
    config: Data,
    *,
    batch: int,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    start: tuple[int, int] = (0, 0),
) -> Loader:
    """Batches of ``batch`` images of this rank, from the position ``start`` = (epoch, step) on; one pass is an epoch.

    ``loader.batch_sampler`` is the ``EpochSampler``, to seek with.
    """
    upright = [record.height > record.width for record in data.images]
    sampler = EpochSampler(upright, batch, seed, rank=rank, world=world)
    sampler.seek(*start)
    return _loader(TrainSet(data, config, seed), workers, collate, batch_sampler=sampler)


def eval_loader(
    data: CocoData, config: Data, batch: int = 1, workers: int = 0, *, rank: int = 0, world: int = 1
) -> Loader:
    """Each image of this rank's share once, in the file's order: (Batch without targets, sizes of the files)."""
    mine = range(rank, len(data.images), world)
    return _loader(EvalSet(data, config), workers, collate_eval, sampler=mine, batch_size=batch)


def _loader(dataset: Dataset, workers: int, collate_fn: Callable, **order) -> Loader:
    # Its own generator, or the loader would draw from torch's global one.
    return Loader(
        dataset,
        num_workers=workers,
        collate_fn=collate_fn,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
        **order,
    )


def collate(samples: list[Sample] | UserError) -> Batch | UserError:
    """A training batch of B samples."""
    if isinstance(samples, UserError):
        return samples
    batch = collate_images([sample.image for sample in samples], [sample.id for sample in samples])
    return replace(batch, targets=_targets(samples), seeds=[sample.seed for sample in samples])


def collate_eval(items: list[tuple] | UserError) -> tuple[Batch, list[tuple[int, int]]] | UserError:
    """Items of ``EvalSet`` as a batch and the (height, width) of their files."""
    if isinstance(items, UserError):
        return items
    images, ids, sizes = map(list, zip(*items, strict=True))
    return collate_images(images, ids), sizes


def collate_images(images: list[np.ndarray], ids: list[int] | None = None) -> Batch:
    """Pad B images, (H, W, 3) uint8, with zeros at the right and the bottom to common sides that ``STRIDE`` divides."""
    sizes = [image.shape[:2] for image in images]
    height, width = (math.ceil(max(side) / STRIDE) * STRIDE for side in zip(*sizes, strict=True))
    padded = np.zeros((len(images), 3, height, width), np.uint8)
    for room, image, (h, w) in zip(padded, images, sizes, strict=True):
        room[:, :h, :w] = image.transpose(2, 0, 1)
    return Batch(torch.from_numpy(padded), sizes, ids=ids)


def _targets(samples: list[Sample]) -> list[Target]:
    """Views into one buffer of each kind: workers hand over a file descriptor for each buffer, and those are few."""
    tables, starts, windows = _tables([mask for sample in samples for mask in sample.masks])
    counts = [len(sample) for sample in samples]
    bounds = np.append(starts, len(tables))[np.cumsum([0, *counts])]  # of each sample's tables
    starts -= np.repeat(bounds[:-1], counts)

    def views(rows: np.ndarray, lengths: list[int] = counts) -> Sequence[torch.Tensor]:
        return torch.from_numpy(rows).split(lengths)

    masks = map(PackedMasks, views(tables, np.diff(bounds).tolist()), views(starts), views(windows))
    boxes = views(np.concatenate([sample.boxes for sample in samples]))
    labels = views(np.concatenate([sample.labels for sample in samples]))
    return list(map(Target, boxes, labels, masks))


def pack(masks: Sequence[Bitmap]) -> PackedMasks:
    """Summed-area tables of G masks; tensors of length 0 if there are none."""
    return PackedMasks(*map(torch.from_numpy, _tables(masks)))


def _tables(masks: Sequence[Bitmap]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables (T,) int32, starts (G,) int64 and windows (G, 4) int64; see ``PackedMasks``."""
    sizes = np.array([(mask.bits.shape[0] + 1) * (mask.bits.shape[1] + 1) for mask in masks], np.int64)
    ends = np.cumsum(sizes)
    tables = np.zeros(int(sizes.sum()), np.int32)
    for mask, start, end in zip(masks, ends - sizes, ends, strict=True):
        h, w = mask.bits.shape
        inner = tables[start:end].reshape(h + 1, w + 1)[1:, 1:]
        inner[:] = mask.bits.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    windows = np.array([mask.window for mask in masks], np.int64).reshape(-1, 4)
    return tables, ends - sizes, windows
