"""A speech encoder that starts from Whisper's, made to work chunk by chunk.

Not in the paper: its encoder hears from nothing in 110,000 h; this one has heard 680,000 h already
and only has to get used to 160 ms chunks (stage ``input-1``). What differs from Whisper:

* features: ``WhisperMel``, with a floor from the largest value so far;
* the convolutions see 3 earlier frames instead of padding, which delays them by one frame (10 ms)
  and makes a chunk independent of the next one;
* attention sees its own chunk and ``left`` chunks before it;
* positions run on, modulo Whisper's 30 s, and are drawn at random in training (``jitter``);
* pairs of 20 ms frames are joined to frames of 40 ms by ``merge``, at first their mean.

``whisper`` is Whisper's own computation with the same weights, for comparison.

Parameters: ``conv1``, ``conv2``, ``layers.N.attention.{query,key,value,out}``,
``layers.N.{norm1,norm2,ffn_in,ffn_out}``, ``norm``, ``merge``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.config import config
from fo_core.errors import CheckpointError, ConfigError
from fo_core.layers.attention import Attention, AttentionState
from fo_core.layers.masks import attention_mask, filled_mask
from fo_core.models.encoder.chunk_encoder import ChunkEncoder
from fo_core.models.encoder.whisper_weights import read_whisper
from fo_core.streaming import CONTEXT_FRAMES

POSITIONS = 1500  # Whisper's: 30 s of 20 ms frames


@config
class WhisperEncoderConfig:
    """Whisper's encoder in chunks; defaults are tiny's size."""

    type: Literal["whisper"] = "whisper"
    path: str | None = (
        "embedded"  # start: "embedded", CTranslate2 or Hugging Face folder; None: random
    )
    mel: int = 80  # feature bins
    dim: int = 384  # E, width
    heads: int = 6  # attention heads
    layers: int = 4  # Transformer layers
    chunk: int = 4  # frames (40 ms) a chunk, when forward names none; and of the stream
    left: int = 16  # chunks of left context, when forward names none; -1: all
    jitter: int = 0  # training: first position drawn from 0 .. jitter - 1 (frames of 20 ms)
    dropout: float = 0.0  # on sub-layers' outputs
    attention_dropout: float = 0.0  # on attention weights


@dataclass
class WhisperEncoderState:
    """One stream, or a batch of streams of different ages."""

    context: Tensor  # [B, 3, mel] the last feature frames
    caches: list[AttentionState]  # one a layer, [B, heads, 2 * chunk * left, E / heads]
    position: Tensor  # [B] int64 on the CPU: 20 ms frames so far
    filled: Tensor  # [B] int64 on the CPU: places of the cache in use
    chunk: int  # output frames a chunk
    left: int  # chunks of left context; -1: all, the cache grows


class WhisperLayer(nn.Module):
    """Whisper's pre-norm layer."""

    def __init__(self, cfg: WhisperEncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(cfg.dim, cfg.heads, False, cfg.attention_dropout)
        self.norm1 = nn.LayerNorm(cfg.dim)
        self.norm2 = nn.LayerNorm(cfg.dim)
        self.ffn_in = nn.Linear(cfg.dim, 4 * cfg.dim)
        self.ffn_out = nn.Linear(4 * cfg.dim, cfg.dim)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        cache: AttentionState | None = None,
        limit: int | None = None,
    ) -> tuple[Tensor, AttentionState | None]:
        """``[B, T, E]`` -> the same and, with a cache, the next cache."""
        if cache is None:
            a = self.attention(self.norm1(x), mask)
        else:
            a, cache = self.attention.step(self.norm1(x), cache, limit, mask)
        x = x + self.dropout(a)
        return x + self.dropout(self.ffn_out(F.gelu(self.ffn_in(self.norm2(x))))), cache


