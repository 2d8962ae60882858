"""The ablation: its rows are what they say, and what is done is not done again."""

import json
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from builders import batch_of, target
from found import rle
from seanet import checkpoint
from seanet.config import EdgeMask, FcnBox
from seanet.data.coco import find_split, read_coco
from seanet.detector import Detector
from seanet.errors import UserError
from seanet.evaluation.assess import measure_results
from seanet.headers import LAST, Meta
from seanet.settings import differences

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="not part of the package")
sys.path.append(str(ROOT / "benchmarks"))

import ablation  # noqa: E402
from experiment.materials import glance, place, provide  # noqa: E402
from experiment.presets import FROM_SCRATCH, PRESETS, Preset  # noqa: E402
from experiment.records import Cell, is_recorded  # noqa: E402
from experiment.rows import GROUPS, READ_ONLY, ROWS, configuration, group  # noqa: E402
from experiment.runner import (  # noqa: E402
    Experiment,
    Failed,
    Processes,
    Runner,
    Runs,
    measuring,
    minutes,
    order,
    outstanding,
    training,
)
from experiment.starts import keep  # noqa: E402

TINY = PRESETS["tiny"]
DATA = {"images": {"train": 6, "val": 4}, "size": 96, "seed": 0, "digest": "0"}
PHOTOGRAPHS = replace(PRESETS["photographs"], init="tiny")
SEANET, READING = ROWS["seanet"], ROWS["seanet_read_sigmoid"]


def changed(row: str, base: str) -> set[str]:
    lines = differences(configuration(ROWS[base], TINY, 0), configuration(ROWS[row], TINY, 0))
    return {line.partition(":")[0] for line in lines}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_all_rows_share_the_recipe_of_training(preset):
    configs = [configuration(row, preset, 7) for row in ROWS.values()]
    assert {config.train for config in configs} == {configs[0].train}
    assert {config.data for config in configs} == {configs[0].data}
    assert {config.backbone for config in configs} == {configs[0].backbone}
    train = configs[0].train
    assert (train.seed, train.steps, train.batch) == (7, preset.steps, preset.batch)
    assert configs[0].data.short_sides == (preset.drawing.size if preset.drawing else 256,)


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.settings], ids=lambda row: row.name)
def test_a_switch_is_all_that_differs(row):
    plain = row.against if ROWS[row.against].family == row.family else row.family
    assert changed(row.name, plain) == {setting.partition("=")[0] for setting in row.settings}


def test_rows_of_the_tables():
    assert changed("seanet_box_attention", "seanet") == {"recipe", "mask.edge_weight"}
    assert changed("seanet_attention", "seanet_edge") == {"recipe", "mask.edge_weight"}
    assert changed("seanet_box_plain", "seanet_box") == {"recipe", "box.iou_weight"}
    assert changed("seanet_concat", "seanet") == {"recipe", "mask.design"}
    assert changed("mask_rcnn_fused", "mask_rcnn") == changed("seanet_fused", "seanet") == {"recipe", "pool.kind"}
    assert changed("seanet_edge_fused", "mask_rcnn_fused") == changed("seanet_edge", "mask_rcnn")
    assert isinstance(configuration(ROWS["seanet_edge"], TINY, 0).mask, EdgeMask)
    assert isinstance(configuration(ROWS["seanet_box"], TINY, 0).box, FcnBox)
    assert {row.against for row in ROWS.values()} - {None} <= set(ROWS)


def test_groups():
    assert group("all") == tuple(ROWS.values())
    assert group("seanet_hard") == (ROWS["seanet_hard"],)
    assert len(ROWS) == len({row.name for rows in GROUPS.values() for row in rows})
    with pytest.raises(UserError, match="no row or group 'table9'"):
        group("table9")


