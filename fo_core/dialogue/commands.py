"""What can be asked of a dialogue: the commands of :class:`Duplex` and :class:`Talk`.

Every command may carry an id of its sender; the events that it causes, errors too, carry it as
their ``cause``. ``Queued`` commands take effect exactly behind the sound that was pushed before
them, the others at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fo_core.dialogue.settings import TurnConfig
from fo_core.dialogue.tool_calls import ToolConfig
from fo_core.models.voices import VoiceChoice

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Command:
    """Base of all commands."""

    id: str | None = field(default=None, kw_only=True)  # of the sender, for the events it causes


@dataclass(frozen=True)
class Queued(Command):
    """A command that waits for the sound before it to be heard."""


@dataclass(frozen=True)
class Commit(Queued):
    """End the user's turn here; it is an error where nothing was heard."""

    answer: bool = True  # False: no reply until Respond


@dataclass(frozen=True)
class Clear(Queued):
    """Drop the sound that nobody heard yet and the turn that is not finished."""


@dataclass(frozen=True)
class HearText(Queued):
    """A typed message of the user."""

    text: str
    answer: bool = True  # at once, stopping a reply; False: after that reply, and wait for Respond


@dataclass(frozen=True)
class SayText(Queued):
    """A message of the assistant for the history; it is not spoken."""

    text: str


@dataclass(frozen=True)
class HearResult(Queued):
    """What came back for a function call; it waits for Respond."""

    call_id: str
    output: str


@dataclass(frozen=True)
class Respond(Queued):
    """Answer the history as it stands."""

    speak: bool | None = None  # None: as configured
    max_tokens: int | None = None  # longest text, LLM tokens
    system: str | None = None  # for this reply; where nothing waits for an answer: what to do
    tools: ToolConfig | None = None  # functions that this reply may call; None: as configured
    apart: bool = False  # out of band: the history keeps nothing of it
    messages: Sequence[tuple[Role, str]] | None = None  # apart: read instead of the history
    voice: VoiceChoice = None  # of this reply; None: as configured


@dataclass(frozen=True)
class Interrupt(Command):
    """Stop the reply that is made or played."""


@dataclass(frozen=True)
class Played(Command):
    """The user interface has played so many samples of a reply."""

    position: int  # absolute, 24 kHz
    turn: int | None = None  # whose reply; None: the running one


@dataclass(frozen=True)
class Truncate(Command):
    """Let the history keep of an answer what is heard in its first samples."""

    turn: int
    samples: int  # 24 kHz


@dataclass(frozen=True)
class Configure(Command):
    """Change settings from the next turn on; what is None stays."""

    turn: TurnConfig | None = None  # turn taking
    system: str | None = None  # the history is read again (a prefill) before the next answer
    voice: VoiceChoice = None  # of the replies that begin from now on; "default": the model's own
    speak: bool | None = None  # whether replies are spoken
    max_tokens: int | None = None  # longest answer, LLM tokens
    temperature: float | None = None  # of the text
    tools: ToolConfig | None = None  # functions that the LLM may call


@dataclass(frozen=True)
class Delete(Command):
    """Forget a turn, or one side of it."""

    turn: int
    role: Literal["user", "assistant", "both"] = "both"
