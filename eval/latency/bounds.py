"""What no program can beat on this machine: weights over its memory's speed, sums over its units'.

Both speeds are measured in the same run. A step that multiplies one row by its weights is bound by
their bytes; the codec, which uses each weight hundreds of times, by its multiplications.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fo_core.devices.compute import native_matmul
from fo_core.layers.packed import SMALLEST, Weights
from fo_core.models.codec.ticodec import TiCodec
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.backbone import LlamaBackbone
from fo_core.models.precision import Precision

CPU = torch.device("cpu")
CODEC = ((30, (0, 20)), (50, (0, 40)), (60, (10, 50)))  # tokens in, tokens kept


@dataclass(frozen=True)
class Cost:
    """What a step cannot do without."""

    reads: float  # bytes of weights
    flops: float = 0.0  # multiplications and additions

    def seconds(self, bandwidth: float, peak: float) -> float:
        """At least, by the machine's bytes and operations a second."""
        return max(self.reads / bandwidth, self.flops / peak)


@dataclass(frozen=True)
class Footprint:
    """Bytes of weights that a step reads."""

    listen: int  # encoder and adapter
    llm: int  # layers
    head: int  # the LLM's output
    prefill: int  # pre-network, prefix stack
    speak: int  # main stack and output of the speech decoder
    codec: int  # what decodes
    codec_flops: dict[int, int]  # operations of one call, by its tokens


def now(device: torch.device) -> float:
    """Seconds, when all that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def bandwidth(megabytes: int = 256, device: torch.device = CPU) -> float:
    """Bytes a second of a streaming read of the device's memory: the best of several."""
    data = torch.ones(megabytes << 18, device=device)
    best = float("inf")
    for _ in range(6):
        for read in (data.sum, lambda: torch.dot(data, data)):
            began = now(device)
            read()
            best = min(best, now(device) - began)
    return data.numel() * data.element_size() / best


def weight_bytes(module: nn.Module | None, weights: Weights = "same") -> int:
    """Bytes of a module's parameters once it is packed; position rows are looked up, not read."""
    total = 0
    for name, part in module.named_modules() if module is not None else ():
        for own, weight in part.named_parameters(recurse=False):
            size = weight.element_size()
            matrix = isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d) and own == "weight"
            if weights != "same" and matrix and weight.numel() >= SMALLEST:
                size = {"fp16": 2, "bf16": 2, "int8": 1}[weights]
            total += 0 if name.endswith(".position") else size * weight.numel()
    return total


def footprint(model: FreezeOmni, chosen: Precision) -> Footprint:
    """Counted before packing."""
    weights = chosen.rest
    llm, decoder, codec = model.llm, model.speech_decoder, model.codec
    if isinstance(codec, TiCodec):
        voice = weight_bytes(codec.fold_weight_norm().generator)
        voice //= 1 if weights == "same" or not native_matmul(torch.bfloat16) else 2
    else:
        voice = weight_bytes(codec)
    table = llm.embedding_table
    head = table.numel() * table.element_size()
    if isinstance(llm.backbone, LlamaBackbone):
        layers = weight_bytes(llm.backbone.stack, chosen.llm)
    else:
        layers = weight_bytes(llm) - head
    return Footprint(
        listen=weight_bytes(model.speech_encoder, weights) + weight_bytes(model.adapter, weights),
        llm=layers,
        head=head,
        prefill=sum(weight_bytes(m, chosen.speech) for m in (decoder.pre_network, decoder.prefix)),
        speak=sum(weight_bytes(m, chosen.speech) for m in (decoder.decoder, decoder.out)),
        codec=voice,
        codec_flops={count: codec_flops(model, count, keep) for count, keep in CODEC},
    )


@torch.no_grad()
def codec_flops(model: FreezeOmni, count: int, keep: tuple[int, int]) -> int:
    """Operations of decoding ``count`` tokens, of which some are kept."""
    tokens = torch.zeros(1, count, 1, dtype=torch.int64, device=model.device)
    with FlopCounterMode(display=False) as counter:
        model.codec.decode(tokens, model.voice(), keep)
    return counter.get_total_flops()


def peak(dtype: torch.dtype, size: int = 1024, device: torch.device = CPU) -> float:
    """Operations a second of a product of two square matrices: the best of several."""
    size = size if device.type == "cpu" else 8 * size  # else a launch takes as long as the product
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        began = now(device)
        torch.mm(left, right)
        best = min(best, now(device) - began)
    return 2 * size**3 / best
