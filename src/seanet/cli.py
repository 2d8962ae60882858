"""The command line.  Commands import what they need: help, recipes and mistakes in settings never wait for torch.

Results go to stdout, all else to stderr.  Exit codes: 0 done, 1 some inputs failed or the doctor worries, 2 a mistake
that the message tells how to mend, 130 interrupted.
"""

import errno
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from seanet import __version__
from seanet.errors import UserError
from seanet.report.text import describe, finite, summary, table

if TYPE_CHECKING:
    pass


class Commands(TyperGroup):
    """Turns mistakes that a user can mend into one line; ``--debug`` may stand anywhere and shows where they arose."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(arg for arg in args[:end] if arg != "--debug"), *args[end:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            if ctx.params.get("debug"):
                raise
            say("error: " + str(error).replace("\n", "\n       "))
            raise typer.Exit(2) from None
        except OSError as error:
            if ctx.params.get("debug") or error.errno == errno.EPIPE:
                raise
            say(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            if ctx.params.get("debug"):
                raise
            say("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make data sets.")
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point of ``seanet`` and ``python -m seanet``."""
    app(prog_name="seanet")


def show_version(wanted: bool) -> bool:
    if wanted:
        print(f"seanet {__version__}")
        raise typer.Exit()
    return wanted


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Instance segmentation whose masks keep their boundaries."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s", force=True)


