import json
import shutil

from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.models.freeze_omni import PARTS
from fo_core.models.llm.tiny import write_tiny, write_tokenizer
from fo_core.shipped import DEFAULT, model_folder

run = CliRunner().invoke


def test_list_finds_models_and_nothing_else(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "runs" / "a" / "model")
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "config.json").write_text('{"hidden_size": 1}')
    found = run(app, ["models", "list", str(tmp_path / "runs"), "--json"])
    assert [m["folder"] for m in json.loads(found.stdout)] == [str(tmp_path / "runs/a/model")]
    assert run(app, ["models", "list", str(tmp_path / "no")]).exit_code == 1


def test_list_goes_on_behind_a_damaged_model_and_without_runs(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(app, ["models", "list"])
    assert found.exit_code == 0 and "fo-smol ships with the package" in found.stderr
    for name in ("a", "b"):
        shutil.copytree(tiny_model, tmp_path / "runs" / name)
    (tmp_path / "runs" / "a" / "adapter.safetensors").write_bytes(b"half")
    found = run(app, ["models", "list", "--json"])
    assert [m["folder"] for m in json.loads(found.stdout)] == ["runs/b"]
    assert "left out: runs/a/adapter.safetensors is not a whole" in found.stderr


def test_info_says_types_sizes_and_what_is_trained(tiny_model, tmp_path):
    model = tmp_path / "half"
    shutil.copytree(tiny_model, model)
    (model / "codec.safetensors").unlink()
    found = json.loads(run(app, ["models", "info", str(model), "--json"]).stdout)
    assert set(found["parts"]) == set(PARTS)
    assert found["parts"]["codec"] == {"type": "istft", "trained": False}
    assert found["parts"]["adapter"]["type"] == "conv" and found["parts"]["adapter"]["values"] > 0
    assert list(found["kernels"]) == ["same", "fp16", "bf16", "int8"]
    people = run(app, ["models", "info", str(model)]).stdout
    assert "speech_encoder" in people and "frozen LLM: tiny" in people
    assert f"same: {found['kernels']['same']}; fp16: {found['kernels']['fp16']}" in people


def test_a_damaged_file_is_one_line(tiny_model, tmp_path):
    model = tmp_path / "damaged"
    shutil.copytree(tiny_model, model)
    path = model / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    found = run(app, ["models", "info", str(model)])
    assert found.exit_code == 1 and str(path) in found.stderr


def test_import_and_export_refuse_what_they_cannot_use(tiny_model, tmp_path):
    args = ["models", "import-official", str(tmp_path), "--llm", str(tmp_path)]
    found = run(app, [*args, "--out", str(tmp_path / "out")])
    assert found.exit_code == 1 and found.stderr.count("\n") == 1, found.exception
    found = run(app, ["models", "export", str(tiny_model), "--out", str(tmp_path / "out")])
    assert found.exit_code == 1 and "was not imported" in found.stderr
    assert not (tmp_path / "out").exists()


def test_check_llm_says_how_it_runs_and_what_it_can_do(tmp_path):
    found = run(app, ["models", "check-llm", "tiny", "--json"])
    said = json.loads(found.stdout)
    assert found.exit_code == 0 and said["usable"] and said["path"] == "own layers"
    assert said["verdicts"] == dict.fromkeys(("talks", "trains", "batches", "rolls back"), "yes")
    assert said["context"] == 4096 and said["end_tokens"] == ["<|im_end|>"] and said["tied"]
    people = run(app, ["models", "check-llm", "tiny"]).stdout
    assert "own layers (family llama)" in people and "rolls back    yes" in people


def test_check_llm_without_a_template_does_not_talk(tmp_path):
    folder = write_tiny(tmp_path / "m")
    write_tokenizer(folder, None)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    found = run(app, ["models", "check-llm", str(folder), "--json"])
    said = json.loads(found.stdout)["verdicts"]
    assert found.exit_code == 1 and "no chat template" in said["talks"] and said["trains"] == "yes"
    assert run(app, ["models", "check-llm", str(tmp_path / "none")]).exit_code == 1


def test_a_language_model_of_what_is_no_text_is_one_line(tmp_path):
    found = run(app, ["models", "language-model", "fo-smol", str(tmp_path)])
    assert found.exit_code == 1 and "fo-smol ships with the package and stays" in found.stderr
    model = shutil.copytree(model_folder(DEFAULT), tmp_path / "mine")
    texts = tmp_path / "texts.txt"
    texts.write_bytes(b"hello \xff world")
    found = run(app, ["models", "language-model", str(model), str(texts)])
    assert found.exit_code == 1 and "texts.txt is not text in UTF-8" in found.stderr
    assert found.stderr.count("\n") == 1
