"""What a GPU gets: bfloat16, and short steps in fixed shapes that are captured as CUDA graphs."""

from __future__ import annotations

import torch

from fo_core.features import GlobalCmvn
from fo_core.layers.graphs import CapturedStep
from fo_core.layers.static_step import StaticSteps
from fo_core.models.encoder.speech_encoder import SpeechEncoder
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.backbone import LlamaBackbone

ROWS = 8  # sequences of the LLM, and of the speech decoder, that have a place of their own
POSITIONS = 4096  # of a talk in the LLM's cache
SPOKEN = 2048  # of a sentence in the speech decoder's: prefix, text, and 25 s of speech
HALVED = ("speech_encoder", "adapter", "ctc_head", "state_head", "speech_decoder")


def use_static_steps(model: FreezeOmni, rows: int = ROWS, positions: int = POSITIONS) -> FreezeOmni:
    """Token steps of the LLM and of the speech decoder, and the encoder's chunk, in fixed shapes.

    An LLM that runs through transformers, and an encoder of another type than the paper's, go on as
    they are. Memory grows by the keys and values of all rows.

    Args:
        model: Where it is and in its dtype; moved or cast afterwards it drops these steps.
        rows: Sequences at a time; more run as they would without this.
        positions: Of a talk; a longer one runs so, too.
    """
    if isinstance(model.llm.backbone, LlamaBackbone):
        stack, limit = model.llm.backbone.stack, model.llm.facts.context or positions
        stack.static = StaticSteps(stack, rows, min(positions, limit))
    decoder = model.speech_decoder.decoder
    decoder.static = StaticSteps(decoder, rows, SPOKEN)
    if isinstance(model.speech_encoder, SpeechEncoder):
        model.speech_encoder.captured = CapturedStep(model.speech_encoder._chunk)
    return model


def halve(model: FreezeOmni) -> FreezeOmni:
    """All that is read for every chunk or token in bfloat16; features are normalised in float32.

    The codec stays as it is, and an LLM that runs through transformers keeps the dtype that it was
    loaded in. For inference: the LLM's fingerprint is not what it was.
    """
    for part in HALVED:
        module = getattr(model, part)
        exact = [m for m in module.modules() if isinstance(m, GlobalCmvn)]
        kept = [(m.mean, m.istd) for m in exact]
        module.to(torch.bfloat16)
        for norm, (mean, istd) in zip(exact, kept, strict=True):
            norm.mean, norm.istd = mean, istd
    if isinstance(model.llm.backbone, LlamaBackbone):
        model.llm.to(torch.bfloat16)
    return model
