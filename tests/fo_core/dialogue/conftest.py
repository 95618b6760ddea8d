"""Tiny models with random weights: every part real, nothing learned."""

import pytest
import torch

from fo_core.config import load
from fo_core.models import freeze_omni
from fo_core.models.freeze_omni import PARTS, FreezeOmni, FreezeOmniConfig

COMMON = {
    "llm": {"spec": "tiny", "dtype": "float32", "system": "Be brief."},
    "speech_encoder": {
        "type": "paper", "dim": 32, "heads": 4, "ffn": 48, "layers": 2, "left": 2,
    },
    "prompt": {"num": 3},
    "speech_decoder": {"dim": 32, "codes": 64, "heads": 4, "ffn": 48, "layers": 2},
    "codec": {
        "type": "istft", "encoder_dim": 16, "encoder_blocks": 1, "token_dim": 16,
        "token_blocks": 1, "frame_dim": 16, "frame_blocks": 1,
        "quantizer": {"dim": 8, "codes": 64, "distance": "cosine", "update": "ema"},
        "global_quantizer": {"dim": 16, "codes": 8, "groups": 2},
    },
}  # fmt: skip
CONV = {"adapter": {"type": "conv"}}
CTC = {
    "adapter": {"type": "ctc"},
    "ctc": {"tokens": list(range(20, 60))},
    "state_head": {"gru": 16, "classes": 3},
}


@pytest.fixture(scope="session", params=["conv", "ctc"])
def tiny_model(request: pytest.FixtureRequest) -> FreezeOmni:
    """With the paper's adapter, and with the CTC one and a recurrent state head."""
    torch.manual_seed(5)
    form = CONV if request.param == "conv" else CTC
    model = freeze_omni.build(load(FreezeOmniConfig, {**COMMON, **form}))
    letters = "abcdefghijklmnopqrstuvwxyz ."
    ids = model.llm.tokenizer(letters, add_special_tokens=False)["input_ids"]
    table = model.llm.embedding_table
    with torch.no_grad():  # a mumbling LLM that says letters and never ends by itself
        silent = torch.ones(len(table), dtype=torch.bool)
        silent[ids] = False
        table[silent] *= 0.01
        model.speech_decoder.out.bias[model.speech_decoder.eos] = -0.1
    model.trained |= set(PARTS)
    return model


class LoudVad:
    """Voice is what is loud; nothing is learned and nothing remembered."""

    def init_state(self, batch_size):
        return None

    def step(self, wave, state):
        level = wave.unfold(1, 512, 512).square().mean(-1).sqrt()
        return (level > 0.05).float(), state


@pytest.fixture
def vad() -> LoudVad:
    return LoudVad()


@pytest.fixture
def head(tiny_model, monkeypatch):
    """A list of state names: what the state head says next; then "continue"."""
    script: list[str] = []
    rows = {"continue": [1.0, 0.0, 0.0], "respond": [0.0, 1.0, 0.0], "dismiss": [0.0, 0.0, 1.0]}

    def step(hidden, frames, memory):
        return torch.tensor([[rows[script.pop(0) if script else "continue"]]]), memory

    monkeypatch.setattr(tiny_model.state_head, "step", step)
    return script
