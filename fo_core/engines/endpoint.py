"""One POST to a service, asked again with growing pauses while it is busy or briefly gone."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from fo_core.errors import EngineError

AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # statuses after which another try makes sense
LONGEST_PAUSE = 60.0  # s, whatever the service asks for


class ServiceDown(EngineError):
    """A service cannot be reached or keeps refusing: other requests would fare no better."""


def check_url(url: str, what: str, variable: str) -> str:
    """An address without its last slash.

    Raises:
        EngineError: There is none, or it is not one.
    """
    if not url.startswith(("http://", "https://")):
        raise EngineError(
            f"no endpoint for {what}" if not url else f"{url!r} is not an address",
            possible="an address such as http://127.0.0.1:8000/v1",
            do=f"set {variable}",
        )
    return url.rstrip("/")


def pause_after(attempt: int, pause: float, asked: str | None = None) -> float:
    """Seconds before the next try: doubled each time, or what the service asks for."""
    try:
        wanted = float(asked or 0)
    except ValueError:
        wanted = 0.0
    return min(LONGEST_PAUSE, max(wanted, pause * 2**attempt))


def post(
    url: str,
    body: Mapping[str, Any],
    key: str | None = None,
    tries: int = 5,
    pause: float = 1.0,
    timeout: float = 120.0,
    read: Callable[[bytes], Any] = bytes,
) -> Any:
    """What the answer to a JSON request says.

    Args:
        url: Where to.
        body: What is sent, as JSON.
        key: Sent as bearer key if given.
        tries: How often it is asked in all.
        pause: Seconds before the second try, doubled for each further one.
        timeout: Seconds that one answer may take.
        read: Makes it of the answer's body; where it raises ValueError, it is asked again.

    Raises:
        EngineError: The service refuses this request.
        ServiceDown: It gives no answer after all tries.
    """
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    reason, asked = "", None
    for attempt in range(max(1, tries)):
        if attempt:
            time.sleep(pause_after(attempt - 1, pause, asked))
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return read(reply.read())
        except urllib.error.HTTPError as error:
            reason, asked = f"status {error.code}", error.headers.get("Retry-After")
            if error.code not in AGAIN:
                detail = error.read(300).decode(errors="replace").strip()
                raise EngineError(f"{url}: {reason}: {detail}") from error
        except (
            OSError,
            ValueError,
            http.client.HTTPException,
        ) as error:  # gone, slow, garbled
            reason, asked = str(getattr(error, "reason", error)) or type(error).__name__, None
    raise ServiceDown(
        f"{url}: no answer after {max(1, tries)} tries ({reason})", do="check the server"
    )
