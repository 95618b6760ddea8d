from pathlib import Path

import numpy as np
import pytest
import soundfile

from fo_core.errors import AudioError, DataError
from fo_core.io import audio


def tone(seconds: float = 0.5, rate: int = 16000, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_any_format_rate_and_channels_becomes_mono_16k(
    tmp_path: Path, name: str, rate: int
) -> None:
    one = tone(rate=rate)
    soundfile.write(tmp_path / name, np.stack([one, np.zeros_like(one)], axis=1), rate)
    wave = audio.read(tmp_path / name)
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert abs(len(wave) - 8000) < 3000 if name == "a.mp3" else abs(len(wave) - 8000) <= 2
    assert np.abs(wave).max() == pytest.approx(0.15, abs=0.03)  # the mean of both channels


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW"])
def test_wav_subtypes(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16000, subtype=subtype)
    assert np.abs(audio.read(tmp_path / "a.wav") - tone()).max() < 0.02


def test_part_of_a_file(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", np.arange(16000) / 32768, 16000)
    part = audio.read(tmp_path / "a.flac", start=0.25, duration=0.5)
    assert np.array_equal(audio.to_int16(part), np.arange(4000, 12000))


def bad_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / f"{name}.wav" for name in ("zero", "empty", "text", "short", "nan")}
    files["zero"].touch()
    soundfile.write(files["empty"], np.zeros(0, "f4"), 16000)
    files["text"].write_text("these are words, not sound\n" * 20)
    soundfile.write(files["short"], tone(0.05), 16000)
    broken = tone()
    broken[100] = np.nan
    soundfile.write(files["nan"], broken, 16000, subtype="FLOAT")
    return {**files, "missing": folder / "no.wav", "folder": folder}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zero", "0 bytes"),
        ("empty", "holds no samples"),
        ("text", "not a sound file"),
        ("short", "too short: 0.050 s"),
        ("nan", "not numbers"),
        ("missing", "no sound file"),
        ("folder", "is a folder"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file(tmp_path: Path, name: str, said: str) -> None:
    path = bad_files(tmp_path)[name]
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert said in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_long_is_refused_before_decoding_and_names_the_limit(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(8000 * 601, np.int16), 8000)
    with pytest.raises(AudioError, match=r"601\.0 s.*at most 120 s"):
        audio.read(tmp_path / "long.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_write_round_trip_clips(tmp_path: Path, name: str) -> None:
    wave = tone()
    wave[:10] = 2.0
    audio.write(tmp_path / "new" / name, wave, 24000)
    back = audio.read(tmp_path / "new" / name, 24000)
    assert np.abs(back - np.clip(wave, -1, 1)).max() <= 1 / 32768
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]  # nothing half-written


def test_write_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"\.wav, \.flac"):
        audio.write(tmp_path / "a.mp3", tone(), 16000)
    with pytest.raises(AudioError, match="not numbers"):
        audio.write(tmp_path / "a.wav", np.array([np.nan]), 16000)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        audio.write(tmp_path / "file" / "a.wav", tone(), 16000)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_int16_round_trip_is_exact() -> None:
    values = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16)
    assert np.array_equal(audio.to_int16(audio.from_int16(values)), values)


def test_trim_and_bounds_find_the_sound() -> None:
    wave = np.concatenate([np.zeros(8000, "f4"), tone(0.5), np.zeros(4000, "f4")])
    start, end = audio.speech_bounds(wave, 16000)
    assert abs(start - 8000) <= 160 and abs(end - 16000) <= 160
    assert len(audio.trim(wave, 16000, margin=0.02)) == pytest.approx(8640, abs=320)
    assert audio.speech_bounds(np.zeros(1000, "f4"), 16000) == (0, 0)


def test_normalise_sets_loudness_and_keeps_the_peak() -> None:
    quiet = 0.01 * tone()
    level = 20 * np.log10(np.sqrt((audio.normalise(quiet, 16000, -20.0) ** 2).mean()))
    assert level == pytest.approx(-20, abs=0.3)
    assert np.abs(audio.normalise(tone(), 16000, 0.0)).max() <= 0.951
    silence = np.zeros(1600, "f4")
    assert np.array_equal(audio.normalise(silence, 16000), silence)
