"""What every codec does, whatever its type: 24 kHz to 40 Hz tokens and global codes, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from fo_core.models.codec.quantizer import Quantizer

SAMPLE_RATE = 24000
TOKEN_SAMPLES = 600


@dataclass
class CodecOutput:
    """Result of one training pass over a batch of waves."""

    wave: Tensor  # [B, S] reconstruction at 24 kHz
    tokens: Tensor  # [B, T, K] int64
    global_tokens: Tensor  # [B, 1, G] int64
    codebook_loss: Tensor  # []
    commitment_loss: Tensor  # []
    voice: Tensor  # [B, 1, G] global vectors before quantising


def exchanged(vectors: Tensor) -> Tensor:
    """Vectors ``[2 B, ...]`` whose two halves have changed places."""
    first, second = vectors.chunk(2)
    return torch.cat((second, first))


class TokenCodec(nn.Module, ABC):
    """A codec between two quantisers; a type gives :meth:`features` and :meth:`synthesize`."""

    sample_rate = SAMPLE_RATE
    hop = TOKEN_SAMPLES
    cfg: Any  # sizes; ``quantizer`` and ``global_quantizer`` among them
    quantizer: Quantizer
    global_quantizer: Quantizer
    # globs of the parameters that tokens depend on: frozen where only voices are learned
    token_parts: ClassVar[tuple[str, ...]]

    @abstractmethod
    def features(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors before quantising.

        Args:
            wave: ``[B, S]`` at 24 kHz; cut to whole tokens, or padded with zeros to one.

        Returns:
            Frame vectors ``[B, T, code dim]``, T = S // 600, and the global vector
            ``[B, 1, global dim]``.
        """

    @abstractmethod
    def synthesize(
        self, vectors: Tensor, global_vector: Tensor, keep: tuple[int, int] | None = None
    ) -> Tensor:
        """Wave ``[B, 600 * T]`` of vectors ``[B, T, C]`` and a global vector ``[B, 1, C']``.

        ``keep``: first and last + 1 token whose samples are wanted.
        """

    @property
    def codes(self) -> int:
        """Entries of the codebook."""
        return self.cfg.quantizer.codes

    def fold_weight_norm(self) -> Self:
        """Make every normalised weight a plain one, for inference; returns itself."""
        for module in self.modules():
            if nn.utils.parametrize.is_parametrized(module):
                nn.utils.parametrize.remove_parametrizations(module, "weight")
        return self

    def forward(self, wave: Tensor, exchange: bool = False) -> CodecOutput:
        """Training pass over ``wave [B, S]`` at 24 kHz, S a multiple of 600.

        With ``exchange`` the rows of the batch's first half are spoken with the global vectors of
        its second half and the other way round (two parts of the same recordings).
        """
        x, g = self.features(wave)
        codes, voice = self.quantizer(x), self.global_quantizer(exchanged(g) if exchange else g)
        return CodecOutput(
            wave=self.synthesize(codes.vectors, voice.vectors),
            tokens=codes.tokens,
            global_tokens=voice.tokens,
            codebook_loss=codes.codebook_loss + voice.codebook_loss,
            commitment_loss=codes.commitment_loss + voice.commitment_loss,
            voice=g,
        )

    @torch.no_grad()
    def encode(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, T, K]`` and global codes ``[B, 1, G]`` of ``wave [B, S]`` at 24 kHz."""
        x, g = self.features(wave)
        return self.quantizer.encode(x), self.global_quantizer.encode(g)

    @torch.no_grad()
    def voice_of(self, waves: Iterable[Tensor]) -> tuple[int, ...]:
        """Global tokens [G] of the voice that speaks in waves [S] at 24 kHz, one or more.

        They are of the mean of the waves' global vectors, each of which is a mean over time.
        """
        vectors = torch.stack([self.features(wave[None])[1] for wave in waves])  # [N, 1, 1, D]
        return tuple(self.global_quantizer.encode(vectors.mean(0)).flatten().tolist())

    @torch.no_grad()
    def decode(
        self, tokens: Tensor, global_tokens: Tensor, keep: tuple[int, int] | None = None
    ) -> Tensor:
        """Wave of tokens.

        Args:
            tokens: ``[B, T, K]``.
            global_tokens: ``[B, 1, G]``.
            keep: First and last + 1 token whose samples are wanted; None keeps all.

        Returns:
            ``[B, 600 * T]``, or ``[B, 600 * (keep[1] - keep[0])]``: the same samples.
        """
        vectors = self.quantizer.decode(tokens)
        return self.synthesize(vectors, self.global_quantizer.decode(global_tokens), keep)
