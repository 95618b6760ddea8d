"""Own recordings as Full-Duplex-Bench: what lies where, and what ``fo eval duplex`` reads of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import duplex_bench
from data_prep.duplex_bench import BenchConfig, Speech, build, inner_silences
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.io import audio

RATE = duplex_bench.RATE
CFG = BenchConfig(number=3, tail=2.0)


def spoken(seconds: float, gap: tuple[float, float] | None = None, seed: int = 0) -> np.ndarray:
    """A tone with dips every 0.3 s, and silence at ``gap`` (s)."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.2 * np.sin(2 * np.pi * (150 + 40 * seed) * time) * (0.55 + 0.45 * np.cos(20.9 * time))
    if gap:
        wave[round(gap[0] * RATE) : round(gap[1] * RATE)] = 0
    return wave.astype(np.float32)


@pytest.fixture
def items(tmp_path: Path) -> Any:
    def make(name: str, count: int, seconds: float, gap: Any = None) -> list[Item]:
        made = []
        for n in range(count):
            path = tmp_path / "in" / f"{name}{n}.wav"
            audio.write(path, spoken(seconds, gap, n), RATE)
            speaker = f"speaker {n % 2}"
            made.append(
                manifest.describe(path, id=f"{name}{n}", text=f"A {name}.", speaker=speaker)
            )
        return made

    return make


@pytest.fixture
def speech(items: Any) -> Speech:
    turns = [*items("turn", 4, 2.4), *items("halting", 3, 3.0, (1.2, 1.9))]
    return Speech(turns, items("yeah", 3, 0.4), items("aside", 2, 1.0), items("other", 3, 2.0))


def words(wave: np.ndarray) -> list[tuple[str, float, float]]:
    return [("Give", 0.0, 0.5), ("me", 0.5, 0.9), ("the", 0.9, 1.2), ("blue", 1.2, 1.5),
            ("one.", 1.5, 2.4)]  # fmt: skip


def test_every_task_is_read_by_the_evaluation_with_its_span(speech: Speech, tmp_path: Path) -> None:
    from eval.sets import full_duplex_bench

    done = build(speech, tmp_path / "bench", CFG, words)
    assert set(done["made"].values()) == {3} and len(done["made"]) == 7
    rows: list[dict[str, Any]] = []
    for version in ("v1", "v1.5"):
        found, left = full_duplex_bench.read(tmp_path / "bench" / version)
        rows += found
        assert not left
    everything, left = full_duplex_bench.read(tmp_path / "bench")
    assert len(everything) == len(rows) == 21 and not left
    for row in rows:
        wave = audio.read(row["input_audio"], RATE)
        quiet = 10 * np.log10(np.mean(wave[: round(0.2 * RATE)] ** 2))
        assert -85 < quiet < -45  # room noise, before anybody speaks
        if row["task"] == "pause_handling":
            assert row["seconds"] < 5.5 and np.abs(wave[-800:]).max() > 0.01  # ends with the user
        else:
            inside = wave[round(row["start"] * RATE) : round(row["end"] * RATE)]
            after = wave[round(row["end"] * RATE) + 400 :]
            assert np.sqrt(np.mean(inside**2)) > 5 * np.sqrt(np.mean(after**2))
            assert row["seconds"] == pytest.approx(row["end"] + CFG.tail, abs=0.01)


def test_what_comes_in_between_is_by_the_same_speaker_and_not_in_the_clean_sound(
    speech: Speech, tmp_path: Path
) -> None:
    build(speech, tmp_path, CFG, words)
    for task, source in json.loads((tmp_path / "sources.json").read_text()).items():
        for row in source:
            folder = tmp_path / task / row["id"]
            if "other_source" not in row:
                continue
            same = row["speaker"] == row["other_speaker"]
            if task.endswith(("backchannel", "talking_to_other")):
                assert same
            if task.endswith("background_speech"):
                assert not same
            if task.startswith("v1.5"):
                told = json.loads((folder / "metadata.json").read_text())
                start, end = (round(at * RATE) for at in told["timestamps"])
                assert told["context_text"] == row["text"]
                assert told["current_turn_text"] == row["other_text"]
                whole = audio.read(folder / "input.wav", RATE)
                clean = audio.read(folder / "clean_input.wav", RATE)
                assert len(whole) == len(clean)
                assert np.abs(whole[: start - 16] - clean[: start - 16]).max() < 1e-3
                assert np.abs(whole[start:end] - clean[start:end]).max() > 0.005


