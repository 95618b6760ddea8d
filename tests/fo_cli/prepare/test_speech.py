import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.io import audio

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="no flite here")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng here")


def fo(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_engines_that_cannot_work_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from data_prep.steps import synthesize

    monkeypatch.setattr(synthesize, "_ENGINES", {})
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    done = fo("prepare-data", "voices", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and "espeak-ng is not on this machine" in found["espeak-ng"]["error"]
    assert "no endpoint" in found["openai"]["error"]


@needs_flite
def test_voices_of_an_engine_by_language() -> None:
    assert fo("prepare-data", "voices", "flite", "--language", "en-GB").stdout.split()[0] == "slt"
    none = fo("prepare-data", "voices", "flite", "--language", "zh")
    assert none.exit_code == 0 and none.stdout == ""


def test_voices_says_how_more_are_added() -> None:
    pytest.importorskip("hibari")
    done = fo("prepare-data", "voices", "hibari")
    assert done.exit_code == 0 and done.stdout.split()[0] == "heart"
    assert "hibari --voice emma" in done.stderr


@needs_flite
def test_a_voice_is_heard_as_the_step_would_write_it(tmp_path: Path) -> None:
    out = tmp_path / "s.wav"
    done = fo("prepare-data", "voices", "flite", "--say", "It costs $3.50.", "--out", str(out))
    assert done.exit_code == 0, done.stderr
    assert "It costs three dollars and fifty cents." in done.stdout
    assert audio.info(out)[1] == 24000 and len(audio.read(out, 24000)) > 24000


@needs_espeak
def test_chinese_is_read_at_its_own_pace(tmp_path: Path) -> None:
    pytest.importorskip("wetext")
    out = tmp_path / "s.flac"
    ask = ["voices", "espeak-ng", "--language", "zh", "--say", "现在是20:05", "--out", str(out)]
    done = fo("prepare-data", *ask, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["spoken"] == "现在是二十点零五分。"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flote"], "unknown text-to-speech engine 'flote'"),
        (["flite", "--say", "Hello."], "--say and --out go together"),
        (["--say", "Hello."], "need an engine"),
    ],
)
def test_wrong_requests_are_one_line(arguments: list[str], said: str) -> None:
    done = fo("prepare-data", "voices", *arguments)
    assert done.exit_code == 1 and said in done.stderr and done.stderr.count("\n") == 1
