"""Any causal LM: both backbones against transformers' own forward, beyond every window."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from rounding import Bound, bounds, near, roundings

from fo_core.errors import CheckpointError
from fo_core.layers.ragged import run_ragged
from fo_core.models.llm import checks, families, source
from fo_core.models.llm.backbone import HFBackbone, LlamaBackbone
from fo_core.models.llm.frozen_llm import FrozenLLM

IDS = (torch.arange(40).reshape(2, 20) * 7 + 3) % 200  # longer than the windows of 6


@cache
def allowed(folder: Path) -> dict[str, Bound]:
    """The bounds of states and logits of an LLM that reads ``IDS``."""
    experts = "moe" in folder.name or folder.name == "mixtral"  # torch has no float64 for them
    llm = FrozenLLM.load(str(folder), torch.float32 if experts else torch.float64)

    def run() -> dict[str, torch.Tensor]:
        states = llm(llm.embed(IDS))
        return {"states": states, "logits": llm.logits(states)}

    if experts:  # a stated number of roundings
        return {name: roundings(200, found) for name, found in run().items()}
    return bounds(run)


def reference(folder: Path, ids: torch.Tensor, mask: torch.Tensor | None = None):
    """Final-normed states and logits of transformers' own forward, on ids [B, N]."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    positions = None if mask is None else (mask.long().cumsum(-1) - 1).clamp(min=0)
    inner = model.model if model.base_model is model else model.base_model
    with torch.no_grad():
        body = inner(input_ids=ids, attention_mask=mask, position_ids=positions)
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions)
    return body.last_hidden_state, out.logits


@torch.no_grad()
def same_as_transformers(folder: Path) -> FrozenLLM:
    """States, steps, a roll-back and a padded batch; the LLM."""
    llm = FrozenLLM.load(str(folder))
    hidden, logits = reference(folder, IDS)
    embeds = llm.embed(IDS)
    states = allowed(folder)["states"]
    near(llm(embeds), hidden, states, "whole")
    near(llm.logits(hidden), logits, allowed(folder)["logits"], "logits")
    state = llm.init_state(2, 4)
    llm.step(embeds[:, :9], state)
    llm.step(torch.randn(2, 8, llm.width), state)  # a turn that is dropped
    state.crop(9)
    parts = [llm.step(part, state)[0] for part in embeds[:, 9:].split([1, 1, 4, 5], 1)]
    near(torch.cat(parts, 1), hidden[:, 9:], states, "in parts")
    shown = torch.ones(2, 20, dtype=torch.long)
    shown[1, :5] = 0
    for mask in (shown, shown.flip(1)):  # padded on the left, and on the right
        expected, _ = reference(folder, IDS, mask)
        found = llm(embeds, mask)
        near(found[mask.bool()], expected[mask.bool()], states, "padded")
    return llm


def test_own_layers_equal_transformers_beyond_the_window(own_llm: Path) -> None:
    llm = same_as_transformers(own_llm)
    assert isinstance(llm.backbone, LlamaBackbone) and llm.facts.why.startswith("family")


def test_transformers_path_equals_transformers_beyond_the_window(foreign_llm: Path) -> None:
    """Logits that are scaled (Granite, Cohere) or capped come from the model's own head."""
    llm = same_as_transformers(foreign_llm)
    assert isinstance(llm.backbone, HFBackbone) and llm.facts.why


@torch.inference_mode()
def test_packed_rows_ragged_batches_and_a_remembered_start(own_llm: Path) -> None:
    """Every way that our own layers run gives the same states."""
    llm = FrozenLLM.load(str(own_llm))
    embeds = llm.embed(IDS[:1])
    expected, states = llm(embeds), allowed(own_llm)["states"]
    past = llm.cached_prefix(IDS[0, :9].tolist())
    assert past is not None
    places = torch.arange(9, 20)[None]
    mask = torch.ones(1, 1, 11, 20, dtype=torch.bool).tril(9)
    near(llm(embeds[:, 9:], mask, places, past), expected[:, 9:], states, "remembered")
    llm.pack()
    state = llm.init_state(1, 4)
    parts = [llm.step(part, state)[0] for part in embeds.split([9, *[1] * 11], 1)]
    near(torch.cat(parts, 1), expected, states, "packed")
    assert isinstance(llm.backbone, LlamaBackbone)
    caches = [llm.init_state(1, 4).cache for _ in range(2)]
    stack = llm.backbone.stack
    run_ragged(stack, [embeds[:, :13], embeds[:, :2]], caches, [0, 0])
    found = run_ragged(stack, [embeds[:, 13:14], embeds[:, 2:9]], caches, [0, 0])
    near(llm.backbone.norm(found[0]), expected[:, 13:14], states, "ragged")
    near(llm.backbone.norm(found[1]), expected[:, 2:9], states, "ragged")


@torch.no_grad()
def test_a_batch_behind_a_shared_start_counts_the_window_by_positions(any_llm: Path) -> None:
    """As answers are generated: one row is expanded, padded rows follow, rows leave the batch."""
    llm = FrozenLLM.load(str(any_llm))
    shared, own = IDS[:1, :7], IDS[:, 7:13]
    state = llm.init_state(1, 7)
    llm.step(llm.embed(shared), state)
    wide = state.expand(2, 20)
    shown = torch.ones(2, 6, dtype=torch.bool)
    shown[1, :4] = False
    positions = 7 + (shown.long().cumsum(-1) - 1).clamp(min=0)
    mask = torch.ones(2, 1, 6, 13, dtype=torch.bool).tril(7)
    mask[..., 7:] &= shown[:, None, None, :]
    mask[..., 7:] |= torch.eye(6, dtype=torch.bool)
    first, _ = llm.step(llm.embed(own), wide, mask, positions)
    last = wide.select(torch.tensor([1]), 20)
    seen = torch.cat((mask[1:, :, -1:], torch.ones(1, 1, 1, 1, dtype=torch.bool)), -1)
    then, _ = llm.step(llm.embed([11]), last, seen, positions[1:, -1:] + 1)
    whole = torch.cat((shared[0], own[1, 4:], torch.tensor([11])))
    expected = llm(llm.embed(whole[None]))
    states = allowed(any_llm)["states"]
    near(first[1:, 4:], expected[:, 7:9], states, "padded row")
    near(then, expected[:, 9:], states, "selected row")
    near(first[:1], llm(llm.embed(torch.cat((shared, own[:1]), 1)))[:, 7:], states, "whole row")


def test_recurrent_llms_are_refused_by_name_when_they_are_loaded(recurrent_llm: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{recurrent_llm.name}.*can't be taken back") as got:
        FrozenLLM.load(str(recurrent_llm))
    assert "\n" not in str(got.value)


def test_gradients_reach_only_the_vectors(any_llm: Path) -> None:
    llm = FrozenLLM.load(str(any_llm))
    assert checks.findings(llm) == dict.fromkeys(("talks", "trains", "batches", "rolls back"), "")
    assert not any(p.requires_grad for p in llm.parameters())


def test_the_embedded_llms_shape_has_a_description() -> None:
    config = source.read_config(source.resolve("tiny"))
    assert isinstance(families.fit(config), families.Fit)
    config.mlp_bias = True
    assert families.fit(config) == "our own layers have no mlp_bias"
    config.model_type = "bloom"
    assert "not bloom" in str(families.fit(config))
