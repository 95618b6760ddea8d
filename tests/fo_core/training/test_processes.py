"""Several processes: the real launchers, the same numbers as one process with the same batches."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
from safetensors.torch import load_file
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest
from fo_core.errors import StageError
from fo_core.io.files import write_json
from fo_core.training import report
from fo_core.training.guard import check_resume_settings

BIN = Path(sys.executable).parent
SPEEDS = {"items_per_s", "audio_s_per_s", "data_share", "memory_gb", "seconds"}
CODEC = ("stage.gan_from=2", "stage.exchange_voices=true")
LAUNCHERS = {
    "torchrun": ["torchrun", "--standalone", "--nproc-per-node", "2"],
    "accelerate": ["accelerate", "launch", "--use_fsdp", "--num_processes", "2",
                   "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
                   "--main_process_port", "0"],
}  # fmt: skip


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    for name, (questions, answers) in zip(("train", "val"), data, strict=True):
        manifest.write(folder / f"{name}-input.jsonl", questions)
        manifest.write(folder / f"{name}-output.jsonl", answers)
    tiny_models.tiny_model().save(folder / "model", ("speech_encoder", "adapter", "speech_decoder"))
    return folder


def command(files, stage, out, *sets):
    side = stage.split("-")[0]
    given = ["train", "--stage", stage, "--model", str(files / "model"), "--recipe", "tiny"]
    given += ["--train", str(files / f"train-{side}.jsonl"), "--out", str(out)]
    given += ["--valid", str(files / f"val-{side}.jsonl"), "--device", "cpu", "--json"]
    sets = ("train.max_steps=5", "train.log_every=1", "train.curves=false", *sets)
    return given + [word for one in sets for word in ("--set", one)]


# `fo` several times in one process: a launch costs more than a tiny stage.
SEVERAL = """
import json, sys
from fo_cli.main import app
for given in json.loads(sys.argv[1]):
    app(given, standalone_mode=False)
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("launcher", "stages"),
    [
        (
            "torchrun",
            {
                "input-2": (),  # drawn chunks, a shared validation, unused parameters
                "output-1": CODEC,  # two objectives, codes that learn and are revived
            },
        ),
        ("accelerate", {"output-3": ()}),  # FSDP: the LLM's layers are split
    ],
    ids=["torchrun", "accelerate"],
)
def test_two_processes_have_the_curve_of_one(launcher, stages, files, tmp_path):
    given = [command(files, name, tmp_path / name / "two", *sets) for name, sets in stages.items()]
    (tmp_path / "several.py").write_text(SEVERAL)
    launch = [str(BIN / LAUNCHERS[launcher][0]), *LAUNCHERS[launcher][1:]]
    found = subprocess.run(
        [*launch, str(tmp_path / "several.py"), json.dumps(given)],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.count('"stage"') == len(stages)  # one process speaks
    for name, sets in stages.items():
        compare(files, name, tmp_path / name, launcher == "accelerate", sets)


def compare(files, stage, folder, sharded, sets):
    """The curve and the weights of two processes are those of one."""
    one = CliRunner().invoke(
        app,
        command(files, stage, folder / "one", "train.accumulate=2", "train.samples=0", *sets),
    )
    assert one.exit_code == 0, one.stderr
    both = [
        [json.loads(line) for line in (folder / n / "metrics.jsonl").read_text().splitlines()]
        for n in ("one", "two")
    ]
    record = json.loads((folder / "two" / "stage.json").read_text())
    assert record["processes"] == 2 and record["llm_sharded"] == sharded
    assert len(both[0]) == len(both[1]) >= 7
    for alone, shared in zip(*both, strict=True):
        assert set(alone) == set(shared)
        for key in set(alone) - SPEEDS:
            assert alone[key] == pytest.approx(shared[key], rel=1e-3, abs=1e-3), key
    for file in sorted((folder / "one" / "model").glob("*.safetensors")):
        theirs = load_file(folder / "two" / "model" / file.name)
        for name, value in load_file(file).items():
            assert float((value.float() - theirs[name].float()).abs().max()) < 1e-3, name


def test_another_number_of_processes_says_what_changes(tmp_path, caplog):
    def settings(batches):
        return {"train": {"batches_a_step": batches}}

    check_resume_settings(tmp_path, settings(4), {}, force=False, processes=2)
    with pytest.raises(StageError, match="batches_a_step was 4, now 2.*train.accumulate=4 keeps"):
        check_resume_settings(tmp_path, settings(2), {}, force=False, processes=1)
    with caplog.at_level(logging.WARNING):
        check_resume_settings(tmp_path, settings(4), {}, force=False, processes=1)
    assert "1 process(es) instead of 2" in caplog.text


def test_rejects_of_all_processes_are_listed(tmp_path):
    report.write_rejects(tmp_path, [{"a": "no file"}, {"b": "cut short"}])
    assert json.loads((tmp_path / "rejects.json").read_text()) == {
        "a": "no file",
        "b": "cut short",
    }


def test_a_run_started_before_settings_were_renamed_goes_on(tmp_path):
    old = {"optim": {"ctc": {"hold": {"a.*": 3}, "flat": 0.3, "final": 0.1}}}
    write_json(tmp_path / "run.json", {"settings": old, "processes": 1, "before": {"llm": {}}})
    now = {"ctc": {"freeze_steps": {"a.*": 3}, "plateau_ratio": 0.3, "min_lr_ratio": 0.1}}
    assert check_resume_settings(tmp_path, {"optim": now}, {}, force=False) == {"llm": {}}
