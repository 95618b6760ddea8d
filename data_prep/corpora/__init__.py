"""Corpora of transcribed speech: one file each, found by its name.

A file has ``SUMMARY``, ``LAYOUT`` (what its folder must hold), ``LICENCE``, ``LANGUAGE`` ("" where
the corpus does not say it) and ``items(source, options)``, which gives an :class:`Utterance` or a
:class:`Broken` for everything it finds. data_prep/import_corpus.py does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fo_core.config import config
from fo_core.errors import DataError
from fo_core.registry import Registry

CORPORA = Registry("corpus", "data_prep.corpora")


@config
class CorpusOptions:
    """What the general corpora (table, kaldi, nemo, hf ..) are told; others need none of it."""

    language: str = ""  # of all of it, where a row does not say; "" = the corpus's own, or en
    split: str = "all"  # name of the manifest, where the corpus has no parts of its own
    audio: str = "audio"  # table: column of the sound file
    text: str = "text"  # table: column of the words
    id: str = ""  # table: column of the name; "" = the number of the row
    speaker: str = ""  # table: column of the speaker
    language_column: str = ""  # table: column of the language
    split_column: str = ""  # table: column of the split
    start: str = ""  # table: column of where it starts in its file, s
    end: str = ""  # table: column of where it ends, s
    duration: str = ""  # table: column of how long it is, s; instead of end
    channel: str = "mean"  # of files with several: "mean" of all, or the number of one, from 0
    channel_column: str = ""  # table: column of the channel's number
    part: str = ""  # hf: only this split
    subset: str = ""  # hf: the dataset's configuration
    sounds: str = ""  # hf: where sounds are written that are no files; "" = OUT/sounds
    root: str = ""  # table, kaldi: where relative paths start; "" = the folder of the table


@dataclass(frozen=True)
class Utterance:
    """A piece of transcribed speech."""

    id: str
    audio: str  # path of the file
    text: str
    speaker: str = ""
    language: str = ""  # "" = the corpus's
    split: str = ""  # "" = the options'
    start: float = 0.0  # s
    end: float = 0.0  # s; 0 = to the end of the file
    channel: int | None = None  # of the file, from 0; None = as the options say


@dataclass(frozen=True)
class Broken:
    """Something of the corpus that cannot be used."""

    id: str
    reason: str


def not_found(source: Path, layout: str) -> NoReturn:
    """The corpus is not where it was said to be.

    Raises:
        DataError: Always.
    """
    if not source.exists():
        raise DataError(f"no corpus at {source}", possible=layout, do="check the path")
    raise DataError(f"{source} is not laid out as expected", possible=layout)
