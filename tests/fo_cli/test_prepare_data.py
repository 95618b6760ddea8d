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


MOSS = '{"conversation_id": "1", "conversation": [{"human": "How are you today?"}]}\n'


def test_the_folder_remembers_its_source(tmp_path):
    (tmp_path / "moss.jsonl").write_text(MOSS)
    out = ["--out", str(tmp_path / "d")]
    found = run(app, ["prepare-data", "sample", str(tmp_path / "moss.jsonl"), *out])
    assert found.exit_code == 0, found.stderr
    assert (tmp_path / "d" / "sample" / "manifest.jsonl").is_file()
    found = run(app, ["prepare-data", "synthesize", *out])
    assert found.exit_code == 1 and "run regenerate before synthesize" in found.stderr
    found = run(app, ["prepare-data", "report", *out])
    assert found.exit_code == 0 and (tmp_path / "d" / "report.html").is_file()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["all", "--config", "moss-smoll"], "did you mean 'moss-smol'"),
        (["all", "--config", "moss-smol"], "sample has no input"),
        (["all", "--set", "source=mos"], "unknown source 'mos'"),
        (["all", "--limit", "3"], "--limit and --engine are of the source moss"),
        (["all", "--engine", "ray"], "--limit and --engine are of the source moss"),
        (["synthesize", "--set", "source=moss", "--user-voice", "slt"], "ENGINE/VOICE"),
        (
            ["regenerate", "--set", "source=moss", "--set", "regenerate.llms=x"],
            "did you mean 'llm'",
        ),
        (["regenerate", "--set", "source=moss", "--set", "run.engine=slurm"], "run.engine"),
        (["encode", "--set", "source=moss", "--input", "/no/such.jsonl"], "--model"),
        (["encode", "--set", "source=moss", "--input", "/x.jsonl", "--model", "/x"], "no trained"),
        (["label-states", "--set", "source=moss", "--input", "/no/such.jsonl"], "no manifest"),
        (["report"], "does not exist"),
        (["synthesize", "--input", "/no/such.jsonl"], "no manifest /no/such.jsonl"),
    ],
)
def test_faults_of_the_moss_source_are_one_line(args, line, tmp_path):
    found = run(app, ["prepare-data", *args, "--out", str(tmp_path / "d")])
    assert found.exit_code == 1, found.output
    assert line in found.stderr and found.stderr.count("error:") == 1
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    "step", ["all", "sample", "regenerate", "synthesize", "label-states", "encode", "report"]
)
def test_every_step_has_help_of_its_own(step):
    found = run(app, ["prepare-data", step, "--help"])
    assert found.exit_code == 0 and "--out" in found.stdout
