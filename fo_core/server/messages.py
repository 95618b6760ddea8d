"""The protocol's messages: client events read by the openai package's types, ids for our own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fo_core.errors import DataError
from fo_core.registry import did_you_mean

Model = TypeVar("Model")


class Refused(DataError):
    """A message that cannot be obeyed.

    Args:
        param: The field that is wrong, dotted.
        code: The protocol's error code.
    """

    def __init__(self, what: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(what)
        self.param, self.code = param, code


def new_id(kind: str) -> str:
    """An id such as ``item_8f0c...``."""
    return f"{kind}_{secrets.token_hex(10)}"


def read_message(text: str | bytes) -> dict[str, Any]:
    """A client's message as JSON data with a ``type``.

    Raises:
        Refused: It is not a JSON object, or has no type.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"the message is no JSON ({type(error).__name__})", code="invalid_json"
        ) from error
    if not isinstance(data, dict):
        raise Refused("a message is a JSON object", code="invalid_json")
    if not isinstance(data.get("type"), str):
        raise Refused("a message has a type", "type", "missing_required_parameter")
    return data


def read_event(data: dict[str, Any]) -> Any:
    """A client's event as the openai package's object.

    Raises:
        Refused: There is no such event, or a field is missing or wrong.
    """
    from openai.types import realtime

    kinds: dict[str, Any] = {
        "input_audio_buffer.append": realtime.InputAudioBufferAppendEvent,
        "input_audio_buffer.commit": realtime.InputAudioBufferCommitEvent,
        "input_audio_buffer.clear": realtime.InputAudioBufferClearEvent,
        "output_audio_buffer.clear": realtime.OutputAudioBufferClearEvent,
        "conversation.item.create": realtime.ConversationItemCreateEvent,
        "conversation.item.retrieve": realtime.ConversationItemRetrieveEvent,
        "conversation.item.truncate": realtime.ConversationItemTruncateEvent,
        "conversation.item.delete": realtime.ConversationItemDeleteEvent,
        "response.create": realtime.ResponseCreateEvent,
        "response.cancel": realtime.ResponseCancelEvent,
    }
    return read_kind(data, kinds, ("session.update",))


def read_kind(data: dict[str, Any], kinds: Mapping[str, Any], also: Sequence[str] = ()) -> Any:
    """A client's event as one of the openai package's types.

    Args:
        data: The event.
        kinds: The types, by their names in the protocol.
        also: More names, that are read elsewhere.

    Raises:
        Refused: There is no such event, or a field is missing or wrong.
    """
    kind = data["type"]
    if kind not in kinds:
        near = did_you_mean(kind[:64], [*also, *kinds])
        raise Refused(f"no event {kind[:64]!r}; {near}", "type", "unknown_event")
    return checked(kinds[kind], data)


def checked(kind: type[Model], data: dict[str, Any], where: str = "") -> Model:
    """An object of the openai package, with every field checked.

    Raises:
        Refused: The first field that is missing or wrong, by its dotted name.
    """
    from pydantic import ValidationError

    try:
        found = kind.model_validate(data)  # type: ignore[attr-defined]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # union members stand in the path as class names (str, list[int], Message): no fields
        path = [str(part) for part in first["loc"] if isinstance(part, int) or _is_field(part)]
        dotted = ".".join(([where] if where else []) + path)
        missing = first["type"] == "missing"
        code = "missing_required_parameter" if missing else "invalid_value"
        raise Refused(f"{dotted}: {first['msg']}", dotted, code) from error
    for name in _unknown(found, where):
        raise Refused(f"there is no field {name!r}", name, "unknown_parameter")
    return found


def _is_field(part: str) -> bool:
    return part == part.lower() and part not in ("str", "int", "float", "bool") and "[" not in part


def _unknown(found: Any, where: str) -> Iterator[str]:
    """Dotted names of the fields that the openai package does not know."""
    from pydantic import BaseModel

    if isinstance(found, list):
        for index, item in enumerate(found):
            yield from _unknown(item, f"{where}.{index}")
    if not isinstance(found, BaseModel):
        return
    dot = where + "." if where else ""
    for name in found.model_extra or {}:
        yield dot + name[:64]
    for name in type(found).model_fields:
        yield from _unknown(getattr(found, name), dot + name)
