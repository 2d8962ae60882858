"""From images to instances: the one place, beside the transforms, where coordinates change."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from seanet import checkpoint, recipes
from seanet.config import Config, Execution
from seanet.data.coco import Categories
from seanet.data.images import to_rgb
from seanet.data.loader import collate_images, read_whole
from seanet.data.transforms import fit
from seanet.detector import Detector
from seanet.errors import UserError
from seanet.execution import prepare, require, running
from seanet.instances import Instances
from seanet.types import Batch, Detections, Rois

Picture = np.ndarray | Image.Image | Path | str


class Model:
    """A detector with what it was built for, its configuration and its classes, and how it is run."""

    def __init__(
        self,
        detector: Detector,
        config: Config,
        categories: Categories,
        execution: Execution | None = None,
        meta: checkpoint.Meta | None = None,
    ):
        self.detector, self.config, self.categories = detector, config, categories
        self.meta = meta
        """What its checkpoint said of it; None where it comes from none."""
        self.run_with(execution or Execution())

    @property
    def device(self) -> torch.device:
        return self.detector.mean.device

    def to(self, device: torch.device | str) -> Model:
        require(self.execution, torch.device(device))
        self.detector.to(device)
        return self

    def run_with(self, execution: Execution) -> Model:
        """This model, from now on run so: ``model.run_with(Execution(precision="bf16"))``."""
        require(execution, self.device)
        prepare(self.detector, execution)
        self.execution = execution
        return self

    def configure(self, config: Config) -> None:
        """Take settings that the weights do not depend on: those of ``detections`` and ``data``."""
        self.config = self.detector.settings = config

    @property
    def default_score(self) -> float:
        """The score over which its masks were best where it was validated (``evaluation.threshold``), else .5."""
        found = self.meta.metrics.get("best_f1/score") if self.meta else None
        return found if isinstance(found, float) and 0 <= found <= 1 else 0.5

    def limited(self, *, score: float | None = None, limit: int | None = None) -> Model:
        """This model, from now on with another score threshold or another number of detections an image."""
        changes = {key: value for key, value in {"score": score, "limit": limit}.items() if value is not None}
        self.configure(replace(self.config, detections=replace(self.config.detections, **changes)))
        return self

    def predict(self, image: Picture, *, edges: bool = False) -> Instances:
        """The instances of one image: a path, a PIL image, or an RGB array as ``data.images.to_rgb`` takes it.

        With ``edges`` they carry edge probabilities, where the model has an edge head.
        """
        if isinstance(image, str | Path):
            seen, _, size = read_whole(Path(image), self.config.data)
            return replace(self.predict_batch(collate_images([seen]), [size], edges=edges)[0], path=Path(image))
        return self.predict_pixels(_pixels(image), edges=edges)

    def predict_pixels(self, pixels: np.ndarray, *, edges: bool = False) -> Instances:
        """The same for (H, W, 3) uint8 RGB."""
        batch = collate_images([fit(pixels, self.config.data)])
        return self.predict_batch(batch, [pixels.shape[:2]], edges=edges)[0]

    @torch.inference_mode()
    def predict_batch(self, batch: Batch, sizes: list[tuple[int, int]], *, edges: bool = False) -> list[Instances]:
        """The instances of each image of a batch; ``sizes`` are the (height, width) of the images' files."""
        with self._running():
            found = self.detector.predict(batch.to(self.device), edges).to("cpu")
        return [self._instances(found[found.rois.image == i], batch.sizes[i], size) for i, size in enumerate(sizes)]

    @torch.inference_mode()
    def predict_inside(
        self, batch: Batch, sizes: list[tuple[int, int]], boxes: list[np.ndarray], labels: list[np.ndarray]
    ) -> list[Instances]:
        """Masks of given classes inside given boxes of each image, in their order: (n, 4) xyxy in pixels of its file, (n,).

        Scores are 1, but for a predicted mask IoU.
        """
        scales = [[w / size[1], h / size[0]] * 2 for (h, w), size in zip(batch.sizes, sizes, strict=True)]
        rois = Rois.cat([torch.from_numpy(np.float32(b * s)) for b, s in zip(boxes, np.array(scales), strict=True)])
        with self._running():
            wanted = torch.from_numpy(np.concatenate(labels)).to(self.device)
            found = self.detector.predict_inside(batch.to(self.device), rois.to(self.device), wanted).to("cpu")
        return [self._instances(found[found.rois.image == i], batch.sizes[i], size) for i, size in enumerate(sizes)]

    @contextmanager
    def _running(self) -> Generator[None]:
        """The detector as it predicts; one that is being trained goes on so afterwards."""
        was_training = self.detector.training
        self.detector.eval()
        with running(self.execution, self.device):
            yield
        self.detector.train(was_training)

    def save_pretrained(self, folder: Path | str, *, license: str = "", data: str = "") -> Path:
        """Write ``model.safetensors`` and a model card into a folder, as the Hugging Face Hub keeps them."""
        from seanet import hub

        return hub.save(self, folder, license, data)

    def push_to_hub(self, repository: str, *, license: str = "", data: str = "", **options: Any) -> str:
        """Upload to OWNER/NAME on the Hugging Face Hub; ``options`` are ``private`` and ``token``."""
        from seanet import hub

        return hub.push(self, repository, license, data, **options)

    @classmethod
    def from_pretrained(cls, name: Path | str, *, device: str | None = None, **options: Any) -> Model:
        """The model of such a folder, or of OWNER/NAME, which is fetched; ``options`` as ``revision`` and ``token``."""
        from seanet import hub

        return hub.pretrained(str(name), device, **options)

    def _instances(self, found: Detections, network: tuple[int, int], size: tuple[int, int]) -> Instances:
        """From the network's pixels to the file's."""
        scale = np.array([size[1] / network[1], size[0] / network[0]] * 2, dtype=np.float32)
        assert found.masks is not None
        labels = found.labels.numpy()
        return Instances(
            size=(int(size[0]), int(size[1])),
            boxes=found.rois.boxes.numpy() * scale,
            labels=labels,
            category_ids=np.array(self.categories.ids, dtype=np.int64)[labels - 1],
            names=[self.categories.names[label - 1] for label in labels],
            score=found.scores.numpy(),
            cls_score=found.cls_scores.numpy(),
            box_iou=None if found.box_ious is None else found.box_ious.numpy(),
            mask_iou=None if found.mask_ious is None else found.mask_ious.numpy(),
            box_score=None if found.box_scores is None else found.box_scores.numpy(),
            masks=found.masks.numpy(),
            edges=None if found.edges is None else found.edges.numpy(),
            geometry=self.config.geometry,
        )


