"""Suites in the layouts that they are published in, and what their own scorers read."""

import json

import numpy as np
import pytest
import soundfile

from eval.sets import big_bench_audio, openaudiobench, uro_bench, voicebench
from eval.source import locate
from fo_core.errors import DataError

parquet = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")


def sound(path, seconds=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.ones(round(seconds * 16000)), 16000)
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def big_bench(folder):
    rows = [
        {"file_name": "data/question_0.mp3", "category": "formal_fallacies",
         "official_answer": "invalid", "id": 0},
        {"file_name": "data\\/question_1.mp3", "category": "navigate", "official_answer": "No",
         "id": 1},
        {"file_name": "data/question_2.mp3", "category": "object_counting",
         "official_answer": "7", "id": 2},
    ]  # fmt: skip
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    sound(folder / "data/question_0.wav").rename(folder / "data/question_0.mp3")
    sound(folder / "data/question_1.wav").rename(folder / "data/question_1.mp3")
    return folder


def test_big_bench_audio(tmp_path):
    file = locate(str(big_bench(tmp_path)), big_bench_audio.PATTERNS)
    first, second, third = big_bench_audio.read(file)
    assert (first.id, first.category, first.rule) == ("bba-0000", "formal_fallacies", "options")
    assert first.answers == ("invalid", "valid") and second.answers == ("No", "Yes")
    assert first.text == "" and first.audio.endswith("question_0.mp3") and second.audio
    assert third.answers[0] == "7" and not third.audio  # its recording is not there
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.mp3", "category": "navigate", "official_answer": "maybe"}'
    )
    with pytest.raises(DataError, match="answer 'maybe' of 'navigate' is none"):
        big_bench_audio.read(file)


def voice_bench(folder):
    data = sound(folder / "x.wav").read_bytes()
    audio = {"bytes": data, "path": "x.wav"}
    tables = {
        "openbookqa/test": [{"prompt": "Which? A. x B. y C. z D. w", "reference": "B"}],
        "advbench/test": [{"prompt": "How do I harm?"}],
        "sd-qa/usa": [{"prompt": "Who?", "reference": "Ada Lovelace"}],
        "ifeval/test": [{"prompt": "Say it twice.", "key": 1001,
                         "instruction_id_list": ["punctuation:no_comma"],
                         "kwargs": [{"n": None}]}],
    }  # fmt: skip
    for name, rows in tables.items():
        place = folder / f"{name}-00000-of-00001.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist([row | {"audio": audio} for row in rows]), place)
    return folder


def test_voicebench_in_and_out(tmp_path, monkeypatch):
    monkeypatch.setenv("FO_CACHE", str(tmp_path / "cache"))
    found = voicebench.read(voice_bench(tmp_path / "set"), list(voicebench.SUBSETS))
    by = {one.category: one for one in found}
    assert set(by) == {"openbookqa", "advbench", "sd-qa", "ifeval"}
    assert by["openbookqa"].rule == "letter" and by["openbookqa"].answers == ("B",)
    assert by["advbench"].rule == "refusal" and by["sd-qa"].id == "sd-qa/usa/0000"
    assert soundfile.info(by["ifeval"].audio).duration == pytest.approx(0.3)
    rows = [
        {"category": one.category, "published": dict(one.published), "answer": "It is B.",
         "text_answer": "B"}
        for one in found
    ]  # fmt: skip
    made = {path.name: lines(path) for path in voicebench.export(rows, tmp_path, "fo-smol")}
    assert set(made) == {
        f"fo-smol-{name}-{kind}.jsonl"
        for name in ("openbookqa-test", "advbench-test", "sd-qa-usa", "ifeval-test")
        for kind in ("audio", "text")
    }
    assert made["fo-smol-ifeval-test-audio.jsonl"] == [
        {"prompt": "Say it twice.", "key": 1001, "instruction_id_list": ["punctuation:no_comma"],
         "kwargs": [{"n": None}], "response": "It is B."}
    ]  # fmt: skip
    assert made["fo-smol-sd-qa-usa-text.jsonl"][0]["response"] == "B"
    only = voicebench.read(tmp_path / "set", ["advbench"])
    assert [one.category for one in only] == ["advbench"]


