import json
import shutil

import pytest
from typer.testing import CliRunner

from data_prep.chain import ChainConfig
from fo_cli.main import app
from fo_cli.prepare import main as prepare_data
from fo_cli.prepare import sets as prepare_sets
from fo_cli.prepare import speech as prepare_speech
from fo_cli.prepare.options import chain_config
from fo_core.config import load
from fo_core.errors import FoError
from fo_core.models.llm import wheels

run = CliRunner().invoke
flite = pytest.mark.skipif(shutil.which("flite") is None, reason="no flite here")


def test_the_demos_domain_is_sampled_and_found_done_again(tmp_path):
    args = ["prepare-data", "sample", "--out", str(tmp_path / "d"), "--json"]
    args += ["--set", "domain.recordings=30", "--set", "domain.val=5"]
    first = run(app, args)
    assert first.exit_code == 0, first.stderr
    made = tmp_path / "d" / "sample" / "manifest.jsonl"
    rows = [json.loads(line) for line in made.open()]
    assert sum(row["extra"]["split"] == "train" for row in rows) == 30
    before, journal = made.read_bytes(), (tmp_path / "d" / "sample" / "journal.jsonl").read_bytes()
    assert run(app, args).exit_code == 0
    assert made.read_bytes() == before
    assert (tmp_path / "d" / "sample" / "journal.jsonl").read_bytes() == journal


@pytest.mark.parametrize(
    ("args", "source"),
    [(["all"], "domain"), (["sample"], "domain"), (["regenerate"], "moss"), (["encode"], "moss"),
     (["synthesize"], "moss"), (["label-states"], "moss"),
     (["speak", "texts.txt", "--voice", "flite/slt"], "texts")],
)  # fmt: skip
def test_what_is_not_said_on_a_second_run_stays_as_it_was(args, source, tmp_path, monkeypatch):
    """`speak` without --seed, --val and --language once put its defaults over settings.json."""
    begun = {
        "source": source, "texts": {"input": ["texts.txt"], "language": "zh", "text": "said"},
        "synthesize": {"seed": 3, "judge": {"engine": "pocketsphinx"},
                       "readers": [{"engine": "flite", "voice": "slt", "language": "zh"}]},
        "label_states": {"val": 0.3, "seed": 4}, "sample": {"number": 7, "seed": 5, "tools": True},
        "regenerate": {"batch_size": 9}, "encode": {"model": "codec"},
        "run": {"workers": 3, "engine": "ray"},
    }  # fmt: skip
    (tmp_path / "settings.json").write_text(json.dumps(begun))
    ran = []

    def note(out, cfg, *rest):
        ran.append(cfg)
        raise FoError("far enough")

    for module in (prepare_data, prepare_sets, prepare_speech):
        monkeypatch.setattr(module, "run_steps", note)
    assert "far enough" in run(app, ["prepare-data", *args, "--out", str(tmp_path)]).stderr
    assert ran == [load(ChainConfig, begun)]