def test_readings_change_what_no_loss_depends_on():
    for row in ROWS.values():
        keys = {setting.partition("=")[0] for setting in row.settings}
        assert bool(row.of) == bool(keys and keys <= set(READ_ONLY)), row.name
        if row.of:
            assert ROWS[row.of].family == row.family


def learned(row: str) -> dict[str, float]:
    """Losses and the norm of each gradient, of one batch from the same weights."""
    torch.manual_seed(0)
    detector = Detector(configuration(ROWS[row], TINY, 0), 2).train()
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    losses = detector(batch_of(images, [target([(8, 8, 40, 52)], [1]), target([(20, 4, 60, 30)], [2])], seed=5))
    sum(losses.values()).backward()
    gradients = {name: float(p.grad.norm()) for name, p in detector.named_parameters() if p.grad is not None}
    return {name: float(value.detach()) for name, value in losses.items()} | gradients


@pytest.fixture(scope="module")
def plain() -> dict[str, dict[str, float]]:
    return {name: learned(name) for name in ("seanet", "mask_rcnn")}


@pytest.mark.parametrize("row", GROUPS["readings"], ids=lambda row: row.name)
def test_readings_train_alike(row, plain):
    assert learned(row.name) == plain[row.of]


@pytest.mark.parametrize("name", ["seanet_pixels", "seanet_attached", "seanet_cross_entropy", "seanet_edge_weight_5"])
def test_switches_train_otherwise(name, plain):
    found = learned(name)
    assert found.keys() == plain["seanet"].keys()
    assert found != plain["seanet"]


def test_order_is_seed_by_seed_in_each_group():
    cells = order([GROUPS["main"], (READING, ROWS["seanet_relu"])], (0, 1))
    names = ["mask_rcnn-s0", "seanet-s0", "mask_rcnn-s1", "seanet-s1"]
    names += ["seanet_read_sigmoid-s0", "seanet_relu-s0", "seanet_read_sigmoid-s1", "seanet_relu-s1"]
    assert [cell.name for cell in cells] == names
    assert [cell.name for cell in order([(READING,)], (3,))] == ["seanet-s3", "seanet_read_sigmoid-s3"]


@pytest.fixture
def experiment(tmp_path) -> Experiment:
    return begun(TINY, tmp_path)


def begun(preset: Preset, folder: Path, data: Path | None = None) -> Experiment:
    out = folder / "out"
    return Experiment(preset, out, folder / "records", place(out, preset, data), DATA)


def put(experiment: Experiment, cell: Cell, **other: object) -> Path:
    file = experiment.record(cell)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(experiment.expected(cell) | {"metrics": {}} | other))
    return file


def test_what_is_recorded_is_not_made_again(experiment):
    cells = order([(SEANET, READING)], (0, 1))
    trained, read = cells[:2]
    assert outstanding(experiment, cells) == cells
    put(experiment, trained)
    assert outstanding(experiment, cells) == cells  # the weights that the reading needs are gone
    put(experiment, read)
    assert outstanding(experiment, cells) == cells[2:]


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 3), ("data", DATA | {"digest": "1"}), ("settings", {}), ("recipe", "seanet_r50")]
)
def test_records_of_something_else_are_refused(experiment, field, value):
    file = put(experiment, Cell(SEANET, 0), **{field: value})
    with pytest.raises(UserError, match=f"was made otherwise: {field} .*delete it") as caught:
        experiment.is_recorded(Cell(SEANET, 0))
    assert (caught.value.file, caught.value.field) == (file, field)


def test_half_a_record_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"row": ')
    with pytest.raises(UserError, match=r"x\.json is no JSON"):
        is_recorded(tmp_path / "x.json", {})


def test_commands(experiment):
    cell = Cell(READING, 2)
    assert training(experiment, Cell(SEANET, 2))[3:7] == ["train", "seanet_lite", "--resume", "--no-check"]
    words = measuring(experiment, cell)
    assert words[2] == str(experiment.out / "runs" / "seanet-s2" / "last.safetensors")
    assert words[-2:] == ["--set", "box.iou_activation=sigmoid"]
    assert "--whole" not in words
    assert "--init" not in training(experiment, Cell(SEANET, 2))
    assert "--set" not in measuring(experiment, Cell(SEANET, 2))


