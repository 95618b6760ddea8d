"""The Live protocol's events as the openai package knows them, read strictly."""

from __future__ import annotations

from typing import Any, get_args

from fo_core.server.messages import checked


def kinds(union: Any) -> dict[str, Any]:
    """The types of a union of events, by their names in the protocol."""
    found = get_args(get_args(union)[0])
    return {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in found}


def check(events: list[dict[str, Any]]) -> list[str]:
    """Fail unless the protocol has every event, field for field; their types."""
    from openai.types.live import ServerEvent

    known = kinds(ServerEvent)
    for event in events:
        assert event["type"] in known, f"the protocol has no event {event['type']}"
        checked(known[event["type"]], event)  # an unknown field, too, raises
        assert known[event["type"]].model_validate(event, strict=True)
    return [event["type"] for event in events]
