"""Every container that a phone, a browser or a telephone exchange makes, and files that are odd."""

import io
import logging
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fo_core.errors import AudioError
from fo_core.io import audio
from fo_core.io.sound_file import _scale, decode, open_sound

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (200 + 150 * time) * time)).astype(np.float32)


def encoded(path: Path, codec: str, rate: int, seconds: float = 1.0, form: str = "fltp") -> Path:
    """A sound file of FFmpeg's codecs."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        samples = (tone(seconds, rate)[None] * 32767).astype("<i2")
        whole = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        whole.sample_rate, fifo, at = rate, av.AudioFifo(), 0
        changed = av.AudioResampler(form, "mono", rate)
        for frame in [*changed.resample(whole), *changed.resample(None)]:
            frame.pts = None
            fifo.write(frame)
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        while (frame := fifo.read(size, partial=True)) is not None:
            frame.pts, at = at, at + frame.samples
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


CONTAINERS = {
    "phone.m4a": ("aac", 44100, "fltp"),
    "phone.aac": ("aac", 44100, "fltp"),
    "phone.amr": ("libopencore_amrnb", 8000, "s16"),
    "browser.webm": ("libopus", 48000, "s16"),
    "browser.mp4": ("aac", 48000, "fltp"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_d6_containers_of_phones_and_browsers_are_read(tmp_path: Path, name: str) -> None:
    codec, rate, form = CONTAINERS[name]
    path = encoded(tmp_path / name, codec, rate, 2.0, form)
    wave = audio.read(path)
    assert len(wave) == pytest.approx(2 * RATE, rel=0.05)
    assert 0.1 < np.sqrt((wave**2).mean()) < 0.3
    head = audio.info(path)
    assert head.rate == rate and head.channels == 1
    assert abs(head.frames / rate - len(wave) / RATE) < 2 / RATE
    with pytest.raises(AudioError, match="too long"):
        audio.read(path, max_seconds=1.0)


def test_d6_a_part_of_a_phone_s_file_is_the_same_as_of_the_whole(tmp_path: Path) -> None:
    path = encoded(tmp_path / "long.m4a", "aac", 44100, 12.0)
    whole = audio.read(path, 44100)
    part = audio.read(path, 44100, start=9.0, duration=1.5)
    assert len(part) == round(1.5 * 44100)
    assert np.abs(part - whole[9 * 44100 :][: len(part)]).max() < 1e-3


def test_d6_without_pyav_the_line_names_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encoded(tmp_path / "a.m4a", "aac", 44100)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"a\.m4a.*ffmpeg -i .*a\.m4a -ar 16000 OUT\.wav") as fault:
        audio.read(path)
    assert "\n" not in str(fault.value)
    with pytest.raises(AudioError, match="ffmpeg"):
        audio.info(path)


@pytest.mark.parametrize(("name", "form"), [
    ("call.ulaw", "-f mulaw -ar 8000"), ("call.al", "-f alaw -ar 8000"),
    ("mic.raw", "-f s16le -ar 16000"), ("mic.PCM", "-f s16le -ar 16000"),
])  # fmt: skip
def test_d6_a_file_without_a_header_gets_a_way_out(tmp_path: Path, name: str, form: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(256)) * 40)
    with pytest.raises(AudioError, match=rf"{name} has no header.*ffmpeg {form} -i .*{name}"):
        audio.read(tmp_path / name)


def test_d6_a_video_without_sound_and_a_file_cut_short_are_one_line(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.m4a", "aac", 44100)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AudioError, match="cannot|not a sound file that can be read"):
        audio.read(path)


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16", "ULAW", "IMA_ADPCM"])
def test_d7_telephone_files_that_cannot_be_sought(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, tone(2.0, 8000), 8000, subtype=subtype, format="WAV")
    whole = audio.read(path, 8000)
    assert 16000 <= len(whole) < 16200 and np.abs(whole).max() > 0.2
    part = audio.read(path, 8000, start=0.5, duration=1.0)
    assert np.array_equal(part, whole[4000:12000])


def streamed(data: bytes, size: int, riff: int) -> bytes:
    """A WAV whose header says another length."""
    made = bytearray(data)
    struct.pack_into("<I", made, made.index(b"data") + 4, size)
    struct.pack_into("<I", made, 4, riff)
    return bytes(made)


@pytest.mark.parametrize(
    ("size", "riff"), [(0, 0), (0, 36), (0, 32036), (2**32 - 1, 2**32 - 1), (2**31 - 1, 0)]
)
def test_d8_a_header_that_does_not_know_its_length(tmp_path: Path, size: int, riff: int) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, tone(), RATE)
    whole = audio.read(path)
    path.write_bytes(streamed(path.read_bytes(), size, riff))
    assert np.array_equal(audio.read(path), whole)
    assert audio.info(path) == (RATE, RATE, 1)
    assert np.array_equal(audio.read(path, start=0.5), whole[8000:])


def test_d8_an_empty_file_with_chunks_behind_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0, np.float32), RATE)
    path.write_bytes(path.read_bytes() + b"LIST\x04\x00\x00\x00INFO")
    with pytest.raises(AudioError, match="holds no samples"):
        audio.read(path)


@pytest.mark.parametrize("form", ["FLAC", "AU"])
def test_d8_other_streamed_headers(tmp_path: Path, form: str) -> None:
    pytest.importorskip("av")
    path = tmp_path / f"piped.{form.lower()}"
    soundfile.write(path, tone(), RATE, format=form, subtype="PCM_16")
    whole, data = audio.read(path), bytearray(path.read_bytes())
    if form == "FLAC":  # total samples: the last 36 bits before the checksum
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    else:
        data[8:12] = b"\xff" * 4
    path.write_bytes(data)
    assert np.abs(audio.read(path) - whole).max() < 1e-4


@pytest.mark.parametrize("full", [2**15, 2**23, 2**31])
def test_d9_float_samples_at_the_scale_of_integers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, full: int
) -> None:
    _scale.cache_clear()
    quiet_first = np.concatenate([np.zeros(RATE), tone(1.0), 0.5 / full * np.ones(100)])
    path = tmp_path / "array.wav"
    soundfile.write(path, np.round(quiet_first * full), RATE, subtype="FLOAT")
    with caplog.at_level(logging.WARNING):
        wave = audio.read(path)
    assert np.abs(wave - quiet_first).max() < 2e-4 and np.abs(wave).max() < 0.31
    assert f"divided by {full}" in caplog.text
    assert np.array_equal(audio.read(path, start=1.5, duration=0.25), wave[24000:28000])


def test_d9_float_samples_a_little_over_full_scale_stay(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hot.wav", 6 * tone(), RATE, subtype="FLOAT")
    assert np.abs(audio.read(tmp_path / "hot.wav")).max() == pytest.approx(1.8, abs=0.01)


def test_d9_channels_that_cancel_out_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "inverse.wav"
    soundfile.write(path, np.stack([tone(), -tone()], axis=1), RATE)
    with caplog.at_level(logging.WARNING):
        assert np.abs(audio.read(path)).max() < 1e-3
    assert "cancel each other" in caplog.text and "--channel" in caplog.text
    caplog.clear()
    assert np.abs(audio.read(path, channel=1)).max() > 0.25 and not caplog.text


def test_d3_one_channel_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    soundfile.write(path, np.stack([tone(), np.zeros(RATE)], axis=1), RATE)
    assert np.abs(audio.read(path, channel=0) - tone()).max() < 1e-4
    assert not audio.read(path, channel=1).any()
    assert np.abs(audio.read(path) - tone() / 2).max() < 1e-4
    with pytest.raises(AudioError, match="no channel 2; possible: 0 to 1"):
        audio.read(path, channel=2)


def test_d8_a_streamed_answer_of_a_speech_endpoint_is_decoded() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(), RATE, format="WAV")
    samples, rate = decode(streamed(buffer.getvalue(), 0, 0))
    assert rate == RATE and np.abs(samples[:, 0] - tone()).max() < 1e-4
    with pytest.raises(AudioError, match="not a sound"):
        decode(b"{}")


def test_blocks_are_the_whole(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.m4a", "aac", 44100)
    with open_sound(path) as sound:
        whole = sound.read(10**6)
    with open_sound(path) as sound:
        blocks = []
        while len(block := sound.read(5000)):
            blocks.append(block)
    assert np.array_equal(np.concatenate(blocks), whole)