def test_minutes_of_a_run_that_was_interrupted(tmp_path):
    """60 steps of a second, 120 of half a second, and an evaluation, which is no step."""
    (tmp_path / "metrics.csv").write_text("step,seconds,segm/AP\n60,1.0,\n180,0.5,\n180,,0.3\n")
    assert minutes(tmp_path) == 2.0


class Rehearsal(Runner):
    """Notes what begins and ends instead of doing it."""

    def do(self, cell: Cell, slot: str) -> None:
        self.notes.append(("begin", cell.name, slot))
        time.sleep(0.01)
        if cell in self.failing:
            raise Failed("ended with 2")
        self.notes.append(("end", cell.name, slot))


def rehearse(experiment: Experiment, cells: list[Cell], failing: tuple[Cell, ...] = ()) -> tuple[list, dict]:
    runner = Rehearsal(experiment, ["0", "1"])
    runner.notes, runner.failing = [], failing
    return runner.notes, runner.run(cells)


def test_readings_wait_for_their_weights(experiment):
    cells = order([(SEANET, READING, ROWS["mask_rcnn"])], (0, 1))
    notes, failed = rehearse(experiment, cells)
    assert not failed
    assert {name for what, name, _ in notes if what == "end"} == {cell.name for cell in cells}
    moments = {(what, name): i for i, (what, name, _) in enumerate(notes)}
    for seed in (0, 1):
        assert moments["begin", f"{READING.name}-s{seed}"] > moments["end", f"seanet-s{seed}"]


def test_a_failure_ends_what_depends_on_it_alone(experiment):
    cells = order([(SEANET, READING, ROWS["mask_rcnn"])], (0,))
    notes, failed = rehearse(experiment, cells, (Cell(SEANET, 0),))
    assert failed == {cells[0]: "ended with 2", cells[1]: "needs the weights of seanet-s0"}
    assert [name for what, name, _ in notes if what == "end"] == ["mask_rcnn-s0"]


def test_processes_say_how_they_ended(tmp_path):
    code = "import sys; print(sys.stdin.read()); sys.exit(3)"
    with pytest.raises(Failed, match=r"ended with 3: given \(all of it: .*x\.log"):
        Processes().run([sys.executable, "-c", code], tmp_path / "x.log", {}, "given")


def test_processes_are_ended(tmp_path):
    processes, caught = Processes(), []

    def run() -> None:
        try:
            processes.run(["sleep", "60"], tmp_path / "x.log", {"PATH": "/usr/bin:/bin"})
        except Failed as error:
            caught.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    while not processes.running:
        time.sleep(0.01)
    processes.end()
    thread.join()
    assert caught[0].startswith("ended with -15: it said nothing")
    with pytest.raises(Failed, match="not begun"):
        processes.run(["sleep", "60"], tmp_path / "x.log", {})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("ablation")
    supply(out, TINY)
    return out


def supply(out: Path, preset: Preset, data: Path | None = None) -> dict:
    return provide(out, preset, place(out, preset, data))


def test_data_are_drawn_once(drawn):
    file = drawn / "data" / "annotations" / "instances_val.json"
    before, found = file.stat().st_mtime_ns, supply(drawn, TINY)
    assert file.stat().st_mtime_ns == before
    assert (found["images"], found["size"], found["seed"]) == ({"train": 6, "val": 4}, 96, 0)
    seen = read_coco(glance(drawn), drawn / "data" / "val")
    assert len(seen.images) == 4
    with pytest.raises(UserError, match=r"holds 6 images .* in train, not 7 of 96"):
        supply(drawn, replace(TINY, drawing=replace(TINY.drawing, images=7)))


