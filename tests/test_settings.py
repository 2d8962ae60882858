"""Configurations survive the way to text and back, and every mistake is named."""

import json
from dataclasses import replace

import pytest

from seanet import settings
from seanet.config import ClassicMask, Config, EdgeMask, FcnBox, MaskIou, Unscored
from seanet.errors import ConfigError
from seanet.recipes import RECIPES


def lines(*assignments: str, recipe: str = "seanet_lite") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings.override(RECIPES[recipe], assignments)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", RECIPES)
def test_there_and_back(name, tmp_path):
    config = RECIPES[name]
    assert settings.from_dict(json.loads(json.dumps(settings.to_dict(config)))) == config
    path = tmp_path / "config.yaml"
    path.write_text(settings.dump_yaml(config))
    assert settings.load_yaml(path) == config


def test_empty_is_the_default():
    assert settings.from_dict({}) == Config()
    assert settings.override(Config(), []) == Config()


def test_override_types_the_values():
    config = settings.override(
        RECIPES["seanet_lite"],
        ["train.lr=1e-3", "box.convs=3", "data.short_sides=[320, 640]", "train.clip=none", "backbone.weights=none"],
    )
    assert config.train.lr == 0.001
    assert isinstance(config.box, FcnBox)
    assert config.box.convs == 3
    assert config.data.short_sides == (320, 640)
    assert config.train.clip is None
    assert config.backbone.weights == "none"
    assert config.mask == RECIPES["seanet_lite"].mask


@pytest.mark.parametrize("order", [["mask.convs=3", "mask.kind=classic"], ["mask.kind=classic", "mask.convs=3"]])
def test_kind_switches_the_class_with_its_defaults(order):
    assert settings.override(RECIPES["seanet_lite"], order).mask == ClassicMask(convs=3)


def test_the_same_kind_keeps_what_was_set():
    lite = RECIPES["seanet_lite"]
    assert settings.override(lite, ["mask.kind=edge"]).mask == lite.mask
    assert settings.override(lite, ["pool.samples=4", "pool.kind=fused"]).pool == replace(
        lite.pool, samples=4, kind="fused"
    )


def test_kind_decides_not_the_other_keys():
    assert settings.from_dict({"mask": {"kind": "edge"}}).mask == EdgeMask()
    with pytest.raises(ConfigError, match=r"mask.reduction is a setting of mask.kind=edge, not of mask.kind=classic"):
        settings.from_dict({"mask": {"reduction": 4}})


FAMILIES = ("mask_rcnn", "seanet", "ms_rcnn", "seanet_ms", "cascade_rcnn", "seanet_cascade")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_families_differ_in_is_a_setting_of_each(family):
    """Scoring and further stages on every family, off again, and the edges' loss where there are edges."""
    start = RECIPES[f"{family}_lite"]
    both = settings.override(start, ["cascade.ious=[0.6,0.7]", "scoring.kind=mask_iou"])
    assert both.cascade.ious == (0.6, 0.7)
    assert isinstance(both.scoring, MaskIou)
    assert (both.box, both.mask) == (start.box, start.mask)
    assert settings.override(both, ["cascade.ious=[]", "scoring.kind=none"]).scoring == Unscored()
    if family.startswith("seanet"):
        assert not settings.override(start, ["mask.edge_weight=0"]).mask.has_edges
    else:
        with pytest.raises(
            ConfigError, match=r"^mask.edge_weight is a setting of mask.kind=edge, not of mask.kind=cla"
        ):
            settings.override(start, ["mask.edge_weight=0"])


def test_all_errors_at_once():
    assert set(lines("train.lr=-1", "box.convz=1", "mask.target=sof", "data.short_sides=[320,a]", "lr=3")) == {
        "train.lr should be greater than 0, got -1",
        "box.convz is no setting: did you mean box.convs?",
        "mask.target should be 'soft', 'hard' or 'integer', got 'sof'",
        "data.short_sides[1] should be a valid integer, got 'a'",
        "lr is no setting: did you mean train.lr?",
    }


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("box.kind=foo", "box.kind should be 'classic' or 'fcn', got 'foo'"),
        ("box=3", "box should be a mapping of settings, got 3"),
        ("train=4", "train should be a mapping of settings, got 4"),
        ("train.lr=.inf", "train.lr should be finite, got inf"),
        ("train.ema=true", "train.ema should be a number, got true"),
        ("trains.lr=1", "trains is no setting: did you mean train?"),
        ("data.short_sides=640", "data.short_sides should be a list such as [1, 2], got 640"),
        ("rpn.before_nms=[1]", "rpn.before_nms has the wrong number of values, got [1]"),
        ("rpn.anchor_sizes=[8,16]", "rpn.anchor_sizes has the wrong number of values, got [8, 16]"),
        ("data.short_sides=[]", "data.short_sides has the wrong number of values, got []"),
        ("mask.size=7", "mask.size should be greater than or equal to 9, got 7"),
        ("cascade.ious=0.6", "cascade.ious should be a list such as [1, 2], got 0.6"),
        ("cascade.ious=[0.6,1.5]", "cascade.ious[1] should be less than or equal to 1, got 1.5"),
        ("scoring.weight=1", "scoring.weight is a setting of scoring.kind=mask_iou, not of scoring.kind=none"),
        ("train.steps=1.5", "train.steps should be a valid integer, got 1.5"),
        ("train.lr", "expected KEY=VALUE such as train.lr=0.005, got 'train.lr'"),
    ],
)
def test_messages(assignment, message):
    assert lines(assignment) == [message]


def test_broken_yaml_is_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train: [")
    with pytest.raises(ConfigError, match="is no valid YAML") as caught:
        settings.load_yaml(path)
    assert "\n" not in str(caught.value)
    assert caught.value.file == str(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.load_yaml(tmp_path / "none.yaml")
    path.write_text("- 3")
    with pytest.raises(ConfigError, match="mapping"):
        settings.load_yaml(path)


def test_a_partial_file_on_a_recipe(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n  lr: 0.01\n")
    config = settings.load_yaml(path, RECIPES["seanet_r50"])
    assert settings.differences(RECIPES["seanet_r50"], config) == ["train.lr: 0.02 -> 0.01"]


def test_differences():
    lite = RECIPES["seanet_lite"]
    assert settings.differences(lite, lite) == []
    assert settings.differences(lite, settings.override(lite, ["mask.kind=classic"])) == [
        "mask.kind: 'edge' -> 'classic'",
        "mask.convs: 2 -> 4",
        "mask.reduction: 4 -> -",
        "mask.channel_attention: true -> -",
        "mask.position_attention: true -> -",
        "mask.design: 'sum' -> -",
        "mask.edge_context: true -> -",
        "mask.edge_positive_weight: null -> -",
        "mask.activation: 'linear' -> -",
        "mask.background_channel: false -> -",
        "mask.mask_weight: 1.0 -> -",
        "mask.edge_weight: 1.0 -> -",
    ]


def test_every_setting_has_a_name():
    names = settings.paths(RECIPES["seanet_lite"])
    assert len(names) == len(set(names))
    assert {"train.lr", "box.kind", "data.short_sides"} <= set(names)
