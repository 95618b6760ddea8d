"""One spoken question and its answer, with the times that session and speaker note themselves."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fo_core.config import replace
from fo_core.dialogue.segmenter import SegmenterConfig
from fo_core.dialogue.session import Session
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.speaker import SpeakerConfig
from fo_core.dialogue.vocoder import VocoderConfig
from fo_core.layers.kv_cache import KVCache
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.streaming import CHUNK_SAMPLES

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
    start: float  # time.perf_counter()
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
    state_bytes: int  # of one user at the end

    @property
    def total(self) -> float:
        """Last chunk arrived → first audio, ms."""
        return sum(self.legs.values())


def noise(seed: int = 1) -> Tensor:
    """What is heard: chunks [13, 2560]."""
    draw = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(CHUNKS, CHUNK_SAMPLES, generator=draw)


def dialogue(first: int, ahead: bool = False, seed: int = 0, tokens: int = 1000) -> DialogueConfig:
    """The engine's own way of talking; the first piece has exactly 10 tokens, always cut.

    Args:
        first: Speech tokens kept first.
        ahead: Whether the LLM writes on while the first piece is spoken (else there is one piece).
        seed: Of text and speech tokens.
        tokens: Speech tokens of a piece at most.
    """
    segmenter = SegmenterConfig(min_tokens=SENTENCE)
    if not ahead:
        segmenter = replace(segmenter, max_tokens=SENTENCE)
    vocoder = VocoderConfig(first_chunk=first, first_threshold=1e9, threshold=1e9, onset=0.0)
    return DialogueConfig(
        mode="offline",
        seed=seed,
        segmenter=segmenter,
        speaker=SpeakerConfig(vocoder=vocoder, max_tokens=tokens),
        write_ahead=ahead,
    )


def talk(model: FreezeOmni, chunks: Tensor, cfg: DialogueConfig, whole: bool = False) -> Talk:
    """Hear the chunks [N, 2560], answer.

    Args:
        model: Made ready; its speech must not end by itself.
        chunks: What is heard.
        cfg: From :func:`dialogue`.
        whole: Go on to the answer's end, not only to the first audio.
    """
    session = Session(model, cfg)
    spans = []
    for index, chunk in enumerate(chunks):
        arrived = time.perf_counter()
        session.listen(chunk)
        spans.append(Span(f"chunk {index}", "ear", arrived, time.perf_counter()))
    heard = [1000 * (span.end - span.start) for span in spans[WARM:]]
    session.end_turn()
    written = spoken = wall = 0.0
    samples = 0
    reply = session.reply()
    now = time.perf_counter()
    for event in reply:
        now = session.turns[-1].asked + event.seconds
        if event.audio is not None:
            wall = wall or 1000 * (time.perf_counter() - arrived)
            spoken = spoken or now
            rate = session.speaker.sample_rate if session.speaker else 1
            playing = max(now, spans[-1].end if spans[-1].lane == "playback" else 0.0)
            end = playing + event.audio.numel() / rate
            spans.append(Span(f"piece {event.part}", "playback", playing, end))
            samples += event.audio.numel()
            if not whole:
                break
        else:
            written = written or now
    turn, speaker = session.turns[-1], session.speaker
    assert speaker is not None and spoken, "the first piece of the answer was not spoken"
    part = speaker.parts[0]
    reply.close()
    stamps = [arrived, turn.asked, turn.prefilled, written, part.prefilled, part.first_chunk]
    bounds = list(zip(stamps, [*stamps[1:], spoken], strict=True))
    legs = dict(zip(LEGS, (1000 * (end - start) for start, end in bounds), strict=True))
    for leg, (start, end) in list(zip(LEGS, bounds, strict=True))[1:]:
        spans.append(Span(LEGS[leg], LANES[leg], start, end))
    for later in speaker.parts[1:]:
        if later.first_audio:
            name = f"piece {later.index}: first audio"
            spans.append(Span(name, "speech decoder", later.prefilled, later.first_audio))
    spans.sort(key=lambda span: span.start)
    audio = samples / speaker.sample_rate
    return Talk(spans, legs, wall, heard, now - turn.asked, audio, state_bytes(session))


def state_bytes(session: Session) -> int:
    """Bytes of one user: encoder, adapter and the used part of the LLM's cache."""
    cache, used = session.cache.cache, 0
    if isinstance(cache, KVCache):
        used = sum(part[..., : cache.length, :].nbytes for part in (cache.keys, cache.values))
    return used + sum(tensor.nbytes for tensor in _tensors(vars(session._listener).values()))


def _tensors(values: Any) -> Iterator[Tensor]:
    """Tensors in states, which are dataclasses and lists of tensors."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _tensors(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _tensors(vars(value).values())
