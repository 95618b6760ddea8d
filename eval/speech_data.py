"""Transcribed speech for an evaluation: a manifest, a table of recordings, or a corpus by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval import sets
from eval.harness import Row
from eval.metrics.wer import short_language
from eval.source import first, records
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import AudioError, DataError

AUDIO = ("file", "path", "audio", "audio_filepath", "wav")
TEXT = ("text", "sentence", "transcript", "transcription")
START, SECONDS = ("offset", "start"), ("duration", "seconds")
LANGUAGE = ("lang", "language", "locale")


def from_file(path: Path) -> tuple[list[Item], dict[str, str]]:
    """Items of a manifest (.jsonl), or of a table with a header (.tsv, .csv), such as Common Voice.

    Returns:
        The items, and why others are skipped (a table's recording that is missing).

    Raises:
        DataError: The file cannot be read, or has no column for the sound or the text.
    """
    if path.suffix.lower() not in (".tsv", ".csv"):
        return manifest.read(path), {}
    items, left = [], {}
    for number, row in enumerate(records(path), 1):
        file, text = first(row, AUDIO), first(row, TEXT)
        if file is None:
            raise DataError(f"{path} row {number} names no sound", possible=", ".join(AUDIO))
        name = str(first(row, ("id", "utt_id", "client_id")) or Path(file).stem)
        places = [path.parent / file, path.parent / "clips" / file]
        place = next((place for place in places if place.is_file()), places[0])
        language = short_language(str(first(row, LANGUAGE) or "en"))
        try:
            item = manifest.describe(place, id=name, text=text or "", language=language)
            items.append(_part(item, first(row, START), first(row, SECONDS)))
        except ValueError:
            left[name] = "its offset or duration is no number of seconds"
        except AudioError as error:
            left[name] = error.what
    return items, left


def _part(item: Item, start: Any, seconds: Any) -> Item:
    """The part of a file that a row's offset and duration name; the whole file without them."""
    start, seconds = float(start or 0), float(seconds or 0)
    if not 0 <= start < item.duration or not 0 <= seconds < float("inf"):
        raise AudioError(f"no sound from {start:g} s on: the file has {item.duration:.3f}")
    whole = not seconds or start + seconds > item.duration - 0.01
    return replace(item, start=start, seconds=0.0 if whole else seconds)


def from_set(name: str, corpus: Path, parts: Sequence[str]) -> dict[str, list[Item]]:
    """Parts of a corpus by its name.

    Raises:
        DataError: The corpus holds none of its test parts, or not the one that is asked for.
        EngineError: There is no set of this name.
    """
    known = sets.load(name, "speech")
    there = known.present(corpus)
    columns = {column: part for part, column in known.COLUMNS.items()}
    wanted = [columns.get(part, part) for part in parts] or there
    missing = [part for part in wanted if part not in there]
    if missing or not wanted:
        raise DataError(
            f"{corpus} holds no {', '.join(missing or known.COLUMNS)} of {known.TITLE}",
            possible=f"there: {', '.join(there)}" if there else "the corpus as published",
            do="check --corpus",
        )
    return {known.COLUMNS[part]: known.read(corpus, part) for part in wanted}


def as_rows(
    parts: dict[str, list[Item]], language: str | None = None, limit: int | None = None
) -> tuple[list[Row], dict[str, str]]:
    """Rows to measure, and why others are skipped.

    Args:
        parts: Name of a part to its items.
        language: Only utterances of this language.
        limit: At most so many of each part.
    """
    rows: list[Row] = []
    left: dict[str, str] = {}
    for name, items in parts.items():
        kept = [i for i in items if not language or short_language(i.language) == language]
        spoken = [item for item in kept if item.text.strip()]
        left |= {item.id: "no transcript" for item in kept if not item.text.strip()}
        tongues = Counter(short_language(item.language) for item in spoken)
        for item in spoken[:limit]:
            tongue = short_language(item.language)
            part = name if len(tongues) == 1 else f"{name} {tongue}"
            rows.append(
                {
                    "id": item.id,
                    "part": part,
                    "language": tongue,
                    "text": item.text,
                    "audio": item.audio,
                    "start": item.start,
                    "seconds": item.seconds,
                    "channel": item.channel,
                }
            )
    return rows, left
