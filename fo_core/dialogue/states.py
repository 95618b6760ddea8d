"""The dialogue's states and the one pure function that moves between them.

Every 160 ms the state head says what the user is doing (paper, section 2.4): keep listening, the
user has finished and wants an answer, or the speech ended but wants none. :func:`decide` turns its
probabilities into an event, :func:`transition` an event into the next state. While the bot speaks,
the user is heard on a copy of the caches (OVERLAP): a candidate for barge-in, which only a RESPOND
makes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fo_core.config import check_ranges, config
from fo_core.errors import ConfigError

LEAST = 0.1  # of state 1 however long the silence: what is hardly a question waits for the timeout


class DialogueState(Enum):
    """Where a conversation stands."""

    IDLE = "idle"  # nobody speaks
    LISTENING = "listening"  # the user speaks
    SPEAKING = "speaking"  # the bot answers
    OVERLAP = "overlap"  # the bot answers and the user speaks


class Event(Enum):
    """What can happen."""

    SPEECH_START = "speech-start"  # voice activity begins
    CONTINUE = "continue"  # state 0: the user may go on: keep listening
    RESPOND = "respond"  # state 1: the user has finished, answer
    DISMISS = "dismiss"  # state 2: the speech ended and wants no answer
    DROP = "drop"  # the turn is given up: no decision, nothing heard, cleared
    INPUT_END = "input-end"  # the turn is over: answer what was heard
    REPLY_START = "reply-start"  # a typed message, or a turn that waited, is to be answered
    REPLY_DONE = "reply-done"  # the bot has said everything
    STOP = "stop"  # the application ends whatever goes on


_S, _E = DialogueState, Event
TRANSITIONS: dict[tuple[DialogueState, Event], DialogueState] = {
    (_S.IDLE, _E.SPEECH_START): _S.LISTENING,
    (_S.LISTENING, _E.CONTINUE): _S.LISTENING,
    (_S.LISTENING, _E.RESPOND): _S.SPEAKING,
    (_S.LISTENING, _E.INPUT_END): _S.SPEAKING,
    (_S.LISTENING, _E.DISMISS): _S.IDLE,
    (_S.LISTENING, _E.DROP): _S.IDLE,
    (_S.IDLE, _E.REPLY_START): _S.SPEAKING,
    (_S.SPEAKING, _E.REPLY_START): _S.SPEAKING,
    (_S.SPEAKING, _E.SPEECH_START): _S.OVERLAP,
    (_S.SPEAKING, _E.REPLY_DONE): _S.IDLE,
    (_S.OVERLAP, _E.CONTINUE): _S.OVERLAP,
    (_S.OVERLAP, _E.RESPOND): _S.SPEAKING,  # interrupted: the new answer replaces the old one
    (_S.OVERLAP, _E.INPUT_END): _S.SPEAKING,
    (_S.OVERLAP, _E.DISMISS): _S.SPEAKING,
    (_S.OVERLAP, _E.DROP): _S.SPEAKING,
    (_S.OVERLAP, _E.REPLY_DONE): _S.LISTENING,  # the copy of the caches becomes the truth
    **{(state, _E.STOP): _S.IDLE for state in _S},
}


def transition(state: DialogueState, event: Event) -> DialogueState:
    """The state after an event.

    Raises:
        ValueError: The event cannot happen in this state (a mistake of the caller).
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"event {event.value} cannot happen while {state.value}") from None


@dataclass(frozen=True)
class StateProbabilities:
    """What the state head says about one chunk; the three sum to 1."""

    continue_: float  # state 0
    respond: float  # state 1
    dismiss: float  # state 2


@config
class StateRule:
    """When the probabilities of a chunk end a turn."""

    respond_threshold: float = 0.5  # state 1 must exceed it; above 1: never without a silence
    respond_fall: float = 0.0  # what respond_threshold loses with each second of silence
    dismiss_threshold: float = 0.5  # state 2 must exceed it; looked at first
    smoothing: int = 1  # chunks whose probabilities are averaged, the newest included
    min_chunks: int = 0  # chunks of a turn before it can end

    def __post_init__(self) -> None:
        thresholds = {"respond_threshold": (0, None), "dismiss_threshold": (0, None)}
        check_ranges(self, "states", **thresholds, smoothing=(1, None), min_chunks=(0, None))
        if not 0.0 <= self.respond_fall <= 100.0:
            raise ConfigError(f"states.respond_fall is {self.respond_fall}",
                              possible="0 (off) to 100 a second")  # fmt: skip

    def respond_after(self, quiet_ms: float) -> float:
        """What the probability of state 1 must exceed after a silence of so many ms."""
        fallen = self.respond_threshold - self.respond_fall * quiet_ms / 1000
        return max(fallen, min(self.respond_threshold, LEAST))


def decide(rule: StateRule, recent: list[StateProbabilities], quiet_ms: float = 0.0) -> Event:
    """CONTINUE, RESPOND or DISMISS.

    Args:
        rule: When a turn ends.
        recent: The probabilities of the turn's chunks, oldest first.
        quiet_ms: Silence behind the newest voice of the turn.
    """
    if not recent or len(recent) < rule.min_chunks:
        return Event.CONTINUE
    window = recent[-max(rule.smoothing, 1) :]
    if sum(p.dismiss for p in window) / len(window) > rule.dismiss_threshold:
        return Event.DISMISS
    if sum(p.respond for p in window) / len(window) > rule.respond_after(quiet_ms):
        return Event.RESPOND
    return Event.CONTINUE
