"""A loaded model that speaks given texts, with parts of its speech decoder taken away.

The LLM reads the dialogue and the answer (teacher forcing), so the decoder gets the text and the
hidden states that it would get if the LLM had written this answer. The prefix and the pre-network
can be left out when speaking; nothing is trained anew for that, which the paper did for its table.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fo_core.config import replace
from fo_core.dialogue.settings import read_dialogue
from fo_core.dialogue.speech.segmenter import Segmenter
from fo_core.dialogue.speech.speaker import Speaker
from fo_core.dialogue.speech.writer import Part
from fo_core.errors import DataError
from fo_core.models import freeze_omni
from fo_core.models.llm.chat import encode
from fo_core.models.packing import pack_for_inference
from fo_core.training.losses.llm_rows import Dialogues


@dataclass(frozen=True)
class Variant:
    """Which parts of the speech decoder are used."""

    prefix: bool = True  # the LLM's hidden states
    pre_network: bool = True  # the two layers that read the text first


VARIANTS = {  # name -> parts, in the order of the paper's table
    "bare": Variant(False, False),
    "no-prefix": Variant(False, True),
    "no-pre-network": Variant(True, False),
    "full": Variant(True, True),
}


@dataclass(frozen=True)
class Speech:
    """A spoken text."""

    wave: np.ndarray  # float32 [S] at the codec's rate
    endless: bool  # a piece was cut at its limit
    work_seconds: float  # what it took


class _WithoutPrefix(Speaker):
    """A speaker that is not shown the LLM's hidden states."""

    def inputs(self, part: Part) -> tuple[Tensor, Tensor]:
        """As the speaker's, with an empty prefix [1, 0, D]."""
        text, prefix = super().inputs(part)
        return text, prefix[:, :0]


class Reader:
    """A model folder, loaded.

    Args:
        folder: The model.
        device: Where it runs.
        seed: Of the speech tokens; every text has its own stream of random numbers.

    Raises:
        CheckpointError: It has no trained speech decoder or codec.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", seed: int = 0) -> None:
        loaded = freeze_omni.load(folder, device)
        loaded.require("speech_decoder", "codec")
        self.model = pack_for_inference(loaded)
        self.dialogue, self.seed = read_dialogue(folder), seed
        self._dialogues = Dialogues(self.model)

    @property
    def rate(self) -> int:
        """Of the waves, Hz."""
        return self.model.codec.sample_rate

    @torch.inference_mode()
    def written(self, text: str, messages: Sequence[Mapping[str, str]]) -> list[Part]:
        """An answer as the LLM would hand it to the speech decoder.

        Args:
            text: The answer.
            messages: What came before it, the question last; none for a sentence that answers
                nothing.

        Raises:
            DataError: There is no question, or nothing to speak.
        """
        if messages and messages[-1].get("role") != "user":
            raise DataError("no question before the answer", do="write the item's messages")
        llm = self.model.llm
        parts = self._dialogues.parts(messages[:-1])
        question = encode(llm.tokenizer, messages[-1]["content"]) if messages else []
        ids = encode(llm.tokenizer, text)
        before = [*parts.system_ids, *parts.opening(True), *question, *parts.user_suffix_ids]
        state = llm.init_state(1, len(before) + len(ids))
        hidden, _ = llm.step(llm.embed([*before, *ids]), state)
        states = hidden[:, len(before) - 1 : -1]  # [1, n, H], each predicts a token of the answer
        segmenter = Segmenter(llm.tokenizer, replace(self.dialogue.segmenter, max_tokens=10**6))
        pieces = segmenter.run(ids)
        if not pieces:
            raise DataError(f"nothing to speak in {text!r}")
        return [Part(i, p, states[:, p.start : p.stop]) for i, p in enumerate(pieces)]

    def speak(self, parts: Sequence[Part], name: str, top_k: int, variant: Variant) -> Speech:
        """Speak an answer.

        Args:
            parts: From :meth:`written`.
            name: The item's, for its stream of random numbers.
            top_k: Of the speech tokens.
            variant: Which parts of the decoder are used.
        """
        cfg = self.dialogue.speaker
        cfg = replace(cfg, sampling=replace(cfg.sampling, top_k=top_k))
        generator = torch.Generator(self.model.device)
        generator.manual_seed(self.seed * 1_000_003 + zlib.crc32(name.encode()))
        kind = Speaker if variant.prefix else _WithoutPrefix
        speaker = kind(self.model, cfg, generator)
        began = time.perf_counter()
        with _pre_network(self.model.speech_decoder, variant.pre_network):
            waves = [wave.float().cpu() for part in parts for wave in speaker.speak(part)]
        seconds = time.perf_counter() - began
        wave = torch.cat(waves).numpy() if waves else np.zeros(0, np.float32)
        endless = any(len(part.tokens) >= cfg.max_tokens for part in speaker.parts)
        return Speech(wave, endless, seconds)

    @torch.inference_mode()
    def codec(self, wave: np.ndarray) -> np.ndarray:
        """A wave [S] at the codec's rate there and back."""
        codec = self.model.codec
        padded = torch.from_numpy(np.pad(wave, (0, -len(wave) % codec.hop)))
        tokens, voice = codec.encode(padded[None].to(self.model.device))
        return codec.decode(tokens, voice)[0, : len(wave)].float().cpu().numpy()


@contextlib.contextmanager
def _pre_network(decoder: Any, used: bool) -> Iterator[None]:
    """The decoder reads the text's vectors as they are while ``used`` is false."""
    if used:
        yield
        return
    decoder.read_text = lambda text, *_, **__: text
    try:
        yield
    finally:
        del decoder.read_text
