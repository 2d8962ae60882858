"""Instance segmentation whose masks keep their boundaries.

    model = seanet.load("runs/mine")
    instances = model.predict("image.jpg")

The names below are all that is public here.  They are imported on first use, so ``import seanet`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seanet.config import Config as Config
    from seanet.config import Execution as Execution
    from seanet.errors import UserError as UserError
    from seanet.evaluation.run import evaluate as evaluate
    from seanet.instances import Instances as Instances
    from seanet.predict import build as build
    from seanet.predict import load as load
    from seanet.recipes import recipe as recipe
    from seanet.training import train as train
    from seanet.weights.importing import import_torchvision as import_torchvision
    from seanet.weights.importing import import_weights as import_weights

__version__ = "0.1.0"

# No module of seanet may have one of these names: importing a module sets it as an attribute of its package.
_HOMES = {
    "Config": "config",
    "Execution": "config",
    "Instances": "instances",
    "UserError": "errors",
    "build": "predict",
    "evaluate": "evaluation.run",
    "import_torchvision": "weights.importing",
    "import_weights": "weights.importing",
    "load": "predict",
    "recipe": "recipes",
    "train": "training",
}

__all__ = [
    "Config",
    "Execution",
    "Instances",
    "UserError",
    "__version__",
    "build",
    "evaluate",
    "import_torchvision",
    "import_weights",
    "load",
    "recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
