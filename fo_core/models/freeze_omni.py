"""The whole model: a frozen LLM with ears, a dialogue-state head and a voice around it.

A model folder is ``config.json``, one safetensors file for every trained part, and ``README.md``;
``dialogue.json`` (how it talks, :mod:`fo_core.dialogue.settings`) and ``piece_lm.safetensors`` (the
word adapter's language model) may lie beside them. The LLM is referred to by name and fingerprint,
never copied. A part whose file is missing is untrained: it
has initial weights and is not in :attr:`FreezeOmni.trained`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fo_core import config as cfg
from fo_core.config import replace
from fo_core.errors import CheckpointError, ConfigError
from fo_core.features import make_extractor
from fo_core.io.checkpoint import load_into, load_tensors, save_tensors
from fo_core.io.files import write_json
from fo_core.models import voices
from fo_core.models.adapter.conv_adapter import ConvAdapter, ConvAdapterConfig
from fo_core.models.adapter.ctc_adapter import CtcAdapter, CtcAdapterConfig
from fo_core.models.adapter.speech_adapter import SpeechAdapter
from fo_core.models.adapter.word_adapter import WordAdapter, WordAdapterConfig
from fo_core.models.codec.istft_codec import IstftCodec, IstftCodecConfig
from fo_core.models.codec.ticodec import TiCodec, TiCodecConfig
from fo_core.models.codec.token_codec import TokenCodec
from fo_core.models.compat.speech_decoder import OfficialSpeechDecoder
from fo_core.models.compat.speech_encoder import OfficialSpeechEncoder
from fo_core.models.decoder.duration_decoder import (
    DurationDecoder,
    DurationDecoderConfig,
    with_sounds,
)
from fo_core.models.decoder.speech_decoder import SpeechDecoder, SpeechDecoderConfig
from fo_core.models.encoder import piece_lm
from fo_core.models.encoder.ctc import CtcHead
from fo_core.models.encoder.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from fo_core.models.encoder.vocabulary import PieceVocabulary, TokenVocabulary, Vocabulary
from fo_core.models.encoder.whisper_encoder import WhisperEncoder, WhisperEncoderConfig
from fo_core.models.llm.chat import ChatParts, encode
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tools import FALLBACK, Tool, ToolFormat, described, system_with, tool_format
from fo_core.models.model_config import (
    FreezeOmniConfig,
    PromptConfig,
    read_config,
)
from fo_core.models.prompt import PromptEmbeddings
from fo_core.models.state_head import StateHead
from fo_core.models.voices import VoiceChoice
from fo_core.streaming import ENCODER_FRAMES

PARTS = (
    "speech_encoder",
    "ctc_head",
    "adapter",
    "task",
    "prompt",
    "state_head",
    "speech_decoder",
    "codec",
)


class FreezeOmni(nn.Module):
    """All parts. Each works alone; the parts' own modules say shapes.

    Args:
        model_config: What to build.
        llm: The frozen LLM.
        given: Parts whose weights will be loaded: what they would start from is not read.

    Attributes:
        llm: The frozen LLM.
        features: The encoder's feature extractor (no parameters).
        trained: Names of the parts that hold trained weights.
    """

    def __init__(
        self, model_config: FreezeOmniConfig, llm: FrozenLLM, given: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.config = model_config
        self.trained: set[str] = set()
        self.llm = llm
        self.speech_encoder = _make_encoder(
            model_config.speech_encoder, "speech_encoder" not in given
        )
        self.features = make_extractor(self.speech_encoder.features)
        enc_dim, width = self.speech_encoder.dim, llm.width
        ctc = model_config.ctc
        pieces = ctc.vocabulary == "pieces"
        vocabulary: Vocabulary = (
            PieceVocabulary(ctc.pieces) if pieces else TokenVocabulary(ctc.tokens, llm.tokenizer)
        )
        self.ctc_head = CtcHead(enc_dim, vocabulary, ctc.zero)
        self.adapter = _make_adapter(model_config.adapter, enc_dim, vocabulary, llm)
        self.task = _make_prompt(model_config.task, llm, "task" not in given)
        self.prompt = _make_prompt(model_config.prompt, llm, "prompt" not in given)
        head = model_config.state_head
        self.state_head = StateHead(width, head.classes, head.gru, enc_dim)
        self.speech_decoder = _make_decoder(model_config.speech_decoder)
        self.codec = _make_codec(model_config.codec)

    @property
    def device(self) -> torch.device:
        """Where the trained parts are."""
        return next(self.speech_encoder.parameters()).device

    @property
    def chat(self) -> ChatParts:
        """Ids around the audio slots of a dialogue with the configured system text and shots."""
        return self.chat_for(self.config.llm.system, self.config.llm.shots)

    def chat_for(
        self,
        system: str | None,
        shots: Sequence[tuple[str, str]] = (),
        tools: Sequence[Tool] = (),
    ) -> ChatParts:
        """Ids around the audio slots for another system text, with functions that may be called."""
        native = tools and self.tool_format.native
        if tools and not native:
            system = system_with(tools, system)
        if self.config.llm.template is not None:
            return self.llm.chat_parts_from_template(self.config.llm.template, system)
        return self.llm.chat_parts(system, shots, described(tools) if native else ())

    @functools.cached_property
    def tool_format(self) -> ToolFormat:
        """How the LLM writes function calls."""
        return FALLBACK if self.config.llm.template is not None else tool_format(self.llm.tokenizer)

    def require(self, *parts: str) -> None:
        """Refuse work that needs an untrained part.

        Raises:
            CheckpointError: One of the parts is untrained.
        """
        missing = [part for part in parts if part not in self.trained]
        if missing:
            raise CheckpointError(
                f"this model has no trained {', '.join(missing)}",
                possible=f"trained: {', '.join(sorted(self.trained)) or 'nothing'}",
                do="run the stages that train them (fo train --stage ...)",
            )

    def name_sounds(self, sounds: Sequence[str]) -> None:
        """Give an untrained decoder with durations the pronunciations that its data names."""
        cfg = self.config.speech_decoder
        if not isinstance(cfg, DurationDecoderConfig) or cfg.sounds or not sounds:
            return
        cfg = with_sounds(cfg, sounds)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.speech_decoder = _make_decoder(cfg).to(self.device).eval()
        self.config = replace(self.config, speech_decoder=cfg)

    def add_prefix(self) -> None:
        """Give a speech decoder that was trained without a prefix stack one, with initial weights.

        Stage ``output-3`` trains it; until then such a decoder reads no hidden states at all.
        """
        if not self.config.speech_decoder.prefix:
            self._grow_decoder(prefix=True)

    def add_drafts(self, count: int) -> None:
        """Let the speech decoder guess ``count`` tokens ahead; ``output-2`` trains a new head."""
        if self.config.speech_decoder.drafts != count:
            self._grow_decoder(drafts=count)

    def learn_chunks(self) -> None:
        """Note that the speech decoder is trained on text by the chunk, where it has to be."""
        if not self.speech_decoder.cfg.reads_chunks:
            self._grow_decoder(reads_chunks=True)

    def require_chunks(self, what: str) -> None:
        """Refuse text by the chunk for a speech decoder that has not learned it.

        Raises:
            ConfigError: It would speak what it has never read so.
        """
        if not self.speech_decoder.cfg.reads_chunks:
            what = f"{what}: this model's speech decoder was not trained on text by the chunk"
            do = "train it: fo train --stage output-2 --set stage.chunks=0.5"
            raise ConfigError(what, possible="0", do=do)

    def _grow_decoder(self, **changes: Any) -> None:
        cfg = replace(self.config.speech_decoder, **changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            grown = _make_decoder(cfg).to(self.device).eval()
        grown.load_state_dict(self.speech_decoder.state_dict(), strict=False)
        self.speech_decoder = grown
        self.config = replace(self.config, speech_decoder=cfg)

    def voice(self, batch_size: int = 1) -> Tensor:
        """Global tokens [B, 1, G] of the assistant's voice; code 0 where none is configured."""
        ids = self.config.voice or (0,) * self.codec.cfg.global_quantizer.groups
        return torch.tensor([[list(ids)]], device=self.device).expand(batch_size, -1, -1)

    def find_voice(self, voice: VoiceChoice) -> tuple[int, ...] | None:
        """Global tokens of a voice that is named or given; None is the model's own.

        Raises:
            ConfigError: There is none of this name, or they are no tokens of the codec.
        """
        found = voices.find(self.config, voice)
        sizes = self.codec.cfg.global_quantizer
        if found is not None and (
            len(found) != sizes.groups or not all(0 <= code < sizes.codes for code in found)
        ):
            possible = f"{sizes.groups} codes of 0 to {sizes.codes - 1}"
            raise ConfigError(f"voice {list(found)}", possible)
        return found

    def save(
        self, folder: str | Path, parts: Iterable[str] | None = None, with_config: bool = True
    ) -> None:
        """Write the config and the trained parts (or the named ones, which count as trained)."""
        folder = Path(folder)
        if parts is not None:
            self.trained |= set(parts)
        for part in PARTS if parts is None else parts:
            if part in self.trained:
                tensors = getattr(self, part).state_dict()
                save_tensors(folder / f"{part}.safetensors", tensors, {"part": part})
        if isinstance(self.adapter, WordAdapter) and self.adapter.search.lm is not None:
            self.adapter.search.lm.save(folder)
        if with_config:
            write_json(folder / "config.json", cfg.to_dict(self.config))


