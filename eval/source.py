"""Where a published set comes from: a file, a folder or a hub id; records of any usual format."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fo_core.errors import DataError, EngineError, first_line
from fo_core.io.files import cache_dir, replacing

Record = dict[str, Any]


def locate(source: str, patterns: Sequence[str], files: Sequence[str] = ()) -> Path:
    """The file of a set.

    Args:
        source: A file, a folder that holds it, or a data set's id on the Hugging Face hub.
        patterns: Names of the published files, the best first (``*`` stands for anything).
        files: What is fetched of the hub's data set; the patterns if none.

    Raises:
        DataError: There is no such file, folder or data set.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        path = _from_hub(source, files or patterns)
    for pattern in patterns:
        found = sorted(path.rglob(pattern))
        if found:
            return found[0]
    raise DataError(f"{source} holds no file of this set", possible=", ".join(patterns))


def known_source(name: str, known: Any) -> str:
    """Where a set is looked for when nobody says: $FO_DATA, the cache, the hub by its published id.

    Args:
        name: Of the set.
        known: Its file in ``eval/sets``: PATTERNS, and HUB where it is published under an id.

    Raises:
        DataError: It is in neither place.
    """
    folder = os.environ.get("FO_DATA", "")
    places = [Path(folder) / name, Path(folder) / name.replace("-", "_")] if folder else []
    places.append(cache_dir() / "sets" / name)
    for place in places:
        if any(next(place.rglob(pattern), None) for pattern in known.PATTERNS):
            return str(place)
    hub = getattr(known, "HUB", "")
    if hub:
        return str(hub)
    raise DataError(
        f"no questions for {name}",
        possible=place_for(name, known),
        do="set FO_DATA, or give --data: the published file, its folder, or a hub id",
    )


def place_for(name: str, known: Any) -> str:
    """Where a set's published file is looked for on this machine, in words."""
    return f"$FO_DATA/{name.replace('-', '_')} with {' or '.join(known.PATTERNS)}"


def suite_folder(source: str, known: Any, subsets: Sequence[str]) -> Path:
    """The folder of a suite of several sets.

    Args:
        source: A folder, or the suite's id on the hub.
        known: Its file in ``eval/sets``.
        subsets: Which of them are to be there.

    Raises:
        DataError: There is no such folder or data set.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    return _from_hub(source, [f"*{subset}/*" for subset in subsets])


def embedded_audio(value: Any, name: str) -> str:
    """A sound file of a data set's audio column, kept in the cache; "" where there is none.

    Args:
        value: ``{"bytes", "path"}`` or bytes, as parquet files of the hub hold it.
        name: Under which it is kept.
    """
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(data, (bytes, bytearray)):
        path = value.get("path") if isinstance(value, Mapping) else None
        return str(path) if path and Path(path).is_file() else ""
    mark = hashlib.sha256(data).hexdigest()[:16]
    place = cache_dir() / "sets" / f"{name}-{mark}{_suffix(bytes(data[:4]))}"
    if not place.is_file():
        with replacing(place) as draft:
            draft.write_bytes(data)
    return str(place)


def _suffix(head: bytes) -> str:
    known = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}
    return known.get(head, ".mp3")


def _from_hub(source: str, patterns: Sequence[str]) -> Path:
    if source.count("/") != 1 or source.startswith((".", "/", "~")) or " " in source:
        raise DataError(
            f"no file or folder {source}", possible="a file, a folder or a hub id (owner/name)"
        )
    from huggingface_hub import snapshot_download

    wanted = [name for pattern in patterns for name in (pattern, f"*/{pattern}")]
    try:
        found = snapshot_download(source, repo_type="dataset", allow_patterns=wanted)
    except Exception as error:  # the hub client raises a dozen kinds, all with the same meaning
        raise DataError(
            f"cannot fetch the data set {source!r} ({first_line(error)})",
            possible="a file, a folder or a hub id (owner/name)",
            do="check the name and the connection",
        ) from error
    return Path(found)


def records(path: Path) -> list[Record]:
    """Rows of a .tsv, .csv, .json, .jsonl or .parquet file.

    A JSON file is a list of rows, or an object one of whose values is (``Data``, ``data``, ..).

    Raises:
        DataError: The file cannot be read as what its name says.
        EngineError: A .parquet file, and pyarrow is not installed.
    """
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _parquet(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    try:
        if kind in (".tsv", ".csv"):
            tabs, lines = kind == ".tsv", io.StringIO(text, newline="")
            rows = csv.DictReader(
                lines,
                delimiter="\t" if tabs else ",",
                quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
            )
            return [{str(k).strip(): _plain(v) for k, v in row.items()} for row in rows]
        if kind in (".jsonl", ".ndjson"):
            found: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is not readable {kind[1:]}: {error}") from error
    if isinstance(found, Mapping):
        found = next((v for v in found.values() if isinstance(v, list)), None)
    if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
        raise DataError(f"{path} holds no list of rows", possible="objects with a question each")
    return [dict(row) for row in found]


def _plain(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _parquet(path: Path) -> list[Record]:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise EngineError(
            f"{path.name} is a parquet file, which needs the package pyarrow",
            possible="the set's .json, .jsonl or .tsv file",
            do="pip install pyarrow (the extra judge)",
        ) from error
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable parquet: {error}") from error


def first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of these fields that a row has and that is not empty; case does not count."""
    folded = {str(key).lower(): value for key, value in row.items()}
    for name in names:
        value = folded.get(name.lower())
        if value not in (None, "", [], ()):
            return value
    return None


def strings(value: Any) -> tuple[str, ...]:
    """One or several answers as texts, in order, each once."""
    if value is None:
        return ()
    listed = value if isinstance(value, (list, tuple)) else [value]
    return tuple(dict.fromkeys(str(one).strip() for one in listed if str(one).strip()))


def need(row: Mapping[str, Any], names: Sequence[str], path: Path, number: int) -> Any:
    """:func:`first`, or an error that names the file and the row.

    Raises:
        DataError: The row has none of the fields.
    """
    value = first(row, names)
    if value is None:
        raise DataError(f"{path} row {number} has no {names[0]}", possible=", ".join(names))
    return value
