"""How good a codec is while it trains: distances, use of its codes, a judge's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from fo_core import audio
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.training.codec_losses import CodecLosses
from fo_core.training.error_rate import word_errors
from fo_core.training.speech_losses import whole_tokens
from fo_core.training.stage import Batch, Ratio

JUDGE_RATE = 16000


@dataclass(frozen=True)
class CodecMetrics:
    """Mel distance of the reconstruction in nat; share and perplexity of the codes in use.

    With a judge also its word error rate on whole reconstructed items (``wer``) beside that on the
    items themselves (``wer_original``): only the difference is the codec's.

    Attributes:
        terms: For the mel distance.
        judge: Name of an ASR engine; "" = none.
        judged: Items of each batch that it hears.
    """

    terms: CodecLosses
    judge: str = ""
    judged: int = 4
    _made: dict[str, Any] = field(default_factory=dict, compare=False)

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Ratio | float]:
        wave = whole_tokens(batch["wave"], model.codec.hop)
        output = model.codec(wave)
        mel = float(self.terms.to(wave.device).mel(output.wave, wave))
        tokens = output.tokens[..., 0].flatten()
        used = tokens.unique().numel() / min(model.codec.codes, tokens.numel())
        shares = torch.bincount(tokens, minlength=model.codec.codes).float() / tokens.numel()
        entropy = -(shares * shares.clamp(min=1e-9).log()).sum()
        found: dict[str, Ratio | float] = {
            "mel_distance": (mel * len(wave), float(len(wave))),
            "codes_used": used,
            "perplexity": float(entropy.exp()),
        }
        return found | self._words(model, batch) if self.judge else found

    def _words(self, model: FreezeOmni, batch: Batch) -> dict[str, Ratio | float]:
        from fo_core.engines.asr import ASR

        if "judge" not in self._made:
            self._made["judge"] = ASR.load(self.judge).Engine()
        hear = self._made["judge"].transcribe
        rate = model.codec.sample_rate
        texts: list[str] = []
        plain: list[str] = []
        coded: list[str] = []
        for item in [item for item in batch["items"] if item.text][: self.judged]:
            sound = item.load_audio(rate)
            wave = torch.from_numpy(sound)[None].to(model.device)
            made = model.codec.decode(*model.codec.encode(wave))[0].float().cpu().numpy()
            texts.append(item.text)
            plain.append(hear(audio.resample(sound, rate, JUDGE_RATE)))
            coded.append(hear(audio.resample(made, rate, JUDGE_RATE)))
        return {"wer": word_errors(texts, coded), "wer_original": word_errors(texts, plain)}
