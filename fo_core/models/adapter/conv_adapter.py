"""The paper's adapter: a causal stride-2 convolution from encoder frames into the LLM's space.

Paper, section 2.2; the two published forms (GOLDEN, "Adapter"). 40 ms frames give one LLM vector
every 80 ms, two a chunk. ``forward`` is one step from a fresh state.

Parameters: ``conv2``, ``norm2``, ``project``, and in the two-convolution form ``conv1``, ``norm1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.config import config
from fo_core.layers.conv import CausalConv1d
from fo_core.layers.masks import padding_mask
from fo_core.models.adapter.speech_adapter import SpeechAdapter

NORM_EPS = 1e-3


@config
class ConvAdapterConfig:
    """The paper's adapter."""

    type: Literal["conv"] = "conv"
    kernel: int = 5  # frames a convolution sees
    norm: Literal["layer", "batch"] = "layer"  # after a convolution; two convolutions: batch
    activation: Literal["gelu", "relu"] = "gelu"  # after the norm; two convolutions: relu
    convs: Literal["auto", "one", "two"] = "auto"  # auto: one if 4 * encoder width >= LLM width


@dataclass
class ConvAdapterState:
    """Last inputs of each convolution, the stride-2 one first."""

    caches: list[Tensor]  # each [B, C, kernel - 1]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``[B, C, T]``."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T] -> [B, C, T]``."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ConvAdapter(SpeechAdapter[ConvAdapterState]):
    """Causal convolution(s), norm, activation, linear.

    Args:
        cfg: Kernel, norm, activation.
        enc_dim: E, width of the encoder's frames.
        llm_dim: H, width of the LLM.
    """

    requires_ctc = False

    def __init__(self, cfg: ConvAdapterConfig, enc_dim: int, llm_dim: int) -> None:
        super().__init__()
        one = cfg.convs == "one" or (cfg.convs == "auto" and 4 * enc_dim >= llm_dim)
        if one:
            self.conv1, self.norm1, width = None, None, enc_dim
            self.norm2 = _norm(cfg.norm, 2 * width)
        else:
            self.conv1 = CausalConv1d(enc_dim, 2 * enc_dim, cfg.kernel)
            self.norm1, width = _norm("batch", 2 * enc_dim), 2 * enc_dim
            self.norm2 = _norm("batch", 2 * width)
        self.activation = F.gelu if one and cfg.activation == "gelu" else F.relu
        self.conv2 = CausalConv1d(width, 2 * width, cfg.kernel, stride=2)
        self.project = nn.Linear(2 * width, llm_dim)

    def init_state(self, batch_size: int) -> ConvAdapterState:
        """Zeros: nothing heard yet."""
        convs = [c for c in (self.conv2, self.conv1) if c is not None]
        return ConvAdapterState([conv.init_state(batch_size) for conv in convs])

    def flush(self, state: ConvAdapterState) -> tuple[Tensor, Tensor, ConvAdapterState]:
        """End of speech: nothing is held back, so nothing comes: ``[B, 0, H]``."""
        batch = state.caches[0].shape[0]
        empty = self.project.weight.new_zeros(batch, 0, self.project.out_features)
        return empty, torch.zeros(batch, dtype=torch.int64), state

    def _run(
        self,
        x: Tensor,
        state: ConvAdapterState,
        logits: Tensor | None,
        lens: Tensor | None,
        last: bool,
    ) -> tuple[Tensor, Tensor, ConvAdapterState]:
        """``[B, T, E] -> [B, ceil(T / 2), H]``; frames beyond ``lens`` are taken as zero.

        In a stream T is even.
        """
        if lens is None:
            lens = torch.full((x.shape[0],), x.shape[1])
        elif int(lens.min()) < x.shape[1]:
            x = x * padding_mask(lens.to(x.device), x.shape[1])[..., None]
        y, caches = x.transpose(1, 2), []
        if self.conv1 is not None and self.norm1 is not None:
            y, cache = self.conv1.step(y, state.caches[1])
            y, caches = self.activation(self.norm1(y)), [cache]
        y, cache = self.conv2.step(y, state.caches[0])
        y = self.project(self.activation(self.norm2(y)).transpose(1, 2))
        return y, (lens + 1) // 2, ConvAdapterState([cache, *caches])


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm1d(channels, eps=NORM_EPS)
    return ChannelNorm(channels, eps=NORM_EPS)
