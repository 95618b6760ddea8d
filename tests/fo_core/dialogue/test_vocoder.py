"""Streaming synthesis: chunks, cuts and what is left at the end."""

from __future__ import annotations

import pytest
import torch

from fo_core.dialogue.speech.vocoder import Vocoder, VocoderConfig, cut_point
from fo_core.errors import ConfigError


class TokenCodec:
    """A codec whose every sample is its token's number / 1000; notes its calls."""

    hop, sample_rate = 600, 24000

    def __init__(self) -> None:
        self.calls: list[tuple[int, tuple[int, int] | None]] = []

    def decode(self, tokens, global_tokens, keep=None):
        self.calls.append((tokens.shape[1], keep))
        first, last = keep or (0, tokens.shape[1])
        return (tokens[:, first:last, 0].float() / 1000).repeat_interleave(600, dim=1)


def run(tokens, **fields):
    codec = TokenCodec()
    config = VocoderConfig(
        **{"first_chunk": 4, "chunk": 8, "overlap": 2, "cut_window": 601, **fields}
    )
    vocoder = Vocoder(codec, torch.zeros(1, 1, 1, dtype=torch.long), config)
    state, pieces = vocoder.init_state(), []
    for token in tokens:
        new, state = vocoder.step(token, state)
        pieces += new
    return pieces + vocoder.flush(state), codec.calls


@pytest.mark.parametrize("count", [1, 5, 6, 7, 16, 17, 40])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_every_token_is_heard_once_and_in_order(count, threshold):
    pieces, _ = run(range(count), first_threshold=threshold, threshold=threshold)
    expected = (torch.arange(count) / 1000).repeat_interleave(600)
    assert torch.equal(torch.cat(pieces), expected)


def test_first_chunk_is_short_and_later_ones_have_context_on_both_sides():
    _, calls = run(range(40), first_threshold=1.0, threshold=1.0)
    assert calls[:3] == [(6, (0, 4)), (12, (2, 10)), (12, (2, 10))]


@pytest.mark.parametrize(
    "growth, kept", [(1.0, [2, 2, 2, 2]), (1.2, [2, 3, 4, 5]), (3.0, [2, 6, 8, 8])]
)
def test_chunks_grow_from_any_size_up_to_chunk(growth, kept):
    always = {"first_threshold": 1.0, "threshold": 1.0}
    _, calls = run(range(40), first_chunk=2, growth=growth, **always)
    assert [stop - start for _, (start, stop) in calls[:4]] == kept


def test_published_first_sentence_keeps_its_short_chunks():
    _, calls = run(range(40), first_threshold=1.0, threshold=1.0, compat=True)
    assert calls[:3] == [(6, (0, 4)), (8, (2, 6)), (8, (2, 6))]


def test_nothing_is_cut_without_a_pause():
    pieces, _ = run(range(500, 540), first_threshold=0.1, threshold=0.1)
    assert [len(piece) for piece in pieces] == [40 * 600]


def test_no_tokens_no_audio():
    assert run([])[0] == []


def test_cut_is_at_the_quietest_sample_of_the_pause():
    wave = torch.full((1000,), 0.5)
    wave[700:800], wave[760] = 0.01, 0.0
    assert cut_point(wave, 101, 0.1) == 760
    assert cut_point(wave, 101, 0.001) is None
    assert cut_point(wave[:50], 101, 0.1) is None


def test_published_search_goes_beyond_the_window():
    wave = torch.full((1000,), 0.5)
    wave[700:800], wave[950] = 0.01, 0.0
    assert cut_point(wave, 100, 0.1) == 700
    assert cut_point(wave, 100, 0.1, compat=True) == 950


def test_onset():
    vocoder = Vocoder(TokenCodec(), torch.zeros(1, 1, 1), VocoderConfig())
    piece = torch.tensor([0.0, 0.02, -0.04, 0.01])
    assert torch.equal(vocoder.trim_onset(piece), piece[2:])
    assert torch.equal(vocoder.trim_onset(piece[:2]), piece[:2])


def test_sizes_below_one_are_errors():
    with pytest.raises(ConfigError, match="vocoder.overlap"):
        VocoderConfig(overlap=0)
    with pytest.raises(ConfigError, match="vocoder.growth"):
        VocoderConfig(growth=0.9)
