"""``fo eval all``: several sets on one page, stopped and resumed, scored again without a model."""

import json
import sys
import types

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fo_cli.main import app

run = CliRunner().invoke


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two published sets in ``$FO_DATA``; the third is missing."""
    rng = np.random.default_rng(0)
    llama, web = tmp_path / "data/llama_questions", tmp_path / "data/web_questions"
    (llama / "wav").mkdir(parents=True)
    web.mkdir()
    rows = ["Questions\tAnswer\tWav Filename"]
    for n in (1, 2):
        rows.append(f"What is number {n}?\tblue\t{n}.wav")
        soundfile.write(llama / f"wav/{n}.wav", 0.1 * rng.standard_normal(8000), 16000)
    (llama / "llama_questions_300.tsv").write_text("\n".join(rows) + "\n")
    asked = [{"qId": f"q{n}", "qText": f"who is number {n}?", "answers": ["blue"]} for n in (1, 2)]
    (web / "webquestions_test.json").write_text(json.dumps(asked))
    monkeypatch.setenv("FO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def engines(monkeypatch):
    ears = types.ModuleType("fo_core.engines.asr.faster_whisper")
    ears.PACKAGE = ears.DEFAULT = "scripted"
    ears.Engine = lambda **how: types.SimpleNamespace(transcribe=lambda wave: "It is blue.")
    monkeypatch.setitem(sys.modules, "fo_core.engines.asr.faster_whisper", ears)

    class Engine:
        rate = 8000

        def voices(self, language=""):
            return ["anna"]

        def synthesize(self, text, voice, speed=1.0):
            return np.full(4000, 0.1, np.float32)

    for name in ("hibari", "flite"):
        module = types.ModuleType(f"fo_core.engines.tts.{name}")
        module.Engine = Engine
        monkeypatch.setitem(sys.modules, f"fo_core.engines.tts.{name}", module)


def suite(model, out, *more):
    args = ["eval", "all", "--suite", "quick", "--model", model, "--out", out, "--tts", "flite"]
    return run(app, [*map(str, [*args, "--no-dnsmos", "--max-new-tokens", 8, *more])])


def test_one_page_resumed_and_scored_again(tiny_model, data, engines, monkeypatch):
    from eval.systems.talker import Talker
    from fo_core.models import freeze_omni

    whole = suite(tiny_model, data / "whole", "--json")
    assert whole.exit_code == 0, whole.output
    overview = json.loads(whole.stdout)
    assert list(overview["parts"]) == ["llama-questions", "web-questions"]
    assert overview["skipped"][0]["id"] == "trivia-qa"
    assert "$FO_DATA/trivia_qa" in overview["skipped"][0]["why"] and not overview["complete"]
    for name in overview["parts"]:
        assert f"{name}/cascade_accuracy" in overview["metrics"]
        assert f"{name}/hearing_wer" not in overview["metrics"]  # this model's ears tell no words
    ask, count = Talker.ask, []

    def stumble(self, wave, speak=True, earlier=()):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return ask(self, wave, speak, earlier)

    monkeypatch.setattr(Talker, "ask", stumble)
    assert suite(tiny_model, data / "cut").exit_code == 130
    assert suite(tiny_model, data / "cut", "--json").stdout == whole.stdout
    assert len(count) == 5  # of four questions one was asked again

    def forbidden(*args, **how):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(freeze_omni, "load", forbidden)
    monkeypatch.setattr(freeze_omni, "build", forbidden)
    again = suite(tiny_model, data / "whole", "--rescore", "--json")
    assert json.loads(again.stdout)["metrics"] == overview["metrics"]
    page = (data / "whole/report.md").read_text()
    assert "| web-questions | 2 |" in page and "Parts that were not measured" in page
    assert "Freeze-Omni 7B" in page and (data / "whole/llama-questions/report.html").is_file()
    found = run(app, ["eval", "compare", str(data / "whole"), str(data / "cut"), "--json"])
    both = json.loads(found.stdout)
    assert both["shared"] == 4 and both["metrics"]["web-questions/text_words"]["difference"] == 0
    card = run(app, ["models", "card", str(tiny_model), "--from", str(data / "whole")])
    assert card.exit_code == 0 and "| web-questions | 2 |" in card.stdout


def test_a_folder_of_another_run_is_refused_not_left_out(tiny_model, data, engines):
    out = data / "out"
    assert suite(tiny_model, out, "--part", "web-questions").exit_code == 0
    found = suite(tiny_model, out, "--part", "web-questions", "--seed", 3)
    assert found.exit_code == 1 and "seed differ" in found.stderr
    assert "--no-resume" in found.stderr and "set FO_DATA" not in found.stderr


def test_faults_are_one_line(tiny_model, tmp_path, monkeypatch):
    monkeypatch.delenv("FO_DATA", raising=False)
    monkeypatch.setenv("FO_CACHE", str(tmp_path / "cache"))
    for args, line in (
        (["all", "--suite", "quik"], "did you mean 'quick'"),
        (["all", "--part", "web"], "--part 'web'"),
    ):
        found = run(app, ["eval", *args])
        assert found.exit_code == 1 and line in found.stderr and found.stderr.count("\n") == 1


def test_the_papers_tables_run_by_their_own_commands(tiny_model, data, monkeypatch):
    import inspect

    from fo_cli import render
    from fo_cli.eval import suite as module
    from fo_core.io.files import write_json

    (data / "data/LibriSpeech").mkdir()
    (data / "data/answers.jsonl").write_text("")
    called = {}

    def fake(name):
        real = module.COMMANDS[name]

        def command(**given):
            inspect.signature(real).bind(**given)  # every option is one of the command's
            called[name] = given
            value = {"value": 0.25, "low": 0.2, "high": 0.3, "items": 4}
            key = "test-clean/4-streaming/ctc" if name == "asr" else "full/1/wer"
            overview = {"evaluation": name, "items": 4, "asked": 4, "complete": True,
                        "metrics": {key: value}, "about": {}, "skipped": []}  # fmt: skip
            write_json(given["out"] / "overview.json", overview)
            render.result("its own table")

        return command

    monkeypatch.setattr(module, "COMMANDS", {name: fake(name) for name in module.COMMANDS})
    args = ["eval", "all", "--suite", "paper", "--model", tiny_model, "--out", data / "paper"]
    for part in ("librispeech", "aishell-1", "tts"):
        args += ["--part", part]
    found = run(app, [*map(str, args)])
    assert found.exit_code == 0, found.output
    assert "its own table" in found.stderr and "its own table" not in found.stdout
    assert json.loads(run(app, [*map(str, args), "--json"]).stdout)["items"] == 8
    assert called["asr"]["corpus"] == data / "data/LibriSpeech"
    assert called["asr"]["chunk"] == ["4", "inf"] and called["tts"]["dnsmos"] is True
    page = (data / "paper/report.md").read_text()
    assert "| librispeech | test-clean/4-streaming/ctc | 25.0 % |" in page
    assert "| tts | full/1/wer | 25.0 % |" in page and "put it at $FO_DATA/aishell-1" in page
