"""Held-out values of the codec: DNSMOS where it is installed, said where it is not."""

import logging

import numpy as np
import pytest
import tiny_models
import torch

from fo_core.data import manifest
from fo_core.data.collate import codec as collate
from fo_core.engines import dnsmos
from fo_core.errors import EngineError
from fo_core.io import audio
from fo_core.training.losses.codec import CodecLossConfig, CodecLosses
from fo_core.training.stages.output_1 import CodecMetrics


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    folder, items = tmp_path_factory.mktemp("voice"), []
    for name in "ab":
        wave = tiny_models.say("abcdefgh", 24000)
        audio.write(folder / f"{name}.wav", wave, 24000)
        items.append(manifest.describe(folder / f"{name}.wav", id=name, text="a b c"))
    return collate([(item, item.load_audio(24000)) for item in items])


@pytest.fixture
def metrics():
    return CodecMetrics(CodecLosses(CodecLossConfig(windows=[512], mels=[40])), mos=True)


def test_dnsmos_of_reconstruction_beside_the_original(model, batch, metrics, monkeypatch):
    heard = []

    def rate(wave: np.ndarray) -> dict[str, float]:
        heard.append(wave)
        return {"dnsmos": float(len(heard))}

    monkeypatch.setattr(dnsmos, "check", lambda: None)
    monkeypatch.setattr(dnsmos, "dnsmos", rate)
    with torch.no_grad():
        first, second = metrics(model.eval(), batch), metrics(model, batch)
    assert first["dnsmos"] == (1, 1) and first["dnsmos_original"] == (2, 1)
    assert second["dnsmos"] == (3, 1)  # only the codec's sound is rated again
    assert second["dnsmos_original"] == first["dnsmos_original"]
    assert all(len(wave) == pytest.approx(8 * 0.16 * 16000, abs=500) for wave in heard)


def test_without_the_networks_it_is_said_once(model, batch, metrics, monkeypatch, caplog):
    def missing() -> None:
        raise EngineError("DNSMOS needs the packages speechmos and onnxruntime")

    monkeypatch.setattr(dnsmos, "check", missing)
    with caplog.at_level(logging.WARNING), torch.no_grad():
        found = [metrics(model.eval(), batch) for _ in range(2)]
    assert all("mel_distance" in one and "dnsmos" not in one for one in found)
    assert caplog.text.count("held-out values without DNSMOS: DNSMOS needs the packages") == 1
