"""Configurations as plain dictionaries, YAML and ``key=value`` overrides, and back.  Free of torch, pydantic waits.

Errors come all at once, each with its dotted path, what was expected and what was found.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from seanet.config import Config
from seanet.errors import ConfigError

Plain = dict[str, Any]
DEEPEST = 4  # containers inside each other; a part, a setting and its list are three


def to_dict(config: Config) -> Plain:
    """Dictionaries, lists, strings, numbers, booleans and None only: ready for JSON and YAML."""
    return _plain(asdict(config))


def from_dict(data: object) -> Config:
    """The configuration that a dictionary describes; what it leaves out takes its default.

    Raises ConfigError with a line for each unknown key and each wrong value.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"a configuration is a mapping of names to values, got {_show(data)}", value=data)
    if line := next(_misshapen(data, DEEPEST), None):
        raise ConfigError(line, field=line.split()[0])
    given = _with_kinds(data)
    config, errors = _validate(given)
    errors += [line for path, value in _leaves(given) if (line := _suspicious(path, value, config))]
    if errors:
        raise ConfigError("\n".join(dict.fromkeys(errors)), field=errors[0].split()[0].rstrip(":"))
    assert config is not None
    return config


def merge(config: Config, changes: object) -> Config:
    """``config`` with the nested ``changes``; another ``kind`` of head starts from that kind's defaults."""
    if not isinstance(changes, Mapping):
        raise ConfigError(f"settings are a mapping of names to values, got {_show(changes)}", value=changes)
    base = to_dict(config)
    for name, choices in _parts().items():
        part = changes.get(name)
        if (
            len(choices) > 1
            and isinstance(part, Mapping)
            and part.get("kind", base[name]["kind"]) != base[name]["kind"]
        ):
            base[name] = {}
    return from_dict(_merged(base, changes))


def override(config: Config, assignments: Iterable[str]) -> Config:
    """``config`` with ``["train.lr=0.005", "data.short_sides=[320,640]", "mask.kind=classic"]``; values are YAML.

    The order does not matter between a ``kind`` and the settings of that kind; a later value of the same key wins.
    """
    changes: Plain = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise ConfigError(f"expected KEY=VALUE such as train.lr=0.005, got {assignment!r}", value=assignment)
        inner = changes
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{assignment!r}: {part!r} was given a value of its own before", value=assignment)
        value = _parse(text, assignment, parts)
        both = isinstance(value, Mapping) and isinstance(inner.get(parts[-1]), Mapping)
        inner[parts[-1]] = _merged(inner[parts[-1]], value) if both else value
    return merge(config, changes)


def load_yaml(path: str | Path, base: Config | None = None) -> Config:
    """The settings of a YAML file on top of ``base``, or of the defaults."""
    try:
        data = _read_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})", file=str(path)) from error
    except ValueError as error:
        raise ConfigError(f"{path}: is no valid YAML: {_one_line(error)}", file=str(path)) from error
    try:
        return merge(base or Config(), {} if data is None else data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", file=str(path), field=error.field, value=error.value) from error


def dump_yaml(config: Config) -> str:
    """YAML text that ``load_yaml`` reads back to the same configuration."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Lists on one line, mappings on many."""

    Dumper.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))
    return yaml.dump(to_dict(config), Dumper=Dumper, sort_keys=False, width=120)


def differences(a: Config, b: Config) -> list[str]:
    """One line ``train.lr: 0.02 -> 0.01`` for each setting that differs; a setting that one lacks is shown as ``-``."""
    old, new = dict(_leaves(to_dict(a))), dict(_leaves(to_dict(b)))
    both = [*old, *(path for path in new if path not in old)]
    changed = [path for path in both if path not in old or path not in new or old[path] != new[path]]
    return [f"{p}: {_show(old[p]) if p in old else '-'} -> {_show(new[p]) if p in new else '-'}" for p in changed]


