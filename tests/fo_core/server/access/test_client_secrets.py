"""Short-lived keys: bounded, expiring, and worth one configuration each."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import connect

from fo_core.dialogue.settings import TurnConfig
from fo_core.server.access.client_secrets import ClientSecrets, read_request
from fo_core.server.messages import Refused
from fo_core.server.settings import SessionSettings

FIRST = SessionSettings("model", "Be brief.", TurnConfig(), None)


def test_a_secret_expires_and_only_hashes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ClientSecrets(10)
    made = secrets.make(FIRST, 10)
    assert secrets.settings(made.value) is FIRST and secrets.settings(made.value + "x") is None
    assert made.value not in repr(vars(secrets))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 11)
    assert secrets.settings(made.value) is None


def test_there_is_an_end_to_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ClientSecrets(3)
    for _ in range(3):
        secrets.make(FIRST, 10)
    with pytest.raises(Refused, match="3 client secrets are valid") as wrong:
        secrets.make(FIRST)
    assert wrong.value.code == "rate_limit_exceeded"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 11)
    secrets.make(FIRST)


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ([], None),
        ({"sesion": {}}, "sesion"),
        ({"session": 1}, "session"),
        ({"session": {"prompt": {"id": "x"}}}, "session.prompt"),
        ({"expires_after": {"seconds": 5}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 10**9}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": True}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "never", "seconds": 60}}, "expires_after.anchor"),
    ],
)
def test_a_bad_request_names_its_field(data: Any, param: str | None) -> None:
    with pytest.raises(Refused) as wrong:
        read_request(data, FIRST)
    assert wrong.value.param == param


def test_a_secret_opens_sessions_with_its_configuration(serve: Any, mumbler: Any, sdk: Any) -> None:
    from openai import AuthenticationError, BadRequestError

    async def first_event(key: str) -> dict[str, Any]:
        protocols = [f"openai-insecure-api-key.{key}", "realtime"]
        url = f"ws://127.0.0.1:{server.port}/v1/realtime"
        async with connect(url, subprotocols=protocols) as socket:
            return json.loads(await socket.recv())

    async def use() -> None:
        async with sdk(server, "sesame") as client:
            made = await client.realtime.client_secrets.create(
                expires_after={"anchor": "created_at", "seconds": 60},
                session={"type": "realtime", "instructions": "Speak of Rome only."},
            )
            assert made.value.startswith("ek_") and 50 < made.expires_at - time.time() <= 60
            assert made.session.instructions == "Speak of Rome only."
            with pytest.raises(BadRequestError, match="no field"):
                await client.realtime.client_secrets.create(extra_body={"voice": "x"})
        opened = await first_event(made.value)
        assert opened["session"]["instructions"] == "Speak of Rome only."
        refused = await first_event("ek_nothing")
        assert refused["error"]["code"] == "invalid_api_key"
        async with sdk(server, made.value) as client:  # opens sessions, nothing else
            for ask in (client.realtime.client_secrets.create, client.models.list):
                with pytest.raises(AuthenticationError, match="wrong or missing"):
                    await ask()

    with serve(mumbler, api_key="sesame") as server:
        asyncio.run(use())
        assert server.empty()


def test_an_unknown_secret_is_refused_where_no_key_is_wanted(server: Any) -> None:
    async def use() -> dict[str, Any]:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime?api_key=ek_old"
        async with connect(url) as socket:
            return json.loads(await socket.recv())

    assert asyncio.run(use())["error"]["code"] == "invalid_api_key"
