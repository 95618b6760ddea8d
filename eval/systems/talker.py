"""A loaded model that answers questions, for evaluations: typed ones, spoken ones."""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fo_core.config import load, replace, to_dict
from fo_core.dialogue import commands as do
from fo_core.dialogue.drivers.answer import Timings, ask_wave, file_talk
from fo_core.dialogue.settings import DialogueConfig, read_dialogue
from fo_core.dialogue.speech.segmenter import Segmenter
from fo_core.dialogue.speech.writer import Writer
from fo_core.engines.llm.transformers import shared_length
from fo_core.models import freeze_omni
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm import chat
from fo_core.models.llm.state import LLMState
from fo_core.models.model_config import LLMConfig
from fo_core.models.packing import pack_for_inference
from fo_core.sampling import SamplingConfig

END = "<|im_end|>"


@dataclass(frozen=True)
class Reply:
    """What came back for a spoken question."""

    text: str
    wave: np.ndarray  # float32 [S] at the codec's rate; empty where nothing was spoken
    rate: int  # Hz
    finished: bool  # the LLM ended the answer by itself
    endless: bool  # a piece of speech was cut at its limit
    ended_by: str  # as of a FileAnswer; "unheard": nothing was heard, so nothing is answered
    first_audio_ms: float | None  # from the end of the question to the first sound
    heard: str = ""  # words of the question, where the ears tell them
    work_seconds: float = 0.0  # from the end of the question to the last sound
    legs: Mapping[str, float] = field(default_factory=dict)  # of the time to first audio, ms


class Talker:
    """A model folder that is opened when it is first needed.

    Args:
        folder: The model.
        device: Where it runs.
        max_new_tokens: Longest answer, typed or spoken.
        seed: Of the speech tokens.
        overrides: ``a.b=c`` over the model's ``dialogue.json``; the text is greedy unless said.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        max_new_tokens: int = 128,
        seed: int = 0,
        overrides: Sequence[str] = (),
    ) -> None:
        self.folder, self.device, self.max_new_tokens = folder, device, max_new_tokens
        cfg = read_dialogue(folder)
        cfg = replace(cfg, seed=seed, sampling=SamplingConfig(top_k=1))
        segmenter = replace(cfg.segmenter, max_tokens=max_new_tokens)
        told = to_dict(replace(cfg, segmenter=segmenter))
        self.dialogue = load(DialogueConfig, told, overrides)

    @functools.cached_property
    def model(self) -> FreezeOmni:
        """The loaded model.

        Raises:
            CheckpointError: It cannot be loaded.
        """
        return pack_for_inference(freeze_omni.load(self.folder, self.device))

    def ask(
        self, wave: np.ndarray, speak: bool = True, earlier: Sequence[np.ndarray] = ()
    ) -> Reply:
        """Hear a question [S] at 16 kHz, streaming, and answer it.

        Args:
            wave: The question.
            speak: False: in text only.
            earlier: Questions of the same talk before it; they are answered in text.

        Raises:
            CheckpointError: A part that is needed is not trained.
        """
        self.model.require("speech_encoder", "adapter")
        talk = file_talk(self.model, self.dialogue, speak=speak)
        if earlier:
            talk.send(do.Configure(speak=False))
        for before in earlier:
            ask_wave(talk, torch.from_numpy(before))
        if earlier:
            talk.send(do.Configure(speak=speak))
        found = ask_wave(talk, torch.from_numpy(wave))
        return Reply(
            found.text.strip(),
            found.wave.float().cpu().numpy(),
            found.sample_rate,
            found.finished,
            found.endless,
            found.ended_by,
            found.timings.first_audio_ms if found.wave.numel() else None,
            found.question.strip(),
            found.timings.reply_ms / 1000,
            _legs(found.timings) if found.wave.numel() else {},
        )

    @torch.inference_mode()
    def answer_by_sentence(self, question: str) -> Generator[str, None, tuple[str, bool]]:
        """The frozen LLM's greedy answer to a typed question, sentence by sentence as written.

        The same as :meth:`answer_typed`, which answers many at once: system text and examples
        before the question, nothing that was trained on speech.

        Returns:
            The whole text, and whether the LLM ended it by itself.
        """
        llm, cfg = self.model.llm, self.dialogue
        ids = self._typed_ids(question)
        before = self._read_before
        state = before.fork(len(ids) - before.length + self.max_new_tokens)
        hidden, state = llm.step(llm.embed(ids[before.length :]), state)
        segmenter = Segmenter(llm.tokenizer, replace(cfg.segmenter, early_stops=""))
        writer = Writer(llm, state, hidden[:, -1:], segmenter, cfg.sampling)
        for part in writer.parts():
            yield part.segment.text
        return writer.answer.text.strip(), writer.answer.ended

    def _typed_ids(self, question: str) -> list[int]:
        cfg, tokenizer = self.model.config.llm, self.model.llm.tokenizer
        messages = chat.dialogue(system_text(cfg), cfg.shots, question)
        return chat.encode(tokenizer, chat.render_any(tokenizer, messages))

    def prepare(self) -> None:
        """Load the model and read what all typed questions come after, before one is there."""
        _ = self._read_before

    @functools.cached_property
    @torch.inference_mode()
    def _read_before(self) -> LLMState:
        """The LLM's state behind what all typed questions come after."""
        llm = self.model.llm
        one, other = (self._typed_ids(text) for text in ("Who?", "A long way"))
        shared = shared_length([one, other])
        state = llm.init_state(1, max(shared, 1))
        if shared:
            llm.step(llm.embed(one[:shared]), state)
        return state

    def answer_typed(self, questions: Sequence[str], batch: int = 48) -> list[Any]:
        """The frozen LLM's own greedy answers, after the model's own system text and examples."""
        from fo_core.engines.llm.transformers import Engine

        cfg = self.model.config.llm
        asked = [chat.dialogue(system_text(cfg), cfg.shots, text) for text in questions]
        return Engine(self.model.llm).answer(asked, self.max_new_tokens, batch)


