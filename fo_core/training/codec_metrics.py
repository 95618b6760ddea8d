"""How good a codec is while it trains: distances, use of its codes, a judge's words, DNSMOS."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from fo_core.data.manifest import Item
from fo_core.engines import dnsmos
from fo_core.errors import EngineError
from fo_core.io import audio
from fo_core.io.audio import Wave
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.streaming import SAMPLE_RATE
from fo_core.training.codec_losses import CodecLosses
from fo_core.training.error_rate import word_errors
from fo_core.training.speech_losses import whole_tokens
from fo_core.training.stage import Batch, Ratio

log = logging.getLogger(__name__)
Heard = TypeVar("Heard")


@dataclass(frozen=True)
class CodecMetrics:
    """Mel distance of the reconstruction in nat; share and perplexity of the codes in use.

    On whole held-out items also, each beside that of the items themselves (``_original``), as only
    the difference is the codec's: with a judge its word error rate (``wer``); DNSMOS (``dnsmos``),
    which is left out with a warning where its networks are not installed.

    Attributes:
        terms: For the mel distance.
        judge: Name of an ASR engine; "" = none.
        mos: Whether DNSMOS is wanted.
        judged: Items of each batch that the judge hears.
        rated: Items of each batch that DNSMOS hears; one takes it two seconds on a CPU.
    """

    terms: CodecLosses
    judge: str = ""
    mos: bool = False
    judged: int = 4
    rated: int = 1
    _made: dict[Any, Any] = field(default_factory=dict, compare=False)

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
        if self.judge:
            some = [item for item in batch["items"] if item.text][: self.judged]
            found |= self._words(model, some)
        if self._can_rate():
            found |= self._ratings(model, batch["items"][: self.rated])
        return found

    def _can_rate(self) -> bool:
        """Whether DNSMOS is wanted and there; says once if it is not."""
        if self.mos and "mos" not in self._made:
            try:
                dnsmos.check()
                self._made["mos"] = True
            except EngineError as error:
                log.warning("held-out values without DNSMOS: %s", error)
                self._made["mos"] = False
        return self.mos and self._made["mos"]

    def _words(self, model: FreezeOmni, items: list[Item]) -> dict[str, Ratio | float]:
        from fo_core.engines.asr import ASR

        if "judge" not in self._made:
            self._made["judge"] = ASR.load(self.judge).Engine()
        coded, plain = self._heard(model, items, "words", self._made["judge"].transcribe)
        texts = [item.text for item in items]
        return {"wer": word_errors(texts, coded), "wer_original": word_errors(texts, plain)}

    def _ratings(self, model: FreezeOmni, items: list[Item]) -> dict[str, Ratio | float]:
        def rate(wave: Wave) -> float:
            return dnsmos.dnsmos(wave)["dnsmos"]

        coded, plain = self._heard(model, items, "rating", rate)
        return {"dnsmos": (sum(coded), len(items)), "dnsmos_original": (sum(plain), len(items))}

    def _heard(
        self, model: FreezeOmni, items: list[Item], what: str, hear: Callable[[Wave], Heard]
    ) -> tuple[list[Heard], list[Heard]]:
        """What is heard in the codec's sound of whole items, and in the items themselves.

        The latter is the same at every validation and is kept, under ``what`` and the id.
        """
        rate = model.codec.sample_rate
        coded, plain = [], []
        for item in items:
            sound = item.load_audio(rate)
            wave = torch.from_numpy(sound)[None].to(model.device)
            made = model.codec.decode(*model.codec.encode(wave))[0].float().cpu().numpy()
            coded.append(hear(audio.resample(made, rate, SAMPLE_RATE)))
            if (what, item.id) not in self._made:
                self._made[what, item.id] = hear(audio.resample(sound, rate, SAMPLE_RATE))
            plain.append(self._made[what, item.id])
        return coded, plain
