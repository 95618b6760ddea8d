"""What can be wrong with one line of a manifest: named checks of its fields and its sound.

The checks of a whole manifest (ids and sounds that come twice, leaks) are in validate.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.runner.lines import Line
from fo_core.config import config
from fo_core.data.cuts import CutError, custom_recordings, with_source
from fo_core.data.manifest import IGNORE, Item, from_cut
from fo_core.errors import AudioError, DataError
from fo_core.io.audio import info
from fo_core.io.parts import is_part, read_part
from fo_core.io.sound_file import Sound, open_sound

ERROR, WARNING = "error", "warning"
LEVELS = {  # every check there is, in the order of the table
    "line": ERROR,  # not JSON, or not a cut with a recording
    "transforms": ERROR,  # the recording is to be changed (lhotse's speed, volume ...)
    "channel": ERROR,  # the cut's channel is none of the file's, or some of several
    "supervisions": ERROR,  # words of several speakers, or that overlap
    "missing": ERROR,  # the sound file is not there
    "unreadable": ERROR,  # not a sound file, or cut short
    "rate": ERROR,  # the file has another sample rate
    "length": ERROR,  # the file has another length, or the cut reaches beyond its end
    "not-finite": ERROR,  # NaN or infinite samples
    "silence": ERROR,  # nothing to hear
    "no-text": ERROR,  # whole speech without its text
    "text-too-long": ERROR,  # nobody speaks so fast
    "states": ERROR,  # not one label a chunk, or a label that is none
    "tokens": ERROR,  # not one speech token a frame, a negative one, or no voice tokens
    "same-id": ERROR,
    "leak-id": ERROR,  # also in the other manifest
    "leak-audio": ERROR,  # the same samples are in the other manifest
    "leak-text": ERROR,  # the same words, at least so many, are in the other manifest
    "scale": WARNING,  # float samples at the scale of integers; they are read divided
    "clipping": WARNING,
    "custom-recording": WARNING,  # a further recording of the cut, which nothing here reads
    "text-too-short": WARNING,  # much sound for a few words
    "same-audio": WARNING,  # the same samples under two ids
}
REPAIRABLE = ("rate", "length")  # the file itself says what is true
BLOCK = 2**20  # samples that are held at a time


@config
class CheckConfig:
    """Where a fault begins."""

    ignore: tuple[str, ...] = ()  # checks that are off
    decode: bool = True  # read the samples too, not just the headers
    silence_db: float = -60.0  # RMS of the loudest 0.1 s below this is silence, dB of full scale
    clipped: float = 0.001  # share of samples at full scale
    fastest: float = 30.0  # letters a second (a Chinese character counts as 2.5)
    slowest: float = 1.0  # letters a second, of sounds of 5 s or more
    chunk: float = 0.16  # s that a state label stands for
    token_rate: float = 40.0  # speech tokens a second
    codes: int = 0  # of the codec's codebook; 0 = not known
    leak_words: int = 4  # shorter texts may be in two manifests ("thank you")


@dataclass
class Checked:
    """What came of one line."""

    number: int
    name: str = ""  # its id, or "line N"
    seconds: float = 0.0
    rate: int = 0
    id_hash: int = 0  # 0 = there is none
    audio_hash: int = 0
    text_hash: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)  # (check, what is wrong)
    repaired: str = ""  # the line for a cleaned manifest; "" = it cannot be kept


def short_hash(data: bytes) -> int:
    """64 bits of a hash, never 0."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) or 1


