"""Calls over WebRTC, with a caller of aiortc on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

pytest.importorskip("aiortc")
from rtc_client import Caller

from fo_core.dialogue.settings import DuplexConfig
from fo_core.dialogue.states import StateRule

PATH = "/v1/realtime/calls"
EAGER = {
    "states": StateRule(respond_threshold=0.0, dismiss_threshold=1.0, min_chunks=5),
    "duplex": DuplexConfig(vad="energy"),
}
NOISE = 0.3 * np.random.default_rng(0).standard_normal(48000).astype("f4")
ASK = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "Tell me a long story."}],
}


def url(server: Any) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def eager(serve: Any, mumbler: Any) -> Iterator[Any]:
    """A server whose model answers any sound."""
    with serve(mumbler, talk=EAGER, connect_seconds=10) as found:
        yield found


async def interrupted(caller: Caller) -> None:
    """Speak, hear an answer, speak into it, hear silence."""
    spoke = time.monotonic()
    caller.microphone.say(NOISE[:38_400])
    await caller.until("output_audio_buffer.started")
    began = time.monotonic()
    await asyncio.sleep(0.6)
    assert caller.level(began, began + 1) > 1e-4  # a random voice, but one
    seen = len(caller.events)
    caller.microphone.say(np.tile(NOISE, 2))
    cleared = await caller.until("output_audio_buffer.cleared", seen)
    told = [(e["type"], e.get("response_id")) for e in caller.events]
    assert ("output_audio_buffer.started", cleared["response_id"]) in told
    assert ("output_audio_buffer.stopped", cleared["response_id"]) not in told
    cut = await caller.until("conversation.item.truncated", seen)
    assert 0 < cut["audio_end_ms"] < 1000 * (time.monotonic() - spoke)  # sent, not made


def test_sound_goes_both_ways_and_an_interruption_drops_what_was_not_sent(
    eager: Any, checked: Any
) -> None:
    async def talk() -> list[dict[str, Any]]:
        async with Caller(url(eager)) as caller:
            assert caller.location.startswith(PATH + "/rtc_")
            await interrupted(caller)
            return caller.events

    events = asyncio.run(talk())
    kinds = checked(events)
    assert kinds[:2] == ["session.created", "conversation.created"]
    assert "response.output_audio.delta" not in kinds  # the track has it
    assert "response.output_audio_transcript.delta" in kinds
    audio = [kind for kind in kinds if kind.startswith("output_audio_buffer")]
    assert audio[:2] == ["output_audio_buffer.started", "output_audio_buffer.cleared"]
    first, created = kinds.index(audio[0]), kinds.index("response.content_part.added")
    assert created < first
    cancelled = [e["response"]["status"] for e in events if e["type"] == "response.done"][0]
    assert cancelled in ("cancelled", "completed", "incomplete")
    assert eager.empty()


def test_a_fifth_of_all_packets_may_be_lost(eager: Any) -> None:
    async def talk() -> None:
        async with Caller(url(eager), loss=0.2) as caller:
            await interrupted(caller)
            frames = [(when, len(wave)) for when, wave in caller.heard[20:]]
            passed = frames[-1][0] - frames[0][0]
            heard = sum(samples for _, samples in frames) / 48000
            assert 0.1 < caller.lost / caller.sent < 0.3
            assert heard > 0.7 * passed

    asyncio.run(talk())
    assert eager.empty()


def test_typed_messages_an_answer_to_its_end_and_clear(server: Any, scripted: Any) -> None:
    async def talk() -> None:
        session = {"type": "realtime", "max_output_tokens": 8}
        async with Caller(url(server), session=session) as caller:
            assert caller.events[0]["session"]["max_output_tokens"] == 8
            scripted("abc.", "abcabcabcabcabcabcabc.")
            caller.send("conversation.item.create", item=ASK)
            caller.send("response.create")
            await caller.until("output_audio_buffer.stopped")
            kinds = caller.kinds()
            assert kinds.index("response.done") < kinds.index("output_audio_buffer.stopped")
            seen = len(kinds)
            caller.send("conversation.item.create", item=ASK)
            caller.send("response.create", response={"max_output_tokens": 400})
            started = await caller.until("output_audio_buffer.started", seen)
            caller.send("output_audio_buffer.clear")
            cleared = await caller.until("output_audio_buffer.cleared", seen)
            assert cleared["response_id"] == started["response_id"]
            await caller.until("conversation.item.truncated", seen)
            caller.send("output_audio_buffer.clear")  # nothing is played: it is said all the same
            caller.send("input_audio_buffer.append", audio="")
            refused = await caller.until("error", seen)
            assert refused["error"]["code"] == "unsupported"
            assert caller.kinds()[-2] == "output_audio_buffer.cleared"

    asyncio.run(talk())
    assert server.empty()


def test_the_stock_client_opens_a_call_and_ends_it(server: Any, sdk: Any) -> None:
    from openai import BadRequestError, NotFoundError

    async def talk() -> None:
        caller = Caller(url(server))
        async with sdk(server) as client:
            session = {"type": "realtime", "instructions": "Speak of Rome."}
            made = await client.realtime.calls.create(sdp=await caller.offer(), session=session)
            await caller.accept(made.text)
            created = await caller.until("session.created")
            assert created["session"]["instructions"] == "Speak of Rome."
            call = made.response.headers["location"].rsplit("/", 1)[1]
            await client.realtime.calls.hangup(call)
            assert await asyncio.to_thread(server.empty)
            with pytest.raises(NotFoundError, match="no call"):
                await client.realtime.calls.hangup(call)
            with pytest.raises(BadRequestError, match="no telephony"):
                await client.realtime.calls.accept(call, type="realtime")
        await caller.peer.close()

    asyncio.run(talk())


def test_a_client_secret_calls_with_its_configuration_and_ends_its_own_call(
    serve: Any, mumbler: Any
) -> None:
    async def talk() -> None:
        async with httpx2.AsyncClient(base_url=url(server)) as web:
            asked = {"session": {"type": "realtime", "instructions": "Rome."}}
            keys = {"Authorization": "Bearer sesame"}
            made = await web.post("/v1/realtime/client_secrets", json=asked, headers=keys)
            async with Caller(url(server), key=made.json()["value"]) as caller:
                assert caller.events[0]["session"]["instructions"] == "Rome."
                refused = await web.delete(caller.location)
                assert refused.status_code == 401
                own = {"Authorization": f"Bearer {caller.key}"}
                assert (await web.delete(caller.location, headers=own)).status_code == 200
                assert await asyncio.to_thread(server.empty)
            for key in ("", "wrong", "ek_old"):
                other = Caller(url(server), key=key)
                answer = await other.post("v=0")
                await other.peer.close()
                assert answer.status_code == 401, key

    with serve(mumbler, api_key="sesame") as server:
        asyncio.run(talk())


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        (b"", "application/sdp", 400, "no SDP offer"),
        (b"\xff\xfe", "application/sdp", 400, "no text"),
        (b"v=0\r\n" + b"a" * 600_000, "application/sdp", 413, "bytes"),
        (b"v=0\r\n" + b"a" * 100_000, "application/sdp", 400, "bytes"),
        (b"v=0", "text/plain", 400, "content type"),
        (b"rubbish", "multipart/form-data; boundary=x", 400, "form|sdp is missing"),
        (b"rubbish", "multipart/form-data", 400, "form"),
    ],
)
def test_rubbish_is_refused_by_one_line(
    server: Any, body: bytes, kind: str, status: int, says: str
) -> None:
    answer = httpx2.post(url(server) + PATH, content=body, headers={"Content-Type": kind})
    message = answer.json()["error"]["message"]
    assert answer.status_code == status
    assert any(part in message for part in says.split("|")) and "\n" not in message
    assert not server.sessions()


def test_a_bad_form_names_the_field(server: Any) -> None:
    for form, param in (
        ({"session": "{}"}, "sdp"),
        ({"sdp": "v=0", "session": "[1"}, None),
        ({"sdp": "v=0", "session": "[]"}, "session"),
        ({"sdp": "v=0", "session": json.dumps({"type": "nothing"})}, "session.type"),
        ({"sdp": "v=0", "model": "x"}, "model"),
    ):
        files = {name: (None, value) for name, value in form.items()}
        answer = httpx2.post(url(server) + PATH, files=files)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param, form


def test_pages_of_other_sites_are_refused_unless_they_were_named(serve: Any, mumbler: Any) -> None:
    with serve(mumbler, origins=("https://good.example",)) as server:
        for origin, status in (("https://bad.example", 403), ("https://good.example", 204)):
            headers = {"Origin": origin, "Access-Control-Request-Headers": "authorization"}
            for path in (PATH, PATH + "/rtc_1/hangup", "/v1/realtime/client_secrets"):
                answer = httpx2.options(url(server) + path, headers=headers)
                assert answer.status_code == status
                assert answer.headers.get("Access-Control-Allow-Origin") == (
                    origin if status == 204 else None
                )
        headers = {"Origin": "https://bad.example", "Content-Type": "application/sdp"}
        answer = httpx2.post(url(server) + PATH, content=b"v=0", headers=headers)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "wrong_origin"


def test_places_are_bounded_and_a_caller_that_never_connects_loses_its_own(
    serve: Any, mumbler: Any
) -> None:
    """No more calls than users, however many ask; those that stay silent are gone in time."""

    async def ask(count: int) -> list[int]:
        caller = Caller(url(server))
        sdp = await caller.offer()
        await caller.peer.close()
        headers = {"Content-Type": "application/sdp"}
        limits = httpx2.Limits(max_connections=20)
        async with httpx2.AsyncClient(base_url=url(server), limits=limits, timeout=60) as web:
            posts = [web.post(PATH, content=sdp, headers=headers) for _ in range(count)]
            answers = await asyncio.gather(*posts)
        full = [answer for answer in answers if answer.status_code == 503]
        assert all(a.json()["error"]["code"] == "too_many_sessions" for a in full)
        assert all(a.headers["Retry-After"] for a in full)
        return [answer.status_code for answer in answers]

    with serve(mumbler, users=3, connect_seconds=2) as server:
        assert sorted(asyncio.run(ask(60))) == [201] * 3 + [503] * 57
        assert server.sessions() == 3 and server.empty(4)

        async def talk() -> None:
            async with Caller(url(server)):
                assert server.sessions() == 1

        asyncio.run(talk())  # the places are free again
        assert server.empty()


def test_a_caller_that_vanishes_frees_its_place(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No goodbye comes: the network is gone, and after a while the server notices."""
    import aioice.ice

    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.1)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 2)

    async def talk() -> None:
        async with Caller(url(server), loss=1e-9) as caller:
            assert server.sessions() == 1
            caller.loss = 1.0
            assert await asyncio.to_thread(server.empty, 20)

    asyncio.run(talk())


