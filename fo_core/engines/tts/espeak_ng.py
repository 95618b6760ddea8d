"""espeak-ng: the formant synthesiser (a hundred languages, 22.05 kHz), run as a command."""

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
INSTALL = "apt-get install espeak-ng"
_CODES = {"zh": "cmn"}  # where its code of a language is another one
WORDS_A_MINUTE = 165  # its speed at 1.0


class Engine:
    """Deterministic and very fast.

    Args:
        timeout: Seconds after which a sentence is given up.

    Raises:
        EngineError: There is no ``espeak-ng`` command on this machine.
    """

    rate = 22050

    def __init__(self, timeout: float = 30.0) -> None:
        command = shutil.which("espeak-ng")
        if command is None:
            raise EngineError(
                "the command espeak-ng is not on this machine",
                possible="the engines flite, piper, kokoro, edge-tts",
                do=INSTALL,
            )
        self.command, self.timeout = command, timeout
        self._voices: list[str] = []

    def voices(self, language: str = "") -> list[str]:
        """Language codes, en-us first; ``+f2`` and the like after one change its timbre."""
        if not self._voices:
            listed = subprocess.run(
                [self.command, "--voices"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self.timeout,
                check=False,
            ).stdout.splitlines()[1:]
            codes = sorted({line.split()[1] for line in listed if len(line.split()) > 1})
            self._voices = ["en-us", *(code for code in codes if code != "en-us")]
        return of_language(self._voices, _CODES.get(language, language))

    def synthesize(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at 22.05 kHz.

        Raises:
            EngineError: Bad request, or espeak-ng failed.
        """
        check_request(self, "espeak-ng", text, voice.partition("+")[0], speed)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "speech.wav"
            command = [self.command, "-v", voice, "-s", str(round(WORDS_A_MINUTE * speed))]
            command += ["-w", str(out), "--stdin"]
            try:
                done = subprocess.run(
                    command,
                    input=text.replace("\0", " "),
                    capture_output=True,
                    timeout=self.timeout,
                    check=False,
                    encoding="utf-8",
                )
            except (subprocess.TimeoutExpired, OSError) as error:
                raise EngineError(f"espeak-ng did not speak {text!r}: {error}") from error
            if done.returncode or not out.exists():
                raise EngineError(f"espeak-ng failed on {text!r}: {done.stderr.strip()}")
            return audio.read(out, rate=self.rate, min_seconds=0)
