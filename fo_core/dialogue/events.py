"""What a duplex dialogue says happened, in order: the interface of core, pool, server and terminal.

A turn is one stretch of the user (speech or text) and at most one reply to it; turns are counted
from 0 and a number is never used twice. User positions are samples at 16 kHz since the beginning,
reply positions are samples at the codec's rate (24 kHz) since the beginning of that reply.

Order within a turn: ``SpeechStarted``, ``ChunkState`` for every chunk, ``SpeechStopped`` (unless
the state head was quicker), ``TurnEnded``; if it is answered ``Transcript``, ``ReplyStarted``,
``TextDelta`` before its ``AudioDelta``s, ``ReplyDone``, and ``Played`` when the user has heard all.
While a reply is heard it may give way to a voice (``Yielded``, then ``Resumed`` unless it ends).
An interrupted reply gets ``Interrupted`` and, if it was still being made, ``ReplyDone`` with
"cancelled"; no ``AudioDelta`` of it follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fo_core.dialogue.states import DialogueState

How = Literal[
    "respond", "dismiss", "silence", "timeout", "commit", "no_decision", "unheard", "too_long",
    "text",
]  # fmt: skip
DISMISSED = ("dismiss", "no_decision", "unheard")  # turns that leave no trace and get no reply
# whether a reply was begun in the pause before the turn ended: "exact": it is what it would be
# without | "early": it does not know the silence that was heard since, and may differ
Speculated = Literal["no", "exact", "early"]
Outcome = Literal["committed", "dropped"]
# "turn_ended" | "voice": the user spoke on | "changed": more was heard, or the history is another |
# "command": the application asked for something | "failed": a model step did | "given_up": the turn
Why = Literal["turn_ended", "voice", "changed", "command", "failed", "given_up"]
Status = Literal["completed", "incomplete", "cancelled", "failed"]


@dataclass
class DuplexEvent:
    """Base of all events."""

    at: int = field(default=0, kw_only=True)  # samples of the user that were heard by then
    time: float = field(default=0.0, kw_only=True, compare=False)  # time.monotonic()
    cause: str | None = field(default=None, kw_only=True)  # id of the command that led to it


@dataclass
class SpeechStarted(DuplexEvent):
    """The user's voice began."""

    turn: int
    start: int  # user sample


@dataclass
class SpeechStopped(DuplexEvent):
    """The voice fell silent (the turn may go on)."""

    turn: int
    end: int  # user sample


@dataclass
class ChunkState(DuplexEvent):
    """What the state head said about one chunk of 160 ms."""

    turn: int
    continue_: float  # probability of state 0
    respond: float  # ... 1
    dismiss: float  # ... 2
    overlap: bool  # the bot speaks meanwhile
    quiet_ms: float = 0.0  # silence behind the newest voice of the turn; 0 before its first


@dataclass
class TurnEnded(DuplexEvent):
    """The user's turn is over; those in ``DISMISSED`` leave no trace and get no reply.

    "dismiss": the state head wants no answer; "no_decision": it made none, while the bot spoke;
    "unheard": there was sound but nothing was heard in it (silence, hum, noise).
    """

    turn: int
    how: How
    start: int  # user sample at which the voice began (typed text: now)
    end: int  # ... and ended, as far as it was noticed


@dataclass
class Transcript(DuplexEvent):
    """What the CTC head heard in a turn (empty where it has no words), or what was typed."""

    turn: int
    text: str


@dataclass
class StateChanged(DuplexEvent):
    """The dialogue is in another state."""

    state: DialogueState


@dataclass
class ReplyStarted(DuplexEvent):
    """The model begins to answer, or lets go what it began in the pause before (speculation)."""

    turn: int
    speculated: Speculated = "no"


@dataclass
class SpeculationBegun(DuplexEvent):
    """A reply was begun though the turn may go on; nothing of it is handed out yet."""

    turn: int