def test_set_wins_over_options_and_their_defaults():
    """`speak --set synthesize.seed=3` must not be undone by the default of --seed."""
    options = {"synthesize.seed": 0, "run.limit": 5, "texts.text": None}
    cfg = chain_config({"source": "texts", "run": {"limit": 9}}, ["synthesize.seed=3"], options)
    assert (cfg.synthesize.seed, cfg.run.limit, cfg.source) == (3, 5, "texts")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["sample", "--set", "domain.recording=4"], "did you mean 'recordings'"),
        (["sample", "--set", "seed"], "has no value"),
        (["sample", "--config", "/no/such.yaml"], "/no/such.yaml"),
        (["synthesize"], "run regenerate before synthesize"),
        (["encode"], "--model"),
        (["encode", "--model", "/no/such"], "no trained codec"),
        (["all", "--config", "moss-smoll"], "did you mean 'moss-smol'"),
        (["all", "--config", "moss-smol"], "sample has no input"),
        (["all", "--set", "source=mos"], "source"),
        (["all", "/x.txt", "--source", "domain"], "source domain takes no files"),
        (["all", "--source", "questions"], "source questions has no input"),
        (["regenerate", "--set", "source=texts"], "source texts has no step regenerate"),
        (["synthesize", "--user-voice", "slt"], "ENGINE/VOICE"),
        (["regenerate", "--set", "regenerate.llms=x"], "did you mean 'llm'"),
        (["regenerate", "--set", "run.engine=slurm"], "run.engine"),
        (["encode", "--input", "/no/such.jsonl"], "--model"),
        (["encode", "--input", "/x.jsonl", "--model", "/x"], "no trained"),
        (["label-states", "--input", "/no/such.jsonl"], "no manifest"),
        (["report"], "does not exist"),
        (["synthesize", "--input", "/no/such.jsonl"], "no manifest /no/such.jsonl"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(args, line, tmp_path):
    found = run(app, ["prepare-data", *args, "--out", str(tmp_path / "d")])
    assert found.exit_code == 1, found.output
    assert line in found.stderr and found.stderr.count("error:") == 1
    assert "Traceback" not in found.output
    assert not [p for p in tmp_path.rglob("*.jsonl") if p.name != "journal.jsonl"]


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
    assert json.loads((tmp_path / "d" / "settings.json").read_text())["source"] == "moss"
    found = run(app, ["prepare-data", "synthesize", *out])
    assert found.exit_code == 1 and "run regenerate before synthesize" in found.stderr
    found = run(app, ["prepare-data", "report", *out])
    assert found.exit_code == 0 and (tmp_path / "d" / "report.html").is_file()


def test_files_are_read_as_the_source_that_the_config_names(tmp_path):
    """They were taken for moss-003 unless --source said the same again."""
    (tmp_path / "asked.txt").write_text("How are you today?\nWho wrote it?\n")
    (tmp_path / "own.yaml").write_text("source: questions\n")
    out = ["--config", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "d")]
    found = run(app, ["prepare-data", "sample", str(tmp_path / "asked.txt"), *out])
    assert found.exit_code == 0, found.stderr
    assert json.loads((tmp_path / "d" / "settings.json").read_text())["source"] == "questions"
    assert len((tmp_path / "d" / "sample" / "manifest.jsonl").read_text().splitlines()) == 2


@flite
def test_without_a_command_it_prints_a_plan_makes_the_domain_and_names_the_next_command(
    tmp_path, monkeypatch
):
    """It was once an error of usage; now it is what a newcomer types first."""
    monkeypatch.chdir(tmp_path)
    read = prepare_data.read_config
    few = {"recordings": 6, "val": 3, "max_a": 2, "max_b": 2, "categories": ["capital"]}
    llm = {"engine": "transformers", "llm": "embedded", "max_new_tokens": 24, "batch_size": 16}

    def small(config, out):
        found = read(config, out)
        shots = found["regenerate"]["shots"]
        found |= {"domain": few, "run": {"workers": 1}}  # in this process
        found["regenerate"] = {**llm, "shots": shots, "system": found["regenerate"]["system"]}
        return found

    if not wheels.at_hand("embedded"):
        pytest.skip("no embedded LLM here")
    monkeypatch.setattr(prepare_data, "read_config", small)
    found = run(app, ["prepare-data"])
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0].split()[:2] == ["step", "makes"] and "6 questions" in lines[1]
    assert any("label-states" in line and "data/user" in line for line in lines[:6])
    assert lines[-1] == "next: fo train --stage input-1"
    assert (tmp_path / "data" / "report.html").is_file()
    for side in ("user", "assistant", "aligned"):  # where every stage finds its data
        assert (tmp_path / "data" / side / "train.jsonl").is_file(), side
    for split in ("train", "val", "heldout_a", "heldout_b"):
        assert (tmp_path / "data" / "user" / f"{split}.jsonl").is_file(), split


@pytest.mark.parametrize(
    "step",
    ["all", "sample", "regenerate", "synthesize", "label-states", "encode", "report", "speak",
     "split", "import"],
)  # fmt: skip
def test_every_step_has_help_of_its_own(step):
    found = run(app, ["prepare-data", step, "--help"])
    assert found.exit_code == 0 and "--out" in found.stdout
