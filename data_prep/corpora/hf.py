"""A Hugging Face dataset: a hub id (streamed), or a folder that ``datasets`` wrote or can read.

Sounds that are files stay where they are; those inside the dataset are written out as they are,
byte by byte, to ``sounds`` (OUT/sounds). Nothing of the dataset's own code is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.runner.outcome import unforeseen
from fo_core.errors import DataError, EngineError, FoError, first_line
from fo_core.io import audio
from fo_core.io.files import replacing
from fo_core.io.sound_file import ENDINGS, full_scale
from fo_core.registry import did_you_mean

SUMMARY = "a Hugging Face dataset: a hub id, or a folder"
LAYOUT = "OWNER/NAME on the hub, or a folder of save_to_disk(), of parquet files or of sounds"
LICENCE = ""
LANGUAGE = ""
_HUB = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Utterances of every split, or of ``part``, in the dataset's order.

    Raises:
        DataError: There is no such dataset, split or column.
        EngineError: The package datasets is missing.
    """
    if not source.exists() and not _HUB.fullmatch(str(source)):
        not_found(source, LAYOUT)
    splits = _open(source, options)
    if options.part and options.part not in splits:
        raise DataError(f"{source} has no split {options.part!r}",
                        possible=did_you_mean(options.part, list(splits)))  # fmt: skip
    for split in [options.part] if options.part else list(splits):
        yield from _rows(source, split, splits[split], options)


def _open(source: Path, options: CorpusOptions) -> Mapping[str, Any]:
    """Its splits, with sounds not decoded."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise EngineError(
            f"a Hugging Face dataset needs the package {error.name!r}",
            possible="the corpora table, folder, nemo",
            do="pip install datasets (the extra hf)",
        ) from error
    saved = any((source / name).is_file() for name in ("dataset_dict.json", "dataset_info.json",
                                                       "state.json"))  # fmt: skip
    try:
        if saved:
            found = datasets.load_from_disk(str(source))
        else:
            found = datasets.load_dataset(str(source), options.subset or None, streaming=True)
    except Exception as error:  # its own kinds, those of the network and of every file format
        raise DataError(
            f"{source} cannot be read as a dataset: {first_line(error)}",
            possible=LAYOUT,
            do="check the name, the network and --set subset=NAME",
        ) from error
    splits = found if isinstance(found, dict) else {options.split: found}
    raw = datasets.Audio(decode=False)
    made = {}
    for name, rows in splits.items():
        kind = (rows.features or {}).get(options.audio)
        is_audio = isinstance(kind, datasets.Audio)
        made[str(name)] = rows.cast_column(options.audio, raw) if is_audio else rows
    return made


def _rows(
    source: Path, split: str, rows: Any, options: CorpusOptions
) -> Iterator[Utterance | Broken]:
    checked, reading, number = False, iter(rows), -1
    while True:
        number += 1
        where = f"{split}-{number:07d}"
        try:
            row = next(reading)
        except StopIteration:
            return
        except Exception as error:  # whatever the format's reader meets; it cannot go on
            yield Broken(where, f"the rest of {split} cannot be read: {unforeseen(error)}")
            return
        if not checked:
            _check_columns(source, row, options)
            checked = True
        try:
            yield _item(row, where, split, options)
        except FoError as error:
            yield Broken(where, str(error))


def _check_columns(source: Path, row: Mapping[str, Any], options: CorpusOptions) -> None:
    for key in ("audio", "text", "id", "speaker", "language_column"):
        column = getattr(options, key)
        if column and column not in row:
            raise DataError(
                f"{source} has no column {column!r} for {key}",
                possible=did_you_mean(column, [str(name) for name in row]),
                do=f"name it: --set {key}=COLUMN",
            )


def _item(row: Mapping[str, Any], where: str, split: str, options: CorpusOptions) -> Utterance:
    def value(column: str) -> str:
        found = row.get(column) if column else None
        return "" if found is None else str(found).strip()

    place = Path(options.sounds or "sounds") / split / where
    return Utterance(
        id=value(options.id) or where,
        audio=str(_sound(row[options.audio], place)),
        text=value(options.text),
        speaker=value(options.speaker),
        language=value(options.language_column),
        split=split,
    )


def _sound(given: Any, place: Path) -> Path:
    """The file of a row's sound; written to ``place`` if it is inside the dataset.

    Raises:
        DataError: There is none.
        AudioError: It is an array that is no sound.
    """
    if isinstance(given, str):
        return Path(given)
    if not isinstance(given, Mapping):
        raise DataError(f"its sound is a {type(given).__name__}")
    data, name = given.get("bytes"), str(given.get("path") or "")
    if given.get("array") is not None and given.get("sampling_rate"):
        target = place.with_name(f"{place.name}.flac")
        wave = np.asarray(given["array"], np.float32)
        wave = wave.mean(axis=int(np.argmin(wave.shape))) if wave.ndim > 1 else wave
        top = float(np.nan_to_num(np.abs(wave), posinf=0).max(initial=0.0))
        wave = wave / np.float32(full_scale(top))
        audio.write(target, wave, int(given["sampling_rate"]))
        return target
    if not data:
        if not name:
            raise DataError("no sound")
        return Path(name)
    ending = next((e for magic, e in _MAGIC.items() if data.startswith(magic)), "")
    ending = ending or Path(name).suffix.lower()
    target = place.with_name(place.name + (ending if ending in ENDINGS else ".bin"))
    with replacing(target) as temporary:
        temporary.write_bytes(data)
    return target