def test_other_pixels_are_other_data(drawn):
    image = next((drawn / "data" / "train").iterdir())
    whole = image.read_bytes()
    image.write_bytes(whole[:-1])
    try:
        with pytest.raises(UserError, match=r"is not what .*data\.json says"):
            supply(drawn, TINY)
    finally:
        image.write_bytes(whole)


def test_given_images_are_taken_as_they_are(drawn, tmp_path):
    folder = tmp_path / "photographs"
    shutil.copytree(drawn / "data", folder)
    found = supply(tmp_path, PHOTOGRAPHS, folder)
    assert found["images"] == {"train": 6, "val": 4}
    assert supply(tmp_path, PHOTOGRAPHS, folder) == found
    assert len(read_coco(glance(tmp_path), folder / "val").images) == 4
    image = next((folder / "val").iterdir())
    image.write_bytes(image.read_bytes() + b"0")  # behind the end: the same picture, another file
    with pytest.raises(UserError, match=r"photographs is not what .*data\.json says"):
        supply(tmp_path, PHOTOGRAPHS, folder)
    image.unlink()
    with pytest.raises(UserError, match=image.name):
        supply(tmp_path, PHOTOGRAPHS, folder)


def region(x: int, y: int, long: int) -> dict:
    """Of a square, in an image of 64 x 64."""
    bits = np.zeros((64, 64), np.uint8)
    bits[y : y + long, x : x + long] = 1
    return {"bbox": [x, y, long, long], "segmentation": rle(bits)}


@pytest.fixture
def classes(tmp_path) -> Path:
    """A folder of two images a split: objects of three categories, and in the second image a crowd region."""
    folder = tmp_path / "given"
    objects = [
        {"id": 11, "image_id": 1, "category_id": 3, "iscrowd": 0, "area": 256, **region(4, 4, 16)},
        {"id": 12, "image_id": 1, "category_id": 7, "iscrowd": 0, "area": 576, **region(36, 8, 24)},
        {"id": 13, "image_id": 2, "category_id": 90, "iscrowd": 0, "area": 400, **region(8, 30, 20)},
        {"id": 14, "image_id": 2, "category_id": 7, "iscrowd": 1, "area": 676, **region(34, 4, 26)},
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64, "date": "today"} for i in (1, 2)]
    names = [{"id": id, "name": name} for id, name in ((3, "car"), (7, "person"), (90, "brush"))]
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / f"{split}2017").mkdir()
        for image in images:
            Image.new("RGB", (64, 64)).save(folder / f"{split}2017" / image["file_name"])
        content = {"info": {"year": 2017}, "images": images, "annotations": objects, "categories": names}
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_classes_of_given_images_are_made_one(classes, tmp_path):
    before, out = contents(classes), tmp_path / "out"
    found = supply(out, PHOTOGRAPHS, classes)
    assert (found["classes"], found["images"]) == (1, {"train": 2, "val": 2})
    assert contents(classes) == before
    for split in ("train", "val"):
        file, images = find_split(out / "data", split)
        assert (file, images) == getattr(place(out, PHOTOGRAPHS, classes), split)
        assert images.samefile(classes / f"{split}2017")
        now, given = (
            json.loads(text) for text in (file.read_bytes(), before[f"annotations/instances_{split}2017.json"])
        )
        assert [category["name"] for category in now["categories"]] == ["object"]
        assert {entry.pop("category_id") for entry in now["annotations"]} == {now["categories"][0]["id"]}
        assert {entry.pop("category_id") for entry in given["annotations"]} == {3, 7, 90}
        assert now | {"categories": 0} == given | {"categories": 0}


