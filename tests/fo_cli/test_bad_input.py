"""What goes wrong around a command and not in it: each is one line that says what to do."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core import shipped
from fo_core.data import manifest
from fo_core.io.files import only_run
from fo_core.models.llm.tiny import tiny_folder, write_tiny


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def one_line(found: Any, *parts: str) -> None:
    """The command ended with status 1 and one line that holds all of these."""
    assert found.exit_code == 1, found.output
    lines = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in found.stderr, found.stderr
    for part in parts:
        assert part in lines[0], lines[0]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a little data."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    items = []
    for number, text in enumerate(("red", "blue", "green", "blue red")):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(16000), 16000)
        items.append(manifest.describe(tmp_path / f"{number}.wav", id=str(number), text=text,
                                       role="user"))  # fmt: skip
    manifest.write(tmp_path / "data" / "user" / "train.jsonl", items)
    manifest.write(tmp_path / "data" / "user" / "val.jsonl", items[:2])
    return tmp_path


TRAIN = ("train", "--stage", "input-1", "--model", "tiny", "--recipe", "tiny", "--device", "cpu",
         "--set", "train.max_steps=1", "--set", "train.curves=false")  # fmt: skip


@pytest.mark.parametrize("command", [("chat", "text", "Hello?"), ("eval", "asr", "--data", "x"),
                                     ("train", "--stage", "input-1"), ("demo",)])  # fmt: skip
def test_a_damaged_model_that_ships(
    command: tuple[str, ...], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = data / "package" / "shipped_models" / "fo-smol"
    copy.mkdir(parents=True)
    for path in shipped.model_folder("fo-smol").iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "adapter.safetensors").unlink()
    monkeypatch.setattr(shipped, "files", lambda _: data / "package")
    one_line(run(*command), "not whole: adapter.safetensors", "do: pip install --force-reinstall")


def test_an_llm_cache_that_is_half_written(
    tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that filled up, or a copy that broke off: the message names the file."""
    whole = tiny_folder()
    monkeypatch.setenv("FO_CACHE", str(data / "cache"))
    copy = data / "cache" / "llm" / whole.name
    shutil.copytree(whole, copy, ignore=shutil.ignore_patterns("prepared-*"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    one_line(run("chat", "text", "Hello?", "--model", tiny_model), str(copy))
    shutil.rmtree(copy)  # what the message asks for
    assert run("chat", "text", "Hello?", "--model", tiny_model).exit_code == 0


def test_a_cache_that_cannot_be_made(
    tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "file").write_text("")
    monkeypatch.setenv("FO_CACHE", str(data / "file" / "cache"))
    found = run("chat", "text", "Hello?", "--model", tiny_model)
    one_line(found, "cannot write the cache", "do: set FO_CACHE to a writable one")


def test_a_read_only_install_is_never_written(
    tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package and a model folder may lie where nobody can write."""
    package, guarded = Path(shipped.__file__).parents[1], []
    make, mkdir = tempfile.mkstemp, Path.mkdir

    def refuse(place: Path) -> None:
        if any(place.resolve().is_relative_to(each) for each in (package, tiny_model)):
            guarded.append(place)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(place))

    def mkstemp(*args: Any, **kwargs: Any) -> Any:
        refuse(Path(kwargs.get("dir") or tempfile.gettempdir()))
        return make(*args, **kwargs)

    def made(self: Path, *args: Any, **kwargs: Any) -> None:
        if not self.exists():
            refuse(self)
        mkdir(self, *args, **kwargs)

    before = {path: path.stat().st_mtime_ns for path in tiny_model.rglob("*")}
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    monkeypatch.setattr(Path, "mkdir", made)
    found = run("chat", "text", "Hello?", "--model", tiny_model, "--out", data / "reply.wav")
    assert found.exit_code == 0 and not guarded, found.stderr
    assert before == {path: path.stat().st_mtime_ns for path in tiny_model.rglob("*")}
    into = run("train", *TRAIN[1:], "--out", tiny_model / "run")  # a user who insists
    one_line(into, "Read-only file system")


def test_a_workspace_with_a_run_of_another_llm(data: Path) -> None:
    """Never mixed in silence: what was begun around one LLM does not go on around another."""
    assert run(*TRAIN).exit_code == 0
    other = write_tiny(data / "other-llm", seed=1)
    one_line(run(*TRAIN, "--llm", other), "runs/input-1", "llm")


def test_two_runs_in_one_workspace(data: Path) -> None:
    with only_run(data / "runs" / "input-1"):
        found = run(*TRAIN)
    one_line(found, "another run works in runs/input-1", "do: wait for it, or give another --out")
    assert run(*TRAIN).exit_code == 0


def test_two_evaluations_in_one_folder(tiny_model: Path, data: Path) -> None:
    asked = ("eval", "asr", "--model", tiny_model, "--data", data / "data" / "user" / "val.jsonl")
    with only_run(data / "runs" / "eval" / "asr"):
        found = run(*asked)
    one_line(found, "another run works in runs/eval/asr")


def test_no_internet_for_edge_tts(
    data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fo_core.engines.endpoint import ServiceDown
    from fo_core.engines.tts import TTS

    class Engine:
        rate = 16000

        def voices(self, language: str = "") -> list[str]:
            return ["aria"]

        def synthesize(self, text: str, voice: str) -> Any:
            raise ServiceDown("edge-tts could not speak, its service is out of reach",
                              possible="the offline engines hibari, piper, flite",
                              do="check the internet connection")  # fmt: skip

    monkeypatch.setattr(TTS, "load", lambda name: type("Module", (), {"Engine": Engine}))
    monkeypatch.setenv("FO_CACHE", str(data / "cache"))
    table = data / "llama_questions_9.tsv"
    table.write_text("Questions\tAnswer\nWhat is red?\ta color\nWhat is blue?\ta color\n")
    found = run(
        *("eval", "llama-questions", "--model", tiny_model, "--data", table),
        *("--only", "answer", "--tts", "edge-tts"),
    )
    one_line(found, "out of reach", "the offline engines hibari", "check the internet connection")


def test_a_cpu_without_avx2(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing needs AVX2 (`make test-cpus` computes without it): it is slow, which is said."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    found = run("chat", "text", "Hello?", "--model", tiny_model)
    assert found.exit_code == 0, found.stderr
    notes = [line for line in found.stderr.splitlines() if "AVX2" in line]
    assert len(notes) == 1 and "several times slower" in notes[0]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert "AVX2" not in run("chat", "text", "Hello?", "--model", tiny_model).stderr
