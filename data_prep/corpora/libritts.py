"""LibriTTS and LibriTTS-R: 585 h of read English at 24 kHz, openslr.org/60 and 141.

As in lhotse's recipe: its normalised texts, and without the file that is known to be damaged; but a
bad line costs only itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import text_lines

SUMMARY = "LibriTTS (and -R): 585 h of read English at 24 kHz"
LAYOUT = "a folder with dev-clean, train-clean-100 ..., each SPEAKER/CHAPTER/*.wav and *.trans.tsv"
LICENCE = "CC BY 4.0"
LANGUAGE = "en"
DAMAGED = "1092_134562_000013_000004"


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Utterances of every part that is there.

    Raises:
        DataError: None of its parts is there.
    """
    from lhotse.recipes.libritts import LIBRITTS

    roots = (source, source / "LibriTTS", source / "LibriTTS_R")
    root = next((r for r in roots if any((r / part).is_dir() for part in LIBRITTS)), None)
    if root is None:
        not_found(source, LAYOUT)
    for part in sorted(part for part in LIBRITTS if (root / part).is_dir()):
        for script in sorted((root / part).rglob("*.trans.tsv")):
            if not script.name.startswith("._"):
                for number, line, fault in text_lines(script):
                    yield _item(part, script, line, f"{script.name}:{number}", fault)


def _item(part: str, script: Path, line: str, where: str, fault: str) -> Utterance | Broken:
    name, *texts = line.split("\t")
    if fault or not texts or not texts[-1].strip():
        return Broken(name or where, f"{where}: {fault or 'no text'}")
    if name == DAMAGED:
        return Broken(name, "known to be damaged")
    sound = script.parent / f"{name}.wav"
    return Utterance(name, str(sound), texts[-1].strip(), name.split("_")[0], split=part)
