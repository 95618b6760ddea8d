import numpy as np
import pytest

from data_prep.sources import noises
from data_prep.sources.domain import NOISES
from data_prep.steps.label_states import (
    CHUNK,
    RATE,
    StatesConfig,
    chunk_states,
    compose,
    pause_points,
)
from fo_core import streaming
from fo_core.config import replace
from fo_core.errors import ConfigError, DataError

PLAIN = StatesConfig(pause_share=0.0, snr_db=(60.0, 60.0), gain_db=(0.0, 0.0))


def speech(words: int = 4) -> np.ndarray:
    """Syllables of 0.3 s with dips of 0.1 s between them."""
    time = np.arange(int(0.3 * RATE)) / RATE
    word = (0.3 * np.sin(2 * np.pi * 200 * time) * np.hanning(len(time)) ** 0.2).astype("f4")
    gap = 0.0005 * np.ones(int(0.1 * RATE), "f4")
    return np.concatenate([piece for _ in range(words) for piece in (word, gap)][:-1])


def test_the_grid_is_the_streaming_grid() -> None:
    assert CHUNK == streaming.CHUNK_SAMPLES


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (2560 * 3, (0, 0, 0, 1, 1)),  # ends on a border: the next chunk is all silence
        (2560 * 3 + 1, (0, 0, 0, 0, 1)),
        (2560 * 3 - 1, (0, 0, 0, 1, 1)),
        (2560 * 5, (0, 0, 0, 0, 0)),
    ],
)
def test_state_changes_in_the_first_chunk_that_starts_after_the_end(
    end: int, expected: tuple[int, ...]
) -> None:
    assert chunk_states(2560 * 5, end, "question") == expected


def test_kinds_end_in_their_states_and_delay_waits() -> None:
    def last(kind: str) -> int:
        return chunk_states(2560 * 4, 2560, kind)[-1]

    assert last("question") == 1 and last("incomplete") == 0
    assert [last(kind) for kind in ("backchannel", "aside", "noise")] == [2, 2, 2]
    assert chunk_states(2560 * 4, 2560, "question", delay=2) == (0, 0, 0, 1)


@pytest.mark.parametrize("seed", range(5))
def test_composed_recording_agrees_with_its_labels(seed: int) -> None:
    made = compose(speech(), "question", PLAIN, seed)
    assert len(made.wave) == CHUNK * len(made.states)
    assert 0 <= made.speech_start <= 0.4
    start, end = round(made.speech_start * RATE), round(made.speech_end * RATE)
    assert 0.6 * RATE <= len(made.wave) - end <= 1.4 * RATE + CHUNK
    for k, state in enumerate(made.states):
        assert state == (1 if k * CHUNK >= end else 0)
    assert np.sqrt((made.wave[end + 200 :] ** 2).mean()) < 0.01 * np.abs(made.wave[start:end]).max()
    again = compose(speech(), "question", PLAIN, seed)
    assert np.array_equal(again.wave, made.wave)
    assert not np.array_equal(compose(speech(), "question", PLAIN, seed + 1).wave, made.wave)


def test_inner_pauses_are_silent_and_labelled_as_listening() -> None:
    cfg = StatesConfig(pause_share=1.0, snr_db=(60.0, 60.0), gain_db=(0.0, 0.0))
    made = compose(speech(), "question", cfg, 0)
    ((start, end),) = made.pauses
    assert 0.3 <= end - start <= 1.4
    assert made.speech_start + 0.35 <= start and end <= made.speech_end - 0.3
    assert np.abs(made.wave[round(start * RATE) : round(end * RATE)]).max() < 0.01
    assert all(s == 0 for s in made.states[: round(end * RATE) // CHUNK])
    assert 1 in made.states
    assert compose(speech(), "backchannel", cfg, 0).pauses == ()


@pytest.mark.parametrize("kind", ["question", "incomplete"])
def test_what_is_silent_for_long_has_no_label(kind: str) -> None:
    wave = speech()
    cfg = StatesConfig(pause_share=1.0, pause=(1.0, 1.4), tail=(1.2, 1.4))
    some, none = (
        compose(wave, kind, each, seed=3) for each in (replace(cfg, unsure_after=0.5), cfg)
    )
    assert (some.wave == none.wave).all(), "labels alone differ"
    silence = some.pauses[0] if kind == "question" else (some.speech_end, len(some.wave) / RATE)
    for k, (ours, whole) in enumerate(zip(some.states, none.states, strict=True)):
        late = (k + 1) * 0.16 > silence[0] + 0.5 and k * 0.16 < silence[1]
        assert ours == (-1 if late else whole)
    assert -1 in some.states and (kind == "incomplete" or 1 in some.states)


@pytest.mark.parametrize(
    ("name", "value"), [("unsure_after", -1.0), ("pause_share", 1.5), ("delay", -1)]
)
def test_what_cannot_be_composed_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"compose.{name} is {value}; possible: 0 "):
        StatesConfig(**{name: value})


def test_pause_points_are_the_dips() -> None:
    points = [p / RATE for p in pause_points(speech(), 0.2)]
    assert points and all(any(abs(p - d) < 0.06 for d in (0.35, 0.75, 1.15)) for p in points)


def test_wave_never_clips_and_noise_follows_the_snr() -> None:
    loud = StatesConfig(gain_db=(20.0, 20.0))
    assert np.abs(compose(speech(), "question", loud, 0).wave).max() <= 0.991
    noisy = StatesConfig(pause_share=0.0, snr_db=(10.0, 10.0), gain_db=(0.0, 0.0))
    made = compose(speech(), "question", noisy, 0)
    tail = made.wave[round(made.speech_end * RATE) :]
    body = made.wave[round(made.speech_start * RATE) : round(made.speech_end * RATE)]
    ratio = 10 * np.log10((body**2).mean() / (tail**2).mean())
    assert ratio == pytest.approx(10.4, abs=2)


@pytest.mark.parametrize("name", NOISES)
def test_noises_are_seeded_and_bounded(name: str) -> None:
    wave = noises.make(name, 3, RATE)
    assert np.array_equal(wave, noises.make(name, 3, RATE))
    assert not np.array_equal(wave, noises.make(name, 4, RATE))
    assert np.isfinite(wave).all() and np.abs(wave).max() == pytest.approx(0.3, abs=1e-3)
    assert 0.01 < len(wave) / RATE < 2


def test_unknown_noise_is_named() -> None:
    with pytest.raises(DataError, match="unknown noise 'bang'.*cough"):
        noises.make("bang", 0, RATE)
