"""``/v1/realtime/calls``: an SDP offer comes in, a session of the Realtime protocol begins."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response

from fo_core.dialogue.sessions.talk import Talk
from fo_core.errors import EngineError, FoError
from fo_core.server.access.answers import body_of, fields_of, json_of, leave, preflight, refusal
from fo_core.server.access.keys import CALL_QUERY, NO_KEY, Access, check_query, key_of
from fo_core.server.connection import Connection, Protocol
from fo_core.server.context import ServerContext
from fo_core.server.logs import request_id
from fo_core.server.messages import Refused, new_id
from fo_core.server.settings import SessionSettings
from fo_core.server.webrtc.channel import ChannelSocket
from fo_core.server.webrtc.media import Media

PATH = "/v1/realtime/calls"
ANYWHERE = ("", "0.0.0.0", "::")
CLOSE_SECONDS = 2.0  # for all calls to end when the server does


def addresses_of(host: str) -> list[str]:
    """Where a server that listens at a host may be reached by UDP.

    Raises:
        FoError: The host has no address.
    """
    if host in ANYWHERE:
        from aioice.ice import get_host_addresses

        found = get_host_addresses(use_ipv4=True, use_ipv6=host == "::")
        return found or ["127.0.0.1"]
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise FoError(f"the host {host} has no address ({error})") from error
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


@dataclass
class _Open:
    """A call that is open."""

    call: Any
    key: str  # with which it was made: who may end it
    task: asyncio.Task[None] | None = None


class Calls:
    """All calls of a server.

    Args:
        access: Who may come in.
        context: The server's.
    """

    def __init__(self, access: Access, context: ServerContext) -> None:
        self._access, self._context = access, context
        self._calls: dict[str, _Open] = {}

    def add_routes(self, app: FastAPI) -> None:
        """Serve them."""
        app.post(PATH)(self._create)
        app.options(PATH)(self.preflight_of)
        one = PATH + "/{call}"
        app.post(one + "/hangup")(self.hang_up)
        app.delete(one)(self.hang_up)
        for path in (one, one + "/hangup"):
            app.options(path)(self.preflight_of)
        for name in ("accept", "reject", "refer"):
            app.post(f"{one}/{name}")(self.no_telephony)

    async def close(self) -> None:
        """End all calls."""
        tasks = [each.task for each in self._calls.values() if each.task is not None]
        for each in list(self._calls.values()):
            each.call.hang_up()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in left:
                task.cancel()

    # --- requests ---

    async def guarded(self, request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
        """What work gives; a refusal in the protocol's shape, counted, where it raises one."""
        try:
            return await work()
        except Refused as wrong:
            self._context.refused(wrong.code, request_id(request.headers.get("x-request-id")))
            return refusal(wrong)

    async def _create(self, request: Request) -> Response:
        return await self.guarded(request, functools.partial(self._answer, request))

    async def _answer(self, request: Request) -> Response:
        headers, query = request.headers, request.query_params
        settings = self._access.session(headers, query, headers.get("host"), CALL_QUERY)
        sdp, session = await _read(request)
        settings = settings.updated(session) if session else settings
        id = new_id("rtc")  # noqa: A001 the protocol's word
        answer = await self.open(request, id, sdp, settings)
        return Response(
            answer,
            201,
            media_type="application/sdp",
            headers={"Location": f"{PATH}/{id}"} | leave(headers.get("origin")),
        )

    async def open(
        self,
        request: Request,
        id: str,  # noqa: A002 the protocol's word
        sdp: str,
        settings: SessionSettings,
        protocol: Protocol | None = None,
    ) -> str:
        """Open a call; the SDP answer.

        Args:
            request: Of the caller, who may come in.
            id: Of the call.
            sdp: The offer.
            settings: The session begins with.
            protocol: As of :class:`Connection`.

        Raises:
            Refused: There is no room, no package for it, or the offer cannot be answered.
        """
        headers, query = request.headers, request.query_params
        try:
            from fo_core.server.webrtc.call import Call
            from fo_core.server.webrtc.offer import read_offer
        except ImportError as error:
            what = EngineError(
                f"WebRTC needs the package {error.name}", do="pip install 'freeze-omni[webrtc]'"
            )
            raise Refused(str(what), code="not_installed") from error
        offer = read_offer(sdp)
        talk = self._context.talk(settings.turn)
        call = Call(ChannelSocket(query, headers), addresses_of(self._context.cfg.host))
        try:
            media = Media(talk, call.frames if offer.speaks else None)
            answer = await call.answer(offer, media.playout)
        except BaseException:
            talk.close("client")
            await call.close()
            raise
        known = request_id(headers.get("x-request-id"))
        make = functools.partial(
            Connection, call.socket, talk, settings, self._context, media, protocol
        )
        self._calls[id] = found = _Open(call, key_of(headers, query))
        found.task = asyncio.create_task(self._run(id, call, offer.channel, talk, make, known))
        return answer

    async def _run(
        self,
        id: str,  # noqa: A002 the protocol's word
        call: Any,
        channel: bool,
        talk: Talk,
        make: Callable[[], Connection],
        known: str,
    ) -> None:
        """A call from its answer to its end."""
        watching = asyncio.create_task(call.watch())
        try:
            await call.connected(channel, self._context.cfg.connect_seconds)
            await make().serve(known)
        except FoError:  # it was not connected
            self._context.refused("not_connected", known, call=id)
        finally:
            watching.cancel()
            talk.close("client")
            self._calls.pop(id, None)
            await call.close()

    async def hang_up(self, request: Request, call: str) -> Response:
        """The request that ends a call."""
        headers = request.headers
        try:
            self._access.check_origin(headers, headers.get("host"))
            found, sent = self._calls.get(call), key_of(headers, request.query_params)
            own = found is not None and bool(sent) and sent == found.key
            if not own and not self._access.has_key(headers, request.query_params):
                raise Refused(NO_KEY, code="invalid_api_key")
            check_query(request.query_params, ("api_key",))
            if found is None:
                raise Refused(f"no call {call[:64]!r}", "call_id", "call_not_found")
        except Refused as wrong:
            return refusal(wrong)
        found.call.hang_up()
        return Response(status_code=200, headers=leave(headers.get("origin")))

    async def no_telephony(self, request: Request, call: str) -> Response:
        """A request that only a telephone network could obey."""
        what = "no telephony (SIP) here: a call cannot be accepted, rejected or transferred"
        return refusal(Refused(what, code="unsupported"))

    async def preflight_of(self, request: Request) -> Response:
        """What a browser asks before it sends a page's request."""
        try:
            self._access.check_origin(request.headers, request.headers.get("host"))
        except Refused as wrong:
            return refusal(wrong)
        return preflight(request)


async def _read(request: Request) -> tuple[str, dict[str, Any]]:
    """The offer and the session that is asked for, of a form or of plain SDP."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = await body_of(request)
    try:
        if kind == "application/sdp":
            return body.decode(), {}
    except UnicodeDecodeError as wrong:
        raise Refused("the SDP offer is no text", "sdp", "invalid_sdp") from wrong
    if kind != "multipart/form-data":
        what = f"no content type {kind[:64] or 'none'!r} here"
        raise Refused(f"{what}; possible: application/sdp, multipart/form-data (sdp, session)")
    fields = await fields_of(request, body)
    for name in set(fields) - {"sdp", "session"}:
        raise Refused(f"there is no field {name[:64]!r}", name[:64], "unknown_parameter")
    if "sdp" not in fields:
        raise Refused("sdp is missing", "sdp", "missing_required_parameter")
    session = json_of(fields.get("session", "{}"), "session")
    if not isinstance(session, dict):
        raise Refused("session is no object", "session")
    return fields["sdp"], session
