"""Turn taking: what counts as taken, times on the recording's clock, the bench's folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.duplex.recordings import read_states
from eval.duplex.talk import _Tape
from eval.duplex.turn_taking import evaluation, in_sound, nods, score, stretches, takes_turn
from eval.harness import Pass, run
from eval.sets.full_duplex_bench import read
from fo_core.data.manifest import describe
from fo_core.errors import DataError
from fo_core.io import audio

RATE = 16000


def tone(seconds: float) -> np.ndarray:
    return 0.3 * np.sin(np.arange(int(RATE * seconds)) / 5).astype("f4")


def gap(seconds: float) -> np.ndarray:
    return np.zeros(int(RATE * seconds), "f4")


def bench(folder: Path) -> Path:
    for task, name, data in (
        ("candor_pause_handling", "pause.json", [{"timestamp": [1, 2]}]),
        ("smooth_turn_taking", "turn_taking.json", [{"timestamp": [0.5, 1.5]}]),
        ("user_interruption", "interrupt.json", [{"context": "", "timestamp": [3, 4]}]),
        ("icc_backchannel", "other.json", []),
    ):
        for number in range(2):
            (folder / task / str(number)).mkdir(parents=True)
            audio.write(folder / task / str(number) / "input.wav", tone(1.0), RATE)
            (folder / task / str(number) / name).write_text(json.dumps(data))
    return folder


def test_the_bench_is_read_and_what_is_wrong_is_listed(tmp_path: Path) -> None:
    bench(tmp_path)
    (tmp_path / "smooth_turn_taking/1/turn_taking.json").write_text('[{"timestamp": [2, 1]}]')
    (tmp_path / "user_interruption/1/interrupt.json").unlink()
    (tmp_path / "icc_backchannel/1/input.wav").unlink()
    rows, left = read(tmp_path)
    assert [row["task"] for row in rows] == [
        "pause_handling",
        "pause_handling",
        "backchannel",
        "smooth_turn_taking",
        "user_interruption",
    ]
    assert (rows[-1]["start"], rows[-1]["end"]) == (3, 4)
    assert sorted(left) == ["icc_backchannel/1", "smooth_turn_taking/1", "user_interruption/1"]
    with pytest.raises(DataError, match="no task"):
        read(tmp_path / "smooth_turn_taking" / "0")


def test_version_1_5_in_its_own_layout(tmp_path: Path) -> None:
    metadata = {"context_text": "How do I do it?", "current_turn_text": "mhm",
                "timestamps": [7.9, 9.8]}  # fmt: skip
    for task in ("user_backchannel", "talking_to_other", "background_speech", "user_interruption"):
        one = tmp_path / "v1_5" / task / f"{task}_001"
        one.mkdir(parents=True)
        audio.write(one / "input.wav", tone(1.0), RATE)
        audio.write(one / "clean_input.wav", tone(1.0), RATE)
        (one / "metadata.json").write_text(json.dumps(metadata))
    bench(tmp_path / "v1_0")
    rows, left = read(tmp_path)
    new = [row for row in rows if row["input_audio"].startswith(str(tmp_path / "v1_5"))]
    assert not left and len(rows) == 12 and len({row["id"] for row in rows}) == 12
    assert sorted(row["task"] for row in new) == [
        "background_speech", "talking_to_other", "user_backchannel", "user_interruption",
    ]  # fmt: skip
    assert all((row["start"], row["end"]) == (7.9, 9.8) for row in new)
    (tmp_path / "v1_5/talking_to_other/talking_to_other_001/metadata.json").write_text("{}")
    assert "timestamps" in read(tmp_path)[1]["talking_to_other/talking_to_other_001"]


@pytest.mark.parametrize(
    ("speech", "stops", "expected"),
    [
        ([(1.0, 9.0)], [], {"talking": 1, "held": 1}),
        ([(1.0, 4.5), (6.0, 8.0)], [4.5],
         {"talking": 1, "held": 0, "stop_latency": 0.5, "spoke_again": 1, "response_latency": 1.0}),
        ([(1.0, 4.5)], [4.5], {"talking": 1, "held": 0, "stop_latency": 0.5, "spoke_again": 0}),
        ([(1.0, 4.5)], [], {"talking": 1, "held": 1}),  # it came to its end by itself
        ([(6.0, 9.0)], [], {"talking": 0}),
    ],
)  # fmt: skip
def test_a_voice_that_is_not_meant_for_the_model(
    speech: Any, stops: Any, expected: dict[str, float]
) -> None:
    row = {"kind": "talk", "task": "talking_to_other", "words": [], "speech": speech,
           "stops": stops, "start": 4.0, "end": 5.0, "seconds": 10.0}  # fmt: skip
    found = {k.split("/")[1]: v[0] for k, v in score(row).items()}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("yields", "stops", "expected"),
    [
        ([[4.2, 5.4]], [], {"talking": 1, "held": 1, "silence": 1.2}),
        # it went on, and then answered all the same
        ([[4.2, 5.4]], [5.8], {"talking": 1, "held": 0, "stop_latency": 0.2, "spoke_again": 1,
                               "response_latency": 1.0}),
        ([[4.2, None]], [], {"talking": 1, "held": 0, "stop_latency": 0.2, "spoke_again": 1,
                             "response_latency": 1.0}),
        # what the state head decides behind the end is for good: no 0.2 s of grace
        ([], [5.16], {"talking": 1, "held": 0, "stop_latency": 1.16, "spoke_again": 1,
                      "response_latency": 1.0}),
    ],
)  # fmt: skip
def test_a_model_that_gives_way_and_goes_on_has_held_the_floor(
    yields: Any, stops: Any, expected: dict[str, float]
) -> None:
    row = {"kind": "talk", "task": "user_backchannel", "words": [], "stops": stops,
           "speech": [(1.0, 4.3), (6.0, 8.0)], "yields": yields, "start": 4.0, "end": 5.0,
           "seconds": 10.0}  # fmt: skip
    found = {k.split("/")[1]: v[0] for k, v in score(row).items()}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("how", "answered"), [("dismiss", 0.0), ("respond", 1.0)])
def test_an_answer_to_what_was_not_meant_for_the_model(how: str, answered: float) -> None:
    turns = [{"how": "respond", "at": 1.0}, {"how": how, "at": 5.4}]
    row = {"kind": "talk", "task": "user_backchannel", "words": [], "speech": [], "stops": [],
           "turns": turns, "start": 4.0, "end": 5.0, "seconds": 10.0}  # fmt: skip
    assert score(row)["user_backchannel/answered"] == (answered, 1.0)


def test_the_stop_is_when_the_model_gives_way() -> None:
    gave = row("user_interruption", [], start=3.0, end=4.4, stops=[4.8], yields=[[3.2, None]])
    assert score(gave)["user_interruption/stop_latency"] == (pytest.approx(0.2), 1.0)


def test_a_reply_that_gives_way_is_heard_later_or_in_a_low_voice() -> None:
    tape = _Tape(400, 100)  # 4 s
    tape.lay(np.arange(1, 101, dtype="f4"), 0.5)
    tape.give_way(1.0, "pause")
    tape.lay(np.arange(101, 151, dtype="f4"), 1.2)
    assert tape.wave[100:].max() == 0
    tape.go_on(2.0)
    assert np.array_equal(tape.wave[50:100], np.arange(1, 51))
    assert np.array_equal(tape.wave[200:300], np.arange(51, 151))
    tape.give_way(2.5, "pause")
    tape.stop(2.6)
    tape.lay(np.ones(10, "f4"), 3.0)  # of the next reply
    assert tape.wave[250:300].max() == 0 and tape.wave[300:310].min() == 1
    low = _Tape(400, 100)
    low.lay(np.ones(200, "f4"), 0.0)
    low.give_way(0.5, "duck")
    low.lay(np.ones(100, "f4"), 0.6)
    low.go_on(1.0)
    assert low.wave[:50].min() == 1 and low.wave[50:100] == pytest.approx(0.2)
    assert low.wave[100:300] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([], False),
        ([("yes", 1.0, 1.3)], False),
        ([("oh", 1.0, 1.2), ("I", 1.2, 1.3), ("see", 1.3, 1.9)], False),
        ([("well", 1.0, 2.0)], True),
        ([("a", 0.0, 0.1), ("b", 0.1, 0.2), ("c", 0.2, 0.3), ("d", 0.3, 0.4)], True),
    ],
)
def test_what_takes_a_turn(words: list[Any], taken: bool) -> None:
    assert takes_turn(words) is taken


def test_stretches_of_sound_and_words_in_silence() -> None:
    wave = np.concatenate([gap(1), tone(0.5), gap(0.2), tone(0.3), gap(1), tone(0.4), gap(1)])
    found = stretches(wave, RATE)
    assert np.allclose(found, [(1.0, 2.0), (3.0, 3.4)], atol=0.03)
    assert stretches(gap(2), RATE) == []
    assert in_sound(("hm", 0.2, 1.4), found) == ("hm", 1.0, 1.4)
    assert in_sound(("you", 2.2, 2.8), found) is None
    assert nods([("mhm", 3.0, 3.3)], found) == 2
    assert nods([("a", 1.0, 1.2), ("b", 1.2, 1.4), ("c", 1.5, 1.9)], found) == 1


def row(task: str, words: list[Any], **more: Any) -> dict[str, Any]:
    return {"kind": "talk", "task": task, "words": words, "speech": [(2.0, 3.5)]} | more


def test_latencies() -> None:
    words = [("the", 2.0, 2.5), ("answer", 2.5, 3.5)]
    assert score(row("smooth_turn_taking", words, start=0.5, end=1.4)) == {
        "smooth_turn_taking/take_over": (1.0, 1.0),
        "smooth_turn_taking/latency": (pytest.approx(0.6), 1.0),
    }
    early = score(row("smooth_turn_taking", words, start=0.5, end=2.4))
    assert early["smooth_turn_taking/latency"] == (0.0, 1.0)
    cut = row("user_interruption", words, start=3.0, end=3.4, stops=[3.2])
    assert score(cut) == {  # what came before the interruption ended is no answer to it
        "user_interruption/take_over": (0.0, 1.0),
        "user_interruption/stop_latency": (pytest.approx(0.2), 1.0),
    }
    ended = row("user_interruption", words, start=3.0, end=3.4, stops=[])
    assert "user_interruption/stop_latency" not in score(ended)
    other = row("user_interruption", words, start=3.0, end=3.4)  # somebody else's output.wav
    assert score(other)["user_interruption/stop_latency"] == (0.5, 1.0)


def test_backchannels_far_apart_take_no_turn_and_silence_counts() -> None:
    nods_only = [("mhm", 2.0, 2.3), ("yeah", 9.0, 9.4)]
    speech = [(2.0, 2.3), (9.0, 9.4)]
    said = row("backchannel", nods_only, seconds=20.0) | {"speech": speech}
    assert score(said) == {"backchannel/per_second": (2.0, 20.0), "backchannel/take_over": (0, 1)}
    silent = row("backchannel", [], seconds=20.0) | {"speech": []}
    assert score(silent) == {"backchannel/per_second": (0.0, 20.0), "backchannel/take_over": (0, 1)}
    long = row("backchannel", [("oh", 2.0, 2.2), ("well", 4.0, 5.5)], seconds=20.0)
    found = score(long | {"speech": [(2.0, 5.5), (9.0, 9.2)]})
    assert found == {"backchannel/per_second": (1.0, 20.0), "backchannel/take_over": (1.0, 1.0)}


def test_states_and_the_decision() -> None:
    labels = [-1, 0, 0, 0, 1, 1]
    base = {"kind": "states", "labels": labels, "speech_end": 0.6}
    found = score(base | {"found": [2, 0, 0, 0, 1, 1]})
    assert found["states/respond/f1"] == (4.0, 4.0)
    assert found["states/dismiss/precision"] == (0.0, 0.0)  # its chunk is not judged
    assert found["states/decision_latency"] == (pytest.approx(0.2), 1.0)
    early = score(base | {"found": [0, 1, 0, 0, 1, 1]})
    assert early["states/cut_in"] == (1.0, 1.0) and "states/decision_latency" not in early
    assert score(base | {"found": [0] * 6})["states/undecided"] == (1.0, 1.0)


def test_labelled_items_are_rows(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", tone(0.5), RATE)
    items = [describe(tmp_path / "a.wav", id="a", states=(0, 0, 1, 1)),
             describe(tmp_path / "a.wav", id="b")]  # fmt: skip
    rows, left = read_states(items)
    assert [r["id"] for r in rows] == ["a"] and left == {"b": "no state labels"}


@pytest.mark.parametrize("clock", ["sound", "wall"])
def test_a_recording_is_answered_on_its_own_clock(clock: Any) -> None:
    """A tiny model whose state head always answers: sound comes back after the user's noise."""
    from tiny_models import tiny_model

    from eval.duplex.talk import talk_through
    from fo_core.dialogue.settings import DialogueConfig, DuplexConfig
    from fo_core.dialogue.speech.segmenter import SegmenterConfig
    from fo_core.dialogue.speech.speaker import SpeakerConfig
    from fo_core.dialogue.speech.vocoder import VocoderConfig
    from fo_core.dialogue.states import StateRule
    from fo_core.models.freeze_omni import PARTS

    model = tiny_model().eval()
    model.trained |= set(PARTS)
    dialogue = DialogueConfig(
        states=StateRule(respond_threshold=0.0, dismiss_threshold=1.0),
        duplex=DuplexConfig(vad="energy"),
        segmenter=SegmenterConfig(min_tokens=3, max_tokens=24, careful=False),
        speaker=SpeakerConfig(
            max_tokens=30,
            vocoder=VocoderConfig(first_chunk=4, chunk=6, overlap=3, cut_window=201, onset=0.0),
        ),
    )
    noise = 0.3 * np.random.default_rng(0).standard_normal(RATE // 2).astype("f4")
    wave = np.concatenate([gap(0.5), noise, gap(1.5)])
    heard = talk_through(model, dialogue, wave, clock)
    assert len(heard.wave) == len(wave) * heard.rate // RATE
    assert heard.turns and heard.turns[0]["how"] == "respond"
    assert not heard.wave[: int(0.5 * heard.rate)].any()
    assert heard.wave.any() and heard.texts
    if clock == "sound":  # the same again, to the sample
        again = talk_through(model, dialogue, wave, clock)
        assert np.array_equal(again.wave, heard.wave) and again.turns == heard.turns


def test_scores_need_no_model(tmp_path: Path) -> None:
    rows = [row("smooth_turn_taking", [("well", 2.0, 3.5)], start=0.5, end=1.5, id=str(n))
            for n in range(3)]  # fmt: skip
    done = Pass("talk", {}, lambda: lambda batch: [{} for _ in batch], model=True)
    found = run(evaluation([done], {}), rows, tmp_path)
    assert found["metrics"]["smooth_turn_taking/take_over"]["value"] == 1.0
    assert found["metrics"]["smooth_turn_taking/latency"]["value"] == pytest.approx(0.5)
