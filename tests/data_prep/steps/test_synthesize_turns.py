"""The step ``synthesize``: who speaks, what is written, what is rejected, and that it resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import gates
from data_prep.gates import JudgeConfig
from data_prep.runner.run import Reject, RunConfig, StopRun
from data_prep.sources.dialogues import Dialogue, Turn
from data_prep.steps import say_turn, speakers, synthesize, synthesize_turns
from data_prep.steps.synthesize_turns import Speaker, SynthesizeConfig, run
from fo_core.config import load
from fo_core.data import manifest
from fo_core.engines.endpoint import ServiceDown
from fo_core.errors import ConfigError, DataError, EngineError
from fo_core.io import audio

ONE = RunConfig(workers=1)
CFG = SynthesizeConfig(
    users=(Speaker("flite", "slt"), Speaker("flite", "rms")), assistants=(Speaker("flite", "slt"),)
)


class Voice:
    """An engine whose sound depends on text, voice and speed; words in the text make it fail."""

    rate = 16000
    calls: list[tuple[str, str, float]] = []

    def voices(self, language: str = "") -> list[str]:
        return ["slt", "rms"]

    def synthesize(self, text: str, voice: str, speed: float = 1.0) -> Any:
        Voice.calls.append((text, voice, speed))
        if voice not in self.voices():
            raise EngineError(f"flite has no voice {voice!r}")
        size = int(16000 * 0.07 * max(4, len(text)) / speed)
        pitch = 0.03 if voice == "slt" else 0.02
        wave = (0.2 * np.sin(np.arange(size) * pitch)).astype(np.float32)
        word = text.split()[0].lower().rstrip(".") if text else ""
        return FAULTS[word](wave) if word in FAULTS else wave


def _raise(error: BaseException) -> Any:
    def fault(_: np.ndarray) -> Any:
        raise error

    return fault


FAULTS: dict[str, Any] = {
    "none": lambda wave: None,
    "empty": lambda wave: wave[:0],
    "single": lambda wave: wave[:1],
    "nan": lambda wave: np.append(wave, np.float32("nan")),
    "infinite": lambda wave: np.append(wave, np.float32("inf")),
    "integers": lambda wave: (wave * 32767).astype(np.int16),
    "stereo": lambda wave: np.stack([wave, wave]),
    "complex": lambda wave: wave + 1j,
    "text": lambda wave: "RIFF....",
    "bytes": lambda wave: wave.tobytes(),
    "mapping": lambda wave: {"audio": wave},
    "ragged": lambda wave: [[1.0], [1.0, 2.0]],
    "objects": lambda wave: np.array([None] * 9),
    "booleans": lambda wave: wave > 0,
    "loud": lambda wave: wave * 32767,
    "silent": lambda wave: wave * 0,
    "faint": lambda wave: wave * 1e-4,
    "clipped": lambda wave: np.sign(wave),
    "short": lambda wave: wave[:1600],
    "stretched": lambda wave: np.tile(wave, 12),
    "endless": lambda wave: np.tile(wave, 400),
    "fails": _raise(EngineError("it failed")),
    "crashes": _raise(RuntimeError("inside")),
    "lacks": _raise(KeyError("voice")),
    "refuses": _raise(ValueError("bad")),
    "exhausts": _raise(MemoryError()),
    "misses": _raise(FileNotFoundError("model")),
    "asserts": _raise(AssertionError()),
    "divides": _raise(ZeroDivisionError()),
    "recurses": _raise(RecursionError()),
    "waits": _raise(TimeoutError("30 s")),
}


@pytest.fixture(autouse=True)
def voice(monkeypatch: pytest.MonkeyPatch) -> None:
    Voice.calls = []
    monkeypatch.setitem(synthesize._ENGINES, "flite", Voice())


def row(name: str = "d1", *turns: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    said = [{"user": u, "assistant": a} for u, a in turns or (("Who are you?", "I am Joe."),)]
    return {"id": name, "category": "", "language": "en", "turns": said, "source": "f:1", **more}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def rejects(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]


def test_both_sides_of_a_dialogue_become_cuts(tmp_path: Path) -> None:
    turns = (("Who has **8** legs?", "A spider has 8 legs."), ("And 6?", "An ant."))
    source = write(tmp_path / "in.jsonl", row("a", *turns, category="x"), row("b"))
    report = run(CFG, source, tmp_path / "out", ONE)
    items = manifest.read(tmp_path / "out" / "manifest.jsonl")
    assert [i.id for i in items] == ["a-00", "a-01", "a-02", "a-03", "b-00", "b-01"]
    assert report.made == 2 and report.rows == 6 and report.counts["sounds made"] == 6
    user, answer, again, last = items[:4]
    assert (user.rate, answer.rate) == (16000, 24000)
    assert (user.role, user.kind, answer.role, answer.kind) == (
        "user", "question", "assistant", "answer",
    )  # fmt: skip
    assert user.text == "Who has **8** legs?" and user.extra["spoken"] == "Who has eight legs?"
    assert user.answer == answer.answer == answer.text == "A spider has 8 legs."
    assert user.messages == () and answer.messages == ({"role": "user", "content": user.text},)
    assert [m["content"] for m in last.messages] == [user.text, answer.text, again.text]
    assert [i.turn for i in items[:4]] == [0, 1, 2, 3] and {i.dialogue for i in items[:4]} == {"a"}
    assert user.speaker == again.speaker and answer.speaker == "flite/slt"
    assert user.extra["category"] == "x" and user.extra["source"] == "f:1"
    for item in items:
        wave = item.load_audio(item.rate)
        assert len(wave) == item.num_samples and Path(item.audio).is_absolute()
        assert 20 * np.log10(np.sqrt((wave**2).mean())) == pytest.approx(-23, abs=1)
        spoken = 0.07 * max(4, len(item.extra["spoken"]))
        assert item.duration == pytest.approx(spoken / item.extra["speed"], abs=0.06)


def test_voices_are_drawn_by_seed_and_dialogue() -> None:
    dialogues = [Dialogue(f"d{n}", (Turn("Hi", "Ho"),)) for n in range(200)]
    cfg = load(SynthesizeConfig, {"speed": [0.9, 1.1], "pitch": [-2, 2]})
    first = [speakers.cast(cfg, d) for d in dialogues]
    assert first == [speakers.cast(cfg, d) for d in reversed(dialogues)][::-1]
    users = [user for user, _ in first]
    shares = [sum(u.voice == v for u in users) / 200 for v in ("slt", "rms", "awb")]
    assert min(shares) > 0.2 and len({(a.engine, a.voice, a.speed) for _, a in first}) == 1
    assert 0.9 <= min(u.speed for u in users) < 0.95 and 1.05 < max(u.speed for u in users) <= 1.1
    assert min(u.pitch for u in users) < -1 and max(u.pitch for u in users) > 1
    other = load(SynthesizeConfig, {"seed": 1})
    assert [speakers.cast(other, d)[0].voice for d in dialogues] != [u.voice for u in users]


def test_a_higher_pitch_keeps_the_length(tmp_path: Path) -> None:
    cfg = load(
        SynthesizeConfig,
        {"users": [{"voice": "slt"}], "assistants": [{"voice": "slt"}], "pitch": [4, 4]},
    )
    source = write(tmp_path / "in.jsonl", row("a", ("Who has eight legs?", "Who has eight legs?")))
    run(cfg, source, tmp_path / "out", ONE)
    high, plain = manifest.read(tmp_path / "out" / "manifest.jsonl")
    assert high.duration == pytest.approx(plain.duration, abs=0.03) and high.extra["pitch"] == 4.0

    def tone(item: manifest.Item) -> float:
        spectrum = np.abs(np.fft.rfft(item.load_audio(16000), 16000))
        return float(spectrum.argmax())

    assert tone(high) / tone(plain) == pytest.approx(2 ** (4 / 12), rel=0.03)


def test_equal_sentences_share_a_sound_and_nothing_is_made_twice(tmp_path: Path) -> None:
    same = ("Who are you?", "I am Joe.")
    cfg = load(SynthesizeConfig, {"users": [{"voice": "slt"}], "assistants": [{"voice": "slt"}]})
    source = write(tmp_path / "in.jsonl", row("a", same, same), row("b", same))
    report = run(cfg, source, tmp_path / "out", ONE)
    sounds = list((tmp_path / "out" / "speech").rglob("*.flac"))
    assert len(sounds) == 2 and report.rows == 6
    before = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    (tmp_path / "out" / "journal.jsonl").unlink()  # killed before anything was noted
    sounds[0].unlink()
    sounds[1].write_bytes(b"")  # damaged
    run(cfg, source, tmp_path / "out", ONE)
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == before
    Voice.calls = []
    run(cfg, source, tmp_path / "out", ONE)
    assert Voice.calls == []


def test_another_setting_makes_its_rows_anew(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", row("a"))
    cfg = load(SynthesizeConfig, {"users": [{"voice": "slt"}], "assistants": [{"voice": "slt"}]})
    run(cfg, source, tmp_path / "out", ONE)
    other = load(SynthesizeConfig, {"users": [{"voice": "rms"}], "assistants": [{"voice": "slt"}]})
    run(other, source, tmp_path / "out", ONE)
    (user, _) = manifest.read(tmp_path / "out" / "manifest.jsonl")
    assert user.speaker == "flite/rms"


def test_a_turn_that_fails_a_gate_is_spoken_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def flaky(wave: np.ndarray) -> np.ndarray:
        calls.append(len(wave))
        return wave * 0 if len(calls) == 1 else wave

    monkeypatch.setitem(FAULTS, "flaky", flaky)
    source = write(tmp_path / "in.jsonl", row("a", ("Flaky at first?", "Fine.")))
    report = run(CFG, source, tmp_path / "out", ONE)
    user, _ = manifest.read(tmp_path / "out" / "manifest.jsonl")
    assert calls[1] == pytest.approx(calls[0] / 0.9, rel=0.01)
    assert user.extra["tries"] == 2 and user.extra["speed"] == 0.9
    assert report.counts["failed a gate"] == 1


def test_a_dialogue_ends_before_the_turn_that_cannot_be_spoken(tmp_path: Path) -> None:
    fine = ("Who are you?", "I am Joe.")
    source = write(
        tmp_path / "in.jsonl",
        row("a", fine, ("Silent please.", "Yes."), fine),
        row("b", fine, ("What?", "Silent it is."), fine),
        row("c", fine, ("What?", None)),
        row("d", ("Fails at once.", "Yes.")),
    )
    run(CFG, source, tmp_path / "out", ONE)
    items = manifest.read(tmp_path / "out" / "manifest.jsonl")
    assert [i.id for i in items] == ["a-00", "a-01", "b-00", "b-01", "c-00", "c-01"]
    assert [(r["id"], r["turn"], r["reason"]) for r in rejects(tmp_path / "out")] == [
        ("a", 2, "silence (-120 dB)"),
        ("b", 3, "silence (-120 dB)"),
        ("c", 3, "no answer"),
        ("d", 0, "flite failed: it failed"),
    ]


def test_the_judge_holds_back_what_is_not_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears the slower, second try of the first answer rightly, and the last answer never."""
    heard = {"I am Joe.": ["I am low", "I am Joe"], "Never": ["x", "y"]}

    class Ear:
        def __init__(self, cfg: JudgeConfig) -> None:
            self.cfg = cfg

        def cer(self, wave: np.ndarray, rate: int, spoken: str, language: str) -> float:
            told = heard.get(spoken.split(",")[0].removesuffix("x"), [])
            return float(bool(told) and told.pop(0) != "I am Joe")

        check = gates.Judge.check

    monkeypatch.setattr(gates, "Judge", Ear)
    monkeypatch.setattr(gates.ASR, "load", lambda name: None)
    cfg = load(
        SynthesizeConfig,
        {
            "users": [{"voice": "slt"}],
            "assistants": [{"voice": "slt"}],
            "judge": {"engine": "ear", "cer": 0.2},
        },
    )
    source = write(
        tmp_path / "in.jsonl",
        row("a", ("Who are you?", "I am Joe.")),
        row("b", ("Hm?", "Never, no.")),
    )
    report = run(cfg, source, tmp_path / "out", ONE)
    user, answer = manifest.read(tmp_path / "out" / "manifest.jsonl")
    assert user.extra["cer"] == 0.0 and answer.extra["cer"] == 0.0 and answer.extra["tries"] == 2
    (dropped,) = rejects(tmp_path / "out")
    assert dropped["id"] == "b" and dropped["reason"] == "not understood (CER 1.00)"
    assert report.counts["judge_seconds"] >= 0


