"""Which web pages may talk to the server: its own, and those that were named.

A browser lets any site open a WebSocket to this machine; the origin tells which site it was. What
is no browser sends none.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from fo_core.errors import ConfigError

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
LOOPBACK = ("localhost", "127.0.0.1", "::1")  # names of this machine: one is as good as another


def check_origin(text: str) -> str:
    """An origin as a user writes it.

    Raises:
        ConfigError: It is none.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ConfigError(f"origin {text!r}", possible="such as https://example.com or http://h:81")
    return text


def allowed_origin(origin: str | None, host: str | None, others: Sequence[str] = ()) -> bool:
    """Whether a client with this origin may talk.

    Args:
        origin: Its ``Origin`` header; None where it sent none.
        host: Its ``Host`` header: the server as the browser sees it.
        others: Origins that may talk besides the server's own page.
    """
    if origin is None:
        return True
    place = _place(origin)
    if place is None:
        return False
    if any(place == _place(other) for other in others):
        return True
    scheme, *where = place
    return _place(f"{scheme}://{host}") == (scheme, *where)


def _place(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin; None: it is opaque."""
    try:
        parts = urlsplit(origin)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return None
    if port is None or not parts.hostname:
        return None
    name = parts.hostname.lower()
    return parts.scheme, LOOPBACK[0] if name in LOOPBACK else name, port
