"""An item of a manifest: one turn or utterance, to and from lhotse's cut in JSON.

What our tasks need is in the cut's ``custom``; what a cut of lhotse's may say is in
fo_core/data/cuts.py. lhotse itself is not imported here (it takes two seconds).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fo_core.data.cuts import custom_recordings, cut_sound, cut_words, say_unused
from fo_core.errors import AudioError, DataError
from fo_core.io import audio
from fo_core.io.audio import Wave

NEMO = "fo prepare-data import nemo makes a manifest of one of NeMo's"
IGNORE = -1  # a chunk whose state is not judged


@dataclass(frozen=True)
class Item:
    """One turn of a dialogue, or one utterance of a corpus.

    The fields from ``role`` on live in the cut's ``custom``; empty ones are not written.
    """

    id: str
    audio: str  # path of the sound file
    rate: int  # of the file, Hz
    num_samples: int  # of the whole file
    text: str = ""  # what is said
    speaker: str = ""
    language: str = "en"
    start: float = 0.0  # where in the file it starts, s
    seconds: float = 0.0  # how long it is; 0 = to the end of the file
    channel: int | None = 0  # of the file, from 0; None = all of its channels averaged
    num_channels: int = 1  # of the file
    role: str = ""  # user | assistant
    dialogue: str = ""  # id of the dialogue
    turn: int = 0  # place in the dialogue
    fact: str = ""  # id of the fact that is asked for
    kind: str = ""  # question | incomplete | backchannel | aside | noise | background | answer
    answer: str = ""  # the LLM's own answer to this turn
    answers: tuple[str, ...] = ()  # right answers, where the domain has some
    messages: tuple[dict[str, str], ...] = ()  # earlier turns: {"role", "content"}
    states: tuple[int, ...] = ()  # one per 160 ms chunk; IGNORE = not judged
    speech_tokens: tuple[int, ...] = ()  # one per 25 ms at 24 kHz (layer 0 of a codec with more)
    global_tokens: tuple[int, ...] = ()  # the voice
    letter_tokens: tuple[int, ...] = ()  # speech tokens of the start, each letter, and the end
    letter_sounds: tuple[str, ...] = ()  # pronunciation of each letter; "" where it is silent
    speech_start: float = 0.0  # s
    speech_end: float = 0.0  # s; 0 = not known
    extra: dict[str, Any] = field(default_factory=dict)  # everything else in ``custom``

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.seconds or self.num_samples / self.rate - self.start

    def load_audio(self, rate: int, max_seconds: float = 3600.0) -> Wave:
        """Its sound: float32 [S] at ``rate``.

        Raises:
            AudioError: The file is missing or cannot be used.
        """
        return audio.read(self.audio, rate, max_seconds, **self.part)

    @property
    def part(self) -> dict[str, Any]:
        """Which part of its file it is, as :func:`fo_core.io.audio.read` takes it."""
        return {"start": self.start, "duration": self.seconds or None, "channel": self.channel}

    def trimmed(self, tail: float) -> Item:
        """A copy that ends ``tail`` seconds after its speech, where the manifest says its end.

        Its states are gone: they label the sound that was.
        """
        if not self.speech_end or self.speech_end + tail >= self.duration:
            return self
        return replace(self, seconds=round(self.speech_end + tail, 8), states=())

    def with_tokens(self, speech: Iterable[int], voice: Iterable[int]) -> Item:
        """A copy that carries the codec's tokens."""
        return replace(self, speech_tokens=tuple(speech), global_tokens=tuple(voice))


_CUSTOM = [f.name for f in fields(Item)[11:-1]]
_TUPLES = (
    "answers",
    "messages",
    "states",
    "speech_tokens",
    "global_tokens",
    "letter_tokens",
    "letter_sounds",
)


