"""Make a loaded model ready for fast inference: packed weights on a CPU, static steps on CUDA."""

from __future__ import annotations

import torch

from fo_core.devices.compute import working_dtype
from fo_core.layers.conv import pack_convolutions
from fo_core.layers.packed import Weights, pack_linears
from fo_core.models.codec.packed_generator import pack_generator
from fo_core.models.codec.ticodec import TiCodec
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.precision import Precision
from fo_core.models.static_shapes import halve, use_static_steps


def pack_for_inference(
    model: FreezeOmni, weights: Weights | Precision = "same", static: bool = True
) -> FreezeOmni:
    """Fold weight norm and lay the matrices out for small steps, in place.

    What is read for every chunk or token is packed: encoder, adapter, CTC head, state head, LLM and
    speech decoder, and a TiCodec's generator, which below full precision runs in bfloat16 where the
    CPU has it. On another device nothing is packed: unless ``weights`` is "same", it computes in
    bfloat16 there.

    Packed parts are in no state dict and can be neither trained, moved, cast nor saved: save and
    fingerprint a model before. The LLM and the speech decoder keep their weights beside the packed
    copies (the LLM's fingerprint stays), so memory grows by about the size of both.

    Args:
        model: A model in eval mode.
        weights: Precision of the packed matrices: "same" (float32 results stay within 1e-5),
            "fp16", "bf16", or "int8" (8-bit weights with one scale a row); or one for each part.
        static: On CUDA short steps run in fixed shapes, captured as graphs
            (:mod:`fo_core.models.static_shapes`).

    Returns:
        ``model``.
    """
    chosen = Precision.of(weights)
    if isinstance(model.codec, TiCodec):
        model.codec.fold_weight_norm()
    if model.device.type != "cpu":
        model = model if chosen.rest == "same" else halve(model)
        return use_static_steps(model) if static and model.device.type == "cuda" else model
    if isinstance(model.codec, TiCodec):
        dtype = torch.float32 if chosen.rest == "same" else working_dtype(torch.bfloat16)
        model.codec.generator = pack_generator(model.codec.generator, dtype)  # type: ignore[assignment]
    pack_convolutions(model.speech_encoder, chosen.rest)
    pack_convolutions(model.adapter, chosen.rest)
    for part in ("speech_encoder", "adapter", "ctc_head", "state_head"):
        pack_linears(getattr(model, part), chosen.rest)
    pack_linears(model.speech_decoder, chosen.speech)
    model.llm.pack(chosen.llm)
    return model
