"""The paper's speech encoder: 4x convolutional subsampling, then Transformer layers over chunks.

Paper, section 2.2; the layers are those of the published checkpoints (GOLDEN, "Encoder"). One code
path: the whole utterance with a chunk mask and the stream with a bounded cache run the same
layers, and give the same numbers.

Parameters: ``cmvn.{mean,istd}`` (buffers), ``subsampling.{conv1,conv2,out}``,
``input.{linear,norm}``, ``layers.N.attention.{query,key,value,out,position,bias_u,bias_v}``,
``layers.N.{ffn_in,ffn_out,norm1,norm2[,concat]}``, ``norm`` (only if norm first).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.config import config
from fo_core.features import GlobalCmvn
from fo_core.layers.attention import AttentionState, LabelledAttention
from fo_core.layers.conv import ConvSubsampling
from fo_core.layers.graphs import CapturedStep
from fo_core.layers.masks import attention_mask, filled_mask
from fo_core.layers.positions import LabelTable, sinusoids
from fo_core.models.encoder.chunk_encoder import ChunkEncoder
from fo_core.streaming import CONTEXT_FRAMES


@config
class SpeechEncoderConfig:
    """The paper's encoder; defaults are its size."""

    type: Literal["paper"] = "paper"
    mel: int = 80  # feature bins
    dim: int = 1024  # E, width
    heads: int = 16  # attention heads; must divide dim
    ffn: int = 4096  # width of the feed-forward layers
    layers: int = 24  # Transformer layers
    chunk: int = 4  # frames (40 ms) a chunk, when forward names none; and of the stream
    left: int = 16  # chunks of left context, when forward names none; -1: all
    input_layer: Literal["linear", "none"] = "linear"  # between subsampling and layers
    norm_first: bool = True  # layer norms before the sub-layers (and one at the end), or after
    concat_after: bool = False  # join attention's input and output by a linear, not a sum
    dropout: float = 0.1  # on sub-layers' outputs and inside the feed-forward
    attention_dropout: float = 0.0  # on attention weights
    position_dropout: float = 0.1  # on the layers' input and the position rows
    positions: int = 16384  # labels before they start again at 0 (frames; 11 minutes)
    compat: Literal["none", "official"] = "none"  # official: the published program's label quirks


@dataclass
class SpeechEncoderState:
    """One stream, or a batch of streams of different ages."""

    context: Tensor  # [B, 3, mel] the last feature frames, before normalisation
    caches: list[AttentionState]  # one a layer, [B, heads, chunk * left, ..]
    position: Tensor  # [B] int64 on the CPU: frames so far (official: the counter)
    filled: Tensor  # [B] int64 on the CPU: places of the cache in use
    first_label: Tensor  # [B] int64 on the CPU: label of the cache's first place (official)
    chunk: int  # output frames a chunk
    left: int  # chunks of left context; -1: all, the cache grows


class EncoderLayer(nn.Module):
    """Attention and feed-forward (relu), with norms before or after."""

    def __init__(self, cfg: SpeechEncoderConfig) -> None:
        super().__init__()
        self.norm_first = cfg.norm_first
        self.attention = LabelledAttention(cfg.dim, cfg.heads, cfg.attention_dropout)
        self.ffn_in = nn.Linear(cfg.dim, cfg.ffn)
        self.ffn_out = nn.Linear(cfg.ffn, cfg.dim)
        self.norm1 = nn.LayerNorm(cfg.dim)
        self.norm2 = nn.LayerNorm(cfg.dim)
        self.concat = nn.Linear(2 * cfg.dim, cfg.dim) if cfg.concat_after else None
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(
        self,
        x: Tensor,
        rows: Tensor,
        mask: Tensor | None,
        cache: AttentionState | None = None,
        limit: int | None = None,
    ) -> tuple[Tensor, AttentionState | None]:
        """``[B, T, E]`` and label rows -> ``[B, T, E]`` and, with a cache, the next cache."""
        y = self.norm1(x) if self.norm_first else x
        if cache is None:
            a = self.attention(y, rows, mask)
        else:
            a, cache = self.attention.step(y, rows, cache, limit, mask)
        if self.concat is not None:
            x = x + self.concat(torch.cat([y, a], -1))
        else:
            x = x + self.dropout(a)
        if not self.norm_first:
            x = self.norm1(x)
        y = self.norm2(x) if self.norm_first else x
        x = x + self.dropout(self.ffn_out(self.dropout(F.relu(self.ffn_in(y)))))
        return (x if self.norm_first else self.norm2(x)), cache


class InputLayer(nn.Module):
    """Linear, layer norm, dropout, relu."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, E] -> [B, T, E]``."""
        return F.relu(self.dropout(self.norm(self.linear(x))))


