"""Own recordings in Full-Duplex-Bench's folder form, for ``fo eval duplex`` to play.

From single utterances of users (and of whoever else is heard) come the tasks of v1 and v1.5:

v1/synthetic_pause_handling  a turn with silence put behind a word that leaves its sentence open
v1/natural_pause_handling    turns in which the speaker paused
v1/smooth_turn_taking        a whole turn, then silence
v1/user_interruption         a turn, and a second one while the model should be answering
v1.5/user_backchannel        a turn, then a word such as "yeah" while the model should be answering
v1.5/talking_to_other        the same with a sentence meant for somebody else
v1.5/background_speech       the same with another voice, quieter and from across the room

A pause recording ends with the user's speech: whoever spoke before then took the turn in a pause.
Every recording has room noise under it; v1.5 gets ``clean_input.wav``, the same without what comes
in between. ``sources.json`` says which utterance is where. The same seed makes the same recordings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.held_out import ordered
from data_prep.sources.room import far_voice, power_of, with_noise, within_peak
from data_prep.steps.label_states import RATE, apart, pause_points
from data_prep.steps.own_recordings import fitting
from fo_core.config import config, to_dict
from fo_core.data.manifest import Item
from fo_core.errors import AudioError, DataError
from fo_core.io import audio
from fo_core.io.files import only_run, read_json, write_json

Words = Callable[[np.ndarray], Sequence[tuple[str, float, float]]]  # (word, start, end), s
Span = tuple[float, float]
# an English sentence does not end behind these
OPEN = frozenset(
    "a an the my your his her its our their this that these those of to with for in on at from by "
    "into about as and or but because if when while than can could may might will would should "
    "shall must do does did is are was were am be been have has had get i you we they he she it "
    "i'd i'll i'm please make give brew some any one two three single double triple large medium "
    "small very so no not just".split()
)
SYNTHETIC, NATURAL = "v1/synthetic_pause_handling", "v1/natural_pause_handling"
SMOOTH, INTERRUPTION = "v1/smooth_turn_taking", "v1/user_interruption"
OVERLAPS = {  # task -> whose speech comes in between
    "v1.5/user_backchannel": "backchannels",
    "v1.5/talking_to_other": "asides",
    "v1.5/background_speech": "background",
}
TASKS = (SYNTHETIC, NATURAL, SMOOTH, INTERRUPTION, *OVERLAPS)
KIND_OF = {"backchannels": "backchannel", "asides": "aside", "background": "background"}


@config
class BenchConfig:
    """How many recordings, and how they are composed."""

    seed: int = 0  # another one draws other utterances, places and noises
    number: int = 20  # recordings a task
    longest: float = 10.0  # s of an utterance; longer ones are not used
    lead: tuple[float, float] = (0.3, 0.6)  # silence before the user, s
    pause: tuple[float, float] = (0.6, 1.4)  # silence that is put into a turn, s
    natural_pause: float = 0.4  # shortest silence of a speaker that counts as a pause, s
    edge: float = 0.35  # share of an utterance at either end in which it is not cut
    wait: tuple[float, float] = (1.2, 1.8)  # end of the turn to what comes in between, s
    tail: float = 5.0  # silence behind the last speech, s
    level_db: float = -23.0  # loudness of the user, RMS in dB
    background_db: tuple[float, float] = (-20.0, -12.0)  # the other voice against the user's, dB
    snr_db: tuple[float, float] = (30.0, 50.0)  # user over room noise, dB
    noise_tilt: tuple[float, float] = (0.5, 2.0)  # its colour: 0 white, 1 pink, 2 brown


@dataclass(frozen=True)
class Speech:
    """Utterances to compose from; what is empty leaves its task out."""

    turns: Sequence[Item]
    backchannels: Sequence[Item] = ()
    asides: Sequence[Item] = ()
    background: Sequence[Item] = ()


def build(
    speech: Speech,
    out: Path,
    cfg: BenchConfig,
    words: Words | None = None,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> dict[str, Any]:
    """Write the tasks' folders.

    A run that was stopped is begun again and makes the same; a folder with recordings of other
    utterances or settings is left alone.

    Args:
        speech: What is said.
        out: Gets ``v1/TASK/N/`` and ``v1.5/TASK/N/`` with sounds and annotations, and sources.json.
        cfg: How.
        words: Tells when each word of a wave [S] at 16 kHz was said; then inner pauses stand behind
            a word of :data:`OPEN` where there is one. None: pauses stand at any inner dip.
        progress: Called with (task, done, total).

    Returns:
        ``made``: task -> recordings, ``left_out``: utterance -> why it was not used.

    Raises:
        DataError: No utterance can be used, or ``out`` holds other recordings.
        FoError: Another run works in ``out``.
    """
    with only_run(out):
        _same_settings(speech, out, cfg, words)
        return _built(_Builder(cfg, words), speech, out, cfg, progress)


def _same_settings(speech: Speech, out: Path, cfg: BenchConfig, words: Words | None) -> None:
    """Refuse to mix recordings of two benches; note what this one is made of."""
    utterances = {name: sorted(item.id for item in getattr(speech, name))
                  for name in ("turns", *OVERLAPS.values())}  # fmt: skip
    of = hashlib.sha256(json.dumps(utterances).encode()).hexdigest()[:16]
    now = json.loads(json.dumps({**to_dict(cfg), "utterances": of, "words": words is not None}))
    path = out / "settings.json"
    before = read_json(path) if path.is_file() else {}
    if before != now and any((out / task).is_dir() for task in TASKS):
        changed = sorted(key for key in now if before.get(key) != now[key])
        raise DataError(f"{out} holds recordings of other settings: {', '.join(changed)} differ",
                        do="give another --out, or delete it")  # fmt: skip
    write_json(path, now)


def _built(
    builder: _Builder,
    speech: Speech,
    out: Path,
    cfg: BenchConfig,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    sources: dict[str, list[dict[str, Any]]] = {}
    for task, recordings in builder.tasks(speech).items():
        rows = sources.setdefault(task, [])
        for recording in recordings:
            number = len(rows) + 1
            recording.save(out / task / str(number))
            rows.append({"id": str(number), **recording.about})
            progress(task.rpartition("/")[2], number, cfg.number)
            if number == cfg.number:
                break
    made = {task: len(rows) for task, rows in sources.items()}
    if not any(made.values()):
        why = next(iter(builder.left_out.values()), "there is none")
        raise DataError(f"no utterance can be used: {why}")
    write_json(out / "sources.json", sources)
    return {"made": made, "left_out": dict(builder.left_out)}


@dataclass(frozen=True)
class Recording:
    """One folder of a task."""

    wave: np.ndarray  # float32 [S] at 16 kHz
    annotation: str  # its file
    span: Span  # what it marks, s
    about: Mapping[str, Any]  # for sources.json
    clean: np.ndarray | None = None  # the same without what comes in between

    def save(self, folder: Path) -> None:
        """Write it."""
        audio.write(folder / "input.wav", self.wave, RATE)
        span = [round(at, 3) for at in self.span]
        if self.clean is None:
            write_json(folder / self.annotation, [{"timestamp": span, **_texts(self.about)}])
            return
        audio.write(folder / "clean_input.wav", self.clean, RATE)
        write_json(folder / self.annotation, {**_texts(self.about), "timestamps": span})


def _texts(about: Mapping[str, Any]) -> dict[str, Any]:
    """The texts as Full-Duplex-Bench calls them."""
    names = {"text": "context_text", "other_text": "current_turn_text"}
    return {name: about[key] for key, name in names.items() if key in about}


class _Builder:
    def __init__(self, cfg: BenchConfig, words: Words | None) -> None:
        self.cfg, self.words = cfg, words
        self.left_out: dict[str, str] = {}

    def tasks(self, speech: Speech) -> dict[str, Iterator[Recording]]:
        found = {
            SYNTHETIC: self._paused(speech.turns),
            NATURAL: self._natural(speech.turns),
            SMOOTH: self._smooth(speech.turns),
            INTERRUPTION: self._interrupted(speech.turns),
        }
        for task, name in OVERLAPS.items():
            if other := getattr(speech, name):
                found[task] = self._overlap(task, speech.turns, other)
        return found

    def _usable(self, items: Sequence[Item], task: str) -> Iterator[tuple[Item, np.ndarray]]:
        """Trimmed speech at one loudness, in an order that the seed says."""
        known = {item.id: item for item in items}
        for name in ordered(known, self._seed(task)):
            try:
                wave = known[name].load_audio(RATE, self.cfg.longest)
            except AudioError as error:
                self.left_out[name] = str(error)
                continue
            first, last = audio.speech_bounds(wave, RATE, 35.0)
            if last > first:
                spoken = audio.normalise(wave[first:last], RATE, self.cfg.level_db)
                yield known[name], spoken

    def _paused(self, turns: Sequence[Item]) -> Iterator[Recording]:
        for item, speech in self._usable(turns, SYNTHETIC):
            draw = self._draw(SYNTHETIC, item.id)
            place = self._place(speech, draw)
            if place is None:
                self.left_out.setdefault(f"{SYNTHETIC} {item.id}", "no place for a pause")
                continue
            at, word = place
            silence = round(RATE * draw.uniform(*self.cfg.pause))
            before, after = apart(speech, at)
            whole = np.concatenate([before, np.zeros(silence, np.float32), after])
            about = {"behind": word, "pause": round(silence / RATE, 3)}
            yield self._pause(item, whole, (at, at + silence), draw, about)

    def _natural(self, turns: Sequence[Item]) -> Iterator[Recording]:
        for item, speech in self._usable(turns, NATURAL):
            silences = inner_silences(speech, self.cfg.natural_pause)
            if silences:
                longest = max(silences, key=lambda span: span[1] - span[0])
                draw = self._draw(NATURAL, item.id)
                about = {"pause": round((longest[1] - longest[0]) / RATE, 3)}
                yield self._pause(item, speech, longest, draw, about)

    def _pause(
        self, item: Item, speech: np.ndarray, span: tuple[int, int],
        draw: np.random.Generator, about: dict[str, Any],
    ) -> Recording:  # fmt: skip
        lead = self._lead(draw)
        wave = self._room(np.concatenate([np.zeros(lead, np.float32), speech]), speech, draw)
        seconds = ((lead + span[0]) / RATE, (lead + span[1]) / RATE)
        return Recording(wave, "pause.json", seconds, _about(item) | about)

    def _smooth(self, turns: Sequence[Item]) -> Iterator[Recording]:
        for item, speech in self._usable(turns, SMOOTH):
            draw = self._draw(SMOOTH, item.id)
            lead = self._lead(draw)
            wave = self._room(self._laid((lead, speech)), speech, draw)
            span = (lead / RATE, (lead + len(speech)) / RATE)
            yield Recording(wave, "turn_taking.json", span, _about(item))

    def _interrupted(self, turns: Sequence[Item]) -> Iterator[Recording]:
        usable = self._usable(turns, INTERRUPTION)
        for first, second in zip(usable, usable, strict=False):
            yield self._between(INTERRUPTION, first, second, "interrupt.json")

    def _overlap(
        self, task: str, turns: Sequence[Item], others: Sequence[Item]
    ) -> Iterator[Recording]:
        """A turn, and what is said in between: by the same speaker, where there is one."""
        pool, waves = [], {}
        for other, said in self._usable(others, task):
            pool.append(other)
            waves[other.id] = said
        for item, speech in self._usable(turns, task):
            for chosen in fitting(KIND_OF[OVERLAPS[task]], item.speaker, pool)[:1]:
                pool = [one for one in pool if one is not chosen] + [chosen]
                second = chosen, waves[chosen.id]
                yield self._between(task, (item, speech), second, "metadata.json")

    def _between(
        self, task: str, first: tuple[Item, np.ndarray], second: tuple[Item, np.ndarray], file: str
    ) -> Recording:
        item, speech = first
        other, said = second
        draw = self._draw(task, f"{item.id} {other.id}")
        lead = self._lead(draw)
        at = lead + len(speech) + round(RATE * draw.uniform(*self.cfg.wait))
        if OVERLAPS.get(task) == "background":
            level = draw.uniform(*self.cfg.background_db)
            said = far_voice(said, power_of(speech), level, draw, RATE)
        wave = self._laid((lead, speech), (at, said))
        noise = self._seed(f"{task} {item.id} {other.id} noise")
        made = self._room(wave, speech, np.random.default_rng(noise))
        about = _about(item) | {f"other_{key}": value for key, value in _about(other).items()}
        clean = None
        if file == "metadata.json":
            alone = self._laid((lead, speech), (at, np.zeros_like(said)))
            clean = self._room(alone, speech, np.random.default_rng(noise))
        return Recording(made, file, (at / RATE, (at + len(said)) / RATE), about, clean)

    def _laid(self, *parts: tuple[int, np.ndarray]) -> np.ndarray:
        """Parts at their places, with the tail behind the last: float32 [S]."""
        wave = np.zeros(max(at + len(p) for at, p in parts) + round(RATE * self.cfg.tail), "f4")
        for at, part in parts:
            wave[at : at + len(part)] += part
        return wave

    def _room(self, wave: np.ndarray, speech: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        cfg = self.cfg
        return within_peak(with_noise(wave, power_of(speech), cfg.snr_db, cfg.noise_tilt, draw))

    def _place(self, speech: np.ndarray, draw: np.random.Generator) -> tuple[int, str] | None:
        """Where a pause goes, in samples, and the word before it ("" if no recogniser says)."""
        low, high = self.cfg.edge * len(speech), (1 - self.cfg.edge) * len(speech)
        if self.words is None:
            points = [at for at in pause_points(speech, 0.0) if low <= at <= high]
            return (points[int(draw.integers(len(points)))], "") if points else None
        heard = list(self.words(speech))
        gaps = [
            (quietest(speech, before[2], after[1]), before[0].lower().strip(" .,?!"))
            for before, after in zip(heard, heard[1:], strict=False)
        ]
        gaps = [gap for gap in gaps if low <= gap[0] <= high]
        left_open = [gap for gap in gaps if gap[1] in OPEN] or gaps
        return left_open[int(draw.integers(len(left_open)))] if left_open else None

    def _lead(self, draw: np.random.Generator) -> int:
        return round(RATE * draw.uniform(*self.cfg.lead))

    def _draw(self, task: str, name: str) -> np.random.Generator:
        return np.random.default_rng(self._seed(f"{task} {name}"))

    def _seed(self, name: str) -> int:
        said = f"{self.cfg.seed}/{name}"
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:6], "big")


def _about(item: Item) -> dict[str, Any]:
    found = {"text": item.text, "source": item.id, "speaker": item.speaker}
    return {key: value for key, value in found.items() if value}


def quietest(speech: np.ndarray, end: float, start: float, near: float = 0.06) -> int:
    """The sample of least energy around a word's end and the next one's start (s)."""
    level = audio.energy_db(speech, RATE)
    first = max(0, round((min(end, start) - near) / audio.FRAME_SECONDS))
    last = max(first + 1, round((max(end, start) + near) / audio.FRAME_SECONDS))
    place = first + int(np.argmin(level[first:last])) if first < len(level) else len(level) - 1
    return round((place + 0.5) * audio.FRAME_SECONDS * RATE)


def inner_silences(speech: np.ndarray, shortest: float) -> list[tuple[int, int]]:
    """Silences inside trimmed speech, in samples: frames 30 dB below its loud ones.

    Args:
        speech: float32 [S] at 16 kHz.
        shortest: s; shorter ones are not listed.
    """
    level = audio.energy_db(speech, RATE)
    quiet = level < np.percentile(level, 90) - 30
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    frame = round(RATE * audio.FRAME_SECONDS)
    spans = [(int(a) * frame, int(b) * frame) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    long = [(a, b) for a, b in spans if b - a >= shortest * RATE]
    return [(a, b) for a, b in long if a > 0 and b < len(speech)]
