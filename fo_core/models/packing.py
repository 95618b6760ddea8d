"""Pack a loaded model's weights for fast inference on a CPU."""

from __future__ import annotations

import torch

from fo_core.devices.compute import working_dtype
from fo_core.layers.conv import pack_convolutions
from fo_core.layers.packed import Weights, pack_linears
from fo_core.models.codec.packed_generator import pack_generator
from fo_core.models.codec.ticodec import TiCodec
from fo_core.models.freeze_omni import FreezeOmni


def pack_for_inference(
    model: FreezeOmni, weights: Weights = "same", llm_weights: Weights | None = None
) -> FreezeOmni:
    """Fold weight norm and lay the matrices out for small steps, in place.

    What is read for every chunk or token is packed: encoder, adapter, CTC head, state head, LLM and
    speech decoder, and a TiCodec's generator, which below full precision runs in bfloat16 where the
    CPU has it. On another device than the CPU folding its weight norm is all that happens.

    Packed parts are in no state dict and can be neither trained, moved, cast nor saved: save and
    fingerprint a model before. The LLM and the speech decoder keep their weights beside the packed
    copies (the LLM's fingerprint stays), so memory grows by about the size of both.

    Args:
        model: A model in eval mode.
        weights: Precision of the packed matrices: "same" (float32 results stay within 1e-5),
            "fp16", "bf16", or "int8" (8-bit weights with one scale a row).
        llm_weights: Those of the LLM; None: the same.

    Returns:
        ``model``.
    """
    if isinstance(model.codec, TiCodec):
        model.codec.fold_weight_norm()
    if model.device.type != "cpu":
        return model
    if isinstance(model.codec, TiCodec):
        dtype = torch.float32 if weights == "same" else working_dtype(torch.bfloat16)
        model.codec.generator = pack_generator(model.codec.generator, dtype)  # type: ignore[assignment]
    pack_convolutions(model.speech_encoder, weights)
    pack_convolutions(model.adapter, weights)
    for part in ("speech_encoder", "adapter", "ctc_head", "state_head", "speech_decoder"):
        pack_linears(getattr(model, part), weights)
    model.llm.pack(llm_weights or weights)
    return model
