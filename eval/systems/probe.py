"""A model folder, link by link: what :mod:`eval.qa` asks of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from eval.qa import Spoken
from fo_core.config import replace
from fo_core.dialogue.drivers.answer import answer_wave
from fo_core.dialogue.drivers.transcribe import Transcript, transcribe
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.events import ChunkState
from fo_core.dialogue.settings import read_dialogue
from fo_core.models import freeze_omni
from fo_core.models.packing import pack_for_inference
from fo_core.streaming import CHUNK_SAMPLES


class ModelProbe:
    """One loaded model; every answer starts a session of its own.

    Args:
        folder: A model folder.
        device: Where the model runs.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self.model = pack_for_inference(freeze_omni.load(folder, device))
        self.dialogue = read_dialogue(folder)
        self._heard: tuple[np.ndarray, Transcript] | None = None  # of the wave asked about last

    def _transcript(self, wave: np.ndarray) -> Transcript:
        if self._heard is None or self._heard[0] is not wave:
            self._heard = (
                wave,
                transcribe(self.model, torch.from_numpy(wave), vad=self.dialogue.duplex.vad),
            )
        return self._heard[1]

    def hear(self, wave: np.ndarray) -> str:
        """What the streaming encoder's CTC head hears in a wave [S] at 16 kHz."""
        return self._transcript(wave).ctc

    def repeat(self, wave: np.ndarray) -> str:
        """What the LLM repeats from the adapter's vectors."""
        return self._transcript(wave).llm

    def states(self, wave: np.ndarray, chunks: int) -> list[int]:
        """Best state of each of the first ``chunks`` chunks of 160 ms; none ends a turn."""
        found = self.chunk_states(wave, chunks)
        return [int(np.argmax((chunk.continue_, chunk.respond, chunk.dismiss))) for chunk in found]

    def chunk_states(self, wave: np.ndarray, chunks: int) -> list[ChunkState]:
        """What the state head says of each, and the silence behind the voice; likewise."""
        turn = replace(self.dialogue.duplex.turn, detect="manual")
        duplex = Duplex(self.model, self.dialogue, turn=turn, speak=False)
        wave = np.pad(wave, (0, max(0, chunks * CHUNK_SAMPLES - len(wave))))
        duplex.push(wave[: chunks * CHUNK_SAMPLES])
        return [event for event in duplex.run() if isinstance(event, ChunkState)]

    def answer(self, wave: np.ndarray) -> Spoken:
        """The spoken answer."""
        answer = answer_wave(self.model, torch.from_numpy(wave), self.dialogue)
        audio = answer.wave.float().cpu().numpy()
        timings = answer.timings
        first = timings.first_audio_ms if len(audio) else None
        rtf = timings.rtf if len(audio) else None
        return Spoken(answer.text.strip(), audio, first, rtf, answer.ended_by)

    @torch.inference_mode()
    def codec(self, wave: np.ndarray) -> np.ndarray:
        """A wave [S] at 24 kHz there and back."""
        padded = torch.from_numpy(np.pad(wave, (0, -len(wave) % self.model.codec.hop)))
        tokens, voice = self.model.codec.encode(padded[None].to(self.model.device))
        return self.model.codec.decode(tokens, voice)[0, : len(wave)].float().cpu().numpy()
