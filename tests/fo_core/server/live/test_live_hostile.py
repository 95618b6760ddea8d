"""Live clients that send rubbish, flood, read nothing or vanish; sessions that end themselves."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import string
import time
from typing import Any

import pytest

pytest.importorskip("openai.types.live")
pytest.importorskip("websockets")
import websockets
from hostile_client import is_closed_for, rubbish
from live_events import check
from live_talker import EAGER, NOISE, SAID, talker

from fo_core.server.live.messages import REFUSED, SERVED

START = json.dumps({"type": "session.start", "session": {"model": "tiny"}})
FIELDS = ("session", "audio", "event_id", "content", "delegation_id", "model", "input", "client")
KEYS = ["type", "audio", "output", "format", "rate", "voice", "role", "content", *FIELDS]


def hostile(draw: random.Random) -> str | bytes:
    """A message that is wrong in one of many ways, or right at a wrong time."""
    kinds = sorted({*SERVED, *REFUSED} - {"session.close"})
    kind = draw.randrange(5)
    if kind == 0:
        return draw.randbytes(draw.randrange(200))
    if kind == 1:
        return json.dumps(rubbish(draw, KEYS, "tiny"))
    data = {"type": draw.choice(kinds)}
    data |= {name: rubbish(draw, KEYS, "tiny") for name in FIELDS if draw.random() < 0.5}
    whole = json.dumps(data)
    return whole[: draw.randrange(len(whole))] if kind == 2 else whole


async def connect(server: Any, **options: Any) -> Any:
    url = f"ws://127.0.0.1:{server.port}/v1/live/sessions"
    return await websockets.connect(url, max_size=None, **options)


async def until(socket: Any, found: Any) -> list[dict[str, Any]]:
    """The events up to the first that is found."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not events or not found(events[-1]):
            events.append(json.loads(await socket.recv()))
    return events


async def works(server: Any) -> None:
    """Somebody else is served as ever."""
    async with await connect(server) as socket:
        await socket.send(START)
        await until(socket, lambda event: event["type"] == "session.output_audio.delta")


@pytest.mark.parametrize("started", [False, True])
def test_hostile_messages_before_and_after_the_start(server: Any, started: bool) -> None:
    async def talk() -> None:
        draw, events = random.Random(1 + started), []
        for _ in range(6):
            async with await connect(server) as socket:
                if started:
                    await socket.send(START)
                for _ in range(50):
                    await socket.send(hostile(draw))
                await socket.send('{"type": "ping.pong", "event_id": "last"}')
                events += await until(socket, lambda e: e.get("client_event_id") == "last")
        kinds = check(events)
        assert kinds.count("error") > 200
        assert not [e for e in events if e["type"] == "error" and "server" in e["error"]["type"]]
        await works(server)

    asyncio.run(talk())
    assert server.empty()


@pytest.mark.parametrize("started", [False, True])
def test_a_flood_is_closed(serve: Any, mumbler: Any, started: bool) -> None:
    async def talk(server: Any) -> None:
        async with await connect(server) as socket:
            if started:
                await socket.send(START)
            events = []
            with pytest.raises(websockets.ConnectionClosed) as closed:
                for _ in range(300):
                    await socket.send('{"type": "session.input_audio.mute"}')
                while True:
                    events.append(json.loads(await socket.recv()))
            assert closed.value.rcvd.code == 1008
            told = [event["type"] for event in events if "audio" not in event["type"]]
            assert told[-2:] == ["error", "session.closed"] if started else told[-1] == "error"
        await works(server)

    with serve(mumbler, messages_per_second=10, burst=50) as server:
        asyncio.run(talk(server))
        assert server.empty()


def test_sound_faster_than_it_can_be_heard_and_too_big_a_message(serve: Any, mumbler: Any) -> None:
    async def talk(server: Any) -> None:
        append = json.dumps(
            {
                "type": "session.input_audio.append",
                "audio": base64.b64encode(bytes(960_000)).decode(),
            }
        )
        async with await connect(server) as socket:
            await socket.send(START)
            for _ in range(20):  # 400 seconds
                await socket.send(append)
            events = await until(socket, lambda event: event["type"] == "error")
            assert events[-1]["error"]["code"] == "overflow"
            check(events)
            await is_closed_for(socket, 3_000_000)
        await works(server)

    with serve(mumbler, message_bytes=2_000_000) as server:
        asyncio.run(talk(server))
        assert server.empty()


def test_who_reads_nothing_or_vanishes_loses_the_place(serve: Any, mumbler: Any) -> None:
    """The stream of audio never ends, so its reader has to take it."""

    async def talk(server: Any) -> None:
        letters = random.Random(3)
        text = "".join(letters.choices(string.ascii_letters, k=30_000))  # does not compress
        said = [{"role": "user", "content": [{"type": "input_text", "text": text}]}]
        session = {"model": "tiny", "input": said}
        async with await connect(server) as socket:
            socket.transport.pause_reading()
            await socket.send(json.dumps({"type": "session.start", "session": session}))
            for _ in range(400):  # each is answered with the whole session
                await socket.send('{"type": "session.update", "session": {}}')
            assert await asyncio.to_thread(server.empty, 20)
            socket.transport.abort()
        for _ in range(20):
            socket = await connect(server)
            await socket.send(START)
            socket.transport.abort()
        assert await asyncio.to_thread(server.empty, 10)
        await works(server)

    with serve(mumbler, send_seconds=0.5) as server:
        asyncio.run(talk(server))


def test_a_session_that_is_too_long_or_idle_ends_with_its_reason(
    serve: Any, mumbler: Any, sdk: Any
) -> None:
    async def talk(server: Any) -> list[dict[str, Any]]:
        async with talker(sdk(server), speak=False) as user:
            await user.until("session.closed")
            return user.events

    for limits, says in (({"session_seconds": 0.8}, "too_long"), ({"idle": 1.2}, "no message")):
        began = time.monotonic()
        with serve(mumbler, **limits) as server:
            events = asyncio.run(talk(server))
            assert server.empty()
        kinds = check(events)
        assert kinds[-2:] == ["error", "session.closed"] and events[-1]["reason"] == "expired"
        assert says in events[-2]["error"]["message"] and time.monotonic() - began > 0.5


def test_a_server_that_ends_says_so(serve: Any, mumbler: Any, sdk: Any) -> None:
    async def talk(server: Any) -> list[dict[str, Any]]:
        async with talker(sdk(server), speak=False) as user:
            server.leave()
            await user.until("session.closed")
            return user.events

    with serve(mumbler) as server:
        events = asyncio.run(talk(server))
        assert server.empty()
    assert check(events)[-2:] == ["error", "session.closed"]
    assert events[-2]["error"]["code"] == "server_shutdown"
    assert events[-1]["reason"] == "connection_lost"


def test_a_model_that_raises_costs_one_reply(
    serve: Any, mumbler: Any, sdk: Any, monkeypatch: Any
) -> None:
    faults = [RuntimeError("the decoder broke")]
    whole = type(mumbler.codec).decode

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop()
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(type(mumbler.codec), "decode", broken)

    async def talk(server: Any) -> list[dict[str, Any]]:
        async with talker(sdk(server)) as user:
            user.say(NOISE[:19_200])
            error = await user.until("error")
            assert error["error"]["type"] == "server_error"
            assert "the decoder broke" in error["error"]["message"]
            user.say(NOISE[:19_200])
            await user.until(SAID)
            return user.events

    with serve(mumbler, talk=EAGER) as server:
        check(asyncio.run(talk(server)))
        assert server.empty()