def build(recipe: str | Config, classes: int | Iterable[str]) -> Model:
    """A model with random weights: ``classes`` is their number or their names."""
    config = recipes.recipe(recipe) if isinstance(recipe, str) else recipe
    names = [f"class {i + 1}" for i in range(classes)] if isinstance(classes, int) else list(classes)
    if not names:
        raise UserError("a model needs at least one class")
    categories = Categories(tuple(range(1, len(names) + 1)), tuple(names))
    return Model(Detector(config, len(names)).eval(), config, categories)


def load(path: str | Path, device: torch.device | str | None = None, execution: Execution | None = None) -> Model:
    """The model of a checkpoint or of a run's folder, on ``device`` (default: a GPU if there is one)."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    require_device(device)
    require(execution or Execution(), torch.device(device))
    weights, meta = checkpoint.read_model(path)
    detector = Detector(meta.config, len(meta.classes))
    checkpoint.load_whole(detector, weights, path)
    categories = Categories(meta.category_ids, meta.classes)
    return Model(detector.eval().to(device), meta.config, categories, execution, meta)


def require_device(device: torch.device | str) -> None:
    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without a kind of device
        reason = str(error).splitlines()[0]
        raise UserError(f"device {str(device)!r} cannot be used ({reason}): name another, such as cpu") from None


def _pixels(image: np.ndarray | Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else to_rgb(image)
