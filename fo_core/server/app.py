"""The web application: Realtime over WebSocket and WebRTC, Socket.IO, the page, /metrics ..."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

import socketio
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from fo_core.dialogue.sessions.pool import Pool
from fo_core.dialogue.settings import DialogueConfig
from fo_core.server.access.answers import nothing_at, refusal
from fo_core.server.access.keys import Access
from fo_core.server.access.origins import allowed_origin
from fo_core.server.access.routes import add_secrets
from fo_core.server.beta import PROTOCOL
from fo_core.server.budget import Budget
from fo_core.server.connection import Connection, turn_away
from fo_core.server.context import ServeConfig, ServerContext
from fo_core.server.drain import Drain
from fo_core.server.live.routes import LiveRoutes
from fo_core.server.logs import request_id, say
from fo_core.server.messages import Refused, new_id
from fo_core.server.metrics import Metrics
from fo_core.server.settings import SessionSettings, for_player, own_detection
from fo_core.server.socketio import Dialect
from fo_core.server.translate import error
from fo_core.server.webrtc.routes import Calls

__all__ = ["ServeConfig", "make_app"]
QUIET = ("/healthz", "/metrics")  # asked for every few seconds


def make_app(
    pool: Pool,
    dialogue: DialogueConfig,
    name: str,
    system: str,
    cfg: ServeConfig,
    drain: Drain | None = None,
) -> Any:
    """The application for an ASGI server.

    Args:
        pool: Holds the talks; closed when the application ends.
        dialogue: The model folder's, whose turn settings new sessions start from.
        name: Of the model, as clients see it.
        system: Its system prompt, as clients see it.
        cfg: Limits.
        drain: Says when the server is about to end.
    """
    leaving = drain or Drain()

    def ready() -> bool:
        return not leaving.begun and pool.stats().sessions < pool.cfg.max_sessions

    metrics = Metrics(pool.stats, pool.cfg.max_sessions, ready)

    def first_settings() -> SessionSettings:
        shown, turn = own_detection(dialogue.duplex.turn)
        return SessionSettings(name, system, turn, shown, voices=pool.voices, voice=pool.voices[0])

    access = Access(cfg, first_settings)
    context = ServerContext(cfg, pool, leaving, metrics)
    calls = Calls(access, context)

    def environ_allowed(environ: dict[str, Any]) -> bool:
        headers = {"authorization": environ.get("HTTP_AUTHORIZATION", "")}
        asked = parse_qs(environ.get("QUERY_STRING", ""))
        return access.has_key(headers, {key: values[0] for key, values in asked.items()})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        waiting = asyncio.create_task(dialect.leave(leaving, pool.working))
        yield
        waiting.cancel()
        await calls.close()
        await asyncio.to_thread(pool.close)
        say("server ended")

    started = int(time.time())
    app = FastAPI(title="Freeze-Omni", lifespan=lifespan, openapi_url=None)

    @app.exception_handler(HTTPException)
    async def nothing(request: Request, wrong: HTTPException) -> JSONResponse:
        place = f"{request.method} {request.url.path}"
        return nothing_at(place, wrong.status_code, wrong.headers)

    @app.middleware("http")
    async def headers(request: Any, call_next: Any) -> Any:
        began, known = time.monotonic(), request_id(request.headers.get("x-request-id"))
        answer = await call_next(request)
        answer.headers["X-Request-ID"] = known
        path = request.url.path  # without the query, which may hold a key
        level = logging.DEBUG if path.startswith(QUIET) else logging.INFO
        took = round(1000 * (time.monotonic() - began), 1)
        what = {"method": request.method, "path": path, "status": answer.status_code}
        say("request", level, request_id=known, **what, ms=took)
        answer.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        stats = pool.stats()
        return {"status": "ok", "model": name, "sessions": stats.sessions}

    @app.get("/healthz/live")
    async def live() -> dict[str, Any]:
        return {"status": "live"}

    @app.get("/healthz/ready")
    async def is_ready() -> JSONResponse:
        state = "ready" if ready() else "shutting down" if leaving.begun else "at capacity"
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    def locked(request: Request) -> JSONResponse | None:
        try:
            access.check(request.headers, request.query_params)
        except Refused as wrong:
            return refusal(wrong)
        return None

    @app.get("/metrics")
    async def scrape(request: Request) -> Response:
        refused = locked(request)
        if refused is not None:
            return refused
        body, kind = metrics.scrape()
        return Response(body, media_type=kind)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        about = {"id": name, "object": "model", "created": started, "owned_by": "freeze-omni"}
        data = [about | {"voices": list(pool.voices)}]  # an extension
        return locked(request) or JSONResponse({"object": "list", "data": data})

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        asked = socket.headers.get("sec-websocket-protocol", "")
        offered = [part.strip() for part in asked.split(",")]
        spoken = next((name for name in ("realtime", PROTOCOL) if name in offered), None)
        known = request_id(socket.headers.get("x-request-id"))
        marks = [(b"x-request-id", known.encode())]
        await socket.accept(subprotocol=spoken, headers=marks)

        try:
            if "call_id" in socket.query_params:
                what = "no second connection to a call (call_id) here"
                raise Refused(what, "call_id", "unsupported")
            host = socket.headers.get("host")
            settings = access.session(socket.headers, socket.query_params, host)
            turn = for_player(settings.turn, socket.query_params.get("yield"))
            settings = dataclasses.replace(settings, turn=turn)
            talk = context.talk(settings.turn)
        except Refused as wrong:
            told = {"event_id": new_id("event"), **error(str(wrong), wrong.code, wrong.param)}
            await turn_away(socket, context, known, wrong, told)
            return
        try:
            await Connection(socket, talk, settings, context).serve(known)
        finally:
            talk.close("client")

    calls.add_routes(app)
    LiveRoutes(access, calls, context).add_routes(app)
    add_secrets(app, access)

    @app.websocket("/{rest:path}")
    async def no_socket(socket: WebSocket, rest: str) -> None:
        await socket.send_denial_response(nothing_at(f"/{rest} (WebSocket)"))

    web = str(resources.files("fo_core") / "server" / "web")
    app.mount("/", StaticFiles(directory=web, html=True))
    dialect = Dialect(
        lambda asked: context.open_talk(for_player(dialogue.duplex.turn, asked)),
        environ_allowed,
        lambda: Budget(cfg.messages_per_second, cfg.burst),
        lambda origin, environ: allowed_origin(origin, environ.get("HTTP_HOST"), cfg.origins),
    )
    return socketio.ASGIApp(dialect.server, other_asgi_app=app)
