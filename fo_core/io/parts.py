"""Parts of files: a sound inside a shard, on this machine or at a URL, read without unpacking.

A part is written ``FILE#START,SIZE`` (bytes); FILE is a path or a URL. HTTP servers are asked for
the range; other schemes (s3://, gs:// ...) are opened by lhotse, which needs ``smart_open``.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from fo_core.errors import DataError

TRIES = 4  # of a request, with pauses of 0.5, 1 and 2 s between
TIMEOUT = 30.0  # of a request, s
_PART = re.compile(r"(.+)#(\d+),(\d+)$")
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+", re.IGNORECASE)


def is_part(path: str | Path) -> bool:
    """Whether this is a part of a file."""
    return _PART.match(str(path)) is not None


def part(file: str | Path, start: int, size: int) -> str:
    """The name of a part of a file."""
    return f"{file}#{start},{size}"


def as_url(path: str | Path) -> str:
    """A URL as it was given, also where pathlib has taken one of its slashes; "" for a path."""
    match = _URL.match(str(path))
    if match is None or len(match[1]) < 2 or Path(path).exists():
        return ""
    rest = str(path)[match.end() :]
    return f"/{rest}" if match[1].lower() == "file" else f"{match[1].lower()}://{rest}"


def read_part(name: str | Path) -> bytes:
    """The bytes of a part.

    Raises:
        DataError: The file is missing, shorter than the part, or its server does not answer.
    """
    match = _PART.match(str(name))
    if match is None:
        raise DataError(f"{name} is not a part of a file", possible="FILE#START,SIZE")
    file, start, size = match[1], int(match[2]), int(match[3])
    url = as_url(file)
    if url.startswith("http"):
        data = fetch(url, start, size)
    else:
        try:
            with open_file(url or file) as opened:
                opened.seek(start)
                data = opened.read(size)
        except OSError as error:
            raise DataError(f"cannot read {name}: {error}") from error
    if len(data) != size:
        raise DataError(f"{file} ends before {start + size}: it was cut short or changed",
                        do="make or copy the shard again")  # fmt: skip
    return data


def open_file(file: str) -> IO[bytes]:
    """A local file, or one of a scheme that lhotse opens.

    Raises:
        DataError: The scheme needs a package.
        OSError: The file is missing.
    """
    if "://" not in file:
        return open(file, "rb")
    from lhotse.serialization import open_best

    try:
        return open_best(file, "rb")
    except ValueError as error:
        kind = urlsplit(file).scheme
        raise DataError(
            f"cannot open {file}: {kind}:// needs a package",
            possible="paths, http(s)://",
            do="pip install smart_open",
        ) from error


def fetch(url: str, start: int = 0, size: int | None = None) -> bytes:
    """The bytes at a URL, or ``size`` of them from ``start`` on.

    Raises:
        DataError: There is nothing, the server does not answer after some tries, or it cannot
            give a range.
    """
    headers = {} if size is None else {"Range": f"bytes={start}-{start + size - 1}"}
    request = urllib.request.Request(url, headers=headers)
    fault = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(0.25 * 2**attempt)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return _body(answer, url, start, size)
        except urllib.error.HTTPError as error:
            fault = f"{error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                break
        except (OSError, urllib.error.URLError, EOFError) as error:
            fault = str(getattr(error, "reason", error))
    raise DataError(f"cannot read {url}: {fault}", do="check the address and the network")


def _body(answer: Any, url: str, start: int, size: int | None) -> bytes:
    if size is None:
        return answer.read()
    if answer.status == 206:
        data = answer.read()
        if len(data) < size:
            raise EOFError(f"{len(data)} of {size} bytes came")
        return data
    if start + size > 2**26:
        raise DataError(
            f"the server of {url} gives no ranges", do="copy the shards to this machine"
        )
    return answer.read(start + size)[start:]
