"""The settings of one Realtime session: what a client may ask for, what is in force.

A client's ``session.update`` is checked by the openai package's own types. What this server cannot
do is an error that names the field (prompts, MCP tools), or is shown as it is in the session that
is sent back (a built-in voice of the protocol's first provider leaves the voice as it is, tracing
is null).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

from fo_core.config import replace
from fo_core.dialogue.commands import Configure
from fo_core.dialogue.settings import TurnConfig
from fo_core.dialogue.tool_calls import ToolConfig
from fo_core.errors import DataError
from fo_core.models.voices import OWN
from fo_core.server.beta import from_beta
from fo_core.server.messages import Refused, checked
from fo_core.server.tools import read_tools, shown
from fo_core.server.voices import wanted_voice
from fo_core.server.wire import WireFormat

Detect = Literal["semantic_vad", "server_vad"]
TIMEOUT_MS = {"low": 8000, "medium": 4000, "high": 2000, "auto": 4000}  # as eagerness says
CANNOT = ("prompt", "include", "reasoning")  # asked for and ignored would be worse than refused
TEMPERATURES = (0.0, 2.0)
MAX_TOKENS = 4096  # of a reply, by the protocol
MAX_TEXT = 32_768  # characters of instructions or of a typed message


def wire_format(data: Any, param: str) -> WireFormat:
    """The format that a client names; the rate may be another than the protocol's 24 kHz."""
    if not isinstance(data, dict):
        raise Refused(f"{param} is no object", param)
    kind, rate = data.get("type", "audio/pcm"), data.get("rate")
    if kind not in ("audio/pcm", "audio/pcmu", "audio/pcma"):
        raise Refused(f"no audio format {kind!r}", f"{param}.type")
    if rate is not None and (not isinstance(rate, int) or isinstance(rate, bool)):
        raise Refused("a rate is a whole number of Hz", f"{param}.rate")
    try:
        return WireFormat(kind, rate or (24000 if kind == "audio/pcm" else 8000))
    except DataError as error:
        raise Refused(str(error), f"{param}.rate") from error


def said(fmt: WireFormat) -> dict[str, Any]:
    """A format as the protocol writes it."""
    return {"type": fmt.kind, "rate": fmt.rate} if fmt.kind == "audio/pcm" else {"type": fmt.kind}


