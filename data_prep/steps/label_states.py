"""Duplex state labels on the streaming grid, and the recordings that carry them.

A recording is [silence][what is said][silence] over room noise. Chunk k is the 160 ms of samples
from 2560 k on; its label is the state to be read at its end (PAPER.md):

0  the user is speaking, or pauses inside an unfinished question, or has not begun;
1  a finished question has ended: from the first chunk that starts after its end, plus a delay;
2  a back-channel, a noise or an aside has ended: likewise; or a voice from elsewhere in the room
   has been heard long enough to be known for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.sources.room import far_voice, power_of, with_noise, within_peak
from fo_core.config import check_ranges, config
from fo_core.io import audio

RATE = 16000  # Hz
CHUNK = 2560  # samples: 160 ms, the streaming chunk
LISTEN, ANSWER, NO_ANSWER = 0, 1, 2
UNLABELLED = -1
ENDS_IN = {
    "question": ANSWER,
    "incomplete": LISTEN,
    "backchannel": NO_ANSWER,
    "aside": NO_ANSWER,
    "noise": NO_ANSWER,
    "background": NO_ANSWER,
}


@config
class StatesConfig:
    """How recordings are composed and when their states change."""

    lead: tuple[float, float] = (0.0, 0.4)  # silence before, s (drawn uniformly)
    tail: tuple[float, float] = (0.6, 1.4)  # silence after, s
    snr_db: tuple[float, float] = (20.0, 45.0)  # speech over room noise, dB
    noise_tilt: tuple[float, float] = (0.0, 2.0)  # colour of the noise: 0 white, 1 pink, 2 brown
    gain_db: tuple[float, float] = (-6.0, 3.0)  # loudness change, dB
    pause_share: float = 0.25  # share of the questions that pause inside
    pause: tuple[float, float] = (0.3, 1.4)  # length of an inner pause, s
    pause_margin: float = 0.35  # no pause this close to either end of the speech, s
    delay: int = 0  # chunks between the first one after the end and the state's change
    # s of silence inside a turn, or behind one that breaks off, from which chunks have no label:
    # what is silent for so long has ended, whatever it sounded like; 0 = all have one
    unsure_after: float = 0.0
    # a voice from elsewhere: s until it is known for one; its loudness against the user's, dB
    background_after: float = 0.6
    background_db: tuple[float, float] = (-20.0, -10.0)

    def __post_init__(self) -> None:
        least: dict[str, tuple[float, float | None]] = dict.fromkeys(
            ("pause_margin", "delay", "unsure_after", "background_after"), (0, None)
        )
        check_ranges(self, "compose", pause_share=(0, 1), **least)


@dataclass(frozen=True)
class Composed:
    """A recording with its labels."""

    wave: np.ndarray  # float32 [chunks * 2560] at 16 kHz
    states: tuple[int, ...]  # [chunks]
    speech_start: float  # s
    speech_end: float  # s
    pauses: tuple[tuple[float, float], ...]  # inner pauses that were put in, (start, end) in s


def chunk_states(samples: int, end: int, kind: str, delay: int = 0) -> tuple[int, ...]:
    """Labels of a recording.

    Args:
        samples: Its length, a multiple of 2560.
        end: Where the speech ends, in samples.
        kind: What was said ("question" ...), which says the state it ends in.
        delay: Chunks to wait after the first whole chunk behind the end.
    """
    change = -(-end // CHUNK) + delay
    return tuple(LISTEN if k < change else ENDS_IN[kind] for k in range(samples // CHUNK))


def without_long_silences(
    states: Sequence[int], silences: Sequence[tuple[float, float]], after: float
) -> tuple[int, ...]:
    """Labels, -1 (none) for chunks that end later than so many samples into a silence.

    Args:
        states: Labels of the chunks.
        silences: Spans in samples.
        after: Samples.
    """
    return tuple(
        UNLABELLED
        if any(start + after < (k + 1) * CHUNK and k * CHUNK < stop for start, stop in silences)
        else state
        for k, state in enumerate(states)
    )


def pause_points(wave: np.ndarray, margin: float) -> list[int]:
    """Samples where speech dips: the middle of low-energy frames, away from both ends."""
    level = audio.energy_db(wave, RATE)
    smooth = np.convolve(level, np.ones(3) / 3, mode="same")
    frame = round(RATE * audio.FRAME_SECONDS)
    edge = round(margin / audio.FRAME_SECONDS)
    loud = np.percentile(level, 80)
    return [
        i * frame + frame // 2
        for i in range(max(edge, 1), len(level) - max(edge, 1))
        if smooth[i] < loud - 14 and smooth[i] == smooth[max(0, i - 6) : i + 7].min()
    ]


def compose(
    speech: np.ndarray,
    kind: str,
    cfg: StatesConfig,
    seed: int,
    power: float | None = None,
    behind: np.ndarray | None = None,
) -> Composed:
    """Put speech (or a noise) [S] at 16 kHz into a recording of its own.

    The end of speech is measured on the synthesised sound itself (its trimmed edges). Everything
    drawn comes from the seed.

    Args:
        speech: What is said.
        kind: A key of :data:`ENDS_IN`.
        cfg: How.
        seed: Another one draws other silences, pauses, noise and loudness.
        power: Mean square of the near user's speech, where ``speech`` is not that.
        behind: Another voice from elsewhere in the room, heard all the time; it is repeated.
    """
    draw = np.random.default_rng(seed)
    first, last = audio.speech_bounds(speech, RATE)
    speech = speech[first:last]
    lead, tail = (round(RATE * draw.uniform(*span)) for span in (cfg.lead, cfg.tail))
    pauses = []
    if kind == "question" and draw.random() < cfg.pause_share:
        points = pause_points(speech, cfg.pause_margin)
        if points:
            at = int(points[draw.integers(len(points))])
            length = round(RATE * draw.uniform(*cfg.pause))
            speech = _pause(speech, at, length)
            pauses.append(((lead + at) / RATE, (lead + at + length) / RATE))
    end = lead + len(speech)
    total = -(-(end + tail) // CHUNK) * CHUNK
    wave = np.zeros(total, dtype=np.float32)
    wave[lead:end] = speech
    power = power_of(speech) if power is None else power
    if kind == "background":
        wave[lead:end] = far_voice(speech, power, draw.uniform(*cfg.background_db), draw, RATE)
    elif behind is not None and len(behind):
        level = draw.uniform(*cfg.background_db)
        wave += far_voice(np.resize(behind, total), power, level, draw, RATE)
    wave = with_noise(wave, power, cfg.snr_db, cfg.noise_tilt, draw)
    wave = within_peak(wave * np.float32(10 ** (draw.uniform(*cfg.gain_db) / 20)))
    known = lead + round(RATE * cfg.background_after) if kind == "background" else end
    states = chunk_states(total, min(end, known), kind, cfg.delay)
    if cfg.unsure_after > 0:
        silences = [(start * RATE, stop * RATE) for start, stop in pauses]
        silences += [(float(end), float(total))] if kind == "incomplete" else []
        states = without_long_silences(states, silences, cfg.unsure_after * RATE)
    return Composed(wave, states, lead / RATE, end / RATE, tuple(pauses))


def _pause(speech: np.ndarray, at: int, length: int, fade: float = 0.008) -> np.ndarray:
    """Silence put into speech at a dip, with short fades at both sides."""
    before, after = apart(speech, at, fade)
    return np.concatenate([before, np.zeros(length, np.float32), after])


def apart(speech: np.ndarray, at: int, fade: float = 0.008) -> tuple[np.ndarray, np.ndarray]:
    """Speech [S] cut in two, with short fades (s) at both sides of the cut."""
    size = round(RATE * fade)
    before, after = speech[:at].copy(), speech[at:].copy()
    before[-size:] *= np.linspace(1, 0, len(before[-size:]), dtype=np.float32)
    after[:size] *= np.linspace(0, 1, len(after[:size]), dtype=np.float32)
    return before, after
