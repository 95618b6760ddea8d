"""Losses of stage output-1 on voices alone: other people say what the model's own voice says.

Every item is a recording whose ``speech_tokens`` are not its own: they are those of the same
sentence in the model's own voice, spoken token by token at the same time (25 ms each, from the
recording's start). So the tokens stay what the speech decoder has learned, and only the global
tokens say who speaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.training.losses.codec import CodecLosses
from fo_core.training.stage import Batch, Ratio, Sounds

SPOKEN = 40  # tokens of a training item that are spoken: 1 s
DRAWS = Callable[[int], int]  # from 0 to a number, both included


def _drawn(most: int) -> int:
    return int(torch.randint(most + 1, ()))


def stretches(batch: Batch, hop: int, most: int, draw: DRAWS) -> tuple[Tensor, Tensor, Tensor]:
    """A stretch of every item to speak, and another one that says whose voice it is.

    Args:
        batch: Whole items: ``wave [B, S]``, ``wave_lens``, ``items``.
        hop: Samples of a token.
        most: Tokens that are spoken at most.
        draw: Where a stretch begins.

    Returns:
        Tokens ``[B, T, 1]``, their sound ``[B, T * hop]``, and the sound of the voice
        ``[B, V * hop]``, as long as the shortest item.

    Raises:
        DataError: An item's tokens and sound differ in length.
    """
    sizes = zip(batch["items"], batch["wave_lens"].tolist(), strict=True)
    counts = [_whole(item, size // hop) for item, size in sizes]
    whole = max(1, min(counts))
    size = min(whole, most)
    tokens, spoken, heard = [], [], []
    for item, wave, count in zip(batch["items"], batch["wave"], counts, strict=True):
        at, other = draw(max(0, count - size)), draw(max(0, count - whole))
        tokens.append(torch.tensor(item.speech_tokens[at : at + size], device=wave.device))
        spoken.append(wave[at * hop : (at + size) * hop])
        heard.append(wave[other * hop : (other + whole) * hop])
    return torch.stack(tokens)[..., None], torch.stack(spoken), torch.stack(heard)


def _whole(item: Item, size: int) -> int:
    """Tokens of an item whose sound has so many."""
    count = len(item.speech_tokens)
    if abs(count - size) > 1:
        raise DataError(
            f"item {item.id}: {count} speech tokens for a sound of {size}",
            possible="whole recordings that last as long as their tokens",
            do="set train.batch.crop_seconds and train.val_batch.crop_seconds to 0",
        )
    return min(count, size)


def spoken_again(model: FreezeOmni, tokens: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, T, 1]`` in the voices of ``heard [B, S]``.

    Returns:
        Wave ``[B, T * hop]``, and the commitment loss ``[]`` of the global vectors.
    """
    codec = model.codec
    _, vector = codec.features(heard)
    voice = codec.global_quantizer(vector)
    return codec.synthesize(codec.quantizer.decode(tokens), voice.vectors), voice.commitment_loss


@dataclass(frozen=True)
class VoicesLoss:
    """Reconstruction of other voices from the own voice's tokens.

    Attributes:
        terms: Weighted terms.
    """

    terms: CodecLosses

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        training = model.codec.global_quantizer.training
        draw = _drawn if training else lambda most: most // 2
        tokens, wave, heard = stretches(batch, model.codec.hop, SPOKEN, draw)
        made, commitment = spoken_again(model, tokens, heard)
        cfg, terms = self.terms.cfg, self.terms.to(wave.device)
        mel = cfg.mel * terms.mel(made, wave)
        commitment = cfg.commitment * commitment
        return {"loss": mel + commitment, "mel": mel, "commitment": commitment}


@dataclass(frozen=True)
class VoicesMetrics:
    """Mel distance in nat of held-out items, up to 4 s of each."""

    terms: CodecLosses

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Ratio | float]:
        tokens, wave, heard = stretches(batch, model.codec.hop, 4 * SPOKEN, lambda most: 0)
        made, _ = spoken_again(model, tokens, heard)
        mel = float(self.terms.to(wave.device).mel(made, wave))
        return {"mel_distance": (mel * len(wave), float(len(wave)))}


def voices_sounds(model: FreezeOmni, batch: Batch, count: int) -> Sounds:
    """Held-out recordings, and what the codec makes of the tokens in their voices."""
    tokens, wave, heard = stretches(batch, model.codec.hop, 10 * SPOKEN, lambda most: 0)
    made, _ = spoken_again(model, tokens[:count], heard[:count])
    sounds = {}
    for item, one, two in zip(batch["items"], wave, made, strict=False):
        sounds[f"{item.id}-original"] = (one.float().cpu().numpy(), model.codec.sample_rate)
        sounds[f"{item.id}-codec"] = (two.float().cpu().numpy(), model.codec.sample_rate)
    return sounds
