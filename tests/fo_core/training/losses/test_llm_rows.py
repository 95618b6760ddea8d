"""Rows for the frozen LLM: what all begin with is read once, and that changes nothing."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tiny import write_tiny
from fo_core.training.losses import llm_rows


@pytest.mark.parametrize("later", [(), (("c?", "d."), ("e?", "f."))])
def test_a_shared_beginning_gives_the_same_states_loss_and_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: tuple[tuple[str, str], ...]
) -> None:
    llm = FrozenLLM.load(str(write_tiny(tmp_path)))
    model = SimpleNamespace(llm=llm)
    parts = llm.chat_parts("You are kind.", (("a?", "b."),))
    other = llm.chat_parts("You are kind.", (("a?", "b."), *later))  # more was said before it
    torch.manual_seed(0)
    speech = [torch.randn(5, llm.width, requires_grad=True), torch.randn(3, llm.width)]
    prompt, seen = torch.ones(2, llm.width), torch.tensor([[0, 1, 3, 5], [0, 1, 2, 3]])
    partials = [[torch.randn(n, llm.width) for n in row] for row in ([2, 0, 1, 0], [0, 3, 1, 1])]

    def read() -> tuple[torch.Tensor, ...]:
        rows = llm_rows.pack(model, [parts, other], speech, prompt, [[3, 4, 5], None])
        hidden, at_chunks = llm_rows.run_with_partials(model, rows, seen, partials)
        loss, _, _ = llm_rows.answer_loss(model, rows, llm_rows.run(model, rows))
        again, _, _ = llm_rows.answer_loss(model, rows, hidden)
        (gradient,) = torch.autograd.grad(loss, speech[0])
        return rows.lens, at_chunks, loss, again, gradient

    shared = read()
    monkeypatch.setattr(FrozenLLM, "cached_prefix", lambda self, ids: None)
    whole = read()
    assert bool((shared[0] < whole[0]).all()), "the beginning is not in the rows"
    for ours, reference in zip(shared[1:], whole[1:], strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared[2], shared[3])


def test_earlier_turns_must_alternate() -> None:
    with pytest.raises(llm_rows.DataError, match="roles user, user"):
        llm_rows.earlier_turns([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])


def test_before_the_first_word_the_opening_is_read(tmp_path: Path) -> None:
    """Rows that begin alike have it in their shared beginning; no row is without a place for it."""
    llm = FrozenLLM.load(str(write_tiny(tmp_path)))
    model, parts = SimpleNamespace(llm=llm), llm.chat_parts("You are kind.", ())
    torch.manual_seed(0)
    rows = llm_rows.pack(model, [parts] * 2, [torch.randn(2, llm.width)] * 2, None, [None] * 2)
    seen = torch.tensor([[0, 2], [0, 1]])
    nothing = torch.zeros(0, llm.width)
    _, found = llm_rows.run_with_partials(model, rows, seen, [[nothing] * 2] * 2)
    hidden, _ = llm.step(
        llm.embed([*parts.system_ids, *parts.opening(True)]), llm.init_state(1, 64)
    )
    for row in range(2):
        torch.testing.assert_close(found[row, 0], hidden[0, -1], rtol=1e-4, atol=1e-5)
