"""Step regenerate: each answer by itself, on the LLM's own earlier ones; bad answers never stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.runner.run import RunConfig, StopRun, quiet
from data_prep.steps.answers import AnswersConfig, fault_of, prompt, run
from fo_core.config import replace
from fo_core.errors import EngineError
from fo_core.models.llm.tiny import write_tiny


def rows(count: int = 9, turns: int = 3) -> list[dict[str, Any]]:
    return [
        {"id": f"d{i}", "language": "en", "category": "", "source": f"x:{i}",
         "turns": [{"user": f"question {i} {k}?", "assistant": "before"}
                   for k in range(1 + i % turns)]}
        for i in range(count)
    ]  # fmt: skip


def write(path: Path, made: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def cfg(llm_server: Any) -> AnswersConfig:
    return AnswersConfig(engine="openai", llm="m", base_url=llm_server.url, batch_size=5,
                         dialogues=4, pause=0.01, tries=2, timeout=0.5)  # fmt: skip


def go(cfg: AnswersConfig, source: Path, out: Path, limit: int = 0) -> Any:
    return run(cfg, source, out, RunConfig(1, "local", limit), quiet)


def test_every_turn_is_asked_on_the_llm_s_own_answers(
    cfg: AnswersConfig, llm_server: Any, tmp_path: Path
) -> None:
    report = go(cfg, write(tmp_path / "in.jsonl", rows()), tmp_path / "out")
    made = read(tmp_path / "out" / "manifest.jsonl")
    assert [row["id"] for row in made] == [f"d{i}" for i in range(9)]
    assert report.counts["turns"] == 18 and report.counts["turns skipped"] == 0
    assert all("before" not in m["content"] for a in llm_server.asked for m in a["messages"])
    third = next(row for row in made if len(row["turns"]) == 3)
    last = next(a["messages"] for a in llm_server.asked
                if a["messages"][-1]["content"] == third["turns"][2]["user"])  # fmt: skip
    assert last[0] == {"role": "system", "content": cfg.system}
    said = [m["content"] for m in last[-5:]]
    assert said == [t for turn in third["turns"] for t in (turn["user"], turn["assistant"])][:5]


def test_batch_order_and_restart_change_nothing(
    cfg: AnswersConfig, llm_server: Any, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", rows())
    hot = replace(cfg, temperature=1.0, seed=3)
    go(hot, source, tmp_path / "a")
    want = (tmp_path / "a" / "manifest.jsonl").read_bytes()
    go(replace(hot, batch_size=1, dialogues=1), source, tmp_path / "b")
    assert (tmp_path / "b" / "manifest.jsonl").read_bytes() == want
    go(hot, write(tmp_path / "turned.jsonl", rows()[::-1]), tmp_path / "c")
    assert sorted((tmp_path / "c" / "manifest.jsonl").read_bytes().splitlines()) == sorted(
        want.splitlines()
    )
    llm_server.asked.clear()
    (tmp_path / "a" / "journal.jsonl").unlink()  # as if killed before any dialogue was whole
    go(hot, source, tmp_path / "a")
    assert (tmp_path / "a" / "manifest.jsonl").read_bytes() == want and not llm_server.asked
    go(replace(hot, seed=4), source, tmp_path / "d")
    assert (tmp_path / "d" / "manifest.jsonl").read_bytes() != want


def test_questions_are_counted_while_a_group_of_dialogues_is_under_way(
    cfg: AnswersConfig, tmp_path: Path
) -> None:
    """A group takes minutes with a local LLM: its end is no sign of life, and no time to go."""
    source = write(tmp_path / "in.jsonl", rows())
    told: list[tuple[str, int, int]] = []
    how = RunConfig(1, "local", 0)
    run(cfg, source, tmp_path / "out", how, lambda *said: told.append(said))
    done = [done for step, done, total in told if step == "answers" and total == 18]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 18 and len(set(done)) > 6
    lines = (tmp_path / "out" / "journal.jsonl").read_text().splitlines()
    (tmp_path / "out" / "journal.jsonl").write_text("\n".join(lines[:4]) + "\n")
    told.clear()
    run(cfg, source, tmp_path / "out", how, lambda *said: told.append(said))
    assert ("answers", 7, 18) in told and ("answers", 0, 18) not in told


def test_a_local_llm_answers_alike_in_any_batch(tmp_path: Path) -> None:
    """The tiny LLM writes bytes, which no filter lets through: the faults show what it said."""
    spec = str(write_tiny(tmp_path / "llm", seed=1))
    local = AnswersConfig(llm=spec, max_new_tokens=8, retries=2, retry_temperature=1.0)
    source = write(tmp_path / "in.jsonl", rows(6, 1))
    said = []
    for size in (1, 4):
        out = tmp_path / str(size)
        with pytest.raises(Exception, match="could use none"):
            go(replace(local, batch_size=size, dialogues=3 * size), source, out)
        kept = [
            json.loads(x) for p in (out / "answers").glob("*") for x in p.read_text().splitlines()
        ]
        said.append({row["key"]: row["text"] for row in kept})
    assert said[0] == said[1] and len(said[0]) == 18 and len(set(said[0].values())) > 6


def test_bad_answers_are_asked_for_again_then_end_the_dialogue(
    cfg: AnswersConfig, llm_server: Any, tmp_path: Path
) -> None:
    marks = ["!empty", "!null", "!loop", "!code", "!cut", "!once"]
    made = [
        {"id": m[1:], "turns": [{"user": "fine?"}, {"user": f"{m} what?"}, {"user": "more?"}]}
        for m in marks
    ]
    report = go(cfg, write(tmp_path / "in.jsonl", made), tmp_path / "out")
    kept = {row["id"]: len(row["turns"]) for row in read(tmp_path / "out" / "manifest.jsonl")}
    assert kept == {"empty": 1, "null": 1, "loop": 1, "code": 1, "cut": 1, "once": 3}
    lost = {row["id"]: (row["turn"], row["reason"].split(" (")[0])
            for row in read(tmp_path / "out" / "rejects.jsonl")}  # fmt: skip
    assert lost == {"empty": (1, "empty"), "null": (1, "empty"), "loop": (1, "looping"),
                    "code": (1, "unspeakable"), "cut": (1, "cut off")}  # fmt: skip
    asked = [a for a in llm_server.asked if a["messages"][-1]["content"] == "!cut what?"]
    assert [a["max_tokens"] for a in asked] == [80, 120, 180]
    assert asked[0]["temperature"] == 0 and len({a.get("seed") for a in asked}) == 3
    assert report.counts["asked again (cut off)"] == 3


def test_one_question_that_fails_the_endpoint_costs_its_dialogue_only(
    cfg: AnswersConfig, tmp_path: Path
) -> None:
    marks = ["!500", "!400", "!hang", "!rubbish", "!short", "!list", "!none", "!choices", "!error",
             "!msg", "!number"]  # fmt: skip
    made = [{"id": f"{i:02d}{m[1:]}", "turns": [{"user": f"{m}?"}]} for i, m in enumerate(marks)]
    made = [*rows(6), *made]
    report = go(replace(cfg, give_up=99), write(tmp_path / "in.jsonl", made), tmp_path / "out")
    assert report.made == 6
    lost = read(tmp_path / "out" / "rejects.jsonl")
    assert [row["id"] for row in lost] == [row["id"] for row in made[6:]]
    assert all(row["reason"].startswith("the LLM gave no answer: http") for row in lost)


def test_an_endpoint_that_is_down_ends_the_run_and_nothing_is_asked_twice(
    cfg: AnswersConfig, llm_server: Any, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", rows())
    llm_server.down = True
    with pytest.raises(StopRun, match="no answer after 2 tries .status 500.; do: check the server"):
        go(cfg, source, tmp_path / "out")
    llm_server.down = False
    go(cfg, source, tmp_path / "out", limit=4)
    seen = len(llm_server.asked)
    llm_server.down = True
    with pytest.raises(StopRun):
        go(cfg, source, tmp_path / "out")
    llm_server.down = False
    before = [a["messages"] for a in llm_server.asked[:seen]]
    llm_server.asked.clear()
    assert go(cfg, source, tmp_path / "out").made == 9
    assert not [a for a in llm_server.asked if a["messages"] in before]
    with pytest.raises(StopRun, match="no answer"):
        go(replace(cfg, base_url="http://127.0.0.1:9/v1"), source, tmp_path / "other")
    with pytest.raises(EngineError, match="unknown LLM engine 'opnai'"):
        go(replace(cfg, engine="opnai"), source, tmp_path / "other")


def test_rows_that_are_no_dialogues_are_listed(cfg: AnswersConfig, tmp_path: Path) -> None:
    bad: list[Any] = [
        {"id": "a"}, {"id": "b", "turns": None}, {"id": "c", "turns": []}, {"id": "d", "turns": {}},
        {"id": "e", "turns": [None]}, {"id": "f", "turns": [{}]}, {"id": "g", "turns": ["hi"]},
        {"id": "h", "turns": [{"user": None}]}, {"id": "i", "turns": [{"user": " "}]},
        {"id": "j", "turns": [{"user": 3}]}, {"id": "k", "turns": [{"user": "x", "assistant": 3}]},
        {"id": "l", "turns": [{"user": "x"}, {"user": ""}]}, {"id": "m", "turns": "turns"},
        {"id": "n", "turns": [[]]}, {"id": "o", "turns": [{"human": "x"}]}, {"turns": []}, [], 5,
        {"id": "p", "turns": 1}, {"id": "q", "turns": [{"user": ["x"]}]},
    ]  # fmt: skip
    report = go(cfg, write(tmp_path / "in.jsonl", [*rows(2), *bad]), tmp_path / "out")
    assert report.made == 2
    named = {row["id"] for row in read(tmp_path / "out" / "rejects.jsonl")}
    assert named == {*"abcdefghijklmnopq", "line 18", "line 19", "line 20"}


def test_an_answer_that_was_given_before_is_asked_for_again(
    cfg: AnswersConfig, tmp_path: Path
) -> None:
    """A small LLM gives one answer to every question of a dialogue: nothing to learn from."""
    made = [{"id": "a", "turns": [{"user": f"{i} !same?"} for i in range(4)]}]
    go(cfg, write(tmp_path / "in.jsonl", made), tmp_path / "out")
    assert len(read(tmp_path / "out" / "manifest.jsonl")[0]["turns"]) == 1
    lost = read(tmp_path / "out" / "rejects.jsonl")
    assert lost == [{"id": "a", "step": "regenerate", "turn": 1, "reason": "said before"}]


def test_long_histories_end_a_dialogue(cfg: AnswersConfig, tmp_path: Path) -> None:
    made = [{"id": "a", "turns": [{"user": "x" * 90}] * 5}]
    go(replace(cfg, max_history=200), write(tmp_path / "in.jsonl", made), tmp_path / "out")
    assert len(read(tmp_path / "out" / "manifest.jsonl")[0]["turns"]) == 2
    lost = read(tmp_path / "out" / "rejects.jsonl")
    assert lost[0]["reason"] == "the dialogue before it is too long"


@pytest.mark.parametrize(
    ("answer", "finished", "language", "reason"),
    [
        ("今天天气很好。", True, "zh", ""),
        ("今天天气", False, "zh", "cut off"),
        ("。。。", True, "zh", "empty"),
        ("好" * 200, True, "zh", "too long"),
        ("我们走我们走我们走我们走我们走吧。", True, "zh", "looping"),
        ("The weather is nice.", True, "zh", "unspeakable (script)"),
        ("The weather is nice today.", True, "en", ""),
        ("今天天气很好。", True, "en", "unspeakable"),
        ("First, go to www.example.com and look.", True, "en", "unspeakable (link)"),
        ("Dear [name], thank you.", True, "en", "unspeakable (blank)"),
        ("It's a game-changer. Yes. It's a game changer!", True, "en", "looping"),
        ("Yes, it is. Yes, it is. I like it.", True, "en", ""),
        ("我不知道。我不知道。", True, "zh", "looping"),
    ],
)
def test_faults(answer: str, finished: bool, language: str, reason: str) -> None:
    assert fault_of(answer, finished, language, 60) == reason


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
def test_faults_of_an_answer_in_words(answer: str, finished: bool, reason: str) -> None:
    assert fault_of(answer, finished, "en", 40).partition(" (")[0] == reason


def test_a_prompt_has_the_system_text_the_examples_and_what_was_said() -> None:
    cfg = AnswersConfig(system="Be short.", shots=(("Hi.", "Hello."),))
    earlier = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    asked = prompt(cfg, earlier, "c")
    assert [m["content"] for m in asked] == ["Be short.", "Hi.", "Hello.", "a", "b", "c"]
    assert [m["role"] for m in asked][:3] == ["system", "user", "assistant"]
