"""VCTK: 44 h of English by 109 speakers, datashare.ed.ac.uk/handle/10283/3443.

Version 0.92 (``wav48_silence_trimmed``: microphone 2 as in lhotse's recipe, 1 where there is no
other) and the older ``wav48``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import text_lines

SUMMARY = "VCTK: 44 h of English sentences by 109 speakers"
LAYOUT = (
    "a folder with txt/SPEAKER/*.txt and wav48_silence_trimmed/SPEAKER/*_mic2.flac (or wav48/...)"
)
LICENCE = "CC BY 4.0"
LANGUAGE = "en"
FOLDERS = ("wav48_silence_trimmed", "wav48")


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Utterances in the order of speakers and files.

    Raises:
        DataError: Its texts or its sounds are not there.
    """
    roots = [source, *sorted(source.glob("VCTK-Corpus*"))]
    root = next((r for r in roots if (r / "txt").is_dir()), None)
    folder = next((root / f for f in FOLDERS if (root / f).is_dir()), None) if root else None
    if root is None or folder is None:
        not_found(source, LAYOUT)
    for told in sorted((root / "txt").rglob("*.txt")):
        yield _item(told, folder)


def _item(told: Path, folder: Path) -> Utterance | Broken:
    name, speaker = told.stem, told.parent.name
    places = [folder / speaker / f"{name}{end}" for end in ("_mic2.flac", "_mic1.flac", ".wav")]
    sound = next((place for place in places if place.is_file()), None)
    lines = list(text_lines(told))
    fault = next((fault for _, _, fault in lines if fault), "")
    if fault:
        return Broken(name, f"{told.name}: {fault}")
    if sound is None:
        return Broken(name, f"no sound file {places[0]}")
    return Utterance(sound.stem, str(sound), " ".join(line for _, line, _ in lines), speaker)
