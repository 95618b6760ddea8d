import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_prep.regenerate import Dialogue, RegenerateConfig, fault, prompt, regenerate

CFG = RegenerateConfig(system="Be short.", shots=(("Hi.", "Hello."),), batch_size=16)


class Echo:
    """An LLM that says how many messages it was given and the last one."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[list[dict[str, str]]] = []
        self.stop_after = stop_after

    def answer(
        self, messages: list[list[dict[str, str]]], max_new_tokens: int, batch_size: int
    ) -> Sequence[SimpleNamespace]:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += messages
        return [
            SimpleNamespace(
                text=f" You said {m[-1]['content']} ({len(m)}) ", finished="cut" not in str(m[-1])
            )
            for m in messages
        ]


def test_each_turn_is_answered_on_the_earlier_answers(tmp_path: Path) -> None:
    engine = Echo()
    dialogues = [Dialogue("a", ("one", "two")), Dialogue("b", ("three",))]
    answered, rejects = regenerate(dialogues, CFG, tmp_path / "j.jsonl", engine)
    assert [(a.dialogue, a.turn) for a in answered] == [("a", 0), ("a", 1), ("b", 0)]
    assert answered[0].answer == "You said one (4)" and answered[0].messages == ()
    assert answered[1].messages == (
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "You said one (4)"},
    )
    assert answered[1].answer == "You said two (6)" and not rejects
    assert prompt(CFG, [], "x")[0] == {"role": "system", "content": "Be short."}


def test_answers_are_kept_and_equal_prompts_asked_once(tmp_path: Path) -> None:
    journal, engine = tmp_path / "j.jsonl", Echo()
    dialogues = [Dialogue(str(i), (f"text {i % 3}",)) for i in range(9)]
    first = regenerate(dialogues, CFG, journal, engine)
    assert len(engine.asked) == 3
    assert regenerate(dialogues, CFG, journal, Echo(stop_after=0)) == first


def test_a_killed_run_goes_on_and_a_cut_line_is_asked_again(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    dialogues = [Dialogue(f"{i:03d}", (f"text {i:03d}",)) for i in range(150)]
    whole = regenerate(dialogues, CFG, tmp_path / "whole.jsonl", Echo())
    with pytest.raises(KeyboardInterrupt):
        regenerate(dialogues, CFG, journal, Echo(stop_after=64))
    journal.write_bytes(journal.read_bytes()[:-15])
    engine = Echo()
    assert regenerate(dialogues, CFG, journal, engine) == whole
    assert len(engine.asked) == 150 - 63
    assert all(json.loads(x) for x in journal.read_text().splitlines() if x.endswith("}"))


def test_a_dropped_turn_ends_its_dialogue_with_the_reason(tmp_path: Path) -> None:
    dialogues = [Dialogue("a", ("one", "cut", "three")), Dialogue("b", ("fine",))]
    answered, rejects = regenerate(dialogues, CFG, tmp_path / "j.jsonl", Echo())
    assert [(a.dialogue, a.turn) for a in answered] == [("a", 0), ("b", 0)]
    assert [(r["id"], r["turn"], r["reason"]) for r in rejects] == [("a", 1, "cut off")]


@pytest.mark.parametrize(
    ("answer", "finished", "reason"),
    [
        ("The capital of France is Paris.", True, ""),
        ("", True, "empty"),
        ("...", True, "empty"),
        ("The capital of", False, "cut off"),
        ("no no no no no", True, "looping"),
        ("a cat and a cat and a cat and a cat and", True, "looping"),
        ("word " * 3 + " ".join(f"w{i}" for i in range(50)), True, "too long"),
        ("Use `x = {1}`", True, "unspeakable"),
        ("See http://x.y", True, "unspeakable"),
        ("| a | b |", True, "unspeakable"),
        ("Это столица Франции", True, "unspeakable"),
        ("It is called a café.", True, ""),
    ],
)
def test_faults(answer: str, finished: bool, reason: str) -> None:
    assert fault(answer, finished, 40) == reason
