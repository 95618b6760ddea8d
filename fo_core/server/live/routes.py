"""``/v1/live/sessions``: sessions of the Live protocol, by WebSocket and WebRTC.

What the protocol has beside them (forks, recordings, second connections, telephony) is refused by
name at its own address.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from fo_core.dialogue.sessions.talk import Talk
from fo_core.errors import FoError
from fo_core.server.access.answers import body_of, json_of, leave, refusal
from fo_core.server.access.keys import NO_KEY, Access
from fo_core.server.budget import Budget
from fo_core.server.connection import FLOOD, Connection, Protocol, turn_away
from fo_core.server.context import ServerContext
from fo_core.server.live.client import Live, live_error, new_live_id
from fo_core.server.live.messages import read_event
from fo_core.server.live.session import LiveSession, read_session
from fo_core.server.logs import request_id
from fo_core.server.messages import Refused, read_message
from fo_core.server.webrtc.media import Media
from fo_core.server.webrtc.routes import Calls

PATH = "/v1/live/sessions"
HERE = f"possible: {PATH} by WebSocket, POST {PATH} (WebRTC), POST {PATH}/ID/hangup of those"
NOT_HERE = {
    "accept": "no telephony (SIP) here: a call cannot be accepted",
    "reject": "no telephony (SIP) here: a call cannot be rejected",
    "refer": "no telephony (SIP) here: a call cannot be transferred",
    "fork": "no forks: nothing of a session is stored",
    "content": "no recordings: nothing of a session is stored",
    "attach": "no second connection (sideband) to a session",
}
SECRETS = f"{NO_KEY} (a client secret is for /v1/realtime)"


class LiveRoutes:
    """All of it.

    Args:
        access: Who may come in.
        calls: Opens WebRTC calls.
        context: The server's.
    """

    def __init__(self, access: Access, calls: Calls, context: ServerContext) -> None:
        self._access, self._calls, self._context = access, calls, context

    def add_routes(self, app: FastAPI) -> None:
        """Serve them."""
        app.websocket(PATH)(self._connect)
        app.post(PATH)(self._create)
        app.post(PATH + "/{call}/hangup")(self._calls.hang_up)
        for path in (PATH, PATH + "/{call}/hangup"):
            app.options(path)(self._calls.preflight_of)
        app.get("/v1/live/{rest:path}")(self._not_here)
        app.post("/v1/live/{rest:path}")(self._not_here)
        app.websocket("/v1/live/{rest:path}")(self._no_socket)

    # --- WebSocket ---

    async def _connect(self, socket: WebSocket) -> None:
        known = request_id(socket.headers.get("x-request-id"))
        await socket.accept(headers=[(b"x-request-id", known.encode())])
        try:
            self._check(socket)
            talk = self._context.talk(self._access.first_settings().turn)
        except Refused as wrong:
            await self._refuse(socket, known, wrong)
            return
        try:
            await self._serve(socket, talk, known)
        finally:
            talk.close("client")

    async def _serve(self, socket: WebSocket, talk: Talk, known: str) -> None:
        try:
            async with asyncio.timeout(self._context.cfg.connect_seconds):
                session, event_id = await self._started(socket)
        except TimeoutError:
            what = f"no session.start in {self._context.cfg.connect_seconds:g} s"
            await self._refuse(socket, known, Refused(what, code="session_not_started"))
            return
        except Refused as wrong:
            await self._refuse(socket, known, wrong)
            return
        except (WebSocketDisconnect, OSError, RuntimeError):
            return
        media = Media(talk, None)
        protocol = self._protocol(session, event_id)
        connection = Connection(socket, talk, session.settings, self._context, media, protocol)
        await connection.serve(known)

    async def _started(self, socket: WebSocket) -> tuple[LiveSession, str | None]:
        """The session that a client starts; whatever comes before is answered with an error.

        Raises:
            Refused: It floods.
            WebSocketDisconnect: It is gone.
        """
        cfg = self._context.cfg
        budget = Budget(cfg.messages_per_second, cfg.burst)
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(1006)
            if not budget.spend():
                raise Refused(FLOOD, code="rate_limit_exceeded")
            event_id = None
            try:
                data = read_message(message.get("text") or message.get("bytes") or "")
                event_id = data.get("event_id")
                if data["type"] != "session.start":
                    what = "send session.start first"
                    raise Refused(what, "type", "session_not_started")
                session = data.get("session")
                found = read_session(session, self._access.first_settings(), tracks=False)
                read_event(data)
                return found, event_id
            except FoError as wrong:
                param, code = getattr(wrong, "param", None), getattr(wrong, "code", "invalid_value")
                self._context.metrics.refused(code)
                await socket.send_json(live_error(str(wrong), code, param, event_id))

    def _protocol(
        self,
        session: LiveSession,
        event_id: str | None = None,
        id: str | None = None,  # noqa: A002 the protocol's word
    ) -> Protocol:
        pool = self._context.pool
        idle, room = pool.cfg.idle_seconds, pool.context
        return lambda context: Live(context, session, event_id, idle, room, id)

    async def _refuse(self, socket: WebSocket, known: str, wrong: Refused) -> None:
        told = live_error(str(wrong), wrong.code, wrong.param, None)
        await turn_away(socket, self._context, known, wrong, told)

    def _check(self, request: Request | WebSocket) -> None:
        """Let in who has the server's key.

        Raises:
            Refused: It has not, is a page of another site, or asks for something in its query.
        """
        self._access.check_origin(request.headers, request.headers.get("host"))
        self._access.check(request.headers, request.query_params, SECRETS)

    # --- WebRTC ---

    async def _create(self, request: Request) -> Response:
        return await self._calls.guarded(request, functools.partial(self._answer, request))

    async def _answer(self, request: Request) -> Response:
        self._check(request)
        data = json_of(await body_of(request), "the request")
        sdp, asked = _read(data)
        session = read_session(asked, self._access.first_settings(), tracks=True)
        id = new_live_id()  # noqa: A001 the protocol's word
        protocol = self._protocol(session, id=id)
        answer = await self._calls.open(request, id, sdp, session.settings, protocol)
        told = {"session": {"id": id}, "transport": {"type": "webrtc", "sdp": answer}}
        headers = {"Location": f"{PATH}/{id}"} | leave(request.headers.get("origin"))
        return JSONResponse(told, 201, headers)

    # --- what there is not ---

    async def _not_here(self, request: Request, rest: str) -> Response:
        wrong = _wrong(rest)
        self._context.refused(wrong.code, request_id(request.headers.get("x-request-id")))
        return refusal(wrong)

    async def _no_socket(self, socket: WebSocket, rest: str) -> None:
        await socket.accept()
        await self._refuse(socket, request_id(socket.headers.get("x-request-id")), _wrong(rest))


def _wrong(rest: str) -> Refused:
    """Why there is nothing at ``/v1/live/REST``."""
    what = NOT_HERE.get(rest.rsplit("/", 1)[-1], f"nothing at /v1/live/{rest[:64]}")
    return Refused(f"{what}; {HERE}", code="unsupported")


def _read(data: Any) -> tuple[str, Any]:
    """The offer and the session of a request."""
    if not isinstance(data, dict):
        raise Refused("the request is a JSON object", code="invalid_json")
    for name in set(data) - {"session", "transport"}:
        raise Refused(f"there is no field {name[:64]!r}", name[:64], "unknown_parameter")
    transport = data.get("transport")
    if not isinstance(transport, dict):
        raise Refused("transport is no object", "transport", "missing_required_parameter")
    for name in set(transport) - {"type", "sdp"}:
        name = f"transport.{name[:64]}"
        raise Refused(f"there is no field {name!r}", name, "unknown_parameter")
    if transport.get("type") != "webrtc":
        what = f"no transport {str(transport.get('type'))[:64]!r}; possible: webrtc"
        raise Refused(what, "transport.type", "unsupported")
    if not isinstance(transport.get("sdp"), str):
        raise Refused("sdp is missing", "transport.sdp", "missing_required_parameter")
    return transport["sdp"], data.get("session")
