"""Text by the chunk and several tokens a step: what is spoken equals training, and one by one."""

from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch

from fo_core.models.decoder.duration_decoder import DurationDecoder, DurationDecoderConfig
from fo_core.models.decoder.speech_decoder import SpeechDecoder, SpeechDecoderConfig
from fo_core.models.decoder.streaming import StreamingDecoder
from fo_core.models.steps import drive
from fo_core.sampling import SamplingConfig
from fo_core.text_chunks import TextChunk

GREEDY = SamplingConfig(top_k=1)
SIZES = {"dim": 24, "heads": 2, "ffn": 32, "layers": 2, "codes": 16}
CHUNKS = [
    TextChunk("Hello there", " my", False, True),
    TextChunk(" my dear,", " ol", True, True),
    TextChunk(" old friend.", "", True, False),
]


def durations(**changes: object) -> DurationDecoder:
    torch.manual_seed(0)
    decoder = DurationDecoder(DurationDecoderConfig(**(SIZES | changes))).eval()
    with torch.no_grad():  # durations that differ from letter to letter
        decoder.duration[-1].weight.mul_(30)
        for parameter in decoder.parameters():
            parameter.mul_(3.0) if parameter.dim() > 1 else None
        decoder.out.bias[16:] = -1e4  # specials
    return decoder


def attention(**changes: object) -> SpeechDecoder:
    torch.manual_seed(0)
    decoder = SpeechDecoder(SpeechDecoderConfig(**(SIZES | changes))).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(6.0) if parameter.dim() > 1 else None
    return decoder


def spoken(decoder: StreamingDecoder, parts: list, prefix: list | None = None, most: int = 60):
    """Tokens of a sentence that comes in parts, and how many were there after each."""
    sentence, said, ends = None, [], []
    for index, part in enumerate(parts):
        more, states = index + 1 < len(parts), prefix[index] if prefix else None
        if sentence is None:
            sentence = decoder.begin(part, states, GREEDY, most, more=more)
        else:
            decoder.extend(sentence, part, states, more)
        while (code := drive(decoder.next_token(sentence))) is not None:
            said.append(code)
        ends.append(len(said))
    return said, ends, sentence


@pytest.mark.parametrize("prefix", [0, 3])
def test_a_sentence_spoken_by_chunks_equals_its_training(prefix: int) -> None:
    decoder = durations()
    states = [torch.randn(1, prefix, 24) for _ in CHUNKS] if prefix else None
    with torch.inference_mode():
        parts = [decoder.chunk_input(None, chunk, ()) for chunk in CHUNKS]
        said, ends, sentence = spoken(decoder, parts, states)
        text, lens, _ = decoder.chunked_input(None, [CHUNKS])
        assert [end for end, _ in text.chunks[0]] == [12, 21, 34] and len(said) > 20
        assert text.units[0].tolist() == sentence.state.units[0].tolist()
        hidden, after = decoder.read_chunks(text)
        counts = decoder.counts(hidden)
        assert counts.sum() == len(said)
        assert [int(counts[0, :end].sum()) for end, _ in text.chunks[0]] == ends
        tokens = torch.tensor([said])
        found = decoder.loss(
            text,
            lens,
            tokens,
            None,
            None if states is None else torch.cat(states, 1),
            counts=counts,
            prefix_ends=[list(accumulate([prefix] * 3))] if prefix else None,
        )
    assert float(found.accuracy) == 1.0  # greedy choices, all of them


@pytest.mark.parametrize("prefix", [0, 3])
def test_the_attention_decoder_by_chunks_equals_its_training(prefix: int) -> None:
    decoder = attention(chunk_ratio=2.0)
    texts = [torch.randn(1, n, 24) for n in (3, 4, 6)]
    states = [torch.randn(1, prefix, 24) for _ in texts] if prefix else None
    with torch.inference_mode():
        said, ends, _ = spoken(decoder, texts, states)
        assert ends[:2] == [6, 14] and len(said) > 20
        hidden, _ = decoder.run(
            torch.cat(texts, 1),
            None,
            torch.tensor([said]),
            None,
            None if states is None else torch.cat(states, 1),
            text_ends=[[3, 7, 13]],
            prefix_ends=[list(accumulate([prefix] * 3))] if prefix else None,
        )
        logits = decoder.finish(hidden)[0] + decoder.forbidden
        logits[:14, decoder.eos] = float("-inf")  # no end before the text's
    assert logits.argmax(-1)[: len(said)].tolist() == said


def test_padding_changes_nothing_of_a_text_by_chunks() -> None:
    decoder = attention(chunk_ratio=2.0)
    text, tokens, states = (
        torch.randn(2, 9, 24),
        torch.randint(0, 16, (2, 20)),
        torch.randn(2, 5, 24),
    )
    lens = [torch.tensor([9, 6]), torch.tensor([20, 12]), torch.tensor([5, 4])]
    ends, prefix_ends = [[3, 9], [2, 4, 6]], [[2, 5], [1, 2, 4]]
    both = decoder.loss(text, lens[0], tokens, lens[1], states, lens[2], ends, prefix_ends)
    alone = [
        decoder.loss(
            text[i : i + 1, : lens[0][i]],
            None,
            tokens[i : i + 1, : lens[1][i]],
            None,
            states[i : i + 1, : lens[2][i]],
            None,
            [ends[i]],
            [prefix_ends[i]],
        )
        for i in range(2)
    ]
    total = sum(float(one.total.detach()) for one in alone)
    assert float(both.total.detach()) == pytest.approx(total, rel=1e-5)


