"""A scripted talk: sounds, the events that come of them, and whether the LLM's cache is right."""

from __future__ import annotations

import numpy as np
import torch

from fo_core.config import replace
from fo_core.dialogue import events as ev
from fo_core.dialogue.conversation import new_prefixes
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import DialogueConfig, DuplexConfig, TurnConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.models.steps import drive
from fo_core.sampling import SamplingConfig

CHUNK = 2560
CFG = DialogueConfig(
    sampling=SamplingConfig(temperature=4.0, top_k=5),
    segmenter=SegmenterConfig(stops="aeiou.", min_tokens=3, max_tokens=40, careful=False),
    speaker=SpeakerConfig(
        max_tokens=30,
        vocoder=VocoderConfig(first_chunk=4, chunk=6, overlap=3, cut_window=201, onset=0.0),
    ),
    history_chunks=2,
)
# the same answers in any order of work: greedy, and turns that end after a silence
GREEDY = SamplingConfig(top_k=1)
GREEDY_CFG = replace(
    CFG,
    sampling=GREEDY,
    segmenter=replace(CFG.segmenter, max_tokens=16),
    speaker=replace(CFG.speaker, sampling=GREEDY, max_tokens=20),
    duplex=DuplexConfig(turn=TurnConfig(detect="server", silence_ms=300)),
    history_chunks=1,
)


def loud(chunks: float, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (0.3 * draw.standard_normal(int(CHUNK * chunks))).clip(-1, 1).astype(np.float32)


def quiet(chunks: float) -> np.ndarray:
    return np.zeros(int(CHUNK * chunks), np.float32)


def hear(duplex: Duplex, *waves: np.ndarray, block: int = 640) -> list[ev.DuplexEvent]:
    """Everything is worked off before the next block comes: the model takes no time."""
    found: list[ev.DuplexEvent] = []
    for piece in np.split(wave := np.concatenate(waves), range(block, len(wave), block)):
        duplex.push(piece)
        found += duplex.run()
    return found


def kinds(events, *skip) -> list[str]:
    skip += (ev.SpeculationBegun, ev.SpeculationEnded)
    names = [type(event).__name__ for event in events if not isinstance(event, skip)]
    return [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]


def of(events, kind, turn=None):
    return [e for e in events if isinstance(e, kind) and turn in (None, getattr(e, "turn", None))]


def sound(events, turn: int) -> np.ndarray:
    pieces = of(events, ev.AudioDelta, turn)
    position = 0
    for piece in pieces:
        assert piece.position == position, "audio of a reply has no gap"
        position += piece.audio.size
    return np.concatenate([piece.audio for piece in pieces])


def check_context(duplex: Duplex) -> None:
    """What the LLM's cache holds is what reading the kept history anew would give."""
    talk = duplex.conversation
    length, turns = talk.length, talk.turns
    talk.cache.cache.claim()
    keys = talk.cache.cache.keys[:, :, :, :length].clone()
    ends = [turn.start for turn in turns[1:]] + [length]
    for turn, end in zip(turns, ends, strict=True):
        if turn.answer is not None:  # a token that was chosen last of all is never fed
            fed = end - turn.answer.start
            assert len(turn.answer.token_ids) - fed in (0, 1)
            del turn.answer.token_ids[fed:]
    drive(talk.refeed(64, new_prefixes()))
    assert talk.length == length
    torch.testing.assert_close(talk.cache.cache.keys[:, :, :, :length], keys, rtol=0, atol=1e-3)