@dataclass
class SpeculationEnded(DuplexEvent):
    """The turn is over and the reply goes on ("committed"), or it was for nothing ("dropped")."""

    turn: int
    outcome: Outcome
    why: Why
    text_tokens: int  # of the LLM, made before
    speech_tokens: int
    milliseconds: float  # of computing before


@dataclass
class TextDelta(DuplexEvent):
    """A piece of the answer, or the next chunk of one, before its audio."""

    turn: int
    part: int  # piece of the answer, from 0
    text: str  # as the LLM wrote it


@dataclass
class AudioDelta(DuplexEvent):
    """Audio of a piece; deltas of a reply follow each other without a gap."""

    turn: int
    part: int  # piece of the answer that it speaks
    position: int  # reply sample of its first sample
    audio: np.ndarray  # float32 [S] in [-1, 1] at the codec's rate


@dataclass
class FunctionCall(DuplexEvent):
    """The answer calls a function; HearResult brings back its result."""

    turn: int
    call_id: str
    name: str
    arguments: str  # a JSON object


@dataclass
class Usage:
    """Positions of the LLM's context that a reply read and wrote, and how its audio came."""

    cached: int = 0  # of those read, before this turn
    input_text: int = 0
    input_audio: int = 0  # vectors of speech
    output_text: int = 0  # LLM tokens
    output_audio: int = 0  # speech tokens
    # audio that came after all before it had been played, if played at once; and the silence in it
    underruns: int = field(default=0, compare=False)
    underrun_seconds: float = field(default=0.0, compare=False)


@dataclass
class ReplyDone(DuplexEvent):
    """All of the reply was made; it may still be playing."""

    turn: int
    status: Status  # incomplete: cut at the longest answer
    text: str  # all of the answer that was written
    samples: int  # of its audio
    usage: Usage = field(default_factory=Usage)


@dataclass
class Interrupted(DuplexEvent):
    """Stop playing the reply now."""

    turn: int
    reason: Literal["turn_detected", "client"]
    played: int  # reply samples taken as played
    text: str  # what the history keeps of the answer


@dataclass
class Yielded(DuplexEvent):
    """A voice began: pause or duck the reply until ``Resumed`` or ``Interrupted``: one comes."""

    turn: int
    by: Literal["pause", "duck"]
    onset: int  # user sample at which the voice began
    played: int  # reply samples taken as played


@dataclass
class Resumed(DuplexEvent):
    """The voice wanted nothing, fell silent, or the reply is over: play on with the next sample."""

    turn: int
    played: int  # reply samples taken as played


@dataclass
class Played(DuplexEvent):
    """A finished reply was played to its end."""

    turn: int


@dataclass
class Truncated(DuplexEvent):
    """The history of an answer was cut as asked."""

    turn: int
    text: str  # what it keeps


@dataclass
class Deleted(DuplexEvent):
    """A turn, or one side of it, is forgotten."""

    turn: int


@dataclass
class Cleared(DuplexEvent):
    """Unheard audio and the unfinished turn are gone."""


@dataclass
class Configured(DuplexEvent):
    """New settings hold from the next turn on."""


@dataclass
class IdleTimeout(DuplexEvent):
    """The user has said nothing for as long as was asked to be told about."""


@dataclass
class ContextDropped(DuplexEvent):
    """The context was full: the oldest turns were forgotten and the kept ones read again."""

    turns: int  # forgotten
    before: int  # positions of the LLM's cache
    after: int


@dataclass
class Error(DuplexEvent):
    """Something could not be done; the dialogue goes on."""

    code: Literal[
        "empty_commit", "no_such_turn", "no_reply", "reply_active", "nothing_to_answer",
        "empty_text", "too_long", "model", "no_such_call", "bad_call",
    ]  # fmt: skip
    message: str


@dataclass
class Closed(DuplexEvent):
    """The end; nothing follows."""

    reason: Literal["client", "idle", "stalled", "failed", "shutdown", "too_long"]
