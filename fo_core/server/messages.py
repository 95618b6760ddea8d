"""The protocol's messages: client events read by the openai package's types, ids for our own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fo_core.errors import DataError
from fo_core.registry import did_you_mean

Model = TypeVar("Model")
WANTED = {  # pydantic's kinds of errors -> what is possible
    "model_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true, false",
}
TAGS = ("type", "role")  # fields that say which member of a union is meant


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
        raise Refused(f"no event {kind[:64]!r}; possible: {near}", "type", "unknown_event")
    return checked(kinds[kind], data)


def checked(kind: type[Model], data: dict[str, Any], where: str = "") -> Model:
    """An object of the openai package, with every field checked; nothing is converted.

    Raises:
        Refused: The first field that is missing or wrong, by its dotted name.
    """
    from pydantic import ValidationError

    try:
        found = kind.model_validate(data, strict=True)  # type: ignore[attr-defined]
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False), where) from error
    for name in _unknown(found, where):
        raise Refused(f"there is no field {name!r}", name, "unknown_parameter")
    return found


def _refusal(errors: Sequence[Any], where: str) -> Refused:
    """One line about pydantic's errors, which has one for each member of a union."""
    tags = [each for each in errors if each["type"] == "literal_error" and each["loc"][-1] in TAGS]
    others = [tag["loc"][:-1] for tag in tags]  # members that are not meant
    meant = [e for e in errors if not any(e["loc"][: len(at)] == at for at in others)]
    # none is: it says so at the deepest tag, of those whose owner is right
    first = meant[0] if meant else max(tags, key=lambda tag: _depth(tag, others))
    dotted = ".".join(([where] if where else []) + _fields(first["loc"]))
    if first["type"] == "missing":
        return Refused(f"{dotted}: it is missing", dotted, "missing_required_parameter")
    same = [e for e in meant or tags if _fields(e["loc"]) == _fields(first["loc"])]
    wanted = dict.fromkeys(each for error in same for each in _wanted(error))
    if WANTED["string_type"] in wanted:  # of any text: the known ones beside it say nothing
        wanted = dict.fromkeys(each for each in wanted if not each.startswith("'"))
    return Refused(f"{dotted}: wrong value; possible: {', '.join(wanted)}", dotted)


def _depth(tag: Any, others: Sequence[Any]) -> int:
    at = tag["loc"][:-1]
    owned = all(at == other or at[: len(other)] != other for other in others)
    return len(at) if owned else -1


def _fields(loc: Sequence[Any]) -> list[str]:
    """A path; union members stand in pydantic's as class names (str, list[int], Message)."""
    return [str(part) for part in loc if isinstance(part, int) or _is_field(part)]


def _is_field(part: str) -> bool:
    return part == part.lower() and part not in ("str", "int", "float", "bool") and "[" not in part


def _wanted(error: Any) -> list[str]:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"]).replace(" or ", ", ").split(", ")
    return [WANTED.get(error["type"], str(error["msg"]))]


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
