"""What builds a model: the frozen LLM, and the type and sizes of every trained part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fo_core import config as cfg
from fo_core.config import check_ranges, config
from fo_core.errors import CheckpointError, ConfigError
from fo_core.io.checkpoint import read_json
from fo_core.models.adapter.conv_adapter import ConvAdapterConfig
from fo_core.models.adapter.ctc_adapter import CtcAdapterConfig
from fo_core.models.adapter.word_adapter import WordAdapterConfig
from fo_core.models.codec.istft_codec import IstftCodecConfig
from fo_core.models.codec.ticodec import TiCodecConfig
from fo_core.models.decoder.duration_decoder import DurationDecoderConfig
from fo_core.models.decoder.speech_decoder import SpeechDecoderConfig
from fo_core.models.encoder.speech_encoder import SpeechEncoderConfig
from fo_core.models.encoder.whisper_encoder import WhisperEncoderConfig


@config
class LLMConfig:
    """Which frozen LLM, and how its dialogue is framed."""

    spec: str = "Qwen/Qwen2-7B-Instruct"  # folder, hub id, .gguf file or "embedded"
    dtype: str = "bfloat16"  # the one dtype of its weights
    fingerprint: str = ""  # of its weights in that dtype, as trained with; "" = not known
    system: str | None = "You are a helpful assistant."  # system text; None = the template's own
    shots: tuple[tuple[str, str], ...] = ()  # example turns (question, answer) before the first
    template: str | None = None  # text with <audio> instead of the LLM's own chat template
    task: str = "Repeat what the user says."  # system text of input-2 and of transcribing
    task_shots: tuple[tuple[str, str], ...] = ()  # example turns of that task


@config
class CtcConfig:
    """The CTC head."""

    vocabulary: Literal["tokens", "pieces"] = "tokens"  # classes: LLM tokens or pieces of spelling
    tokens: tuple[int, ...] = ()  # LLM token ids it can say; empty: taken from the transcripts
    pieces: tuple[str, ...] = ()  # pieces it can say; empty: made from the transcripts
    size: int = 1000  # how many pieces are made
    zero: bool = False  # start with all classes alike; for an encoder that is trained already

    def __post_init__(self) -> None:
        other = "pieces" if self.vocabulary == "tokens" else "tokens"
        if getattr(self, other):
            raise ConfigError(
                f"ctc.{other} with ctc.vocabulary: {self.vocabulary}",
                possible=f"ctc.{self.vocabulary}, or ctc.vocabulary: {other}",
            )
        if self.size < 1:
            raise ConfigError(f"ctc.size {self.size}", possible="1 or more pieces")


@config
class PromptConfig:
    """Trained vectors before the audio."""

    num: int = 25  # how many; 0 = none
    before_audio: bool = True  # whether they are put before the audio
    start: str = ""  # text whose embeddings they start from; "" = the table's mean and spread


@config
class StateHeadConfig:
    """The dialogue-state head."""

    classes: int = 4  # outputs; the first three are the states
    # width of a recurrent layer over the chunks that also reads the encoder's frames, for adapters
    # that write words (ctc, words); 0 = one linear layer (paper)
    gru: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, "state_head", classes=(3, None), gru=(0, None))


@config
class VoiceConfig:
    """A voice that the codec can speak with."""

    global_tokens: tuple[int, ...]  # of the codec
    source: str = ""  # whose it is, where it is from


Encoder = Annotated[SpeechEncoderConfig | WhisperEncoderConfig, Field(discriminator="type")]
Adapter = Annotated[
    ConvAdapterConfig | CtcAdapterConfig | WordAdapterConfig, Field(discriminator="type")
]
Decoder = Annotated[SpeechDecoderConfig | DurationDecoderConfig, Field(discriminator="type")]
Codec = Annotated[TiCodecConfig | IstftCodecConfig, Field(discriminator="type")]


@config
class FreezeOmniConfig:
    """Everything that builds a model."""

    llm: LLMConfig = LLMConfig()
    speech_encoder: Encoder = SpeechEncoderConfig()
    ctc: CtcConfig = CtcConfig()
    adapter: Adapter = ConvAdapterConfig()
    task: PromptConfig = PromptConfig(num=20)  # of input-2: "write down what you hear"
    prompt: PromptConfig = PromptConfig()  # of input-3: "answer what you hear"
    state_head: StateHeadConfig = StateHeadConfig()
    speech_decoder: Decoder = SpeechDecoderConfig()
    codec: Codec = TiCodecConfig()
    voice: tuple[int, ...] = ()  # global tokens of the assistant's voice
    voices: dict[str, VoiceConfig] = field(default_factory=dict)  # by name, for sessions to choose


def read_config(folder: str | Path, overrides: Sequence[str] = ()) -> FreezeOmniConfig:
    """The config of a model folder.

    Raises:
        CheckpointError: The folder or its config.json is missing or not readable.
        ConfigError: A key or value is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"no model folder {folder}",
            possible="a folder with config.json",
            do="fo demo makes one; fo models list shows those at hand",
        )
    return cfg.load(FreezeOmniConfig, read_json(folder / "config.json"), overrides)
