import json

import numpy as np
import pytest
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest
from fo_core.io import audio


def run(*args):
    return CliRunner().invoke(app, ["prepare-data", *map(str, args)])


@pytest.fixture
def table(tmp_path):
    """A table of three sounds, the last of which is missing."""
    for i in range(2):
        wave = 0.1 * np.random.default_rng(i).standard_normal(8000)
        audio.write(tmp_path / f"{i}.wav", wave, 16000)
    path = tmp_path / "t.csv"
    path.write_text("file,text\n0.wav,the first one\n1.wav,the second\n2.wav,the third\n")
    return path


def moss(path):
    turns = [{"human": "Tell me a story"}, {"human": "```x = 1```"}]
    rows = [{"conversation": [{"human": f"Hello number {i}"}, *turns]} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "oops\n")
    return path


def test_sample_from_a_file_with_a_table_of_its_filters(tmp_path):
    args = ["sample", moss(tmp_path / "a.jsonl"), "--out", tmp_path / "d", "--number", "3"]
    found = run(*args)
    assert found.exit_code == 0, found.output
    line = next(line for line in found.stdout.splitlines() if line.startswith("code"))
    assert line.split() == ["code", "5", "5", "0"]
    rows = (tmp_path / "d" / "sample" / "manifest.jsonl").read_text().splitlines()
    assert len(rows) == 3 and all(len(json.loads(row)["turns"]) == 2 for row in rows)
    assert "not JSON" in (tmp_path / "d" / "sample" / "rejects.jsonl").read_text()
    every = ["--no-filter", "all", "--json"]
    off = run("sample", tmp_path / "a.jsonl", "--out", tmp_path / "e", *every)
    assert json.loads(off.stdout)["steps"]["sample"]["turns"] == 15


def test_no_dialogues_are_not_all_dialogues(tmp_path):
    """--number 0 was once as if it had not been given."""
    found = run("sample", moss(tmp_path / "a.jsonl"), "--out", tmp_path / "d", "--number", 0)
    assert found.exit_code == 2 and not (tmp_path / "d").exists()


def test_import_validate_shard_and_validate_again(tmp_path, table):
    out = tmp_path / "m"
    found = run("import", "table", table, "--out", out, "--set", "audio=file", "--num-workers", 1)
    assert found.exit_code == 0, found.output
    assert "all" in found.stdout and "no sound file" in found.stderr
    made = out / "all.jsonl"
    good = run("validate", made, "--json", "--num-workers", 1)
    assert good.exit_code == 0 and json.loads(good.stdout)["ok"] is True
    shards = run("shard", made, "--out", tmp_path / "s", "--shard-size", 1, "--num-workers", 1)
    assert shards.exit_code == 0 and "in 2 shards" in shards.stdout
    again = run("validate", tmp_path / "s", "--json", "--num-workers", 1)
    assert json.loads(again.stdout)["items"] == 2
    assert len(manifest.read(tmp_path / "s")) == 2


def test_validate_ends_with_1_and_writes_a_cleaned_copy(tmp_path, table):
    run("import", "table", table, "--out", tmp_path, "--set", "audio=file", "--num-workers", 1)
    (tmp_path / "1.wav").unlink()
    args = ["validate", tmp_path / "all.jsonl", "--num-workers", 1]
    found = run(*args, "--fix", tmp_path / "good.jsonl", "--rejects", tmp_path / "r.jsonl")
    assert found.exit_code == 1
    assert "missing" in found.stdout and "1 with errors" in found.stdout
    assert "Traceback" not in found.output
    assert json.loads((tmp_path / "r.jsonl").read_text())["check"] == "missing"
    assert run("validate", tmp_path / "good.jsonl", "--num-workers", 1).exit_code == 0
    assert run(*args, "--ignore", "missing").exit_code == 0
    leak = run(*args, "--ignore", "missing", "--against", tmp_path / "good.jsonl")
    assert leak.exit_code == 1 and "leak-audio" in leak.stdout


def test_corpora_are_listed():
    found = run("import", "list")
    assert found.exit_code == 0
    for name in ("librispeech", "aishell", "wenetspeech", "kaldi", "table", "folder"):
        assert name in found.stdout
    assert "librispeech" in json.loads(run("import", "list", "--json").stdout)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["sample", "no.zip", "--out", "d"], "no file or folder no.zip"),
        (["sample", "a.jsonl", "--out", "d", "--no-filter", "cod"], "did you mean 'code'"),
        (["sample", "a.jsonl", "--out", "d", "--language", "english"], "possible: language en;"),
        (["sample", "a.jsonl", "--out", "d", "--category", "x"], "possible: category (none);"),
        (["import", "librispeach", "x", "--out", "d"], "did you mean 'librispeech'"),
        (["import", "table", "--out", "d"], "needs a folder to read"),
        (["import", "table", "t.csv"], "needs --out"),
        (["import", "table", "t.csv", "--out", "d", "--set", "txt=a"], "did you mean 'text'"),
        (["import", "table", "t.csv", "--out", "d"], "no column 'audio'"),
        (["validate", "none.jsonl"], "no manifest none.jsonl"),
        (["validate", "t.csv", "--fix", "t.csv"], "cleaned copy t.csv: that is what is read"),
        (["validate", "t.csv", "--fix", "a", "--rejects", "a"], "--fix and --rejects are both a"),
        (["validate", "t.csv", "--ignore", "silense"], "did you mean 'silence'"),
        (["shard", "none.jsonl", "--out", "d"], "does not exist"),
        (["shard", "t.csv", "--out", "d", "--num-workers", "1"], "none of 4 items"),
    ],
)
def test_faults_are_one_line(args, said, tmp_path, table, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moss(tmp_path / "a.jsonl")
    found = run(*args)
    assert found.exit_code == 1, found.output
    assert said in found.stderr and found.stderr.count("error:") == 1
    assert "Traceback" not in found.output