class WhisperEncoder(ChunkEncoder[WhisperEncoderState]):
    """Whisper's encoder in chunks; see :class:`ChunkEncoder`.

    Where the config names a start, its weights are loaded at once. If the start cannot be found
    (a saved model on another machine), that is an error only when the encoder is used before
    other weights have been loaded.

    Args:
        cfg: Start, sizes and the default chunk.
        start: False: the start is not read, for other weights will be loaded.

    Raises:
        ConfigError: The start has other sizes, or sizes contradict each other.
    """

    features = "whisper-mel"

    def __init__(self, cfg: WhisperEncoderConfig, start: bool = True) -> None:
        super().__init__(cfg)
        self.cfg = cfg
        self.conv1 = nn.Conv1d(cfg.mel, cfg.dim, 3)
        self.conv2 = nn.Conv1d(cfg.dim, cfg.dim, 3, stride=2)
        self.layers = nn.ModuleList(WhisperLayer(cfg) for _ in range(cfg.layers))
        self.norm = nn.LayerNorm(cfg.dim)
        self.merge = nn.Linear(2 * cfg.dim, cfg.dim)
        with torch.no_grad():  # the mean of the two frames
            self.merge.weight.copy_(torch.eye(cfg.dim).repeat(1, 2) / 2)
            self.merge.bias.zero_()
        self.register_buffer("positions", whisper_positions(cfg.dim), persistent=False)
        self.positions: Tensor
        self._missing: CheckpointError | None = None
        self.register_load_state_dict_post_hook(_weights_came)
        if cfg.path is not None and start:
            try:
                self.load_whisper(cfg.path)
            except CheckpointError as error:
                self._missing = error

    def load_whisper(self, path: str) -> None:
        """Take the weights of a Whisper model (see ``read_whisper``); ``merge`` stays.

        Raises:
            CheckpointError: There is no Whisper model.
            ConfigError: It has other sizes than the config.
        """
        tensors = read_whisper(path)
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("merge.")}
        if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in own.items()}:
            layers = len({k.split(".")[1] for k in tensors if k.startswith("layers.")})
            dim = tensors["norm.bias"].shape[0] if "norm.bias" in tensors else "?"
            raise ConfigError(
                f"speech_encoder: Whisper of {path} has layers {layers}, dim {dim}, not "
                f"{self.cfg.layers}, {self.cfg.dim}",
                do="set speech_encoder.layers, .dim and .heads to that model's",
            )
        self.load_state_dict(tensors, strict=False)

    def forward(
        self,
        feats: Tensor,
        lens: Tensor | None = None,
        chunk: int | None = None,
        left: int | None = None,
        context: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances; see :class:`ChunkEncoder`."""
        hidden, out_lens = self.hidden(feats, lens, chunk, left, context)
        return self.join(hidden), out_lens

    def hidden(
        self,
        feats: Tensor,
        lens: Tensor | None = None,
        chunk: int | None = None,
        left: int | None = None,
        context: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`forward` before pairs are joined: ``[B, T / 2, E]`` (20 ms), lengths of 40 ms."""
        self._check()
        feats, out_lens = self._framed(feats, lens, context)
        chunk, left = self._chunks(chunk, left)
        x = self.stem(feats)
        x = x[:, : x.shape[1] // 2 * 2]
        first = 0
        if self.training and self.cfg.jitter > 0:
            first = int(torch.randint(self.cfg.jitter, (1,)))
        labels = (first + torch.arange(x.shape[1], device=x.device)) % POSITIONS
        x = x + self.positions[labels].to(x.dtype)
        mask = attention_mask(x.shape[1], 2 * chunk, left, 2 * out_lens, x.device)
        for layer in self.layers:
            x, _ = layer(x, mask)
        return self.norm(x), out_lens

    def init_state(
        self, batch_size: int, chunk: int | None = None, left: int | None = None
    ) -> WhisperEncoderState:
        """The state of a stream before its first frame (chunk and left None: the config's)."""
        self._check()
        chunk, left = self._chunks(chunk, left)
        assert chunk > 0, "a stream needs a chunk"
        places = 2 * chunk * max(left, 0)
        zeros = torch.zeros(batch_size, dtype=torch.int64)
        return WhisperEncoderState(
            self.conv1.weight.new_zeros(batch_size, CONTEXT_FRAMES, self.cfg.mel),
            [layer.attention.init_state(batch_size, places) for layer in self.layers],  # type: ignore[operator,union-attr]
            zeros,
            zeros,
            chunk,
            left,
        )

    def _step(
        self, feats: Tensor, state: WhisperEncoderState
    ) -> tuple[Tensor, WhisperEncoderState]:
        feats = torch.cat([state.context, feats.to(state.context)], 1)
        x = self.stem(feats)
        count, places = x.shape[1], state.caches[0].keys.shape[2]
        labels = (state.position[:, None] + torch.arange(count)) % POSITIONS
        x = x + self.positions[labels.to(x.device)].to(x.dtype)
        grows = state.left < 0
        mask = None if grows else filled_mask(state.filled, places, count, x.device)
        limit = None if grows else places
        caches: list[Any] = []
        for layer, cache in zip(self.layers, state.caches, strict=True):
            x, cache = layer(x, mask, cache, limit)
            caches.append(cache)
        filled = state.filled + count
        return self.join(self.norm(x)), WhisperEncoderState(
            feats[:, feats.shape[1] - CONTEXT_FRAMES :],
            caches,
            state.position + count,
            filled if grows else filled.clamp_max(places),
            state.chunk,
            state.left,
        )

    def stem(self, feats: Tensor) -> Tensor:
        """``[B, T + 3, mel] -> [B, T / 2, E]``: both convolutions without padding."""
        x = feats.to(self.conv1.weight.dtype).transpose(1, 2)
        return F.gelu(self.conv2(F.gelu(self.conv1(x)))).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """Pairs of frames to one: ``[B, T, E] -> [B, T / 2, E]``."""
        return self.merge(x.unflatten(1, (-1, 2)).flatten(2))

    def whisper(self, feats: Tensor) -> Tensor:
        """Whisper's own encoder: ``[B, T, mel] -> [B, T / 2, E]``, T up to 3,000, full context."""
        self._check()
        x = F.gelu(self.conv1(F.pad(feats.transpose(1, 2), (1, 1))))
        x = F.gelu(self.conv2(F.pad(x, (1, 1)))).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        for layer in self.layers:
            x, _ = layer(x, None)
        return self.norm(x)

    def _check(self) -> None:
        if self._missing is not None:
            raise self._missing


def _weights_came(module: nn.Module, _: Any) -> None:
    module._missing = None  # type: ignore[assignment]


def whisper_positions(dim: int) -> Tensor:
    """Whisper's fixed sinusoids, sines first: ``[1500, dim]``."""
    rates = torch.exp(-math.log(10000.0) / (dim // 2 - 1) * torch.arange(dim // 2))
    angles = torch.arange(POSITIONS)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
