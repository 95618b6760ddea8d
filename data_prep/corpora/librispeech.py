"""LibriSpeech (and its mini form): 1,000 h of read English, openslr.org/12.

Read with the functions of lhotse's own recipe, line by line, so that a bad one costs only itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import text_lines
from data_prep.runner.outcome import unforeseen

SUMMARY = "LibriSpeech: 1,000 h of read English books"
LAYOUT = "a folder with dev-clean, train-clean-100 ..., each SPEAKER/CHAPTER/*.flac and *.trans.txt"
LICENCE = "CC BY 4.0"
LANGUAGE = "en"


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Utterances of every part that is there.

    Raises:
        DataError: None of its parts is there.
    """
    from lhotse.recipes.librispeech import LIBRISPEECH, MINI_LIBRISPEECH

    known = {*LIBRISPEECH, *MINI_LIBRISPEECH}
    below = source / "LibriSpeech"
    root = below if below.is_dir() else source
    parts = sorted(p for p in root.glob("*") if p.name in known and p.is_dir())
    if not parts:
        not_found(source, LAYOUT)
    for part in parts:
        for script in sorted(part.rglob("*.trans.txt")):
            for number, line, fault in text_lines(script):
                yield _item(part, script, line, f"{script.name}:{number}", fault)


def _item(part: Path, script: Path, line: str, where: str, fault: str) -> Utterance | Broken:
    from lhotse.recipes.librispeech import parse_utterance

    if fault:
        return Broken(where, fault)
    name, _, text = line.partition(" ")
    if not text.strip():
        return Broken(name, f"{where}: no text")
    try:
        found = parse_utterance(part, line, {})
    except Exception as error:  # lhotse's, soundfile's and the system's own
        return Broken(name, f"cannot be read: {unforeseen(error)}")
    if found is None:
        return Broken(name, f"{where}: no sound file {name}.flac")
    sound, segment = found
    path = str(sound.sources[0].source)
    return Utterance(segment.id, path, segment.text, segment.speaker, split=part.name)
