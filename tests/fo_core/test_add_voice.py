"""A voice from a clip: what is refused, in one line each, and what the folder gets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from typer.testing import CliRunner

import fo_core
from fo_cli.main import app
from fo_core.api import voice_clip
from fo_core.api.voice_clip import read_clip
from fo_core.config import replace, to_dict
from fo_core.engines import speaker_similarity
from fo_core.errors import AudioError, EngineError
from fo_core.io import audio
from fo_core.io.files import write_json
from fo_core.models.freeze_omni import load_codec, read_config

RATE = 24000
EXAMPLE = Path(fo_core.__file__).parent / "examples" / "question.flac"


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["models", *map(str, args)])


def melody(seconds: float = 6.0) -> np.ndarray:
    """Plucked notes with four harmonics each."""
    draw, size = np.random.default_rng(0), RATE // 4
    time = np.arange(size) / RATE
    notes = [
        np.exp(-9 * time) * sum(np.sin(2 * np.pi * f * k * time) / k for k in (1, 2, 3, 4))
        for f in 220 * 2 ** (draw.integers(0, 24, int(seconds * 4)) / 12)
    ]
    return 0.2 * np.concatenate(notes)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Four seconds of one person: the question that ships, twice."""
    once = audio.trim(audio.read(EXAMPLE, RATE), RATE)
    return np.concatenate([once] * int(np.ceil(4.5 * RATE / len(once))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voices") / "model"
    tiny_models.tiny_model().save(folder, fo_core.models.freeze_omni.PARTS)
    return folder


@pytest.fixture
def model(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def sounds(speech: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "short": speech[: int(0.2 * RATE)],
        "long": np.tile(speech, 16),
        "silent": np.zeros(5 * RATE),
        "clipped": np.clip(30 * speech, -1, 1),
        "music": melody(),
        "pause": np.concatenate([speech[: RATE // 2], np.zeros(4 * RATE)]),
    }


@pytest.mark.parametrize(
    ("clip", "says"),
    [
        ("short", "is too short: 0.200 s; possible: 3 to 60 s"),
        ("long", "is too long"),
        ("silent", "is silent"),
        ("clipped", "is clipped: "),
        ("music", "is mostly music or noise"),
        ("pause", "s of speech"),
    ],
)
def test_a_clip_that_is_no_voice_is_one_line(
    clip: str, says: str, speech: np.ndarray, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    path, before = tmp_path / f"{clip}.wav", (model / "config.json").read_bytes()
    audio.write(path, sounds(speech)[clip], RATE)
    found = run("add-voice", model, "ann", path)
    assert found.exit_code == 1 and found.stderr.count("\n") == 1, found.output
    assert says in found.stderr and str(path) in found.stderr
    assert (model / "config.json").read_bytes() == before


def test_no_sound_and_no_file_are_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    for name, says in (("text.wav", "is not a sound file"), ("none.wav", "does not exist")):
        found = run("add-voice", model, "ann", tmp_path / name)
        assert found.exit_code == 1 and found.stderr.count("\n") == 1 and says in found.stderr


def test_two_speakers_are_refused(
    speech: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of two voices, as the network hears them; without the network it is not checked."""
    path = tmp_path / "clip.wav"
    audio.write(path, speech, RATE)
    one, other = np.eye(256)[:2]
    for windows, refused in (
        ([one] * 4 + [other] * 4, True),
        ([one] * 4 + [0.9 * one + 0.43 * other] * 4, False),
        ([one] * 9 + [other], False),  # one odd window is no second speaker
    ):
        monkeypatch.setattr(speaker_similarity, "embeddings", lambda _, w=windows: np.stack(w))
        if refused:
            with pytest.raises(AudioError, match="holds two voices"):
                read_clip(path, RATE)
        else:
            assert read_clip(path, RATE).one_speaker is True

    def missing(_: np.ndarray) -> np.ndarray:
        raise EngineError("not installed")

    monkeypatch.setattr(speaker_similarity, "embeddings", missing)
    assert read_clip(path, RATE).one_speaker is None


def test_two_real_speakers(shared_dir: Path, tmp_path: Path) -> None:
    try:
        speaker_similarity.check()
    except EngineError as error:
        pytest.skip(str(error))
    waves = {}
    for name in ("cathy", "ljspeech_part"):
        files = sorted((shared_dir / "data" / name).rglob("*.ogg"))
        files = files or sorted((shared_dir / "data" / name).rglob("*.flac"))
        found = [audio.trim(audio.read(path, RATE), RATE) for path in files[:3]]
        waves[name] = np.concatenate(found)[: 5 * RATE]
    for name, wave in waves.items():
        audio.write(tmp_path / f"{name}.wav", wave, RATE)
        assert read_clip(tmp_path / f"{name}.wav", RATE).one_speaker
    audio.write(tmp_path / "two.wav", np.concatenate(list(waves.values())), RATE)
    with pytest.raises(AudioError, match="holds two voices"):
        read_clip(tmp_path / "two.wav", RATE)


def test_a_voice_is_added_listed_and_never_lost(
    speech: np.ndarray, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "ann.wav"
    audio.write(path, speech, RATE)
    found = run("add-voice", model, "ann", path, "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    clip = read_clip(path, RATE)
    codec = load_codec(model)
    import torch

    assert told["voice"]["global_tokens"] == list(codec.voice_of([torch.from_numpy(clip.wave)]))
    assert told["change"] >= 0 and "ann.wav, " in told["voice"]["source"]
    assert list(fo_core.list_voices(model)) == ["default", "ann"]
    listed = json.loads(run("voices", model, "--json").stdout)
    assert [(row["name"], row["own"]) for row in listed] == [("default", True), ("ann", False)]
    assert "2 voices in" in run("voices", model).stdout
    for name, says in (("ann", "is taken"), ("default", "is taken"), ("a b", "letters, digits")):
        refused = run("add-voice", model, name, path)
        assert refused.exit_code == 1 and says in refused.stderr, refused.output
    assert run("add-voice", model, "bob", path, "--own").exit_code == 0
    config = read_config(model)
    assert config.voice == config.voices["bob"].global_tokens
    assert set(config.voices) == {"ann", "bob"}
    assert run("add-voice", model, "eve", path, "--own").exit_code == 0
    assert list(fo_core.list_voices(model))[0] in ("ann", "bob", "eve")  # one clip, one voice
    with_own = replace(config, voice=(1,) * len(config.voice), voices={})
    write_json(model / "config.json", to_dict(with_own))
    assert run("add-voice", model, "eve", path, "--own").exit_code == 0
    assert read_config(model).voices["original"].global_tokens == with_own.voice


def test_the_model_that_ships_stays_as_it_is(speech: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "ann.wav"
    audio.write(path, speech, RATE)
    refused = run("add-voice", "fo-smol", "ann", path)
    assert refused.exit_code == 1 and "add --out MY-MODEL" in refused.stderr
    taken = run("add-voice", "fo-smol", "ann", path, "--out", tmp_path)
    assert taken.exit_code == 1 and "exists" in taken.stderr


def test_a_copy_gets_the_voice(speech: np.ndarray, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path, out = tmp_path / "ann.wav", tmp_path / "mine"
    audio.write(path, speech, RATE)
    assert run("add-voice", model, "ann", path, "--out", out).exit_code == 0
    assert list(fo_core.list_voices(out)) == ["default", "ann"]
    assert list(fo_core.list_voices(model)) == ["default"]
    for command in (("chat", "text", "Hi"), ("chat", "file", "example"), ("chat", "mic")):
        args = [*command, "--model", str(out), "--voice", "eve"]
        found = CliRunner().invoke(app, args)
        assert found.exit_code == 1 and "possible: default, ann" in found.stderr, found.output


def test_limits_are_those_of_the_messages() -> None:
    assert voice_clip.WANTED.startswith(f"{voice_clip.SHORTEST:g} to {voice_clip.LONGEST:g} s")
