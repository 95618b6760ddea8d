"""The frozen LLM, chat parts, states and greedy answers against the published program's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fo_core.models.frozen_llm import FrozenLLM
from fo_core.models.prompt import PromptEmbeddings
from fo_core.models.state_head import StateHead
from fo_core.sampling import filter_logits


@pytest.fixture(scope="module")
def llm(golden_variant: Any) -> FrozenLLM:
    return FrozenLLM.load(str(golden_variant.ckpt / "llm"))


def close(got: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the tensor's largest magnitude."""
    largest = expected.abs().max().item()
    torch.testing.assert_close(got.float(), expected, atol=1e-5 * max(largest, 1e-3), rtol=0)


class Talk:
    """Feeds recorded adapter vectors as a session does."""

    def __init__(self, llm: FrozenLLM, variant: Any, role: str | None) -> None:
        conf = variant.train_yaml["model_conf"]
        weights = variant.state_dict("audiollm")
        self.llm = llm
        self.parts = llm.chat_parts_from_template(conf["chat_template"], role)
        self.head = StateHead(llm.width, conf["predict_usr_state"])
        self.head.head.load_state_dict(
            {k: weights[f"predictor_head.{k}"] for k in ("weight", "bias")}
        )
        used = conf["prompt_finetune"] and conf["add_prompt_before"]
        self.prompt = PromptEmbeddings(conf["prompt_num"], llm.width, before_audio=used)
        if "prompt_embeddings.weight" in weights:
            self.prompt.load_state_dict({"weight": weights["prompt_embeddings.weight"]})
        self.state = llm.init_state(1, 64)
        self.turn = 0
        self.feed(llm.embed(self.parts.system_ids))

    def feed(self, embeds: Tensor) -> Tensor:
        """Last state [H]."""
        hidden, self.state = self.llm.step(embeds, self.state)
        return hidden[0, -1]

    def listen(self, chunk: Tensor, first: bool) -> Tensor:
        """One chunk's vectors [2, H]; the state [H] after it."""
        embeds = chunk[None]
        if first:
            opening = self.llm.embed(self.parts.opening(self.turn == 0))
            embeds = torch.cat((opening, self.prompt(1), embeds), dim=1)
        return self.feed(embeds)

    def answer(self, most: int) -> tuple[list[int], Tensor, list[int]]:
        """Greedy ids (the end token included), the states [m, H] behind them, cache lengths."""
        hidden = self.feed(self.llm.embed(self.parts.user_suffix_ids))
        ids: list[int] = []
        states, lengths = [hidden], [self.state.length]
        while True:
            ids.append(int(self.llm.logits(hidden).argmax()))
            if ids[-1] == self.parts.end_id or len(ids) == most:
                break
            hidden = self.feed(self.llm.embed(ids[-1:]))
            states.append(hidden)
            lengths.append(self.state.length)
        self.turn += 1
        return ids, torch.stack(states), lengths


def test_chat_ids(llm: FrozenLLM, golden_variant: Any) -> None:
    expected = golden_variant.units_json["chat_ids"]
    template = golden_variant.train_yaml["model_conf"]["chat_template"]
    parts = llm.chat_parts_from_template(template)
    assert [*parts.system_ids, parts.end_id] == expected["role"]
    assert parts.user_prefix_ids == expected["prefix"]
    assert parts.user_suffix_ids == expected["suffix"]
    assert parts.end_id == golden_variant.meta["eod_id"]


def test_states_logits_and_keys(llm: FrozenLLM, golden_variant: Any) -> None:
    units = golden_variant.units
    with torch.inference_mode():
        state = llm.init_state(1, 8)
        embeds = llm.embed(units["llm.ids"])
        first, state = llm.step(embeds[:, :19], state)
        then, state = llm.step(embeds[:, 19:], state)
        close(first[0], units["llm.h"])
        close(then[0], units["llm.h2"])
        logits = llm.logits(first[0, 17:19])
    torch.testing.assert_close(logits, units["llm.logits"], atol=1e-4, rtol=0)
    close(state.cache.keys[0, :, :, : state.length], units["llm.k0"])


def test_sampling_distributions(golden_variant: Any) -> None:
    units = golden_variant.units
    for i, how in enumerate(golden_variant.units_json["filter"]):
        got = filter_logits(
            units["filter.logits"], how["temperature"], how["top_k"], how["top_p"], "official"
        ).float()
        torch.testing.assert_close(got, units[f"filter.{i}"], atol=1e-5, rtol=0)
        assert int((got > 0).sum()) == how["support"]


@pytest.mark.parametrize("run", ["run_a", "run_b"])
def test_chunks_states_and_answer(llm: FrozenLLM, golden_variant: Any, run: str) -> None:
    recorded = golden_variant.run(run)
    talk = Talk(llm, golden_variant, recorded.json["role"])
    with torch.inference_mode():
        assert talk.state.length == recorded.json["system"]["kv_len"]
        hidden = []
        for index, (chunk, row) in enumerate(
            zip(recorded["adapter_out"], recorded.json["chunks"], strict=True)
        ):
            before = talk.state.length
            hidden.append(talk.listen(chunk, first=index == 0))
            assert talk.state.length - before == row["llm_tokens"]
            assert talk.state.length == row["kv_len"]
        states = torch.stack(hidden)
        close(states, recorded["chunk_hidden"])
        torch.testing.assert_close(talk.head(states), recorded["state_logits"], atol=1e-4, rtol=0)
        probs = talk.head.probabilities(states)
        torch.testing.assert_close(probs, recorded["state_prob"], atol=1e-5, rtol=0)
        ids, states, lengths = talk.answer(len(recorded["gen_ids"]))
        logits = llm.logits(states[:4])
    gen = recorded.json["gen"]
    assert ids == recorded["gen_ids"].tolist()
    assert lengths == gen["kv_len"]
    assert (ids[-1] == talk.parts.end_id) == gen["ended_by_eod"]
    close(states, recorded["gen_hidden"])
    torch.testing.assert_close(logits, recorded["gen_logits_head"], atol=1e-4, rtol=0)


def test_two_turns(llm: FrozenLLM, golden_variant: Any) -> None:
    """The first turn in numbers (its vectors are those of run_a), the second in lengths."""
    recorded, vectors = golden_variant.run("run_d"), golden_variant.run("run_a")["adapter_out"]
    talk = Talk(llm, golden_variant, recorded.json["role"])
    first, second = recorded.json["turns"]
    with torch.inference_mode():
        low, high = first["chunks"]
        probs = [
            talk.head.probabilities(talk.listen(vectors[i], i == low)) for i in range(low, high)
        ]
        torch.testing.assert_close(torch.stack(probs), recorded["t0.prob"], atol=1e-5, rtol=0)
        ids, states, _ = talk.answer(first["max_new_tokens"])
        assert ids == first["ids"]
        close(states[: len(recorded["t0.hidden"])], recorded["t0.hidden"])
        assert talk.state.length == first["kv_len"]
        low, high = second["chunks"]
        for i in range(low, high):
            talk.listen(vectors[i], i == low)
        grown = len(second["ids"]) - 1 + len(talk.parts.user_suffix_ids)
        assert talk.state.length + grown == second["kv_len"]
