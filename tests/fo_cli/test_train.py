"""Stages by command, on the tiny model: what is written, what is found done, what is refused."""

import json

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest
from fo_core.errors import FoError

run = CliRunner().invoke


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    items = []
    for number, text in enumerate(("red", "blue", "green", "blue red")):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(16000), 16000)
        items.append(manifest.describe(path, id=str(number), text=text, role="user"))
    manifest.write(tmp_path / "train.jsonl", items)
    manifest.write(tmp_path / "val.jsonl", items[:2])
    return tmp_path


def args(data, *more, stage="input-1", model="tiny"):
    given = ["train", "--stage", stage, "--model", str(model), "--recipe", "tiny"]
    given += ["--train", str(data / "train.jsonl"), "--valid", str(data / "val.jsonl")]
    return [*given, "--out", str(data / "run"), "--device", "cpu", *more]


SHORT = ("--set", "train.max_steps=2", "--json")


def test_dry_run_says_what_it_would_train_and_writes_nothing(data):
    found = run(app, args(data, "--dry-run", "--json"))
    assert found.exit_code == 0, found.stderr
    counts = json.loads(found.stdout)
    assert counts["trainable_parameters"] > 0 and counts["frozen_parameters"] > 0
    assert "speech_encoder" in found.stderr
    assert not (data / "run").exists()


def test_a_stage_leaves_a_model_folder_and_is_found_done(data):
    first = json.loads(run(app, args(data, *SHORT)).stdout)
    model = data / "run" / "model"
    assert {p.name for p in model.glob("*.safetensors")} == {
        "speech_encoder.safetensors",
        "ctc_head.safetensors",
    }
    config = json.loads((model / "config.json").read_text())
    assert config["llm"]["fingerprint"].startswith("sha256:")
    weights = (model / "speech_encoder.safetensors").read_bytes()
    again = json.loads(run(app, args(data, *SHORT)).stdout)
    assert again == first
    assert (model / "speech_encoder.safetensors").read_bytes() == weights
    # the next stage starts from it
    more = args(data, *SHORT, stage="input-2", model=model)
    more[more.index(str(data / "run"))] = str(data / "run2")
    second = run(app, more)
    assert second.exit_code == 0, second.stderr
    assert (data / "run2" / "model" / "adapter.safetensors").is_file()
    assert (data / "run2" / "model" / "ctc_head.safetensors").is_file()


def test_a_new_ctc_head_gets_the_tokens_of_the_transcripts(data):
    size = data / "mine.yaml"
    size.write_text(
        "llm: {spec: tiny, dtype: float32}\n"
        "speech_encoder: {type: paper, dim: 16, heads: 2, ffn: 16, layers: 1}\n"
        "speech_decoder: {dim: 32, codes: 16, heads: 2, ffn: 16, layers: 2}\n"
        "codec: {type: istft, encoder_dim: 8, token_dim: 8, frame_dim: 8,"
        " quantizer: {dim: 8, codes: 16}}\n"
    )
    found = run(app, args(data, *SHORT, model=size))
    assert found.exit_code == 0, found.stderr
    config = json.loads((data / "run" / "model" / "config.json").read_text())
    assert len(config["ctc"]["tokens"]) == len(set("redbluegreen "))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("--stage", "input-4"), "possible: input-1"),
        (("--recipe", "large"), "paper, smol, smol-open, tiny"),
        (("--model", "tin"), "did you mean 'tiny'"),
        (("--set", "train.max_step=3"), "did you mean 'max_steps'"),
        (("--train", "/no/train.jsonl"), "/no/train.jsonl does not exist"),
        (("--out", "/proc/no/run"), "/proc/no"),
        (("--stage", "input-3"), "starts from a trained"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(change, line, data):
    given = args(data)
    if change[0] in given:
        given[given.index(change[0]) + 1] = change[1]
    else:
        given += change
    found = run(app, given)
    assert found.exit_code == 1, found.exception
    assert line in found.stderr and found.stderr.count("error:") == 1
    assert not (data / "run" / "model").exists()


def test_an_option_that_is_not_given_leaves_yaml_and_set_alone(data, monkeypatch):
    from fo_core.training import recipes

    read, found = recipes.recipe, []

    def spy(*given):
        found.append(read(*given).train.device)
        raise FoError("enough")

    monkeypatch.setattr(recipes, "recipe", spy)
    mine = data / "mine.yaml"
    mine.write_text("train: {device: cuda}\n")
    plain = [word for word in args(data) if word not in ("--device", "cpu")]  # the recipe's is cpu
    for more in ([], ["--config", str(mine)], ["--set", "train.device=cuda"], ["--device", "auto"]):
        assert "enough" in run(app, [*plain, *more]).stderr
    assert found == ["cpu", "cuda", "cuda", "auto"]


def test_a_dry_run_can_measure(data):
    found = run(app, args(data, "--dry-run", "--measure", "--json"))
    assert found.exit_code == 0, found.stderr
    plan = json.loads(found.stdout)
    assert plan["measured"]["seconds_a_step"] > 0 and plan["step"]["audio_seconds"] == 4.0
    assert "memory of a process" in found.stderr and "measured:" in found.stderr
    refused = run(app, args(data, "--measure"))
    assert refused.exit_code == 1 and "--measure is for --dry-run" in refused.stderr
    assert not (data / "run").exists()


def test_changed_settings_need_force_and_the_card_tells_the_story(data, caplog):
    assert run(app, args(data, *SHORT)).exit_code == 0
    changed = args(data, "--set", "train.max_steps=3", "--set", "stage.chunks=fixed", "--json")
    refused = run(app, changed)
    assert refused.exit_code == 1 and "options.chunks was 'dynamic', now 'fixed'" in refused.stderr
    assert run(app, [*changed, "--force"]).exit_code == 0
    model = data / "run" / "model"
    more = args(data, *SHORT, "--llm", "tiny", stage="input-2", model=model)
    more[more.index(str(data / "run"))] = str(data / "run2")
    second = run(app, more)
    assert second.exit_code == 0, second.stderr
    assert "kept speech_encoder; to be trained again: input-1 (its CTC head" in caplog.text
    card = (data / "run" / "model" / "README.md").read_text()
    assert "## input-1" in card and "| wer | " in card and "Frozen weights unchanged" in card
    after = (data / "run2" / "model" / "README.md").read_text()
    assert "## input-1" in after and "## input-2" in after
    assert not (data / "run2" / "model" / "ctc_head.safetensors").exists()
