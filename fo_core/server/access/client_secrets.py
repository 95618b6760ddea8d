"""Short-lived keys for browsers: each lets its holder open sessions with one configuration.

A page cannot keep the server's own key, so its backend asks for a client secret and hands that on.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

from fo_core.server.messages import Refused
from fo_core.server.settings import SessionSettings

PREFIX = "ek_"
SECONDS = 600  # that a secret is valid, unless asked
LEAST, MOST = 10, 7200


@dataclass(frozen=True)
class Secret:
    """A secret as it is handed out."""

    value: str
    expires_at: int  # seconds since the epoch
    settings: SessionSettings  # that its sessions begin with


class ClientSecrets:
    """Those that are valid; only their hashes are kept.

    Args:
        limit: At most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[bytes, Secret] = {}

    def make(self, settings: SessionSettings, seconds: int = SECONDS) -> Secret:
        """A new one.

        Raises:
            Refused: There are too many.
        """
        now = time.time()
        self._kept = {key: kept for key, kept in self._kept.items() if kept.expires_at > now}
        if len(self._kept) >= self._limit:
            what = f"{self._limit:,} client secrets are valid; wait until some expire"
            raise Refused(what, code="rate_limit_exceeded")
        secret = Secret(PREFIX + secrets.token_hex(24), int(now) + seconds, settings)
        self._kept[_hash(secret.value)] = Secret("", secret.expires_at, settings)
        return secret

    def settings(self, value: str) -> SessionSettings | None:
        """What sessions of a secret begin with; None where it is unknown or has expired."""
        found = self._kept.get(_hash(value))
        return found.settings if found is not None and found.expires_at > time.time() else None


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()


def read_request(data: Any, first: SessionSettings) -> tuple[SessionSettings, int]:
    """What is asked for: the settings of its sessions, and for how many seconds.

    Args:
        data: The request's JSON.
        first: The server's own settings.

    Raises:
        Refused: A field is wrong.
    """
    if not isinstance(data, dict):
        raise Refused("the request is a JSON object", code="invalid_json")
    for name in set(data) - {"expires_after", "session"}:
        raise Refused(f"there is no field {name[:64]!r}", name[:64], "unknown_parameter")
    after, session = data.get("expires_after") or {}, data.get("session") or {}
    for name, part in (("expires_after", after), ("session", session)):
        if not isinstance(part, dict):
            raise Refused(f"{name} is no object", name)
    if after.get("anchor", "created_at") != "created_at":
        raise Refused("the anchor is created_at", "expires_after.anchor")
    seconds = after.get("seconds", SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not LEAST <= seconds <= MOST:
        raise Refused(f"{LEAST} to {MOST} seconds", "expires_after.seconds")
    return first.updated(session), seconds
