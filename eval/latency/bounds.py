"""What no program can beat on this machine: bytes over its memory's speed, sums over its units'.

Both speeds are measured in the same run. A step that multiplies one row by its weights is bound by
the bytes that it has to read: weights, and the keys and values of what came before. One that uses
each weight for many rows, like the codec, is bound by its multiplications. The larger of the two
counts. Operations are held against the fastest product that was measured, whatever the dtype of the
step, so a bound is never too high.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from eval.latency.clock import now
from fo_core.devices.compute import native_matmul
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.layers.packed import SMALLEST, Weights
from fo_core.layers.transformer import LlamaStack
from fo_core.models.codec.ticodec import TiCodec
from fo_core.models.decoder.duration_decoder import DurationDecoder
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.backbone import LlamaBackbone
from fo_core.models.precision import Precision
from fo_core.streaming import CHUNK_SAMPLES

CPU = torch.device("cpu")
OVERLAP = VocoderConfig().overlap  # tokens behind those kept, that the codec reads as context
CODEC = ((30, (0, 20)), (50, (0, 40)), (60, (10, 50)))  # tokens in, tokens kept


@dataclass(frozen=True)
class Cost:
    """What a step cannot do without."""

    reads: float = 0.0  # bytes of weights, keys and values
    flops: float = 0.0  # multiplications and additions

    def seconds(self, bandwidth: float, peak: float) -> float:
        """At least, by the machine's bytes and operations a second."""
        return max(self.reads / bandwidth, self.flops / peak)

    def rows(self, count: int) -> Cost:
        """The same weights for so many times the rows."""
        return Cost(self.reads, count * self.flops)

    def __add__(self, other: Cost) -> Cost:
        """Both in one step."""
        return Cost(self.reads + other.reads, self.flops + other.flops)


@dataclass(frozen=True)
class Footprint:
    """What each step costs; of the LLM and the speech decoder: one row."""

    listen: Cost  # encoder and adapter, a chunk
    llm: Cost  # layers
    llm_position: int  # bytes of keys and values of a position in the LLM's cache
    head: Cost  # the LLM's output
    prefix: Cost  # what a row of the text and of the hidden states passes before the first token
    speak: Cost  # main stack and output of the speech decoder
    codec: dict[tuple[int, int], Cost]  # one call, by its tokens and how many are kept

    def after(self, positions: int) -> Cost:
        """A row of the LLM behind so many positions."""
        return self.llm + Cost(self.llm_position * positions)


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
            matrix = isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d) and own == "weight"
            size = _packed_bytes(weight, weights) if matrix else weight.nbytes
            total += 0 if name.endswith(".position") else size
    return total


def _packed_bytes(matrix: Tensor, weights: Weights) -> int:
    """Of a matrix, once it is packed; small ones and those on other devices stay as they are."""
    if weights == "same" or matrix.numel() < SMALLEST:
        return matrix.nbytes
    return {"fp16": 2, "bf16": 2, "int8": 1}[weights] * matrix.numel()


def matrix_cost(module: nn.Module | None, weights: Weights = "same") -> Cost:
    """One row through all matrices of a module."""
    parts = module.modules() if module is not None else ()
    count = sum(part.weight.numel() for part in parts if isinstance(part, nn.Linear))
    return Cost(weight_bytes(module, weights), 2 * count)


def _keys_only(stack: LlamaStack | None, weights: Weights) -> Cost:
    """One row through a stack that leaves keys and values: most of its last layer is not read."""
    if stack is None:
        return Cost()
    last, whole = stack.blocks[-1], matrix_cost(stack, weights)
    unread = matrix_cost(last.self_attn.o_proj, weights) + matrix_cost(last.mlp, weights)
    unread += matrix_cost(last.post_attention_layernorm)
    return Cost(whole.reads - unread.reads, whole.flops - unread.flops)


@torch.no_grad()
def footprint(
    model: FreezeOmni, packed: Weights | Precision, first: Sequence[int] = ()
) -> Footprint:
    """Counted before packing.

    Args:
        model: The whole model.
        packed: How it will be packed.
        first: Speech tokens of first pieces of audio, besides 20 and 40.
    """
    chosen = Precision.of(packed)
    weights, speech = chosen.rest, chosen.speech
    llm, decoder, codec = model.llm, model.speech_decoder, model.codec
    spelled = isinstance(decoder, DurationDecoder)  # whose main stack reads no text
    if isinstance(codec, TiCodec):
        voice = weight_bytes(codec.fold_weight_norm().generator)
        voice //= 1 if weights == "same" or not native_matmul(torch.bfloat16) else 2
    else:
        voice = weight_bytes(codec)
    table = llm.embedding_table
    if isinstance(llm.backbone, LlamaBackbone):
        shape, layers = llm.backbone.stack.config, matrix_cost(llm.backbone.stack, chosen.llm)
        position = 2 * shape.layers * shape.kv_heads * shape.head_dim * table.element_size()
    else:
        layers, position = Cost(weight_bytes(llm) - table.nbytes), 0
    listener, chunk = Listener(model), torch.zeros(CHUNK_SAMPLES)
    heard = operations(lambda: listener.hear(chunk))
    calls = [*CODEC, *((count + OVERLAP, (0, count)) for count in first)]
    return Footprint(
        listen=Cost(
            weight_bytes(model.speech_encoder, weights) + weight_bytes(model.adapter, weights),
            heard,
        ),
        llm=layers,
        llm_position=position,
        head=Cost(_packed_bytes(table, chosen.llm), 2 * table.numel()),
        prefix=matrix_cost(decoder.pre_network, speech)
        + _keys_only(decoder.prefix, speech)
        + (Cost() if spelled else _keys_only(decoder.decoder, speech)),
        speak=matrix_cost(decoder.decoder, speech) + matrix_cost(decoder.out, speech),
        codec={
            (count, keep[1] - keep[0]): Cost(voice, codec_flops(model, count, keep))
            for count, keep in calls
        },
    )


def operations(work: Callable[[], object]) -> int:
    """Multiplications and additions of the products in a piece of work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@torch.no_grad()
def codec_flops(model: FreezeOmni, count: int, keep: tuple[int, int]) -> int:
    """Operations of decoding ``count`` tokens, of which some are kept."""
    tokens = torch.zeros(1, count, 1, dtype=torch.int64, device=model.device)
    return operations(lambda: model.codec.decode(tokens, model.voice(), keep))


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