def _make_encoder(
    encoder: SpeechEncoderConfig | WhisperEncoderConfig, start: bool
) -> SpeechEncoder | WhisperEncoder:
    if encoder.chunk != ENCODER_FRAMES:
        raise ConfigError(
            f"speech_encoder.chunk is {encoder.chunk} frames of 40 ms: states, adapter and talks "
            "go by chunks of 160 ms",
            possible=f"{ENCODER_FRAMES}",
            do="other sizes can be measured: fo eval asr --chunk",
        )
    if isinstance(encoder, WhisperEncoderConfig):
        return WhisperEncoder(encoder, start)
    official = encoder.compat == "official"
    return OfficialSpeechEncoder(encoder) if official else SpeechEncoder(encoder)


def _make_adapter(
    adapter: ConvAdapterConfig | CtcAdapterConfig | WordAdapterConfig,
    enc_dim: int,
    vocabulary: Vocabulary,
    llm: FrozenLLM,
) -> SpeechAdapter[Any]:
    if isinstance(adapter, WordAdapterConfig):
        return WordAdapter(adapter, enc_dim, llm.width, vocabulary, llm.tokenizer, llm.embed)
    if isinstance(adapter, ConvAdapterConfig):
        return ConvAdapter(adapter, enc_dim, llm.width)
    if not isinstance(vocabulary, TokenVocabulary):
        raise ConfigError(
            "adapter.type ctc needs a CTC head over the LLM's tokens",
            do="set ctc.vocabulary: tokens, or take adapter.type: words",
        )
    made = CtcAdapter(adapter, enc_dim, llm.width)
    made.attach_table(llm.embed(torch.tensor([[0, *vocabulary.token_ids]]))[0].float())
    return made


