"""The paper's six stages as six small objects: their options, and what each trains by which loss.

``recipe("input-1").stage.build()`` gives the ``Stage`` that ``run_stage`` takes. A seventh one is a
seventh options class here, or any ``Stage`` object of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from fo_core.config import config, load, merge, read_yaml, to_dict
from fo_core.errors import ConfigError, StageError
from fo_core.models.codec.discriminators import Discriminators, DiscriminatorsConfig
from fo_core.models.encoder.whisper_encoder import WhisperEncoder, WhisperEncoderConfig
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.registry import did_you_mean
from fo_core.training.codec_losses import CodecLossConfig, CodecLosses
from fo_core.training.codec_metrics import CodecMetrics
from fo_core.training.hearing import Chunks, measure_normalisation
from fo_core.training.listen import SpeechSounds, codec_sounds
from fo_core.training.losses import (
    TEACHER,
    AnswerLoss,
    CtcLoss,
    CtcMetrics,
    StateMetrics,
    TranscriptLoss,
    listen_once,
)
from fo_core.training.optim import OptimConfig
from fo_core.training.run_config import TrainConfig
from fo_core.training.specaugment import SpecAugmentConfig
from fo_core.training.speech_losses import (
    DISCRIMINATORS,
    CodecDiscriminatorLoss,
    CodecGeneratorLoss,
    Context,
    SpeechLoss,
    answer_states,
)
from fo_core.training.stage import Objective, Stage

LISTENING = ("llm", "speech_encoder", "ctc_head", "adapter", "prompt")
TALKING = ("speech_encoder", "adapter", "prompt", "speech_decoder")  # of a spoken turn


@config
class Input1:
    """Options of ``input-1``."""

    type: Literal["input-1"] = "input-1"
    chunks: Chunks = "dynamic"  # encoder chunk while training: drawn, its own, or full context
    specaugment: SpecAugmentConfig | None = None  # hide parts of the features; None = none
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


@config
class Input2:
    """Options of ``input-2``."""

    type: Literal["input-2"] = "input-2"
    chunks: Chunks = "dynamic"  # as in input-1
    task: bool = True  # task embeddings stand before the speech and are trained
    ctc: float = 0.0  # weight of a CTC loss beside; above 0 the CTC head is trained too
    specaugment: SpecAugmentConfig | None = None  # as in input-1
    kl: float = 0.0  # weight of the divergence from the LLM that reads it (not the paper's)
    answer_kl: float = 0.0  # the same for the answers of items that have one (not the paper's)
    optim: OptimConfig = OptimConfig(lr=1e-4)
    trainable: tuple[str, ...] = ("speech_encoder.*", "adapter.*")  # globs, besides task, CTC

    def build(self) -> Stage:
        """The stage."""
        loss = TranscriptLoss(
            self.chunks, self.task, self.ctc, self.kl, self.answer_kl, self.specaugment
        )
        extra = (("task.*",) if self.task else ()) + (("ctc_head.*",) if self.ctc else ())
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="adapter learns the LLM's space: the frozen LLM repeats what it hears",
            objectives=(Objective("transcript", self.trainable + extra, loss, self.optim),),
            data="speech",
            starts_from=("speech_encoder",),
        )


@config
class Input3:
    """Options of ``input-3``."""

    type: Literal["input-3"] = "input-3"
    answers: bool = True  # train the prompt embeddings on the LLM's own answers
    states: float = 1.0  # weight of the state loss; 0 = the state head is not trained
    class_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # of states 0, 1, 2
    kl: float = 0.0  # weight of the divergence from the LLM that reads it (not the paper's)
    optim: OptimConfig = OptimConfig(lr=6e-4)

    def build(self) -> Stage:
        """The stage."""
        loss = AnswerLoss(self.states, self.class_weights, self.answers, self.kl)
        trainable = (("prompt.*",) if self.answers else ()) + (
            ("state_head.*",) if self.states else ()
        )
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="prompt embeddings make the LLM answer speech; state head learns turn taking",
            objectives=(Objective("answer", trainable, loss, self.optim),),
            data="states" if self.states else "qa",
            starts_from=("speech_encoder", "adapter"),
            metrics=StateMetrics(loss),
            precompute=listen_once,
            reads=("llm", "speech_encoder", "ctc_head", "adapter", "state_head"),
        )


@config
class Output1:
    """Options of ``output-1``."""

    type: Literal["output-1"] = "output-1"
    losses: CodecLossConfig = field(default_factory=CodecLossConfig)  # weights of the terms
    gan_from: int | None = 20000  # first step with discriminators; None = never
    exchange_voices: bool = False  # a crop's halves are spoken with each other's global tokens
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
        )

    def _helpers(self, model: FreezeOmni) -> dict[str, nn.Module]:
        return {DISCRIMINATORS: Discriminators(self.discriminators)}


@config
class Output2:
    """Options of ``output-2``."""

    type: Literal["output-2"] = "output-2"
    optim: OptimConfig = OptimConfig(lr=5e-5)
    trainable: tuple[str, ...] = (  # globs; "!" leaves out
        "speech_decoder.*",
        "!speech_decoder.prefix.*",
    )

    def build(self) -> Stage:
        """The stage."""
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="speech decoder learns to speak text: LLM embeddings to speech tokens",
            objectives=(
                Objective(
                    "speech",
                    self.trainable,
                    SpeechLoss(),
                    self.optim,
                    active=("speech_decoder",),
                ),
            ),
            data="tts",
            samples=SpeechSounds(),
        )


@config
class Output3:
    """Options of ``output-3``."""

    type: Literal["output-3"] = "output-3"
    context: Context = "typed"  # the LLM reads the question typed (paper), spoken, or either
    optim: OptimConfig = OptimConfig(lr=5e-5)

    def build(self) -> Stage:
        """The stage."""
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="prefix stack learns to use the LLM's states while the decoder speaks",
            objectives=(
                Objective(
                    "prefix", ("speech_decoder.prefix.*",), SpeechLoss(prefix=True), self.optim
                ),
            ),
            data="tts" if self.context == "typed" else "reply",
            starts_from=("speech_decoder",) if self.context == "typed" else TALKING,
            precompute=partial(answer_states, context=self.context),
            reads=("llm",) if self.context == "typed" else LISTENING,
            samples=SpeechSounds(self.context),
        )


StageOptions = Annotated[
    Input1 | Input2 | Input3 | Output1 | Output2 | Output3, Field(discriminator="type")
]
NAMES = ("input-1", "input-2", "input-3", "output-1", "output-2", "output-3")
SIZES = ("paper", "smol", "smol-open", "tiny")


@config
class Recipe:
    """One stage's YAML: what it trains, and for how long on which batches."""

    stage: StageOptions  # the stage's own options
    train: TrainConfig  # budget, batches, book-keeping


def shipped(name: str, size: str = "paper") -> Path:
    """Path of a shipped recipe.

    Raises:
        StageError: There is no such stage or size.
    """
    if name not in NAMES:
        raise StageError(f"unknown stage {name!r}", possible=did_you_mean(name, list(NAMES)))
    if size not in SIZES:
        raise StageError(f"no recipes of size {size!r}", possible=did_you_mean(size, list(SIZES)))
    folder = "stages" if size == "paper" else size
    return Path(str(resources.files("fo_core"))) / "conf" / folder / f"{name}.yaml"


def recipe(
    name: str,
    size: str = "paper",
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """A stage's recipe: the shipped YAML, a user's file over it, and ``a.b=c`` over both.

    Raises:
        StageError: There is no such stage or size, or the file is another stage's.
        ConfigError: A key or value is wrong.
    """
    data = read_yaml(shipped(name, size))
    if file is not None:
        data = merge(data, read_yaml(file))
    found = load(Recipe, data, overrides)
    if found.stage.type != name:
        raise StageError(
            f"{file or 'the recipe'} is of stage {found.stage.type}, not {name}",
            do=f"run stage {found.stage.type}, or take its recipe",
        )
    return found
