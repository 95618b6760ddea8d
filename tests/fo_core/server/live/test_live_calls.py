"""The Live protocol over WebRTC: the stock client makes the session, a caller of aiortc talks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
import pytest

pytest.importorskip("aiortc")
pytest.importorskip("openai.types.live")
from live_events import check
from live_talker import EAGER, LONG, NOISE
from rtc_client import Caller

PATH = "/v1/live/sessions"
SOUND = np.repeat(NOISE, 2)  # at 48 kHz


@pytest.fixture(scope="module")
def eager(serve: Any, mumbler: Any) -> Iterator[Any]:
    with serve(mumbler, talk=EAGER, connect_seconds=10) as found:
        yield found


@asynccontextmanager
async def calling(server: Any, stock: Any, **session: Any) -> AsyncIterator[tuple[Caller, str]]:
    """A caller and the id of its session."""
    caller = Caller(f"http://127.0.0.1:{server.port}")
    try:
        offer = {"type": "webrtc", "sdp": await caller.offer()}
        made = await stock.live.create(session={"model": "tiny", **session}, transport=offer)
        assert made.transport.type == "webrtc"
        await caller.accept(made.transport.sdp)
        yield caller, made.session.id
    finally:
        await caller.__aexit__(None, None, None)


def words(caller: Caller) -> str:
    kind = "session.output_transcript.delta"
    return "".join(event["delta"] for event in caller.events if event["type"] == kind)


def test_sound_both_ways_an_interruption_and_the_end(eager: Any, sdk: Any, scripted: Any) -> None:
    scripted(*[LONG] * 8)

    async def talk() -> list[dict[str, Any]]:
        async with calling(eager, sdk(eager)) as (caller, id):  # noqa: A001
            started = await caller.until("session.started")
            assert started["session"]["id"] == id
            assert "format" not in started["session"]["audio"]
            caller.microphone.say(SOUND[:38_400])
            async with asyncio.timeout(30):
                while not caller.level(0, 1e12) > 1e-4:
                    await asyncio.sleep(0.05)
            await caller.until("session.output_transcript.delta")  # a piece was heard, of twelve
            seen = len(caller.events)
            caller.microphone.say(np.tile(SOUND, 2))
            await caller.until("session.input_transcript.delta", seen)
            said = words(caller)
            assert said and LONG.startswith(said) and said != LONG
            await caller.until("session.output_transcript.delta", len(caller.events))
            caller.send("session.start", session={"model": "x"})
            caller.send("session.input_audio.append", audio="")
            caller.send("session.input_audio.mute", event_id="m")
            await caller.until("session.input_audio.muted")
            caller.send("session.close", event_id="bye")
            await caller.until("session.closed")
            return caller.events

    events = asyncio.run(talk())
    kinds = check(events)
    assert "session.output_audio.delta" not in kinds  # the track has it
    codes = [event["error"]["code"] for event in events if event["type"] == "error"]
    assert codes == ["session_already_started", "unsupported"]
    last = events[-1]
    assert (last["reason"], last["client_event_id"]) == ("close_requested", "bye")
    assert eager.empty()


def test_a_page_is_held_to_what_its_session_allows(server: Any, sdk: Any) -> None:
    async def talk() -> list[dict[str, Any]]:
        allowed = {
            "allowed_client_events": ["session.close"],
            "allowed_server_events": [{"type": n} for n in ("info", "error", "session.closed")],
        }
        async with calling(server, sdk(server), client={"data_channel": allowed}) as (caller, _):
            await caller.until("info")
            caller.send("session.input_audio.mute")
            await caller.until("error")
            caller.send("session.close")
            await caller.until("session.closed")
            return caller.events

    events = asyncio.run(talk())
    assert check(events) == ["info", "info", "error", "session.closed"]
    assert [e["code"] for e in events[:2]] == ["delegation_unavailable", "data_channel_permissions"]
    assert events[2]["error"]["code"] == "permission_denied"
    assert events[-1]["session"]["client"]["data_channel"]["allowed_client_events"]
    assert server.empty()


def test_a_hang_up_is_told_to_the_page(server: Any, sdk: Any) -> None:
    async def talk() -> dict[str, Any]:
        client = sdk(server)
        async with calling(server, client) as (caller, id):  # noqa: A001
            await caller.until("session.started")
            await client.live.sessions.hangup(id)
            return await caller.until("session.closed")

    closed = asyncio.run(talk())
    check([closed])
    assert closed["reason"] == "close_requested" and server.empty()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ({"session": {"model": "x"}}, "transport"),
        ({"session": {"model": "x"}, "transport": {"type": "sip"}}, "transport.type"),
        ({"session": {"model": "x"}, "transport": {"type": "webrtc"}}, "transport.sdp"),
        ({"session": {"model": "x"}, "transport": {"type": "webrtc", "sdp": "x"}}, "sdp"),
        ({"transport": {"type": "webrtc", "sdp": "v=0"}}, "session"),
        ({"transport": {"type": "webrtc", "sdp": "v=0", "ice": 1}}, "transport.ice"),
        ({"mood": "good"}, "mood"),
        (
            {
                "session": {"model": "x", "audio": {"format": {"type": "audio/pcm"}}},
                "transport": {"type": "webrtc", "sdp": "v=0"},
            },
            "session.audio.format",
        ),
    ],
)
def test_a_bad_request_names_the_field(server: Any, body: Any, param: str | None) -> None:
    answer = httpx2.post(f"http://127.0.0.1:{server.port}{PATH}", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param
    assert "\n" not in error["message"] and not server.sessions()


def test_pages_of_other_sites_and_callers_without_the_key_are_refused(
    serve: Any, mumbler: Any
) -> None:
    with serve(mumbler, api_key="sesame", origins=("https://good.example",)) as server:
        url = f"http://127.0.0.1:{server.port}{PATH}"
        assert httpx2.post(url, json={}).status_code == 401
        assert httpx2.post(url + "/live_1/hangup").status_code == 401
        evil = {"Origin": "https://evil.example", "Authorization": "Bearer sesame"}
        assert httpx2.post(url, json={}, headers=evil).status_code == 403
        key = {"Authorization": "Bearer sesame"}
        assert httpx2.post(url + "?states=1", json={}, headers=key).status_code == 400
        for origin, status in (("https://evil.example", 403), ("https://good.example", 204)):
            for path in (url, url + "/live_1/hangup"):
                answer = httpx2.options(path, headers={"Origin": origin})
                assert answer.status_code == status
