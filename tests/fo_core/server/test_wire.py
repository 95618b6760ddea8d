from __future__ import annotations

import numpy as np
import pytest

from fo_core.errors import DataError
from fo_core.server.wire import Resampler, WireFormat, from_base64, to_base64


def tone(rate: int, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)).astype("f4")


@pytest.mark.parametrize(
    ("fmt", "error"),
    [
        (WireFormat(), 1e-4),
        (WireFormat("audio/pcm", 16000), 1e-4),
        (WireFormat("audio/pcmu", 8000), 0.02),
        (WireFormat("audio/pcma", 8000), 0.02),
    ],
)
def test_what_is_encoded_is_decoded(fmt: WireFormat, error: float) -> None:
    wave = tone(fmt.rate)
    data = fmt.encode(wave)
    assert len(data) == fmt.width * len(wave)
    back = fmt.decode(data)
    assert back.dtype == np.float32 and np.abs(back - wave).max() < error
    assert fmt.decode(fmt.encode(np.zeros(0, "f4"))).shape == (0,)


def test_g711_is_that_of_the_telephone() -> None:
    """Known values of the standard: silence is 0xFF in mu-law, 0xD5 in A-law; 0x80 is loudest."""
    zero = np.zeros(1, "f4")
    assert WireFormat("audio/pcmu", 8000).encode(zero) == b"\xff"
    assert WireFormat("audio/pcma", 8000).encode(zero) == b"\xd5"
    assert WireFormat("audio/pcmu", 8000).decode(b"\x80")[0] == pytest.approx(32124 / 32768)


def test_loud_samples_are_clipped_not_wrapped() -> None:
    pcm = np.frombuffer(WireFormat().encode(np.array([2.0, -2.0, 1.0], "f4")), "<i2")
    assert pcm.tolist() == [32767, -32767, 32767]


@pytest.mark.parametrize(("source", "target"), [(24000, 16000), (8000, 16000), (48000, 16000)])
def test_blocks_resample_as_one(source: int, target: int) -> None:
    import soxr

    wave = tone(source)
    stream = Resampler(source, target)
    blocks = [stream.step(wave[i : i + 333]) for i in range(0, len(wave), 333)]
    whole = np.concatenate([*blocks, stream.flush()])
    assert len(whole) == len(wave) * target // source
    assert np.abs(whole - soxr.resample(wave, source, target)).max() < 1e-3
    again = np.concatenate([stream.step(wave), stream.flush()])  # a flushed one starts anew
    assert np.allclose(again, whole, atol=1e-4)


def test_equal_rates_pass_through() -> None:
    stream, wave = Resampler(16000, 16000), tone(16000)
    assert np.array_equal(stream.step(wave), wave) and len(stream.flush()) == 0


@pytest.mark.parametrize("text", ["a", "%%%%", "AAA", "é" * 8])
def test_wrong_base64_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="base64"):
        from_base64(text, 100)


def test_too_much_audio_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(DataError, match="more than 100 bytes"):
        from_base64(to_base64(bytes(200)), 100)
    assert from_base64(to_base64(bytes(100)), 100) == bytes(100)


def test_half_a_sample_and_odd_rates_are_refused() -> None:
    with pytest.raises(DataError, match="whole number"):
        WireFormat().decode(b"abc")
    for kind, rate in (("audio/pcm", 1), ("audio/pcm", 10**9), ("audio/pcmu", 16000)):
        with pytest.raises(DataError):
            WireFormat(kind, rate)  # type: ignore[arg-type]
