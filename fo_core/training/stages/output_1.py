"""Stage ``output-1``: the codec learns to turn speech into tokens and back.

Paper, section 2.3. The terms of the losses are in :mod:`fo_core.training.losses.codec`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from fo_core.config import config, replace, to_dict
from fo_core.data.manifest import Item
from fo_core.engines import dnsmos
from fo_core.errors import ConfigError, EngineError
from fo_core.io import audio
from fo_core.io.audio import Wave
from fo_core.models.codec.discriminators import Discriminators, DiscriminatorsConfig
from fo_core.models.codec.istft_codec import IstftCodec
from fo_core.models.codec.ticodec import TiCodec
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.model_config import VoiceConfig
from fo_core.streaming import SAMPLE_RATE
from fo_core.training.losses.codec import CodecLossConfig, CodecLosses
from fo_core.training.losses.error_rate import word_errors
from fo_core.training.losses.voices import VoicesLoss, VoicesMetrics, voices_sounds
from fo_core.training.optim import OptimConfig
from fo_core.training.stage import Batch, Objective, Ratio, Sounds, Stage, StageOptions

DISCRIMINATORS = "codec_discriminators"  # their name in the model while output-1 lasts


_OUTPUT = "codec_output"


@dataclass(frozen=True)
class CodecGeneratorLoss:
    """``output-1``, the codec: reconstruction, and fooling the discriminators once they train.

    Attributes:
        terms: Weighted terms.
        gan_from: First step with adversarial terms; None = never.
        exchange: The two halves of a crop exchange their global vectors: each is spoken with the
            voice of the other, so that the global tokens carry the voice and not the words.
    """

    terms: CodecLosses
    gan_from: int | None = None
    exchange: bool = False

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        wave = whole_tokens(batch["wave"], model.codec.hop)
        exchange = self.exchange and model.codec.training and wave.shape[1] >= 2 * model.codec.hop
        if exchange:
            wave = batch["wave"] = torch.cat(halves(wave, model.codec.hop))  # [2 B, S / 2]
        self.terms.to(wave.device)
        output = model.codec(wave, exchange)
        judges: nn.Module | None = None
        if self.gan_from is not None and batch["step"] >= self.gan_from:
            judges = getattr(model, DISCRIMINATORS)
        values = self.terms.generator_losses(output, wave, judges, exchange)
        batch[_OUTPUT] = output
        return {"loss": torch.stack(list(values.values())).sum(), **values}


@dataclass(frozen=True)
class CodecDiscriminatorLoss:
    """``output-1``, the discriminators: real waves from reconstructed ones."""

    terms: CodecLosses

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        wave = whole_tokens(batch["wave"], model.codec.hop)
        output = batch.pop(_OUTPUT, None)  # of the codec's own pass on this batch
        if output is None:
            with torch.no_grad():
                output = model.codec(wave)
        judges = getattr(model, DISCRIMINATORS)
        values = self.terms.discriminator_losses(output, wave, judges)
        return {"loss": torch.stack(list(values.values())).sum(), **values}


def halves(wave: Tensor, hop: int) -> tuple[Tensor, Tensor]:
    """The two halves ``[B, S']`` of waves ``[B, S]``, in whole tokens."""
    size = wave.shape[1] // (2 * hop) * hop
    return wave[:, :size], wave[:, size : 2 * size]


def whole_tokens(wave: Tensor, hop: int) -> Tensor:
    """``[B, S]`` cut to whole tokens (at least one, zero-padded)."""
    size = max(hop, wave.shape[1] // hop * hop)
    return nn.functional.pad(wave, (0, max(0, size - wave.shape[1])))[:, :size]


log = logging.getLogger(__name__)
CLIPS = 20  # recordings of a speaker of which the voice is taken


def name_voices(
    model: FreezeOmni, items: Sequence[Item], own: str = "", every: bool = False
) -> None:
    """Find the voices anew in a codec that was trained: global tokens of before mean nothing now.

    Args:
        model: Its config gets them; one without a voice gets its own later, of its answers.
        items: Of the training manifest.
        own: Speaker of the model's own voice; "": the one with most items.
        every: Give every speaker's voice a name; False: only those that had one.
    """
    cfg, by_speaker = model.config, dict[str, list[Item]]()
    for item in items:
        by_speaker.setdefault(item.speaker, []).append(item)
    if not by_speaker or not (cfg.voice or every):
        return
    if own not in by_speaker:
        most = max(by_speaker, key=lambda name: len(by_speaker[name]))
        if own:
            log.warning("no speaker %r in the data: the model's own voice is %s", own, most)
        own = most
    kept = [name for name in by_speaker if name != own and name and (every or name in cfg.voices)]
    gone = sorted(set(cfg.voices) - set(by_speaker))
    if gone:
        log.warning("voices that the training data lacks are gone: %s", ", ".join(gone))
    found = {}
    for name in (own, *kept):
        rate, clips = model.codec.sample_rate, by_speaker[name][:CLIPS]
        waves = (torch.from_numpy(item.load_audio(rate)).to(model.device) for item in clips)
        source = f"{len(clips)} recordings of {name} in the training data"
        found[name] = VoiceConfig(model.codec.voice_of(waves), source)
    named = {name: voice for name, voice in found.items() if name}
    voices = named if every or cfg.voices else {}
    model.config = replace(cfg, voice=found[own].global_tokens, voices=voices)


Heard = TypeVar("Heard")


@dataclass(frozen=True)
class CodecMetrics:
    """Mel distance of the reconstruction in nat; share and perplexity of the codes in use.

    On whole held-out items also, each beside that of the items themselves (``_original``), as only
    the difference is the codec's: with a judge its word error rate (``wer``); DNSMOS (``dnsmos``),
    which is skipped with a warning where its networks are not installed.

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


def codec_sounds(model: FreezeOmni, batch: Batch, count: int) -> Sounds:
    """Held-out sounds and what the codec makes of them."""
    wave = whole_tokens(batch["wave"][:count], model.codec.hop)
    made = model.codec(wave).wave
    sounds = {}
    for item, one, two in zip(batch["items"], wave, made, strict=False):
        sounds[f"{item.id}-original"] = (one.float().cpu().numpy(), model.codec.sample_rate)
        sounds[f"{item.id}-codec"] = (two.float().cpu().numpy(), model.codec.sample_rate)
    return sounds


@config
class Output1(StageOptions):
    """Options of ``output-1``."""

    side: ClassVar = "assistant"
    type: Literal["output-1"] = "output-1"
    losses: CodecLossConfig = field(default_factory=CodecLossConfig)  # weights of the terms
    gan_from: int | None = 20000  # first step with discriminators; None = never
    exchange_voices: bool = False  # a crop's halves are spoken with each other's global tokens
    # learn voices alone: items carry the tokens of the same sentence in the model's own voice, said
    # at the same time; tokens stay what they are, so the speech decoder goes on with all voices
    voices_only: bool = False
    own_voice: str = ""  # speaker whose voice is the model's own; "": the one with most items
    judge: str = ""  # ASR engine whose WER of reconstruction and original is a metric; "" = none
    dnsmos: bool = True  # DNSMOS of both is a metric too; where it is not installed, this is said
    discriminators: DiscriminatorsConfig = field(default_factory=DiscriminatorsConfig)
    optim: OptimConfig = OptimConfig(
        lr=2e-4, betas=(0.5, 0.9), weight_decay=0.0, schedule="exponential", decay=0.98
    )
    discriminator_optim: OptimConfig = OptimConfig(
        lr=2e-4, betas=(0.5, 0.9), weight_decay=0.0, schedule="exponential", decay=0.98
    )

    def build(self) -> Stage:
        """The stage."""
        terms = CodecLosses(self.losses)
        if self.voices_only:
            return self._voices_stage(terms)
        generator = CodecGeneratorLoss(terms, self.gan_from, self.exchange_voices)
        objectives = [Objective("codec", ("codec.*",), generator, self.optim)]
        if self.gan_from is not None:
            objectives.append(
                Objective(
                    "discriminator",
                    (f"{DISCRIMINATORS}.*",),
                    CodecDiscriminatorLoss(terms),
                    self.discriminator_optim,
                    starts_at=self.gan_from,
                )
            )
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="codec learns to turn speech into tokens and back",
            objectives=tuple(objectives),
            data="codec",
            metrics=CodecMetrics(terms, self.judge, self.dnsmos),
            samples=codec_sounds,
            best=("mel_distance", "min"),
            helpers=None if self.gan_from is None else self._helpers,
            finish=functools.partial(name_voices, own=self.own_voice),
        )

    def _voices_stage(self, terms: CodecLosses) -> Stage:
        if self.gan_from is not None:
            raise ConfigError("stage.voices_only with discriminators", "stage.gan_from: null")
        tokens = (part for codec in (IstftCodec, TiCodec) for part in codec.token_parts)
        trained = ("codec.*", *(f"!codec.{part}" for part in tokens))
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="codec learns more voices for the tokens that it has",
            objectives=(Objective("codec", trained, VoicesLoss(terms), self.optim),),
            data="voices",
            starts_from=("codec",),
            metrics=VoicesMetrics(terms),
            samples=voices_sounds,
            best=("mel_distance", "min"),
            finish=functools.partial(name_voices, own=self.own_voice, every=True),
        )

    def _helpers(self, model: FreezeOmni) -> dict[str, nn.Module]:
        return {DISCRIMINATORS: Discriminators(self.discriminators)}


OPTIONS = Output1
