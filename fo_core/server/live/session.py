"""The configuration of a Live session: what is honoured of it, what is refused by name.

What can be left out without anybody being deceived (another model's name, a voice of the protocol's
first provider) is taken and said in an ``info`` event.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

from fo_core.dialogue.commands import Command, HearText, SayText
from fo_core.dialogue.tool_calls import ToolConfig
from fo_core.server.live.permissions import Permissions, read_permissions
from fo_core.server.messages import Refused, checked
from fo_core.server.settings import SessionSettings, said, short, wire_format
from fo_core.server.voices import BUILT_IN, wanted_voice
from fo_core.server.wire import WireFormat

MAX_HISTORY = 128  # messages, by the protocol
NO_DELEGATION = (
    "delegation_unavailable",
    "the model answers by itself and hands no task on: session.delegation.created never comes, "
    "acknowledgement_delay_ms has no effect",
)
Note = tuple[str, str]  # code and message of an info event


@dataclass
class LiveSession:
    """A session as it was asked for, checked."""

    settings: SessionSettings
    tracks: bool  # audio has tracks of its own (WebRTC) instead of events
    history: list[tuple[Literal["user", "assistant"], str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)  # what is not as asked
    permissions: Permissions = Permissions()
    asked: dict[str, Any] = field(default_factory=dict)  # fields that are shown as they came

    def commands(self) -> list[Command]:
        """What brings the history into a talk."""
        return [
            HearText(text, answer=False) if role == "user" else SayText(text)
            for role, text in self.history
        ]

    def to_dict(self, id: str, expires_at: int) -> dict[str, Any]:  # noqa: A002 the protocol's word
        """The session as the protocol shows it."""
        now = self.settings
        audio: dict[str, Any] = {"output": {"voice": now.voice}}
        if not self.tracks:
            audio["format"] = said(now.audio_in) | {"rate": now.audio_in.rate}
        return {
            "id": id,
            "expires_at": expires_at,
            "model": now.model,
            "status": "active",
            "audio": audio,
            "delegation": None,
            "instructions": now.instructions,
            "store": False,
            "triggers": [],
            **self.asked,
        }


def read_session(data: Any, first: SessionSettings, tracks: bool) -> LiveSession:
    """A configuration out of ``session.start``, or of a request by WebRTC.

    Args:
        data: JSON data.
        first: The server's own settings.
        tracks: Audio has tracks of its own.

    Raises:
        Refused: A field is wrong or asks for what is not there.
    """
    from openai.types.live import SessionConfig

    if not isinstance(data, dict):
        raise Refused("session is no object", "session", "missing_required_parameter")
    notes = check_delegation(data)
    if data.get("store") is True:
        what = "nothing is recorded here, so nothing can be forked or downloaded later"
        raise Refused(f"{what}: store is false", "session.store", "unsupported")
    if "client" in data and not tracks:
        what = "client is of a WebRTC session, whose page has a data channel"
        raise Refused(what, "session.client", "unsupported")
    audio = data.get("audio")
    if tracks and isinstance(audio, dict) and audio.get("format") is not None:
        what = "over WebRTC the audio is Opus, by the SDP: leave audio.format out"
        raise Refused(what, "session.audio.format", "unsupported")
    asked = checked(SessionConfig, data, "session")
    new = LiveSession(copy.copy(first), tracks, notes=notes)
    settings, new.settings.first = new.settings, first
    settings.tools, settings.speak, settings.kind = ToolConfig(), True, "realtime"
    if asked.model != first.model:
        what = f"no model {asked.model[:64]!r} here: this is {first.model}"
        notes.append(("model_substituted", what))
    _read_audio(data.get("audio") or {}, new)
    if asked.instructions is not None and asked.instructions.strip():
        settings.instructions = short(asked.instructions, "session.instructions")
    if asked.safety_identifier is not None:
        what = "safety_identifier is shown as it came; nothing here watches or reports anybody"
        notes.append(("safety_identifier_unused", what))
        new.asked["safety_identifier"] = asked.safety_identifier
    if asked.input:
        _read_history(asked.input, new)
        new.asked["input"] = data["input"]
    if asked.client is not None:
        new.permissions = read_permissions(asked.client.data_channel)
        new.asked["client"] = data["client"]
        notes.append(("data_channel_permissions", new.permissions.told()))
    return new


def check_delegation(data: dict[str, Any]) -> list[Note]:
    """Refuse what a session, or an update of one, wants of backends; what is to be said of it.

    Raises:
        Refused: It wants something.
    """
    delegation = data.get("delegation")
    kind = delegation.get("type") if isinstance(delegation, dict) else delegation
    if kind in ("responses", "decisions"):
        what = f"no delegation to {kind}: the model has no backend; possible: null, client"
        raise Refused(what, "session.delegation.type", "unsupported")
    if data.get("triggers"):
        what = "no triggers: there are no Decisions here that a transcript could start"
        raise Refused(f"{what}; possible: []", "session.triggers", "unsupported")
    return [NO_DELEGATION]


def _read_audio(audio: dict[str, Any], new: LiveSession) -> None:
    settings = new.settings
    if audio.get("format") is not None:
        fmt: WireFormat = wire_format(audio["format"], "session.audio.format")
        settings.audio_in = settings.audio_out = fmt
    voice = (audio.get("output") or {}).get("voice")
    where = "session.audio.output.voice"
    settings.voice = wanted_voice(voice, settings.voices, settings.voice, False, where)
    name = voice.get("id") if isinstance(voice, dict) else voice
    if name in BUILT_IN and name not in settings.voices:
        possible = ", ".join(settings.voices)
        what = f"{name!r} is none of the model's voices ({possible}): it speaks as "
        new.notes.append(("voice_substituted", what + repr(settings.voice)))


def _read_history(items: list[Any], new: LiveSession) -> None:
    """The messages before the session; those of a developer are instructions."""
    if len(items) > MAX_HISTORY:
        what = f"{len(items)} messages, {MAX_HISTORY} are allowed"
        raise Refused(what, "session.input")
    instructions = []
    for number, item in enumerate(items):
        where = f"session.input.{number}.content"
        if len(item.content) != 1:
            raise Refused(f"{len(item.content)} content parts; possible: one", where)
        text = short(item.content[0].text, where).strip()
        if not text:
            raise Refused("the message has no text", where)
        if item.role == "developer":
            instructions.append(text)
        else:
            new.history.append((item.role, text))
    if instructions:
        whole = "\n".join([new.settings.instructions, *instructions])
        new.settings.instructions = short(whole, "session.input")
        what = "messages of a developer are read as part of the instructions, wherever they stand"
        new.notes.append(("developer_messages", what))
    short("".join(text for _, text in new.history), "session.input")
