"""`fo serve` says what is wrong before it loads a model."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("fastapi")

from fo_cli.main import app


def error(*args: str) -> str:
    done = CliRunner().invoke(app, ["serve", *args])
    assert done.exit_code == 1
    return str(done.exception or "") + done.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--tls-cert", "a.pem"], "needs a certificate and its key"),
        (["--tls-cert", "none.pem", "--tls-key", "none.pem"], "certificate none.pem does not"),
        (["--tls-cert", "bad.pem", "--tls-key", "bad.pem"], "no certificate and its private key"),
        (["--host", "300.1.1.1"], "cannot listen at 300.1.1.1"),
        (["--host", "nowhere.invalid"], "do: give another --host"),
        (["--host", "192.0.2.1"], "do: give another --host"),  # of no machine
        (["--origin", "my page"], "origin 'my page'; possible"),
        ([], "no file"),
    ],
)
def test_one_line(args: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pem").write_text("no PEM")
    (tmp_path / "model").mkdir()
    assert said in error("--model", "model", "--port", "0", *args)


@pytest.mark.parametrize("option", ["--session-minutes", "--drain-seconds"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e9"])
def test_a_time_without_an_end_is_refused(option: str, value: str) -> None:
    """Sessions of a server without an end failed at their first event: it has no date."""
    done = CliRunner().invoke(app, ["serve", "--model", "none", option, value])
    assert done.exit_code == 2 and option in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        found = error("--model", str(tmp_path), "--port", port)
        assert "cannot listen" in found and "do: give another --port" in found


def test_options_come_from_a_file_and_the_command_line_comes_first(tmp_path: Path) -> None:
    import typer.main

    path = tmp_path / "serve.yaml"
    path.write_text("users: 3\nport: 1234\ndevice: cpu\norigin: [https://a.example]\n")
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    args = ["--config", str(path), "--port", "99", "--log-format", "json"]
    found = command.make_context("serve", args).params
    assert (found["users"], found["port"], found["log_format"]) == (3, 99, "json")
    assert list(found["device"]) == ["cpu"] and list(found["origins"]) == ["https://a.example"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user: 3", "did you mean 'users'?"),
        ("api-key: x", "set the key by the variable FO_API_KEY"),
        ("- users", "is no YAML mapping"),
        ("users: [", "is no YAML"),
        ("users: many", "users"),
    ],
)
def test_a_wrong_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    done = CliRunner().invoke(app, ["serve", "--config", str(path)])
    assert done.exit_code in (1, 2) and said in str(done.exception or "") + done.output