def same_text(text: str) -> str:
    """Text in the form in which two are compared: letters and digits only, lower case."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"[^\W_]+", text))


def letters(text: str) -> float:
    """How much there is to say: letters and digits; a Chinese character counts as 2.5."""
    han = sum("\u3400" <= char <= "\u9fff" for char in text)
    return sum(map(str.isalnum, text)) + 1.5 * han


def check(line: Line, folder: Path, cfg: CheckConfig) -> Checked:
    """All checks of one line, none of which raises.

    Args:
        line: Of the manifest.
        folder: Where relative paths start.
        cfg: Limits, and what is not checked.
    """
    found = Checked(line.number, line.name())
    try:
        cut = _parse(line)
        item = from_cut(cut, folder)
    except DataError as error:
        kind = error.check if isinstance(error, CutError) else "line"
        found.faults.append((kind, str(error)))
        return found
    for name in custom_recordings(item.extra):
        found.faults.append(("custom-recording", f"{name!r} is not used"))
    found.name, found.id_hash = item.id, short_hash(item.id.encode(errors="replace"))
    words = same_text(item.text)
    if len(words.split()) >= cfg.leak_words or letters(words) >= 6 * cfg.leak_words:
        found.text_hash = short_hash(words.encode())
    repaired = _sound(item, cut, cfg, found)
    found.faults += _labels(item if repaired is None else repaired, found.seconds, cfg)
    found.faults = [fault for fault in found.faults if fault[0] not in cfg.ignore]
    if repaired is not None and all(name in REPAIRABLE for name, _ in found.faults):
        found.repaired = _repair(cut, repaired)
    elif not found.faults:
        found.repaired = json.dumps(cut, ensure_ascii=False)
    return found


def _parse(line: Line) -> dict[str, Any]:
    if line.fault:
        raise DataError(line.fault)
    try:
        cut = json.loads(line.data)
    except RecursionError as error:
        raise DataError("not JSON: nested too deep") from error
    except ValueError as error:
        raise DataError(f"not JSON: {error}") from error
    try:
        json.dumps(cut, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError("text that is not Unicode (half a surrogate pair)") from error
    return cut


def _sound(item: Item, cut: Any, cfg: CheckConfig, found: Checked) -> Item | None:
    """Check the file; the item as the file says it is, or None if it cannot be used."""
    found.seconds, found.rate = max(0.0, item.duration), item.rate
    try:
        there = Path(item.audio).is_file() or bool(is_part(item.audio) and read_part(item.audio))
    except DataError as error:
        found.faults.append(("missing", str(error)))
        return None
    if not there:
        found.faults.append(("missing", f"no sound file {item.audio}"))
        return None
    try:
        with open_sound(item.audio) as sound:
            frames = sound.frames
        if frames is None:  # only its end says how long it is
            frames = info(item.audio).frames
        with open_sound(item.audio) as sound:
            real = _headers(item, sound, frames, found)
            if real is None:
                return None
            found.seconds, found.rate = real.duration, real.rate
            if cfg.decode and not _samples(sound, real, cfg, found):
                return None
    except AudioError as error:
        found.faults.append(("unreadable", error.what))
        return None
    return real


def _headers(item: Item, sound: Sound, frames: int, found: Checked) -> Item | None:
    """What the file's header says against the manifest."""
    if sound.rate != item.rate:
        found.faults.append(("rate", f"{item.rate} Hz, the file has {sound.rate}"))
    if (item.channel or 0) >= sound.channels:
        fault = f"channel {item.channel}, the file has {sound.channels}"
        found.faults.append(("channel", fault))
        return None
    whole = frames / sound.rate
    if abs(item.num_samples / max(item.rate, 1) - whole) > 1.5 / sound.rate:
        said = item.num_samples / max(item.rate, 1)
        found.faults.append(("length", f"{said:.3f} s, the file has {whole:.3f}"))
    elif item.start < 0 or item.start + item.duration > whole + 0.01:
        end = item.start + item.duration
        fault = f"{item.start:.3f} to {end:.3f} s, the file has {whole:.3f}"
        found.faults.append(("length", fault))
    real = replace(item, rate=sound.rate, num_samples=frames)
    start = min(max(item.start, 0.0), whole)
    left = whole - start
    if left <= 0 or item.duration < 0:
        found.faults.append(("length", "no samples"))
        return None
    if real.seconds:
        real = replace(real, start=start, seconds=min(real.seconds, left))
    return replace(real, start=start)


