"""A loaded model that talks: answer a recording, a duplex session, a pool of users.

The ``fo`` program loads its models by the same functions (:mod:`fo_core.api.network`), without
what Hugging Face's hub needs at a start.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fo_core.api.hub_model import HubModel
from fo_core.api.network import load_network
from fo_core.errors import AudioError, DataError
from fo_core.shipped import model_folder
from fo_core.streaming import SAMPLE_RATE

if TYPE_CHECKING:
    from fo_core.dialogue.drivers.answer import FileAnswer
    from fo_core.dialogue.duplex import Duplex
    from fo_core.dialogue.sessions.pool import Pool
    from fo_core.dialogue.settings import DialogueConfig
    from fo_core.models.freeze_omni import FreezeOmni
    from fo_core.models.voices import VoiceChoice

Weights = Literal["auto", "same", "fp16", "bf16", "int8"]
Recording = str | os.PathLike[str] | np.ndarray


@dataclass(frozen=True)
class Answer:
    """What a model replied."""

    text: str  # as the LLM wrote it
    audio: np.ndarray  # float32 [S] in [-1, 1]; empty where nothing was spoken
    sample_rate: int  # of the audio, Hz
    # "respond": the state head ended the question; "input-end": the recording did; "dismiss": the
    # speech wants no answer; "unheard": no speech was heard, so nothing was answered; "text": typed
    ended_by: str
    first_audio_ms: float  # from the end of the question to the first audio
    rtf: float  # time to make the reply over its length; below 1 is real time

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the audio to a ``.wav`` or ``.flac`` file.

        Raises:
            AudioError: There is no audio, or the file cannot be written.
        """
        from fo_core.io import audio

        if not self.audio.size:
            raise AudioError("the model spoke nothing: there is no audio to save")
        audio.write(Path(path), self.audio, self.sample_rate)


class Model(HubModel):
    """A model that is ready to talk; made by :func:`load` or ``Model.from_pretrained``.

    Args:
        network: All its parts, packed for inference.
        dialogue: How it talks and takes turns.
        folder: Where it was loaded from; what ``save_pretrained`` and ``push_to_hub`` take.
    """

    def __init__(
        self, network: FreezeOmni, dialogue: DialogueConfig, folder: Path | None = None
    ) -> None:
        self.network, self.dialogue, self.folder = network, dialogue, folder

    @classmethod
    def from_folder(cls, folder: Path, weights: str, device: str, settings: Sequence[str]) -> Model:
        """Load a model folder; see :func:`load`."""
        from fo_core.dialogue.settings import read_dialogue

        dialogue = read_dialogue(folder, settings)
        return cls(load_network(folder, dialogue, weights, device), dialogue, folder)

    @property
    def sample_rate(self) -> int:
        """Of the speech it makes, Hz."""
        return self.network.codec.sample_rate

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of its voices, its own first."""
        from fo_core.models.voices import names

        return names(self.network.config)

    def answer(
        self,
        question: Recording,
        *,
        sample_rate: int = SAMPLE_RATE,
        channel: int | None = None,
        system: str | None = None,
        speak: bool = True,
        voice: VoiceChoice = None,
    ) -> Answer:
        """Hear a recorded question, streaming inside, and answer it.

        Args:
            question: A sound file of any format, or a wave ``[S]`` in [-1, 1].
            sample_rate: Of a wave, Hz; a file has its own.
            channel: Of a file with several; None: their mean.
            system: System text instead of the model's own.
            speak: False: the answer is text only.
            voice: Name of one of :attr:`voices`, or global tokens; None: the model's own.

        Raises:
            AudioError: The recording cannot be read, is empty or has no one channel.
            ConfigError: The model has no such voice.
        """
        import torch

        from fo_core.dialogue.drivers.answer import answer_wave

        wave = torch.from_numpy(_wave(question, sample_rate, channel))
        return _answer(answer_wave(self.network, wave, self.dialogue, system, speak, voice))

    def answer_text(
        self,
        question: str,
        *,
        system: str | None = None,
        speak: bool = True,
        voice: VoiceChoice = None,
    ) -> Answer:
        """Answer a typed question.

        Args:
            question: What is asked.
            system: System text instead of the model's own.
            speak: False: the answer is text only.
            voice: Name of one of :attr:`voices`, or global tokens; None: the model's own.

        Raises:
            DataError: The question is empty.
            ConfigError: The model has no such voice.
        """
        from fo_core.dialogue.drivers.answer import ask_text, file_talk

        if not question.strip():
            raise DataError("the question is empty", do="ask something")
        talk = file_talk(self.network, self.dialogue, system, speak, voice)
        return _answer(ask_text(talk, question))

    def session(
        self, *, system: str | None = None, speak: bool = True, voice: VoiceChoice = None
    ) -> Duplex:
        """A full-duplex dialogue with one user, driven by the caller: sound in, events out.

        Args:
            system: System text instead of the model's own.
            speak: False: replies are text only.
        """
        from fo_core.dialogue.duplex import Duplex

        return Duplex(self.network, self.dialogue, system=system, voice=voice, speak=speak)

    def pool(self, max_sessions: int = 8, workers: int = 1) -> Pool:
        """Many users on this model at a time, by continuous batching.

        Args:
            max_sessions: Users at a time.
            workers: Threads that share the weights.
        """
        from fo_core.dialogue.sessions.pool import Pool, PoolConfig

        limits = PoolConfig(max_sessions=max_sessions, workers=workers)
        return Pool(self.network, self.dialogue, limits)


def load(
    model: str | os.PathLike[str] = "fo-smol",
    *,
    weights: Weights = "auto",
    device: str = "auto",
    settings: Sequence[str] = (),
) -> Model:
    """Load a model that talks.

    Args:
        model: A model folder, ``fo-smol`` (ships with the package), ``latest`` (the newest in
            ``runs/``), or ``user/repo[@revision]`` of the hub; whatever
            :func:`fo_core.shipped.model_folder` finds.
        weights: Precision of the weights on a CPU. "auto": the quickest for the LLM and for the
            speech decoder, measured on this machine once, fp16 for the rest; "same" for a published
            checkpoint that is to answer exactly as it was published.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto": cuda where there is one.
        settings: ``a.b=c`` over the folder's ``dialogue.json``.

    Raises:
        CheckpointError: There is no such model, or a part that talks is not trained.
        ConfigError: A setting is wrong.
        FoError: There is no such device.
    """
    return Model.from_folder(model_folder(Path(model)), weights, device, settings)


def _answer(found: FileAnswer) -> Answer:
    return Answer(
        found.text,
        found.wave.numpy(),
        found.sample_rate,
        found.ended_by,
        found.timings.first_audio_ms,
        found.timings.rtf,
    )


def _wave(question: Recording, rate: int, channel: int | None) -> np.ndarray:
    """A recording as float32 [S] at 16 kHz."""
    from fo_core.io import audio

    if not isinstance(question, np.ndarray):
        return audio.read(Path(question), SAMPLE_RATE, channel=channel)
    if question.ndim != 1 or not question.size:
        raise AudioError(
            f"the question is an array of shape {list(question.shape)}",
            possible="one channel, float32 [S] in [-1, 1], not empty",
        )
    wave = question.astype(np.float32, copy=False)
    return wave if rate == SAMPLE_RATE else audio.resample(wave, rate, SAMPLE_RATE)