GOOD = [row("good-1"), row("good-2", ("Where is it?", "It is over there."))]
ROWS: list[Any] = [
    b"not JSON at all",
    b'{"id": "cut", "turns": [{"user": "He',
    b"[1, 2, 3]",
    b"17",
    b"null",
    b'"a string"',
    b'\xff\xfe{"id": "latin"}',
    b"[" * 5000,
    {"turns": [{"user": "Hi", "assistant": "Ho"}]},
    {"id": 17, "turns": [{"user": "Hi", "assistant": "Ho"}]},
    {"id": "", "turns": [{"user": "Hi", "assistant": "Ho"}]},
    row("good-1"),
    {"id": "x-turns"},
    row("x-none", turns=None),
    row("x-mapping", turns={}),
    row("x-empty", turns=[]),
    row("x-string", turns="Hello"),
    row("x-strings", turns=["Hello"]),
    row("x-nones", turns=[None]),
    row("x-no-user", turns=[{"assistant": "Ho"}]),
    row("x-user-none", (None, "Ho")),
    row("x-user-number", (5, "Ho")),
    row("x-user-blank", (" \n\t", "Ho")),
    row("x-answer-number", ("Hi there", 5)),
    row("x-answer-list", ("Hi there", ["Ho"])),
    row("x-answer-none", ("Hi there", None)),
    row("x-answer-empty", ("Hi there", "")),
    row("x-klingon", language="tlh"),
    row("x-language", language=[1]),
    row("t-emoji", ("😀🎉👩‍👩‍👧", "Ho")),
    row("t-controls", ("\x00\x01\x1b[31m\x07", "Ho")),
    row("t-marks", ("?!... --- ,,,", "Ho")),
    row("t-code", ("```python\nprint(1)\n```", "Ho")),
    row("t-html", ("<br/><img src='x'>", "Ho")),
    row("t-invisible", ("\u200b\u200d\ufeff\u00a0", "Ho")),
    row("t-surrogate", ("\ud800\udfff", "Ho")),
    row("t-chinese", ("你好吗", "Ho")),
    row("t-long", ("word " * 200_000, "Ho")),
    row("t-digits", ("9" * 5000, "Ho")),
    row("t-answer-emoji", ("Hi there", "😀")),
    row("t-answer-long", ("Hi there", "so " * 5000)),
]
ROWS += [row(f"e-{word}", (f"{word} is the word here", "Ho")) for word in FAULTS]


