"""The web application: Realtime at /v1/realtime, Socket.IO, the page, /v1/models, /metrics ..."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import socketio
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

from fo_core.config import config
from fo_core.dialogue.pool import Pool, PoolFull, Talk
from fo_core.dialogue.settings import DialogueConfig
from fo_core.errors import FoError
from fo_core.server.beta import PROTOCOL, wants_beta
from fo_core.server.budget import Budget
from fo_core.server.messages import new_id
from fo_core.server.metrics import measure
from fo_core.server.origins import allowed_origin
from fo_core.server.realtime import Realtime
from fo_core.server.settings import SessionSettings, detection
from fo_core.server.socketio import Dialect
from fo_core.server.translate import error

KEY_PROTOCOL = "openai-insecure-api-key."  # how a browser sends a key: a subprotocol of this name
POLICY, TRY_LATER, ERROR = 1008, 1013, 1011  # close codes of WebSocket


@config
class ServeConfig:
    """Who may use the server, and how much."""

    host: str = "127.0.0.1"  # address to listen at; anything else is reachable from outside
    port: int = 8000  # TCP port
    api_key: str | None = None  # wanted from every client; None = none is wanted
    session_seconds: float = 3600.0  # longest session, as the pool has it
    message_bytes: int = 21 * 2**20  # of one message: 15 MiB of audio in base64
    messages_per_second: float = 400.0  # of one client, sustained
    burst: int = 2000  # messages at once
    send_seconds: float = 20.0  # a client that takes nothing for so long is put out
    certificate: Path | None = None  # PEM file for TLS
    private_key: Path | None = None  # PEM file for TLS
    origins: tuple[str, ...] = ()  # pages of other sites that may talk (https://example.com)


def key_of(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """The API key that a client sent: as bearer, as a subprotocol, or in the query."""
    bearer = headers.get("authorization", "")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(KEY_PROTOCOL):
            return protocol.strip()[len(KEY_PROTOCOL) :]
    return query.get("api_key", "")


def make_app(pool: Pool, dialogue: DialogueConfig, name: str, system: str, cfg: ServeConfig) -> Any:
    """The application for an ASGI server.

    Args:
        pool: Holds the talks; closed when the application ends.
        dialogue: The model folder's, whose turn settings new sessions start from.
        name: Of the model, as clients see it.
        system: Its system prompt, as clients see it.
        cfg: Limits.
    """

    def allowed(headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
        sent = key_of(headers, query)
        return cfg.api_key is None or hmac.compare_digest(sent.encode(), cfg.api_key.encode())

    def environ_allowed(environ: dict[str, Any]) -> bool:
        headers = {"authorization": environ.get("HTTP_AUTHORIZATION", "")}
        asked = parse_qs(environ.get("QUERY_STRING", ""))
        return allowed(headers, {key: values[0] for key, values in asked.items()})

    def first_settings() -> SessionSettings:
        shown, turn = detection({"type": "semantic_vad"}, dialogue.duplex.turn)
        return SessionSettings(name, system, turn, shown)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(pool.close)

    started = int(time.time())
    app = FastAPI(title="Freeze-Omni", lifespan=lifespan, openapi_url=None)

    @app.middleware("http")
    async def headers(request: Any, call_next: Any) -> Any:
        answer = await call_next(request)
        answer.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        stats = pool.stats()
        return {"status": "ok", "model": name, "sessions": stats.sessions}

    def locked(request: Request) -> JSONResponse | None:
        if allowed(request.headers, request.query_params):
            return None
        return JSONResponse(error("the API key is wrong or missing", "invalid_api_key"), 401)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        refused = locked(request)
        if refused is not None:
            return refused
        body, kind = measure(pool.stats())
        return Response(body, media_type=kind)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        data = [{"id": name, "object": "model", "created": started, "owned_by": "freeze-omni"}]
        return locked(request) or JSONResponse({"object": "list", "data": data})

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        asked = socket.headers.get("sec-websocket-protocol", "")
        offered = [part.strip() for part in asked.split(",")]
        spoken = next((name for name in ("realtime", PROTOCOL) if name in offered), None)
        await socket.accept(subprotocol=spoken)
        origin, host = socket.headers.get("origin"), socket.headers.get("host")
        if not allowed_origin(origin, host, cfg.origins):
            what = f"pages of {origin} may not talk to {host} (fo serve --origin {origin})"
            await _refuse(socket, what, "wrong_origin", POLICY)
            return
        if not allowed(socket.headers, socket.query_params):
            await _refuse(socket, "the API key is wrong or missing", "invalid_api_key", POLICY)
            return
        try:
            talk = pool.open()
        except FoError as wrong:
            full = isinstance(wrong, PoolFull)
            code = "too_many_sessions" if full else "model"
            await _refuse(socket, str(wrong), code, TRY_LATER if full else ERROR)
            return
        try:
            await _serve(socket, talk, first_settings(), cfg)
        finally:
            talk.close("client")

    web = str(resources.files("fo_core") / "server" / "web")
    app.mount("/", StaticFiles(directory=web, html=True))
    dialect = Dialect(
        pool.open,
        environ_allowed,
        lambda: Budget(cfg.messages_per_second, cfg.burst),
        lambda origin, environ: allowed_origin(origin, environ.get("HTTP_HOST"), cfg.origins),
    )
    return socketio.ASGIApp(dialect.server, other_asgi_app=app)


async def _refuse(socket: Any, message: str, code: str, close: int) -> None:
    await socket.send_json({"event_id": new_id("event"), **error(message, code)})
    await socket.close(close, message[:120])


async def _serve(socket: Any, talk: Talk, settings: SessionSettings, cfg: ServeConfig) -> None:
    """Serve one connection until either side ends it."""

    async def send(text: str) -> None:
        # not wait_for: before Python 3.12 it may swallow a cancellation
        async with asyncio.timeout(cfg.send_seconds):
            await socket.send_text(text)

    states = socket.query_params.get("states") == "1"
    budget, beta = Budget(cfg.messages_per_second, cfg.burst), wants_beta(socket.headers)
    client = Realtime(
        talk, settings, send, cfg.session_seconds, states, beta, lambda: [budget.shown()]
    )

    async def listen() -> tuple[int, str]:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return 1000, ""
            if not budget.spend():
                await client.say_error("too many messages", "rate_limit_exceeded")
                return POLICY, "too many messages"
            await client.receive(message.get("text") or message.get("bytes") or "")

    async def speak() -> tuple[int, str]:
        reason = await client.run()
        if reason != "client":
            await client.say_error(f"the session ended: {reason}", "session_expired")
        return (1000 if reason in ("client", "idle", "too_long") else ERROR), reason

    tasks: list[asyncio.Task[tuple[int, str]]] = []
    try:
        await client.hello()
        tasks = [asyncio.create_task(part) for part in (listen(), speak())]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        code, why = next(iter(done)).result()
    except (WebSocketDisconnect, TimeoutError, OSError, RuntimeError):
        code, why = ERROR, "the connection is gone"
    except FoError as wrong:
        code, why = ERROR, str(wrong)[:120]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    try:
        async with asyncio.timeout(1):
            await socket.close(code, why)
    except (WebSocketDisconnect, RuntimeError, TimeoutError, OSError):
        return  # it is closed already
