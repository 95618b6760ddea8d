"""SpecAugment (lhotse's): bands and stretches of the features are hidden in training."""

from __future__ import annotations

from torch import Tensor

from fo_core.config import config

SHORTEST = 50  # frames; shorter recordings stay as they are


@config
class SpecAugmentConfig:
    """How much is hidden, on features of 10 ms; the hidden parts hold the recording's mean."""

    share: float = 0.9  # of the recordings that are changed
    warp: int = 80  # frames by which a point in time is moved at most; 0 = no warp
    bands: int = 2  # hidden bands of frequency
    band_bins: int = 27  # widest band, mel bins
    stretches: int = 10  # hidden stretches of time at most
    stretch_frames: int = 100  # longest stretch
    stretch_share: float = 0.15  # of a recording's frames that stretches hide at most


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
