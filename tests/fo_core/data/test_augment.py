"""Changes of recordings: what they do to the sound, and that the labels still fit it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.steps.label_states import CHUNK, chunk_states
from fo_core.config import load, to_dict
from fo_core.data import augment as module
from fo_core.data.augment import AugmentConfig, augment, augment_item, faster, stretched
from fo_core.data.dataset import make_loader
from fo_core.data.manifest import IGNORE, Item
from fo_core.errors import DataError
from fo_core.io import audio

RATE = 16000
STILL = AugmentConfig(gain_db=(0.0, 0.0), noise_share=0.0, tilt_share=0.0)
EVERYTHING = AugmentConfig(
    speed_share=0.7, room_share=0.7, codec_share=0.7, telephone_share=0.5, noise_share=0.7
)


def speech(seconds: float = 2.4, seed: int = 0) -> np.ndarray:
    """Bursts of a harmonic sound with gaps: float32 [S]."""
    time = np.arange(int(RATE * seconds)) / RATE
    voice = sum(np.sin(2 * np.pi * 140 * k * time + k * seed) / k for k in range(1, 25))
    return (0.1 * voice * (np.sin(2 * np.pi * 2.3 * time) > -0.3)).astype(np.float32)


def item(**changes: object) -> Item:
    base = Item("a", "a.flac", RATE, 15 * CHUNK, states=(0,) * 9 + (1,) * 6, speech_start=0.2)
    return replace(base, **{"speech_end": 1.4, **changes})


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """By how many samples ``b`` comes after ``a``."""
    size = len(a) + len(b)
    cross = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    best = int(cross.argmax())
    return best if best < size // 2 else best - size


def power_db(wave: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / RATE)
    return float(10 * np.log10(spectrum[(frequency >= low) & (frequency < high)].sum() + 1e-12))


def test_what_is_off_draws_nothing() -> None:
    """Fails if a new effect moves the draws of runs that do not use it."""
    wave = speech()
    draw = np.random.default_rng(5)
    gain = np.float32(10 ** (draw.uniform(-6, 6) / 20))
    draw.random()
    tilted = draw.random() < 0.0
    cfg = AugmentConfig(tilt_share=0.0, noise_share=0.0)
    changed = augment(wave, cfg, np.random.default_rng(5))
    assert not tilted and np.array_equal(changed, wave * gain)


def test_the_same_draw_gives_the_same_sound_and_labels() -> None:
    for seed in range(6):
        first = augment_item(item(), speech(), RATE, EVERYTHING, np.random.default_rng(seed))
        again = augment_item(item(), speech(), RATE, EVERYTHING, np.random.default_rng(seed))
        assert first[0] == again[0] and np.array_equal(first[1], again[1])
    other = augment_item(item(), speech(), RATE, EVERYTHING, np.random.default_rng(99))
    assert not np.array_equal(first[1], other[1])


def test_whatever_is_drawn_is_a_wave_that_fits_its_labels() -> None:
    for seed in range(40):
        got, wave = augment_item(item(), speech(), RATE, EVERYTHING, np.random.default_rng(seed))
        assert wave.dtype == np.float32 and np.isfinite(wave).all() and np.abs(wave).max() <= 1
        assert len(wave) == len(got.states) * CHUNK == round(got.duration * RATE)
        assert wave.any() and got.states[0] == 0 and got.states[-1] == 1
        assert got.speech_end < got.duration


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_labels_are_those_of_the_faster_sound(factor: float) -> None:
    """The same rule that labels a recording, asked for the sound as it is afterwards."""
    draw = np.random.default_rng(0)
    for _ in range(200):
        chunks, delay = int(draw.integers(6, 40)), int(draw.integers(0, 3))
        end = int(draw.integers(CHUNK, (chunks - 4) * CHUNK))
        old = chunk_states(chunks * CHUNK, end, "question", delay)
        new = int(chunks / factor)
        expected = chunk_states(new * CHUNK, round(end / factor), "question", delay)
        got = stretched(old, factor, new, end / RATE)
        moved = sum(a != b for a, b in zip(got, expected, strict=True))
        on_the_edge = abs(end / factor / CHUNK - round(end / factor / CHUNK)) < 1e-3
        assert moved <= on_the_edge, (end, got, expected)


def test_labels_without_a_known_end_never_come_early() -> None:
    old = (0,) * 7 + (1,) * 5 + (0,) * 3 + (IGNORE,) * 2
    for factor in (0.9, 1.1):
        new = stretched(old, factor, int(17 / factor))
        for chunk, state in enumerate(new):
            if state != 0 or chunk * factor >= 12:
                assert old[int(chunk * factor + 1e-6)] == state
        assert set(new) == {0, 1, IGNORE}
    assert stretched((0,) * 5, 1.1, 4) == (0,) * 4


def test_speed_moves_sound_and_times_alike() -> None:
    wave = speech()
    got, fast = faster(item(speech_tokens=(1, 2)), wave, RATE, 1.25)
    assert abs(len(fast) - len(wave) / 1.25) < CHUNK and got.seconds == len(fast) / RATE
    assert got.speech_end == pytest.approx(1.4 / 1.25) and got.speech_tokens == ()
    spectrum = np.abs(np.fft.rfft(fast[:12800]))
    peak = np.fft.rfftfreq(12800, 1 / RATE)[spectrum.argmax()]
    assert peak == pytest.approx(140 * 1.25, abs=3)
    assert faster(item(), wave, RATE, 1.0)[1] is wave
    plain, slow = faster(replace(item(), states=(), speech_end=0.0), wave, RATE, 0.9)
    assert len(slow) == pytest.approx(len(wave) / 0.9, abs=2) and plain.states == ()


def test_a_room_keeps_place_and_power_and_leaves_a_tail() -> None:
    wave = np.concatenate([speech(1.0), np.zeros(RATE, np.float32)])
    cfg = load(AugmentConfig, {"room_t60": [0.5, 0.5], "room_direct_db": [0, 0]})
    heard = module.in_room(wave, cfg, np.random.default_rng(0), RATE)
    assert len(heard) == len(wave) and abs(lag(wave, heard)) <= 1
    assert (heard**2).sum() == pytest.approx((wave**2).sum(), rel=0.01)
    early, late = heard[RATE : RATE + 1600], heard[RATE + 8000 :]
    assert np.abs(early).max() > 0.01 > np.abs(late).max()


def test_a_recorded_room(tmp_path: Path) -> None:
    echo = np.zeros(RATE // 2, np.float32)
    echo[100], echo[100 + 3200] = 0.9, 0.45
    audio.write(tmp_path / "room.wav", echo, RATE)
    click = np.zeros(RATE, np.float32)
    click[2000] = 0.5
    cfg = load(AugmentConfig, {"room_files": str(tmp_path)})
    heard = module.in_room(click, cfg, np.random.default_rng(0), RATE)
    assert int(heard.argmax()) == 2000
    assert heard[5200] == pytest.approx(heard[2000] / 2, rel=0.02)


@pytest.mark.parametrize("codec", ["opus", "mp3", "vorbis"])
@pytest.mark.parametrize("rate", [16000, 24000])
def test_a_codec_changes_the_sound_but_not_its_place(codec: str, rate: int) -> None:
    if codec == "mp3":
        import soundfile

        if "MP3" not in soundfile.available_formats():
            pytest.skip("this libsndfile writes no MP3")
    wave = speech()
    coded = module.through_codec(wave, codec, 0.6, rate)
    assert len(coded) == len(wave) and abs(lag(wave, coded)) <= 1
    rest = ((coded - wave) ** 2).sum() / (wave**2).sum()
    assert 1e-7 < rest < 0.2


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(DataError, match="augment.codecs: 'aac'.*opus, mp3, vorbis"):
        module.through_codec(speech(), "aac", 0.5, RATE)


def test_a_telephone_has_its_band_and_its_grain() -> None:
    wave = speech() + np.float32(0.01) * np.random.default_rng(0).standard_normal(
        len(speech())
    ).astype(np.float32)
    heard = module.through_telephone(wave, RATE)
    assert len(heard) == len(wave) and abs(lag(wave, heard)) <= 1
    assert power_db(heard, 4200, 8000) < power_db(wave, 4200, 8000) - 25
    assert power_db(heard, 50, 250) < power_db(wave, 50, 250) - 15
    assert power_db(heard, 600, 3000) == pytest.approx(power_db(wave, 600, 3000), abs=0.5)
    narrow = audio.resample(heard, RATE, 8000)
    assert len(np.unique(np.round(narrow * 32768))) > 2  # sound, not a constant


def test_recorded_noise_is_mixed_at_its_level(tmp_path: Path) -> None:
    noise = np.sin(2 * np.pi * 3000 * np.arange(RATE * 5) / RATE)
    audio.write(tmp_path / "n" / "tone.flac", 0.3 * noise, RATE)
    cfg = replace(STILL, noise_share=1.0, snr_db=(12.0, 12.0), noise_files=str(tmp_path / "n"))
    wave = 0.3 * speech(8.0)  # longer than the noise
    changed = augment(wave, cfg, np.random.default_rng(0))
    added = changed - wave
    assert 10 * np.log10((wave**2).sum() / (added**2).sum()) == pytest.approx(12, abs=0.3)
    assert power_db(added, 2900, 3100) > power_db(added, 0, 2900) + 20
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="augment: no sound in .*empty"):
        augment(wave, replace(cfg, noise_files=str(tmp_path / "empty")), np.random.default_rng(0))


def test_silence_and_nothing_stay_what_they_are() -> None:
    silent = np.zeros(8000, np.float32)
    assert not augment(silent, EVERYTHING, np.random.default_rng(1)).any()
    assert len(augment(silent[:0], EVERYTHING, np.random.default_rng(1))) == 0


def test_a_loader_gives_labels_that_fit_the_changed_sound(tmp_path: Path) -> None:
    """Fails if the batch keeps the labels of the sound as it was."""
    items = []
    for n in range(8):
        path = tmp_path / f"{n}.flac"
        audio.write(path, speech(seed=n), RATE)
        items.append(replace(item(), id=str(n), audio=str(path)))
    cfg = replace(STILL, speed_share=0.5, speeds=(0.8, 1.25))
    loader = make_loader(items, "states", batch_size=8, augmentation=cfg, seed=1)
    epochs = [batch for _ in range(2) for batch in loader]
    for batch in epochs:
        lens = batch["wave_lens"].tolist()
        assert len(set(lens)) > 1 and [n // CHUNK for n in lens] == batch["state_lens"].tolist()
        for number, one in enumerate(batch["items"]):
            end = int(np.ceil(round(one.speech_end / 0.16, 6)))
            states = batch["states"][number, : lens[number] // CHUNK]
            assert not states[:end].any() and bool((states[end:] == 1).all())
    by_id = [{i.id: i.duration for i in batch["items"]} for batch in epochs]
    assert by_id[0] != by_id[1]
    cropped = make_loader(items, "states", batch_size=8, augmentation=cfg, crop_samples=8000)
    assert set(next(iter(cropped))["wave_lens"].tolist()) == {8000}


def test_an_empty_folder_of_noises_is_refused_before_the_first_item(tmp_path: Path) -> None:
    """Fails if the items that draw noise are skipped one by one instead."""
    for name in ("noise", "room"):
        cfg = replace(STILL, **{f"{name}_share": 0.1, f"{name}_files": str(tmp_path)})
        with pytest.raises(DataError, match="no sound in"):
            make_loader([item()], "states", batch_size=1, augmentation=cfg)
        off = replace(cfg, **{f"{name}_share": 0.0})
        assert len(make_loader([item()], "states", batch_size=1, augmentation=off)) == 1


def test_the_config_goes_through_yaml() -> None:
    cfg = load(AugmentConfig, {"speeds": [0.95], "codecs": ["opus"], "speed_share": 1})
    assert load(AugmentConfig, to_dict(cfg)) == cfg
    got, _ = augment_item(item(), speech(), RATE, cfg, np.random.default_rng(0))
    assert got.speech_end == pytest.approx(1.4 / 0.95)
