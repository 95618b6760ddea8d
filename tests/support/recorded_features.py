"""Recorded feature frames in place of the features of a wave."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fo_core.dialogue.session import Session, Verdict
from fo_core.streaming import CHUNK_SAMPLES


def listen_to(session: Session, feats: Tensor) -> Verdict:
    """Hear a chunk whose new feature frames are ``feats`` [1, 16, mel]."""
    with pytest.MonkeyPatch.context() as patch:
        kind = type(session.model.features)
        patch.setattr(kind, "step", lambda _, wave, state: (feats, state))
        return session.listen(torch.zeros(CHUNK_SAMPLES))