def test_one_chunk_is_the_whole_sentence() -> None:
    speaker = durations()
    whole = speaker.text_input(None, ["Hello there."])[0]
    one = speaker.chunk_input(None, TextChunk("Hello there."), ())
    assert one.units.tolist() == whole.units.tolist()
    reader, text = attention(), torch.randn(1, 5, 24)
    tokens = torch.randint(0, 16, (1, 9))
    apart = reader(text, None, tokens, None, text_ends=[[5]])
    assert torch.equal(apart, reader(text, None, tokens, None))


def test_chunks_spelled_otherwise_than_their_sentence_come_whole() -> None:
    decoder = durations()
    chunks = [TextChunk("In 19", "45", False, True), TextChunk("45 it ended.", "", True, False)]
    text, _, _ = decoder.chunked_input(None, [chunks])
    assert len(text.chunks[0]) == 1


def test_speech_of_more_text_than_was_read_waits() -> None:
    decoder = attention(chunk_ratio=2.0)
    sentence = decoder.begin(torch.randn(1, 3, 24), sampling=GREEDY, more=True)
    said = [drive(decoder.next_token(sentence)) for _ in range(8)]
    assert said[6:] == [None, None] and decoder.eos not in said
    decoder.extend(sentence, torch.zeros(1, 0, 24))
    assert drive(decoder.next_token(sentence)) is not None or sentence.limit == 0


def trained_guesses(decoder: StreamingDecoder) -> None:
    """A head that sometimes guesses right: it leaves the decoder's output nearly as it is."""
    torch.manual_seed(1)
    with torch.no_grad():
        decoder.drafts.write.weight.normal_(std=0.5)


@pytest.mark.parametrize("make", [durations, attention])
@pytest.mark.parametrize("count", [1, 3])
def test_verified_guesses_say_what_one_by_one_says(make, count: int) -> None:
    decoder, alone = make(drafts=count), make()
    trained_guesses(decoder)
    alone.load_state_dict(decoder.state_dict(), strict=False)
    if make is durations:
        parts = [decoder.chunk_input(None, chunk, ()) for chunk in CHUNKS]
    else:
        parts = [torch.randn(1, n, 24) for n in (3, 4, 6)]
    with torch.inference_mode():
        said, ends, sentence = spoken(decoder, parts)
        wanted, wanted_ends, single = spoken(alone, parts)
    assert said == wanted and ends == wanted_ends and len(said) > 20
    assert single.steps >= len(said) and sentence.steps <= single.steps + len(said)


def test_right_guesses_save_steps() -> None:
    decoder = durations(drafts=3)
    with torch.no_grad():  # every token is the same, and so is every guess
        decoder.out.weight.zero_()
        decoder.out.bias[5] = 9.0
    with torch.inference_mode():
        said, _, sentence = spoken(decoder, [decoder.text_input(None, ["Hello there."])[0]])
    assert set(said) == {5} and sentence.steps <= 1 + -(-len(said) // 4) + 1


def test_a_tie_is_decided_by_a_step_of_one() -> None:
    from fo_core.models.decoder.drafts import accepted

    logits = torch.tensor([[0.0, 5.0, 0.0], [4.0, 0.0, 3.9999], [0.0, 0.0, 1.0]])
    assert accepted(torch.tensor([1, 0]), logits) == [1]
    assert accepted(torch.tensor([2, 0]), logits) == [1]
    assert accepted(torch.tensor([1, 0]), logits * 100) == [1, 0, 2]


def test_sampling_with_chance_makes_no_guesses() -> None:
    decoder = durations(drafts=3)
    text = decoder.text_input(None, ["Hello there."])[0]
    sentence = decoder.begin(text, sampling=SamplingConfig(top_k=2))
    said = []
    while (code := drive(decoder.next_token(sentence))) is not None:
        said.append(code)
    assert sentence.steps == len(said)


def test_guesses_are_learned() -> None:
    decoder = durations(drafts=2, dropout=0.0, token_noise=0.0).train()
    text, lens = decoder.text_input(None, ["Hi."])
    counts = torch.full((1, int(lens)), 2)
    tokens = torch.arange(2 * int(lens))[None] % 16
    optimiser = torch.optim.Adam(decoder.drafts.parameters(), lr=3e-2)
    losses = []
    for _ in range(30):
        found = decoder.loss(text, lens, tokens, None, counts=counts)
        optimiser.zero_grad()
        found.terms["draft"].backward()
        optimiser.step()
        losses.append(float(found.terms["draft"].detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert float(found.loss.detach()) > float(
        (found.total / found.count).detach()
    )  # it counts in the loss
    assert isinstance(SimpleNamespace(**found.terms).draft_accuracy, torch.Tensor)
