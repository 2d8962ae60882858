"""Recipes are the rows of the paper's tables: that they differ as they say, build, and stand beside runs of ours."""

import importlib.util
import json
import struct
from dataclasses import asdict
from pathlib import Path

import pytest

from command import seanet
from seanet.config import ClassicBox, ClassicMask, EdgeMask, FcnBox
from seanet.errors import ConfigError, UserError
from seanet.papers import TABLES, paper_table
from seanet.recipes import ABLATIONS, BACKBONES, EVERY, FAMILIES, PAPERS, RECIPES, recipe
from seanet.report.runs import find_runs
from seanet.report.tables import beside, describe, table_lines, table_markdown
from seanet.settings import differences, override, to_dict

ROOT = Path(__file__).resolve().parent.parent


def parts(name: str, base: str) -> set[str]:
    """Settings in which a recipe differs from another."""
    return {line.partition(":")[0] for line in differences(EVERY[base], EVERY[name])} - {"recipe"}


def test_every_recipe_has_the_name_it_is_found_by():
    assert all(config.recipe == name for name, config in EVERY.items())
    assert len(RECIPES) == len(FAMILIES) * len(BACKBONES) + len(PAPERS)
    assert not RECIPES.keys() & ABLATIONS.keys()


def test_no_two_recipes_are_the_same_or_read_the_same():
    settings = [json.dumps(asdict(config) | {"recipe": ""}) for config in EVERY.values()]
    assert len(set(settings)) == len(EVERY)
    assert len({describe(config) for config in EVERY.values()}) == len(EVERY)


@pytest.mark.parametrize("backbone", [*PAPERS, "lite"])
def test_ablations_change_what_they_name(backbone):
    full, base = f"seanet_{backbone}", f"mask_rcnn_{backbone}"
    assert parts(f"{base}_fused", base) == {"pool.kind"}
    assert parts(f"{full}_fused", full) == {"pool.kind"}
    assert parts(f"{full}_box_plain", f"{full}_box") == {"box.iou_weight"}
    assert parts(f"{full}_box_attention", full) == {"mask.edge_weight"}
    assert parts(f"{full}_concat", full) == {"mask.design"}
    assert parts(f"{full}_attention", f"{full}_edge") == {"mask.edge_weight"}
    assert parts(f"{full}_channel", f"{full}_attention") == {"mask.position_attention"}
    assert parts(f"{full}_position", f"{full}_attention") == {"mask.channel_attention"}
    alone = {"mask.channel_attention", "mask.position_attention"}
    assert parts(f"{full}_supervision", f"{full}_edge") == alone
    box, edge = EVERY[f"{full}_box"], EVERY[f"{full}_edge"]
    assert (box.box, box.mask, box.detections) == (EVERY[full].box, EVERY[base].mask, EVERY[full].detections)
    assert (edge.box, edge.mask, edge.detections) == (EVERY[base].box, EVERY[full].mask, EVERY[base].detections)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_families_have_their_heads(backbone):
    found = {family: make(backbone) for family, make in FAMILIES.items()}
    for family, config in found.items():
        ours = family.startswith("seanet")
        assert isinstance(config.box, FcnBox if ours else ClassicBox)
        assert isinstance(config.mask, EdgeMask if ours else ClassicMask)
        assert (config.scoring.kind == "mask_iou") == (family in ("ms_rcnn", "seanet_ms"))
        assert bool(config.cascade.ious) == ("cascade" in family)
        assert config.detections.nms == (0.6 if ours else 0.5)


def test_modern_backbones_are_trained_whole_by_adamw():
    for backbone, name in (("convnext_t", "convnext_tiny.fb_in1k"), ("swin_t", "swin_tiny_patch4_window7_224.ms_in1k")):
        config = recipe(f"seanet_{backbone}")
        assert (config.backbone.name, config.backbone.frozen_stages) == (f"timm/{name}", 0)
        assert (config.train.optimizer, config.train.lr, config.train.weight_decay) == ("adamw", 1e-4, 0.05)


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(ConfigError, match="seanet_r50_concat"):
        recipe("seanet_r50_conct")