def test_its_own_truth_is_perfect_of_one_class(classes, tmp_path):
    """Parts of a crowd region are no mistakes, so it is still one."""
    supply(tmp_path / "out", PHOTOGRAPHS, classes)
    data = read_coco(*find_split(tmp_path / "out" / "data", "val"))
    assert data.categories.names == ("object",)
    objects = json.loads(data.file.read_bytes())["annotations"]
    single = [{"image_id": e["image_id"], "category_id": e["category_id"], "score": 0.5} | e for e in objects[:3]]
    parts = [single[2] | {"score": 0.9} | region(x, 6, 10) for x in (36, 48)]
    metrics = measure_results(data, single + parts, 100)
    assert [metrics[kind]["AP"] for kind in ("segm", "bbox", "boundary")] == pytest.approx([1, 1, 1])
    apart = read_coco(*find_split(classes, "val"))
    assert measure_results(apart, [e | {"category_id": 7} for e in single], 100)["segm"]["AP"] < 0.5


def test_annotations_beside_the_images_keep_their_classes_to_themselves(classes, tmp_path):
    """As Roboflow lays them out, where a link to the images leads to the annotations too."""
    for split, name in (("train", "train"), ("val", "valid")):
        images = (classes / f"{split}2017").rename(classes / name)
        (classes / "annotations" / f"instances_{split}2017.json").rename(images / "_annotations.coco.json")
    supply(tmp_path / "out", PHOTOGRAPHS, classes)
    for split in ("train", "val"):
        assert read_coco(*find_split(tmp_path / "out" / "data", split)).categories.names == ("object",)


def test_data_are_given_where_they_are_not_drawn(tmp_path):
    with pytest.raises(UserError, match="photographs draws no images: name the folder"):
        place(tmp_path, PHOTOGRAPHS, None)
    with pytest.raises(UserError, match="tiny draws its own"):
        place(tmp_path, TINY, tmp_path)


def trained_before(source: Runs, cell: Cell, weight: float, steps: int = TINY.steps) -> None:
    """A run that has come to its last checkpoint, of one weight."""
    meta = Meta(configuration(cell.row, source.preset, cell.seed), ("ring",), (1,), step=steps)
    source.run(cell).mkdir(parents=True, exist_ok=True)
    checkpoint.save_model(source.run(cell) / LAST, {"weight": torch.tensor([weight])}, meta)


@pytest.fixture
def tuned(tmp_path, drawn) -> tuple[Experiment, Runs]:
    """Fine-tuning, and the runs that it starts from."""
    return begun(PHOTOGRAPHS, tmp_path, drawn / "data"), Runs(TINY, tmp_path / "before")


def test_rows_start_from_the_same_row_and_seed(tuned):
    experiment, source = tuned
    cells = [Cell(SEANET, 3), Cell(ROWS["mask_rcnn"], 3), Cell(SEANET, 4)]
    for weight, cell in enumerate(cells):
        trained_before(source, cell, weight)
    keep(experiment, source, [*cells, Cell(READING, 3)])
    for weight, cell in enumerate(cells):
        words = training(experiment, cell)
        start = Path(words[words.index("--init") + 1])
        assert float(checkpoint.read_model(start)[0]["weight"]) == weight
        assert "--reset-head" in words
    assert len({experiment.expected(cell)["init"]["digest"] for cell in cells}) == 3
    assert experiment.expected(Cell(READING, 3))["init"] == experiment.expected(cells[0])["init"]
    assert "--whole" in measuring(experiment, cells[0])


def test_starting_weights_stay_what_runs_began_with(tuned):
    experiment, source = tuned
    cell = Cell(SEANET, 0)
    trained_before(source, cell, 1.0)
    keep(experiment, source, [cell])
    before = put(experiment, cell).read_text()
    trained_before(source, cell, 2.0)
    keep(experiment, source, [cell])
    assert experiment.is_recorded(cell)
    experiment.start(cell).unlink()
    keep(experiment, source, [cell])
    assert json.loads(before)["init"]["preset"] == "tiny"
    with pytest.raises(UserError, match="was made otherwise: init "):
        experiment.is_recorded(cell)


