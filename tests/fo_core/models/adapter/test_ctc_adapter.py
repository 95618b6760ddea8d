"""The CTC adapter: runs become token embeddings, and the stream gives what the whole gives."""

from __future__ import annotations

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.adapter.ctc_adapter import CtcAdapter, CtcAdapterConfig

E, H, V = 6, 10, 5


def make(max_run: int = 8) -> CtcAdapter:
    torch.manual_seed(0)
    adapter = CtcAdapter(CtcAdapterConfig(max_run=max_run), E, H, [-1, 11, 12, 13, 14]).eval()
    adapter.attach_table(torch.randn(V, H))
    return adapter


def logits_of(symbols: list[int], scale: float) -> torch.Tensor:
    return scale * torch.nn.functional.one_hot(torch.tensor([symbols]), V).float()


def stream(adapter: CtcAdapter, x: torch.Tensor, logits: torch.Tensor, size: int) -> torch.Tensor:
    state, parts = adapter.init_state(x.shape[0]), []
    for piece, scores in zip(x.split(size, 1), logits.split(size, 1), strict=True):
        embeds, lens, state = adapter.step(piece, state, scores)
        parts.append(embeds[0, : int(lens[0])])
    embeds, lens, state = adapter.flush(state)
    assert adapter.flush(state)[1].tolist() == [0]
    return torch.cat([*parts, embeds[0, : int(lens[0])]])


def test_sure_runs_give_exactly_the_tokens_embeddings() -> None:
    adapter = make()
    symbols = [0, 1, 1, 1, 0, 1, 2, 2, 0, 0, 3, 3]
    x = torch.randn(1, len(symbols), E)
    embeds, lens = adapter(x, None, logits_of(symbols, 30.0))
    assert lens.tolist() == [4]
    assert torch.allclose(embeds[0], adapter.table[[1, 1, 2, 3]], atol=1e-5)


def test_a_wavering_run_is_renormalised_without_blank_and_sharpened() -> None:
    adapter = make()
    posterior = torch.tensor([0.4, 0.45, 0.15, 1e-9, 1e-9])
    embeds, _ = adapter(torch.zeros(1, 1, E), None, posterior.log()[None, None])
    weights = torch.tensor([0.45, 0.15]) ** 4
    expected = (weights / weights.sum()) @ adapter.table[1:3]
    assert torch.allclose(embeds[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("max_run", [1, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_stream_and_flush_equal_the_whole(size: int, max_run: int, seed: int) -> None:
    adapter = make(max_run)
    torch.nn.init.constant_(adapter.gate, 0.5)
    generator = torch.Generator().manual_seed(seed)
    symbols = torch.randint(0, 3, (20,), generator=generator).repeat_interleave(
        torch.randint(1, 7, (20,), generator=generator)
    )[:40]
    logits = logits_of(symbols.tolist(), 4.0) + torch.rand(1, 40, V, generator=generator)
    x = torch.randn(1, 40, E, generator=generator)
    whole, lens = adapter(x, None, logits)
    best = logits.argmax(-1)[0]
    runs = torch.unique_consecutive(best)
    assert int(lens[0]) == int((runs > 0).sum())
    assert torch.allclose(stream(adapter, x, logits, size), whole[0], atol=1e-6)


def test_rows_of_a_batch_do_not_touch_each_other_and_lengths_end_a_run() -> None:
    adapter = make()
    x = torch.randn(2, 6, E)
    logits = torch.cat([logits_of([1, 1, 2, 0, 3, 3], 9.0), logits_of([0, 0, 4, 4, 4, 1], 9.0)])
    embeds, lens = adapter(x, torch.tensor([6, 4]), logits)
    assert lens.tolist() == [3, 1]
    for row, length in enumerate([6, 4]):
        alone, _ = adapter(x[row : row + 1, :length], None, logits[row : row + 1, :length])
        assert torch.allclose(alone[0], embeds[row, : int(lens[row])], atol=1e-6)
    assert not embeds[1, 1:].any()


def test_silence_gives_nothing() -> None:
    adapter = make()
    embeds, lens = adapter(torch.randn(2, 5, E), None, logits_of([0] * 5, 9.0).repeat(2, 1, 1))
    assert embeds.shape == (2, 0, H) and lens.tolist() == [0, 0]


def test_gradients_reach_gate_encoder_and_ctc_but_the_table_is_not_saved() -> None:
    adapter = make()
    x = torch.randn(1, 6, E, requires_grad=True)
    logits = logits_of([1, 1, 0, 2, 2, 3], 2.0).requires_grad_()
    torch.nn.init.constant_(adapter.gate, 0.1)
    adapter(x, None, logits)[0].square().sum().backward()
    assert x.grad is not None and x.grad.any()
    assert logits.grad is not None and logits.grad.any()
    assert adapter.gate.grad is not None and adapter.gate.grad.any()
    assert set(adapter.state_dict()) == {"project.weight", "project.bias", "gate"}


def test_a_table_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="embedding rows"):
        make().attach_table(torch.zeros(V + 1, H))
    CtcAdapter(CtcAdapterConfig(), E, H).attach_table(torch.zeros(V + 1, H))
