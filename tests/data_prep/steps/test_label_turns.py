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
from fo_core.io import audio

ALL = TurnStatesConfig(hesitation=1.0, incomplete=1.0, backchannel=1.0, aside=1.0, noise=1.0,
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
        assert 0.5 < item.duration - item.speech_end < 1.3
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
    only = TurnStatesConfig(hesitation=0, incomplete=0, backchannel=0, aside=0, noise=0.5)
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


def test_after_a_turn_that_nobody_answered_nothing_was_said() -> None:
    turn = Item("a", "a.wav", 16000, 16000, "Hello there.", "Anna", role="user")
    assert Labelling._after(turn).messages == ()
    answered = Labelling._after(replace(turn, answer="Hi."))
    assert [m["role"] for m in answered.messages] == ["user", "assistant"]
