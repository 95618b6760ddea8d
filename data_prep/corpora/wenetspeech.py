"""WenetSpeech: 10,000 h of Mandarin from the web, wenet-e2e.github.io/WenetSpeech.

Its one JSON file of several GB is read entry by entry, each through lhotse's own recipe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.runner.outcome import unforeseen
from fo_core.errors import DataError

SUMMARY = "WenetSpeech: 10,000 h of Mandarin from the web"
LAYOUT = "a folder with WenetSpeech.json and the audio files it names"
LICENCE = "CC BY 4.0 for the texts; the sounds are their owners', for non-commercial research"
LANGUAGE = "zh"
LIST = '"audios"'
ENTRY = 64 * 2**20  # most characters of an entry


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Segments of every subset (L holds M, M holds S, as in the corpus).

    Raises:
        DataError: WenetSpeech.json is not there, or is cut short.
    """
    from lhotse.recipes.wenet_speech import WETNET_SPEECH_PARTS, parse_utterance

    listing = source / "WenetSpeech.json"
    if not listing.is_file():
        not_found(source, LAYOUT)
    for number, entry in enumerate(entries(listing), 1):
        name = str(entry.get("aid") if isinstance(entry, dict) else f"entry {number}")
        try:
            sound, parts = parse_utterance(entry, source, WETNET_SPEECH_PARTS)
            found = [
                Utterance(s.id, str(sound.sources[0].source), s.text, split=part, start=s.start,
                          end=s.end)
                for part in WETNET_SPEECH_PARTS for s in parts[part]
            ]  # fmt: skip
        except Exception as error:  # whatever lhotse meets in an entry of the wrong form
            yield Broken(name, f"not an entry: {unforeseen(error)}")
            continue
        yield from found


def entries(path: Path) -> Iterator[Any]:
    """The objects of the list under "audios", one at a time.

    Raises:
        DataError: There is no such list, or it ends early.
    """
    decoder, held, started = json.JSONDecoder(), "", False
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            block = file.read(2**20)
            held += block
            if not started:
                at = held.find("[", held.find(LIST)) if LIST in held else -1
                if at < 0 and not block:
                    raise DataError(f"{path} has no list {LIST}", possible=LAYOUT)
                if at < 0:
                    held = held[-100:] if LIST not in held else held
                    continue
                held, started = held[at + 1 :], True
            while True:
                held = held.lstrip(" \n\r\t,")
                if held.startswith("]"):
                    return
                try:
                    entry, end = decoder.raw_decode(held)
                except RecursionError as error:
                    raise DataError(f"{path} is nested too deep") from error
                except ValueError as error:
                    if not block or len(held) > ENTRY:
                        raise DataError(f"{path} is cut short or damaged: {error}",
                                        do="download it again") from error  # fmt: skip
                    break
                yield entry
                held = held[end:]
