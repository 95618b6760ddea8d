"""What the model hears: the CTC head's words, and what the frozen LLM repeats (stage input-2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fo_core.dialogue.audio_input import holds_voice
from fo_core.dialogue.listener import Listener
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.streaming import CHUNK_SAMPLES


@dataclass(frozen=True)
class Transcript:
    """Two readings of the same speech, both heard chunk by chunk."""

    ctc: str  # greedy words of the CTC head; empty where it is untrained
    llm: str  # what the LLM repeats from the adapter's vectors


@torch.inference_mode()
def transcribe(
    model: FreezeOmni, wave: Tensor, max_tokens: int = 64, vad: str = "auto"
) -> Transcript:
    """Hear a wave in 160 ms chunks and write down what was said; nothing where nothing was.

    Args:
        model: With a trained speech encoder; the adapter is used as it is.
        wave: [S] at 16 kHz in [-1, 1].
        max_tokens: Longest transcript of the LLM.
        vad: Voice activity detector, see :func:`holds_speech`.
    """
    listener = Listener(model)
    heard = [listener.hear(chunk) for chunk in wave.split(CHUNK_SAMPLES)]
    frames = torch.cat([h.encoded for h in heard], dim=1)  # [1, T, E]
    words = model.ctc_head.read(model.ctc_head(frames))[0] if model.ctc_head.classes > 1 else ""
    vectors = torch.cat([*(h.embeds for h in heard), listener.flush()], dim=1)  # [1, N, H]
    words = words if listener.text is None else listener.text
    heard_it = "adapter" in model.trained and holds_speech(model, wave, vectors, vad)
    said = repeat(model, vectors, max_tokens) if heard_it else []
    return Transcript(words, model.llm.answer_text(said))


def holds_speech(model: FreezeOmni, wave: Tensor, vectors: Tensor, vad: str = "auto") -> bool:
    """Whether something was heard in a wave [S] that gave these vectors [1, N, H].

    The same rule as in a talk (:meth:`Conversation.was_heard`): no vectors, nothing heard; where
    the adapter gives vectors for any sound, the voice activity detector has to find a voice.
    """
    if not vectors.shape[1]:
        return False
    return model.adapter.requires_ctc or holds_voice(wave, vad)


@torch.inference_mode()
def repeat(model: FreezeOmni, vectors: Tensor, max_tokens: int = 64) -> list[int]:
    """Token ids that the LLM repeats, greedily, when it hears ``vectors`` [1, N, H]."""
    llm = model.llm
    parts = model.chat_for(model.config.llm.task, model.config.llm.task_shots)
    before = llm.embed([*parts.system_ids, *parts.opening(True)])
    rows = [before, model.task(1), vectors, llm.embed(parts.user_suffix_ids)]
    state = llm.init_state(1, sum(r.shape[1] for r in rows) + max_tokens)
    hidden, state = llm.step(torch.cat([r.to(llm.dtype) for r in rows], dim=1), state)
    said: list[int] = []
    while len(said) < max_tokens:
        token = int(llm.logits(hidden[:, -1]).argmax(-1))
        if token in llm.end_ids:
            break
        said.append(token)
        hidden, state = llm.step(llm.embed([token]), state)
    return said
