"""A stack's weights with q, k, v and gate, up joined, as they are kept on disk and used from there.

A file that is mapped into memory can be the weights only if it holds them as the layers want them:
the joined matrices whole, of which the parameters are views (as after ``LlamaStack.fuse``).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fo_core.layers.fused import join_views
from fo_core.layers.transformer import Attention, GatedFeedForward, LlamaStack

GROUPS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def _groups(
    stack: LlamaStack,
) -> Iterator[tuple[Attention | GatedFeedForward, str, str, list[nn.Linear]]]:
    """Part, its name, the joined name and the linears, for all that is joined."""
    for index, layer in enumerate(stack.blocks):
        for where, part in (("self_attn", layer.self_attn), ("mlp", layer.mlp)):
            name = "qkv_proj" if where == "self_attn" else "gate_up_proj"
            linears = [getattr(part, linear) for linear in GROUPS[name]]
            yield part, f"layers.{index}.{where}", name, linears


def joined_tensors(stack: LlamaStack) -> dict[str, Tensor]:
    """All weights of a stack by name; those that are read in one product are one tensor."""
    tensors = {name: tensor.detach() for name, tensor in stack.state_dict().items()}
    for _, where, joined, _linears in _groups(stack):
        for kind in ("weight", "bias"):
            parts = [tensors.pop(f"{where}.{name}.{kind}", None) for name in GROUPS[joined]]
            if parts[0] is not None:
                tensors[f"{where}.{joined}.{kind}"] = torch.cat([p for p in parts if p is not None])
    return tensors


def take_joined(stack: LlamaStack, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make tensors of :func:`joined_tensors` the weights of a stack on the meta device, uncopied.

    Returns:
        The other weights by the names of the stack's parameters.

    Raises:
        KeyError: One is missing.
    """
    rest = dict(tensors)
    for part, where, joined, linears in _groups(stack):
        weight = rest.pop(f"{where}.{joined}.weight")
        bias = rest.pop(f"{where}.{joined}.bias") if linears[0].bias is not None else None
        part.joined, part.output = join_views(weight, bias, *linears), None
    stack.fused, stack.rows = True, []
    return rest
