"""Feature extractors: streaming equals offline, and each equals the reference it is named after."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.features import GlobalCmvn, KaldiFbank, WhisperMel, feature_lens, make_extractor


def sound(batch: int, samples: int) -> torch.Tensor:
    torch.manual_seed(0)
    time = torch.arange(samples) / 16000
    tone = torch.sin(2 * torch.pi * (300 + 200 * torch.sin(9 * time)) * time)
    loudness = torch.linspace(0.01, 0.6, samples)
    return (loudness * (tone + 0.3 * torch.randn(batch, samples))).clamp(-1, 1)


@pytest.mark.parametrize("name", ["kaldi-fbank", "whisper-mel"])
@pytest.mark.parametrize("chunks", [1, 3])
def test_stream_equals_offline(name: str, chunks: int) -> None:
    extractor = make_extractor(name)
    wave = sound(2, 2560 * 6 - 700)
    whole = extractor(wave)
    assert whole.shape == (2, 96, 80)
    assert feature_lens(torch.tensor([wave.shape[1], 2560, 2561, 0])).tolist() == [96, 16, 32, 0]
    wave = torch.nn.functional.pad(wave, (0, 700))
    state, parts = extractor.init_state(2), []
    for piece in wave.split(2560 * chunks, 1):
        feats, state = extractor.step(piece, state)
        parts.append(feats)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


@pytest.mark.parametrize("name", ["kaldi-fbank", "whisper-mel"])
def test_padding_does_not_change_a_row_of_a_batch(name: str) -> None:
    extractor = make_extractor(name)
    wave = sound(1, 2560 * 4)
    padded = torch.nn.functional.pad(wave, (0, 2560 * 3))
    assert torch.allclose(extractor(padded)[:, :64], extractor(wave), atol=1e-5)


def test_fbank_equals_kaldi_native_fbank() -> None:
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 80
    options.mel_opts.low_freq, options.mel_opts.high_freq = 20, 8000
    options.energy_floor = 0
    fbank = knf.OnlineFbank(options)
    wave = sound(1, 2560 * 5)
    samples = torch.nn.functional.pad(wave[0], (240, 0)) * 32768
    fbank.accept_waveform(16000, samples.numpy())
    fbank.input_finished()
    expected = np.stack([np.array(fbank.get_frame(i)) for i in range(fbank.num_frames_ready)])
    assert np.abs(KaldiFbank()(wave)[0].numpy() - expected).max() < 2e-3


def test_digital_silence_is_the_floor() -> None:
    floor = np.log(np.finfo(np.float32).eps)
    assert np.allclose(KaldiFbank()(torch.zeros(1, 2560)).numpy(), floor)


def test_whisper_mel_equals_transformers_up_to_the_running_floor() -> None:
    from transformers import WhisperFeatureExtractor

    wave = sound(1, 2560 * 8)
    theirs = WhisperFeatureExtractor()(
        wave[0, 120:].numpy(), sampling_rate=16000, return_tensors="pt"
    ).input_features[0].T  # their frame j is centred where our frame j + 1 is  # fmt: skip
    ours = WhisperMel()
    ours.start_peak = float(theirs.max()) * 4 - 4  # the largest value from the start on
    assert torch.allclose(ours(wave)[0, 3:-3], theirs[2:124], atol=1e-4)


def test_whisper_mel_is_causal() -> None:
    wave = sound(1, 2560 * 4)
    louder = wave.clone()
    louder[:, 2560 * 2 :] *= 1.6
    assert torch.equal(WhisperMel()(wave)[:, :32], WhisperMel()(louder)[:, :32])


def test_cmvn_measures_mean_and_variance() -> None:
    torch.manual_seed(0)
    feats = 3 * torch.randn(4, 500, 80) + 7
    cmvn = GlobalCmvn(80)
    cmvn.measure(feats.split(2))
    normal = cmvn(feats)
    assert normal.mean((0, 1)).abs().max() < 1e-4
    assert (normal.std((0, 1)) - 1).abs().max() < 1e-2


def test_an_unknown_extractor_is_named() -> None:
    with pytest.raises(ConfigError, match="kaldi-fbank"):
        make_extractor("kaldi-fbnk")
