"""How far a reply has been played to the user, as far as one can know."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fo_core.dialogue.commands import Truncate
from fo_core.dialogue.history import Spoken
from fo_core.streaming import SAMPLE_RATE


@dataclass
class Underruns:
    """How often audio came after what was made before it had been played.

    Playing is taken to begin with the first audio and to go on without a break, but for a pause.
    """

    count: int = 0
    seconds: float = 0.0  # of silence, together
    _end: float = 0.0  # when what was made will have been played, time.monotonic()
    _paused: float | None = None  # when it began to stand still

    def add(self, seconds: float, now: float) -> None:
        """So much audio comes at a time."""
        played = now if self._paused is None else self._paused
        if self._end and played > self._end:
            self.count += 1
            self.seconds += played - self._end
        self._end = max(played, self._end) + seconds

    def pause(self, now: float) -> None:
        """Nothing is played from now on."""
        self._paused = now if self._paused is None else self._paused

    def resume(self, now: float) -> None:
        """It goes on: the pause was no gap."""
        if self._paused is not None and self._end:
            self._end += now - self._paused
        self._paused = None


@dataclass
class Playback:
    """The playback position of one reply.

    A user interface that tells how much it played moves the position (:meth:`tell`). Without such
    words it is taken to play in real time from the first audio on, and to wait where the audio is
    not made yet, and while it is paused.

    Args:
        rate: Samples a second of the reply.
    """

    rate: int
    made: int = 0  # samples of the reply so far
    done: bool = False  # nothing more will be made
    spoken: list[Spoken] = field(default_factory=list)  # of every piece of the answer
    truncated: Truncate | None = None  # the user heard no more than that, whatever is still made
    underruns: Underruns = field(default_factory=Underruns)
    _position: float = 0.0
    _clock: int = 0  # user samples at which the position was what it is
    _told: bool = False
    _paused: bool = False

    def start(self, clock: int) -> None:
        """What was made so far is handed out only now, at a time in user samples."""
        self._position, self._clock, self.underruns = 0.0, clock, Underruns()
        if self.made:
            self.underruns.add(self.made / self.rate, time.monotonic())

    def begin_part(self) -> None:
        """The audio of the next piece of the answer begins."""
        self.spoken.append(Spoken(self.made, self.made))

    def add(self, samples: int, clock: int) -> int:
        """More audio, at a time in user samples; its first reply sample."""
        self.position(clock)
        self.underruns.add(samples / self.rate, time.monotonic())
        start, self.made = self.made, self.made + samples
        self.spoken[-1].stop = self.made
        return start

    def position(self, clock: int) -> int:
        """Reply samples played at a time in user samples."""
        if not self._told:
            passed = 0 if self._paused else max(0, clock - self._clock) * self.rate / SAMPLE_RATE
            self._position = min(float(self.made), self._position + passed)
            self._clock = max(self._clock, clock)
        return int(self._position)

    def pause(self, clock: int) -> None:
        """It stands still from a time in user samples on."""
        self.position(clock)
        self._paused = True
        self.underruns.pause(time.monotonic())

    def resume(self, clock: int) -> None:
        """It goes on, at a time in user samples, with the sample after the last one."""
        self.position(clock)
        self._paused = False
        self.underruns.resume(time.monotonic())

    def tell(self, position: int) -> None:
        """The user interface has played ``position`` samples."""
        if self.truncated is not None:
            return
        self._told = True
        self._position = float(min(max(position, int(self._position)), self.made))

    def truncate(self, command: Truncate) -> None:
        """The user interface stopped playing there."""
        self._told, self.truncated = True, command
        self._position = float(min(max(command.samples, 0), self.made))

    def ahead(self, clock: int) -> float:
        """Seconds of audio that are made and not played."""
        return (self.made - self.position(clock)) / self.rate

    def over(self, clock: int) -> bool:
        """Whether the reply was made and played to its end."""
        whole = self.truncated is not None or self.position(clock) >= self.made
        return self.done and whole
