"""Models made of other frameworks' files: which classes their rows stand for, and what they must be set to."""

from __future__ import annotations

from pathlib import Path

from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from seanet.config import Config
from seanet.data.coco import Categories
from seanet.detector import Detector
from seanet.errors import UserError
from seanet.predict import Model
from seanet.weights.files import Source
from seanet.weights.fitting import Known, fit
from seanet.weights.importing import Foreign, Imported, foreign, put, set_for

NOTHING = "N/A"  # torchvision's name for the ten numbers of COCO that no class has


def new_model(source: Source, recipe: Config, classes: str = "", style: str = "") -> tuple[Model, Imported]:
    """A model of a recipe with the weights and the classes of a file, set as they need it.

    ``classes`` are names of the file's classes in their order, separated by commas; or a file with one in each line; or
    ``coco``.  Without them they are those that the file has, else "class 1", "class 2" ...
    """
    given = foreign(source, style)
    rows = _rows(str(source.path or "the file"), given, classes)
    config = set_for(given, recipe)
    detector = Detector(config, len(rows))
    report = put(detector, given)
    kept = [name for name in rows if name != NOTHING]
    if len(kept) < len(rows):
        whole, detector = detector, Detector(config, len(kept))
        taken = {name: value for name, value in whole.state_dict().items() if name in set(report.taken)}
        fit(detector, kept, Known(taken, rows, ""))
    return Model(detector.eval(), config, Categories(_ids(kept), tuple(kept))), report


def _rows(file: str, given: Foreign, classes: str) -> tuple[str, ...]:
    if classes == "coco":
        names = tuple(_coco()) if given.count == len(_coco()) else tuple(n for n in _coco() if n != NOTHING)
    elif classes:
        names = _listed(classes)
    else:
        names = given.classes or tuple(f"class {i + 1}" for i in range(given.count))
    if len(names) != given.count or not names:
        raise UserError(
            f"{file}: has {given.count} classes, but {len(names)} names: give one for each",
            file=str(file),
            value=classes,
        )
    if twice := [name for name in names if names.count(name) > 1 and name != NOTHING]:
        raise UserError(f"{twice[0]!r} names two classes of {file}: give each its own name", value=twice[0])
    return names


def _listed(classes: str) -> tuple[str, ...]:
    file = Path(classes)
    if "," in classes or not file.is_file():
        return tuple(name.strip() for name in classes.split(","))
    try:
        return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: no list of classes can be read from it ({error})", file=str(file)) from None


def _coco() -> list[str]:
    """Names of the numbers 1..90, as torchvision has them."""
    return MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]


def _ids(names: list[str]) -> tuple[int, ...]:
    """COCO's numbers for COCO's classes, so that its annotations can be evaluated with; else 1, 2 ..."""
    coco = {name: i + 1 for i, name in enumerate(_coco())}
    known = set(names) == coco.keys() - {NOTHING}
    return tuple(coco[name] if known else i + 1 for i, name in enumerate(names))