def test_descriptions_say_what_is_left_out():
    assert describe(recipe("seanet_r50_box_plain")) == "Mask R-CNN with SEANet's box head, no B-IoU; resnet50, 800 px"
    assert describe(recipe("seanet_cascade_swin_t")).startswith("SEANet's heads in Cascade Mask R-CNN; swin_tiny")
    both = override(recipe("ms_rcnn_lite"), ["cascade.ious=[0.6]"])
    assert describe(both).startswith("Cascade Mask Scoring R-CNN; mobilenet_v2, 256 px")


def test_the_rest_is_listed_on_request():
    few, every = (json.loads(seanet("recipes", *more, "--json").stdout) for more in ([], ["--all"]))
    assert (list(few), list(every)) == (list(RECIPES), list(EVERY))


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: str(table.number))
def test_rows_of_the_paper_are_recipes(table):
    for row in table.rows:
        assert row.recipe is None or row.recipe in EVERY
        assert len(row.figures) == (1 if row.recipe is None else len(table.columns))
    named = [row.recipe for row in table.rows if row.recipe]
    assert len(set(named)) == len(named)


def test_figures_that_the_paper_gives_twice_agree():
    """The same model on the same images in two tables, read off the paper at two places."""
    seen: dict[tuple[str, str], float] = {}
    for number in (2, 3, 4):
        table = TABLES[number]
        for row in table.rows:
            for column, figure in zip(table.columns, row.figures, strict=True):
                assert seen.setdefault((row.recipe or row.name, column), figure) == figure
    assert seen["seanet_r50", "segm/AP"] == 36.0


def test_table_5_and_unknown_tables_are_answered():
    assert "bands around boundaries" in seanet("recipes", "--table", 5, code=2).stderr
    with pytest.raises(UserError, match="1 to 6, not 7"):
        paper_table(7)