def test_a_pause_stands_behind_a_word_that_leaves_the_sentence_open(
    speech: Speech, tmp_path: Path
) -> None:
    build(speech, tmp_path, CFG, words)
    rows = json.loads((tmp_path / "sources.json").read_text())[duplex_bench.SYNTHETIC]
    assert {row["behind"] for row in rows} <= {"me", "the"}
    for row in rows:
        folder = tmp_path / duplex_bench.SYNTHETIC / row["id"]
        ((start, end),) = (p["timestamp"] for p in json.loads((folder / "pause.json").read_text()))
        wave = audio.read(folder / "input.wav", RATE)
        inside = wave[round((start + 0.02) * RATE) : round((end - 0.02) * RATE)]
        assert end - start == pytest.approx(row["pause"], abs=0.002) and 0.6 <= row["pause"] <= 1.4
        assert np.abs(inside).max() < 0.02


def test_the_seed_says_what_is_made(speech: Speech, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(speech, tmp_path / name, BenchConfig(number=2, tail=1.0, seed=seed), words)
    assert content(tmp_path / "a") == content(tmp_path / "b") != content(tmp_path / "c")


def test_tasks_without_speech_are_left_out_and_no_speech_is_one_line(
    items: Any, tmp_path: Path
) -> None:
    done = build(Speech(items("turn", 2, 2.4)), tmp_path / "some", CFG)
    assert set(done["made"]) == {
        "v1/synthetic_pause_handling", "v1/natural_pause_handling", "v1/smooth_turn_taking",
        "v1/user_interruption",
    }  # fmt: skip
    gone = [Item("a", str(tmp_path / "gone.wav"), RATE, RATE)]
    with pytest.raises(DataError, match=r"no utterance can be used.*gone\.wav"):
        build(Speech(gone), tmp_path / "none", CFG)


def test_inner_silences_are_those_between_the_ends() -> None:
    quiet = np.zeros(round(0.5 * RATE), np.float32)
    wave = np.concatenate([spoken(1.0), quiet, spoken(1.0)])
    ((start, end),) = inner_silences(wave, 0.4)
    assert (start / RATE, end / RATE) == pytest.approx((1.0, 1.5), abs=0.05)
    assert inner_silences(np.concatenate([quiet, spoken(1.0), quiet]), 0.4) == []
    assert inner_silences(wave, 0.6) == []


def content(folder: Path) -> dict[str, bytes]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_a_run_that_was_stopped_is_finished_by_the_same_command(
    speech: Speech, tmp_path: Path
) -> None:
    few = BenchConfig(number=2, tail=1.0)
    build(speech, tmp_path / "whole", few, words)

    def stop(task: str, done: int, total: int) -> None:
        if task == "smooth_turn_taking" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(speech, tmp_path / "again", few, words, stop)
    assert not (tmp_path / "again" / "sources.json").exists()
    half = tmp_path / "again" / duplex_bench.SMOOTH / "2"
    (half / "turn_taking.json").unlink()
    (half / "input.wav").write_bytes(b"RIFF")
    build(speech, tmp_path / "again", few, words)
    assert content(tmp_path / "again") == content(tmp_path / "whole")


def test_recordings_of_two_benches_are_not_mixed(speech: Speech, tmp_path: Path) -> None:
    """Folders that the second bench did not write stayed beside its own and were played."""
    few = BenchConfig(number=1, tail=1.0)
    build(speech, tmp_path, few, words)
    before = content(tmp_path)
    fewer = replace(speech, turns=speech.turns[:4])
    for said, other in {
        "number differ": (speech, BenchConfig(number=2, tail=1.0), words),
        "seed, tail differ": (speech, BenchConfig(number=1, seed=1), words),
        "words differ": (speech, few, None),
        "utterances differ": (fewer, few, words),
    }.items():
        with pytest.raises(DataError, match=f"other settings: {said}"):
            build(other[0], tmp_path, *other[1:])
    assert content(tmp_path) == before


def test_nothing_made_leaves_the_folder_free_for_other_utterances(
    speech: Speech, tmp_path: Path
) -> None:
    gone = [Item("a", str(tmp_path / "gone.wav"), RATE, RATE)]
    with pytest.raises(DataError, match="no utterance can be used"):
        build(Speech(gone), tmp_path / "out", CFG)
    assert build(speech, tmp_path / "out", CFG, words)["made"][duplex_bench.SMOOTH] == 3
