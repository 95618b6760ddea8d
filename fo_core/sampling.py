"""Choosing the next token: temperature, top-k, top-p and repetition penalty.

Order: temperature, softmax, top-k (renormalised), top-p, renormalise, multinomial. Everything
stays on the device of the logits; nothing here waits for it. On CUDA all of it is one launch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fo_core.config import check_ranges, config
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
            raise ConfigError(f"sampling.temperature is {self.temperature}", "0 (greedy) and above")
        check_ranges(self, "sampling", top_p=(0, 1), top_k=(0, None))
        if self.penalty <= 0.0:
            raise ConfigError(f"sampling.penalty is {self.penalty}", "above 0; 1 is off")

    @property
    def greedy(self) -> bool:
        """Whether the best token is always taken."""
        return self.top_k == 1 or self.temperature == 0.0

    def keep(self, size: int) -> int:
        """How many of ``size`` tokens may be drawn, as far as top-k says."""
        if self.greedy:
            return 1
        return size if self.top_k <= 0 else min(self.top_k, size)


def _ranked(logits: Tensor, how: SamplingConfig, compat: Compat) -> tuple[Tensor, Tensor]:
    """Probabilities in falling order and their token ids, both ``[..., k]``."""
    keep, temperature = how.keep(logits.shape[-1]), how.temperature or 1.0
    best, ids = torch.topk(logits.float() / temperature, keep, dim=-1)  # [..., k]
    probs = best.softmax(dim=-1)
    if 0.0 < how.top_p < 1.0:
        reached = probs.cumsum(dim=-1)
        if compat == "official":
            dropped = reached > how.top_p  # the token that crosses p is dropped too ...
            dropped[..., 0] = False  # ... unless nothing would remain
        else:
            dropped = reached - probs >= how.top_p
        probs = probs.masked_fill(dropped, 0.0)
        probs = probs / probs.sum(dim=-1, keepdim=True)
    return probs, ids


def filter_logits(logits: Tensor, how: SamplingConfig, compat: Compat = "none") -> Tensor:
    """The distribution that :func:`sample` draws from.

    Args:
        logits: ``[..., V]``; penalised before, if they are to be.
        how: Temperature, top-k and top-p.
        compat: "official": the token that crosses ``top_p`` is dropped as well, unless it is the
            best one.

    Returns:
        Probabilities ``[..., V]``, float32.
    """
    probs, ids = _ranked(logits, how, compat)
    return torch.zeros_like(logits, dtype=probs.dtype).scatter_(-1, ids, probs)


def sample(
    logits: Tensor,
    how: SamplingConfig,
    generator: torch.Generator | None = None,
    compat: Compat = "none",
) -> Tensor:
    """Draw one token a row; greedily, without a random number, where ``how`` is greedy.

    Args:
        logits: ``[B, V]``; penalised before, if they are to be.
        how: As in :func:`filter_logits`.
        generator: Source of randomness, on the device of ``logits``; None is the global one.
        compat: As in :func:`filter_logits`.

    Returns:
        Token ids ``[B]``, int64.
    """
    if how.greedy:
        return logits.argmax(dim=-1)
    races = torch.empty(*logits.shape[:-1], how.keep(logits.shape[-1]), device=logits.device)
    races.exponential_(generator=generator)
    run = captured_draw if logits.is_cuda else draw
    return run(logits, races, key=(how, compat))[0]


def draw(logits: Tensor, races: Tensor, key: tuple[SamplingConfig, Compat]) -> list[Tensor]:
    """The tokens ``[B]`` that a given noise chooses, in fixed shapes.

    Args:
        logits: As of :func:`sample`.
        races: Exponential noise of the kept tokens, best first, ``[B, k]``.
        key: ``how`` and ``compat`` of :func:`sample`.
    """
    probs, ids = _ranked(logits, *key)
    # torch.multinomial's own way to draw one, without its checks, which would wait for the device.
    choice = (probs / races).argmax(dim=-1, keepdim=True)  # [B, 1]
    return [ids.gather(-1, choice).squeeze(-1)]


captured_draw = CapturedStep(draw)  # a graph for each way to draw, those used last


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
