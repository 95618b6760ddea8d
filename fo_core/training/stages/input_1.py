"""Stage ``input-1``: the speech encoder learns to hear, by CTC on transcripts.

Paper, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fo_core.config import config, to_dict
from fo_core.errors import ConfigError, StageError
from fo_core.layers.masks import padding_mask
from fo_core.models.encoder.whisper_encoder import WhisperEncoder, WhisperEncoderConfig
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.training.losses.error_rate import token_errors, word_errors
from fo_core.training.losses.listening import (
    Chunks,
    EncodedSpeech,
    SpecAugmentConfig,
    encode_speech,
    measure_normalisation,
)
from fo_core.training.optim import OptimConfig
from fo_core.training.stage import Batch, Objective, Ratio, Stage, StageOptions

TEACHER = "distillation_teacher"  # its name in the model while input-1 lasts


@dataclass(frozen=True)
class CtcLoss:
    """``input-1``: encoder and CTC head on transcripts.

    Attributes:
        chunks: How the encoder's chunk is chosen while training.
        hide: SpecAugment; None = none.
        ctc: Weight of the CTC loss; 0 = none, then no text is needed.
        distil: Weight of the distance to what Whisper's own encoder, which hears the whole
            utterance at once, makes of the same features; 0 = none. Not the paper's.
    """

    chunks: Chunks = "dynamic"
    hide: SpecAugmentConfig | None = None
    ctc: float = 1.0
    distil: float = 0.0

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        hidden = self.distil > 0
        heard = encode_speech(model, batch, self.chunks, self.ctc > 0, self.hide, hidden)
        values: dict[str, Tensor] = {}
        if heard.ctc_logits is not None:
            values["ctc"] = model.ctc_head.loss(heard.ctc_logits, heard.frame_lens, batch["text"])
        if heard.hidden is not None:
            values["distil"] = teacher_distance(getattr(model, TEACHER), heard)
        weights = {"ctc": self.ctc, "distil": self.distil}
        loss = torch.stack([weights[name] * value for name, value in values.items()]).sum()
        return {"loss": loss} | (values if len(values) > 1 else {})


def teacher_distance(teacher: WhisperEncoder, heard: EncodedSpeech) -> Tensor:
    """Mean squared distance ``[]`` to a teacher that hears all, over the teacher's mean square."""
    assert heard.hidden is not None
    with torch.no_grad():
        rows = zip(heard.feats, heard.frame_lens.tolist(), strict=True)
        wanted = [teacher.whisper(feats[None, : 4 * size])[0] for feats, size in rows]
    target = torch.cat(wanted)  # [all frames of 20 ms, E], each utterance alone: no padding heard
    found = heard.hidden[padding_mask(2 * heard.frame_lens, heard.hidden.shape[1])]
    return (found - target).square().mean() / target.square().mean()


@dataclass(frozen=True)
class CtcMetrics:
    """Greedy error rates of classes and of words at the encoder's own chunk."""

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Ratio | float]:
        heard = encode_speech(model, batch, "fixed", ctc=True)
        assert heard.ctc_logits is not None
        head = model.ctc_head
        said = head.greedy(heard.ctc_logits, heard.frame_lens)
        wanted = [head.vocabulary.encode(text) for text in batch["text"]]
        return {
            "token_error": token_errors(wanted, said),
            "wer": word_errors(batch["text"], [head.vocabulary.decode(row) for row in said]),
        }


@config
class Input1(StageOptions):
    """Options of ``input-1``."""

    new_llm: ClassVar = "its CTC head, if over tokens, speaks the LLM's; the encoder is kept"
    type: Literal["input-1"] = "input-1"
    chunks: Chunks = "dynamic"  # encoder chunk in training: drawn, the config's, or full context
    specaugment: SpecAugmentConfig | None = None  # mask parts of the features; None = off
    ctc: float = 1.0  # weight of the CTC loss; 0 = none: distillation alone needs no text
    distil: float = 0.0  # weight of the distance to Whisper's full-context encoder; 0 = none
    measure: int = 50  # batches on which an encoder measures its normalisation first; 0 = none
    optim: OptimConfig = OptimConfig(lr=2e-4)
    trainable: tuple[str, ...] = ("speech_encoder.*", "ctc_head.*")  # globs

    def build(self) -> Stage:
        """The stage."""
        heads = () if self.ctc else ("ctc_head.",)  # without its loss the head is not trained
        trainable = tuple(g for g in self.trainable if not g.startswith(heads))
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="speech encoder learns to hear: CTC on transcripts"
            if self.ctc
            else "speech encoder learns to hear in chunks: distilled from its full-context start",
            objectives=(
                Objective(
                    "ctc",
                    trainable,
                    CtcLoss(self.chunks, self.specaugment, self.ctc, self.distil),
                    self.optim,
                ),
            ),
            data="speech" if self.ctc else "sound",
            metrics=CtcMetrics() if self.ctc else None,
            best=("token_error", "min") if self.ctc else ("loss", "min"),
            begin=partial(measure_normalisation, batches=self.measure),
            helpers=_teacher if self.distil else None,
        )

    def __post_init__(self) -> None:
        if self.ctc < 0 or self.distil < 0 or not self.ctc + self.distil:
            raise ConfigError(
                f"input-1: ctc {self.ctc:g}, distil {self.distil:g}",
                possible="weights of 0 and more, one of them above 0",
            )
        if self.distil and self.specaugment is not None and self.specaugment.warp:
            raise ConfigError(
                f"input-1: specaugment.warp {self.specaugment.warp} moves frames away from those "
                "that distil compares them with",
                do="set stage.specaugment.warp=0",
            )


def _teacher(model: FreezeOmni) -> dict[str, nn.Module]:
    """Whisper's own encoder with the weights that the model's started from."""
    cfg = model.config.speech_encoder
    if not isinstance(cfg, WhisperEncoderConfig) or cfg.path is None:
        raise StageError(
            "input-1 with distil needs a speech encoder that starts from Whisper",
            possible="speech_encoder: {type: whisper, path: ...}",
            do="set stage.distil=0, or start from such an encoder",
        )
    return {TEACHER: WhisperEncoder(cfg).eval().requires_grad_(False)}


OPTIONS = Input1
