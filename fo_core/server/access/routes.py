"""``/v1/realtime/client_secrets``: a server's backend asks for a key that it can give to a page."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from fo_core.server.access.answers import body_of, json_of, leave, preflight, refusal
from fo_core.server.access.client_secrets import read_request
from fo_core.server.access.keys import Access
from fo_core.server.messages import Refused, new_id

PATH = "/v1/realtime/client_secrets"


def add_secrets(app: FastAPI, access: Access) -> None:
    """Serve it."""

    @app.post(PATH)
    async def create(request: Request) -> Response:
        headers = request.headers
        try:
            access.check_origin(headers, headers.get("host"))
            access.check(headers, request.query_params)
            data = json_of(await body_of(request) or b"{}", "the request")
            settings, seconds = read_request(data, access.first_settings())
            secret = access.secrets.make(settings, seconds)
        except Refused as wrong:
            return refusal(wrong)
        session = settings.to_dict(new_id("sess"), secret.expires_at)
        told = {"value": secret.value, "expires_at": secret.expires_at, "session": session}
        return JSONResponse(told, headers=leave(headers.get("origin")))

    @app.options(PATH)
    async def ask(request: Request) -> Response:
        try:
            access.check_origin(request.headers, request.headers.get("host"))
        except Refused as wrong:
            return refusal(wrong)
        return preflight(request)
