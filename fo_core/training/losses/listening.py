"""The input branch as input stages run it: wave to encoder frames, CTC logits, LLM vectors.

Here also SpecAugment (lhotse's): bands and stretches of the features are hidden in training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from fo_core.config import config
from fo_core.features import feature_lens
from fo_core.layers.masks import draw_chunk, padding_mask
from fo_core.streaming import ENCODER_FRAMES
from fo_core.training.stage import Batch

SHORTEST = 50  # frames; shorter recordings stay as they are


@config
class SpecAugmentConfig:
    """How much is hidden, on features of 10 ms; the hidden parts hold the recording's mean."""

    share: float = 0.9  # share of the recordings that are masked
    warp: int = 80  # frames by which a point in time is moved at most; 0 = no warp
    bands: int = 2  # masked frequency bands
    band_bins: int = 27  # widest masked band, mel bins
    stretches: int = 10  # maximum number of masked time spans
    stretch_frames: int = 100  # longest masked time span, frames
    stretch_share: float = 0.15  # maximum share of frames that are masked


def spec_augment(feats: Tensor, lens: Tensor, cfg: SpecAugmentConfig) -> Tensor:
    """A changed copy of features ``[B, T, mel]``; frames behind ``lens [B]`` stay as they are."""
    from lhotse.dataset.signal_transforms import SpecAugment

    change = SpecAugment(
        time_warp_factor=cfg.warp or None,
        num_feature_masks=cfg.bands,
        features_mask_size=cfg.band_bins,
        num_frame_masks=cfg.stretches,
        frames_mask_size=cfg.stretch_frames,
        max_frames_mask_fraction=cfg.stretch_share,
        p=cfg.share,
    )
    changed = feats.clone()
    for row, length in enumerate(lens.tolist()):
        if length >= SHORTEST:
            changed[row, :length] = change(feats[row : row + 1, :length])[0]
    return changed


Chunks = Literal["dynamic", "fixed", "full"]


@dataclass
class EncodedSpeech:
    """What the input branch makes of a batch."""

    frames: Tensor  # [B, T, E] encoder output, 40 ms
    frame_lens: Tensor  # [B]
    ctc_logits: Tensor | None  # [B, T, V] where the adapter or a loss wants them
    feats: Tensor  # [B, 4 T, mel] features, 10 ms
    hidden: Tensor | None = None  # [B, 2 T, E] before pairs are joined, where a loss wants them


def encode_speech(
    model: Any,
    batch: Batch,
    chunks: Chunks,
    ctc: bool,
    hide: SpecAugmentConfig | None = None,
    hidden: bool = False,
) -> EncodedSpeech:
    """Run features, encoder and CTC head.

    Args:
        model: A ``FreezeOmni``.
        batch: ``wave [B, S]`` at 16 kHz and ``wave_lens [B]``.
        chunks: "dynamic" draws a chunk size per batch while the encoder trains; otherwise, and
            for "fixed", the encoder's own chunk; "full": all context.
        ctc: Whether CTC logits are wanted.
        hide: SpecAugment while the encoder trains; None = none.
        hidden: Keep what the encoder has before it joins pairs (Whisper's only).
    """
    clean = feats = model.features(batch["wave"])
    lens = feature_lens(batch["wave_lens"].to(feats.device))
    if hide is not None and model.speech_encoder.training:
        feats = spec_augment(feats, lens, hide)
    chunk: int | None = None
    left: int | None = None
    if chunks == "dynamic" and model.speech_encoder.training:
        chunk, left = draw_chunk(int(lens.max()) // 4)
    elif chunks == "full":
        chunk, left = -1, -1
    encoder, before = model.speech_encoder, None
    if hidden:
        before, frame_lens = encoder.hidden(feats, lens, chunk, left)
        frames = encoder.join(before)
    else:
        frames, frame_lens = encoder(feats, lens, chunk, left)
    logits = model.ctc_head(frames) if ctc else None
    return EncodedSpeech(frames, frame_lens.to(frames.device), logits, clean, before)


def measure_normalisation(model: Any, loader: Iterable[Batch], batches: int) -> None:
    """Let an encoder with feature normalisation measure it on the first batches of training data.

    One that has been measured already (by an earlier run, or published weights) is left alone.
    """
    cmvn = getattr(model.speech_encoder, "cmvn", None)
    if cmvn is None or not batches or not torch.equal(cmvn.istd, torch.ones_like(cmvn.istd)):
        return
    rows = []
    for batch in islice(loader, batches):
        feats = model.features(batch["wave"].to(model.device))
        rows.append(feats[padding_mask(feature_lens(batch["wave_lens"]), feats.shape[1])])
    cmvn.measure(rows)


def speech_vectors(model: Any, heard: EncodedSpeech) -> list[Tensor]:
    """What the adapter gives the LLM, ``[N_i, H]`` for every item."""
    embeds, lens = model.adapter(heard.frames, heard.frame_lens, heard.ctc_logits)
    return [row[:length] for row, length in zip(embeds, lens.tolist(), strict=True)]


@torch.no_grad()
def vectors_per_chunk(model: Any, heard: EncodedSpeech) -> tuple[Tensor, list[list[Tensor]]]:
    """What the streaming adapter has emitted when each chunk ends, and what it holds back.

    Args:
        model: Its adapter is stepped chunk by chunk, as in a session.
        heard: A batch.

    Returns:
        ``[B, C]`` running counts of vectors, and for every item and chunk the vectors ``[P, H]`` of
        words that are not complete yet (P = 0 for an adapter that writes no words). Behind an
        item's last chunk its count stays as it was, and nothing is held back.
    """
    frames, logits = heard.frames, heard.ctc_logits
    B, T, _ = frames.shape
    if logits is None:  # a fixed number a chunk
        chunks = torch.arange(1, T // ENCODER_FRAMES + 1, device=frames.device)
        counts = (chunks * (ENCODER_FRAMES // 2)).minimum((heard.frame_lens[:, None] + 1) // 2)
        nothing = frames.new_zeros(0, model.llm.width)
        return counts, [[nothing] * len(chunks) for _ in range(B)]
    inside = padding_mask(heard.frame_lens, T)
    silence = torch.full_like(logits, -1e4)
    silence[..., 0] = 0.0
    logits = torch.where(inside[..., None], logits, silence)
    state, emitted = model.adapter.init_state(B), []
    partials: list[list[Tensor]] = [[] for _ in range(B)]
    ends = heard.frame_lens.tolist()
    for start in range(0, T, ENCODER_FRAMES):
        part = slice(start, start + ENCODER_FRAMES)
        _, count, state = model.adapter.step(frames[:, part], state, logits[:, part])
        emitted.append(count.to(frames.device))
        held, sizes, _ = model.adapter.flush(state)
        for row, size in enumerate(sizes.tolist()):
            partials[row].append(held[row, : size if start < ends[row] else 0])
    running = torch.stack(emitted, 1).cumsum(1)
    last = (heard.frame_lens // ENCODER_FRAMES - 1).clamp(min=0)[:, None]
    return running.minimum(running.gather(1, last)), partials


def chunk_frames(heard: EncodedSpeech) -> Tensor:
    """Encoder frames by chunk: ``[B, C, 4, E]``."""
    B, T, E = heard.frames.shape
    return heard.frames[:, : T // ENCODER_FRAMES * ENCODER_FRAMES].reshape(
        B, T // ENCODER_FRAMES, ENCODER_FRAMES, E
    )
