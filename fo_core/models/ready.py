"""Make a loaded model fast for talking on a CPU. Afterwards it is for inference only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fo_core.layers.conv import pack_convolutions
from fo_core.layers.packed import Weights, pack_for_inference
from fo_core.models.codec import TiCodec
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.generator import Generator


class HalfGenerator(nn.Module):
    """A codec's generator with bfloat16 convolutions between float32 vectors and waves."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator.to(torch.bfloat16)

    def forward(
        self, vectors: Tensor, global_vector: Tensor, keep: tuple[int, int] | None = None
    ) -> Tensor:
        """As ``Generator.forward``."""
        half = torch.bfloat16
        return self.generator(vectors.to(half), global_vector.to(half), keep).float()


def make_ready(model: FreezeOmni, weights: Weights = "same") -> FreezeOmni:
    """Fold weight norm and lay the matrices out for small steps, in place.

    What is read for every chunk or token is packed: encoder, adapter, CTC head, state head, LLM and
    speech decoder. The codec works on tens of rows at once, where packing gains nothing: its weight
    norm is folded, and below full precision a TiCodec's generator runs in bfloat16. On another
    device than the CPU folding is all that happens.

    Packed parts are in no state dict and can be neither trained, moved, cast nor saved: save and
    fingerprint a model before. The LLM and the speech decoder keep their weights beside the packed
    copies (the LLM's fingerprint stays), so memory grows by about the size of both.

    Args:
        model: A model in eval mode.
        weights: Precision of the packed matrices: "same" (float32 results stay within 1e-5),
            "bf16", or "int8" (8-bit weights with one scale a row).

    Returns:
        ``model``.
    """
    if isinstance(model.codec, TiCodec):
        model.codec.fold_weight_norm()
    if model.device.type != "cpu":
        return model
    if isinstance(model.codec, TiCodec) and weights != "same":
        model.codec.generator = HalfGenerator(model.codec.generator)  # type: ignore[assignment]
    pack_convolutions(model.speech_encoder, weights)
    pack_convolutions(model.adapter, weights)
    for part in ("speech_encoder", "adapter", "ctc_head", "state_head", "speech_decoder"):
        pack_for_inference(getattr(model, part), weights)
    model.llm.pack(weights)
    return model
