"""What stands in the address of a session is obeyed or refused by its name."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fo_core.dialogue.settings import TurnConfig
from fo_core.server.access.keys import CALL_QUERY, QUERY, Access
from fo_core.server.context import ServeConfig
from fo_core.server.messages import Refused
from fo_core.server.settings import SessionSettings

FIRST = SessionSettings("model", "Be brief.", TurnConfig(), None)


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ({"intent": "transcription"}, "unsupported", "session.update (type: transcription"),
        ({"states": "all"}, "invalid_value", "possible: 0, 1"),
        ({"speed": "2"}, "unknown_parameter", "possible: model, api_key, states, yield"),
    ],
)
def test_a_query_parameter_that_changes_nothing_is_refused(
    query: dict[str, str], code: str, says: str
) -> None:
    with pytest.raises(Refused) as refused:
        Access(ServeConfig(), lambda: FIRST).session({}, query, None)
    (name,) = query
    assert (refused.value.param, refused.value.code) == (name, code)
    assert name in str(refused.value) and says in str(refused.value)


def test_the_others_are_taken() -> None:
    access = Access(ServeConfig(), lambda: FIRST)
    assert access.session({}, dict.fromkeys(QUERY, "1"), None) is FIRST


def test_a_session_of_transcripts_alone_is_not_opened_as_an_ordinary_one(server: Any) -> None:
    async def ask() -> dict[str, Any]:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime?intent=transcription"
        async with connect(url) as socket:
            return json.loads(await socket.recv())

    told = asyncio.run(ask())
    assert told["type"] == "error" and told["error"]["param"] == "intent"
    assert server.empty()


@pytest.mark.parametrize(
    ("method", "path", "possible"),
    [
        ("POST", "/v1/realtime/calls", "model, api_key, states"),  # the server plays
        ("POST", "/v1/realtime/calls/rtc_1/hangup", "api_key"),
        ("DELETE", "/v1/realtime/calls/rtc_1", "api_key"),
        ("POST", "/v1/realtime/client_secrets", "api_key"),
        ("POST", "/v1/live/sessions", "api_key"),
        ("POST", "/v1/live/sessions/live_1/hangup", "api_key"),
        ("GET", "/v1/models", "api_key"),
        ("GET", "/metrics", "api_key"),
    ],
)
def test_a_request_refuses_what_its_address_cannot_have(
    server: Any, method: str, path: str, possible: str
) -> None:
    url = f"http://127.0.0.1:{server.port}{path}?yield=1"
    answer = httpx2.request(method, url)
    wrong = answer.json()["error"]
    assert (answer.status_code, wrong["code"]) == (400, "unknown_parameter")
    assert wrong["message"] == f"no query parameter 'yield' here; possible: {possible}"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/realtime", 404),  # a WebSocket
        ("GET", "/v1/nosuch", 404),
        ("POST", "/v1/realtime/sessions", 405),  # of the beta
        ("PUT", "/v1/models", 405),
    ],
)
def test_what_is_not_there_is_told_in_the_protocols_shape_with_what_is(
    server: Any, method: str, path: str, status: int
) -> None:
    answer = httpx2.request(method, f"http://127.0.0.1:{server.port}{path}")
    wrong = answer.json()["error"]
    assert (answer.status_code, wrong["code"]) == (status, "not_found")
    assert wrong["message"].startswith(f"nothing at {method} {path}; possible: /v1/realtime and")


def test_a_socket_at_an_address_without_one_is_not_found(server: Any) -> None:
    """403 looked like a wrong key."""

    async def ask(path: str) -> Any:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{server.port}{path}").__aenter__()
        return refused.value.response

    for path in ("/", "/v1/realtime/calls", "/nosuch"):
        answer = asyncio.run(ask(path))
        assert answer.status_code == 404
        assert f"nothing at {path} (WebSocket); possible" in answer.body.decode()


def test_a_call_takes_the_others() -> None:
    access = Access(ServeConfig(), lambda: FIRST)
    assert access.session({}, dict.fromkeys(CALL_QUERY, "1"), None, CALL_QUERY) is FIRST
