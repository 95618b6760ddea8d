import json

import tiny_models
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.models.freeze_omni import PARTS
from fo_core.models.llm.tiny import write_tiny

run = CliRunner().invoke
WORDS = {
    "ctc": {"vocabulary": "pieces", "tokens": (), "pieces": tuple("abcdefgh ")},
    "adapter": {"type": "words"},
}


def test_attach_says_what_is_left_out_and_the_model_writes_an_answer(tmp_path):
    tiny_models.tiny_model(**WORDS).save(tmp_path / "m", PARTS)
    llm, out = write_tiny(tmp_path / "llm", seed=7), tmp_path / "new"
    args = ["attach", str(llm), "--model", str(tmp_path / "m"), "--out", str(out)]
    found = run(app, args)
    assert found.exit_code == 0, found.output
    assert "state_head" in found.stdout and "a turn ends after silence" in found.stdout
    assert "fo train --stage input-3" in found.stdout and "it writes its answers" in found.stdout
    assert json.loads((out / "dialogue.json").read_text())["duplex"]["turn"]["detect"] == "server"
    assert "untrained" in (out / "README.md").read_text()
    sets = ["--set", "segmenter.max_tokens=6"]
    assert run(app, ["chat", "text", "hello", "--model", str(out), *sets]).exit_code == 0
    again = run(app, args)
    assert again.exit_code == 1 and "is not empty" in again.stderr


def test_attach_refuses_the_convolutional_adapter_in_one_line(tiny_model, tmp_path):
    args = ["attach", "tiny", "--model", str(tiny_model), "--out", str(tmp_path / "new")]
    found = run(app, args)
    assert found.exit_code == 1 and "convolutional adapter" in found.stderr
    assert found.stderr.count("\n") == 1 and not (tmp_path / "new").exists()