def complete_recipe(incomplete: str) -> list[str]:
    from seanet.recipes import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    from seanet.config import Config, EdgeMask, FcnBox
    from seanet.settings import paths

    names = {*paths(Config()), *paths(Config(box=FcnBox(), mask=EdgeMask()))}
    return sorted(f"{name}=" for name in names if name.startswith(incomplete))


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting, e.g. train.lr=0.005.", autocompletion=complete_setting
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of a COCO-style data set: annotations/ beside the folders of images."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the best there is when left out.")]


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A name that 'seanet recipes' lists.", autocompletion=complete_recipe),
    ],
    data: Data = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the run.  [runs/RECIPE]")] = None,
    train_json: Annotated[Path | None, typer.Option(help="Annotations to train on, instead of --data.")] = None,
    train_images: Annotated[Path | None, typer.Option(help="Their images.")] = None,
    val_json: Annotated[Path | None, typer.Option(help="Annotations to evaluate on.")] = None,
    val_images: Annotated[Path | None, typer.Option(help="Their images.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="YAML", help="Settings on top of the recipe's.")] = None,
    set_: Set = None,
    epochs: Annotated[float | None, typer.Option(help="train.epochs")] = None,
    steps: Annotated[int | None, typer.Option(help="train.steps")] = None,
    batch: Annotated[int | None, typer.Option(help="train.batch")] = None,
    lr: Annotated[float | None, typer.Option(help="train.lr")] = None,
    devices: Annotated[int | None, typer.Option(help="train.devices")] = None,
    workers: Annotated[int | None, typer.Option(help="train.workers")] = None,
    seed: Annotated[int | None, typer.Option(help="train.seed")] = None,
    init: Annotated[Path | None, typer.Option(metavar="CKPT", help="Checkpoint whose weights to start from.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Allow fetching the backbone's weights.")] = False,
    json_: Json = False,
) -> None:
    """Train a recipe on your own images."""
    from seanet.recipes import recipe as named
    from seanet.settings import load_yaml, override

    settings = named(recipe)
    if config is not None:
        settings = load_yaml(config, settings)
    short = {"epochs": epochs, "steps": steps, "batch": batch, "lr": lr}
    short |= {"devices": devices, "workers": workers, "seed": seed}
    given = [f"train.{name}={value}" for name, value in short.items() if value is not None]
    settings = override(settings, [*(set_ or []), *given])
    sets = read_sets(data, {"train": (train_json, train_images), "val": (val_json, val_images)})
    for part in sets:
        part.require_clean(settings.data.max_bad)  # as training does, but before torch is waited for

    from seanet.training import train as run

    result = run(settings, sets, out or Path("runs") / recipe, resume=resume, init=init, download=download)
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0:
        found = {"out": str(result.folder), "best": result.best, "history": result.history, "signal": result.signal}
        emit(found, json_, summary(result))
    raise typer.Exit(result.exit_code)


@app.command()
def val(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the folder of a run.")],
    data: Data = None,
    split: Annotated[str, typer.Option(help="Which annotations of the data set.")] = "val",
    max_detections: Annotated[int | None, typer.Option(min=1, help="Detections of an image that count.")] = None,
    results: Annotated[Path | None, typer.Option(metavar="JSON", help="Write the detections in COCO's format.")] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="AP of each class too.")] = False,
    set_: Set = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """COCO metrics of a checkpoint."""
    if data is None:
        raise UserError("--data DIR is needed: the folder of a COCO-style data set")
    require(checkpoint, "a checkpoint or the folder of a run")
    require(data, "a folder of data")
    from seanet.evaluation.run import evaluate
    from seanet.predict import load

    model = load(checkpoint, device)
    adjust(model, set_ or [])
    if max_detections is not None:
        model.limited(limit=max_detections)
    entries: list[dict] = []
    found = evaluate(model, data, split=split, results=entries, progress=counter("evaluated"))
    if results is not None:
        from seanet.report.files import write_whole

        write_whole(results, json.dumps(entries).encode())
    emit(found, json_, table(found, per_class))


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the folder of a run.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUTS...", help="Images, folders of images, patterns such as 'a/*.jpg'.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results are written.")] = Path("predictions"),
    score: Annotated[float, typer.Option(min=0, max=1, help="Leave out what scores less.")] = 0.5,
    save: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="overlay, coco, labels or edges; may be repeated.")
    ] = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Find the objects in images.  Files that cannot be read are named; the others go on."""
    require(checkpoint, "a checkpoint or the folder of a run")
    from seanet.predict import find_images, load, stream
    from seanet.report.outputs import Outputs

    kinds = save or ["overlay", "coco"]
    images = find_images(inputs)
    model = load(checkpoint, device).limited(score=score)
    if "edges" in kinds and model.config.mask.kind != "edge":
        raise UserError(f"--save edges needs a mask head with edge attention; {checkpoint} is a {model.config.recipe}")
    failed: list[str] = []
    done: list[dict[str, Any]] = []
    with Outputs(out, kinds, model.categories.ids, model.categories.names) as outputs:
        for outcome in stream(model, images, edges="edges" in kinds):
            if outcome.pixels is None or outcome.instances is None:
                failed.append(str(outcome.error))
                say(f"error: {outcome.error}")
                continue
            files = outputs.add(outcome.path, outcome.pixels, outcome.instances)
            counts = Counter(outcome.instances.names)
            done.append({"image": str(outcome.path), "objects": dict(counts), "files": [str(file) for file in files]})
            if not json_:
                print(f"{outcome.path}: {', '.join(f'{n} {name}' for name, n in counts.items()) or 'nothing found'}")
    emit({"out": str(out), "images": done, "failed": failed}, json_, f"{len(done)} of {len(images)} images: {out}")
    if failed:
        raise typer.Exit(1 if done else 2)


@app.command()
def info(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE_OR_CHECKPOINT", help="A recipe, a checkpoint or a run.", autocompletion=complete_recipe
        ),
    ],
    classes: Annotated[int | None, typer.Option(min=1, help="Classes of a recipe's model.  [80]")] = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Parameters and settings of a model."""
    from seanet.recipes import RECIPES, recipe
    from seanet.settings import override, to_dict

    facts: dict[str, Any] = {}
    if what not in RECIPES and Path(what).exists():
        from seanet.checkpoint import read_meta

        meta = read_meta(what)
        settings, count = meta.config, len(meta.classes)
        facts = {"class_names": list(meta.classes), "step": meta.step, "epoch": meta.epoch, "metrics": meta.metrics}
    else:
        settings, count = recipe(what), 80
    settings, count = override(settings, set_ or []), classes or count
    from seanet.detector import build, count_parameters

    parameters = count_parameters(build(settings, count))
    found = {
        "recipe": settings.recipe,
        "classes": count,
        "parameters": parameters,
        **facts,
        "config": to_dict(settings),
    }
    lines = [f"{settings.recipe}, {count} classes"]
    lines += [f"  {name:<10} {number:>13,}" for name, number in parameters.items()]
    lines += [f"  {name:<10} {facts[name]}" for name in ("epoch", "step") if name in facts]
    emit(found, json_, "\n".join(lines))


