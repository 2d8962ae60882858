"""Any configuration survives the way to text and back; anything else is a ConfigError, never another exception."""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as quick
from hypothesis import strategies as st

from seanet import settings
from seanet.config import Config
from seanet.errors import ConfigError
from seanet.recipes import RECIPES

LITE = RECIPES["seanet_lite"]
PATHS = settings.paths(LITE)
quickly = quick(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
many = quick(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def values(annotation: Any) -> st.SearchStrategy:
    """Everything that an annotation of a setting allows, as its words say and not as pydantic reads them."""
    if get_origin(annotation) is Annotated:
        kind, *bounds = get_args(annotation)
        return numbers(kind, bounds) if kind in (int, float) else tuples(kind, bounds)
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) in (UnionType, Union):
        return st.one_of(map(values, get_args(annotation)))
    if get_origin(annotation) is tuple:
        return tuples(annotation, [])
    if is_dataclass(annotation):
        return st.builds(annotation, **{field.name: values(field.type) for field in fields(annotation)})
    return {bool: st.booleans(), str: st.text(), type(None): st.none()}[annotation]


def numbers(kind: type, bounds: list[Any]) -> st.SearchStrategy:
    limits: dict[str, Any] = {}
    for bound in bounds:
        for part in bound if isinstance(bound, annotated_types.GroupedMetadata) else [bound]:
            if isinstance(part, annotated_types.Ge):
                limits["min_value"] = part.ge
            elif isinstance(part, annotated_types.Gt):
                limits |= {"min_value": part.gt, "exclude_min": True}
            elif isinstance(part, annotated_types.Le):
                limits["max_value"] = part.le
            else:
                raise AssertionError(part)
    return st.integers(**limits) if kind is int else st.floats(**limits, allow_nan=False, allow_infinity=False)


def tuples(kind: Any, bounds: list[Any]) -> st.SearchStrategy:
    inner = get_args(kind)
    if inner[-1] is not ...:
        return st.tuples(*map(values, inner))
    least = max((bound.min_length for bound in bounds), default=0)
    return st.lists(values(inner[0]), min_size=least, max_size=4).map(tuple)


def taken(call: Callable[[], Config]) -> Config | str:
    """The configuration, or the words of the refusal; any other exception is the test's failure."""
    try:
        return call()
    except ConfigError as error:
        return str(error)


configs = values(Config)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=4), st.dates(), st.datetimes()
)
keys = st.one_of(st.text(), st.integers(), st.none(), st.booleans(), st.sampled_from([*PATHS, "kind", "train", "box"]))
nodes = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=5
)


@quickly
@given(configs)
def test_there_and_back(tmp_path_factory, config):
    assert settings.from_dict(json.loads(json.dumps(settings.to_dict(config)))) == config
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_text(settings.dump_yaml(config), encoding="utf-8")
    assert settings.load_yaml(path) == config


@quickly
@given(configs, configs)
def test_differences_are_what_merging_needs(config, other):
    lines = settings.differences(config, other)
    assert (lines == []) == (config == other)
    assert settings.merge(config, settings.to_dict(other)) == other


@st.composite
def mutated(draw) -> Any:
    """A dictionary of a configuration with some nodes replaced, dropped or added, at any depth."""
    data = settings.to_dict(RECIPES[draw(st.sampled_from(sorted(RECIPES)))])
    for _ in range(draw(st.integers(1, 3))):
        at = data
        while True:
            key = draw(st.sampled_from(sorted(at, key=str)) | keys) if at else draw(keys)
            if not isinstance(at.get(key), dict) or not at[key] or draw(st.booleans()):
                break
            at = at[key]
        if draw(st.integers(0, 3)):
            at[key] = draw(nodes)
        else:
            at.pop(key, None)
    return data


@many
@given(mutated() | nodes)
def test_mutated_dictionary_is_a_configuration_or_refused(data):
    found = taken(lambda: settings.from_dict(data))
    assert found
    if isinstance(found, Config):
        assert settings.from_dict(json.loads(json.dumps(settings.to_dict(found)))) == found


@many
@given(st.lists(st.sampled_from(PATHS) | st.text(max_size=12), max_size=3).map("=".join) | st.text())
@example("train.lr=2001-99-99")
@example("train.lr=1_000:99:99.")
@example("train.lr=" + "[" * 2000)
@example("train.lr=" + "9" * 400)
@example("train.batch=" + "9" * 400)
@example("train.lr=" + "9" * 5000)
@example("train.lr=!!python/name:os.system x")
@example("train.lr=!!timestamp x")
@example("train.lr=!!int x")
@example("train.lr=!!binary x")
@example("train.lr=!!set {a}")
@example("train.lr=\ud800")
@example("mask.kind=[classic]")
@example("mask={kind: {}}")
@example("train={? [a] : 1}")
@example("train={1: 2}")
@example("=")
@example("recipe=" + "x" * 100_000)
def test_any_override_is_a_setting_or_refused(assignment):
    found = taken(lambda: settings.override(LITE, [assignment]))
    assert found
    if isinstance(found, Config):
        assert settings.from_dict(json.loads(json.dumps(settings.to_dict(found)))) == found


@many
@given(st.sampled_from(PATHS), nodes)
def test_any_value_of_a_setting_is_taken_or_refused_by_name(path, value):
    inner: Any = value
    for name in reversed(path.split(".")):
        inner = {name: inner}
    found = taken(lambda: settings.merge(LITE, inner))
    assert isinstance(found, Config) or path.split(".")[0] in found


@quickly
@given(st.binary() | st.text().map(str.encode))
@example(b"\xff")
@example(b"train: 2001-99-99")
@example(b"&a [*a]")
@example(b"&a {x: *a}")
@example(b"{" * 5000)
def test_any_file_is_a_configuration_or_refused_by_name(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    found = taken(lambda: settings.load_yaml(path))
    assert isinstance(found, Config) or str(path) in found


def test_a_loop_of_anchors_is_refused():
    with pytest.raises(ConfigError):
        settings.override(LITE, ["train=&a {x: *a}"])
