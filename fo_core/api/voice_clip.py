"""A clip that is to lend its voice: read, checked for one person speaking, cut to the speech."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fo_core.engines import speaker_similarity
from fo_core.errors import AudioError, EngineError
from fo_core.io import audio
from fo_core.io.audio import Wave
from fo_core.streaming import SAMPLE_RATE

SHORTEST, LONGEST = 3.0, 60.0  # s of a clip
WANTED = f"{SHORTEST:g} to {LONGEST:g} s of one person who speaks, without music"
LEAST_SPEECH = 2.0  # s of it that must be speech
SPEECH_SHARE = 0.5  # of what is loud that must be speech
LOUD = 30.0  # dB below the loudest window: quieter ones are pauses
SILENT = 0.004  # a clip whose loudest sample is lower is silent
FLAT = 3  # samples in a row at the limit that are clipped
CLIPPED = 0.001  # share of the samples that may be
ONE_VOICE = 0.75  # cosine of a clip's two groups of windows below which they are two voices
SECOND_SHARE = 0.15  # of the windows that the smaller group must have


@dataclass(frozen=True)
class VoiceClip:
    """A clip that can lend its voice."""

    wave: Wave  # float32 [S] at the codec's rate, from the first to the last word
    heard: Wave  # the same at 16 kHz
    seconds: float  # of the clip
    one_speaker: bool | None  # None: it could not be checked


def read_clip(path: Path, rate: int) -> VoiceClip:
    """Read a clip and refuse what is no voice.

    Args:
        path: Any sound file.
        rate: Of the codec, Hz.

    Raises:
        AudioError: It is no sound, too short or too long, silent, clipped, mostly not speech, or
            two people speak in it.
    """
    own = audio.info(path).rate
    wave = audio.read(path, own, LONGEST, SHORTEST)
    peak = float(np.abs(wave).max())
    if peak < SILENT:
        raise _refused(path, f"is silent (loudest sample {peak:.4f} of 1)")
    share = _flat_share(wave, peak)
    if share > CLIPPED:
        what = f"is clipped: {100 * share:.1f} % of its samples are cut off at the limit"
        raise _refused(path, what, "record it with less gain")
    heard = audio.resample(wave, own, SAMPLE_RATE)
    start, end = _speech(path, heard)
    at, to = round(start * own), round(end * own)
    heard = heard[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    one = _one_speaker(heard)
    if one is False:
        raise _refused(path, "holds two voices", "cut out the part of one person")
    cut = audio.resample(wave[at:to], own, rate)
    return VoiceClip(cut, heard, len(wave) / own, one)


def _refused(path: Path, what: str, do: str = "take another clip") -> AudioError:
    return AudioError(f"{path} {what}", possible=WANTED, do=do)


def _flat_share(wave: Wave, peak: float) -> float:
    """Share of the samples of a wave [S] that lie in a row at its highest or lowest value."""
    found = 0
    for side in (wave >= 0.999 * peak, wave <= -0.999 * peak):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], side.astype(np.int8), [0]])))
        runs = edges[1::2] - edges[::2]
        found += int(runs[runs >= FLAT].sum())
    return found / len(wave)


def _speech(path: Path, wave: Wave) -> tuple[float, float]:
    """Where speech starts and ends in a wave [S] at 16 kHz, s.

    Raises:
        AudioError: There is too little, or more of something else.
    """
    import torch

    from fo_core.engines.vad import WINDOW, make_vad

    vad = make_vad()
    whole = len(wave) // WINDOW
    windows = torch.from_numpy(wave[: whole * WINDOW])[None]
    speech = vad.step(windows, vad.init_state(1))[0][0].numpy() > 0.5
    power = (wave[: whole * WINDOW].reshape(whole, WINDOW) ** 2).mean(1)
    loud = power > power.max() * 10 ** (-LOUD / 10)
    share = float((speech & loud).sum() / max(1, loud.sum()))
    seconds = float(speech.sum()) * WINDOW / SAMPLE_RATE
    if share < SPEECH_SHARE:
        what = f"is mostly music or noise: {100 * share:.0f} % of what is loud is speech"
        raise _refused(path, what)
    if seconds < LEAST_SPEECH:
        raise _refused(path, f"holds only {seconds:.1f} s of speech")
    at = np.flatnonzero(speech)
    return int(at[0]) * WINDOW / SAMPLE_RATE, (int(at[-1]) + 1) * WINDOW / SAMPLE_RATE


def _one_speaker(wave: Wave) -> bool | None:
    """Whether one person speaks in a wave [S] at 16 kHz; None where the network is missing.

    Windows of 1.6 s fall into two groups around the two that are least alike; those of one person
    stay alike.
    """
    try:
        windows = speaker_similarity.embeddings(wave)
    except EngineError:
        return None
    alike = windows @ windows.T
    centres = windows[list(np.unravel_index(alike.argmin(), alike.shape))]
    for _ in range(10):
        second = (windows @ centres.T).argmax(1) == 1
        groups = [windows[second == side] for side in (False, True)]
        means = [g.mean(0) if len(g) else c for g, c in zip(groups, centres, strict=True)]
        centres = np.stack([m / max(float(np.linalg.norm(m)), 1e-9) for m in means])
    small = min(float(second.mean()), 1 - float(second.mean()))
    return bool(centres[0] @ centres[1] >= ONE_VOICE or small < SECOND_SHARE)
