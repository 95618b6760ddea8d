"""What packing, half precision, bfloat16 and int8 change of the recorded outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fo_core.dialogue.session import Session
from fo_core.dialogue.settings import for_file, read_dialogue
from fo_core.layers import conv, packed
from fo_core.models import freeze_omni
from fo_core.models.ready import make_ready

# Of the norm; of a probability: absolute.
LIMITS = {"same": 2e-5, "fp16": 0.05, "bf16": 0.2, "int8": 0.4}


def error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("weights", LIMITS)
def test_recorded_run(weights, imported, golden_variant, monkeypatch, record_property):
    monkeypatch.setattr(packed, "SMALLEST", 1)  # these checkpoints have no large matrices
    monkeypatch.setattr(conv, "SMALLEST", 1)
    run = golden_variant.run("run_b")
    model = make_ready(freeze_omni.load(imported), weights)
    session = Session(model, for_file(read_dialogue(imported)), run.json["role"])
    hear, encoded, states = session._listener.__class__.hear_features, [], []

    def spy(listener, feats):
        heard = hear(listener, feats)
        encoded.append(heard.encoded[0])
        return heard

    monkeypatch.setattr(session._listener.__class__, "hear_features", spy)
    for feats in golden_variant.fbank("b"):
        p = session.listen_features(feats[None, 3:]).probabilities
        states.append([p.listen, p.answer, p.ignore])
    speech = run["s0.speech_tokens"].view(1, -1, 1)
    with torch.inference_mode():
        wave = model.codec.decode(speech, model.voice())
        full = freeze_omni.load(imported, llm=model.llm).codec.decode(speech, model.voice())
    errors = {
        "encoder": error(torch.stack(encoded), run["enc_out"]),
        "states": float((torch.tensor(states) - run["state_prob"]).abs().max()),
        "wave": error(wave, full),
    }
    for name, value in errors.items():
        record_property(name, value)
        assert value < LIMITS[weights], (name, value)