def test_malformed_input_is_rejected_by_name_and_the_rest_is_made(tmp_path: Path) -> None:
    """Fails if any of these crashes the run, passes as good, or is lost from the rejects."""
    assert len(ROWS) >= 50
    lines = [
        r if isinstance(r, bytes) else json.dumps(r).encode() for r in (GOOD[0], *ROWS, GOOD[1])
    ]
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join(lines) + b"\n")
    report = run(CFG, source, tmp_path / "out", ONE)
    kept = manifest.read(tmp_path / "out" / "manifest.jsonl")
    assert [i.id for i in kept] == ["good-1-00", "good-1-01", "good-2-00", "good-2-01"]
    dropped = rejects(tmp_path / "out")
    assert len(dropped) == len(ROWS) == sum(report.rejected.values())
    assert report.items == len(ROWS) + 2 and report.made == 2
    assert all(r["reason"] and r["step"] == "synthesize" and r["id"] for r in dropped)
    named = {r["id"]: r["reason"] for r in dropped}
    assert {r["id"] for r in ROWS if isinstance(r, dict) and r.get("id")} - {17} <= set(named)
    expected = {
        "x-klingon": "no voice for the language 'tlh'",
        "x-answer-none": "no answer",
        "t-emoji": "nothing to speak",
        "t-long": "turn too long (1000000 characters)",
        "e-none": "no sound",
        "e-nan": "samples that are not numbers",
        "e-integers": "not a wave (int16 of 1 dimensions instead of float32 of 1)",
        "e-crashes": "flite failed: RuntimeError: inside",
    }
    named["e-crashes"], _, where = named["e-crashes"].rpartition(" ")
    assert where.startswith("(test_synthesize_turns.py:")
    assert {name: named[name] for name in expected} == expected
    sounds = list((tmp_path / "out" / "speech").rglob("*.flac"))
    assert all(len(audio.read(p, 16000)) for p in sounds)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"users": [{"voice": "nobody"}]}, "no voice 'nobody'"),
        ({"users": [{"engine": "flote"}]}, "unknown text-to-speech engine 'flote'.*flite"),
        ({"users": [{"options": {"volume": 3}}]}, "wrong options.*volume"),
        ({"users": [{"engine": "openai", "voice": "x"}]}, "set OPENAI_BASE_URL"),
        ({"users": [{"voice": "clip:/nowhere.wav"}]}, "no clip /nowhere.wav"),
        ({"judge": {"engine": "nobody"}}, "unknown speech recogniser"),
    ],
)
def test_what_cannot_work_ends_the_run_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    base = {"users": [{"voice": "slt"}], "assistants": [{"voice": "slt"}]}
    cfg = load(SynthesizeConfig, {**base, **settings})
    with pytest.raises((StopRun, EngineError), match=said):
        run(cfg, write(tmp_path / "in.jsonl", row()), tmp_path / "out", ONE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"users": []}, "need a voice each"),
        ({"speed": [1.2, 0.8]}, r"speed: \[1.2, 0.8\]"),
        ({"pitch": [-40, 0]}, r"possible: \[-12, 12\]"),
        ({"users": [{"voice": "slt", "language": "zh"}]}, "assistants: no voice for zh"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        speakers.check(load(SynthesizeConfig, settings))


def test_a_service_that_goes_down_stops_the_run_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, "down", _raise(ServiceDown("out of reach")))
    monkeypatch.setattr(synthesize_turns, "ROWS", 1)
    source = write(tmp_path / "in.jsonl", row("a"), row("b", ("Down it is.", "Ho")))
    with pytest.raises(StopRun, match="out of reach"):
        run(CFG, source, tmp_path / "out", ONE)
    assert b'"a-00"' in (tmp_path / "out" / "journal.jsonl").read_bytes()
    monkeypatch.delitem(FAULTS, "down")
    Voice.calls = []
    assert run(CFG, source, tmp_path / "out", ONE).made == 2
    assert not [c for c in Voice.calls if c[0].startswith("Who are")]