@app.command()
def recipes(json_: Json = False) -> None:
    """List the models that can be trained."""
    from seanet.recipes import RECIPES

    lines = {name: describe(config) for name, config in RECIPES.items()}
    width = max(map(len, lines))
    emit(lines, json_, "\n".join(f"{name:<{width}}  {line}" for name, line in lines.items()))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path("runs/demo"),
    recipe: Annotated[str, typer.Option(autocompletion=complete_recipe)] = "seanet_lite",
    steps: Annotated[int, typer.Option(min=10, help="Steps to train.")] = 280,
    json_: Json = False,
) -> None:
    """Draw scenes, train on them, and show the masks: no data, no downloads, a CPU will do."""
    from seanet.recipes import recipe as named

    named(recipe)
    from seanet.demo import run

    found = run(out, recipe, steps, say=say)
    metrics = {name: found["metrics"].get(name) for name in ("segm/AP", "segm/AP50", "bbox/AP", "bbox/AP50")}
    lines = [
        f"{name.replace('segm', 'mask').replace('bbox', 'box').replace('/', ' ')}: {value:.3f}"
        for name, value in metrics.items()
        if value is not None
    ]
    lines += [f"page: {found['page']}", f"model: {found['run']}  (seanet predict {found['run']} IMAGE)"]
    emit(found, json_, "\n".join(lines))


@app.command()
def doctor(json_: Json = False) -> None:
    """Look at this machine and its packages, and say what is missing."""
    from seanet.doctor import examine, render

    found = examine()
    emit(found, json_, render(found))
    raise typer.Exit(0 if found["ok"] else 1)


@data_app.callback()
def data_root() -> None:
    """Make data sets."""


@data_app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    images: Annotated[int, typer.Option(min=1, help="Images to train on.")] = 200,
    val: Annotated[int | None, typer.Option(min=0, help="Images to evaluate on.  [a fifth as many]")] = None,
    size: Annotated[int, typer.Option(min=64, max=4096, help="Pixels a side.")] = 256,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    backgrounds: Annotated[Path | None, typer.Option(metavar="DIR", help="Photographs to use as ground.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that draw.  [one for each core, where that pays]")
    ] = None,
) -> None:
    """Draw scenes with exact masks, as a COCO-style data set."""
    from seanet.data.synth import synthesise

    folder = synthesise(
        out, images, size, seed, val, backgrounds=backgrounds, workers=workers, progress=counter("drawn")
    )
    print(f"{folder}: train with  seanet train seanet_lite --data {folder}")


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def emit(found: Any, as_json: bool, text: str) -> None:
    """The result on stdout: strict JSON, or text for people."""
    print(json.dumps(finite(found), ensure_ascii=False, indent=2, default=str) if as_json else text, flush=True)


def adjust(model: Any, assignments: list[str]) -> None:
    """Settings of a loaded model that its weights do not depend on."""
    from seanet.settings import differences, override

    settings = override(model.config, assignments)
    free = ("detections.", "data.")
    if fixed := [line for line in differences(model.config, settings) if not line.startswith(free)]:
        raise UserError(f"only detections.* and data.* can be changed in a trained model, not {'; '.join(fixed)}")
    model.configure(settings)


def counter(verb: str) -> Callable[[int, int], None]:
    """Says about ten times how far something is."""

    def progress(done: int, total: int) -> None:
        if done % max(1, total // 10) == 0 or done == total:
            say(f"{verb} {done} of {total}")

    return progress


def require(path: Path, what: str) -> None:
    """Name a missing path before torch is waited for."""
    if not path.exists():
        raise UserError(f"{path} does not exist: expected {what}", file=str(path))


def read_sets(data: Path | None, given: Mapping[str, tuple[Path | None, Path | None]]) -> Any:
    """The sets to train on and to evaluate with: the files given for one, else what the folder of data has."""
    from seanet.data.coco import find_split, read_coco

    sets: list[Any] = []
    for split, (file, images) in given.items():
        if file is not None and images is not None:
            found = file, images
        elif file is not None or images is not None:
            raise UserError(f"--{split}-json and --{split}-images belong together: name both")
        elif data is not None:
            found = find_split(data, split)
        else:
            raise UserError(
                f"no data to {split} with: name their folder (--data), or --{split}-json and --{split}-images"
            )
        sets.append(read_coco(*found, categories=sets[0].categories if sets else None))
        for line in sets[-1].repairs.summary()[:10]:
            say(f"{found[0]}: {line}")
    return tuple(sets)
