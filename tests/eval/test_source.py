import json

import pytest

from eval.source import first, locate, records, strings
from fo_core.errors import DataError, EngineError

ROWS = [{"question": 'Who said "no"?', "answers": ["a", "b"]}, {"question": "Q2", "answers": []}]


def test_one_table_in_every_format(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "Data": ROWS}))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for name in ("a.json", "a.jsonl", "b.json", "a.parquet"):
        assert records(tmp_path / name) == ROWS, name


def test_quotes_of_a_tsv_are_text_and_those_of_a_csv_are_not(tmp_path):
    (tmp_path / "a.tsv").write_text('question\tanswer\n"Hello" is what? \t x\n')
    (tmp_path / "a.csv").write_text('question,answer\n"Hello, is what?",x\n')
    assert records(tmp_path / "a.tsv") == [{"question": '"Hello" is what?', "answer": "x"}]
    assert records(tmp_path / "a.csv") == [{"question": "Hello, is what?", "answer": "x"}]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "{", "not readable json"),
        ("a.json", '{"a": 1}', "holds no list of rows"),
        ("a.jsonl", '{"a": 1}\nno\n', "not readable jsonl"),
        ("a.json", "[1, 2]", "holds no list of rows"),
    ],
)
def test_bad_files(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=says):
        records(tmp_path / name)


def test_places(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/test.json").write_text("[]")
    assert locate(str(tmp_path), ("*.tsv", "test.json")).name == "test.json"
    with pytest.raises(DataError, match="no file of this set.*\\*.tsv"):
        locate(str(tmp_path), ("*.tsv",))
    with pytest.raises(DataError, match="no file or folder ./nothing"):
        locate("./nothing", ("*.tsv",))
    with pytest.raises(DataError, match="cannot fetch the data set 'no-one/nothing-at-all'"):
        locate("no-one/nothing-at-all", ("*.tsv",))  # tests are offline


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(EngineError, match="pip install pyarrow"):
        records(tmp_path / "a.parquet")


def test_fields():
    assert first({"Answer": "", "answers": ["x"]}, ("answer", "answers")) == ["x"]
    assert first({}, ("a",)) is None
    assert strings(["a ", "b", "a", ""]) == ("a", "b") and strings(None) == ()
    assert strings("one") == ("one",)
