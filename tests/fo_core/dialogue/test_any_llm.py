"""Talks on any LLM: end tokens, thoughts, its own context, and what is taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_models
import torch

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue.drivers.answer import ask_text, file_talk
from fo_core.dialogue.drivers.transcribe import repeat
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import DialogueConfig, DuplexConfig, TurnConfig, effective_context
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.engines.llm.transformers import Engine
from fo_core.errors import CheckpointError, EngineError
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tiny import write_tiny
from fo_core.sampling import SamplingConfig

GREEDY = DialogueConfig(
    sampling=SamplingConfig(temperature=0.0),
    segmenter=SegmenterConfig(stops=".", min_tokens=3, max_tokens=40, careful=False),
)


class Scripted:
    """Makes an LLM say given tokens, whatever it reads; bytes beyond the text are zeros."""

    def __init__(self, llm: FrozenLLM, monkeypatch: pytest.MonkeyPatch) -> None:
        self.llm, self.ids = llm, list[int]()
        monkeypatch.setattr(llm, "logits", self.logits)

    def say(self, text: str) -> None:
        self.ids = self.llm.tokenizer(text, add_special_tokens=False)["input_ids"]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(*hidden.shape[:-1], self.llm.vocab_size)
        out[..., self.ids.pop(0)] = 1.0
        return out


@pytest.fixture
def model(tmp_path: Path) -> FreezeOmni:
    folder = write_tiny(tmp_path / "llm")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, 92]}))
    return tiny_models.tiny_model(llm=FrozenLLM.load(str(folder)))


def talk_with(model: FreezeOmni, cfg: DialogueConfig = GREEDY, system: str | None = None) -> Duplex:
    return file_talk(model, cfg, system, speak=False)


def ask(talk: Duplex, question: str = "Why?") -> str:
    return ask_text(talk, question).text


def test_an_answer_ends_at_every_end_token(
    model: FreezeOmni, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L1: it ran on into an invented next turn of the user, in talk, transcript and data."""
    script, llm = Scripted(model.llm, monkeypatch), model.llm
    other = llm.tokenizer.convert_ids_to_tokens(92)
    assert llm.end_ids == {256, 92, llm.end_id}
    run_on = f"It is noon.{llm.tokenizer.decode([92])} Human: Why?<|im_end|>"
    script.say(run_on)
    talk = talk_with(model)
    assert ask(talk) == "It is noon." and talk.conversation.turns[0].answer.ended, other
    script.say(run_on)
    said = repeat(model, torch.randn(1, 3, llm.width))
    assert llm.answer_text(said) == "It is noon."
    script.say(run_on)
    [answer] = Engine(llm).answer([[{"role": "user", "content": "Why?"}]])
    assert (answer.text, answer.finished) == ("It is noon.", True)


