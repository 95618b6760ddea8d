"""Voice activity: silence is not speech, the stream gives what the whole gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fo_core.engines.vad import EnergyVad, SileroVad, make_vad
from fo_core.errors import EngineError


def vads() -> list[SileroVad | EnergyVad]:
    return [make_vad("auto"), make_vad("energy")]


@pytest.mark.parametrize("vad", vads(), ids=lambda vad: type(vad).__name__)
def test_stream_equals_whole_and_leaves_old_states_alone(vad: SileroVad | EnergyVad) -> None:
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(2, 2560 * 3)
    whole, _ = vad.step(wave, vad.init_state(2))
    assert whole.shape == (2, 15) and 0 <= whole.min() and whole.max() <= 1
    state, parts = vad.init_state(2), []
    for piece in wave.split(2560, 1):
        found, after = vad.step(piece, state)
        again, _ = vad.step(piece, state)
        assert torch.equal(found, again)
        parts.append(found)
        state = after
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


@pytest.mark.parametrize("vad", vads(), ids=lambda vad: type(vad).__name__)
def test_silence_is_not_speech(vad: SileroVad | EnergyVad) -> None:
    found, _ = vad.step(torch.zeros(1, 512 * 20), vad.init_state(1))
    assert found.max() < 0.2


def test_energy_hears_a_loud_burst_after_quiet() -> None:
    torch.manual_seed(0)
    wave = torch.cat([0.001 * torch.randn(1, 5120), 0.1 * torch.randn(1, 5120)], 1)
    found, _ = EnergyVad().step(wave, EnergyVad().init_state(1))
    assert found[0, :10].max() < 0.5 < found[0, 10:].min()


def test_silero_hears_recorded_speech(shared_dir: Path) -> None:
    pytest.importorskip("silero_vad")
    soundfile = pytest.importorskip("soundfile")
    for path in sorted(shared_dir.glob("data/real_speech/wav/*.wav")):
        wave, rate = soundfile.read(path, dtype="float32")
        if rate == 16000 and wave.ndim == 1:
            break
    else:
        pytest.skip("no 16 kHz recording")
    vad = SileroVad()
    sound = torch.from_numpy(wave[: len(wave) // 512 * 512])[None]
    assert vad.step(sound, vad.init_state(1))[0].max() > 0.8


def test_unknown_name() -> None:
    with pytest.raises(EngineError, match="auto, silero, energy"):
        make_vad("loud")
