"""The frozen LLM, chat parts, states and greedy answers against the published program's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rounding import bounds, near, roundings
from torch import Tensor
from two_turns import Ended

from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.prompt import PromptEmbeddings
from fo_core.models.state_head import StateHead
from fo_core.sampling import SamplingConfig, filter_logits


@pytest.fixture(scope="module")
def llm(golden_variant: Any) -> FrozenLLM:
    return FrozenLLM.load(str(golden_variant.ckpt / "llm"))


@pytest.fixture(scope="module")
def double(golden_variant: Any) -> FrozenLLM:
    """The same in float64."""
    return FrozenLLM.load(str(golden_variant.ckpt / "llm"), torch.float64)


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
        self.head.to(llm.dtype)
        self.prompt.to(llm.dtype)
        self.state = llm.init_state(1, 64)
        self.turn = 0
        self.feed(llm.embed(self.parts.system_ids))

    def feed(self, embeds: Tensor) -> Tensor:
        """Last state [H]."""
        hidden, self.state = self.llm.step(embeds, self.state)
        return hidden[0, -1]

    def listen(self, chunk: Tensor, first: bool) -> Tensor:
        """One chunk's vectors [2, H]; the state [H] after it."""
        embeds = chunk[None].to(self.llm.dtype)
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


@torch.inference_mode()
def states_logits_and_keys(llm: FrozenLLM, ids: Tensor) -> dict[str, Tensor]:
    state = llm.init_state(1, 8)
    embeds = llm.embed(ids)
    first, state = llm.step(embeds[:, :19], state)
    then, state = llm.step(embeds[:, 19:], state)
    keys = state.cache.keys[0, :, :, : state.length]
    logits = llm.logits(first[0, 17:19])
    return {"llm.h": first[0], "llm.h2": then[0], "llm.logits": logits, "llm.k0": keys}


def test_states_logits_and_keys(llm: FrozenLLM, double: FrozenLLM, golden_variant: Any) -> None:
    units = golden_variant.units
    allowed = bounds(lambda: states_logits_and_keys(double, units["llm.ids"]))
    for name, found in states_logits_and_keys(llm, units["llm.ids"]).items():
        near(found, units[name], allowed[name], name)


def test_sampling_distributions(golden_variant: Any) -> None:
    units = golden_variant.units
    for i, how in enumerate(golden_variant.units_json["filter"]):
        setting = SamplingConfig(how["temperature"], how["top_k"], how["top_p"])
        got = filter_logits(units["filter.logits"], setting, "official")
        assert got.dtype == torch.float32
        expected = units[f"filter.{i}"]
        near(got, expected, roundings(8, expected))  # softmax, and at most two sums to 1
        assert int((got > 0).sum()) == how["support"]


@torch.inference_mode()
def whole_run(llm: FrozenLLM, variant: Any, recorded: Any) -> tuple[dict[str, Tensor], Any]:
    """States, probabilities and logits of a recorded run; and what of it is discrete."""
    talk = Talk(llm, variant, recorded.json["role"])
    start, hidden, chunks = talk.state.length, [], []
    for index, chunk in enumerate(recorded["adapter_out"]):
        before = talk.state.length
        hidden.append(talk.listen(chunk, first=index == 0))
        chunks.append((talk.state.length - before, talk.state.length))
    heard = torch.stack(hidden)
    ids, states, lengths = talk.answer(len(recorded["gen_ids"]))
    values = {
        "chunk_hidden": heard,
        "state_logits": talk.head(heard),
        "state_prob": talk.head.step(heard)[0],
        "gen_hidden": states,
        "gen_logits_head": llm.logits(states[:4]),
    }
    return values, (start, chunks, ids, lengths, talk.parts.end_id)


@pytest.mark.parametrize("run", ["run_a", "run_b"])
def test_chunks_states_and_answer(
    llm: FrozenLLM, double: FrozenLLM, golden_variant: Any, run: str
) -> None:
    recorded = golden_variant.run(run)
    allowed = bounds(lambda: whole_run(double, golden_variant, recorded)[0])
    values, (start, chunks, ids, lengths, end) = whole_run(llm, golden_variant, recorded)
    assert start == recorded.json["system"]["kv_len"]
    assert chunks == [(row["llm_tokens"], row["kv_len"]) for row in recorded.json["chunks"]]
    gen = recorded.json["gen"]
    assert ids == recorded["gen_ids"].tolist()
    assert lengths == gen["kv_len"]
    assert (ids[-1] == end) == gen["ended_by_eod"]
    for name, found in values.items():
        near(found, recorded[name], allowed[name], name)


@torch.inference_mode()
def first_turn(
    llm: FrozenLLM, variant: Any, turn: dict[str, Any], role: str | None
) -> tuple[Talk, dict[str, Tensor], list[int]]:
    """The first of two turns (its vectors are those of run_a): the talk, states, ids."""
    vectors = variant.run("run_a")["adapter_out"]
    talk = Talk(llm, variant, role)
    low, high = turn["chunks"]
    probs = [talk.head.step(talk.listen(vectors[i], i == low))[0] for i in range(low, high)]
    ids, states, _ = talk.answer(turn["max_new_tokens"])
    return talk, {"prob": torch.stack(probs), "hidden": states[: len(turn["ids"])]}, ids


@pytest.mark.parametrize("end", ["cut", "ended"])
@torch.inference_mode()
def test_two_turns(
    llm: FrozenLLM, double: FrozenLLM, golden_variant: Any, end: str, monkeypatch: Any
) -> None:
    """The first turn in numbers (its vectors are those of run_a), the second in lengths."""
    recorded, vectors = golden_variant.run("run_d"), golden_variant.run("run_a")["adapter_out"]
    if end == "ended":
        recorded = Ended(recorded, golden_variant.meta["eod_id"])
        for each in (llm, double):
            monkeypatch.setattr(each, "logits", recorded.head(each.logits))
    role = recorded.json["role"]
    first, second = recorded.json["turns"]
    allowed = bounds(lambda: first_turn(double, golden_variant, first, role)[1])
    talk, values, ids = first_turn(llm, golden_variant, first, role)
    # A step that gave the end token is in the cache's length, and in neither ids nor states.
    ended = ids[-1] == talk.parts.end_id
    assert ended == (first["end"] == "sl") and ids[: len(ids) - ended] == first["ids"]
    for name, found in values.items():
        near(found, recorded[f"t0.{name}"], allowed[name], name)
    assert talk.state.length == first["kv_len"]
    low, high = second["chunks"]
    for i in range(low, high):
        talk.listen(vectors[i], i == low)
    steps = len(second["ids"]) + (second["end"] == "sl")
    grown = steps - 1 + len(talk.parts.user_suffix_ids)
    assert talk.state.length + grown == second["kv_len"]
