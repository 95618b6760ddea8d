"""Batched greedy answers equal one by one, whatever stands beside them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from pretended_device import DEVICE, PretendedDevice

from fo_core.engines import LLM
from fo_core.engines.llm import Answer, Draw
from fo_core.engines.llm.transformers import Engine, shared_length
from fo_core.errors import EngineError
from fo_core.models.llm import chat
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tiny import write_tiny


@pytest.fixture(scope="module", params=[True, False], ids=["lean", "transformers"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = write_tiny(tmp_path_factory.mktemp("tiny"), seed=3)
    return Engine(FrozenLLM.load(str(folder), lean=request.param))


def dialogues() -> list[list[dict[str, str]]]:
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefgh ?", k=draw.randint(1, 30))) for _ in range(11)]
    return [chat.dialogue("Be brief.", [("Hi?", "Hello.")], text) for text in texts]


def plain(llm: FrozenLLM, dialogue: list[dict[str, str]], most: int) -> Answer:
    """One dialogue, the whole sequence anew for every token."""
    ids = chat.encode(llm.tokenizer, chat.render(llm.tokenizer, dialogue))
    out: list[int] = []
    with torch.no_grad():
        while len(out) < most and out[-1:] != [llm.end_id]:
            out.append(int(llm.logits(llm(llm.embed(ids + out)))[0, -1].argmax()))
    finished = out[-1:] == [llm.end_id]
    return Answer(llm.tokenizer.decode(out, skip_special_tokens=True).strip(), finished)


def test_batches_equal_one_by_one(engine: Engine) -> None:
    asked = dialogues()
    seen: list[int] = []
    together = engine.answer(asked, max_new_tokens=12, batch_size=4, progress=seen.append)
    assert together == [plain(engine.llm, d, 12) for d in asked]
    assert together == engine.answer(asked, max_new_tokens=12, batch_size=64)
    assert together[::-1] == engine.answer(asked[::-1], max_new_tokens=12, batch_size=3)
    assert sum(seen) == len(asked) and len(set(together)) > 1


def test_rows_that_end_early_leave(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any id may be the end: then rows end at different steps, and some never."""
    llm = engine.llm
    prompts = [chat.encode(llm.tokenizer, d[-1]["content"]) for d in dialogues()]
    with torch.inference_mode():
        shared = llm.init_state()
        llm.step(llm.embed([1, 2, 3]), shared)
        free = engine._generate(prompts, shared, 16)
        ends = [{row.index(i) if i in row else 16 for row in free} for i in range(256)]
        end = max(range(256), key=lambda i: len(ends[i]))
        monkeypatch.setattr(llm, "_end_id", end)
        got = engine._generate(prompts, shared, 16)
    assert len(ends[end]) > 2
    assert got == [row[: row.index(end) + 1] if end in row else row for row in free]


def test_nothing_asked_and_bad_limits(engine: Engine) -> None:
    assert engine.answer([]) == []
    with pytest.raises(EngineError, match="at least 1"):
        engine.answer(dialogues(), max_new_tokens=0)


def test_shared_length_leaves_one_token_to_each() -> None:
    assert shared_length([[1, 2, 3], [1, 2, 4]]) == 2
    assert shared_length([[1, 2], [1, 2, 4]]) == 1
    assert shared_length([[1, 2], [1, 2]]) == 1
    assert shared_length([[1, 2]]) == 0


def test_registry_lists_the_engines() -> None:
    assert {"embedded", "openai", "transformers"} <= set(LLM.names())
    assert all(hasattr(LLM.load(name), "Engine") for name in LLM.names())


def test_bfloat16_runs(tmp_path: Path) -> None:
    engine = Engine(str(write_tiny(tmp_path)), "bfloat16")
    assert len(engine.answer(dialogues(), max_new_tokens=3)) == 11


def test_draws_do_not_depend_on_the_batch(engine: Engine) -> None:
    """Chances that came from one generator for the batch would fail here."""
    asked = dialogues()
    draws = [Draw(1.0, seed) for seed in range(len(asked))]
    alone = [engine.draw([d], [w], 12)[0] for d, w in zip(asked, draws, strict=True)]
    assert engine.draw(asked, draws, 12, batch_size=4) == alone
    assert engine.draw(asked[::-1], draws[::-1], 12, batch_size=64) == alone[::-1]
    others = engine.draw(asked, [Draw(1.0, w.seed + 99) for w in draws], 12)
    assert sum(a != b for a, b in zip(others, alone, strict=True)) > 8
    assert engine.draw(asked, [Draw()] * len(asked), 12) == engine.answer(asked, 12)


def test_near_ties_are_settled_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose rounding moves every score more than the scores differ gives the same."""
    asked, draws = dialogues(), [Draw()] * 11
    alone = [engine.draw([d], [Draw()], 12)[0] for d in asked]
    true, shaken = engine.llm.logits, torch.Generator().manual_seed(0)

    def rounded(hidden: torch.Tensor) -> torch.Tensor:
        scores = true(hidden)
        noise = torch.rand(scores.shape, generator=shaken) * 0.4 - 0.2
        return scores + noise if len(scores) > 1 else scores

    monkeypatch.setattr(engine.llm, "logits", rounded)
    monkeypatch.setattr(engine, "margin", 0.0)
    assert engine.draw(asked, draws, 12) != alone
    monkeypatch.setattr(engine, "margin", 0.4)
    monkeypatch.setattr(engine, "alone", 0)
    assert engine.draw(asked, draws, 12) == alone and engine.alone > 0


def test_answers_on_a_device_mix_no_devices(monkeypatch):
    talks = [[{"role": "user", "content": text}] for text in ("hello there", "why?", "a, b or c")]
    draws = [Draw(), Draw(0.8, 3), Draw(0.8, 4)]
    here = Engine("tiny", "float32")
    wanted = here.answer(talks, 8, 2), here.draw(talks, draws, 8, 2)
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: generator())
    with PretendedDevice():
        there = Engine("tiny", "float32", "cuda")
        assert there.llm.device == DEVICE
        assert (there.answer(talks, 8, 2), there.draw(talks, draws, 8, 2)) == wanted