def leave_run(folder, name, *changes, date="2026-01-01T00:00:00+00:00", ap=0.25, digest="ab" * 32):
    """What training leaves, as far as tables read it: the header of a checkpoint follows safetensors' specification."""
    folder.mkdir(parents=True)
    data = {"val": {"file": "mine/val.json", "images": 12}}
    (folder / "run.json").write_text(json.dumps({"recipe": name, "date": date, "data": data}))
    described = {"config": to_dict(override(EVERY[name], changes)), "metrics": {"segm/AP": ap, "bbox/AP": None}}
    metadata = {"__metadata__": {"seanet": json.dumps(described), "digest": digest}}
    header = json.dumps(metadata).encode()
    (folder / "best.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def test_the_latest_run_stands_beside_its_row(tmp_path):
    leave_run(tmp_path / "a", "seanet_r50", date="2026-03-01", ap=0.1)
    leave_run(tmp_path / "deep" / "b", "seanet_r50", "train.batch=4", date="2026-03-02", ap=0.2, digest="cd" * 32)
    leave_run(tmp_path / "c", "seanet_lite")
    found = beside(paper_table(3), tmp_path)
    rows = {row["recipe"]: row for row in found["rows"]}
    ours = rows["seanet_r50"]["ours"]
    assert ours["figures"] == {"segm/AP": 20.0, "bbox/AP": None}
    assert (ours["run"], ours["runs"], ours["digest"]) == (str(tmp_path / "deep" / "b"), 2, "cd" * 32)
    assert (ours["file"], ours["images"]) == ("mine/val.json", 12)
    assert ours["changed"] == ["train.batch: 16 -> 4"]
    assert rows["seanet_r101"]["ours"] is None
    text = "\n".join(table_lines(found))
    assert "20.0       -  " in text
    assert "(cdcdcdcd) on 12 images of mine/val.json, latest of 2 runs, 1 setting changed" in text
    assert "not to be compared" in text
    assert text.count("not run") == len(found["rows"]) - 1
    assert "mask AP 20.0, box AP -" in "\n".join(table_markdown(found))


def test_runs_that_cannot_stand_for_a_row_are_named(tmp_path):
    leave_run(tmp_path / "other", "seanet_r50", "mask.edge_weight=0")
    leave_run(tmp_path / "young", "seanet_r50")
    (tmp_path / "young" / "best.safetensors").unlink()
    leave_run(tmp_path / "broken", "seanet_r50")
    (tmp_path / "broken" / "best.safetensors").write_bytes(b"\x05")
    leave_run(tmp_path / "nothing", "seanet_r50")
    (tmp_path / "nothing" / "run.json").write_text("[]")
    runs, left_out = find_runs(tmp_path, ["seanet_r50"])
    assert runs == []
    reasons = ["no checkpoint", "is not what a run", "is no seanet_r50 any more (mask.edge_weight", "no evaluation"]
    assert len(left_out) == len(reasons)
    assert all(reason in line for reason, line in zip(reasons, left_out, strict=True))
    shown = seanet("recipes", "--table", 3, "--runs", tmp_path)
    assert shown.stderr.count("left out: ") == len(reasons)


def test_tables_without_runs(tmp_path):
    found = json.loads(seanet("recipes", "--table", 1, "--runs", tmp_path, "--json").stdout)
    assert [row["name"] for row in found["rows"] if row["quoted"]] == ["MNC", "FCIS", "FCIS+++"]
    assert all(row["ours"] is None for row in found["rows"])
    text = seanet("recipes", "--table", 1, "--runs", tmp_path).stdout
    assert text.count("quoted from others") == 3
    assert "not to be compared" not in text
    assert str(tmp_path / "none") in seanet("recipes", "--table", 1, "--runs", tmp_path / "none", code=2).stderr


def test_a_run_that_training_left_is_read(tmp_path):
    """The writer is the package's own: header, digest and metrics come back."""
    import torch

    from seanet.checkpoint import Meta, digest, save_model

    leave_run(tmp_path / "run", "seanet_r50")
    weights = {"a": torch.arange(3.0)}
    meta = Meta(recipe("seanet_r50"), ("thing",), (1,), metrics={"segm/AP": 0.5})
    save_model(tmp_path / "run" / "best.safetensors", weights, meta)
    (run,), left_out = find_runs(tmp_path, ["seanet_r50"])
    assert left_out == []
    assert (run.digest, run.metrics, run.changed) == (digest(weights), {"segm/AP": 0.5}, [])


@pytest.mark.parametrize("name", EVERY)
def test_every_recipe_builds(name):
    """Shapes alone, which takes no memory; the small ones are built and trained in test_detector.py."""
    import torch

    from seanet.detector import build

    if recipe(name).backbone.name.startswith("timm/"):
        pytest.importorskip("timm")
    with torch.device("meta"):
        detector = build(recipe(name), 2)
    assert detector.classes == 2
    assert all(p.is_meta for p in detector.parameters())


def test_trainable_parameters_are_those_of_table_6(tmp_path):
    """Millions.  The paper's rows with SEANet's heads hold the authors' four pairs of pooling convolutions, two of them
    never used; the affine parameters of batch norms are parameters there and buffers here.
    """
    found = beside(paper_table(6), tmp_path)
    ours = {row["name"]: row["ours"]["figures"]["parameters"] for row in found["rows"]}
    paper = {row["name"]: row["paper"]["parameters"] for row in found["rows"]}
    blocks = {512: 4, 1024: 23, 2048: 3}  # of R101's trained stages, by width; the first has one norm more
    norms = sum(2 * (n * (width // 4 * 2 + width) + width) for width, n in blocks.items()) / 1e6
    pairs = 4 * (1024 * 256 + 256 + 256 * 256 + 256) / 1e6
    assert ours["Mask R-CNN"] + norms == pytest.approx(paper["Mask R-CNN"], abs=0.005)
    for name in ("box head", "edge head", "all"):
        assert ours[name] + norms + pairs == pytest.approx(paper[name], abs=0.0101)


@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="not part of the package")
def test_the_document_is_made_of_the_counts():
    """docs/tables.md was written from benchmarks/parameters.json, which holds every recipe of today."""
    spec = importlib.util.spec_from_file_location("parameters", ROOT / "benchmarks" / "parameters.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = json.loads((ROOT / "benchmarks" / "parameters.json").read_text())
    assert list(found["recipes"]) == list(EVERY)
    text = (ROOT / "docs" / "tables.md").read_text()
    assert "\n".join(module.costs(found)).rstrip() in text
    assert all(f"`{row.recipe}`" in text for table in TABLES.values() for row in table.rows if row.recipe)
    plain = {"Mask R-CNN's box head": 14, "box head": 385, "Mask R-CNN's mask head": 530, "mask head, plain": 1846}
    assert {name: round(found["mmac_per_roi"][name]) for name in plain} == plain
