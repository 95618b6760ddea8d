"""What arrives from a user, cut into chunks, and where the voice in it begins and ends.

Time is counted in samples; blocks may have any size. Commands wait between the blocks, so that
each takes effect exactly behind the sound that was pushed before it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fo_core.dialogue.commands import Queued
from fo_core.dialogue.settings import TurnConfig
from fo_core.engines.vad import WINDOW, Vad, VadState, make_vad
from fo_core.errors import AudioError
from fo_core.streaming import CHUNK_SAMPLES, SAMPLE_RATE

WINDOW_MS = 1000 * WINDOW / SAMPLE_RATE  # of the voice activity detector
HYSTERESIS = 0.15  # voice that began goes on down to this much below the threshold


def check_block(pcm: np.ndarray | Tensor) -> np.ndarray:
    """A block of samples as float32 [S].

    Raises:
        AudioError: It is not one-dimensional, not float, or holds NaN or infinite samples.
    """
    block = pcm.detach().cpu().numpy() if isinstance(pcm, Tensor) else np.asarray(pcm)
    if block.ndim != 1 or block.dtype.kind != "f":
        raise AudioError(
            f"a block of sound of shape {list(block.shape)} and type {block.dtype}",
            possible="float samples in [-1, 1], one channel, 16 kHz",
        )
    if not np.isfinite(block).all():
        raise AudioError("a block of sound holds samples that are not numbers")
    return np.clip(block, -1.0, 1.0).astype(np.float32)


class InputQueue:
    """Sound and commands in the order in which they came."""

    def __init__(self) -> None:
        self._items: deque[np.ndarray | Queued] = deque()
        self.waiting = 0  # samples that nobody took yet

    def push(self, block: np.ndarray) -> None:
        """Add sound."""
        if block.size:
            self._items.append(block)
            self.waiting += block.size

    def put(self, command: Queued) -> None:
        """Add a command."""
        self._items.append(command)

    def command(self) -> tuple[Queued, int] | None:
        """The first command with less than a chunk of sound before it, and how much that is.

        Nothing is taken: :meth:`done` takes the command when it was carried out.
        """
        before = 0
        for item in self._items:
            if not isinstance(item, np.ndarray):
                return item, before
            before += item.size
            if before >= CHUNK_SAMPLES:
                return None
        return None

    def done(self, command: Queued) -> None:
        """Take a command out."""
        index = next(i for i, item in enumerate(self._items) if item is command)
        del self._items[index]

    def has_chunk(self) -> bool:
        """Whether a whole chunk can be taken before the next command."""
        return self.waiting >= CHUNK_SAMPLES and self.command() is None

    def take(self, size: int) -> np.ndarray:
        """The first ``size`` samples, or what is there before the next command."""
        pieces: list[np.ndarray] = []
        while size and self._items and isinstance(self._items[0], np.ndarray):
            block = self._items[0]
            pieces.append(block[:size])
            if block.size > size:
                self._items[0] = block[size:]
            else:
                self._items.popleft()
            self.waiting -= pieces[-1].size
            size -= pieces[-1].size
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    def first(self, size: int) -> np.ndarray:
        """What :meth:`take` would give; it stays."""
        pieces: list[np.ndarray] = []
        for item in self._items:
            if not size or not isinstance(item, np.ndarray):
                break
            pieces.append(item[:size])
            size -= pieces[-1].size
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


@dataclass
class Voice:
    """Where the voice is, after a number of windows."""

    speaking: bool = False
    began: int = 0  # sample at which the voice began, while or after speaking
    ended: int = 0  # sample at which the newest voice ended
    run: int = 0  # windows of voice without a break
    quiet: int = 0  # windows without voice since the last one with it

    def see(self, voiced: bool, start: int, onset: int, silence: int) -> str | None:
        """One window at sample ``start``; "started", "stopped" or None."""
        if voiced:
            self.run, self.quiet, self.ended = self.run + 1, 0, start + WINDOW
            if not self.speaking and self.run >= max(onset, 1):
                self.speaking, self.began = True, start - (self.run - 1) * WINDOW
                return "started"
            return None
        self.run, self.quiet = 0, self.quiet + 1
        if self.speaking and self.quiet >= max(silence, 1):
            self.speaking = False
            return "stopped"
        return None

    def forget(self) -> None:
        """A turn ended: voice that goes on begins anew."""
        self.speaking, self.run, self.quiet = False, 0, 0


@dataclass
class AudioChunk:
    """One chunk with what the voice activity detector says about it."""

    start: int  # user sample
    wave: Tensor  # [2560]; the last of a stretch may be shorter
    started: bool = False  # the voice began in it
    stopped: bool = False  # the voice fell silent in it
    voiced: bool = False  # there is voice in it


@dataclass
class VadSegmenter:
    """Chunks of one user, the voice in them, and the chunks before it.

    Args:
        vad: Voice activity detector, shared.
        cfg: Thresholds.
        history: Chunks that are kept from before the voice began.
    """

    vad: Vad
    cfg: TurnConfig
    history: int
    voice: Voice = field(default_factory=Voice)
    position: int = 0  # samples that came
    _state: VadState | None = None
    _seen: list[float] = field(default_factory=list)  # of windows from ``position`` on
    _before: deque[Tensor] = field(default_factory=deque)

    def push(self, block: np.ndarray) -> AudioChunk:
        """The next chunk [S], S <= 2560, and the voice in it."""
        chunk = AudioChunk(self.position, torch.from_numpy(np.ascontiguousarray(block)))
        self.position += block.size
        if not block.size:
            return chunk
        seen, self._seen = self._seen, []
        found = seen + self._probabilities(chunk.wave[len(seen) * WINDOW :])
        for index, probability in enumerate(found):
            what = self._see(self.voice, probability, chunk.start + index * WINDOW)
            chunk.voiced |= self.voice.speaking and self.voice.run > 0
            chunk.started |= what == "started"
            chunk.stopped = what == "stopped" or (chunk.stopped and what != "started")
        return chunk

    @property
    def looked(self) -> int:
        """User sample up to which the voice was looked for."""
        return self.position + len(self._seen) * WINDOW

    def look(self, block: np.ndarray) -> int | None:
        """Look for the beginning of a voice in sound before it is pushed: sooner than its chunk.

        Args:
            block: What is there of the next chunk, [S] from ``position`` on.

        Returns:
            The user sample at which a voice began, if that became certain in whole windows that
            :meth:`look` had not seen; it looks no further then.
        """
        voice = dataclasses.replace(self.voice)
        for index in range(block.size // WINDOW):
            new = index == len(self._seen)
            if new:
                window = torch.from_numpy(block[index * WINDOW : (index + 1) * WINDOW])
                self._seen += self._probabilities(window)
            what = self._see(voice, self._seen[index], self.position + index * WINDOW)
            if new and what == "started":
                return voice.began
        return None

    def skip(self, samples: int) -> None:
        """Samples that nobody hears."""
        self.position += samples
        self._seen.clear()

    def _probabilities(self, wave: Tensor) -> list[float]:
        """Of voice in each window of a wave [S]."""
        if not wave.numel():
            return []
        if self._state is None:
            self._state = self.vad.init_state(1)
        windows = F.pad(wave, (0, -wave.numel() % WINDOW)).unsqueeze(0)
        found, self._state = self.vad.step(windows, self._state)
        return [float(probability) for probability in found[0]]

    def _see(self, voice: Voice, probability: float, start: int) -> str | None:
        """One window; "started", "stopped" or None."""
        level = self.cfg.threshold - (HYSTERESIS if voice.run else 0.0)
        onset = round(self.cfg.onset_ms / WINDOW_MS)
        silence = round(self.cfg.silence_ms / WINDOW_MS)
        return voice.see(probability > level, start, onset, silence)

    def keep(self, wave: Tensor) -> None:
        """A chunk that belongs to no turn, for the look-back."""
        if self.history and wave.numel() == CHUNK_SAMPLES:
            self._before.append(wave)
            while len(self._before) > self.history:
                self._before.popleft()

    def look_back(self) -> list[Tensor]:
        """The chunks before now that belong to no turn, oldest first; they are taken."""
        chunks = list(self._before)
        self._before.clear()
        return chunks


def holds_voice(
    wave: np.ndarray | Tensor, kind: str = "auto", cfg: TurnConfig | None = None
) -> bool:
    """Whether a voice is found anywhere in a wave [S] at 16 kHz.

    Args:
        wave: Samples in [-1, 1].
        kind: Voice activity detector: "auto", "silero" or "energy".
        cfg: Its thresholds.
    """
    segmenter = VadSegmenter(shared_vad(kind), cfg or TurnConfig(), 0)
    block = check_block(wave)
    chunks = np.split(block, range(CHUNK_SAMPLES, block.size, CHUNK_SAMPLES))
    return any(segmenter.push(chunk).voiced for chunk in chunks)


@functools.cache
def shared_vad(kind: str) -> Vad:
    """The voice activity detector of a kind; it keeps nothing of its users."""
    return make_vad(kind)
