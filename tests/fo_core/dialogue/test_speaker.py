"""Pieces of text become audio."""

import torch

from fo_core.dialogue.speech.segmenter import Segment
from fo_core.dialogue.speech.speaker import Speaker, SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.dialogue.speech.writer import Part
from fo_core.sampling import SamplingConfig


def part(model, index: int = 0, tokens: int = 3) -> Part:
    states = torch.randn(1, tokens, model.llm.width, generator=torch.Generator().manual_seed(index))
    return Part(index, Segment("hi", "hi.", [40, 41, 42], 0, tokens), states)


def config(onset: float = 0.0, top_k: int = 4, **vocoder: int) -> SpeakerConfig:
    sizes = {"first_chunk": 4, "chunk": 6, "overlap": 3, "cut_window": 201, **vocoder}
    return SpeakerConfig(SamplingConfig(top_k=top_k), 40, VocoderConfig(onset=onset, **sizes))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_every_token_is_heard_once(tiny_model):
    speaker = Speaker(tiny_model, config(), seeded())
    audio = torch.cat(list(speaker.speak(part(tiny_model))))
    spoken = speaker.parts[0]
    assert audio.numel() == 600 * len(spoken.tokens) and spoken.tokens
    assert spoken.prefilled <= spoken.first_chunk <= spoken.first_audio


def test_chunk_sizes_do_not_change_what_is_said(tiny_model):
    small, large = (Speaker(tiny_model, config(first_chunk=n), seeded()) for n in (4, 1000))
    list(small.speak(part(tiny_model)))
    list(large.speak(part(tiny_model)))
    assert small.parts[0].tokens == large.parts[0].tokens


def test_inputs_are_cut_to_the_decoders_width(tiny_model):
    text, prefix = Speaker(tiny_model, config()).inputs(part(tiny_model))
    rows = tiny_model.llm.width // tiny_model.speech_decoder.cfg.dim
    assert text.shape == (1, 3 * rows, 32) and prefix.shape == (1, 3 * rows, 32)


def test_only_the_answers_first_audio_waits_for_the_onset(tiny_model):
    speaker = Speaker(tiny_model, config(onset=1e-9), seeded())
    list(speaker.speak(part(tiny_model)))
    later = torch.cat(list(speaker.speak(part(tiny_model, 1))))
    assert later.numel() == 600 * len(speaker.parts[1].tokens)


def chunk(model, index: int, start: int, stop: int, last: bool) -> Part:
    states = torch.randn(1, stop - start, model.llm.width, generator=seeded())
    ids = list(range(40, 40 + stop - start))
    return Part(index, Segment("hi", "hi", ids, start, stop, start > 0, not last, " hi"), states)


def test_chunks_of_a_piece_are_one_utterance(tiny_model):
    speaker = Speaker(tiny_model, config(top_k=1), seeded())
    first, second = chunk(tiny_model, 0, 0, 3, False), chunk(tiny_model, 0, 3, 5, True)
    began = list(speaker.speak(first))
    rows = tiny_model.llm.width // tiny_model.speech_decoder.cfg.dim
    ready = int(3 * rows * tiny_model.speech_decoder.cfg.chunk_ratio)
    assert len(speaker.parts[0].tokens) == ready  # then it waits for text
    audio = torch.cat([*began, *speaker.speak(second)])
    assert len(speaker.parts) == 1 and audio.numel() == 600 * len(speaker.parts[0].tokens)


def test_chunks_of_audio_grow_from_sentence_to_sentence(tiny_model):
    speaker = Speaker(tiny_model, config(first_chunk=2, chunk=16), seeded())
    sizes = []
    for index in range(3):
        utterance = speaker.begin(part(tiny_model, index))
        sizes.append(utterance.vocoder.chunk)
        utterance.vocoder.chunk = 2 * sizes[-1]  # as after a call
    assert sizes == [2, 4, 8]
