"""Typed configuration: frozen dataclasses, YAML that states only what differs, ``a.b=c`` overrides.

Every module's config is a dataclass made with :func:`config`; pydantic checks whole trees of them
at once, so all faults of a file are reported together with dotted paths.
"""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from fo_core.errors import ConfigError
from fo_core.registry import did_you_mean

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """Decorator: a frozen dataclass; unknown keys, NaN and infinity are errors when loaded."""
    checks = ConfigDict(extra="forbid", allow_inf_nan=False)
    return dataclasses.dataclass(frozen=True)(with_config(checks)(cls))


def check_ranges(cfg: Any, where: str, **ranges: tuple[float, float | None]) -> None:
    """Refuse numbers outside of their ranges.

    Args:
        cfg: Has them.
        where: What messages call it.
        **ranges: Field -> least and greatest value; None: none.

    Raises:
        ConfigError: One is.
    """
    for name, (least, most) in ranges.items():
        value = getattr(cfg, name)
        if not (least <= value and (most is None or value <= most)):
            possible = f"{least:g} or more" if most is None else f"{least:g} to {most:g}"
            raise ConfigError(f"{where}.{name} is {value}", possible=possible)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML (or JSON) file that holds one mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: The file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read config {path}: {error}", do="name a YAML file") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise ConfigError(f"{path} is not YAML: {where}", do="fix the file") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}", possible="a mapping of keys")
    return data


def set_dotted(data: dict[str, Any], assignment: str) -> None:
    """Apply one ``a.b.c=value`` to nested mappings in place; the value is read as YAML.

    Raises:
        ConfigError: There is no ``=``, or a part of the path is already a plain value.
    """
    key, sep, raw = assignment.partition("=")
    if not sep or not key.strip():
        raise ConfigError(f"--set {assignment!r} has no value", possible="--set a.b=c")
    *parents, leaf = key.strip().split(".")
    node = data
    for part in parents:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {key}: {part!r} is a plain value, not a section")
        node = child
    try:
        node[leaf] = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: {raw!r} is not YAML") from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested merge; ``over`` wins, except that a section of another ``type`` replaces the whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = value
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if value.get("type", old.get("type")) == old.get("type"):
                merged[key] = merge(old, value)
    return merged


def load(cls: type[T], data: Mapping[str, Any], overrides: Sequence[str] = ()) -> T:
    """Build a config from a mapping and ``a.b=c`` overrides.

    Raises:
        ConfigError: With every fault of the whole tree, each with its dotted path.
    """
    tree = copy.deepcopy(dict(data))  # the caller's sections stay as they are
    for assignment in overrides:
        set_dotted(tree, assignment)
    _name_types(cls, tree)
    try:
        return TypeAdapter(cls).validate_python(tree)
    except ValidationError as error:
        faults = [_fault(cls, dict(e)) for e in error.errors(include_url=False)]
        raise ConfigError("; ".join(dict.fromkeys(faults)), do="fix the config") from error


RENAMED = {  # keys of before and their names now; the old ones are refused with the new
    "hold": "freeze_steps",
    "flat": "plateau_ratio",
    "final": "min_lr_ratio",
    "remember_mb": "precompute_cache_mb",
    "tensorboard": "trackers",
    "answer_threshold": "respond_threshold",
    "ignore_threshold": "dismiss_threshold",
    "patience_ms": "end_of_turn_timeout_ms",
    "more_room": "retry_length_factor",
    "ears": "asr_engine",
    "probe": "gru",
}


def renamed(tree: Any) -> Any:
    """Plain nested settings with old keys under their names of now (records of earlier runs)."""
    if isinstance(tree, list):
        return [renamed(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    return {RENAMED.get(key, key): renamed(value) for key, value in tree.items()}


def _fault(cls: Any, error: dict[str, Any]) -> str:
    shown, _ = _walk(cls, error["loc"])
    where = ".".join(shown) or "config"
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        _, holder = _walk(cls, error["loc"][:-1])
        known = [field.name for field in dataclasses.fields(holder)] if holder else []
        now = RENAMED.get(shown[-1], "")
        if now in known:
            return f"{where} is {'.'.join([*shown[:-1], now])} now"
        near = f" (known: {did_you_mean(shown[-1], known)})" if known else ""
        return f"unknown key {where}{near}"
    return f"{where}: {error['msg']} (got {error.get('input')!r})"


def _walk(kind: Any, path: Sequence[Any]) -> tuple[list[str], Any]:
    """Where pydantic's path leads: its keys without the names of chosen types, the dataclass there.

    The dataclass is None where the path leaves the tree, or ends where several are possible.
    """
    shown: list[str] = []
    for part in map(str, path):
        classes = _classes(kind)
        chosen = [c for c in classes if getattr(c, "type", None) == part and len(classes) > 1]
        if chosen:
            kind = chosen[0]
            continue
        shown.append(part)
        if typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
        else:
            hints = [typing.get_type_hints(c) for c in classes]
            kind = next((found[part] for found in hints if part in found), None)
    classes = _classes(kind)
    return shown, classes[0] if len(classes) == 1 else None


def _name_types(kind: Any, tree: Any) -> None:
    """Write the default's ``type`` into sections that may be of several types and name none."""
    if not isinstance(tree, dict) or len(_classes(kind)) != 1:
        return
    (cls,) = _classes(kind)
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        section = tree.get(field.name)
        if not isinstance(section, dict):
            continue
        default = getattr(field.default, "type", None)
        if len(_classes(hints[field.name])) > 1 and isinstance(default, str):
            section.setdefault("type", default)
        _name_types(hints[field.name], section)


def _classes(kind: Any) -> list[Any]:
    """The dataclasses that a value of a type may be."""
    if dataclasses.is_dataclass(kind):
        return [kind]
    if typing.get_origin(kind) is dict:
        return []
    return [found for option in typing.get_args(kind) for found in _classes(option)]


def to_dict(cfg: Any) -> dict[str, Any]:
    """Plain JSON-ready mapping of a config; ``load(type(cfg), to_dict(cfg)) == cfg``."""
    return TypeAdapter(type(cfg)).dump_python(cfg, mode="json")


def replace(cfg: T, **changes: Any) -> T:
    """A copy with some fields changed."""
    replacer: Callable[..., T] = dataclasses.replace
    return replacer(cfg, **changes)