def test_a_service_is_asked_for_several_turns_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading
    import time

    now, most, lock = [0], [0], threading.Lock()

    class Service(Voice):
        concurrency = 3

        def synthesize(self, text: str, voice: str, speed: float = 1.0) -> Any:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)
            with lock:
                now[0] -= 1
            return super().synthesize(text, voice, speed)

    monkeypatch.setitem(synthesize._ENGINES, "flite", Service())
    many = [(f"Question number {n}?", f"Answer number {n}.") for n in range(6)]
    run(CFG, write(tmp_path / "in.jsonl", row("a", *many)), tmp_path / "out", ONE)
    assert 2 <= most[0] <= 3
    assert [i.turn for i in manifest.read(tmp_path / "out" / "manifest.jsonl")] == [*range(12)]


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could use none of 1 items"):
        run(CFG, write(tmp_path / "in.jsonl", row("a", ("😀", "Ho"))), tmp_path / "out", ONE)


def test_an_unwritable_place_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "speech").write_text("a file")
    with pytest.raises(DataError, match="speech"):
        run(CFG, write(tmp_path / "in.jsonl", row("a")), tmp_path / "out", ONE)


def test_a_changed_clip_is_another_voice(tmp_path: Path) -> None:
    clip = tmp_path / "me.wav"
    clip.write_bytes(b"one")
    cfg = load(SynthesizeConfig, {"users": [{"voice": f"clip:{clip}"}]})
    before = speakers.settings(cfg)
    clip.write_bytes(b"two")
    synthesize.digest.cache_clear()
    assert speakers.settings(cfg) != before


