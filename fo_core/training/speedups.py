"""Switches of how the parts are run while a stage lasts: recomputing, and torch.compile.

Neither changes what is computed (compiled kernels may round otherwise).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fo_core.layers.transformer import LlamaStack

log = logging.getLogger(__name__)
COMPILED = ("speech_encoder", "speech_decoder", "codec")  # whole parts, run by their forward


@contextlib.contextmanager
def speedups(model: nn.Module, recompute: bool, compiled: bool) -> Iterator[None]:
    """Run a model's parts so for as long as the block lasts.

    Args:
        model: The whole model.
        recompute: Keep only each layer's input and compute its inner values again in the backward
            pass (layers of the LLM, the speech decoder and the speech encoder): about a third more
            work, a fraction of the memory.
        compiled: Compile the forward passes of encoder, decoder and codec at their first use.
    """
    with contextlib.ExitStack() as undo:
        if recompute:
            _recompute(model, undo)
        if compiled:
            for part in (getattr(model, name, None) for name in COMPILED):
                if part is not None:
                    undo.callback(setattr, part, "_compiled_call_impl", part._compiled_call_impl)
                    part.compile(dynamic=True)
        yield


def _recompute(model: nn.Module, undo: contextlib.ExitStack) -> None:
    for module in model.modules():
        if isinstance(module, LlamaStack):
            undo.callback(setattr, module, "recompute", module.recompute)
            module.recompute = True
    encoder = getattr(model, "speech_encoder", None)
    for layer in getattr(encoder, "layers", []):
        undo.callback(layer.__dict__.pop, "forward", None)
        layer.forward = partial(_again, layer.forward)
    backbone = getattr(getattr(model, "llm", None), "backbone", None)
    if backbone is not None and not hasattr(backbone, "stack"):
        log.warning("this LLM runs through transformers: its layers are not recomputed")


def _again(forward: Any, *given: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*given, **named)
    return checkpoint(forward, *given, use_reentrant=False, **named)
