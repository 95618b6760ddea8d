"""One spoken question and its answer, with the times that the reply notes itself."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fo_core.dialogue import events as ev
from fo_core.dialogue.commands import Commit
from fo_core.dialogue.conversation import Conversation
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import DialogueConfig, DuplexConfig, TurnConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.engines.vad import WINDOW
from fo_core.errors import EngineError
from fo_core.io import audio
from fo_core.layers.kv_cache import KVCache
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.shipped import EXAMPLE, recording
from fo_core.streaming import CHUNK_SAMPLES, SAMPLE_RATE

CHUNKS = 13  # of speech before an answer: 2 s
SENTENCE = 10  # tokens of the answer's first piece
WARM = 4  # chunks that do not count: the first feeds the template too
LEGS = {
    "listen": "last chunk heard",
    "read": "template read to its end",
    "write": f"{SENTENCE} text tokens",
    "prefill": "speech decoder: first token",
    "speak": "speech tokens of the first audio",
    "codec": "codec and cut",
}
LANES = {
    **{"listen": "ear", "read": "LLM", "write": "LLM"},
    **{"prefill": "speech decoder", "speak": "speech decoder", "codec": "codec"},
}


@dataclass(frozen=True)
class Span:
    """Something that took time."""

    name: str
    lane: str  # who did it
    start: float  # time.monotonic()
    end: float


@dataclass
class Talk:
    """What was noted."""

    spans: list[Span]  # in the order of their starts
    legs: dict[str, float]  # by the keys of LEGS, ms; they follow each other without a gap
    wall: float  # last chunk arrived → first audio in the caller's hand, by its own clock, ms
    heard: list[float]  # listening steps, ms
    answered: float  # from the decision to the last audio, s
    audio: float  # length of the audio that came, s
    written: int  # text tokens of the first piece
    state_bytes: int  # of one user at the end

    @property
    def total(self) -> float:
        """Last chunk arrived → first audio, ms."""
        return sum(self.legs.values())


def noise(seed: int = 1) -> Tensor:
    """What is heard: chunks [13, 2560]."""
    draw = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(CHUNKS, CHUNK_SAMPLES, generator=draw)


def sound(model: FreezeOmni, seed: int = 1) -> Tensor:
    """What a model hears [13, 2560]: noise, or a question in some where no words mean no answer."""
    heard = noise(seed)
    if not model.adapter.requires_ctc:
        return heard
    wave = torch.as_tensor(audio.read(recording(EXAMPLE), SAMPLE_RATE))[: heard.numel()]
    question = F.pad(wave, (0, heard.numel() - wave.numel())).view_as(heard)
    return question + 0.02 * heard


def dialogue(first: int, seed: int = 0, tokens: int = 1000) -> DialogueConfig:
    """The engine's own way of talking; the first piece has 10 tokens (or is a shorter answer).

    Args:
        first: Speech tokens kept first.
        seed: Of text and speech tokens.
        tokens: Speech tokens of a piece at most.
    """
    segmenter = SegmenterConfig(min_tokens=SENTENCE, max_tokens=SENTENCE)
    vocoder = VocoderConfig(first_chunk=first, first_threshold=1e9, threshold=1e9, onset=0.0)
    return DialogueConfig(
        seed=seed,
        segmenter=segmenter,
        speaker=SpeakerConfig(vocoder=vocoder, max_tokens=tokens),
        duplex=DuplexConfig(turn=TurnConfig(detect="manual"), max_turn_seconds=3600.0),
    )


def talk(model: FreezeOmni, chunks: Tensor, cfg: DialogueConfig, whole: bool = False) -> Talk:
    """Hear the chunks [N, 2560], answer.

    Args:
        model: Made ready; its speech must not end by itself.
        chunks: What is heard.
        cfg: From :func:`dialogue`.
        whole: Go on to the answer's end, not only to the first audio.
    """
    duplex, spans = quiet_duplex(model, cfg), []
    for index, chunk in enumerate(chunks):
        arrived = time.monotonic()
        hear(duplex, chunk)
        spans.append(Span(f"chunk {index}", "ear", arrived, time.monotonic()))
    heard = [1000 * (span.end - span.start) for span in spans[WARM:]]
    duplex.send(Commit())
    written = spoken = wall = now = 0.0
    samples, reply, rate = 0, None, model.codec.sample_rate
    for event in duplex.run():
        reply, now = reply or duplex.engine.reply, event.time
        if isinstance(event, ev.TextDelta):
            written = written or now
        elif isinstance(event, ev.AudioDelta):
            wall = wall or 1000 * (time.monotonic() - arrived)
            spoken = spoken or now
            playing = max(now, spans[-1].end if spans[-1].lane == "playback" else 0.0)
            end = playing + event.audio.size / rate
            spans.append(Span(f"piece {event.part}", "playback", playing, end))
            samples += event.audio.size
            if not whole:
                break
        elif isinstance(event, ev.Error):
            raise EngineError(f"the model failed: {event.message}")
    assert reply is not None and spoken, "the first piece of the answer was not spoken"
    assert reply.speaker is not None
    part, *others = reply.speaker.parts
    stamps = [arrived, reply.asked, reply.read, written, part.prefilled, part.first_chunk]
    bounds = list(zip(stamps, [*stamps[1:], spoken], strict=True))
    legs = dict(zip(LEGS, (1000 * (end - start) for start, end in bounds), strict=True))
    for leg, (start, end) in list(zip(LEGS, bounds, strict=True))[1:]:
        spans.append(Span(LEGS[leg], LANES[leg], start, end))
    for later in others:
        if later.first_audio:
            name = f"piece {later.index}: first audio"
            spans.append(Span(name, "speech decoder", later.prefilled, later.first_audio))
    spans.sort(key=lambda span: span.start)
    bytes_ = state_bytes(duplex.conversation)
    tokens = reply.turn.pieces[0].stop
    return Talk(spans, legs, wall, heard, now - reply.asked, samples / rate, tokens, bytes_)


class _Voice:
    """A detector that finds voice in everything, for what is heard is noise."""

    def init_state(self, batch_size: int) -> Any:
        return None

    def step(self, wave: Tensor, state: Any) -> tuple[Tensor, Any]:
        return torch.ones(1, wave.shape[1] // WINDOW), state


def quiet_duplex(model: FreezeOmni, cfg: DialogueConfig) -> Duplex:
    """A talk that has read its system text and waits."""
    duplex = Duplex(model, cfg, vad=_Voice(), eager=True)
    hear(duplex, torch.zeros(0))
    return duplex


def hear(duplex: Duplex, chunk: Tensor) -> None:
    """A chunk [2560] is heard to its end."""
    duplex.push(chunk)
    for _ in duplex.run():
        pass


def state_bytes(conversation: Conversation) -> int:
    """Bytes of one user: encoder, adapter and the used part of the LLM's cache."""
    cache, used = conversation.cache.cache, 0
    if isinstance(cache, KVCache):
        used = sum(part[..., : cache.length, :].nbytes for part in (cache.keys, cache.values))
    return used + sum(tensor.nbytes for tensor in _tensors(vars(conversation.listener).values()))


def _tensors(values: Any) -> Iterator[Tensor]:
    """Tensors in states, which are dataclasses and lists of tensors."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _tensors(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _tensors(vars(value).values())
