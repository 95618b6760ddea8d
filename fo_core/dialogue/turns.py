"""Who may speak when: settings of turn taking and of a duplex dialogue."""

from __future__ import annotations

from typing import Literal

from fo_core.config import config
from fo_core.errors import ConfigError

WINDOW_MS = 32.0  # of the voice activity detector


@config
class TurnConfig:
    """How the beginning and the end of a user's turn are found."""

    # "semantic": the state head ends a turn | "server": silence does | "manual": only commit() does
    detect: Literal["semantic", "server", "manual"] = "semantic"
    threshold: float = 0.5  # probability of voice above which a window of 32 ms counts as voice
    onset_ms: float = 64.0  # voice without a break before speech counts as begun
    silence_ms: float = 500.0  # silence after which speech counts as stopped; "server": ends a turn
    patience_ms: float = 4000.0  # "semantic": silence that ends a turn the state head never ended
    answer: bool = True  # reply by itself when a turn ends
    # while the bot speaks: "state": only a finished question stops it (paper) | "voice": any speech
    # does, at once | "never": the bot hears nothing while it speaks
    interrupt: Literal["state", "voice", "never"] = "state"
    idle_ms: float = 0.0  # silence after a reply that is reported once; 0 = never

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ConfigError(f"turn.threshold is {self.threshold}", possible="between 0 and 1")
        for name in ("onset_ms", "silence_ms", "patience_ms", "idle_ms"):
            if not 0.0 <= getattr(self, name) <= 600_000:
                raise ConfigError(
                    f"turn.{name} is {getattr(self, name)}", possible="0 to 600000 ms"
                )


@config
class DuplexConfig:
    """A dialogue in which both sides may speak at once."""

    turn: TurnConfig = TurnConfig()  # turn taking, unless a session asks for another
    vad: Literal["auto", "silero", "energy"] = "auto"  # voice activity detector
    max_turn_seconds: float = 60.0  # a longer turn of the user is ended
    context: int = 4096  # positions of the LLM's cache before the oldest turns are forgotten
    keep: float = 0.5  # share of ``context`` that the turns kept then may fill
    refeed: int = 64  # positions that are read again in one step when turns were forgotten

    def __post_init__(self) -> None:
        if self.context < 256:
            raise ConfigError(f"duplex.context is {self.context}", possible="256 or more positions")
        if not 0.0 < self.keep < 1.0:
            raise ConfigError(f"duplex.keep is {self.keep}", possible="between 0 and 1")
        if self.refeed < 1 or self.max_turn_seconds <= 0:
            raise ConfigError("duplex.refeed and duplex.max_turn_seconds must be above 0")