def test_without_aiortc_the_answer_says_what_to_install(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("fo_core.server.webrtc.call")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiortc", None)
    headers = {"Content-Type": "application/sdp"}
    answer = httpx2.post(url(server) + PATH, content=b"v=0", headers=headers)
    assert answer.status_code == 501
    assert "pip install 'freeze-omni[webrtc]'" in answer.json()["error"]["message"]


def test_a_second_connection_to_a_call_is_refused_by_name(server: Any) -> None:
    from websockets.asyncio.client import connect

    async def ask() -> dict[str, Any]:
        async with connect(f"ws://127.0.0.1:{server.port}/v1/realtime?call_id=rtc_1") as socket:
            return json.loads(await socket.recv())

    assert asyncio.run(ask())["error"]["code"] == "unsupported"


def test_the_live_dialect_is_refused_by_name(server: Any, sdk: Any) -> None:
    from openai import BadRequestError

    async def ask() -> None:
        async with sdk(server) as client:
            with pytest.raises(BadRequestError, match="no OpenAI Live dialect"):
                await client.live.create(
                    session={"model": "x"}, transport={"type": "webrtc", "sdp": "v=0"}
                )
            async with client.live.connect() as connection:
                told = await connection.recv()
                assert told.type == "error" and "/v1/realtime" in told.error.message

    asyncio.run(ask())


def test_a_flood_of_messages_or_channels_ends_the_call(server: Any) -> None:
    async def talk() -> None:
        async with Caller(url(server)) as caller:
            with contextlib.suppress(Exception):
                for _ in range(20):
                    caller.peer.createDataChannel("more")
                    await asyncio.sleep(0.01)
            assert await asyncio.to_thread(server.empty)

    asyncio.run(talk())
