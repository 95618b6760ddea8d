"""Measures of sound: voices apart, what is missing is named, UTMOS from a file."""

import sys

import numpy as np
import pytest
import soundfile
import torch

from eval.systems import naturalness, sound
from fo_core.engines import speaker_similarity as speaker
from fo_core.errors import EngineError
from fo_core.io import audio

pytest.importorskip("onnxruntime")


def tone(pitch, seconds=2.0, rate=16000, formant=700.0):
    time = np.arange(int(seconds * rate)) / rate
    parts = sum(
        np.sin(2 * np.pi * n * pitch * time) * np.exp(-(((n * pitch - formant) / 500) ** 2))
        for n in range(1, 30)
    )
    return (0.3 * parts / np.abs(parts).max()).astype(np.float32)


class Constant(torch.nn.Module):
    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return torch.full((wave.shape[0],), float(wave.shape[1]) / 16000.0)


def test_speaker_similarity_of_real_voices(shared_dir):
    try:
        speaker.check()
    except EngineError as error:
        pytest.skip(error.what)
    voices = {
        name: [
            audio.read(p, 16000) for p in sorted((shared_dir / "data" / name / "ogg").iterdir())[:2]
        ]
        for name in ("cathy", "ljspeech_part")
    }
    same = [speaker.similarity(*waves) for waves in voices.values()]
    other = speaker.similarity(voices["cathy"][0], voices["ljspeech_part"][0])
    assert min(same) > 0.85 and other < 0.8


def test_an_embedding_has_length_one_whatever_the_loudness_and_length():
    try:
        speaker.check()
    except EngineError as error:
        pytest.skip(error.what)
    wave = tone(120)
    loud, quiet = speaker.embedding(0.05 * wave), speaker.embedding(0.005 * wave)
    assert loud.shape == (256,) and np.linalg.norm(loud) == pytest.approx(1.0)
    assert loud @ quiet == pytest.approx(1.0, abs=1e-3)  # both are raised to the same level
    assert speaker.embedding(wave[:400]).shape == (256,)


def test_utmos_from_a_torchscript_file(tmp_path):
    file = tmp_path / "utmos.pt"
    torch.jit.script(Constant()).save(str(file))
    assert naturalness.utmos(str(file))(np.zeros(32000, np.float32)) == 2.0
    assert naturalness.utmos(str(file))(np.zeros(4000, np.float32)) == 1.0  # repeated to 1 s
    (tmp_path / "no.pt").write_text("no")
    with pytest.raises(EngineError, match="no TorchScript file"):
        naturalness.utmos(str(tmp_path / "no.pt"))
    with pytest.raises(EngineError, match="no UTMOS file"):
        sound.rating(str(tmp_path / "nothing.pt"))


def test_what_cannot_be_measured_is_named(monkeypatch):
    for name in ("utmos_pytorch", "distillmos"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delenv("FO_UTMOS", raising=False)
    naturalness.utmos.cache_clear()
    naturalness.distillmos.cache_clear()
    before = sys.modules.get("torchaudio")
    found = sound.rating()
    assert "utmos" in found.missing and "--utmos FILE" in found.missing["utmos"]
    assert "distillmos" in found.missing and set(found.measured).isdisjoint(found.missing)
    assert "similarity" not in found.missing  # nobody asked for it
    assert sys.modules.get("torchaudio") is before  # the stand-in is gone again


def test_replies_of_model_and_cascade_are_rated(tmp_path):
    file = tmp_path / "utmos.pt"
    torch.jit.script(Constant()).save(str(file))
    (tmp_path / "replies").mkdir()
    soundfile.write(tmp_path / "replies/a.wav", tone(120, 1.5), 16000)
    soundfile.write(tmp_path / "replies/b.wav", tone(120, 3.0), 16000)
    rate = sound.Rating(["utmos"], utmos=str(file))
    work = rate.open(tmp_path, ["reply_wav", "cascade_wav"])
    rows = [{"reply_wav": "replies/a.wav", "cascade_wav": "replies/b.wav"}, {"reply_wav": ""}]
    first, silent = work(rows)
    assert first == {"utmos": 1.5, "cascade_utmos": 3.0}
    assert silent == {"utmos": None, "cascade_utmos": None}
    assert rate.key() == {"utmos": "utmos.pt"}
