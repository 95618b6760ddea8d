"""GigaSpeech: 10,000 h of English from books, podcasts and YouTube, github.com/SpeechColab.

Its one JSON file of several GB is read entry by entry, each through lhotse's own recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora.wenetspeech import entries
from data_prep.runner.outcome import unforeseen

SUMMARY = "GigaSpeech: 10,000 h of English from books, podcasts and the web"
LAYOUT = "a folder with GigaSpeech.json and the audio files it names"
LICENCE = "for non-commercial research and education; the sounds are their owners'"
LANGUAGE = "en"
MARKS = {"<COMMA>": ",", "<PERIOD>": ".", "<QUESTIONMARK>": "?", "<EXCLAMATIONPOINT>": "!"}
NOTHING = re.compile(r"<(?:SIL|MUSIC|NOISE|OTHER)>")  # segments without words


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Segments of every subset (XL holds L, L holds M ..., as in the corpus) that hold words.

    Raises:
        DataError: GigaSpeech.json is not there, or is cut short.
    """
    from lhotse.recipes.gigaspeech import parse_utterance

    listing = source / "GigaSpeech.json"
    if not listing.is_file():
        not_found(source, LAYOUT)
    for number, entry in enumerate(entries(listing), 1):
        name = str(entry.get("aid") if isinstance(entry, dict) else f"entry {number}")
        try:
            sound, segments = parse_utterance(entry, source)
            subsets = {each["sid"]: each.get("subsets") or [] for each in entry["segments"]}
            found = [
                Utterance(s.id, str(sound.sources[0].source), _text(s.text), str(s.speaker or ""),
                          split=part.strip("{}"), start=s.start, end=s.end)
                for s in segments if not NOTHING.search(s.text) for part in subsets[s.id]
            ]  # fmt: skip
        except Exception as error:  # whatever lhotse meets in an entry of the wrong form
            yield Broken(name, f"not an entry: {unforeseen(error)}")
            continue
        yield from found


def _text(text: Any) -> str:
    for mark, sign in MARKS.items():
        text = text.replace(f" {mark}", sign)
    return str(text)
