"""The demo's data from nothing, at tiny size, with a canned LLM and a canned voice."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_prep import synthesize
from data_prep.encode_speech import answered, encode_items, encode_manifest
from data_prep.pipeline import PrepareConfig, prepare, read_plan
from data_prep.questions import QuestionsConfig, VoiceConfig
from fo_core import config
from fo_core.data import manifest
from fo_core.data.dataset import make_loader
from fo_core.errors import DataError

CFG = PrepareConfig(
    questions=QuestionsConfig(recordings=24, val=4, max_a=6, max_b=6),
    user_voices=(VoiceConfig("flite", "slt"), VoiceConfig("flite", "rms")),
    num_workers=1,
)


class Llm:
    calls = 0

    def answer(self, messages, max_new_tokens, batch_size):  # type: ignore[no-untyped-def]
        Llm.calls += len(messages)
        said = [m[-1]["content"].rstrip(".?").split() for m in messages]
        return [
            SimpleNamespace(text=f"It is the {w[-1]} of 8 {w[0]}.", finished=True) for w in said
        ]


class Voice:
    rate = 16000
    stop_after: int | None = None
    calls = 0

    def voices(self) -> list[str]:
        return ["slt", "rms"]

    def synthesize(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        Voice.calls += 1
        if Voice.stop_after is not None and Voice.calls > Voice.stop_after:
            raise KeyboardInterrupt
        size = int(16000 * 0.06 * max(6, len(text)))
        pitch = 0.03 if voice == "slt" else 0.02
        return (0.2 * np.sin(np.arange(size) * pitch)).astype("f4")


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    Voice.calls, Voice.stop_after, Llm.calls = 0, None, 0
    monkeypatch.setitem(synthesize._ENGINES, "flite", Voice())


def files(folder: Path) -> dict[str, bytes]:
    """Everything a run leaves but its time stamps; paths are relative."""
    here = str(folder.resolve()).encode()
    return {
        str(p.relative_to(folder)): p.read_bytes().replace(here, b"")
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".done" not in p.parts and p.name not in ("report.json", "answers.jsonl")
    }


def test_manifests_hold_what_the_stages_need(tmp_path: Path) -> None:
    report = prepare(CFG, tmp_path, engine=Llm())
    assert list(report["steps"]) == ["sample", "regenerate", "synthesize", "label-states"]
    assert all(step["seconds"] >= 0 for step in report["steps"].values())
    train = manifest.read(tmp_path / "user" / "train.jsonl")
    questions = [i for i in train if i.kind == "question"]
    assert len(questions) == 24 and len(train) == report["steps"]["sample"]["recordings"]["train"]
    for item in train:
        assert len(item.states) * 2560 == item.num_samples and item.rate == 16000
        assert item.states[0] == 0 and item.role == "user"
    assert all(q.answer and q.answers and q.fact and q.states[-1] == 1 for q in questions)
    answers = manifest.read(tmp_path / "assistant" / "train.jsonl")
    assert {a.text for a in answers} == {q.answer for q in questions}
    assert all(a.rate == 24000 and "eight" in a.extra["spoken"] for a in answers)
    for task, items in (("qa", train), ("speech", train), ("states", train), ("codec", answers)):
        assert len(list(make_loader(items, task, batch_size=8, max_seconds=60))) >= 3


def test_a_second_run_does_nothing_and_a_change_redoes_what_depends_on_it(tmp_path: Path) -> None:
    first = prepare(CFG, tmp_path, engine=Llm())
    calls = Voice.calls
    assert prepare(CFG, tmp_path) == first and Voice.calls == calls
    changed = config.replace(CFG, states=config.replace(CFG.states, delay=1))
    Llm.calls = 0
    prepare(changed, tmp_path)
    assert Voice.calls == calls and Llm.calls == 0
    a, b = (
        manifest.read(p / "user" / "train.jsonl")[0].states
        for p in (tmp_path, _fresh(tmp_path / "other"))
    )
    assert sum(a) == sum(b) - 1  # one chunk later


def _fresh(folder: Path) -> Path:
    prepare(CFG, folder, engine=Llm())
    return folder


@pytest.mark.parametrize("stop_after", [0, 9, 25])
def test_a_killed_run_ends_up_with_the_same_files(tmp_path: Path, stop_after: int) -> None:
    prepare(CFG, tmp_path / "whole", engine=Llm())
    Voice.calls, Voice.stop_after = 0, stop_after
    with pytest.raises(KeyboardInterrupt):
        prepare(CFG, tmp_path / "killed", engine=Llm())
    Voice.stop_after = None
    prepare(CFG, tmp_path / "killed", engine=Llm())
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_held_out_fact_whose_answer_is_spoken_in_training_is_dropped(tmp_path: Path) -> None:
    class Same(Llm):
        def answer(self, messages, max_new_tokens, batch_size):  # type: ignore[no-untyped-def]
            return [SimpleNamespace(text="It is.", finished=True) for _ in messages]

    report = prepare(CFG, tmp_path, engine=Same())
    dropped = report["steps"]["synthesize"]["heldout_b_dropped_because_answer_is_in_training"]
    planned = [r for r in read_plan(tmp_path) if r.split == "heldout_b" and r.kind == "question"]
    assert dropped == len(planned) > 0
    left = manifest.read(tmp_path / "user" / "heldout_b.jsonl")
    assert all(item.kind != "question" for item in left)


def test_steps_alone_and_wrong_steps(tmp_path: Path) -> None:
    prepare(CFG, tmp_path, steps=["sample"])
    assert (tmp_path / "plan.jsonl").exists() and not (tmp_path / "answers.jsonl").exists()
    with pytest.raises(DataError, match="no file .*dialogues.jsonl"):
        prepare(CFG, tmp_path, steps=["synthesize"])
    with pytest.raises(DataError, match="unknown step 'sing'.*regenerate"):
        prepare(CFG, tmp_path, steps=["sing"])


def test_config_is_strict_and_complete() -> None:
    assert config.load(PrepareConfig, config.to_dict(CFG)) == CFG
    loaded = config.load(PrepareConfig, {}, ["questions.recordings=7", "llm.system=Hi"])
    assert loaded.questions.recordings == 7 and loaded.llm.system == "Hi"


class Codec:
    """A codec whose tokens and voice depend on every sample it is given."""

    sample_rate, hop = 24000, 600

    def encode(self, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames = wave.reshape(len(wave), -1, 600)
        tokens = (frames.abs().sum(-1) * 10).long()[..., None]
        return tokens, (wave.mean(dim=1, keepdim=True)[..., None] * 1e4).long()


def test_tokens_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    prepare(CFG, tmp_path, engine=Llm())
    path = tmp_path / "assistant" / "train.jsonl"
    items = encode_manifest(path, Codec())
    assert manifest.read(path) == items
    for item in items:
        assert len(item.speech_tokens) == -(-item.num_samples // 600)
        (alone,) = encode_items([item], Codec())
        assert alone == item
    loader = make_loader(items, "tts", batch_size=4)
    assert next(iter(loader))["token_lens"].min() > 0


def test_questions_carry_the_tokens_of_their_answers(tmp_path: Path) -> None:
    prepare(CFG, tmp_path, engine=Llm())
    coded = encode_items(manifest.read(tmp_path / "assistant" / "train.jsonl"), Codec())
    asked = manifest.read(tmp_path / "user" / "train.jsonl")
    pairs = answered(asked, coded)
    assert len(pairs) == 24 and all(pair.kind == "question" for pair in pairs)
    tokens = {item.text: item.speech_tokens for item in coded}
    assert all(pair.speech_tokens == tokens[pair.answer] for pair in pairs)
    assert next(iter(make_loader(pairs, "reply", batch_size=4)))["text"][0] in tokens
    few = answered([*asked, *asked], coded, most=1)
    assert len({pair.answer for pair in few}) == len(few) <= len(coded)
    assert answered(asked, coded[1:]) == [p for p in pairs if p.answer != coded[0].text]
