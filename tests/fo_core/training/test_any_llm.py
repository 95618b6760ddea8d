"""Training on any LLM: losses are those of transformers' own forward, beyond the window, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from fo_core.data.collate import find_task
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import encode
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.training.losses.listening import encode_speech, speech_vectors
from fo_core.training.losses.llm_rows import Dialogues
from fo_core.training.stages.input_2 import TranscriptLoss
from fo_core.training.stages.output_3 import answer_states

WINDOWED = ["mistral-window", "qwen2-window", "gemma2", "gemma3", "phi3", "cohere2", "mixtral"]


def batch_of(items: list[Any], task: str) -> dict[str, Any]:
    found = find_task(task)
    return found.collate([(item, item.load_audio(16000)) for item in items])


def hf_forward(folder: Path, rows: list[torch.Tensor], labels: list[list[int]]) -> tuple[Any, Any]:
    """transformers' own loss and last states for rows [N, H] whose last places are answers."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    embeds = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    shown = torch.zeros(embeds.shape[:2], dtype=torch.long)
    wanted = torch.full(embeds.shape[:2], -100)
    for i, (row, answer) in enumerate(zip(rows, labels, strict=True)):
        shown[i, : len(row)] = 1
        wanted[i, len(row) - len(answer) : len(row)] = torch.tensor(answer)
    out = model.base_model(inputs_embeds=embeds, attention_mask=shown)
    logits = model(inputs_embeds=embeds, attention_mask=shown).logits
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=-100
    )
    return loss, out.last_hidden_state


@pytest.mark.parametrize("kind", WINDOWED)
@torch.no_grad()
def test_losses_beyond_the_window_equal_transformers_own(
    random_llm: Callable[[str], Path], data: Any, kind: str
) -> None:
    """L3: our masks replaced the window by full attention, in silence."""
    folder = random_llm(kind)
    llm = FrozenLLM.load(str(folder))
    assert llm.backbone.window == 6
    model = tiny_models.tiny_model(llm=llm)
    batch = batch_of(data[0][0][:4], "qa")
    parts = TranscriptLoss().parts(model)
    before = llm.embed([*parts.system_ids, *parts.opening(True)])[0]
    vectors = speech_vectors(model, encode_speech(model, batch, "fixed", ctc=False))
    fixed = TranscriptLoss(chunks="fixed")(model, batch)["loss"]
    answers = [[*encode(llm.tokenizer, text), parts.end_id] for text in batch["text"]]
    rows = [
        torch.cat((before, model.task(1)[0], heard, llm.embed(parts.user_suffix_ids)[0],
                   llm.embed(ids)[0]))
        for heard, ids in zip(vectors, answers, strict=True)
    ]  # fmt: skip
    loss, _ = hf_forward(folder, rows, answers)
    assert min(map(len, rows)) > 20
    torch.testing.assert_close(fixed, loss, atol=1e-5, rtol=1e-5)
    spoken = batch_of(data[0][1][:1], "tts")
    prefix = answer_states(model, spoken)["prefix"]  # what output-3 reads
    parts = Dialogues(model).parts(spoken["messages"][0][:-1])
    ids = llm.tokenizer(spoken["messages"][0][-1]["content"], add_special_tokens=False)["input_ids"]
    said = llm.tokenizer(spoken["text"][0], add_special_tokens=False)["input_ids"]
    row = llm.embed([*parts.system_ids, *parts.opening(True), *ids, *parts.user_suffix_ids, *said])
    _, states = hf_forward(folder, [row[0]], [said])
    expected = states[0, -len(said) - 1 : -1].reshape(prefix.shape)
    torch.testing.assert_close(prefix, expected, atol=1e-5, rtol=1e-5)


def test_one_step_of_input_2_trains_the_adapter_and_not_the_llm(any_llm: Path, data: Any) -> None:
    model: FreezeOmni = tiny_models.tiny_model(llm=FrozenLLM.load(str(any_llm)))
    before = model.llm.fingerprint()
    optimiser = torch.optim.AdamW(model.adapter.parameters(), lr=1e-4)
    batch = batch_of(data[0][0][:3], "qa")
    losses = []
    for _ in range(3):
        loss = TranscriptLoss(chunks="fixed")(model, batch)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] and model.llm.fingerprint() == before
