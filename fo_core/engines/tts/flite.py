"""Flite: Debian's small synthesiser (fifty times real time, 16 kHz), run as a command."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from fo_core.engines.tts import check_request, of_language
from fo_core.errors import EngineError
from fo_core.io import audio

EXTRA = ""  # no Python package: a Debian one
INSTALL = "apt-get install flite"
VOICES = ["slt", "rms", "awb", "kal16"]  # the 16 kHz voices of flite's own list


class Engine:
    """Deterministic; a process per sentence, so several can run side by side.

    Args:
        timeout: Seconds after which a sentence is given up.

    Raises:
        EngineError: There is no ``flite`` command on this machine.
    """

    rate = 16000

    def __init__(self, timeout: float = 30.0) -> None:
        command = shutil.which("flite")
        if command is None:
            raise EngineError(
                "the command flite is not on this machine",
                possible="the engines hibari, piper, kokoro, espeak-ng, edge-tts",
                do=INSTALL,
            )
        self.command, self.timeout = command, timeout

    def voices(self, language: str = "") -> list[str]:
        """The four 16 kHz voices, all English."""
        return list(VOICES) if of_language(["en"], language) else []

    def synthesize(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at 16 kHz.

        Raises:
            EngineError: Bad request, or flite failed.
        """
        check_request(self, "flite", text, voice, speed)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "speech.wav"
            command = [self.command, "-voice", voice, "--setf", f"duration_stretch={1 / speed:.4f}"]
            command += ["-t", " ".join(text.replace("\0", " ").split()), "-o", str(out)]
            try:
                done = subprocess.run(
                    command,
                    capture_output=True,
                    timeout=self.timeout,
                    check=False,
                    encoding="utf-8",
                    errors="replace",
                )
            except (subprocess.TimeoutExpired, OSError) as error:
                raise EngineError(f"flite did not speak {text!r}: {error}") from error
            if done.returncode or not out.exists():
                said = (done.stderr or done.stdout).strip()
                raise EngineError(f"flite failed on {text!r}: {said or done.returncode}")
            return audio.read(out, rate=self.rate, min_seconds=0)