def paths(config: Config) -> list[str]:
    """Dotted names of all settings of this configuration, for completion and messages."""
    return [path for path, _ in _leaves(to_dict(config))]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _leaves(data: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _merged(old: Mapping[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    merged = dict(old)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def _misshapen(data: object, levels: int, path: str = "") -> Iterator[str]:
    """A line for each name that is no text, and for what is nested too deeply: YAML's anchors can even make loops."""
    inner: Iterable[tuple[str, object]] = ()
    if isinstance(data, Mapping):
        inner = [(f"{path}.{key}" if path else str(key), value) for key, value in data.items()]
        yield from (
            f"{name} is no setting: {_show(key)} is no name"
            for key, (name, _) in zip(data, inner, strict=True)
            if not isinstance(key, str)
        )
    elif isinstance(data, list | tuple | set):
        inner = [(path, value) for value in data]
    if inner and not levels:
        yield f"{path} is nested deeper than any setting"
        return
    for name, value in inner:
        yield from _misshapen(value, levels - 1, name)


def _read_yaml(text: str) -> Any:
    """What a YAML text holds; ValueError for whatever the parser cannot make anything of."""
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, KeyError, AttributeError) as error:  # the latter for tags such as !!bool x
        raise ValueError(_one_line(error)) from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _parse(text: str, assignment: str, parts: list[str]) -> Any:
    try:
        value = _read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{assignment!r}: the value is no valid YAML: {_one_line(error)}", value=text) from error
    return None if value in ("none", "None") and _optional(parts) else value


def _show(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join('[...]' if isinstance(inner, list | tuple) else _show(inner) for inner in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _choices(annotation: Any) -> dict[str | None, Any]:
    """The dataclasses that a field can hold, by their ``kind``; empty for a plain value."""
    found = [c for c in get_args(annotation) or (annotation,) if isinstance(c, type) and is_dataclass(c)]
    return {getattr(c, "kind", None): c for c in found}


@cache
def _parts() -> dict[str, dict[str | None, Any]]:
    """The parts of a configuration and the classes that each can be; a part without a kind has the one of None."""
    return {f.name: choices for f in fields(Config) if (choices := _choices(f.type))}


@cache
def _default_kinds() -> Plain:
    return {name: part["kind"] for name, part in to_dict(Config()).items() if isinstance(part, dict) and "kind" in part}


def _class_at(parts: list[str], data: Mapping[str, Any]) -> Any:
    """The dataclass whose keys stand under that path, as far as ``data`` tells its kind."""
    if not parts:
        return Config
    choices = _parts().get(parts[0], {}) if len(parts) == 1 else {}
    part = data.get(parts[0])
    return choices.get(part.get("kind") if None not in choices and isinstance(part, Mapping) else None)


def _optional(parts: list[str]) -> bool:
    """Whether some class that the path can mean takes None there."""
    classes = [Config] if len(parts) == 1 else list(_parts().get(parts[0], {}).values()) if len(parts) == 2 else []
    return any(f.name == parts[-1] and type(None) in get_args(f.type) for c in classes for f in fields(c))


def _with_kinds(data: Mapping[str, Any]) -> Plain:
    """The data with the default kind written where none is given, so that a union never guesses from the other keys."""
    given = dict(data)
    for name, kind in _default_kinds().items():
        if isinstance(given.get(name), Mapping):
            given[name] = {"kind": kind, **given[name]}
    return given


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Config)


def _validate(data: Plain) -> tuple[Config | None, list[str]]:
    from pydantic import ValidationError

    try:
        return _adapter().validate_python(data), []
    except ValidationError as error:
        lines = [_explain(detail, data) for detail in error.errors(include_url=False, include_context=False)]
        return None, [line for line in lines if line]


def _explain(detail: Any, data: Plain) -> str | None:
    """One line for one finding; None for a finding about a kind that is not the chosen one."""
    loc = [str(step) for step in detail["loc"]]
    choices = _parts().get(loc[0], {}) if loc else {}
    if len(choices) > 1:
        part = data[loc[0]]
        if not isinstance(part, Mapping):
            return f"{loc[0]} should be a mapping of settings, got {_show(part)}"
        if part["kind"] not in list(choices):
            return f"{loc[0]}.kind should be {' or '.join(map(repr, choices))}, got {_show(part['kind'])}"
        if loc[1] != choices[part["kind"]].__name__:
            return None
        del loc[1]
    if len(loc) > 2 and loc[2].isdigit():
        loc[1:3] = [f"{loc[1]}[{loc[2]}]"]
    # What follows names the branch of a union such as "a number or null".
    path = ".".join(loc[:2] if choices else loc[:1])
    if detail["type"] == "missing":
        path = path.partition("[")[0]
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return _unknown(loc, data)
    if detail["type"] in ("dataclass_type", "dataclass_exact_type"):
        return f"{path} should be a mapping of settings, got {_show(detail['input'])}"
    return f"{path} {_expected(detail)}, got {_show(detail['input'])}"


def _expected(detail: Any) -> str:
    if detail["type"] == "tuple_type":
        return "should be a list such as [1, 2]"
    if detail["type"] in ("missing", "too_short", "too_long"):
        return "has the wrong number of values"
    message = detail["msg"].partition(", unable to")[0].partition(", got a number")[0]
    return message.replace("Input should be", "should be")


def _unknown(loc: list[str], data: Plain) -> str:
    """An unknown key, and what was probably meant: a name beside it, the same name elsewhere, or another kind's."""
    path, name = ".".join(loc), loc[-1]
    home = _class_at(loc[:-1], data)
    known = [f.name for f in fields(home)] if home else []
    for kind, other in _parts().get(loc[0], {}).items() if len(loc) == 2 else ():
        if kind is not None and any(f.name == name for f in fields(other)):
            return f"{path} is a setting of {loc[0]}.kind={kind}, not of {loc[0]}.kind={data[loc[0]]['kind']}"
    prefix = "".join(f"{part}." for part in loc[:-1])
    near = [prefix + match for match in get_close_matches(name, known, 2)]
    if not near:
        everywhere = {
            f"{part}.{f.name}" for part, classes in _parts().items() for c in classes.values() for f in fields(c)
        }
        near = sorted(other for other in everywhere if other.split(".")[1] == name)
        near = near or get_close_matches(path, sorted(everywhere), 1)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known here: {', '.join(known)}"
    return f"{path} is no setting: {hint}"


def _suspicious(path: str, value: Any, config: Config | None) -> str | None:
    """What pydantic lets pass and a run would suffer from: infinite numbers, and true where a number is meant."""
    values = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(v, float) and not isfinite(v) for v in values):
        return f"{path} should be finite, got {_show(value)}"
    if config is not None and any(isinstance(v, bool) for v in values):
        found: Any = config
        for part in path.split("."):
            found = getattr(found, part)
        if not isinstance(found, bool):
            return f"{path} should be a number, got {_show(value)}"
    return None
