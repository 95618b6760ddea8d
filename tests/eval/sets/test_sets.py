"""One contract over every evaluation set, and each format it is published in."""

import json
import sys
import types

import numpy as np
import pytest
import soundfile

from eval import sets
from eval.metrics.rules import RULES
from eval.sets import Question, aishell_1, librispeech, llama_questions, trivia_qa, web_questions
from eval.source import locate
from fo_core.errors import DataError, EngineError


def rules_of(known):
    found = getattr(known, "SUBSETS", {}).values()
    return [one if isinstance(one, str) else one[0] for one in found]


@pytest.mark.parametrize("name", sets.SETS.names())
def test_every_set_keeps_the_contract(name):
    known = sets.SETS.load(name)
    assert known.KIND in ("questions", "speech", "duplex")
    assert known.TITLE and known.LANGUAGE and known.__doc__ and known.read.__doc__
    if known.KIND == "questions":
        assert known.PATTERNS and isinstance(known.COLUMN, str)
        assert all(rule in RULES for rule in rules_of(known))
        if hasattr(known, "export"):
            assert known.export.__doc__ and known.SUBSETS
    elif known.KIND == "speech":
        assert known.COLUMNS and known.present.__doc__
    assert known is sets.load(name, known.KIND)


def test_a_new_set_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "my_set.py").write_text('KIND = "questions"\nTITLE = "Mine"\n')
    monkeypatch.setattr(sets, "__path__", [*sets.__path__, str(tmp_path)])
    monkeypatch.setattr(sets.__spec__, "submodule_search_locations", sets.__path__)
    try:
        assert "my-set" in sets.names("questions") and "my-set" not in sets.names("speech")
        assert sets.load("my-set", "questions").TITLE == "Mine"
    finally:
        sys.modules.pop("eval.sets.my_set", None)


def test_an_unknown_set_names_the_near_one():
    with pytest.raises(EngineError, match="did you mean 'librispeech'"):
        sets.load("libri-speech", "speech")
    with pytest.raises(EngineError, match="unknown set of questions 'librispeech'"):
        sets.load("librispeech", "questions")


def test_llama_questions_with_stray_blanks_and_recordings(tmp_path):
    file = tmp_path / "llama_questions_300.tsv"
    file.write_text(
        "Questions\tAnswer\tWav Filename\r\nWhat is it? \t A cat\t1.wav\r\nWho?\tMe\t2.wav\r\n"
    )
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav/1.wav").touch()
    found = llama_questions.read(locate(str(tmp_path), llama_questions.PATTERNS))
    sound = str(tmp_path / "wav/1.wav")
    assert found == [
        Question("llama-001", "What is it?", ("A cat",), sound),
        Question("llama-002", "Who?", ("Me",), ""),
    ]


def test_web_questions_in_its_three_forms(tmp_path):
    rows = [
        {"qId": "q7", "qText": "what is it?", "answers": ["A", "B", "A"]},
        {"utterance": "who?", "targetValue": '(list (description "A b") (description C))'},
        {"url": "u", "question": "where?", "answers": ["X"]},
    ]
    file = tmp_path / "test.json"
    file.write_text(json.dumps(rows))
    found = web_questions.read(file)
    assert [one.answers for one in found] == [("A", "B"), ("A b", "C"), ("X",)]
    assert [one.id for one in found] == ["q7", "webq-0002", "webq-0003"]


def test_trivia_qa_in_its_forms(tmp_path):
    flat, nested = tmp_path / "test.jsonl", tmp_path / "verified-web-dev.json"
    quoted = '"Who said ""no""?"'
    flat.write_text(json.dumps({"id": "t1", "question": quoted, "golden_answers": ["X", "Y"]}))
    answer = {"Value": "X", "Aliases": ["Y", "X"], "NormalizedAliases": ["y"]}
    nested.write_text(
        json.dumps({"Data": [{"Question": "Q?", "QuestionId": "tc_1", "Answer": answer}]})
    )
    assert trivia_qa.read(flat) == [Question("t1", 'Who said "no"?', ("X", "Y"))]
    assert trivia_qa.read(nested) == [Question("tc_1", "Q?", ("X", "Y", "y"))]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ('"Who wrote ""It""?"', 'Who wrote "It"?'),
        ('"Getting to Know You" is from which film?', '"Getting to Know You" is from which film?'),
        ('"A" and "B"', '"A" and "B"'),
        ('"One question?"', "One question?"),
    ],
)
def test_leftover_quotes(raw, clean):
    assert trivia_qa.unquoted(raw) == clean