@dataclass
class SessionSettings:
    """What is in force for one connection."""

    model: str  # name that is shown
    instructions: str  # system prompt
    turn: TurnConfig  # how turns end and what interrupts
    detection: dict[str, Any] | None  # the same in the protocol's words; None = the client commits
    audio_in: WireFormat = WireFormat()
    audio_out: WireFormat = WireFormat()
    speak: bool = True  # audio (with its transcript) instead of text
    transcribe: dict[str, Any] | None = None  # send what was heard, if not None
    max_tokens: int | None = None  # of a reply; None = the model's own limit
    tools: ToolConfig = ToolConfig()  # functions that the model may call
    temperature: float | None = None  # of the text; None = the model's own
    kind: Literal["realtime", "transcription"] = "realtime"  # transcription: nothing is answered
    voices: tuple[str, ...] = (OWN,)  # of the model, its own first
    voice: str = OWN  # one of them
    heard: bool = False  # audio was sent: the voice is settled
    first: SessionSettings | None = None  # as the server begins a session; None: these are they

    def updated(self, session: dict[str, Any]) -> SessionSettings:
        """These settings with what a ``session.update`` changes.

        Raises:
            Refused: A field is wrong or asks for what is not there; nothing has changed.
        """
        session = from_beta(session, "session")
        new = copy.copy(self)
        new.first = self.first or self
        new.kind = session.get("type", self.kind)
        new.temperature = _temperature(session.pop("temperature", self.temperature))
        audio = _part(session, "audio", "session")
        heard, spoken = (
            _part(audio, "input", "session.audio"),
            _part(audio, "output", "session.audio"),
        )
        if "format" in heard:
            new.audio_in = wire_format(heard["format"], "session.audio.input.format")
        if "format" in spoken:
            new.audio_out = wire_format(spoken["format"], "session.audio.output.format")
        where = "session.audio.output.voice"
        new.voice = wanted_voice(spoken.get("voice"), self.voices, self.voice, self.heard, where)
        _check_types(session, new.kind)
        for name in CANNOT:
            if session.get(name):
                raise Refused(f"this server has no {name}", f"session.{name}", "unsupported")
        if session.get("truncation", "auto") not in (None, "auto"):
            what = "the oldest turns are forgotten when the context is full: truncation is auto"
            raise Refused(what, "session.truncation", "unsupported")
        new.tools = read_tools(session, self.tools, "session")
        if session.get("instructions") is not None:
            new.instructions = short(session["instructions"], "session.instructions")
        if "output_modalities" in session:
            new.speak = speaks(session["output_modalities"], "session.output_modalities")
        if "max_output_tokens" in session:
            new.max_tokens = tokens(session["max_output_tokens"], "session.max_output_tokens")
        if "transcription" in heard:
            new.transcribe = heard["transcription"]
        if "turn_detection" in heard:
            new.detection, new.turn = detection(heard["turn_detection"], self.turn)
        if new.kind == "transcription":
            new.turn = replace(new.turn, answer=False)
            new.transcribe = new.transcribe or {}
        return new

    def changes(self, old: SessionSettings) -> Configure:
        """What a talk that has the old settings is to be told."""
        return Configure(
            turn=self.turn if self.turn != old.turn else None,
            system=self.instructions if self.instructions != old.instructions else None,
            voice=self.voice if self.voice != old.voice else None,
            speak=self.speak,
            max_tokens=self.max_tokens or MAX_TOKENS,  # None would leave an older limit
            temperature=self.temperature,
            tools=self.tools if self.tools != old.tools else None,
        )

    def to_dict(self, id: str, expires_at: int) -> dict[str, Any]:  # noqa: A002 the protocol's word
        """The session as the protocol shows it."""
        heard = {
            "format": said(self.audio_in),
            "noise_reduction": None,
            "transcription": self.transcribe,
            "turn_detection": self.detection,
        }
        if self.kind == "transcription":
            return {
                "id": id,
                "object": "realtime.transcription_session",
                "type": "transcription",
                "expires_at": expires_at,
                "audio": {"input": heard},
            }
        return {
            "id": id,
            "object": "realtime.session",
            "type": "realtime",
            "model": self.model,
            "expires_at": expires_at,
            "instructions": self.instructions,
            "output_modalities": ["audio" if self.speak else "text"],
            "max_output_tokens": self.max_tokens or "inf",
            **shown(self.tools),
            "tracing": None,
            "truncation": "auto",
            "audio": {
                "input": heard,
                "output": {"format": said(self.audio_out), "voice": self.voice, "speed": 1.0},
            },
        }


def detection(
    asked: dict[str, Any] | None, turn: TurnConfig
) -> tuple[dict[str, Any] | None, TurnConfig]:
    """The protocol's turn detection as ours; returns it with every default filled in, and ours.

    ``semantic_vad`` is the state head: while the model speaks, it gives way to a voice, and only a
    turn that wants an answer, or a long one, interrupts it (``state`` of the model's own settings
    stays: then it does not give way). With ``server_vad`` any voice interrupts it.
    """
    if asked is None:
        return None, replace(turn, detect="manual", answer=False)
    kind = asked.get("type")
    answer = _said(asked, "create_response", True)
    stops = _said(asked, "interrupt_response", True)
    if kind == "semantic_vad":
        eagerness = _said(asked, "eagerness", "auto")
        full = {"eagerness": eagerness}
        ours = replace(
            turn,
            detect="semantic",
            end_of_turn_timeout_ms=TIMEOUT_MS[eagerness],
            interrupt=("state" if turn.interrupt == "state" else "yield") if stops else "never",
            idle_ms=0,
        )
    else:
        idle = asked.get("idle_timeout_ms")
        full = {
            "threshold": _bounded(asked, "threshold", 0.5, 0.01, 0.99),
            "prefix_padding_ms": _bounded(asked, "prefix_padding_ms", 300, 0, 5000),
            "silence_duration_ms": _bounded(asked, "silence_duration_ms", 500, 50, 30_000),
            "idle_timeout_ms": idle and _bounded(asked, "idle_timeout_ms", idle, 1000, 600_000),
        }
        ours = replace(
            turn,
            detect="server",
            threshold=full["threshold"],
            silence_ms=full["silence_duration_ms"],
            interrupt="voice" if stops else "never",
            idle_ms=idle or 0,
        )
    told = {"type": kind, **full, "create_response": answer, "interrupt_response": stops}
    return told, replace(ours, answer=answer)


