"""What a pool counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from fo_core.dialogue import events as ev


@dataclass
class PoolStats:
    """What a pool has done; the counters only grow."""

    sessions: int = 0  # open now
    working: int = 0  # of them, with work to do
    opened: int = 0
    closed: Counter[str] = field(default_factory=Counter)  # by reason
    replies: Counter[str] = field(default_factory=Counter)  # by status
    underruns: int = 0  # audio that came after all before it had been played
    # runs of a model, by kind of step: "LLMRequest", "DecoderRequest"
    batches: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)  # in them
    # spent in them, and in "advance"
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    # replies begun in pauses: "begun", "committed", "dropped" (of closed sessions, too)
    speculations: Counter[str] = field(default_factory=Counter)
    # computed in them before their turn was over, by outcome
    speculation_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    discarded_tokens: Counter[str] = field(default_factory=Counter)  # "text", "speech": for nothing

    def see(self, event: ev.DuplexEvent) -> None:
        """Count what happened in a session."""
        if isinstance(event, ev.ReplyDone):
            self.replies[event.status] += 1
            self.underruns += event.usage.underruns
        elif isinstance(event, ev.SpeculationBegun):
            self.speculations["begun"] += 1
        elif isinstance(event, ev.SpeculationEnded):
            self.speculations[event.outcome] += 1
            self.speculation_seconds[event.outcome] += event.milliseconds / 1000
            if event.outcome == "dropped":
                self.discarded_tokens["text"] += event.text_tokens
                self.discarded_tokens["speech"] += event.speech_tokens
