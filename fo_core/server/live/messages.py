"""The Live protocol's client events: those that are obeyed, and why the others are refused."""

from __future__ import annotations

from typing import Any

from fo_core.server.messages import Refused, read_kind

_TYPES = {  # of the events that are obeyed: their names in openai.types.live
    "session.start": "SessionStartEvent",
    "session.close": "SessionCloseEvent",
    "session.update": "SessionUpdateEvent",
    "session.input_audio.append": "InputAudioAppendEvent",
    "session.input_audio.mute": "InputAudioMuteEvent",
    "session.input_audio.unmute": "InputAudioUnmuteEvent",
    "session.instructions.append": "InstructionsAppendEvent",
}
SERVED = tuple(_TYPES)
POSSIBLE = "possible: " + ", ".join(SERVED[1:])  # once a session has started
_BACKEND = "nothing is delegated: the model has no backend that could be asked"
_CONTEXT = "the model has no channel for context beside its instructions and what is spoken"
REFUSED = {
    "session.thinking.append": _CONTEXT,
    "session.commentary.append": _CONTEXT,
    "session.output_audio.fixture.play": "no audio but the model's own is played",
    "decision.create": _BACKEND,
    "decision.item.create": _BACKEND,
    "decision.item.delete": _BACKEND,
    "response.create": _BACKEND,
    "response.item.create": _BACKEND,
    "transport.dtmf.send": "no telephony (SIP) here",
}


def read_event(data: dict[str, Any]) -> Any:
    """A client's event as the openai package's object.

    Raises:
        Refused: It is not obeyed here, there is no such event, or a field is missing or wrong.
    """
    from openai.types import live

    kind = data["type"]
    if kind in REFUSED:
        raise Refused(f"no {kind} here: {REFUSED[kind]}; {POSSIBLE}", "type", "unsupported")
    return read_kind(data, {name: getattr(live, type_) for name, type_ in _TYPES.items()})
