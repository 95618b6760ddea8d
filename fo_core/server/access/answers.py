"""HTTP requests: their bodies within bounds, and answers in the protocol's shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from fo_core.server.messages import Refused
from fo_core.server.translate import error

MAX_BODY = 512 * 1024  # bytes: an SDP offer, instructions and functions
BODY_SECONDS = 10.0  # for a body to arrive
HERE = (
    "/v1/realtime and /v1/live/sessions (WebSocket), POST /v1/realtime/calls and /v1/live/sessions "
    "(WebRTC), POST /v1/realtime/client_secrets, GET /v1/models, /metrics, /healthz, / (the page)"
)
STATUS = {
    "invalid_api_key": 401,
    "wrong_origin": 403,
    "call_not_found": 404,
    "too_large": 413,
    "rate_limit_exceeded": 429,
    "not_installed": 501,
    "too_many_sessions": 503,
    "server_shutdown": 503,
}


def refusal(wrong: Refused) -> JSONResponse:
    """An error as the protocol writes it, with the status of its code (400 of any other)."""
    status = STATUS.get(wrong.code, 400)
    headers = {"Retry-After": "5"} if status == 503 else None
    return JSONResponse(error(str(wrong), wrong.code, wrong.param), status, headers)


def nothing_at(place: str, status: int = 404, headers: Any = None) -> JSONResponse:
    """The answer to a request of an address, or a method of it, that there is not."""
    what = f"nothing at {place[:200]}; possible: {HERE}"
    return JSONResponse(error(what, "not_found"), status, headers)


def leave(origin: str | None) -> dict[str, str]:
    """Headers with which a browser lets a page of this (allowed) origin read the answer."""
    if origin is None:
        return {}
    shown = "Location, X-Request-ID"
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": shown,
        "Vary": "Origin",
    }


def preflight(request: Request) -> Response:
    """The answer to a browser that asks whether a page of an (allowed) origin may send this."""
    asked = request.headers.get("access-control-request-headers", "")
    also = {
        "Access-Control-Allow-Methods": "POST, DELETE",
        "Access-Control-Allow-Headers": asked[:1000] or "authorization, content-type",
    }
    return Response(status_code=204, headers=leave(request.headers.get("origin")) | also)


async def body_of(request: Request) -> bytes:
    """The body, if it is not too long.

    Raises:
        Refused: It is, or it does not arrive.
    """
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                found += part
                if len(found) > MAX_BODY:
                    what = f"a body of more than {MAX_BODY:,} bytes"
                    raise Refused(what, code="too_large")
    except (TimeoutError, ClientDisconnect) as wrong:
        raise Refused("the body did not arrive") from wrong
    return bytes(found)


def json_of(body: bytes | str, what: str) -> Any:
    """JSON data.

    Raises:
        Refused: It is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise Refused(f"{what} is no JSON ({type(wrong).__name__})", code="invalid_json") from wrong


async def fields_of(request: Request, body: bytes) -> dict[str, str]:
    """The fields of a multipart form.

    Raises:
        Refused: It is none, or one of its fields is no text.
    """
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=4, max_fields=4)
    parser.max_part_size = MAX_BODY
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError) as wrong:
        raise Refused(f"the form cannot be read ({wrong})") from wrong
    found: dict[str, str] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str):  # sent as a file, which some clients do
            try:
                value = (await value.read()).decode()
            except UnicodeDecodeError as wrong:
                raise Refused(f"{name[:64]} is no text", name[:64]) from wrong
        found[name] = value
    return found
