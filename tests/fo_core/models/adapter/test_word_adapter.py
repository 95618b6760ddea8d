"""The word adapter: words become the LLM's own tokens, and streaming equals the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.adapter.word_adapter import WordAdapter, WordAdapterConfig
from fo_core.models.encoder.vocabulary import PieceVocabulary, TokenVocabulary

E, H = 6, 5
PIECES = PieceVocabulary([" a", "b", " c", "d", "?"])


class Bytes:
    """A tokenizer of bytes."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}


TABLE = torch.randn(128, H, generator=torch.Generator().manual_seed(1))


def make(pause: int = 10) -> WordAdapter:
    torch.manual_seed(0)
    cfg = WordAdapterConfig(pause=pause)
    return WordAdapter(cfg, E, H, PIECES, Bytes(), lambda ids: TABLE[None, ids]).eval()


def logits_of(symbols: list[int]) -> torch.Tensor:
    return 9.0 * torch.nn.functional.one_hot(torch.tensor([symbols]), 6).float()


def rows(text: str) -> torch.Tensor:
    return TABLE[list(text.encode())]


def test_words_are_written_as_the_tokenizer_writes_them() -> None:
    symbols = [0, 1, 1, 0, 2, 0, 3, 4, 4, 0, 4, 5]  # " ab" " cdd?"
    embeds, lens = make()(torch.randn(1, len(symbols), E), None, logits_of(symbols))
    assert torch.equal(embeds[0], rows("ab cdd?")) and lens.tolist() == [7]


def test_a_pause_completes_a_word_and_nothing_heard_gives_nothing() -> None:
    adapter, x = make(pause=3), torch.randn(1, 8, E)
    state = adapter.init_state(1)
    embeds, lens, state = adapter.step(x[:, :3], state, logits_of([1, 0, 0]))
    assert lens.tolist() == [0]
    embeds, lens, state = adapter.step(x[:, :1], state, logits_of([0]))
    assert torch.equal(embeds[0], rows("a"))
    assert adapter.step(x, state, logits_of([0] * 8))[1].tolist() == [0]
    assert adapter.flush(state)[1].tolist() == [0]
    assert adapter(x, None, logits_of([0] * 8))[0].shape == (1, 0, H)


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("pause", [0, 1, 3])
def test_stream_and_flush_equal_the_whole(size: int, pause: int) -> None:
    adapter = make(pause)
    torch.nn.init.constant_(adapter.gate, 0.5)
    generator = torch.Generator().manual_seed(size)
    symbols = torch.randint(0, 6, (24,), generator=generator) * (
        torch.rand(24, generator=generator) > 0.4
    )
    x, logits = torch.randn(2, 24, E), logits_of(symbols.tolist()).repeat(2, 1, 1)
    whole, lens = adapter(x, torch.tensor([24, 12]), logits)
    for row, end in enumerate((24, 12)):
        state, parts = adapter.init_state(1), []
        for start in range(0, end, size):
            part = slice(start, min(end, start + size))
            embeds, _, state = adapter.step(x[row : row + 1, part], state, logits[:1, part])
            parts.append(embeds[0])
        embeds, _, state = adapter.flush(state)
        assert torch.allclose(torch.cat([*parts, embeds[0]]), whole[row, : lens[row]], atol=1e-6)
        assert adapter.flush(state)[1].tolist() == [0]


def test_the_gate_carries_gradient_to_the_encoder() -> None:
    adapter = make()
    torch.nn.init.constant_(adapter.gate, 0.5)
    x = torch.randn(1, 3, E, requires_grad=True)
    adapter(x, None, logits_of([1, 2, 0]))[0].sum().backward()
    assert x.grad is not None and (x.grad[0, :2].abs() > 0.005).all()
    assert (x.grad[0, 2].abs() < 0.001).all()  # a blank frame


def test_it_needs_pieces() -> None:
    with pytest.raises(ConfigError, match="pieces"):
        WordAdapter(WordAdapterConfig(), E, H, TokenVocabulary([1]), Bytes(), lambda ids: TABLE)


def test_the_text_of_a_stream_is_what_the_llm_is_told() -> None:
    adapter = make()
    symbols = [0, 1, 0, 2, 0, 3, 4, 0]
    state = adapter.init_state(1)
    state = adapter.step(torch.randn(1, 8, E), state, logits_of(symbols))[2]
    state = adapter.flush(state)[2]
    assert state.text() == "ab cd" == adapter.read(logits_of(symbols))[0]
    state = adapter.flush(adapter.step(torch.randn(1, 8, E), state, logits_of(symbols))[2])[2]
    assert state.text() == "ab cd ab cd"


def test_without_a_pause_only_the_next_word_or_the_end_completes_a_word() -> None:
    adapter = make(pause=0)
    symbols = [1, 0, 0, 0, 2, 0, 0, 2, 3, 0]  # " a", long blanks, "bb", then " c"
    embeds, _, state = adapter.step(
        torch.randn(1, 10, E), adapter.init_state(1), logits_of(symbols)
    )
    assert torch.equal(embeds[0], rows("abb")) and state.text() == "abb"
    assert adapter.flush(state)[2].text() == "abb c"
