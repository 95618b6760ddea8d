"""LJSpeech: 24 h of one woman who reads English books, keithito.com/LJ-Speech-Dataset.

lhotse's recipe reads the same files at once; here a bad line costs only itself. The text is the
normalised one (numbers in words), where a line has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import text_lines

SUMMARY = "LJSpeech: 24 h of one voice reading English books"
LAYOUT = "a folder with metadata.csv (name|text|normalised text) and wavs/NAME.wav"
LICENCE = "public domain"
LANGUAGE = "en"
TABLE = "metadata.csv"
SPEAKER = "LJ"


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Utterances in the order of metadata.csv.

    Raises:
        DataError: metadata.csv is not there.
    """
    root = next((r for r in (source, *sorted(source.glob("LJSpeech-*"))) if (r / TABLE).is_file()),
                None)  # fmt: skip
    if root is None:
        not_found(source, LAYOUT)
    for number, line, fault in text_lines(root / TABLE):
        name, _, rest = line.partition("|")
        if fault or not rest:
            yield Broken(name or f"{TABLE}:{number}", fault or f"{TABLE}:{number}: no text")
            continue
        text, _, normalised = rest.partition("|")
        sound = next((p for p in (root / "wavs").glob(f"{name}.*")), root / "wavs" / f"{name}.wav")
        yield Utterance(name, str(sound), normalised.strip() or text.strip(), SPEAKER)
