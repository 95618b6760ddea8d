"""A folder of sounds with a text file of the same name beside each (a.wav, a.txt)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import text_lines
from fo_core.io.sound_file import ENDINGS

SUMMARY = "a folder of sounds with a .txt (or .lab) beside each"
LAYOUT = "a folder with a.wav and a.txt, b.flac and b.txt ..., also in folders below"
LICENCE = ""
LANGUAGE = ""
TEXTS = (".txt", ".lab")


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Every sound with its text; the id is the path below the folder, without its ending.

    Raises:
        DataError: The folder is not there or holds no sound.
    """
    if not source.is_dir():
        not_found(source, LAYOUT)
    found = False
    for folder, folders, names in os.walk(source):
        folders.sort()
        held = {name.lower(): name for name in names}
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if ending.lower() not in ENDINGS or name.startswith("."):
                continue
            found = True
            path = Path(folder) / name
            told = next((held[stem.lower() + t] for t in TEXTS if stem.lower() + t in held), "")
            yield _item(path, Path(folder) / told if told else None, source)
    if not found:
        not_found(source, LAYOUT)


def _item(path: Path, told: Path | None, source: Path) -> Utterance | Broken:
    name = path.relative_to(source).with_suffix("").as_posix()
    if told is None:
        return Broken(name, f"{path.name} has no {path.stem}.txt beside it")
    lines = list(text_lines(told))
    fault = next((fault for _, _, fault in lines if fault), "")
    if fault:
        return Broken(name, f"{told.name}: {fault}")
    return Utterance(name, str(path), " ".join(line for _, line, _ in lines))
