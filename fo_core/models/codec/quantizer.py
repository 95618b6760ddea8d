"""Residual grouped vector quantiser, shared by every codec type (TiCodec's layout: PAPER, codec).

A frame vector is cut into ``groups`` parts, each replaced by its nearest code; ``layers`` of this
run on what the earlier ones left over. Decoding adds the layers of concatenated groups. The same
class quantises the time-invariant (global) vector with one layer of many groups.

Two ways to learn the codes: ``gradient`` (codebook loss, the published recipe) and ``ema`` (running
means of the vectors that chose a code). Codes that nobody chose for a while are revived from
vectors of the current batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fo_core.config import config
from fo_core.errors import ConfigError


@config
class QuantizerConfig:
    """One quantiser."""

    dim: int = 512  # width of a vector before it is cut into groups
    codes: int = 1024  # entries of each codebook
    groups: int = 1  # parts a vector is cut into
    layers: int = 1  # residual layers
    distance: Literal["l2", "cosine"] = "l2"  # nearest by; cosine keeps codes and input on a sphere
    update: Literal["gradient", "ema"] = "gradient"  # how codes learn
    decay: float = 0.98  # memory of the ema update, per step
    revive_after: int = 50  # training steps without use before a code is replaced; 0 = never


@dataclass
class Quantized:
    """What a quantiser returns."""

    vectors: Tensor  # [B, T, dim], straight-through gradient in training
    tokens: Tensor  # [B, T, layers * groups] int64, layer-major
    codebook_loss: Tensor  # [], pulls codes to vectors (0 with the ema update)
    commitment_loss: Tensor  # [], pulls vectors to codes


def _fill_learning_state(
    book: nn.Module, state: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """A table that comes without learning state (a converted one) counts as learned."""
    weight = state.get(f"{prefix}weight")
    if weight is None:
        return
    state.setdefault(f"{prefix}started", torch.ones((), dtype=torch.bool))
    state.setdefault(f"{prefix}idle", torch.zeros(weight.shape[0], dtype=torch.long))
    if getattr(book, "ema", False):
        state.setdefault(f"{prefix}usage", torch.ones(weight.shape[0]))
        state.setdefault(f"{prefix}sums", weight.clone())


class Codebook(nn.Module):
    """One table of codes with its learning state.

    Args:
        codes: Number of entries.
        dim: Width of an entry.
        cfg: Distance and learning rule.
    """

    usage: Tensor
    sums: Tensor
    idle: Tensor
    started: Tensor

    def __init__(self, codes: int, dim: int, cfg: QuantizerConfig) -> None:
        super().__init__()
        self.cosine, self.ema = cfg.distance == "cosine", cfg.update == "ema"
        self.decay, self.revive_after = cfg.decay, cfg.revive_after
        self.weight = nn.Parameter(torch.randn(codes, dim) / dim**0.5, requires_grad=not self.ema)
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.long))  # steps without use
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))  # filled from data
        if self.ema:
            self.register_buffer("usage", torch.ones(codes))  # running count of choices
            self.register_buffer("sums", self.weight.detach().clone())  # running sum of vectors
        self.noted: tuple[Tensor, Tensor, Tensor] | None = None  # uses, sums, vectors of a step
        self.register_load_state_dict_pre_hook(_fill_learning_state)

    def prepare(self, x: Tensor) -> Tensor:
        """Vectors ``[..., dim]`` as they are compared: unit length with cosine distance."""
        return F.normalize(x, dim=-1) if self.cosine else x

    def table(self) -> Tensor:
        """Codes ``[codes, dim]`` as they are compared and decoded."""
        return self.prepare(self.weight)

    def nearest(self, x: Tensor) -> Tensor:
        """Index ``[M]`` of the code nearest to each prepared vector ``[M, dim]``."""
        table = self.table()
        if self.cosine:
            return (x @ table.t()).argmax(-1)
        distance = (x * x).sum(1, keepdim=True) - 2 * (x @ table.t()) + (table * table).sum(1)
        return distance.argmin(-1)

    def lookup(self, tokens: Tensor) -> Tensor:
        """Codes ``[..., dim]`` of tokens ``[...]``."""
        return F.embedding(tokens, self.table())

    @torch.no_grad()
    def note(self, x: Tensor, tokens: Tensor) -> None:
        """Count what a training batch chose, until :meth:`after_step`.

        Args:
            x: Prepared vectors ``[M, dim]``.
            tokens: Their codes ``[M]``.
        """
        count = torch.bincount(tokens, minlength=self.weight.shape[0]).to(x.dtype)
        total = torch.zeros_like(self.weight).index_add_(0, tokens, x)
        if self.noted is not None:
            count, total, x = self.noted[0] + count, self.noted[1] + total, self.noted[2]
        self.noted = (count, total, x)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move and revive codes by what all batches of a step chose, in all processes.

        So codes stand still while the batches of a step are summed up, and a step is the same one
        however many processes share its batches.
        """
        if self.noted is None:
            return
        count, total, x = self.noted
        self.noted = None
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            torch.distributed.all_reduce(total)
        if self.ema:
            self.usage.lerp_(count, 1 - self.decay)
            self.sums.lerp_(total, 1 - self.decay)
            mean = self.prepare(self.sums / self.usage.clamp(min=1e-5)[:, None])
            self.weight.data.copy_(torch.where((self.usage > 1e-3)[:, None], mean, self.weight))
        self.idle.add_(1).masked_fill_(count > 0, 0)
        if self.revive_after:
            self.revive(self.idle >= self.revive_after, x)

    @torch.no_grad()
    def revive(self, dead: Tensor, x: Tensor) -> None:
        """Replace the codes marked in ``dead [codes]`` by vectors drawn from ``x [M, dim]``."""
        where = dead.nonzero().squeeze(1)
        if where.numel() == 0:
            return
        fresh = x[torch.randint(x.shape[0], (where.numel(),), device=x.device)]
        fresh = self.prepare(fresh + 1e-3 * torch.randn_like(fresh) * fresh.std())
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(fresh, 0)
        self.weight.data[where] = fresh.to(self.weight.dtype)
        self.idle[where] = 0
        if self.ema:
            self.sums[where], self.usage[where] = fresh, 1.0

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Fill the table from the first training batch ``x [M, dim]``."""
        if not bool(self.started):
            if self.ema or self.revive_after:
                self.revive(torch.ones_like(self.idle, dtype=torch.bool), x)
            self.started.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantise vectors ``[M, dim]``.

        Returns:
            Codes ``[M, dim]`` (with gradient to the table), tokens ``[M]``, codebook and commitment
            losses ``[]``.
        """
        x = self.prepare(x)
        if self.training:
            self.start(x.detach())
        tokens = self.nearest(x.detach())
        codes = self.lookup(tokens)
        codebook = F.mse_loss(codes, x.detach()) if not self.ema else x.new_zeros(())
        commitment = F.mse_loss(x, codes.detach())
        if self.training:
            codes = x + (codes - x).detach()
            self.note(x.detach(), tokens)
        return codes, tokens, codebook, commitment


