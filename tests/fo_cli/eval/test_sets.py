"""The paper's three tables from the command line, on a tiny random model and a scripted judge."""

import json
import shutil
import sys
import types

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest

run = CliRunner().invoke


@pytest.fixture
def questions(tmp_path):
    """Four published questions, three with recordings, one of these damaged."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "set"
    (folder / "wav").mkdir(parents=True)
    lines = ["Questions\tAnswer\tWav Filename"]
    for n in range(1, 5):
        lines.append(f"What is number {n}?\tblue\t{n}.wav")
        if n < 4:
            soundfile.write(folder / f"wav/{n}.wav", 0.1 * rng.standard_normal(8000 + n), 16000)
    (folder / "wav/2.wav").write_bytes(b"no sound")
    (folder / "llama_questions_300.tsv").write_text("\n".join(lines) + "\n")
    return folder


def scripted(monkeypatch, name="pocketsphinx", word="blue"):
    module = types.ModuleType(f"fo_core.engines.asr.{name}")
    module.PACKAGE, module.DEFAULT = name, "scripted"
    module.Engine = lambda **how: types.SimpleNamespace(transcribe=lambda wave: word)
    monkeypatch.setitem(sys.modules, f"fo_core.engines.asr.{name}", module)
    return name


@pytest.fixture
def judge(monkeypatch):
    return scripted(monkeypatch)


def said(args, code=0):
    found = run(app, ["eval", *map(str, args)])
    assert found.exit_code == code, found.output
    return found


def llama(model, questions, out, judge, *more):
    return ["llama-questions", "--model", model, "--data", questions, "--tts", "recordings",
            "--judge", judge, "--out", out, "--max-new-tokens", 40, "--json",
            "--set", "sampling.top_k=0", *more]  # fmt: skip


def test_four_columns_in_one_run(tiny_model, questions, tmp_path, judge):
    out = tmp_path / "out"
    found = json.loads(said(llama(tiny_model, questions, out, judge)).stdout)
    scores = found["metrics"]
    assert {"text_accuracy", "answer_accuracy", "speech_accuracy"} <= set(scores)
    assert scores["speech_accuracy"]["value"] == 1  # the scripted judge hears the answer
    assert scores["judge_wer"]["value"] == 1 and scores["speech_wer"]["items"] == 2
    assert {row["id"]: row["why"] for row in found["skipped"]}.keys() == {"llama-002", "llama-004"}
    about = found["about"]
    assert about["judge"]["judge"] == judge and about["judge"]["model"] == "scripted"
    assert about["model"]["fingerprint"].startswith("sha256:") and about["versions"]["torch"]
    assert about["machine"]["cores"] and about["voice"] == {"tts": "recordings", "voice": None}
    row = json.loads((out / "items.jsonl").read_text().splitlines()[0])
    assert soundfile.info(out / row["reply_wav"]).samplerate == 24000
    assert "speech → speech" in (out / "report.md").read_text()
    page = (out / "report.html").read_text()
    assert "data:image/svg+xml" in page and "Freeze-Omni 7B" in page


def spoken(monkeypatch, name="flite"):
    """A speech engine whose sentences last as long as they have words."""

    class Engine:
        rate, asked = 8000, []

        def voices(self):
            return ["anna"]

        def synthesize(self, text, voice, speed=1.0):
            self.asked.append(text)
            return np.full(2000 * len(text.split()), 0.1, np.float32)

    module = types.ModuleType(f"fo_core.engines.tts.{name}")
    module.Engine = Engine
    monkeypatch.setitem(sys.modules, f"fo_core.engines.tts.{name}", module)
    return Engine


def test_a_cascade_of_the_same_llm_answers_the_same_sound(
    tiny_model, questions, tmp_path, judge, monkeypatch
):
    engine = spoken(monkeypatch)
    scripted(monkeypatch, "whisper", "What is number 1?")
    args = llama(tiny_model, questions, tmp_path / "out", judge, "--no-dnsmos")
    args += ["--baseline", "cascade", "--baseline-asr", "whisper", "--baseline-tts", "flite"]
    args += ["--set", "sampling.top_k=1"]  # as the typed question is answered
    found = json.loads(said(args).stdout)
    scores = found["metrics"]
    first = json.loads((tmp_path / "out/items.jsonl").read_text().splitlines()[0])
    assert first["cascade_heard"] == "What is number 1?" == first["question"]
    assert first["cascade_answer"] == first["text_answer"]  # one LLM, the same words to read
    assert scores["cascade_hearing_wer"]["value"] == pytest.approx(1 / 8)  # "3" in the second
    assert scores["cascade_speech_accuracy"]["value"] == 1 and engine.asked
    assert "cascade_over_text" not in scores and "speech_over_cascade" in scores
    assert found["about"]["cascade"]["cascade_tts"] == "flite"
    timings = json.loads((tmp_path / "out/timings.json").read_text())
    assert timings["cascade"]["first_audio_ms_p50"] > 0 and timings["cascade"]["items"] == 2
    page = (tmp_path / "out/report.md").read_text()
    assert "| cascade, speech | 100.0 %" in page and "real-time factor" in page
    again = ["llama-questions", "--rescore", "--out", tmp_path / "out", "--judge", judge]
    after = json.loads(said([*again, "--json", "--no-dnsmos"]).stdout)
    assert after["metrics"] == scores and after["about"] == found["about"]


def test_no_question_to_the_cascade_waits_for_the_model(
    tiny_model, questions, tmp_path, judge, monkeypatch
):
    """Asked of results that are there, the model is loaded for the cascade alone."""
    from eval.systems.cascade import Cascade

    spoken(monkeypatch)
    args = llama(tiny_model, questions, tmp_path / "out", judge, "--no-dnsmos")
    said(args)
    ask, ready = Cascade.ask, []

    def noted(self, wave, speak=True):
        ready.append({"model", "_read_before"} <= set(vars(self.talker)))
        return ask(self, wave, speak)

    monkeypatch.setattr(Cascade, "ask", noted)
    said([*args, "--baseline", "cascade", "--baseline-asr", judge, "--baseline-tts", "flite"])
    assert ready == [True, True]


@pytest.mark.parametrize("asked", [[], ["--device", "cpu"]])
def test_a_judge_of_kept_sounds_gets_a_device_that_is_there(
    tiny_model, questions, tmp_path, judge, monkeypatch, asked
):
    """``auto`` is no device of torch: `--rescore --judge whisper` stopped at it."""
    said(llama(tiny_model, questions, tmp_path / "out", judge, "--no-dnsmos"))
    scripted(monkeypatch, "whisper", "green")
    module, devices = sys.modules["fo_core.engines.asr.whisper"], []
    engine = module.Engine
    module.Engine = lambda **how: devices.append(how["device"]) or engine(**how)
    args = ["llama-questions", "--rescore", "--out", tmp_path / "out", "--judge", "whisper"]
    said([*args, "--no-dnsmos", *asked])
    assert devices and set(devices) <= {"cpu", "cuda"}


def test_a_second_judge_hears_the_same_replies(tiny_model, questions, tmp_path, judge, monkeypatch):
    scripted(monkeypatch, "whisper", "green")
    args = llama(tiny_model, questions, tmp_path / "out", judge, "--no-dnsmos")
    found = json.loads(said([*args, "--second-judge", "whisper"]).stdout)["metrics"]
    assert found["speech_accuracy"]["value"] == 1 and found["speech_accuracy_2"]["value"] == 0
    assert found["judges_disagree"]["value"] == 1
    assert "the judge itself" in said([*args, "--second-judge", judge], code=1).stderr


def test_interrupted_and_resumed_is_the_same_as_uninterrupted(
    tiny_model, questions, tmp_path, judge, monkeypatch
):
    from eval.systems.talker import Talker

    whole = said(llama(tiny_model, questions, tmp_path / "whole", judge)).stdout
    ask, count = Talker.ask, []

    def stumble(self, wave, speak=True, earlier=()):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        return ask(self, wave, speak, earlier)

    monkeypatch.setattr(Talker, "ask", stumble)
    said(llama(tiny_model, questions, tmp_path / "cut", judge), code=130)
    assert said(llama(tiny_model, questions, tmp_path / "cut", judge)).stdout == whole
    assert len(count) == 3  # the first answer was not asked for again


def test_rescore_loads_no_model(tiny_model, questions, tmp_path, judge, monkeypatch):
    from fo_core.models import freeze_omni

    out = tmp_path / "out"
    before = json.loads(said(llama(tiny_model, questions, out, judge)).stdout)

    def forbidden(*args, **how):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(freeze_omni, "load", forbidden)
    monkeypatch.setattr(freeze_omni, "build", forbidden)
    other = scripted(monkeypatch, "whisper", "green")
    args = ["llama-questions", "--rescore", "--out", out, "--judge", other, "--json"]
    after = json.loads(said(args).stdout)
    assert after["metrics"]["speech_accuracy"]["value"] == 0
    assert after["metrics"]["answer_accuracy"] == before["metrics"]["answer_accuracy"]
    assert after["about"]["model"] == before["about"]["model"]
    assert after["about"]["judge"]["judge"] == "whisper"


def test_questions_are_spoken_once_by_an_engine(
    tiny_model, questions, tmp_path, judge, monkeypatch
):
    spoken = []

    class Engine:
        rate = 8000

        def voices(self):
            return ["anna"]

        def synthesize(self, text, voice, speed=1.0):
            spoken.append((text, voice))
            return np.full(4000, 0.1, np.float32)

    module = types.ModuleType("fo_core.engines.tts.flite")
    module.Engine = Engine
    monkeypatch.setitem(sys.modules, "fo_core.engines.tts.flite", module)
    monkeypatch.setenv("FO_CACHE", str(tmp_path / "cache"))
    args = [*llama(tiny_model, questions, tmp_path / "a", judge, "--only", "answer")]
    args[args.index("recordings")] = "flite"
    found = json.loads(said(args).stdout)
    assert found["items"] == 4 and len(spoken) == 4 and spoken[0][1] == "anna"
    assert "speech_accuracy" not in found["metrics"] and "text_accuracy" not in found["metrics"]
    args[args.index("--out") + 1] = tmp_path / "b"
    said(args)
    assert len(spoken) == 4  # cached


def test_a_model_without_a_voice_answers_in_text(tiny_model, questions, tmp_path, judge):
    mute = tmp_path / "mute"
    shutil.copytree(tiny_model, mute)
    (mute / "speech_decoder.safetensors").unlink()
    found = said(llama(mute, questions, tmp_path / "out", judge), code=1)
    assert "no trained speech_decoder" in found.stderr
    args = llama(mute, questions, tmp_path / "out2", judge, "--only", "answer", "--only", "text")
    scores = json.loads(said(args).stdout)["metrics"]
    assert scores["answer_accuracy"]["items"] == scores["text_accuracy"]["items"] == 2
    assert "speech_accuracy" not in scores


def test_a_text_llm_alone(questions, tmp_path):
    args = ["llama-questions", "--llm", "tiny", "--llm-dtype", "float32", "--data", questions]
    args += ["--out", tmp_path / "out", "--max-new-tokens", 8, "--limit", 2, "--published"]
    found = said(args)
    assert "text LLM" in found.stdout and "Qwen2-7B-Instruct, text only" in found.stdout
    assert "speech" not in json.loads((tmp_path / "out/overview.json").read_text())["metrics"]


@pytest.fixture
def answers(tmp_path):
    rng = np.random.default_rng(1)
    items = []
    for n in range(2):
        path = tmp_path / f"a{n}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(24000), 24000)
        ask = ({"role": "user", "content": "what color?"},)
        items.append(manifest.describe(path, id=f"a{n}", text="it is blue", messages=ask))
    lost = "no question came before"
    items.append(manifest.describe(path, id="lost", text=lost, role="assistant"))
    manifest.write(tmp_path / "answers.jsonl", items)
    return tmp_path / "answers.jsonl"


def test_table_two(tiny_model, answers, tmp_path, judge, monkeypatch):
    out = tmp_path / "out"
    args = ["tts", "--data", answers, "--model", tiny_model, "--out", out, "--judge", judge]
    args += ["--no-dnsmos", "--json", "--top-k", 1, "--top-k", 3]
    args += ["--variant", "full", "--variant", "no-prefix", "--variant", "bare"]
    found = json.loads(said(args).stdout)
    scores = found["metrics"]
    assert scores["original/wer"]["value"] == scores["codec/wer"]["value"] == pytest.approx(2 / 3)
    for name in ("full/1", "full/3", "no-prefix/1", "bare/3"):
        assert {f"{name}/cer", f"{name}/loop", f"{name}/endless"} <= set(scores)
    assert found["skipped"] == [{"id": "lost", "why": "no question before the answer (messages)"}]
    row = json.loads((out / "items.jsonl").read_text().splitlines()[0])
    waves = {
        name: soundfile.read(out / spoken["file"])[0].tobytes()
        for name, spoken in row["spoken"].items()
        if spoken["file"]
    }
    assert len(set(waves.values())) > 2  # the variants are heard
    again = [*args[: args.index("--model")], *args[args.index("--out") :], "--rescore"]
    assert json.loads(said(again).stdout)["metrics"] == scores


def test_table_one_of_a_table_of_recordings(tiny_model, tmp_path):
    rng = np.random.default_rng(2)
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(9000), 16000)
    (tmp_path / "clips.tsv").write_text(
        "path\tsentence\tlocale\na.wav\tHello there\ten\nb.wav\t今天天气\tzh-CN\nc.wav\tgone\ten\n",
        encoding="utf-8",
    )
    args = ["asr", "--data", tmp_path / "clips.tsv", "--model", tiny_model, "--json"]
    args += ["--out", tmp_path / "out", "--chunk", 4, "--chunk", "inf", "--path", "both"]
    found = json.loads(said(args).stdout)
    parts = {key.split("/")[0] for key in found["metrics"]}
    assert parts == {"clips en", "clips zh"} and found["skipped"][0]["id"] == "c"
    for reading in ("ctc", "llm"):
        stream, whole = (
            found["metrics"][f"clips en/4-{path}/{reading}"] for path in ("streaming", "offline")
        )
        assert stream == whole
    rows = [json.loads(line) for line in (tmp_path / "out/items.jsonl").read_text().splitlines()]
    assert rows[1]["scores"]["clips zh/4-streaming/ctc"][1] == 4  # characters
    again = ["asr", "--rescore", "--out", tmp_path / "out", "--json"]
    assert json.loads(said(again).stdout) == found
    other = [*args[:-6], "--chunk", 8]
    other[other.index("--out") + 1] = tmp_path / "out"
    assert "conditions differ" in said(other, code=1).stderr


def test_two_runs_side_by_side(questions, tmp_path):
    for name, size in (("a", 8), ("b", 9)):
        args = ["llama-questions", "--llm", "tiny", "--llm-dtype", "float32", "--data", questions]
        said([*args, "--out", tmp_path / name, "--max-new-tokens", size])
    found = said(["compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c"])
    assert "text_words" in found.stdout and (tmp_path / "c/compare.md").is_file()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["llama-questions", "--out", "o"], "$FO_DATA/llama_questions with llama_questions*.tsv"),
        (["llama-questions", "--out", "o", "--data", "set", "--subset", "a"], "has no subsets"),
        (["voicebench", "--out", "o", "--data", "set", "--subset", "mmsuu"], "did you mean 'mmsu'"),
        (["llama-questions", "--out", "o", "--data", "nothing"], "no file or folder nothing"),
        (["llama-questions", "--out", "o", "--data", "set", "--model", "no"], "does not exist"),
        (["llama-questions", "--out", "o", "--data", "set", "--llm", "a", "--only", "speech"],
         "hears and speaks nothing"),
        (["llama-questions", "--out", "o", "--data", "set", "--only", "txt"], "did you mean"),
        (["llama-questions", "--out", "o", "--data", "set", "--tts", "edge"], "did you mean"),
        (["llama-questions", "--out", "o", "--rescore"], "no run to rescore"),
        (["llama-questions", "--out", "o", "--data", "set", "--llm", "tiny", "--device", "cuda:7"],
         "no device 'cuda:7'"),
        (["llama-questions", "--out", "o", "--data", "set", "--llm", "tiny", "--judge-llm", "m",
          "--judge-url", "nowhere"], "is not an address"),
        (["asr", "--out", "o", "--model", "m"], "nothing to hear"),
        (["asr", "--out", "o", "--model", "m", "--set", "librispeech"], "needs its folder"),
        (["asr", "--out", "o", "--model", "m", "--set", "librispeech", "--corpus", "set"],
         "of LibriSpeech"),
        (["asr", "--out", "o", "--model", "m", "--chunk", "four"], "frames of 40 ms"),
        (["tts", "--out", "o", "--model", "m"], "nothing to speak"),
        (["tts", "--out", "o", "--model", "m", "--judge", "funasr"], "pip install funasr"),
        (["compare", "set", "m"], "holds no results"),
    ],
)  # fmt: skip
def test_faults_are_one_line(args, line, questions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "funasr", None)
    monkeypatch.delitem(sys.modules, "fo_core.engines.asr.funasr", raising=False)
    (tmp_path / "m").mkdir()
    found = run(app, ["eval", *args])
    assert found.exit_code == 1, found.output
    assert line in found.stderr and found.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()
