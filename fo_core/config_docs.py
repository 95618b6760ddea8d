"""What every setting of a config means: key, type, default, and the comment beside its field.

A config's fields are documented where they are declared: by the comment at the end of the line,
or by the lines of comment above it. Those are read from the source, so that help and reference
cannot disagree with the code.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import tokenize
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One key of a config."""

    key: str  # dotted path
    type: str
    default: str  # "required" where there is none
    meaning: str


def settings(config: type, prefix: str = "", made: Any = None) -> list[Setting]:
    """Every key of a config and of the configs inside it, in the order of their declaration.

    Where a section may be of several types, the keys of each follow, marked by ``(type=NAME)``.

    Args:
        config: A class made with :func:`fo_core.config.config`.
        prefix: Stands before every key.
        made: A config of this class whose values are the defaults; None: those of the class.
    """
    hints, said = typing.get_type_hints(config), field_comments(config)
    rows: list[Setting] = []
    for field in dataclasses.fields(config):
        key, kind = f"{prefix}{field.name}", hints[field.name]
        inner, value = (
            _configs(kind),
            _default(field) if made is None else made.__dict__[field.name],
        )
        if len(inner) != 1 or _optional(kind) or field.name in said:
            meaning = said.get(field.name, "").replace("None =", "null =")
            rows.append(Setting(key, _name(kind), _shown(value), meaning))
        for one in inner:
            mark = f" (type={one.type})" if len(inner) > 1 and hasattr(one, "type") else ""
            own = value if isinstance(value, one) else None
            rows += [
                dataclasses.replace(row, key=row.key + mark)
                for row in settings(one, f"{key}.", own)
            ]
    return rows


def field_comments(config: type) -> dict[str, str]:
    """The comment of each field of a dataclass, its base classes' included; only those that have
    one."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if dataclasses.is_dataclass(cls):
            try:
                found |= dict(_comments(inspect.getsource(cls)))
            except (OSError, TypeError):  # made at run time: there is no source
                continue
    return found


def _comments(source: str) -> Iterator[tuple[str, str]]:
    """(name, comment) of the fields in the source of a class."""
    above: list[str] = []
    name, said, depth = "", "", 0
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for index, token in enumerate(tokens):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if name:
                said = f"{said} {text}".strip()
            elif not token.line[: token.start[1]].strip():
                above.append(text)
        elif token.type == tokenize.OP and token.string in "()[]{}":
            depth += 1 if token.string in "([{" else -1
        elif token.type == tokenize.NEWLINE:
            if name and (said or above):
                yield name, said or " ".join(above)
            name, said, above = "", "", []
        elif token.type == tokenize.NAME and not name and not depth:
            starts = not token.line[: token.start[1]].strip()
            if starts and tokens[index + 1].string == ":":
                name = token.string


def _configs(kind: Any) -> list[Any]:
    """The configs that a value of a type may be (values of mappings and items of lists too)."""
    if dataclasses.is_dataclass(kind):
        return [kind]
    return [found for option in typing.get_args(kind) for found in _configs(option)]


def _optional(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)


def _name(kind: Any) -> str:
    """A type in words: ``int``, ``"a" | "b"``, ``list[float] | None``."""
    if dataclasses.is_dataclass(kind):
        return "section"
    if kind is type(None):
        return "null"
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _name(args[0])
    if origin is typing.Literal:
        return " | ".join(map(str, args))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(_name(arg) for arg in args))
    if origin is not None:
        inner = ", ".join("..." if arg is ... else _name(arg) for arg in args)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return getattr(kind, "__name__", str(kind))


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _shown(value: Any) -> str:
    """A default as YAML would write it."""
    if value is dataclasses.MISSING:
        return "required"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if dataclasses.is_dataclass(value):
        return ""
    if value == "":
        return '""'
    return str(list(value) if isinstance(value, tuple) else value)
