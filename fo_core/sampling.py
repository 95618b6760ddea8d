"""Choosing the next token: temperature, top-k, top-p and repetition penalty.

Order: temperature, softmax, top-k (renormalised), top-p, renormalise, multinomial. Everything
stays on the device of the logits; nothing here waits for it. On CUDA all of it is one launch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.layers.graphs import CapturedStep

Compat = Literal["none", "official"]


@config
class SamplingConfig:
    """How the next token is drawn."""

    temperature: float = 1.0  # divides the logits; 0 = greedy
    top_k: int = 0  # keep the k best; 0 = all, 1 = greedy
    top_p: float = 0.0  # keep the fewest best whose probability reaches p; 0 or 1 = all
    penalty: float = 1.0  # > 1 makes recent tokens less likely; 1 = off
    window: int = 0  # how many recent tokens are penalised; <= 0 = off

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature is {self.temperature}", "0 (greedy) and above")
        if not 0.0 <= self.top_p <= 1.0:
            raise ConfigError(f"top_p is {self.top_p}", "0 to 1")


def _ranked(
    logits: Tensor, temperature: float, top_k: int, top_p: float, compat: Compat
) -> tuple[Tensor, Tensor]:
    """Probabilities in falling order and their token ids, both ``[..., k]``."""
    size = logits.shape[-1]
    keep = size if top_k <= 0 else min(top_k, size)
    if temperature == 0.0:
        keep, temperature = 1, 1.0
    best, ids = torch.topk(logits.float() / temperature, keep, dim=-1)  # [..., k]
    probs = best.softmax(dim=-1)
    if 0.0 < top_p < 1.0:
        reached = probs.cumsum(dim=-1)
        if compat == "official":
            dropped = reached > top_p  # the token that crosses p is dropped too ...
            dropped[..., 0] = False  # ... unless nothing would remain
        else:
            dropped = reached - probs >= top_p
        probs = probs.masked_fill(dropped, 0.0)
        probs = probs / probs.sum(dim=-1, keepdim=True)
    return probs, ids


def filter_logits(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.0,
    compat: Compat = "none",
) -> Tensor:
    """The distribution that :func:`sample` draws from.

    Args:
        logits: ``[..., V]``.
        temperature: Divides the logits; 0 leaves the best token alone.
        top_k: Keep the k best; 0 keeps all.
        top_p: Keep the fewest tokens (best first) whose probabilities reach this together; 0 and 1
            keep all.
        compat: "official": the token that crosses ``top_p`` is dropped as well, unless it is the
            best one.

    Returns:
        Probabilities ``[..., V]``, float32.
    """
    probs, ids = _ranked(logits, temperature, top_k, top_p, compat)
    return torch.zeros_like(logits, dtype=probs.dtype).scatter_(-1, ids, probs)


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.0,
    generator: torch.Generator | None = None,
    compat: Compat = "none",
) -> Tensor:
    """Draw one token a row.

    Args:
        logits: ``[B, V]``.
        temperature: As in :func:`filter_logits`; 0 is greedy and draws no random number.
        top_k: As in :func:`filter_logits`; 1 is greedy and draws no random number.
        top_p: As in :func:`filter_logits`.
        generator: Source of randomness, on the device of ``logits``; None is the global one.
        compat: As in :func:`filter_logits`.

    Returns:
        Token ids ``[B]``, int64.
    """
    if top_k == 1 or temperature == 0.0:
        return logits.argmax(dim=-1)
    keep = logits.shape[-1] if top_k <= 0 else min(top_k, logits.shape[-1])
    races = torch.empty(*logits.shape[:-1], keep, device=logits.device)
    races.exponential_(generator=generator)
    how = temperature, top_k, top_p, compat
    if logits.is_cuda:
        return captured_draw(logits, races, key=how)[0]
    return draw(logits, races, *how)


def draw(
    logits: Tensor,
    races: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.0,
    compat: Compat = "none",
) -> Tensor:
    """The token that a given noise chooses, in fixed shapes; arguments as of :func:`sample`.

    Args:
        races: Exponential noise of the kept tokens, best first, ``[B, k]``.

    Returns:
        Token ids ``[B]``.
    """
    probs, ids = _ranked(logits, temperature, top_k, top_p, compat)
    # torch.multinomial's own way to draw one, without its checks, which would wait for the device.
    choice = (probs / races).argmax(dim=-1, keepdim=True)  # [B, 1]
    return ids.gather(-1, choice).squeeze(-1)


def _draw(logits: Tensor, races: Tensor, key: tuple[float, int, float, Compat]) -> list[Tensor]:
    return [draw(logits, races, *key)]


captured_draw = CapturedStep(_draw)  # a graph for each way to draw, those used last


def penalise(logits: Tensor, recent: Tensor, penalty: float, compat: Compat = "none") -> Tensor:
    """Make tokens that came up lately less likely.

    Ours pushes every recent token down once: a positive logit is divided, a negative one
    multiplied. The published engine ("official") divides once for *each* occurrence and divides
    negative logits as well, which makes those tokens more likely.

    Args:
        logits: ``[B, V]``.
        recent: ``[B, W]`` recent token ids; the id V marks an empty place.
        penalty: >= 1.
        compat: "official" reproduces the published engine.

    Returns:
        ``[B, V]``, a new tensor.
    """
    size = logits.shape[-1]
    factor = logits.new_ones(*logits.shape[:-1], size + 1)  # [B, V+1], the last one is for V
    if compat == "official":
        by = torch.full_like(recent, 1, dtype=logits.dtype) * penalty
        factor = factor.scatter_reduce(-1, recent, by, reduce="prod")[..., :size]
        return logits / factor
    factor = factor.scatter(-1, recent, penalty)[..., :size]
    return torch.where(logits > 0, logits / factor, logits * factor)