def _legs(timings: Timings) -> dict[str, float]:
    """The parts of the time to first audio, as the paper's table 4 has them, ms."""
    found = {
        "first_text": timings.prefill_ms + timings.first_text_ms,
        "decoder_prefill": timings.decoder_prefill_ms,
        "first_tokens": timings.first_tokens_ms,
        "codec": timings.codec_ms,
    }
    return {name: round(value, 1) for name, value in found.items()}


def system_text(cfg: LLMConfig) -> str | None:
    """The system text that the model's spoken questions come after."""
    if cfg.template is None:
        return cfg.system
    return cfg.template.partition(END)[0].rpartition("<|im_start|>system\n")[2] or None


class TextLLM:
    """A text LLM by itself, with its own chat template and nothing before the question.

    Args:
        spec: Folder, hub id, ``.gguf`` file or ``embedded``.
        dtype: Of its weights.
        device: Where it runs.
        max_new_tokens: Longest answer.
        system: System text; None: the template's own, if it has one.
    """

    def __init__(
        self,
        spec: str,
        dtype: str = "bfloat16",
        device: str = "cpu",
        max_new_tokens: int = 128,
        system: str | None = None,
    ) -> None:
        self.spec, self.dtype, self.device = spec, dtype, device
        self.max_new_tokens, self.system = max_new_tokens, system

    @functools.cached_property
    def engine(self) -> Any:
        """The loaded LLM.

        Raises:
            CheckpointError: It cannot be loaded.
        """
        from fo_core.engines.llm.transformers import Engine

        return Engine(self.spec, self.dtype, self.device)

    def answer_typed(self, questions: Sequence[str], batch: int = 48) -> list[Any]:
        """Its greedy answers."""
        asked = [chat.dialogue(self.system, (), text) for text in questions]
        return self.engine.answer(asked, self.max_new_tokens, batch)
