"""Questions in any form are answered; everything a user can get wrong is one line."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fo_cli.chat import numbered
from fo_cli.main import app

run = CliRunner().invoke


def test_a_question_is_answered_in_text_and_sound(tiny_model, question, tmp_path):
    out = tmp_path / "new" / "reply.wav"
    found = run(
        app,
        ["chat", "file", str(question), "--model", str(tiny_model), "--out", str(out), "--json"],
    )
    assert found.exit_code == 0, found.stderr
    answer = json.loads(found.stdout)
    wave, rate = soundfile.read(out)
    assert rate == 24000 and len(wave) / rate == pytest.approx(answer["timings"]["reply_seconds"])
    assert answer["text"] and answer["ended_by"] == "input-end"
    assert answer["timings"]["chunks"] == 7  # 1 s
    assert answer["timings"]["first_audio_ms"] > 0 and answer["timings"]["rtf"] > 0


def test_d3_a_question_on_one_of_two_channels(tiny_model, question, tmp_path):
    args = ["chat", "file", str(question), "--model", str(tiny_model), "--out"]
    found = run(app, [*args, str(tmp_path / "mean.wav")])
    assert found.exit_code == 0 and "2 channels: their mean was heard" in found.stderr
    found = run(app, [*args, str(tmp_path / "one.wav"), "--channel", "1"])
    assert found.exit_code == 0 and "channels" not in found.stderr
    found = run(app, [*args, str(tmp_path / "none.wav"), "--channel", "2"])
    assert found.exit_code == 1 and "has no channel 2; possible: 0 to 1" in found.stderr


def test_people_get_the_text_and_the_times(tiny_model, question, tmp_path):
    out = tmp_path / "reply.flac"
    found = run(app, ["chat", "file", str(question), "--model", str(tiny_model), "--out", str(out)])
    assert found.exit_code == 0, found.stderr
    assert "first audio after" in found.stdout and "real-time factor" in found.stdout
    assert out.is_file()


def test_a_reply_never_takes_the_place_of_its_question(tiny_model, question, tmp_path):
    asked = str(shutil.copy(question, tmp_path / "reply-2.wav"))
    before = (tmp_path / "reply-2.wav").read_bytes()
    args = ["chat", "file", asked, "--model", str(tiny_model), "--out"]
    found = run(app, [*args, asked])
    assert found.exit_code == 1 and "that is what is read" in found.stderr
    found = run(app, [*args, str(tmp_path / "reply.wav"), "--again"], input=asked + "\n")
    assert found.exit_code == 0 and "reply-2.wav: that is what is read" in found.stderr
    assert (tmp_path / "reply-2.wav").read_bytes() == before


def test_typed_questions(tiny_model, tmp_path):
    spoken = 0
    for number, word in enumerate(("hello", "what", "where", "tell me", "why not")):
        args = ["chat", "text", word, "--model", str(tiny_model), "--json"]
        silent = json.loads(run(app, args).stdout)
        assert silent["text"] and silent["out"] is None
        out = tmp_path / f"{number}.wav"
        aloud = json.loads(run(app, [*args, "--out", str(out)]).stdout)
        assert aloud["text"] == silent["text"]  # speaking does not change what is said
        assert out.is_file() == (aloud["out"] is not None)
        spoken += out.is_file()
    assert spoken  # random weights write much that nobody could say, but not always


def sound(path, seconds):
    soundfile.write(path, np.zeros(int(8000 * seconds)), 8000)
    return path


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda d: d / "none.wav", "does not exist"),
        (lambda d: d, "is a folder"),
        (lambda d: (d / "e.wav").write_bytes(b"") and None or d / "e.wav", "0 bytes"),
        (lambda d: (d / "t.wav").write_text("hello") and d / "t.wav", "not a sound file"),
        (lambda d: sound(d / "s.wav", 0.05), "too short"),
        (lambda d: sound(d / "l.wav", 600), "too long"),
    ],
)
def test_bad_questions_are_one_line(make, line, tiny_model, tmp_path):
    out = tmp_path / "reply.wav"
    args = ["chat", "file", str(make(tmp_path)), "--model", str(tiny_model), "--out", str(out)]
    found = run(app, args)
    assert found.exit_code == 1
    assert line in found.stderr and found.stderr.count("\n") == 1
    assert not out.exists()


def test_an_unheard_question_is_one_line_and_exit_1(tiny_model, tmp_path):
    out = tmp_path / "reply.wav"
    args = ["chat", "file", str(sound(tmp_path / "s.wav", 1.0)), "--model", str(tiny_model)]
    found = run(app, [*args, "--out", str(out)])
    assert found.exit_code == 1 and not found.stdout
    assert "nothing was heard" in found.stderr and found.stderr.count("\n") == 1
    assert not out.exists()


def broken(model, folder, change):
    shutil.copytree(model, folder)
    change(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda d: (d / "codec.safetensors").unlink(), "no trained codec"),
        (lambda d: (d / "adapter.safetensors").write_bytes(b"x" * 99), "adapter.safetensors"),
        (lambda d: (d / "other.safetensors").write_bytes(b""), "other.safetensors"),
        (lambda d: (d / "config.json").unlink(), "config.json"),
        (lambda d: (d / "config.json").write_text("{"), "config.json"),
        (lambda d: (d / "config.json").write_text('{"lm": {}}'), "did you mean 'llm'"),
        (lambda d: (d / "dialogue.json").write_text('{"sede": 1}'), "did you mean 'seed'"),
    ],
)
def test_bad_model_folders_are_one_line(change, line, tiny_model, question, tmp_path):
    model = broken(tiny_model, tmp_path / "model", change)
    out = tmp_path / "reply.wav"
    found = run(app, ["chat", "file", str(question), "--model", str(model), "--out", str(out)])
    assert found.exit_code == 1, found.exception
    assert line in found.stderr and found.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--model", "/no/such", "--out", "r.wav"], "model folder /no/such does not exist"),
        (["--out", "r.mp3"], "possible: .wav, .flac"),
        (["--out", "r.wav", "--set", "sampling.topk=1"], "did you mean 'top_k'"),
        (["--out", "/proc/no/r.wav"], "/proc/no"),
    ],
)
def test_bad_options_are_one_line(args, line, tiny_model, question, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in args else ["--model", str(tiny_model)]
    found = run(app, ["chat", "file", str(question), *model, *args])
    assert found.exit_code == 1, found.exception
    assert line in found.stderr and found.stderr.count("\n") == 1
    assert not list(tmp_path.glob("r.*"))


def test_again_answers_every_line_and_goes_on_after_a_bad_one(tiny_model, question, tmp_path):
    other = tmp_path / "other.wav"
    shutil.copy(question, other)
    args = ["chat", "file", str(question), "--model", str(tiny_model), "--again", "--json", "--out"]
    lines = f"{tmp_path}/none.wav\n\n{other}\n"
    found = run(app, [*args, str(tmp_path / "r.wav")], input=lines)
    assert found.exit_code == 0, found.stderr
    first, second = (json.loads(part + "}") for part in found.stdout.split("\n}\n")[:-1])
    assert found.stderr.count("error:") == 1 and "none.wav does not exist" in found.stderr
    assert first["text"] and second["text"] and first["out"] == str(tmp_path / "r.wav")
    assert second["out"] in (None, str(tmp_path / "r-3.wav"))  # random weights may say nothing
    assert [numbered(tmp_path / "r.wav", n).name for n in range(3)] == [
        "r.wav", "r-2.wav", "r-3.wav"
    ]  # fmt: skip
    found = run(app, [*args[:2], str(tmp_path / "none.wav"), *args[3:], str(tmp_path / "r.wav")])
    assert found.exit_code == 1  # the first question is checked before anything is loaded


def test_again_is_one_talk(tiny_model):
    """The second typed question is answered knowing the first, as a session would."""
    from fo_core.dialogue.drivers.answer import ask_text, file_talk
    from fo_core.dialogue.settings import read_dialogue
    from fo_core.models import freeze_omni
    from fo_core.models.packing import pack_for_inference

    model = pack_for_inference(freeze_omni.load(tiny_model), "fp16")
    talk = file_talk(model, read_dialogue(tiny_model), speak=False)
    expected = [ask_text(talk, text).text for text in ("hello", "and you", "why")]
    args = ["chat", "text", "hello", "--model", str(tiny_model), "--again"]
    found = run(app, args, input="and you\nwhy\n")
    assert found.exit_code == 0, found.stderr
    assert found.stdout == "".join(f"{text}\n" for text in expected)


def test_again_forgets_the_oldest_when_the_context_is_full(tiny_model):
    args = ["chat", "text", "hello", "--model", str(tiny_model), "--again", "--json"]
    args += ["--set", "duplex.context=256"]
    found = run(app, args, input="word " * 30 + "\n" + "more " * 30 + "\n" + "less\n")
    assert found.exit_code == 0 and found.stdout.count('"text"') == 4, found.stderr


HEAVY = ("transformers", "torch._dynamo", "accelerate", "scipy", "lhotse", "onnxruntime",
         "huggingface_hub", "sympy", "filelock", "ctranslate2")  # fmt: skip


def test_t4_a_question_loads_nothing_that_it_does_not_use(tiny_model, question, tmp_path):
    """Threads sleep while they wait: set before torch is there, unless the user has."""
    code = (
        "import os, sys, fo_cli.main; assert 'torch' not in sys.modules;"
        "assert os.environ['OMP_WAIT_POLICY'] == os.environ.get('WANTED', 'PASSIVE');"
        f"fo_cli.main.app(sys.argv[1:], standalone_mode=False);"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    args = ["chat", "file", str(question), "--model", str(tiny_model), "--out"]
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_WAIT", "KMP"))}
    for env in (own, {**own, "OMP_WAIT_POLICY": "ACTIVE", "WANTED": "ACTIVE"}):
        done = subprocess.run(
            [sys.executable, "-c", code, *args, str(tmp_path / "r.wav")],
            capture_output=True, text=True, check=False, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "[]"
        code = "import os, fo_cli.main; assert os.environ['OMP_WAIT_POLICY'] == 'ACTIVE'; print([])"
