"""The commands of the tutorials run as they stand, at tiny size, on a few made sounds."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest
from fo_core.io import audio
from fo_core.models.llm.tiny import write_tiny

DOCS = Path(__file__).parents[1] / "docs" / "tutorials"
TINY = {"--model smol": "--model tiny", "--recipe smol": "--recipe tiny"}
MORE = {  # what a test adds to a command: fewer steps, no engine that takes long to load
    "train": ["--set", "train.max_steps=2", "--set", "train.samples=0", "--device", "cpu"],
    # two steps make no codec that would pass
    "encode": ["--num-workers", "1", "--set", "encode.check=0"],
    "tts": ["--judge", "pocketsphinx", "--no-dnsmos"],
    "import": ["--num-workers", "1"],
    "validate": ["--num-workers", "1"],
    "all": ["--num-workers", "1", "--set", "regenerate.engine=openai", "--set",
            "synthesize.assistants=[{engine: flite, voice: slt}]"],
}  # fmt: skip


def commands(page: str, block: int) -> list[list[str]]:
    text = re.findall(r"```bash\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)[block]
    for old, new in TINY.items():
        text = text.replace(old, new)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [shlex.split(line)[1:] for line in lines]


def speak_into(folder: Path, table: str, sounds: str) -> None:
    draw = np.random.default_rng(0)
    rows = ["file\ttext\tspeaker"]
    for i in range(12):
        audio.write(
            folder / sounds / f"{i}.flac", 0.1 * draw.standard_normal(14000 + 900 * i), 22050
        )
        rows.append(f"{i}.flac\tThis is text {'abcdefghijkl'[i]}.\t{'xyz'[i % 3]}")
    (folder / table).write_text("\n".join(rows) + "\n")


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A judge that hears one sentence, and an LLM that gives one."""

    class Ears:
        def __init__(self, **_: Any) -> None: ...

        def transcribe(self, wave: np.ndarray) -> str:
            return "this is text"

    class Llm:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def draw(self, prompts: list[Any], *_: Any) -> list[Any]:
            from fo_core.engines.llm import Answer

            return [
                Answer(f"Well, that was {p[-1]['content'][-2]}, I think.", True) for p in prompts
            ]

    for name, engine in (("asr.pocketsphinx", Ears), ("llm.openai", Llm)):
        module = ModuleType(name)
        module.Engine, module.EXTRA = engine, ""  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"fo_core.engines.{name}", module)
    yield


def run_all(page: str, block: int = 0, more: dict[str, list[str]] = MORE) -> None:
    for args in commands(page, block):
        name = args[1] if args[0] in ("prepare-data", "eval") else args[0]
        found = CliRunner().invoke(app, [*args, *more.get(name, ())])
        assert found.exit_code == 0, f"fo {shlex.join(args)}\n{found.output}\n{found.exception!r}"


def test_your_own_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canned: None) -> None:
    monkeypatch.chdir(tmp_path)
    speak_into(tmp_path, "metadata.tsv", "ogg")
    run_all("own_voice.md")
    coded = manifest.read("voice-coded/assistant/train.jsonl")
    assert len(coded) == 11 and all(item.speech_tokens for item in coded)
    assert len(Path("runs/voice-eval/items.jsonl").read_text().splitlines()) == 1
    assert Path("runs/voice-2/model/speech_decoder.safetensors").is_file()


def test_your_own_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canned: None) -> None:
    monkeypatch.chdir(tmp_path)
    speak_into(tmp_path, "questions.tsv", ".")
    run_all("own_recordings.md")
    train, val = (manifest.read(f"own-data/user/{s}.jsonl") for s in ("train", "val"))
    asked = [item for item in train if item.kind == "question"]
    assert len(asked) == 8 and all(item.answer and item.states[-1] == 1 for item in asked)
    assert {item.speaker for item in val if item.kind == "question"}.isdisjoint(
        item.speaker for item in asked
    )
    assert Path("runs/own-2/model/adapter.safetensors").is_file()


def test_your_own_llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "my-llm", seed=7)
    run_all("own_llm.md", more={"chat": ["--set", "segmenter.max_tokens=8", "--device", "cpu"]})
    assert Path("runs/attached/config.json").is_file()


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_your_own_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canned: None) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "own_language.md").read_text()
    (tmp_path / "deutsch.yaml").write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    for name in ("saetze.txt", "fragen.txt"):
        lines = [f"Wo ist {word}?" for word in ("Köln", "Bonn", "Ulm", "Hof", "Jena", "Celle")]
        (tmp_path / name).write_text("\n".join(lines))
    one = ["--num-workers", "1"]
    run_all("own_language.md", more=MORE | {"speak": one, "all": [
        *one, "--set", "regenerate.engine=openai", "--set", "label_states.val=0.3"]})  # fmt: skip
    items = manifest.read("gefragt/user/train.jsonl")
    assert {item.language for item in items} == {"de"} and any(item.states for item in items)
    assert Path("runs/de-2/model/adapter.safetensors").is_file()


@pytest.mark.parametrize("page", ["own_llm.md", "own_voice.md", "own_language.md"])
def test_the_manifest_line_of_a_tutorial_is_read_back_as_it_is(page: str) -> None:
    (line,) = re.findall(r"```json\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    item = manifest.from_cut(json.loads(line))
    assert manifest.from_cut(manifest.to_cut(item)) == item and item.text
    if item.states:
        assert len(item.states) * 2560 == item.num_samples
    if item.speech_tokens:
        assert len(item.speech_tokens) * 600 == item.num_samples
        assert item.num_samples == round(item.duration * item.rate)


def test_the_manifest_line_is_one_and_every_field_of_it_is_explained() -> None:
    text = (DOCS / "own_recordings.md").read_text()
    (line,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    cut = json.loads(line)
    item = manifest.from_cut(cut)
    assert len(item.states) * 2560 == item.num_samples and item.duration == cut["duration"]
    assert manifest.from_cut(manifest.to_cut(item)) == item
    table = text[text.index("| field | is |") :]
    names = {*cut, *cut["custom"], "text", "language", "speaker", "recording_id"}
    names |= {"sources", "source", "sampling_rate", "num_samples", "channel_ids"}
    for name in names:
        assert f"`{name}`" in table, name
