"""``fo demo``: what is asked, what is refused, and a page that says what came out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fo_cli.demo import ask, config
from fo_cli.demo import page as demo_page
from fo_cli.main import app
from fo_core.errors import FoError
from fo_core.io import audio
from fo_core.io.files import only_run
from fo_core.report.document import Document
from fo_core.report.writer import write_document


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["demo", *args])


def test_every_bundled_question_is_there_in_a_voice_of_its_own() -> None:
    asked = ask.bundled()
    assert len(asked) == 8 and len({q.voice for q in asked}) == 8
    assert not {q.voice for q in asked} & set(ask.VOICES)  # those it was trained on
    for question in asked:
        wave, path, _ = ask._sound(question, Path())
        assert 1.0 < len(wave) / 16000 < 5.0 and path.stat().st_size < 20_000
        assert question.text.endswith("?") and question.answers
    licence = (ask._folder() / "README.md").read_text()
    assert "Apache-2.0" in licence and "none was exchanged" in licence


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled questions that may be damaged."""
    place = tmp_path / "bundle"
    shutil.copytree(ask._folder(), place)
    monkeypatch.setattr(ask, "_folder", lambda: place)
    return place


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "no index", "index", "columns"])
def test_a_damaged_or_missing_bundled_question_is_one_line(damage: str, bundle: Path) -> None:
    file, index = bundle / "bees.ogg", bundle / "index.json"
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:40])
    elif damage == "text":
        file.write_text("not a sound")
    elif damage == "no index":
        index.unlink()
    else:
        index.write_text("[" if damage == "index" else '[{"name": "bees"}]')
    with pytest.raises(
        FoError, match=r"bundled question .* is missing or damaged; do: pip install"
    ):
        for question in ask.bundled():
            ask._sound(question, bundle)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--say", "?!"], "holds no words"),
        (["--say", "Hello?", "--voice", "slt"], "has no engine"),
        (["--say", "Hello?", "--voice", "nobody/x"], "unknown text-to-speech engine 'nobody'"),
        (["--say", "Hello?", "--voice", "flite/x"], "'x'"),
        (["--voice", "flite/slt"], "add --say"),
        (["--say", "Hello?", "--from-scratch"], "leave --from-scratch or --say out"),
        (["--set", "prepare.domain.recording=3"], "recording"),
        (["--set", "evaluate.known=0"], "1 or more"),
    ],
)
def test_faults_of_the_options_are_one_line(
    args: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(*args)
    assert found.exit_code == 1 and line in found.stderr, found.output
    assert found.stderr.count("\n") == 1


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with only_run(tmp_path):
        found = run("--out", str(tmp_path))
    assert found.exit_code == 1 and "another run works in" in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    found = run("--out", str(tmp_path))
    assert found.exit_code == 1 and "was begun with other settings" in found.stderr


def test_say_takes_the_first_voice_that_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    from fo_core.engines.tts import TTS
    from fo_core.errors import EngineError

    class Speaks:
        rate = 24000

        def synthesize(self, text: str, voice: str) -> str:
            return f"{text} by {voice}"

    def load(name: str) -> Any:
        if name != "flite":
            raise EngineError(f"text-to-speech engine {name!r} needs a package")
        return type("Module", (), {"Engine": Speaks})

    monkeypatch.setattr(TTS, "load", load)
    assert ask.speak("Hello?") == ("Hello? by slt", 24000, "flite/slt")
    with pytest.raises(EngineError, match="needs a package"):
        ask.speak("Hello?", "hibari/heart")
    monkeypatch.setattr(ask, "VOICES", ("hibari/heart", "piper/joe"))
    with pytest.raises(EngineError, match="no voice engine is at hand"):
        ask.speak("Hello?")


@pytest.fixture
def answered(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two bundled questions, asked of a tiny model with random weights."""
    monkeypatch.setattr(ask, "model_folder", lambda name: tiny_model)
    cfg = config.read_demo(overrides=("ask.limit=2", "ask.max_tokens=8"))
    asked = ask.questions(cfg, (), None)
    assert ask.answered(tmp_path, cfg, asked) is None
    said: list[tuple[int, int]] = []
    ask.ask(lambda what, done, of: said.append((done, of)), tmp_path, cfg, asked)
    assert said == [(0, 2), (1, 2), (2, 2)]
    return tmp_path, cfg, asked


def test_answers_are_kept_with_states_legs_and_sound(answered: Any) -> None:
    out, cfg, asked = answered
    rows = ask.answered(out, cfg, asked)
    assert rows is not None and [row["text"] for row in rows] == [q.text for q in asked]
    for row in rows:
        assert len(row["states"]) == row["timings"]["chunks"] > 10
        assert all(sum(chunk) <= 1.01 for chunk in row["states"])
        assert row["reply_wav"] is None or audio.info(Path(row["reply_wav"]))[0] > 0
        assert row["text"] in demo_page.spoken_line(row)


def test_what_was_answered_is_not_asked_again_unless_the_model_or_the_limit_changed(
    answered: Any,
) -> None:
    out, cfg, asked = answered
    more = [*asked, ask.Question("Who are you?", "flite/slt")]
    assert ask.answered(out, cfg, asked) and ask.answered(out, cfg, more) is None
    other = replace(cfg, ask=replace(cfg.ask, max_tokens=9))
    assert ask.answered(out, other, asked) is None
    journal = out / "ask" / ask.ROWS
    journal.write_text(journal.read_text()[:-20])  # a kill cut the last line
    assert ask.answered(out, cfg, asked) is None
    assert ask.answered(out, cfg, asked[:1])


def test_the_page_counts_right_and_wrong_answers_and_shows_states(tmp_path: Path) -> None:
    timings = dict.fromkeys(
        ("first_audio_ms", "prefill_ms", "first_text_ms", "decoder_prefill_ms", "first_tokens_ms",
         "codec_ms", "listen_ms", "listen_max_ms", "reply_seconds", "rtf"), 1.0,
    )  # fmt: skip
    row = {
        "text": "What is <2>?", "voice": "kokoro/af_bella", "heard": "What is", "bundled": True,
        "answer": "It is Paris.", "answers": ["Paris"], "ended_by": "respond", "finished": True,
        "states": [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], "question_wav": "/no.wav",
        "reply_wav": "/no.flac", "timings": timings,
    }  # fmt: skip
    wrong = row | {"answer": "", "reply_wav": None, "ended_by": "unheard", "heard": ""}
    said = row | {"answers": [], "bundled": False, "voice": "flite/slt"}
    scores: dict[str, Any] = {"items": 2, "input1_wer": 0.5}
    report = {"asked_right": 1, "asked_judged": 2, "start": scores, "after": scores}
    rows = [row, wrong, said]
    samples = [demo_page._sample(each) for each in rows]
    curves = {"input-1": [{"step": 1, "loss": 1.0}]}
    found = demo_page.sections(report, rows, curves, samples)
    paths = write_document(tmp_path, Document("Demo", "", found), report)
    page, text = paths["html"].read_text(), paths["md"].read_text()
    assert "Of 2 bundled questions 1 got an answer" in page and "What is &lt;2&gt;?" in page
    assert "0.00 s: continue; 0.16 s: respond" in page and page.count("<svg role") == 3
    assert "✔ yes" in text and "✘ no" in text and "not judged" in text
    assert "fo-smol learned from this voice" in page and 'aria-label="Aims"' not in page
    assert json.loads(paths["json"].read_text())["asked_right"] == 1
