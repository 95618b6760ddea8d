"""What packing, half precision, bfloat16 and int8 change of the recorded outputs."""

from __future__ import annotations

import pytest
import torch
from recorded_features import Voice, recorded_features
from rounding import BFLOAT16, FLOAT16, FLOAT32, bounds, near
from torch import Tensor

from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.events import ChunkState
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.settings import for_file, read_dialogue
from fo_core.layers import conv, packed
from fo_core.models import freeze_omni
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.packing import pack_for_inference
from fo_core.streaming import CHUNK_SAMPLES

# The largest relative error of a weight; of int8, half a step of a row whose largest weight is four
# times an ordinary one.
UNITS = {"same": FLOAT32, "fp16": FLOAT16, "bf16": BFLOAT16, "int8": 2.0**-6}


@torch.inference_mode()
def listened(model: FreezeOmni, folder, variant) -> dict[str, Tensor]:
    """Encoder frames and state probabilities of run b."""
    run = variant.run("run_b")
    cfg = for_file(read_dialogue(folder))
    duplex = Duplex(model, cfg, system=run.json["role"], speak=False, vad=Voice(), eager=True)
    hear, encoded, states = Listener.hear_features, [], []

    def spy(listener, feats):
        heard = hear(listener, feats)
        encoded.append(heard.encoded[0])
        return heard

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Listener, "hear_features", spy)
        for feats in variant.fbank("b"):
            duplex.push(torch.zeros(CHUNK_SAMPLES))
            with recorded_features(model, feats[None, 3:]):
                found = list(duplex.run())
            states += [
                [e.continue_, e.respond, e.dismiss] for e in found if isinstance(e, ChunkState)
            ]
    states = torch.tensor(states, dtype=torch.float64)
    return {"encoder": torch.stack(encoded), "states": states}


@torch.inference_mode()
def spoken(model: FreezeOmni, variant) -> dict[str, Tensor]:
    """The wave of run b's first sentence."""
    speech = variant.run("run_b")["s0.speech_tokens"].view(1, -1, 1)
    return {"wave": model.codec.decode(speech, model.voice())}


@pytest.fixture(scope="session")
def double(imported) -> FreezeOmni:
    return freeze_omni.load(imported).double()


@pytest.fixture(scope="session")
def exact(double, imported, golden_variant) -> dict[str, Tensor]:
    return listened(double, imported, golden_variant) | spoken(double, golden_variant)


@pytest.mark.parametrize("weights", UNITS)
def test_recorded_run(weights, imported, double, exact, golden_variant, monkeypatch):
    """Off from float64 by no more than the rounding of every weight and number to the format."""
    monkeypatch.setattr(packed, "SMALLEST", 1)  # these checkpoints have no large matrices
    monkeypatch.setattr(conv, "SMALLEST", 1)
    where = imported, golden_variant
    where = imported, golden_variant
    heard = {name: exact[name] for name in ("encoder", "states")}
    allowed = bounds(lambda: listened(double, *where), UNITS[weights], heard)
    # Below full precision a codec runs in bfloat16 where there is any.
    codec, wave = FLOAT32 if weights == "same" else BFLOAT16, {"wave": exact["wave"]}
    allowed |= bounds(lambda: spoken(double, golden_variant), codec, wave)
    model = pack_for_inference(freeze_omni.load(imported), weights)
    found = listened(model, *where) | spoken(model, golden_variant)
    for name, value in found.items():
        near(value, exact[name], allowed[name], name)
    if weights == "same":
        recorded = golden_variant.run("run_b")
        near(found["encoder"], recorded["enc_out"], allowed["encoder"], "recorded encoder")
        near(found["states"], recorded["state_prob"], allowed["states"], "recorded states")
