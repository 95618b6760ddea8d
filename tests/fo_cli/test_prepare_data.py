import json

import pytest
from typer.testing import CliRunner

from fo_cli.main import app

run = CliRunner().invoke


def test_sample_plans_and_is_found_done_again(tmp_path):
    args = ["prepare-data", "sample", "--out", str(tmp_path / "d"), "--json"]
    args += ["--set", "questions.recordings=30", "--set", "questions.val=5"]
    first = run(app, args)
    assert first.exit_code == 0, first.stderr
    counts = json.loads(first.stdout)["steps"]["sample"]
    assert counts["questions"]["train"] == 30
    written = (tmp_path / "d" / "plan.jsonl").stat().st_mtime_ns
    assert json.loads(run(app, args).stdout)["steps"]["sample"] == counts
    assert (tmp_path / "d" / "plan.jsonl").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["sample", "--set", "questions.recording=4"], "did you mean 'recordings'"),
        (["sample", "--set", "seed"], "has no value"),
        (["sample", "--config", "/no/such.yaml"], "/no/such.yaml"),
        (["synthesize"], "plan.jsonl"),
        (["encode"], "--model"),
        (["encode", "--model", "/no/such"], "run the steps before encode"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(args, line, tmp_path):
    found = run(app, ["prepare-data", *args, "--out", str(tmp_path / "d")])
    assert found.exit_code == 1, found.output
    assert line in found.stderr and found.stderr.count("error:") == 1
    assert "Traceback" not in found.output
    assert not list(tmp_path.rglob("*.jsonl"))


def test_an_unknown_step_is_a_usage_error(tmp_path):
    found = run(app, ["prepare-data", "sampel", "--out", str(tmp_path)])
    assert found.exit_code == 2
    assert "Did you mean" in found.stderr and "sample" in found.stderr


def test_a_place_below_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    found = run(app, ["prepare-data", "all", "--out", str(tmp_path / "file" / "d")])
    assert found.exit_code == 1
    assert "is not a folder" in found.stderr