def _samples(sound: Sound, item: Item, cfg: CheckConfig, found: Checked) -> bool:
    """Decode it block by block; whether all of it could be."""
    sound.skip(round(item.start * item.rate))
    left = total = round(item.duration * item.rate)
    digest, clipped, loudest = hashlib.blake2b(digest_size=8), 0, 0.0
    frame = max(1, item.rate // 10)
    while left > 0:
        block = sound.read(min(left, BLOCK // frame * frame))
        if not len(block):
            fault = f"{item.audio} was cut short: {total - left} of {total} samples"
            found.faults.append(("unreadable", fault))
            return False
        left -= len(block)
        if not np.isfinite(block).all():
            found.faults.append(("not-finite", "samples that are not numbers"))
            return False
        if item.channel is not None:
            block = block[:, item.channel : item.channel + 1]
        digest.update(np.round(block * 32768).astype(np.int32).tobytes())
        clipped += int((np.abs(block) >= 0.9999).any(axis=1).sum())
        power = block.mean(axis=1, dtype=np.float64) ** 2
        padded = np.pad(power, (0, -len(power) % frame)).reshape(-1, frame)
        sizes = np.minimum(frame, len(power) - frame * np.arange(len(padded)))
        loudest = max(loudest, float((padded.sum(axis=1) / sizes).max()))
    if sound.scale != 1:
        found.faults.append(("scale", f"float samples, divided by {sound.scale:.0f}"))
    found.audio_hash = int.from_bytes(digest.digest()) or 1
    level = 10 * np.log10(loudest + 1e-12)
    if level < cfg.silence_db:
        found.faults.append(("silence", f"at most {level:.0f} dB"))
    elif clipped > cfg.clipped * total:
        found.faults.append(("clipping", f"{clipped / total:.1%} of the samples"))
    return True


def _labels(item: Item, seconds: float, cfg: CheckConfig) -> Iterator[tuple[str, str]]:
    """Text, states and tokens against the length of the sound."""
    amount = letters(item.text)
    if item.kind not in ("noise", "incomplete") and not amount:
        yield "no-text", f"the text is {item.text!r}"
    elif seconds and amount / seconds > cfg.fastest and amount > 8:
        yield "text-too-long", f"{amount:.0f} letters in {seconds:.2f} s"
    elif seconds >= 5 and amount and amount / seconds < cfg.slowest:
        yield "text-too-short", f"{amount:.0f} letters in {seconds:.2f} s"
    chunks = seconds / cfg.chunk
    if item.states:
        if not chunks - 1.01 < len(item.states) < chunks + 1.01:
            yield "states", f"{len(item.states)} labels for {chunks:.1f} chunks"
        odd = [state for state in item.states if state not in (0, 1, 2, IGNORE)]
        if odd:
            yield "states", f"label {odd[0]!r}"
    tokens, wanted = item.speech_tokens, seconds * cfg.token_rate
    if tokens:
        if not wanted - 1.01 < len(tokens) < wanted + 1.01:
            yield "tokens", f"{len(tokens)} speech tokens for {wanted:.1f} frames"
        odd = [t for t in (*tokens, *item.global_tokens) if not isinstance(t, int) or t < 0]
        odd += [t for t in tokens if cfg.codes and isinstance(t, int) and t >= cfg.codes]
        if odd:
            yield "tokens", f"token {odd[0]!r}"
        if not item.global_tokens:
            yield "tokens", "speech tokens without voice tokens"


def _repair(cut: dict[str, Any], item: Item) -> str:
    """The line with the file where it is and as long as it is."""
    recording = {
        **cut["recording"],
        "sampling_rate": item.rate,
        "num_samples": item.num_samples,
        "duration": item.num_samples / item.rate,
    }
    recording["sources"] = with_source(cut, _absolute(item.audio))
    duration = round(item.duration, 8)
    supervisions = [
        {**s, "duration": min(s.get("duration", duration), duration)} if len(all_) == 1 else s
        for all_ in [cut.get("supervisions") or []]
        for s in all_
    ]
    made = {**cut, "start": item.start, "duration": duration, "recording": recording}
    return json.dumps({**made, "supervisions": supervisions}, ensure_ascii=False)


def _absolute(path: str) -> str:
    return path if is_part(path) else str(Path(path).absolute())
