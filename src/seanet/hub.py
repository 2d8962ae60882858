"""Models on the Hugging Face Hub, by its own mix-in: one safetensors file and a model card, nothing that runs code.

``Model.save_pretrained``, ``push_to_hub`` and ``from_pretrained`` come here; huggingface_hub is imported by nothing else.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from seanet import checkpoint
from seanet.errors import MissingExtra, UserError
from seanet.predict import Model, load

try:
    from huggingface_hub import (
        ModelCard,
        ModelCardData,
        ModelHubMixin,
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
except ImportError:
    raise MissingExtra("huggingface-hub", "hub", "exchanging models on the Hugging Face Hub") from None

FILE = "model.safetensors"
THEIRS = ("huggingface_hub", "httpx", "httpx2", "requests")  # whose errors come from the exchange itself
TAGS = ["image-segmentation", "instance-segmentation", "mask-rcnn"]
CARD = """---
{data}
---

# {recipe}

Instance segmentation of {count} classes: {classes}.

{metrics}

{trained}

```python
from seanet.predict import Model

model = Model.from_pretrained("OWNER/NAME")  # this repository, or a folder with its file
instances = model.predict("image.jpg")
```

`{file}` holds the weights and, in its header, the whole configuration; loading it runs no code.
"""


class Shared(ModelHubMixin, library_name="seanet", pipeline_tag="image-segmentation", tags=TAGS):
    """A model as the Hub's mix-in saves, pushes and fetches it; ``license`` and ``data`` are for its card."""

    def __init__(self, model: Model, license: str = "", data: str = ""):
        self.model, self.license, self.data = model, license, data
        self._hub_mixin_config = None  # the header of the file is the configuration, no config.json beside it

    def _save_pretrained(self, save_directory: Path) -> None:
        model = self.model
        meta = replace(
            model.meta or checkpoint.Meta(model.config, (), ()),
            config=model.config,
            classes=tuple(model.categories.names),
            category_ids=tuple(model.categories.ids),
        )
        checkpoint.save_model(save_directory / FILE, model.detector.state_dict(), meta)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Shared:
        return cls(pretrained(model_id, **options))

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        return ModelCard(card(self.model, self.license, self.data))


def save(model: Model, folder: Path | str, license: str = "", data: str = "") -> Path:
    """Write the model and its card into a folder; a card that is there stays."""
    Shared(model, license, data).save_pretrained(folder)
    return Path(folder)


def push(
    model: Model,
    repository: str,
    license: str = "",
    data: str = "",
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Upload the model and its card; returns the address of the commit."""
    with _speaking(repository):
        return str(Shared(model, license, data).push_to_hub(repository, private=private, token=token))


def pretrained(name: str, device: str | None = None, **options: Any) -> Model:
    """The model of a local folder, or of a repository on the Hub (``revision``, ``token``, ``cache_dir`` ...)."""
    folder = Path(name)
    return load(folder / FILE if folder.is_dir() else _fetched(name, options), device)


def fetch(repository: str, out: Path, revision: str | None = None) -> Path:
    """A repository's model as the file ``out``, written as checkpoints are, whole or not at all."""
    weights, meta = checkpoint.read_model(_fetched(repository, {"revision": revision}))
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save_model(out, weights, meta)
    return out


def card(model: Model, license: str = "", data: str = "") -> str:
    """The text of a model card."""
    facts = ModelCardData(
        license=license or None, library_name="seanet", pipeline_tag="image-segmentation", tags=TAGS, language=None
    )
    metrics = model.meta.metrics if model.meta else {}
    rows = [f"| {name} | {100 * value:.1f} |" for name, value in metrics.items() if isinstance(value, float)]
    return CARD.format(
        data=facts.to_yaml(),
        recipe=model.config.recipe,
        count=len(model.categories.names),
        classes=", ".join(model.categories.names),
        metrics="\n".join(["| metric | % |", "|---|---|", *rows]) if rows else "It was not evaluated.",
        trained=f"Trained on {data}." if data else "What it was trained on is not said.",
        file=FILE,
    )


def _fetched(repository: str, options: dict[str, Any]) -> Path:
    with _speaking(repository):
        if not options.get("local_files_only"):
            _require_answer(repository, options)
        return Path(hf_hub_download(repository, FILE, **options))


def _require_answer(repository: str, options: dict[str, Any]) -> None:
    """Ask once for a file that no cache has: the download would ask for half a minute before it says that nobody answers."""
    revision = options.get("revision")
    cached = try_to_load_from_cache(repository, FILE, cache_dir=options.get("cache_dir"), revision=revision)
    if not isinstance(cached, str):
        get_hf_file_metadata(hf_hub_url(repository, FILE, revision=revision), token=options.get("token"))


@contextmanager
def _speaking(repository: str) -> Generator[None]:
    """What goes wrong between here and the Hub is one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in THEIRS and not isinstance(error, OSError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{repository}: no exchange with the Hugging Face Hub ({reason}): is it a folder here, or OWNER/NAME there,"
            " and is the network there",
            value=repository,
        ) from None
