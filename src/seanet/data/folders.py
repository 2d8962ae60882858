"""Where a data set keeps the annotations and images of a split: COCO's layout, Roboflow's, and plain ones."""

from collections.abc import Iterable
from pathlib import Path

from seanet.errors import AnnotationError

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def find_splits(folder: Path | str, wanted: Iterable[str] = ()) -> dict[str, tuple[Path, Path]]:
    """Annotation file and image folder of the wanted splits, or of those of train, val and test that are there.

    One that has annotations, but no images, is an error too: a split is not left out without a word.
    """
    names = [*wanted] or [name for name in SPLITS if has_annotations(Path(folder), name)] or ["train"]
    return {name: find_split(folder, name) for name in names}


def has_annotations(folder: Path, split: str) -> bool:
    return any(file.is_file() for name in SPLITS[split] for file in _annotation_files(folder, name))


def find_split(folder: Path | str, split: str) -> tuple[Path, Path]:
    """Annotation file and image folder of ``train``, ``val`` or ``test``, in COCO's, Roboflow's or a plain layout."""
    folder, names = Path(folder), SPLITS.get(split, (split,))
    if not folder.is_dir():
        raise AnnotationError(f"{folder} is not a folder: give the one that holds the data set", file=folder)
    for name in names:
        for file in _annotation_files(folder, name):
            for images in _image_folders(folder, name, file):
                if file.is_file() and images.is_dir():
                    return file, images
    looked = ", ".join(pattern for name in names for pattern in _patterns(name))
    there = ", ".join(sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())[:20]) or "nothing"
    raise AnnotationError(
        f"{folder}: found no annotations with images for {split!r}; looked for {looked}; there is {there}",
        file=folder,
        field="split",
        value=split,
    )


def images_beside(file: Path) -> Path | None:
    """The folder of the images of an annotation file, in one of those layouts."""
    plain = file.stem in ("_annotations.coco", "annotations")
    folder = file.parent.parent if plain or file.parent.name == "annotations" else file.parent
    name = file.parent.name if plain else file.stem.removeprefix("instances_")
    return next((images for images in _image_folders(folder, name, file) if images.is_dir()), None)


def _patterns(name: str) -> tuple[str, ...]:
    return (
        f"annotations/instances_{name}*.json with {name}*/ or images/{name}*/",
        f"annotations/{name}.json or {name}.json with {name}/, images/{name}/ or images/",
        f"{name}/_annotations.coco.json with the images beside it",
    )


def _annotation_files(folder: Path, name: str) -> Iterable[Path]:
    """Candidates, best first; COCO's years (train2017) come after the plain name."""
    yield folder / name / "_annotations.coco.json"
    yield folder / "annotations" / f"instances_{name}.json"
    full = (folder / "annotations").glob(f"instances_{name}*.json")
    yield from sorted((p for p in full if p.stem.removeprefix(f"instances_{name}").isdigit()), reverse=True)
    for place in (folder / "annotations", folder):
        yield place / f"{name}.json"
    yield folder / f"instances_{name}.json"
    yield folder / name / "annotations.json"


def _image_folders(folder: Path, name: str, file: Path) -> Iterable[Path]:
    if file.parent == folder / name:
        yield file.parent / "images"
        yield file.parent
        return
    full = file.stem.removeprefix("instances_")
    yield from (folder / place / stem for stem in dict.fromkeys((full, name)) for place in ("", "images"))
    yield folder / "images"