def test_the_published_files(shared_dir):
    data = shared_dir / "data"
    found = {
        name: module.read(locate(str(data / folder), module.PATTERNS))
        for name, module, folder in (
            ("llama", llama_questions, "llama_questions"),
            ("web", web_questions, "web_questions"),
            ("trivia", trivia_qa, "trivia_qa"),
        )
    }
    assert {name: len(rows) for name, rows in found.items()} == {
        "llama": 300, "web": 2032, "trivia": 1000,
    }  # fmt: skip
    assert sum(bool(one.audio) for one in found["llama"]) == 60
    for rows in found.values():
        assert len({one.id for one in rows}) == len(rows)
        assert all(one.answers and one.text == one.text.strip() for one in rows)
    assert sum('""' in one.text for one in found["trivia"]) == 0


def sound(path, seconds=0.5, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(seconds * rate)), rate)


def test_librispeech_by_its_own_recipe(tmp_path):
    folder = tmp_path / "test-clean/1089/134686"
    sound(folder / "1089-134686-0000.flac")
    (folder / "1089-134686.trans.txt").write_text("1089-134686-0000 HE HOPED\n")
    assert librispeech.present(tmp_path) == ["test-clean"]
    (item,) = librispeech.read(tmp_path, "test-clean")
    assert (item.text, item.language, item.duration) == ("HE HOPED", "en", 0.5)
    with pytest.raises(DataError, match="not laid out as published"):
        librispeech.read(tmp_path / "none", "test-clean")


def test_aishell_1(tmp_path):
    root = tmp_path / "data_aishell"
    sound(root / "wav/test/S0764/BAC009S0764W0121.wav")
    sound(root / "wav/test/S0764/BAC009S0764W0999.wav")  # no transcript
    (root / "transcript").mkdir()
    (root / "transcript/aishell_transcript_v0.8.txt").write_text(
        "BAC009S0764W0121 甚至 出现 交易\n", encoding="utf-8"
    )
    assert aishell_1.present(tmp_path) == ["test"]
    (item,) = aishell_1.read(tmp_path, "test")
    assert (item.text, item.speaker, item.language) == ("甚至出现交易", "S0764", "zh")


def test_wenetspeech_by_its_own_recipe(tmp_path, monkeypatch):
    wenetspeech = sets.load("wenetspeech", "speech")
    sound(tmp_path / "audio/test_net/B0/x.wav", 2.0)
    recording = types.SimpleNamespace(
        id="X", sampling_rate=16000, num_samples=32000, num_channels=1,
        sources=[types.SimpleNamespace(source=str(tmp_path / "audio/test_net/B0/x.wav"))],
    )  # fmt: skip
    said = types.SimpleNamespace(
        id="X_S1", recording_id="X", start=0.5, duration=1.0, text="怎么样", speaker=None, channel=0
    )
    module = types.ModuleType("lhotse.recipes.wenet_speech")
    module.prepare_wenet_speech = lambda corpus, dataset_parts: {
        dataset_parts[0]: {"recordings": [recording], "supervisions": [said]}
    }
    monkeypatch.setitem(sys.modules, "lhotse.recipes.wenet_speech", module)
    assert wenetspeech.present(tmp_path) == ["TEST_NET"]
    (item,) = wenetspeech.read(tmp_path, "TEST_NET")
    assert (item.start, item.seconds, item.text) == (0.5, 1.0, "怎么样")
    assert len(item.load_audio(16000)) == 16000
