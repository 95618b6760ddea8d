"""Step label-states over spoken dialogues: what each recording is, and where its state changes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.runner.run import RunConfig, quiet
from data_prep.steps import synthesize
from data_prep.steps.label_states import CHUNK, RATE, StatesConfig
from data_prep.steps.label_turns import Labelling, TurnStatesConfig, run
from fo_core.config import replace
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.io import audio

ALL = TurnStatesConfig(hesitation=1.0, incomplete=1.0, backchannel=1.0, aside=1.0, noise=1.0,
                       background=0.0, behind=0.0, follows=0.0, interrupts=0.0,
                       compose=StatesConfig(pause_share=0.0), val=0.25)  # fmt: skip
SPAN = 0.3  # s of a word of the canned voice


def words(count: int) -> np.ndarray:
    """Tones with short dips between, as speech has: float32 [S] at 16 kHz."""
    draw = np.random.default_rng(count)
    size = round(SPAN * RATE)
    tone = 0.3 * np.sin(np.arange(size) * 0.08) * np.hanning(size) ** 0.3
    gap = 1e-4 * draw.standard_normal(round(0.06 * RATE))
    return np.concatenate([part for _ in range(count) for part in (tone, gap)])[: -len(gap)].astype(
        "f4"
    )


class Voice:
    rate = RATE

    def voices(self) -> list[str]:
        return ["slt"]

    def synthesize(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        return words(len(text.split()))


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesize, "engine_of", lambda name, options="": Voice())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    items = []
    for d in range(4):
        for turn in range(4):
            path = tmp_path / "speech" / f"{d}-{turn}.flac"
            role = "user" if turn % 2 == 0 else "assistant"
            audio.write(path, words(6 + d), RATE)
            said = tuple({"role": "user", "content": str(k)} for k in range(turn))
            items.append(
                manifest.describe(
                    path,
                    id=f"d{d}-{turn:02d}",
                    text=f"text {turn}",
                    role=role,
                    speaker="flite/slt",
                    dialogue=f"d{d}",
                    turn=turn,
                    kind="question",
                    answer="an answer",
                    messages=said,
                )  # fmt: skip
            )
    manifest.write(tmp_path / "in.jsonl", items)
    return tmp_path / "in.jsonl"


def go(cfg: TurnStatesConfig, source: Path, out: Path) -> Any:
    return run(cfg, source, out, RunConfig(workers=1), quiet)


def test_each_class_is_built_from_the_turn_and_ends_in_its_state(
    source: Path, tmp_path: Path
) -> None:
    report = go(ALL, source, tmp_path / "user")
    made = manifest.read(tmp_path / "user" / "manifest.jsonl")
    assert Counter(i.kind for i in made) == dict.fromkeys(
        ("question", "incomplete", "backchannel", "aside", "noise"), 8
    )
    ends = {"question": 1, "incomplete": 0, "backchannel": 2, "aside": 2, "noise": 2}
    for item in made:
        assert item.role == "user" and len(item.states) * CHUNK == item.num_samples
        change = -(-round(item.speech_end * RATE) // CHUNK)
        assert item.states == (0,) * change + (ends[item.kind],) * (len(item.states) - change)
        assert 0.5 < item.duration - item.speech_end < 1.7
    for item in (i for i in made if i.kind == "incomplete"):
        whole = next(i for i in made if i.id == f"{item.dialogue}-{item.turn:02d}")
        assert item.extra["whole_text"] == whole.text and item.answer == ""
        assert item.text == ""  # the recogniser must not learn words that are cut off
        spoken = item.speech_end - item.speech_start
        cut = item.extra["cut_at"] * (0.36 * (6 + int(item.dialogue[1])) - 0.06)
        assert spoken == pytest.approx(cut, abs=0.05)
    for item in (i for i in made if i.kind == "question"):
        filler = item.extra["hesitation"]
        longer = item.speech_end - item.speech_start - (0.36 * (6 + int(item.dialogue[1])) - 0.06)
        assert longer == pytest.approx(0.36 * len(filler.split()) + 0.4, abs=0.35)
        assert item.answer == "an answer" and len(item.messages) == item.turn
    for item in (i for i in made if i.kind in ("backchannel", "aside", "noise")):
        assert item.messages[-1] == {"role": "assistant", "content": "an answer"}
        assert item.answer == "" and len(item.messages) == item.turn + 2
    states = json.loads((tmp_path / "user" / "report.json").read_text())["states"]
    assert states["recordings"] == {k: 8 for k in ends} and states["with"]["hesitations"] == 8
    assert sum(states["state_share"].values()) == pytest.approx(1, abs=1e-3)
    assert report.rows == 40


def test_shares_are_those_asked_for_and_the_seed_s(source: Path, tmp_path: Path) -> None:
    only = TurnStatesConfig(hesitation=0, incomplete=0, backchannel=0, aside=0, noise=0.5,
                            background=0)  # fmt: skip
    go(only, source, tmp_path / "a")
    kinds = Counter(i.kind for i in manifest.read(tmp_path / "a" / "manifest.jsonl"))
    assert kinds["question"] == 8 and 0 < kinds["noise"] < 8 and len(kinds) == 2
    go(replace(only, seed=1), source, tmp_path / "b")
    a, b = ({i.id for i in manifest.read(tmp_path / x / "manifest.jsonl")} for x in "ab")
    assert a != b


def test_dialogues_are_held_out_whole(source: Path, tmp_path: Path) -> None:
    go(ALL, source, tmp_path / "user")
    train, val = (manifest.read(tmp_path / "user" / f"{s}.jsonl") for s in ("train", "val"))
    assert len({i.dialogue for i in val}) == 1 and len({i.dialogue for i in train}) == 3
    assert len(train) + len(val) == 40


def test_sounds_that_moved_or_are_none_are_listed(source: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    users = [row for row in rows if row["custom"]["role"] == "user"]
    sound = Path(users[0]["recording"]["sources"][0]["source"])
    sound.unlink()
    Path(users[1]["recording"]["sources"][0]["source"]).write_bytes(b"")
    Path(users[2]["recording"]["sources"][0]["source"]).write_bytes(b"fLaC rubbish")
    whole = Path(users[3]["recording"]["sources"][0]["source"])
    whole.write_bytes(whole.read_bytes()[:200])
    del users[4]["recording"]
    users[5]["duration"] = "long"
    bad: list[Any] = ["{", [], {"id": "no cut"}, {**users[7], "id": "silent"}]
    silent = tmp_path / "silent.flac"
    audio.write(silent, np.zeros(0), RATE)
    bad[3] = json.loads(json.dumps(bad[3]))
    bad[3]["recording"]["sources"][0]["source"] = str(silent)
    with source.open("w") as file:
        for row in [*rows, *bad]:
            file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")
    report = go(ALL, source, tmp_path / "user")
    lost = {json.loads(x)["id"] for x in (tmp_path / "user" / "rejects.jsonl").open()}
    assert {users[i]["id"] for i in range(6)} | {"no cut", "silent"} <= lost
    assert len(lost) == 10 and report.made == 2


def test_a_voice_that_fails_costs_the_extra_recording_only(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str, options: str = "") -> Any:
        raise synthesize.EngineError("no such command")

    monkeypatch.setattr(synthesize, "engine_of", none)
    report = go(ALL, source, tmp_path / "user")
    kinds = Counter(i.kind for i in manifest.read(tmp_path / "user" / "manifest.jsonl"))
    assert kinds == {"question": 8, "incomplete": 8, "noise": 8}
    assert report.rejected == {"no such command": 16}


def test_an_item_that_lhotse_reads(source: Path, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    go(ALL, source, tmp_path / "user")
    cuts = list(lhotse.CutSet.from_jsonl(tmp_path / "user" / "train.jsonl"))
    assert len(cuts) == 30 and cuts[0].load_audio().shape[1] == cuts[0].recording.num_samples
    assert isinstance(manifest.read(tmp_path / "user" / "train.jsonl")[0], Item)


def test_after_a_turn_that_nobody_answered_nothing_was_said(tmp_path: Path) -> None:
    turn = Item("a", "a.wav", 16000, 16000, "Hello there.", "Anna", role="user")
    work, draw = Labelling(ALL, tmp_path), np.random.default_rng(0)
    assert work._after(turn, draw).messages == ()
    answered = work._after(replace(turn, answer="Hi."), draw)
    assert [m["role"] for m in answered.messages] == ["user", "assistant"]


BESIDE = replace(ALL, hesitation=0.0, incomplete=0.0, noise=0.0, background=1.0, behind=1.0,
                 recorded_share=1.0)  # fmt: skip


def own(tmp_path: Path, kind: str, *speakers: str, seconds: float = 0.6, split: str = "") -> str:
    """A manifest of own recordings."""
    items = []
    for number, speaker in enumerate(speakers):
        path = tmp_path / "own" / f"{kind}{number}.wav"
        audio.write(path, words(max(1, round(seconds / 0.36))), RATE)
        extra = {"split": split} if split else {}
        found = manifest.describe(path, id=f"{kind}{number}", text="Yeah.", speaker=speaker)
        items.append(replace(found, extra=extra))
    manifest.write(tmp_path / f"{kind}.jsonl", items)
    return str(tmp_path / f"{kind}.jsonl")


def test_own_recordings_are_dismissed_and_a_voice_in_the_background_while_it_speaks(
    source: Path, tmp_path: Path
) -> None:
    recorded = {
        "backchannel": (own(tmp_path, "backchannel", "flite/slt", "Bob"),),
        "background": (own(tmp_path, "background", "flite/slt", "Bob", seconds=2.0),),
    }
    go(replace(BESIDE, aside=0.0, recorded=recorded), source, tmp_path / "user")
    made = manifest.read(tmp_path / "user" / "manifest.jsonl")
    by_kind = {k: [i for i in made if i.kind == k] for k in ("backchannel", "background")}
    assert [len(items) for items in by_kind.values()] == [8, 8]
    for item in by_kind["backchannel"]:  # the turn's own speaker; state 2 behind the end
        assert item.extra["recorded"] == "backchannel0" and item.speaker == "flite/slt"
        assert item.text == "Yeah." and item.states[-1] == 2
    for item in by_kind["background"]:  # somebody else; state 2 from 0.6 s on
        assert item.extra["recorded"] == "background1" and item.speaker == "Bob"
        known = -(-round((item.speech_start + 0.6) * RATE) // CHUNK)
        assert item.states == (0,) * known + (2,) * (len(item.states) - known)
        assert (known + 1) * CHUNK < item.speech_end * RATE
    for item in (i for i in made if i.kind == "question"):  # the labels are the user's
        assert item.extra["behind"] == "Bob"
        end = -(-round(item.speech_end * RATE) // CHUNK)
        assert item.states == (0,) * end + (1,) * (len(item.states) - end)
    states = json.loads((tmp_path / "user" / "report.json").read_text())["states"]
    assert states["with"]["own_recordings"] == 16 and states["with"]["voice_behind"] == 8


def test_what_comes_in_between_may_come_in_the_middle_of_the_answer(
    source: Path, tmp_path: Path
) -> None:
    go(replace(ALL, interrupts=1.0), source, tmp_path / "user")
    made = manifest.read(tmp_path / "user" / "manifest.jsonl")
    for item in (i for i in made if i.kind in ("backchannel", "aside", "noise")):
        assert item.messages[-1] == {"role": "assistant", "content": "an"}  # of "an answer"


def test_first_turns_come_after_another_s_question_and_answer(source: Path, tmp_path: Path) -> None:
    go(replace(ALL, follows=1.0), source, tmp_path / "user")
    made = manifest.read(tmp_path / "user" / "manifest.jsonl")
    first = [i for i in made if i.kind == "question" and i.turn == 0]
    later = [i for i in made if i.kind == "question" and i.turn > 0]
    behind = [i for i in first if i.messages]
    assert behind and all(
        i.messages == ({"role": "user", "content": "text 2"},
                       {"role": "assistant", "content": "an answer"}) for i in behind
    )  # fmt: skip
    assert all(len(i.messages) == i.turn for i in later)  # these have their own dialogue


def test_own_recordings_of_another_split_are_left_alone(source: Path, tmp_path: Path) -> None:
    kept = own(tmp_path, "backchannel", "Bob", split="heldout-speakers")
    cfg = replace(BESIDE, aside=0.0, background=0.0, behind=0.0, recorded={"backchannel": (kept,)})
    go(cfg, source, tmp_path / "user")
    made = manifest.read(tmp_path / "user" / "manifest.jsonl")
    assert not any("recorded" in i.extra for i in made)


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"backchanel": ("x.jsonl",)}, "no kind 'backchanel'.*backchannel"),
        ({"noise": ("gone.jsonl",)}, "recorded.noise: there is no gone.jsonl.*import folder"),
    ],
)
def test_own_recordings_that_cannot_be_used_are_one_line(
    source: Path, tmp_path: Path, recorded: Any, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        go(replace(ALL, recorded=recorded), source, tmp_path / "user")