def test_how_a_service_is_asked_changes_nothing() -> None:
    def of(**options: Any) -> dict[str, Any]:
        speaker = {"engine": "openai", "voice": "x", "options": options}
        return speakers.settings(load(SynthesizeConfig, {"users": [speaker]}))

    assert of(timeout=3, concurrency=2, model="m") == of(model="m") != of(model="n")
    assert of() == of(base_url="http://x")


@pytest.mark.skipif(shutil.which("flite") is None, reason="no flite on this machine")
def test_two_processes_make_the_same_bytes_as_one(tmp_path: Path) -> None:
    synthesize._ENGINES.pop("flite")
    turns = [row(f"d{n}", (f"Is it number {n}?", f"It is number {n}.")) for n in range(9)]
    source = write(tmp_path / "in.jsonl", *turns)
    made = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        run(CFG, source, out, RunConfig(workers=workers))
        here = str(out).encode()
        made.append((out / "manifest.jsonl").read_bytes().replace(here, b""))
        sounds = sorted((out / "speech").rglob("*.flac"))
        made.append(b"".join(p.read_bytes() for p in sounds))
    assert made[0] == made[2] and made[1] == made[3] and len(made[0].splitlines()) == 18


def test_a_reject_is_what_the_runner_knows() -> None:
    with pytest.raises(Reject, match="no voice for the language"):
        speakers.cast(CFG, Dialogue("a", (Turn("Hi", "Ho"),), "tlh"))
    assert say_turn.Tally().counts == {}