def test_thoughts_are_not_spoken_and_leave_the_history(
    model: FreezeOmni, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L2: they were read aloud, and made data unspeakable."""
    script, llm = Scripted(model.llm, monkeypatch), model.llm
    talk = talk_with(model)
    said = talk.conversation
    for text in (
        "<think>An hour. Or two.</think>It is noon. Yes.<|im_end|>",
        "An hour</think>It is noon. Yes.<|im_end|>",
        "<think></think>It is noon. Yes.<|im_end|>",
        "It is noon. Yes.<|im_end|>",
    ):
        script.say(text)
        assert ask(talk) == "It is noon. Yes."
        answer = said.turns[-1].answer
        assert llm.tokenizer.decode(answer.token_ids) == "It is noon. Yes."
        assert answer.start + len(answer.token_ids) == said.length
        said.cut_answer(said.turns[-1].number, 11)  # a barge-in after the first sentence
        assert said.length == answer.start + 11 and answer.text == "It is noon."
        script.say(text)
        [found] = Engine(llm).answer([[{"role": "user", "content": "Why?"}]])
        assert found.text == "It is noon. Yes."
        script.say(text)
        assert llm.answer_text(repeat(model, torch.randn(1, 3, llm.width))) == "It is noon. Yes."
    script.say("<think>An hour.<|im_end|>")
    assert ask(talk) == "" and said.turns[-1].answer.token_ids == []


def test_thoughts_without_end_are_closed(
    model: FreezeOmni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fo_core.models.llm.reasoning.LONGEST", 30)
    script = Scripted(model.llm, monkeypatch)
    script.say("<think>An hour, or two, or thrIt is noon.<|im_end|>")
    assert ask(talk_with(model)).strip() == "It is noon."


def test_the_llms_own_context_bounds_a_talk(tmp_path: Path) -> None:
    """L7: an index error in the middle of a talk, or gibberish."""
    folder = write_tiny(tmp_path / "llm", max_position_embeddings=300)
    model = tiny_models.tiny_model(llm=FrozenLLM.load(str(folder)))
    assert effective_context(model.llm, GREEDY) == 150 < GREEDY.duplex.context
    with pytest.raises(CheckpointError, match="the system text takes .* which has 172.*shorten"):
        talk_with(model, system="Be brief. " * 30)
    with pytest.raises(EngineError, match="positions of the LLM's context, which has 300"):
        ask(talk_with(model), "a" * 400)
    endless = replace(GREEDY, segmenter=replace(GREEDY.segmenter, max_tokens=10_000))
    talk = talk_with(model, endless)
    ask(talk, "a" * 200)
    assert talk.conversation.length < 300 and not talk.conversation.turns[0].answer.ended
    engine = Engine(model.llm)
    rows = [[{"role": "user", "content": "a" * n}] for n in (400, 5, 240)]
    texts = engine.answer(rows, max_new_tokens=40)
    assert (texts[0].text, texts[0].finished) == ("", False) and texts[1].text and texts[2].text


def test_dropped_turns_and_barge_ins_leave_nothing_behind(any_llm: Path) -> None:
    """L3, L4: a turn that was dropped, or a word read ahead, ended the talk, or was there."""
    llm = FrozenLLM.load(str(any_llm))
    torch.manual_seed(0)
    model = tiny_models.tiny_model(llm=llm, state_head={"gru": 16})
    noise = 0.3 * torch.randn(2560, generator=torch.Generator().manual_seed(1))
    manual = replace(GREEDY, duplex=DuplexConfig(vad="energy", turn=TurnConfig(detect="manual")))
    talk = Duplex(model, manual, speak=False)
    ask(talk)
    talk.push(torch.cat([noise, noise]))
    talk.send(do.Clear())
    ask(talk, "And now?")
    session = talk.conversation
    session.cut_answer(session.turns[-1].number, 4)
    talk.push(noise)
    talk.send(do.Commit())
    list(talk.run())

    fresh = llm.init_state(1, 64)
    kept = [turn for turn in session.turns if turn.answer is not None]
    assert len(kept) == 3 and any(turn.answer.token_ids for turn in kept)
    for turn, later in zip(kept, [*kept[1:], None], strict=True):
        ids = session.parts.opening(turn is kept[0])
        if turn is kept[0]:
            ids = [*session.parts.system_ids, *ids]
        rows = [llm.embed(ids), model.prompt(1), *turn.heard]
        rows.append(llm.embed(session.parts.user_suffix_ids))
        with torch.no_grad():
            hidden, fresh = llm.step(torch.cat(rows, 1), fresh)
        assert fresh.length == turn.answer.start
        stop = session.length if later is None else later.start
        said = [int(llm.logits(hidden[:, -1]).argmax())]
        for token in turn.answer.token_ids[: stop - turn.answer.start]:
            with torch.no_grad():
                hidden, fresh = llm.step(llm.embed([token]), fresh)
            said.append(int(llm.logits(hidden[:, -1]).argmax()))
        answer = turn.answer.token_ids
        assert said[: len(answer)] == answer
