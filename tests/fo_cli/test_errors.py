"""Every error a user can fix is one line on stderr; a fault of ours keeps its traceback."""

import errno
import json
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from fo_cli.errors import PoliteGroup
from fo_core.errors import FoError


def run(error, name="group"):
    app = typer.Typer(cls=PoliteGroup)
    group = typer.Typer()

    @group.command()
    def fail():
        typer.echo("before")
        raise error

    @group.command()
    def other():
        pass

    app.add_typer(group, name=name)
    return CliRunner().invoke(app, [name, "fail"])


def test_our_errors_are_one_line_and_status_one():
    found = run(FoError("no file\nq.wav", possible="a WAV", do="check the path"))
    assert found.exit_code == 1
    assert found.stdout == "before\n"
    assert found.stderr == "error: no file q.wav; possible: a WAV; do: check the path\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x: Read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (ModuleNotFoundError("No module named 'flask'", name="flask"), "'flask' is not installed"),
    ],
)
def test_errors_of_paths_and_packages_are_one_line(error, line):
    found = run(error)
    assert found.exit_code == 1
    assert line in found.stderr and found.stderr.count("\n") == 1
    assert "Traceback" not in found.stderr


def test_ctrl_c_is_130_and_says_how_to_go_on():
    found = run(KeyboardInterrupt())
    assert found.exit_code == 130
    assert found.stderr == "stopped; run the same command again to go on\n"


def test_ctrl_c_of_a_talk_leaves_nothing_to_go_on_with():
    found = run(KeyboardInterrupt(), "chat")
    assert found.exit_code == 130
    assert found.stderr == "stopped\n"


@pytest.mark.parametrize(
    "error",
    [ValueError("ours"), ModuleNotFoundError("No module named 'fo_core.x'", name="fo_core.x")],
)
def test_a_fault_of_ours_is_not_hidden(error):
    assert run(error).exception is error


SCRIPT = """
import typer
from fo_cli import render
from fo_cli.errors import PoliteGroup
from fo_core.errors import FoError

app = typer.Typer(cls=PoliteGroup)

@app.command()
def speak():
    render.result("天气 – café 😀")
    render.note("注")
    render.as_json({"text": "天气 😀"})
    raise FoError("没有文件")

@app.callback()
def top():
    pass

app()
"""


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "latin-1"])
def test_d12_a_console_of_few_characters_takes_every_text(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "speak"], env=environment, capture_output=True, timeout=60
    )
    said, noted = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert done.returncode == 1 and "Traceback" not in noted
    assert noted.splitlines() == ["\\u6ce8", "error: \\u6ca1\\u6709\\u6587\\u4ef6"]
    assert "\\u5929\\u6c14" in said.splitlines()[0]
    assert json.loads(said.partition("\n")[2]) == {"text": "天气 😀"}
