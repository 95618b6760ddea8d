"""A Kaldi data folder: wav.scp and text; if there segments, utt2spk, utt2lang, channels."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import text_lines

SUMMARY = "a Kaldi data folder"
LAYOUT = "a folder with wav.scp (name and path) and text (name and words)"
LICENCE = ""
LANGUAGE = ""
SIDES = "reco2file_and_channel"  # recording, file, channel
CHANNELS = {"A": 0, "B": 1, "1": 0, "2": 1}


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Utterances in the order of ``segments``, or of ``wav.scp`` where there is none.

    Raises:
        DataError: wav.scp or text is not there.
    """
    if not (source / "wav.scp").is_file() or not (source / "text").is_file():
        not_found(source, LAYOUT)
    broken: list[Broken] = []
    read = {name: _read(source / name, broken)
            for name in ("text", "utt2spk", "utt2lang", "wav.scp", "segments", SIDES)}  # fmt: skip
    yield from broken
    texts, sounds, segments = read["text"], read["wav.scp"], read["segments"]
    root = Path(options.root) if options.root else source
    for name in segments if (source / "segments").is_file() else sounds:
        recording, start, end, fault = name, 0.0, 0.0, ""
        if name in segments:
            recording, start, end, fault = _segment(segments[name])
        if not fault and recording not in sounds:
            fault = f"recording {recording!r} is not in wav.scp"
        if not fault and name not in texts:
            fault = "not in text"
        path, said = _path(sounds.get(recording, ""), root)
        side = read[SIDES].get(recording, "").split()[-1:]
        if side and side[0] not in CHANNELS:
            said = said or f"{SIDES} says channel {side[0]!r}"
        if fault or said:
            yield Broken(name, fault or said)
            continue
        speaker, language = read["utt2spk"].get(name, ""), read["utt2lang"].get(name, "")
        channel = CHANNELS[side[0]] if side else None
        yield Utterance(name, path, texts[name], speaker, language, "", start, end, channel)
    for name in texts.keys() - (segments or sounds).keys():
        yield Broken(name, "in text, but has no sound")


def _read(path: Path, broken: list[Broken]) -> dict[str, str]:
    """name -> the rest of its line."""
    found: dict[str, str] = {}
    if not path.is_file():
        return found
    for number, line, fault in text_lines(path):
        name, _, rest = line.replace("\t", " ").partition(" ")
        if fault or name in found:
            where = f"{path.name}:{number}"
            broken.append(Broken(name or where, f"{where}: {fault or 'the same name twice'}"))
            continue
        found[name] = rest.strip()
    return found


def _segment(rest: str) -> tuple[str, float, float, str]:
    try:
        recording, start, end = rest.split()[:3]
        times = float(start), float(end)
    except ValueError:
        return "", 0.0, 0.0, f"not a segment: {rest!r}"
    if times[1] == -1:  # Kaldi's "to the end"
        return recording, times[0], 0.0, ""
    if not 0 <= times[0] < times[1]:
        return recording, *times, f"from {start} to {end} s is no time"
    return recording, *times, ""


def _path(rest: str, root: Path) -> tuple[str, str]:
    """The file of a line of wav.scp, or why there is none. Commands are not run."""
    if rest.endswith("|"):
        try:
            words = shlex.split(rest[:-1])
        except ValueError:
            words = []
        files = [word for word in words[1:] if word.lower().endswith(".flac")]
        if not words or Path(words[0]).name != "flac" or "|" in words or len(files) != 1:
            return "", f"a command, not a file: {rest}"
        rest = files[0]  # "flac -c -d -s FILE |" only decodes it, and so do we
    if not rest:
        return "", "no path in wav.scp"
    return str(root / rest), ""
