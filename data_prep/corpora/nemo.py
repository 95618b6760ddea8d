"""A manifest of NVIDIA NeMo: JSON lines with audio_filepath, text, and offset and duration.

A row is the part of its file from ``offset`` on, ``duration`` long; paths start at the manifest's
folder (or ``root``). Rows of tarred sets have no files of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import json_lines

SUMMARY = "a manifest of NVIDIA NeMo"
LAYOUT = 'a .json or .jsonl file with {"audio_filepath", "duration", "text"} a line, "offset" too'
LICENCE = ""
LANGUAGE = ""
SOUND = "audio_filepath"


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """A row's utterance; its id is the row's, or the file's name and the row's number.

    Raises:
        DataError: The file is not there, or its first row has no audio_filepath.
    """
    if not source.is_file():
        not_found(source, LAYOUT)
    root = Path(options.root) if options.root else source.parent
    checked = False
    for number, row, fault in json_lines(source):
        where = f"{source.name}:{number}"
        if not fault and not checked:
            if SOUND not in row:
                not_found(source, LAYOUT)
            checked = True
        yield Broken(where, fault) if fault else _item(row, where, number, root)


def _item(row: Mapping[str, Any], where: str, number: int, root: Path) -> Utterance | Broken:
    name = str(row.get("id") or row.get("utt_id") or "")
    sound = row.get(SOUND)
    if not isinstance(sound, str) or not sound.strip():
        return Broken(name or where, f"no {SOUND!r}: {sound!r}")
    name = name or f"{Path(sound).stem}-{number:06d}"
    try:
        start, length = float(row.get("offset") or 0), float(row.get("duration") or 0)
    except (TypeError, ValueError):
        return Broken(name, f"offset {row.get('offset')!r}, duration {row.get('duration')!r}: "
                      "not numbers of seconds")  # fmt: skip
    if not (math.isfinite(start) and math.isfinite(length) and start >= 0 and length >= 0):
        return Broken(name, f"{length:g} s from {start:g} s on is no time")
    if start and not length:
        return Broken(name, f"an offset of {start:g} s without a duration")
    return Utterance(
        id=name,
        audio=str(root / Path(sound).expanduser()),
        text=str(row.get("text") or ""),
        speaker=str(row.get("speaker") or ""),
        language=_language(row),
        split=str(row.get("split") or ""),
        start=start,
        end=start + length if length else 0.0,
    )


def _language(row: Mapping[str, Any]) -> str:
    found = row.get("lang") or row.get("language") or row.get("target_lang") or ""
    return str(found).replace("_", "-").split("-")[0].lower()