class Quantizer(nn.Module):
    """Residual layers of grouped codebooks.

    Args:
        cfg: Widths and learning rule.

    Raises:
        ConfigError: ``dim`` is not a multiple of ``groups``, or a count is below one.
    """

    def __init__(self, cfg: QuantizerConfig) -> None:
        super().__init__()
        if min(cfg.dim, cfg.codes, cfg.groups, cfg.layers) < 1 or cfg.dim % cfg.groups:
            raise ConfigError(
                f"quantizer dim {cfg.dim} cannot be cut into {cfg.groups} groups",
                possible="dim a multiple of groups, all counts at least 1",
            )
        self.cfg = cfg
        width = cfg.dim // cfg.groups
        self.codebooks = nn.ModuleList(
            Codebook(cfg.codes, width, cfg) for _ in range(cfg.layers * cfg.groups)
        )

    @property
    def tokens_per_frame(self) -> int:
        """Tokens that stand for one vector: layers times groups."""
        return self.cfg.layers * self.cfg.groups

    def forward(self, x: Tensor) -> Quantized:
        """Quantise ``x [B, T, dim]``."""
        B, T, D = x.shape
        with torch.autocast(x.device.type, enabled=False):
            residual = x.float().reshape(B * T, D)
            total = torch.zeros_like(residual)
            tokens, codebook, commitment = [], x.new_zeros(()), x.new_zeros(())
            for layer in range(self.cfg.layers):
                parts = []
                for group, part in enumerate(residual.chunk(self.cfg.groups, dim=1)):
                    book = self.codebooks[layer * self.cfg.groups + group]
                    codes, chosen, book_loss, commit_loss = book(part)
                    parts.append(codes)
                    tokens.append(chosen)
                    codebook, commitment = codebook + book_loss, commitment + commit_loss
                quantized = torch.cat(parts, dim=1)
                residual = residual - quantized
                total = total + quantized
        return Quantized(
            total.reshape(B, T, D),
            torch.stack(tokens, dim=-1).reshape(B, T, -1),
            codebook / len(tokens),
            commitment / len(tokens),
        )

    def encode(self, x: Tensor) -> Tensor:
        """Tokens ``[B, T, layers * groups]`` of vectors ``[B, T, dim]``; learns nothing."""
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return self(x).tokens
        finally:
            self.train(was_training)

    def decode(self, tokens: Tensor) -> Tensor:
        """Vectors ``[B, T, dim]`` of tokens ``[B, T, layers * groups]``.

        Raises:
            ConfigError: The tokens have another count per frame or a value outside the codebook.
        """
        if tokens.shape[-1] != self.tokens_per_frame:
            raise ConfigError(
                f"{tokens.shape[-1]} codec tokens a frame", possible=f"{self.tokens_per_frame}"
            )
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.cfg.codes:
            raise ConfigError(
                f"codec token outside the codebook: {int(tokens.min())} … {int(tokens.max())}",
                possible=f"0 … {self.cfg.codes - 1}",
            )
        groups = self.cfg.groups
        vectors: Tensor | None = None
        for layer in range(self.cfg.layers):
            parts = [
                book.lookup(tokens[..., layer * groups + g])  # type: ignore[operator]
                for g, book in enumerate(self.codebooks[layer * groups : (layer + 1) * groups])
            ]
            quantized = torch.cat(parts, dim=-1)
            vectors = quantized if vectors is None else vectors + quantized
        assert vectors is not None
        return vectors
