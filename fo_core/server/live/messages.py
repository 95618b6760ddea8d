"""The Live protocol's client events: those that are obeyed, and why the others are refused."""

from __future__ import annotations

from typing import Any

from fo_core.server.messages import Refused, read_kind

POSSIBLE = (
    "possible: session.close, session.update, session.input_audio.append, .mute and .unmute, "
    "session.instructions.append"
)
SERVED = (
    "session.start",
    "session.update",
    "session.close",
    "session.input_audio.append",
    "session.input_audio.mute",
    "session.input_audio.unmute",
    "session.instructions.append",
)
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
    kinds: dict[str, Any] = {
        "session.start": live.SessionStartEvent,
        "session.update": live.SessionUpdateEvent,
        "session.close": live.SessionCloseEvent,
        "session.input_audio.append": live.InputAudioAppendEvent,
        "session.input_audio.mute": live.InputAudioMuteEvent,
        "session.input_audio.unmute": live.InputAudioUnmuteEvent,
        "session.instructions.append": live.InstructionsAppendEvent,
    }
    return read_kind(data, kinds)