def to_cut(item: Item) -> dict[str, Any]:
    """The item as a lhotse MonoCut (a MultiCut, if it averages channels), as JSON data."""
    custom = {name: getattr(item, name) for name in _CUSTOM}
    custom = {k: list(v) if isinstance(v, tuple) else v for k, v in custom.items() if v}
    duration = round(item.duration, 8)
    held = list(range(item.num_channels))
    mean = item.channel is None and len(held) > 1
    channel = held if mean else item.channel or 0
    supervision = {
        "id": item.id,
        "recording_id": item.id,
        "start": 0.0,
        "duration": duration,
        "channel": channel,
        "text": item.text,
        "language": item.language,
        "speaker": item.speaker,
    }
    recording = {
        "id": item.id,
        "sources": [{"type": "file", "channels": held, "source": item.audio}],
        "sampling_rate": item.rate,
        "num_samples": item.num_samples,
        "duration": item.num_samples / item.rate,
        "channel_ids": held,
    }
    return {
        "id": item.id,
        "start": item.start,
        "duration": duration,
        "channel": channel,
        "supervisions": [supervision],
        "recording": recording,
        "custom": {**custom, **item.extra},
        "type": "MultiCut" if mean else "MonoCut",
    }


def from_cut(cut: dict[str, Any], folder: Path | None = None) -> Item:
    """An item from a MonoCut's JSON data.

    Args:
        cut: What :func:`to_cut` or lhotse writes.
        folder: The manifest's folder: where a relative path, or the file of a manifest that was
            moved with its sounds, is looked for.

    Raises:
        CutError: It asks for something that is not supported (fo_core/data/cuts.py).
        DataError: A field is missing or of the wrong kind.
    """
    try:
        sound, words, recording = cut_sound(cut), cut_words(cut), cut["recording"]
        custom = dict(cut.get("custom") or {})
        known = {k: custom.pop(k) for k in _CUSTOM if k in custom}
        for name in custom_recordings(custom):
            say_unused(name)
        if words.start or words.end:  # what the cut's own fields say goes before
            known = {"speech_start": words.start, "speech_end": words.end, **known}
        for name in _TUPLES:
            if name in known:
                known[name] = tuple(known[name])
        whole = int(recording["num_samples"])
        rate = int(recording["sampling_rate"])
        start, length = float(cut.get("start", 0.0)), float(cut["duration"])
        if rate <= 0 or not math.isfinite(start) or not math.isfinite(length):
            raise ValueError(f"rate {rate}, start {start}, duration {length}")
        to_end = abs(start + length - whole / rate) < 1.5 / rate
        return Item(
            id=str(cut["id"]),
            audio=_locate(sound.source, folder),
            rate=rate,
            num_samples=whole,
            text=words.text,
            speaker=words.speaker,
            language=words.language,
            start=start,
            seconds=0.0 if to_end else length,
            channel=sound.channel,
            num_channels=sound.channels,
            extra=custom,
            **known,
        )
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise DataError(
            f"not a cut with a recording: {type(error).__name__} {error}",
            possible="lhotse cuts, one a line",
            do=NEMO if isinstance(cut, dict) and "audio_filepath" in cut else None,
        ) from error


def from_line(line: str | bytes, folder: Path | None = None) -> Item:
    """The item of a line of a manifest, as :func:`from_cut`.

    Raises:
        DataError: The line is not JSON, or not a cut with a recording.
    """
    try:
        cut = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", possible="lhotse cuts, one a line") from error
    return from_cut(cut, folder)


def _locate(source: str, folder: Path | None) -> str:
    """The file itself, or the longest end of its path that exists below the manifest's folder."""
    path = Path(source)
    if folder is None or (path.is_absolute() and path.exists()):
        return source
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for skip in range(len(parts)):
        below = folder.joinpath(*parts[skip:])
        if below.exists():
            return str(below)
    return source


def describe(file: str | Path, **known: Any) -> Item:
    """An item for a sound file that exists; its header says its rate, length and channels.

    Several channels are averaged.

    Raises:
        AudioError: The file is missing or not sound.
    """
    head = audio.info(file)
    if not head.frames:
        raise AudioError(f"{file} holds no samples")
    return Item(
        audio=str(file),
        rate=head.rate,
        num_samples=head.frames,
        channel=None if head.channels > 1 else 0,
        num_channels=head.channels,
        **known,
    )