def _make_decoder(decoder: SpeechDecoderConfig | DurationDecoderConfig) -> SpeechDecoder:
    if isinstance(decoder, DurationDecoderConfig):
        return DurationDecoder(decoder)
    official = decoder.compat == "official"
    return OfficialSpeechDecoder(decoder) if official else SpeechDecoder(decoder)


def _make_codec(codec: TiCodecConfig | IstftCodecConfig) -> TokenCodec:
    return IstftCodec(codec) if isinstance(codec, IstftCodecConfig) else TiCodec(codec)


def _make_prompt(prompt: PromptConfig, llm: FrozenLLM, start: bool) -> PromptEmbeddings:
    vectors = PromptEmbeddings(prompt.num, llm.width, prompt.before_audio)
    if not start:
        if not prompt.start:
            torch.randn_like(vectors.weight)  # drawn all the same: later parts begin as ever
        return vectors
    ids = encode(llm.tokenizer, prompt.start) if prompt.start else None
    return vectors.start_from(llm.embedding_table, ids)


def build(
    model_config: FreezeOmniConfig,
    device: str | torch.device = "cpu",
    llm: FrozenLLM | None = None,
    given: Collection[str] = (),
) -> FreezeOmni:
    """A model with initial weights around its frozen LLM (``llm``: one that is loaded already).

    The initial weights are the same every time, so that a run that is taken up again in another
    process finds the untrained parts it began with. Those of the parts in ``given``, which the
    caller will load, are not made with care.

    Raises:
        CheckpointError: The LLM cannot be loaded, or is not the one of the config's fingerprint.
    """
    wanted = model_config.llm
    llm = llm or FrozenLLM.load(wanted.spec, wanted.dtype, device)
    if wanted.fingerprint and llm.loaded_fingerprint() != wanted.fingerprint:
        raise CheckpointError(
            f"the LLM {wanted.spec!r} is not the one that this model was trained with "
            f"({llm.loaded_fingerprint()[:19]}.. instead of {wanted.fingerprint[:19]}..)",
            do="give that LLM, or train the stages from input-2 and output-2 on with this one",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FreezeOmni(model_config, llm, given)
    return model.to(device).eval()


def load(
    folder: str | Path,
    device: str | torch.device = "cpu",
    llm: FrozenLLM | None = None,
    overrides: Sequence[str] = (),
    parts: Sequence[str] = PARTS,
) -> FreezeOmni:
    """Load a model folder; parts without a file, and those not among ``parts``, are untrained.

    Untrained task and prompt vectors are not put before the audio, and an untrained state head
    judges nothing, until a stage trains them.

    Raises:
        CheckpointError: A file is damaged or foreign, or the LLM is another one.
        ConfigError: A key or value of config.json is wrong.
    """
    folder = Path(folder)
    made = read_config(folder, overrides)
    known = {piece_lm.FILE, *(f"{part}.safetensors" for part in PARTS)}
    foreign = sorted(p.name for p in folder.glob("*.safetensors") if p.name not in known)
    if foreign:
        raise CheckpointError(
            f"{folder} holds files that are not parts of a model: {', '.join(foreign)}",
            possible=", ".join(sorted(known)),
            do="move them elsewhere",
        )
    files = {part: folder / f"{part}.safetensors" for part in parts}
    files = {part: path for part, path in files.items() if path.is_file()}
    model = build(made, device, llm, given=files)
    for part, path in files.items():
        load_into(getattr(model, part), load_tensors(path), str(path))
        model.trained.add(part)
    if isinstance(model.adapter, WordAdapter):
        model.adapter.attach_lm(piece_lm.PieceLM.load(folder, model.ctc_head.classes - 1))
    for module in (model.task, model.prompt, model.state_head):
        module.left_out = True
    for name in model.trained & {"task", "prompt", "state_head"}:
        getattr(model, name).left_out = False
    return model


def load_codec(folder: str | Path, device: str | torch.device = "cpu") -> TokenCodec:
    """Only the trained codec of a model folder; the LLM is not needed.

    Raises:
        CheckpointError: The folder holds no trained codec, or it is damaged.
    """
    codec, path = _make_codec(read_config(folder).codec), Path(folder) / "codec.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds no trained codec", do="run the stage that trains it (output-1)"
        )
    load_into(codec, load_tensors(path), str(path))
    return codec.to(device).eval()


def describe(model: FreezeOmni) -> dict[str, Any]:
    """Parts with type, parameters and whether they are trained; JSON-ready."""
    rows: dict[str, Any] = {
        part: {
            "class": type(getattr(model, part)).__name__,
            "parameters": sum(p.numel() for p in getattr(model, part).parameters()),
            "trained": part in model.trained,
        }
        for part in PARTS
    }
    total = sum(p.numel() for p in model.llm.parameters())
    rows["llm"] = {"class": model.config.llm.spec, "parameters": total, "trained": False}
    return rows
