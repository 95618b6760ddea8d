"""Microphone and loudspeaker by PortAudio (sounddevice), imported when they are wanted."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fo_core.errors import EngineError
from fo_core.streaming import SAMPLE_RATE

BLOCK_SECONDS = 0.02
INSTEAD = "--input FILE, a recording in place of the microphone"


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise EngineError(
            "the microphone needs the package 'sounddevice'",
            possible=INSTEAD,
            do="pip install sounddevice (or the extra 'mic')",
        ) from error
    except OSError as error:
        raise EngineError(
            "the microphone needs the PortAudio library",
            possible=INSTEAD,
            do="apt-get install libportaudio2 (Debian, Ubuntu), or brew install portaudio (macOS)",
        ) from error
    return sounddevice


def devices() -> list[tuple[int, str, int, int]]:
    """Number, name, input channels and output channels of every device.

    Raises:
        EngineError: sounddevice or PortAudio is missing.
    """
    rows = _sounddevice().query_devices()
    return [
        (i, d["name"], d["max_input_channels"], d["max_output_channels"])
        for i, d in enumerate(rows)
    ]


class SoundCard:
    """An open microphone and loudspeaker; a context.

    Args:
        play: Gives the next samples [S] for the loudspeaker; called from PortAudio's thread.
        rate: Samples a second of the loudspeaker.
        microphone: Number or part of the name of the input device; None: the system's.
        loudspeaker: The same of the output device.

    Raises:
        EngineError: sounddevice, PortAudio or the device is missing, or it cannot be opened; also
            when the context is entered and it cannot be started.
    """

    def __init__(
        self,
        play: Callable[[int], np.ndarray],
        rate: int,
        microphone: int | str | None = None,
        loudspeaker: int | str | None = None,
    ) -> None:
        self._card = card = _sounddevice()
        self._streams: list[Any] = []
        self.blocks: queue.Queue[np.ndarray] = queue.Queue()  # heard: [320] at 16 kHz each
        self.lost = 0  # times that the sound card had to drop something

        def heard(data: np.ndarray, _frames: int, _time: Any, status: Any) -> None:
            self.lost += bool(status)
            self.blocks.put(data[:, 0].copy())

        def wanted(data: np.ndarray, frames: int, _time: Any, status: Any) -> None:
            self.lost += bool(status)
            data[:, 0] = play(frames)

        block = int(SAMPLE_RATE * BLOCK_SECONDS), int(rate * BLOCK_SECONDS)
        ear = SAMPLE_RATE, block[0], microphone, 1, "float32"
        mouth = rate, block[1], loudspeaker, 1, "float32"
        with self._refusing():
            self._streams.append(card.InputStream(*ear, callback=heard))
            self._streams.append(card.OutputStream(*mouth, callback=wanted))

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Where a stream cannot be opened or started, all are closed and the devices named."""
        try:
            yield
        except (self._card.PortAudioError, ValueError) as error:
            self._close()
            names = ", ".join(f"{i} {name}" for i, name, _, _ in devices()) or "none was found"
            raise EngineError(
                f"the microphone or the loudspeaker cannot be opened: {error}",
                possible=f"devices: {names}; {INSTEAD}",
            ) from error

    def _close(self) -> None:
        for stream in self._streams:
            stream.close()

    def __enter__(self) -> SoundCard:
        with self._refusing():
            for stream in self._streams:
                stream.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
