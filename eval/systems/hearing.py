"""What a model hears under a condition: a chunk size, the stream or the whole utterance at once.

The stream takes encoder and adapter chunk by chunk with their caches, as a live talk does; offline
they see the whole utterance behind the chunk mask. At one chunk size the two must agree; only the
whole utterance can be heard without chunks (the paper's ``chunk = inf``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fo_core.dialogue.drivers.transcribe import holds_speech, repeat
from fo_core.errors import ConfigError
from fo_core.models.adapter.word_adapter import WordAdapter
from fo_core.models.freeze_omni import FreezeOmni

FRAME_SAMPLES = 640  # an encoder frame: 40 ms at 16 kHz
HOP = 160  # samples a feature frame
READINGS = {"ctc": ("speech_encoder", "ctc_head"), "llm": ("speech_encoder", "adapter")}
TOKENS_A_SECOND, LEAST_TOKENS = 15, 32  # longest transcript of the LLM


@dataclass(frozen=True)
class Condition:
    """How speech is taken in."""

    chunk: int | None = 4  # encoder frames (40 ms) a chunk; None: no chunks
    streaming: bool = True

    @property
    def name(self) -> str:
        """Such as ``4-streaming``, ``inf-offline``."""
        return f"{self.chunk or 'inf'}-{'streaming' if self.streaming else 'offline'}"


def conditions(chunks: list[str], path: str) -> list[Condition]:
    """Conditions of ``--chunk`` values and a path.

    Args:
        chunks: Numbers of frames, or "inf".
        path: "streaming", "offline" or "both"; "inf" is offline whatever this says.

    Raises:
        ConfigError: A chunk is no number of frames.
    """
    found: list[Condition] = []
    for text in dict.fromkeys(chunks):
        if text.lower() in ("inf", "∞"):
            found.append(Condition(None, False))
            continue
        if not text.isdigit() or not 1 <= int(text) <= 1000:
            raise ConfigError(f"--chunk {text!r}", possible="frames of 40 ms (4 is usual) or inf")
        kinds = {"streaming": [True], "offline": [False], "both": [True, False]}[path]
        found += [Condition(int(text), streaming) for streaming in kinds]
    return list(dict.fromkeys(found))


def readings_of(model: FreezeOmni, asked: list[str] | None) -> list[str]:
    """Which readings a model can give.

    Raises:
        CheckpointError: One that is asked for needs an untrained part, or there is none at all.
    """
    if asked:
        model.require(*dict.fromkeys(part for name in asked for part in READINGS[name]))
        return asked
    found = [name for name, parts in READINGS.items() if set(parts) <= model.trained]
    if not found:
        model.require("speech_encoder", "ctc_head")
    return found


@torch.inference_mode()
def hear(
    model: FreezeOmni, wave: np.ndarray, how: Condition, readings: list[str], vad: str = "auto"
) -> dict[str, Any]:
    """Transcripts of a wave [S] at 16 kHz; ``vad``: the detector that says what is no speech.

    Returns:
        A text for each reading (empty where nothing was heard); ``cut`` is true where the LLM's did
        not end by itself.
    """
    sound = torch.from_numpy(wave)
    frames, vectors = encode(model, sound, how)
    found: dict[str, Any] = {}
    decode = model.llm.tokenizer.decode
    if "ctc" in readings:
        reader = model.adapter if isinstance(model.adapter, WordAdapter) else model.ctc_head
        found["ctc"] = reader.read(model.ctc_head(frames))[0]
    if "llm" in readings:
        most = LEAST_TOKENS + round(TOKENS_A_SECOND * len(wave) / 16000)
        speech = holds_speech(model, sound, vectors, vad)
        said = repeat(model, vectors, most) if speech else []
        found["llm"] = decode(said, skip_special_tokens=True).strip()
        found["cut"] = len(said) >= most
    return found


def encode(model: FreezeOmni, wave: Tensor, how: Condition) -> tuple[Tensor, Tensor]:
    """Encoder frames [1, T, E] and vectors for the LLM [1, N, H] of a wave [S].

    Raises:
        ConfigError: The adapter cannot take chunks of this size.
    """
    size = how.chunk or 2
    if not model.adapter.requires_ctc and size % 2:
        raise ConfigError(
            f"--chunk {size}: this model's adapter halves the frames of a chunk",
            possible="an even number of frames",
        )
    samples = -(-len(wave) // (size * FRAME_SAMPLES)) * size * FRAME_SAMPLES
    feats = model.features(F.pad(wave, (0, samples - len(wave)))[None])
    feats = feats[:, : samples // HOP].to(model.device)
    encoder, adapter = model.speech_encoder, model.adapter
    if not how.streaming:
        whole = how.chunk is None
        frames, _ = encoder(feats, chunk=-1 if whole else how.chunk, left=-1 if whole else None)
        logits = model.ctc_head(frames) if adapter.requires_ctc else None
        return frames, adapter(frames, None, logits)[0]
    hearing: Any = encoder.init_state(1, chunk=how.chunk)
    adapting: Any = adapter.init_state(1)
    heard, vectors = [], []
    for piece in feats.split(4 * size, 1):
        frames, hearing = encoder.step(piece, hearing)
        logits = model.ctc_head(frames) if adapter.requires_ctc else None
        embeds, _, adapting = adapter.step(frames, adapting, logits)
        heard.append(frames)
        vectors.append(embeds)
    vectors.append(adapter.flush(adapting)[0])
    return torch.cat(heard, 1), torch.cat(vectors, 1)