class SpeechEncoder(ChunkEncoder[SpeechEncoderState]):
    """The paper's encoder; see :class:`ChunkEncoder`."""

    features = "kaldi-fbank"

    def __init__(self, cfg: SpeechEncoderConfig) -> None:
        super().__init__(cfg)
        self.cfg = cfg
        self.cmvn = GlobalCmvn(cfg.mel)
        self.subsampling = ConvSubsampling(cfg.mel, cfg.dim)
        linear = cfg.input_layer == "linear"
        self.input = InputLayer(cfg.dim, cfg.dropout) if linear else None
        self.layers = nn.ModuleList(EncoderLayer(cfg) for _ in range(cfg.layers))
        self.norm = nn.LayerNorm(cfg.dim) if cfg.norm_first else None
        self.position_dropout = nn.Dropout(cfg.position_dropout)
        self._labels = LabelTable(cfg.dim, self._attentions)
        self.captured: CapturedStep | None = None  # of a chunk, see fo_core.models.static_shapes

    def _apply(self, fn, recurse=True):
        """After a cast or a move the captured chunk is dropped: it reads weights that are gone."""
        self.captured = None
        return super()._apply(fn, recurse)

    @property
    def _attentions(self) -> list[LabelledAttention]:
        return [layer.attention for layer in self.layers]  # type: ignore[misc]

    def forward(
        self,
        feats: Tensor,
        lens: Tensor | None = None,
        chunk: int | None = None,
        left: int | None = None,
        context: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances; see :class:`ChunkEncoder`."""
        feats, out_lens = self._framed(feats, lens, context)
        x = self.embed(feats)
        time = x.shape[1]
        chunk, left = self._chunks(chunk, left)
        mask = attention_mask(time, chunk, left, None if lens is None else out_lens, x.device)
        labels = torch.arange(time, device=x.device) % self.cfg.positions
        table = self.position_dropout(sinusoids(labels, self.dim).to(x.dtype))
        for layer, attention in zip(self.layers, self._attentions, strict=True):
            x, _ = layer(x, attention.label_rows(table), mask)
        return self.finish(x), out_lens

    def init_state(
        self, batch_size: int, chunk: int | None = None, left: int | None = None
    ) -> SpeechEncoderState:
        """The state of a stream before its first frame (chunk and left None: the config's)."""
        chunk, left = self._chunks(chunk, left)
        assert chunk > 0, "a stream needs a chunk"
        places = self._places(chunk, left)
        zeros = torch.zeros(batch_size, dtype=torch.int64)
        return SpeechEncoderState(
            self.cmvn.mean.new_zeros(batch_size, CONTEXT_FRAMES, self.cfg.mel),
            [attention.init_state(batch_size, places) for attention in self._attentions],
            zeros,
            zeros,
            zeros - places,
            chunk,
            left,
        )

    def _step(self, feats: Tensor, state: SpeechEncoderState) -> tuple[Tensor, SpeechEncoderState]:
        feats = torch.cat([state.context, feats.to(state.context)], 1)
        count, places = feats.shape[1] // 4, state.caches[0].keys.shape[2]
        state, labels, advance = self._label(state, count, places)
        rows = self._labels.rows(labels)
        grows = self._grows(state)
        mask = None if grows else filled_mask(state.filled, places, count, feats.device)
        flat = [part for cache in state.caches for part in (cache.keys, cache.values)]
        # only what never changes its shapes can be captured
        run = self._chunk if self.captured is None or grows else self.captured
        y, *flat = run(feats, rows, mask, *flat, key=None if grows else places)
        caches = [AttentionState(*pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
        filled = state.filled + count
        return y, SpeechEncoderState(
            feats[:, feats.shape[1] - CONTEXT_FRAMES :],
            caches,
            state.position + advance,
            filled if grows else filled.clamp_max(places),
            state.first_label + count,
            state.chunk,
            state.left,
        )

    def _chunk(
        self, feats: Tensor, rows: Tensor, mask: Tensor | None, *flat: Tensor, key: int | None
    ) -> list[Tensor]:
        """All that is computed for a chunk.

        Args:
            feats: ``[B, T + 3, mel]``.
            rows: What labels add to the keys, ``[B, M, layers, heads, K]``.
            mask: Places in use, see :meth:`EncoderLayer.forward`.
            flat: Keys and values of each layer, in turn.
            key: Places that are kept; None: all.

        Returns:
            ``[B, M, E]``, and keys and values again.
        """
        x, kept = self.embed(feats), []
        for i, layer in enumerate(self.layers):
            cache = AttentionState(flat[2 * i], flat[2 * i + 1])
            x, cache = layer(x, rows[:, :, i], mask, cache, key)
            kept += [cache.keys, cache.values]
        return [self.finish(x), *kept]

    def _places(self, chunk: int, left: int) -> int:
        """Places of the cache of a stream."""
        return chunk * max(left, 0)

    def _grows(self, state: SpeechEncoderState) -> bool:
        """Whether the cache of a stream grows with every chunk."""
        return state.left < 0

    def _label(
        self, state: SpeechEncoderState, count: int, places: int
    ) -> tuple[SpeechEncoderState, Tensor, int]:
        """Labels ``[B, count]`` of the next frames; by how much the position moves on."""
        labels = (state.position[:, None] + torch.arange(count)) % self.cfg.positions
        return state, labels, count

    def embed(self, feats: Tensor) -> Tensor:
        """Normalise and subsample: ``[B, T + 3, mel] -> [B, T / 4, E]``, the layers' input."""
        x = self.subsampling(self.cmvn(feats).to(self.subsampling.out.weight.dtype))
        if self.input is not None:
            x = self.input(x)
        return self.position_dropout(x * math.sqrt(self.dim))

    def finish(self, x: Tensor) -> Tensor:
        """The final norm, if there is one."""
        return x if self.norm is None else self.norm(x)
