"""DNSMOS without librosa gives what the package gives."""

import importlib.util

import numpy as np
import pytest
import soundfile

from fo_core.engines import dnsmos as module
from fo_core.engines.dnsmos import dnsmos
from fo_core.errors import EngineError


@pytest.fixture(scope="module")
def human(shared_dir):
    pytest.importorskip("onnxruntime")
    if importlib.util.find_spec("speechmos") is None:
        pytest.skip("no speechmos")
    wave, rate = soundfile.read(shared_dir / "data/real_speech/wav/LJ001-0002.wav", dtype="float32")
    assert rate == 16000
    return wave


def test_scores_are_those_of_speechmos(human):
    # speechmos 0.0.1.1 with librosa 0.11 on this recording
    want = {"dnsmos": 2.82883, "dnsmos_signal": 3.57165, "dnsmos_background": 3.20401}
    found = dnsmos(human)
    for name, value in want.items():
        assert found[name] == pytest.approx(value, abs=1e-4)
    assert found["dnsmos_p808"] == pytest.approx(3.52223, abs=1e-4)


def test_noise_is_worse(human):
    noisy = human + 0.1 * np.random.default_rng(0).standard_normal(len(human)).astype(np.float32)
    assert dnsmos(noisy)["dnsmos"] < dnsmos(human)["dnsmos"] - 0.5
    assert dnsmos(np.zeros(0)) == {}


def test_missing_package_says_what_to_install(monkeypatch):
    module._networks.cache_clear()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="pip install speechmos"):
        dnsmos(np.zeros(16000, np.float32))
    module._networks.cache_clear()
