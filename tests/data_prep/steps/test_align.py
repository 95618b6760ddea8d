"""Letters' speech tokens from an engine's durations or a CTC head's scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.runner.run import RunConfig, quiet
from data_prep.steps import synthesize
from data_prep.steps.align import AlignConfig, run, tokens_of
from data_prep.steps.forced_alignment import best_path, letter_ends
from fo_core.data.manifest import Item, read, to_cut
from fo_core.errors import DataError
from fo_core.io import audio
from fo_core.models.encoder.vocabulary import PieceVocabulary

LOCAL = RunConfig(workers=1)
SOUNDS = {"c": "k", "a": "æ", "t": "t", "h": "h", ".": ".", "k": "k", "i": "ɪ"}


class Voice:
    """An engine whose letters all last two tokens, behind twelve tokens of silence."""

    rate = 24000

    def synthesize_aligned(
        self, text: str, voice: str, speed: float
    ) -> tuple[np.ndarray, list[tuple[str, int]]]:
        symbols = [SOUNDS.get(c, c) for c in text.lower()]
        alignment = [("_", 12), *((s, 2) for s in symbols), ("_", 4)]
        quiet_part = [0.0, *([0.3] * len(symbols)), 0.0]
        wave = np.concatenate(
            [
                level * np.sin(np.arange(600 * n) * 0.3)
                for level, (_, n) in zip(quiet_part, alignment, strict=True)
            ]
        )
        return wave.astype(np.float32), alignment


def corpus(folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    voice = Voice()
    monkeypatch.setattr(synthesize, "engine_of", lambda *_: voice)
    monkeypatch.setattr("data_prep.steps.align.engine_of", lambda *_: voice)
    rows = []
    for number, text in enumerate(texts):
        wave, _ = voice.synthesize_aligned(text, "v", 1.0)
        wave = synthesize.treat(wave, 24000, 24000, synthesize.SpeechConfig())
        path = folder / f"{number}.wav"
        audio.write(path, wave, 24000)
        tokens = tuple(range(len(wave) // 600))
        item = Item(f"i{number}", str(path), 24000, len(wave), text, "hibari/v",
                    speech_tokens=tokens, role="assistant")  # fmt: skip
        rows.append(json.dumps(to_cut(item)))
    path = folder / "coded.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_an_engines_durations_reach_the_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = corpus(tmp_path, ["Cat hat.", "A tick.", "Hit it.", "Kit."], monkeypatch)
    report = run(AlignConfig(), [path], tmp_path / "out", LOCAL, quiet)
    assert report.rows == 4
    items = {item.text: item for item in read(tmp_path / "out" / "manifest.jsonl")}
    item = items["Cat hat."]
    assert len(item.letter_tokens) == len("cat hat.") + 2
    assert sum(item.letter_tokens) == len(item.speech_tokens)
    assert item.letter_tokens[1:-1] == (2,) * 8 and item.letter_tokens[0] <= 3
    assert item.letter_sounds == ("k", "æ", "t", "", "h", "æ", "t", ".")


def test_what_is_not_the_engines_sound_is_rejected_by_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = corpus(tmp_path, ["Cat hat.", "A tick."], monkeypatch)
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["supervisions"][0]["speaker"] = "Anna"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run(AlignConfig(), [path], tmp_path / "out", LOCAL, quiet)
    assert report.rows == 1 and "no engine's sound" in next(iter(report.rejected))


def test_nothing_to_align_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl"
    item = Item("a", str(tmp_path / "a.wav"), 24000, 24000, "Hi.", "hibari/heart")
    path.write_text(json.dumps(to_cut(item)) + "\n")
    with pytest.raises(DataError, match="encode"):
        run(AlignConfig(), [path], tmp_path / "out", LOCAL, quiet)


def test_times_become_whole_tokens_that_add_up() -> None:
    assert tokens_of([0.05, 0.09, 0.09, 0.2], 9) == (2, 2, 0, 4, 1)
    assert tokens_of([-0.1, 0.3, 0.2, 9.0], 10) == (0, 12 - 2, 0, 0, 0)  # never beyond the sound


def scores(symbols: list[int], classes: int) -> np.ndarray:
    logs = np.full((len(symbols), classes), -5.0)
    logs[np.arange(len(symbols)), symbols] = -0.05
    return logs


def test_the_best_path_finds_every_class_where_it_is_surest() -> None:
    logs = scores([0, 1, 1, 0, 2, 0, 2, 0], 3)
    logs[1, 1] = -0.4
    assert best_path(logs, [1, 2, 2]) == [2, 4, 6]
    assert best_path(logs[:2], [1, 2, 2]) is None


def test_letters_share_their_piece_and_words_keep_their_order() -> None:
    words = PieceVocabulary([" ", "a", "b", " ab", " b"])
    logs = scores([0, 0, 4, 0, 0, 0, 5, 0, 0, 0], 6)
    ends = letter_ends(logs, words, "ab b", "ab b")
    assert ends is not None and len(ends) == 1 + len("ab b") and ends == sorted(ends)
    assert ends[0] == pytest.approx(0.04) and ends[2] == pytest.approx(0.18)
    assert letter_ends(logs, words, "ab", "ab b") is None
