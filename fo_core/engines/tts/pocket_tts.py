"""Pocket TTS by Kyutai (100 M parameters, about real time on a CPU, 24 kHz).

A clip of a few seconds gives its speaker's voice ("clip:FILE"). The package loads its weights from
the hub the first time.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np
import torch
from pocket_tts import TTSModel

from fo_core.engines.tts import CLIP, check_request, clip_of
from fo_core.errors import EngineError
from fo_core.io import audio

EXTRA = "pocket"
LONGEST_CLIP = 30.0  # s; what follows is not used
VOICES = {
    "en": ["alba", "marius", "javert", "jean", "fantine", "cosette", "eponine", "azelma"],
    "it": ["giovanni"],
    "es": ["lola"],
    "de": ["juergen"],
    "pt": ["rafael"],
    "fr": ["estelle"],
    "nl": ["daan"],
}  # fmt: skip
NAMES = {
    "en": "english",
    "fr": "french",
    "de": "german",
    "pt": "portuguese",
    "it": "italian",
    "es": "spanish",
    "nl": "dutch",
}


class Engine:
    """Voices of its own and of clips; the draws of a sentence come from its text and voice.

    A speed other than 1 resamples the sound, which moves the pitch along.

    Args:
        language: Language code of the weights.
        config: A YAML of other weights, as the package takes it; None: the language's own.
        temperature: Of its sampling; None: the model's own.

    Raises:
        EngineError: The language is unknown, or the weights cannot be loaded.
    """

    clones = True

    def __init__(
        self, language: str = "en", config: str | None = None, temperature: float | None = None
    ) -> None:
        if language not in NAMES:
            raise EngineError(
                f"pocket-tts does not speak {language!r}", possible=", ".join(sorted(NAMES))
            )
        wanted = {"config": config} if config else {"language": NAMES[language]}
        try:
            self._model = TTSModel.load_model(**wanted, temp=temperature)
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(
                f"pocket-tts cannot load its weights: {error}",
                possible="the engines hibari, piper, kokoro, flite, espeak-ng",
                do="check the internet connection; the weights come from the hub once",
            ) from error
        self.rate = int(self._model.sample_rate)
        self.language = language
        self._state = functools.lru_cache(maxsize=64)(self._load_state)

    def voices(self, language: str = "") -> list[str]:
        """The package's own voices of the language of the weights (any clip is one, too)."""
        wanted = language.replace("_", "-").split("-")[0].lower() or self.language
        return list(VOICES.get(wanted, [])) if wanted == self.language else []

    def synthesize(self, text: str, voice: str = "alba", speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at ``rate``.

        Raises:
            EngineError: Bad request, a clip that cannot be used, or no sound came.
            AudioError: The clip is not sound.
        """
        check_request(self, "pocket-tts", text, voice, speed)
        try:
            state = self._state(voice)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(zlib.crc32(f"{voice}\n{text}".encode()))
                wave = self._model.generate_audio(state, text)
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"pocket-tts could not speak {text!r}: {error}") from error
        samples = wave.detach().cpu().numpy().astype(np.float32).reshape(-1)
        if not len(samples):
            raise EngineError(f"pocket-tts gave no sound for {text!r}")
        return audio.resample(samples, round(self.rate * speed), self.rate)

    def _load_state(self, voice: str) -> Any:
        if not voice.startswith(CLIP):
            return self._model.get_state_for_audio_prompt(voice)
        wave = audio.read(clip_of(voice), self.rate, max_seconds=3600, min_seconds=1.0)
        clip = torch.from_numpy(wave[: round(LONGEST_CLIP * self.rate)])
        return self._model.get_state_for_audio_prompt(clip[None])  # [channels = 1, S]
