"""The protocol's beta: its fields read as those of the general availability, its events' old names.

The old fields (``input_audio_format: g711_ulaw``, ``modalities``) are read from any client; the old
names of events go only to clients that ask for them with the header ``OpenAI-Beta: realtime=v1`` or
its subprotocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fo_core.server.messages import Refused

PROTOCOL = "openai-beta.realtime-v1"  # how a browser asks: a subprotocol of this name
FORMATS: dict[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
INPUT = {
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
OUTPUT = {"output_audio_format": "format", "voice": "voice", "speed": "speed"}
RENAMED = {"max_response_output_tokens": "max_output_tokens"}
EVENTS = {
    "response.output_audio.": "response.audio.",
    "response.output_audio_transcript.": "response.audio_transcript.",
    "response.output_text.": "response.text.",
}


def wants_beta(headers: Mapping[str, str]) -> bool:
    """Whether a client asks for the old names."""
    offered = [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")]
    return "realtime=v1" in headers.get("openai-beta", "") or PROTOCOL in offered


def from_beta(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of a session, or of a response, with the old ones read as new ones.

    Raises:
        Refused: An old field has a value that there never was.
    """
    new = dict(fields)
    for side, names in (("input", INPUT), ("output", OUTPUT)):
        for old, name in names.items():
            if old not in fields:
                continue
            value = new.pop(old)
            if name == "format":
                if not isinstance(value, str) or value not in FORMATS:
                    known = ", ".join(FORMATS)
                    raise Refused(f"no audio format {value!r}; possible: {known}", f"{where}.{old}")
                value = FORMATS[value]
            audio = new.get("audio")
            if audio is not None and not isinstance(audio, dict):
                raise Refused("audio is no object", f"{where}.audio")
            part = (audio or {}).get(side) or {}
            if isinstance(part, dict):
                new["audio"] = {**(audio or {}), side: {name: value, **part}}
    for old, name in RENAMED.items():
        if old in fields:
            new.setdefault(name, new.pop(old))
    if "modalities" in fields:
        asked = new.pop("modalities")
        both = isinstance(asked, list) and "audio" in asked
        new.setdefault("output_modalities", ["audio"] if both else asked)
    return new


def to_beta(event: dict[str, Any]) -> dict[str, Any] | None:
    """An event by its old name; None: there was none like it."""
    kind = event["type"]
    for name, old in EVENTS.items():
        if kind.startswith(name):
            return {**event, "type": old + kind.removeprefix(name)}
    if kind == "conversation.item.added":
        return {**event, "type": "conversation.item.created"}
    if kind == "conversation.item.done":
        return None
    if kind in ("session.created", "session.updated"):
        return {**event, "session": _session(event["session"])}
    return event


def _session(session: dict[str, Any]) -> dict[str, Any]:
    """A session with the old fields beside the new ones."""
    audio = session["audio"]
    names = {new["type"]: old for old, new in FORMATS.items()}
    found = {old: audio["input"].get(name) for old, name in INPUT.items()}
    found |= {old: audio.get("output", {}).get(name) for old, name in OUTPUT.items()}
    for old in ("input_audio_format", "output_audio_format"):
        found[old] = names.get((found[old] or {}).get("type", ""))
    speaks = session.get("output_modalities") == ["audio"]
    found["modalities"] = ["text", "audio"] if speaks else ["text"]
    found["max_response_output_tokens"] = session.get("max_output_tokens", "inf")
    return {**session, **found}
