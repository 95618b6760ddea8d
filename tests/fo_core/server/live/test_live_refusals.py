"""What of the Live protocol is not served is refused by its name, and says what is possible."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

pytest.importorskip("openai.types.live")
from live_events import check, kinds
from live_talker import talker

from fo_core.dialogue.settings import TurnConfig
from fo_core.server.live.client import Live
from fo_core.server.live.messages import REFUSED, SERVED
from fo_core.server.live.permissions import Permissions
from fo_core.server.live.session import read_session
from fo_core.server.messages import Refused
from fo_core.server.settings import SessionSettings, own_detection

DOCS = Path(__file__).parents[4] / "docs" / "live.md"
SHOWN, TURN = own_detection(TurnConfig())
FIRST = SessionSettings(
    "tiny", "Be brief.", TURN, SHOWN, voices=("default", "emma"), voice="default"
)
TRIGGER = {"event_type": "session.input_transcript.delta"}
DEVELOPER = {"role": "developer", "content": [{"type": "input_text", "text": "x"}]}
FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"delegation": {"type": "responses", "responses": {}}}, "session.delegation.type", "null"),
    ({"delegation": {"type": "decisions", "decisions": {}}}, "session.delegation.type", "null"),
    ({"delegation": {"type": "other"}}, "session.delegation", "client"),
    ({"delegation": 3}, "session.delegation", "possible: an object"),
    ({"triggers": [TRIGGER]}, "session.triggers", "possible: []"),
    ({"store": True}, "session.store", "false"),
    ({"store": "no"}, "session.store", "true, false"),
    ({"store": 1}, "session.store", "true, false"),
    ({"audio": {"format": 3}}, "session.audio.format", "possible: an object"),
    ({"client": {"data_channel": {}}}, "session.client", "WebRTC"),
    ({"tools": []}, "session.tools", "no field"),
    ({"model": None}, "session.model", "string"),
    ({"audio": {"output": {"voice": "nobody"}}}, "session.audio.output.voice", "default, emma"),
    ({"audio": {"output": {"voice": {"id": "v_1"}}}}, "session.audio.output.voice", "emma"),
    ({"audio": {"output": {"speed": 2}}}, "session.audio.output.speed", "no field"),
    ({"audio": {"input": {}}}, "session.audio.input", "no field"),
    ({"audio": {"format": {"type": "audio/pcm", "rate": 44100}}}, "session.audio.format", ""),
    ({"audio": {"format": {"type": "audio/pcmu", "rate": 16000}}}, "session.audio.format", "8000"),
    ({"audio": {"format": {"type": "audio/opus"}}}, "session.audio.format", "'audio/pcma'"),
    ({"instructions": "x" * 40_000}, "session.instructions", "32,768"),
    ({"input": [DEVELOPER] * 129}, "session.input", "128"),
    ({"input": [{"role": "user", "content": []}]}, "session.input.0.content", "one"),
    ({"input": [{"role": "system", "content": []}]}, "session.input.0.role", "'user'"),
    ({"input": [DEVELOPER | {"content": [{"text": " "}]}]}, "session.input.0.content", "no text"),
]


@pytest.mark.parametrize(("fields", "param", "says"), FIELDS)
def test_a_field_is_refused_by_name(fields: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(Refused) as refused:
        read_session({"model": "tiny"} | fields, FIRST, tracks=False)
    assert (refused.value.param or "").startswith(param) and says in str(refused.value)
    for word in ("\n", "Input", "dictionary", "instance", "Field required"):
        assert word not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"model": None}, "session.model"),
     ({"audio": {"output": {"voice": 7}}}, "session.audio.output.voice")],
)  # fmt: skip
def test_a_param_is_the_path_of_a_field_without_type_names(
    fields: dict[str, Any], param: str
) -> None:
    """They ended in `.str`, the name of a member of a union."""
    with pytest.raises(Refused) as refused:
        read_session({"model": "tiny"} | fields, FIRST, tracks=False)
    assert refused.value.param == param and str(refused.value).startswith(f"{param}: ")


def test_what_is_possible_is_taken() -> None:
    audio = {"format": {"type": "audio/pcmu", "rate": 8000}, "output": {"voice": "emma"}}
    found = read_session({"model": "tiny", "audio": audio}, FIRST, tracks=False)
    assert found.settings.audio_in == found.settings.audio_out and found.settings.voice == "emma"
    assert [code for code, _ in found.notes] == ["delegation_unavailable"]
    with pytest.raises(Refused, match="Opus"):
        read_session({"model": "tiny", "audio": audio}, FIRST, tracks=True)
    for rubbish in (None, [], "x", 3):
        with pytest.raises(Refused):
            read_session(rubbish, FIRST, tracks=False)


def channel(**fields: Any) -> Permissions:
    asked = {"model": "tiny", "client": {"data_channel": fields}}
    return read_session(asked, FIRST, tracks=True).permissions


def test_a_page_may_do_what_its_session_says() -> None:
    assert channel() == channel(allowed_client_events="all", allowed_server_events="all")
    allowed = channel(
        allowed_client_events=["session.close"],
        allowed_server_events=[{"type": "error"}, {"type": "session.started"}],
    )
    allowed.check("session.close")
    with pytest.raises(Refused, match=r"may not send session\.update.*session\.close"):
        allowed.check("session.update")
    assert allowed.allow("error") and not allowed.allow("session.closed")
    assert "nothing" in channel(allowed_client_events=[]).told()
    response = {"type": "response.event", "response_event": "response.done"}
    assert channel(allowed_server_events=[response]).server == {"response.event"}
    for fields in (
        {"allowed_client_events": ["session.dance"]},
        {"allowed_server_events": [{"type": "session.dance"}]},
        {"allowed_server_events": [{"type": "response.event"}]},
        {"allowed_server_events": [{"type": "error", "response_event": "x"}]},
    ):
        with pytest.raises(Refused):
            channel(**fields)


def test_every_client_event_of_the_package_is_obeyed_or_refused_by_name() -> None:
    from openai.types.live import ClientEvent, ConnectClientEvent, ForkClientEvent

    known = {*kinds(ClientEvent), *kinds(ConnectClientEvent), *kinds(ForkClientEvent)}
    assert known == {*SERVED, *REFUSED} and Live._handlers.keys() == set(SERVED)


def test_the_documents_list_every_event() -> None:
    """Each event of the package is in the tables of docs/live.md, once."""
    from openai.types.live import ConnectServerEvent, ServerEvent

    text = DOCS.read_text(encoding="utf-8")
    client, server = text.split("| client event | here |")[1].split("| server event | here |")
    rows = [re.findall(r"^\| `([a-z_.]+)` \| (\w+)", part, re.M) for part in (client, server)]
    assert {name: what == "obeyed" for name, what in rows[0]} == {
        name: name in SERVED for name in (*SERVED, *REFUSED)
    }
    assert {name for name, _ in rows[1]} == {*kinds(ServerEvent), *kinds(ConnectServerEvent)}
    assert len(rows[1]) == len(dict(rows[1]))
    assert {what for _, what in rows[1]} == {"sent", "never"}


def test_wrong_starts_and_events_are_errors_and_the_session_goes_on(server: Any, sdk: Any) -> None:
    async def talk() -> list[dict[str, Any]]:
        async with sdk(server).live.connect() as connection, asyncio.timeout(30):

            async def said(**event: Any) -> dict[str, Any]:
                await connection.send(event)
                while True:
                    found = (await connection.recv()).to_dict()
                    check([found])
                    if found["type"] == "error":
                        return found

            close = await said(type="session.close", event_id="a")
            assert close["error"]["code"] == "session_not_started"
            assert close["client_event_id"] == close["error"]["client_event_id"] == "a"
            store = await said(type="session.start", session={"model": "x", "store": True})
            assert store["error"]["param"] == "session.store"
            more = await said(type="session.start", session={"model": "x"}, mood="good")
            assert more["error"]["code"] == "unknown_parameter"
            await connection.session.start(session={"model": "tiny"})
            assert (await connection.recv()).type == "session.started"
            again = await said(type="session.start", session={"model": "tiny"})
            assert again["error"]["code"] == "session_already_started"
            for kind in REFUSED:
                refused = await said(type=kind, event_id=kind)
                assert refused["error"]["code"] == "unsupported"
                assert refused["error"]["client_event_id"] == kind
                assert kind in refused["error"]["message"]
                assert "possible: session.close" in refused["error"]["message"]
            near = await said(type="session.input_audio.muted")
            assert "possible: session.start, " in near["error"]["message"]
            assert "did you mean 'session.input_audio.mute'?" in near["error"]["message"]
            for content, id in (("", None), ("x" * 5000, None), ("x", "dlg_1")):  # noqa: A001
                kind = "session.instructions.append"
                await said(type=kind, content=content, delegation_id=id)
            missing = await said(type=kind, content="x")
            assert missing["error"]["code"] == "missing_required_parameter"
            for session in ({"triggers": [TRIGGER]}, {"instructions": "x"}, 3):
                await said(type="session.update", session=session)
            wrong = await said(type="session.input_audio.append", audio="§")
            assert "base64" in wrong["error"]["message"]
            await said(type="session.input_audio.append", audio="AA==")  # a byte, half a sample
            await connection.session.close()
            rest = [event.to_dict() async for event in connection]
            assert rest[-1]["type"] == "session.closed"
            return rest

    check(asyncio.run(talk()))
    assert server.empty()


@pytest.fixture(scope="module")
def locked(serve: Any, mumbler: Any) -> Iterator[Any]:
    with serve(mumbler, api_key="sesame", users=1, connect_seconds=1.0) as found:
        yield found


async def first(client: Any, **options: Any) -> tuple[str, str]:
    """Code and message of the error that a connection begins with."""
    async with client.live.connect(**options) as connection:
        event = (await connection.recv()).to_dict()
        check([event])
        return event["error"]["code"], event["error"]["message"]


def test_who_may_not_come_in_is_told_why(locked: Any, sdk: Any) -> None:
    async def talk() -> None:
        good, bad = sdk(locked, "sesame"), sdk(locked)
        assert (await first(bad))[0] == "invalid_api_key"
        assert (await first(sdk(locked, "ek_x")))[0] == "invalid_api_key"
        code, message = await first(good, extra_query={"model": "gpt-live-1"})
        assert code == "unknown_parameter" and "model" in message
        evil = {"Origin": "https://evil.example"}
        assert (await first(good, extra_headers=evil))[0] == "wrong_origin"
        assert (await first(good))[0] == "session_not_started"  # after a second of silence
        async with talker(good, speak=False):
            assert (await first(good))[0] == "too_many_sessions"

    asyncio.run(talk())
    assert locked.empty()


def test_the_rest_of_the_protocol_is_refused_at_its_own_address(server: Any, sdk: Any) -> None:
    from openai import BadRequestError, NotFoundError

    async def talk() -> None:
        async with sdk(server) as client:
            sessions = client.live.sessions
            transport = {"type": "webrtc", "sdp": "v=0"}
            for call, says in (
                (sessions.accept("a", session={"type": "live", "model": "x"}), "accepted"),
                (sessions.reject("a", status_code=486), "rejected"),
                (sessions.refer("a", target_uri="tel:1"), "transferred"),
                (sessions.fork("a", transport=transport), "no forks"),
                (sessions.download_recording("a"), "no recordings"),
            ):
                with pytest.raises(BadRequestError, match=says) as refused:
                    await call
                assert "possible: /v1/live/sessions by WebSocket" in str(refused.value)
            with pytest.raises(NotFoundError):
                await sessions.hangup("a")
            for manager in (
                client.live.sideband.connect(session_id="a"),
                client.live.forks.connect(session_id="a"),
            ):
                async with manager as connection:
                    event = (await connection.recv()).to_dict()
                    assert event["error"]["code"] == "unsupported"

    asyncio.run(talk())
    assert not server.sessions()


def test_literals_of_the_end_are_the_packages() -> None:
    from openai.types.live import SessionClosedEvent

    from fo_core.server.live.client import REASONS

    known = get_args(SessionClosedEvent.model_fields["reason"].annotation)
    assert {"close_requested", "connection_lost", *REASONS.values()} <= set(known)