def own_detection(turn: TurnConfig) -> tuple[dict[str, Any], TurnConfig]:
    """The model's own turn taking in the protocol's words, and as a session begins with it."""
    if turn.detect == "server":
        shown, _ = detection({"type": "server_vad"}, turn)
        silence = round(turn.silence_ms)
        own = {"threshold": turn.threshold, "silence_duration_ms": silence}
        return {**(shown or {}), **own}, turn
    shown, turn = detection({"type": "semantic_vad"}, turn)
    return shown or {}, turn


def for_player(turn: TurnConfig, asked: str | None) -> TurnConfig:
    """Turn taking with a player that pauses and ducks when it is told to, or that cannot.

    Args:
        turn: Turn taking.
        asked: The client's query parameter ``yield``: "1" if it can; None: it does not say.

    Raises:
        Refused: It is something else.
    """
    if asked not in (None, "0", "1"):
        what = f"yield={asked[:20]} is neither 1 (this client pauses when it is told to) nor 0"
        raise Refused(what, "yield")
    return turn if asked == "1" else replace(turn, yield_by="none")


def speaks(modalities: Any, param: str) -> bool:
    """Whether replies are audio."""
    if modalities not in (["audio"], ["text"]):
        raise Refused('output is either ["audio"] or ["text"]', param)
    return modalities == ["audio"]


def tokens(limit: Any, param: str) -> int | None:
    """A limit of text tokens; None = the model's own."""
    if limit in (None, "inf"):
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_TOKENS:
        raise Refused(f'1 to {MAX_TOKENS} tokens or "inf"', param)
    return limit


def short(text: str, param: str) -> str:
    """A text that is not too long."""
    if len(text) > MAX_TEXT:
        raise Refused(f"{len(text):,} characters, {MAX_TEXT:,} are allowed", param)
    return text


def _part(data: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    part = data.get(name) or {}
    if not isinstance(part, dict):
        raise Refused(f"{name} is no object", f"{where}.{name}")
    return part


def _said(asked: dict[str, Any], name: str, default: Any) -> Any:
    value = asked.get(name)
    return default if value is None else value


def _bounded(asked: dict[str, Any], name: str, default: Any, low: float, high: float) -> Any:
    value = _said(asked, name, default)
    if not low <= value <= high:
        raise Refused(f"{low} to {high}", f"session.audio.input.turn_detection.{name}")
    return value


def _temperature(value: Any) -> float | None:
    """Of the beta: the text's temperature."""
    if value is None:
        return None
    low, high = TEMPERATURES
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refused(f"a temperature is {low} to {high}", "session.temperature")
    return float(value)


def _check_types(session: dict[str, Any], kind: str) -> None:
    """Let the openai package's types look at everything but the formats, whose rates are freer."""
    from openai.types import realtime

    kinds: dict[str, Any] = {
        "realtime": realtime.RealtimeSessionCreateRequest,
        "transcription": realtime.RealtimeTranscriptionSessionCreateRequest,
    }
    if kind not in kinds:
        what = f"no sessions of type {kind!r}; possible: realtime, transcription"
        raise Refused(what, "session.type", "unsupported")
    strict = copy.deepcopy(session) | {"type": kind}
    for side in ("input", "output"):
        ((strict.get("audio") or {}).get(side) or {}).pop("format", None)
    checked(kinds[kind], strict, "session")
