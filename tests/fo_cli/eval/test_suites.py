"""Published suites from the command line: parts, rules, rounds, and what is exported."""

import json

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fo_cli.main import app

run = CliRunner().invoke


@pytest.fixture
def talks(tmp_path):
    """Two rounds of one talk, and a single question, as URO-Bench has them."""
    rng = np.random.default_rng(0)
    one, many = tmp_path / "uro/basic/Gsm8kEval", tmp_path / "uro/pro/MtBenchEval-en"
    for folder in (one, many):
        (folder / "wav").mkdir(parents=True)
        for n in (1, 2):
            soundfile.write(folder / f"wav/{n}.wav", 0.1 * rng.standard_normal(8000), 16000)
    turn = {"source_text": "What is number 1?", "target_text": "blue"}
    (one / "test.jsonl").write_text(json.dumps({"source_wav": "wav/1.wav"} | turn))
    rounds = [{"round": n, "source_wav": f"wav/{n}.wav"} | turn for n in (1, 2)]
    (many / "test.jsonl").write_text(json.dumps({"id": "7", "dialogue": rounds}))
    return tmp_path / "uro"


def test_uro_bench_from_its_files_to_its_files(tiny_model, talks, tmp_path, monkeypatch):
    from eval.systems.talker import Talker

    ask, heard = Talker.ask, []

    def noted(self, wave, speak=True, earlier=()):
        heard.append((len(wave), [len(one) for one in earlier]))
        return ask(self, wave, speak, earlier)

    monkeypatch.setattr(Talker, "ask", noted)
    args = ["uro-bench", "--model", tiny_model, "--data", talks, "--out", tmp_path / "out"]
    args += ["--only", "text", "--only", "answer", "--max-new-tokens", 8, "--json"]
    args += ["--judge", "pocketsphinx", "--set", "sampling.top_k=0"]
    found = run(app, ["eval", *map(str, args)])
    assert found.exit_code == 0, found.output
    scores = json.loads(found.stdout)["metrics"]
    absent = {row["id"]: row["why"] for row in json.loads(found.stdout)["skipped"]}
    assert absent["MLC-zh"] == f"nothing of it in {talks}" and "Gsm8kEval" not in absent
    assert heard == [(8000, []), (8000, []), (8000, [8000])]  # the second round after the first
    assert "answer_accuracy" not in scores and scores["answer_words"]["items"] == 3
    assert scores["text_words"]["items"] == 2  # a round after others has no typed twin
    export = tmp_path / "out/export"
    (line,) = (export / "MtBenchEval-en/output_with_text.jsonl").read_text().splitlines()
    assert [turn["round"] for turn in json.loads(line)["dialogue"]] == [1, 2]
    assert (export / "Gsm8kEval/pred_text.jsonl").is_file()
    assert str(export / "Gsm8kEval/pred_text.jsonl") in found.stderr


def test_big_bench_audio_has_no_text_and_is_scored_by_category(tiny_model, tmp_path, monkeypatch):
    from eval.systems import talker

    (tmp_path / "set/data").mkdir(parents=True)
    rows = [
        {"file_name": f"data/question_{n}.wav", "category": category, "official_answer": answer,
         "id": n}
        for n, (category, answer) in enumerate([("navigate", "No"), ("navigate", "Yes"),
                                                ("web_of_lies", "Yes")])
    ]  # fmt: skip
    for row in rows:
        soundfile.write(tmp_path / "set" / row["file_name"], 0.1 * np.ones(8000), 16000)
    (tmp_path / "set/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = talker.Reply("Yes, you would.", np.zeros(0, np.float32), 24000, True, False, "answer",
                        None)  # fmt: skip
    monkeypatch.setattr(talker.Talker, "ask", lambda self, wave, speak=True, earlier=(): said)
    args = ["big-bench-audio", "--model", tiny_model, "--data", tmp_path / "set"]
    args += ["--out", tmp_path / "out", "--only", "text", "--only", "answer", "--json"]
    found = run(app, ["eval", *map(str, [*args, "--judge", "pocketsphinx"])])
    assert found.exit_code == 0, found.output
    scores = json.loads(found.stdout)["metrics"]
    assert scores["answer_accuracy"]["value"] == pytest.approx(2 / 3)
    assert scores["part/navigate/answer"]["value"] == 0.5
    assert scores["part/web_of_lies/answer"]["value"] == 1 and "text_accuracy" not in scores
    assert "| mean of the parts | 75.0 %" in (tmp_path / "out/report.md").read_text()