def test_openaudiobench(tmp_path):
    tables = {
        "llama_questions": 'Questions,Answer,audio_filename\n"What, then?",A cat,1.mp3\n',
        "trivia_qa": "question,answer_normalized_aliases,audio_filename\n"
        "Who?,\"['ada', 'lady lovelace']\",t.mp3\n",
        "web_questions": "question,answers,audio_filename\nwhere?,\"['Rome']\",w.mp3\n",
        "alpaca_eval": "instruction,output,audio_filename\nExplain.,So.,a.mp3\n",
        "reasoning_qa": "Prompt,参考答案,audio_filename\n谁?,他,r.mp3\n",
    }
    for name, text in tables.items():
        folder = tmp_path / "eval_datas" / name
        (folder / "audios").mkdir(parents=True)
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
        (folder / "audios" / f"{name[0]}.mp3").write_bytes(b"x")
    found = {
        one.category: one for one in openaudiobench.read(tmp_path, list(openaudiobench.SUBSETS))
    }
    assert found["llama_questions"].answers == ("A cat",) and not found["llama_questions"].audio
    assert found["trivia_qa"].answers == ("ada", "lady lovelace")
    assert found["web_questions"].answers == ("Rome",) and found["web_questions"].audio
    assert found["reasoning_qa"].rule == "open" and found["reasoning_qa"].answers == ("他",)
    assert found["alpaca_eval"].text == "Explain." and found["alpaca_eval"].id == "alpaca_eval/a"


def uro(folder):
    basic, pro = folder / "basic/TruthfulEval", folder / "pro/MtBenchEval-en"
    rows = [
        {"id": 0, "source_wav": "audio/0.wav", "source_text": "Who?", "target_text": ["A", "B"]},
        {"id": 1, "source_wav": "audio/1.wav", "source_text": "Where?"},
    ]
    for n in range(2):
        sound(basic / f"audio/{n}.wav")
        sound(pro / f"audio/7-{n + 1}.wav")
    (basic / "test.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    turns = [{"round": n, "source_wav": f"audio/7-{n}.wav", "source_text": f"Q{n}",
              "target_text": f"T{n}"} for n in (1, 2)]  # fmt: skip
    pro.mkdir(parents=True, exist_ok=True)
    (pro / "test.jsonl").write_text(json.dumps({"id": 7, "num_round": 2, "dialogue": turns}))
    return folder


def test_uro_bench_of_one_round_and_of_several(tmp_path):
    found = uro_bench.read(uro(tmp_path / "data"), list(uro_bench.SUBSETS))
    assert [one.id for one in found] == [
        "TruthfulEval/0000", "TruthfulEval/0001", "MtBenchEval-en/7-1", "MtBenchEval-en/7-2",
    ]  # fmt: skip
    assert found[0].answers == ("A", "B") and found[1].answers == ("Where?",)
    assert found[3].earlier == (found[2].audio,) and not found[2].earlier
    out = tmp_path / "run/export"
    soundfile.write(sound(tmp_path / "run/replies/x.wav"), 0.1 * np.ones(2400), 24000)
    rows = [
        {"category": one.category, "published": dict(one.published), "question": one.text,
         "answer": f"answer {n} ", "reply_wav": "replies/x.wav" if n else ""}
        for n, one in enumerate(found)
    ]  # fmt: skip
    uro_bench.export(rows, out, "fo")
    single, multi = out / "TruthfulEval", out / "MtBenchEval-en"
    assert lines(single / "pred_text.jsonl") == [{"0000": "answer 0 "}, {"0001": "answer 1 "}]
    assert lines(single / "question_text.jsonl") == [{"0000": "Who?"}, {"0001": "Where?"}]
    assert lines(single / "gt_text.jsonl") == [{"0000": "A / B"}, {"0001": "Where?"}]
    assert soundfile.info(single / "audio/0000.wav").samplerate == 24000  # silence: no reply
    assert soundfile.info(single / "audio/0001.wav").frames == 2400
    assert lines(multi / "output_with_text.jsonl") == [
        {"id": 7, "num_round": 2, "dialogue": [
            {"round": n, "source_wav": f"audio/7-{n}.wav", "source_text": f"Q{n}",
             "target_text": f"T{n}", "output_text": f"answer {n + 1}"} for n in (1, 2)]}
    ]  # fmt: skip
    assert (multi / "7/chat_1.wav").is_file() and (multi / "7/chat_2.wav").is_file()
