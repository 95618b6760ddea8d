"""What a stage with sound lets people hear at every validation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fo_core.models.freeze_omni import FreezeOmni
from fo_core.sampling import SamplingConfig
from fo_core.training.cache import one_item
from fo_core.training.speech_losses import Context, answer_states, whole_tokens
from fo_core.training.stage import Batch, Sounds

MOST_TOKENS = 400  # 10 s


def codec_sounds(model: FreezeOmni, batch: Batch, count: int) -> Sounds:
    """Held-out sounds and what the codec makes of them."""
    wave = whole_tokens(batch["wave"][:count], model.codec.hop)
    made = model.codec(wave).wave
    sounds = {}
    for item, one, two in zip(batch["items"], wave, made, strict=False):
        sounds[f"{item.id}-original"] = (one.float().cpu().numpy(), model.codec.sample_rate)
        sounds[f"{item.id}-codec"] = (two.float().cpu().numpy(), model.codec.sample_rate)
    return sounds


@dataclass(frozen=True)
class SpeechSounds:
    """Held-out answers, spoken greedily; nothing while the model has no trained codec.

    Attributes:
        context: Read the LLM's states after this (``output-3``); None: no states (``output-2``).
    """

    context: Context | None = None

    def __call__(self, model: FreezeOmni, batch: Batch, count: int) -> Sounds:
        if "codec" not in model.trained:
            return {}
        sounds = {}
        for row in range(min(count, len(batch["items"]))):
            alone = one_item(batch, row)
            text, _ = model.speech_decoder.text_input(model.llm, alone["text"])
            states: Tensor | None = None
            if self.context is not None:
                states = answer_states(model, alone, self.context)["prefix"][None]
                states = states.to(model.speech_decoder.embedding.weight.dtype)
            greedy = SamplingConfig(top_k=1)
            tokens = list(model.speech_decoder.generate(text, states, greedy, MOST_TOKENS))
            if tokens:
                codes = torch.tensor(tokens, device=model.device)[None, :, None]
                wave = model.codec.decode(codes, model.voice())[0].float().cpu().numpy()
                sounds[batch["items"][row].id] = (wave, model.codec.sample_rate)
        return sounds