def test_starting_weights_that_are_not_there(tuned):
    experiment, source = tuned
    cell = Cell(SEANET, 5)
    with pytest.raises(UserError, match=r"--preset tiny --rows seanet --seeds 5.*--init-from"):
        keep(experiment, source, [cell])
    trained_before(source, cell, 1.0, steps=1)
    with pytest.raises(UserError, match="after 2 steps to start seanet-s5 from"):
        keep(experiment, source, [cell])
    trained_before(replace(source, preset=replace(TINY, batch=3)), cell, 1.0)
    with pytest.raises(UserError, match=r"other settings \(train\.batch"):
        keep(experiment, source, [cell])
    with pytest.raises(UserError, match="rows of tiny start as their recipes say"):
        ablation.ablation(ablation.arguments(["--preset", "tiny", "--init-from", "x"]))


def test_the_command_line(capsys, tmp_path):
    args = ["--preset", "cpu", "--rows", "main", "--steps", "5", "--backbone", "r50", "--out", str(tmp_path)]
    assert ablation.ablation(ablation.arguments([*args, "--records", str(tmp_path), "--seeds", "4", "--dry-run"])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4  # two trained, two measured
    assert "train mask_rcnn_r50 " in lines[0]
    assert "--seed 4 " in lines[0]
    assert "train.steps=5" in lines[0]
    assert not any(tmp_path.iterdir())
    for wrong in (["--rows", "nothing"], ["--preset", "huge"], ["--steps", "0"]):
        with pytest.raises(UserError):
            ablation.ablation(ablation.arguments(wrong))


def test_from_scratch_where_weights_are_not_at_hand(monkeypatch, capsys):
    monkeypatch.setattr("seanet.weights.start.at_hand", lambda settings: False)
    assert ablation.with_weights(PRESETS["gpu"]).settings[-3:] == FROM_SCRATCH
    assert "trained from scratch" in capsys.readouterr().out
    assert ablation.with_weights(PRESETS["cpu"]) == PRESETS["cpu"]  # there its absence is an error of training


@pytest.mark.slow
def test_from_the_data_to_the_records(tmp_path, capsys):
    command = ["--preset", "tiny", "--rows", "seanet_read_sigmoid", "--out", str(tmp_path / "out")]
    args = ablation.arguments([*command, "--records", str(tmp_path / "records")])
    assert ablation.ablation(args) == 0
    for row in ("seanet", "seanet_read_sigmoid"):
        record = json.loads((tmp_path / "records" / f"{row}-s0.json").read_text())
        assert record["row"] == row
        assert record["metrics"]["images"] == 4
        assert {kind: part["images"] for kind, part in record["by_failure"].items()} == dict.fromkeys(
            ("none", "box", "blur", "clutter"), 1
        )
        assert (tmp_path / "out" / "results" / f"{row}-s0.json").is_file()
    assert "0 failed" in capsys.readouterr().out
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "records").iterdir()}
    assert ablation.ablation(args) == 0
    assert "2 cells, 0 to do" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "records").iterdir()} == before
    made = replace(PHOTOGRAPHS, steps=2, settings=(*PHOTOGRAPHS.settings, *TINY.settings))
    tune(tmp_path, made)
    record = json.loads((tmp_path / "tuned" / "seanet-s0.json").read_text())
    assert (record["init"]["preset"], record["metrics"]["images"]) == ("tiny", 4)
    assert "by_failure" not in record


def tune(folder: Path, made: Preset) -> None:
    """SEANet once more, on the same images as if somebody gave them."""
    out, source = folder / "tuning", Runs(TINY, folder / "out")
    there = place(out, made, folder / "out" / "data")
    experiment = Experiment(made, out, folder / "tuned", there, provide(out, made, there))
    keep(experiment, source, [Cell(SEANET, 0)])
    assert not Runner(experiment, ["0"]).run([Cell(SEANET, 0)])
