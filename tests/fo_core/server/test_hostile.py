"""Clients that send rubbish, flood, stall or vanish: an error or a clean close, nothing leaks."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("websockets")
import websockets
from hostile_client import AUDIO, is_closed_for, rubbish

KINDS = [
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "output_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "conversation.item.delete",
    "response.create",
    "response.cancel",
]
FIELDS = ["session", "audio", "item", "item_id", "content_index", "audio_end_ms", "response"]
FIELDS += ["event_id", "previous_item_id", "response_id"]
KEYS = ["type", "audio", "input", "format", "rate", "turn_detection", "role", "content"]


def hostile(draw: random.Random) -> str | bytes:
    """A message that is wrong in one of many ways, or right at a wrong time."""
    kind = draw.randrange(6)
    if kind == 0:
        return draw.randbytes(draw.randrange(200))
    if kind == 1:
        return json.dumps(rubbish(draw, KEYS, "realtime"))
    if kind == 2:
        whole = json.dumps({"type": draw.choice(KINDS), "audio": AUDIO})
        return whole[: draw.randrange(len(whole))]
    data = {"type": draw.choice(KINDS)}
    data |= {name: rubbish(draw, KEYS, "realtime") for name in FIELDS if draw.random() < 0.5}
    return json.dumps(data)


async def connect(server: Any) -> Any:
    return await websockets.connect(f"ws://127.0.0.1:{server.port}/v1/realtime", max_size=None)


async def works(server: Any) -> None:
    """Somebody else is served as ever."""
    async with await connect(server) as socket:
        manual = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        for event in (
            {"type": "session.update", "session": manual},
            {"type": "input_audio_buffer.append", "audio": AUDIO * 10},
            {"type": "input_audio_buffer.commit"},
            {"type": "response.create"},
        ):
            await socket.send(json.dumps(event))
        async with asyncio.timeout(60):
            async for message in socket:
                if json.loads(message)["type"] == "response.done":
                    return
    raise AssertionError("closed without an answer")


def test_a_thousand_hostile_messages(server: Any, checked: Any) -> None:
    async def talk() -> None:
        draw, sent, events = random.Random(1), 0, []
        while sent < 1000:
            socket = await connect(server)
            try:
                for _ in range(50):
                    await socket.send(hostile(draw))
                    sent += 1
                await socket.send(json.dumps({"type": "ping.pong", "event_id": "last"}))
                async with asyncio.timeout(60):
                    async for message in socket:
                        event = json.loads(message)
                        events.append(event)
                        if (event.get("error") or {}).get("event_id") == "last":
                            break
            finally:
                await socket.close()
        kinds = checked(events)
        assert kinds.count("error") > 500  # and not one of the connections was closed on us
        assert not [e for e in events if (e.get("error") or {}).get("type") == "server_error"]
        await works(server)

    asyncio.run(talk())
    assert server.empty()


def test_a_hundred_abrupt_disconnects(server: Any) -> None:
    async def talk() -> None:
        draw = random.Random(2)
        for number in range(100):
            try:
                socket = await connect(server)
                await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": AUDIO}))
                if number % 2:
                    text = {"type": "input_text", "text": "abc"}
                    item = {"type": "message", "role": "user", "content": [text]}
                    create = {"type": "conversation.item.create", "item": item}
                    await socket.send(json.dumps(create))
                    await socket.send(json.dumps({"type": "response.create"}))
                await asyncio.sleep(draw.random() * 0.02)
            finally:
                socket.transport.abort()  # no goodbye
        await works(server)

    asyncio.run(talk())
    assert server.empty(20)


def test_a_flood_is_closed(serve: Any, mumbler: Any) -> None:
    async def talk(server: Any) -> None:
        async with await connect(server) as socket:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                for _ in range(500):
                    await socket.send('{"type": "input_audio_buffer.clear"}')
                while True:
                    await socket.recv()
            assert closed.value.rcvd.code == 1008
        await works(server)

    with serve(mumbler, messages_per_second=10, burst=50) as server:
        asyncio.run(talk(server))
        assert server.empty()


def test_sound_faster_than_it_can_be_heard_is_an_error(server: Any) -> None:
    """Minutes in a second overflow the input; the session goes on when it is cleared."""

    async def talk() -> None:
        async with await connect(server) as socket:
            seconds = base64.b64encode(bytes(10 * 2 * 24000)).decode()
            event = json.dumps({"type": "input_audio_buffer.append", "audio": seconds})
            for _ in range(40):
                await socket.send(event)
            async with asyncio.timeout(30):
                async for message in socket:
                    found = json.loads(message)
                    if found["type"] == "error":
                        assert found["error"]["code"] == "overflow"
                        break
            await socket.send('{"type": "input_audio_buffer.clear"}')
            async with asyncio.timeout(30):
                async for message in socket:
                    if json.loads(message)["type"] == "input_audio_buffer.cleared":
                        return

    asyncio.run(talk())
    assert server.empty()


def test_too_big_a_message_is_closed(serve: Any, mumbler: Any) -> None:
    async def talk(server: Any) -> None:
        async with await connect(server) as socket:
            await is_closed_for(socket, 200_000)
        await works(server)

    with serve(mumbler, message_bytes=100_000) as server:
        asyncio.run(talk(server))
        assert server.empty()


def test_a_session_that_is_too_long_ends(serve: Any, mumbler: Any) -> None:
    async def talk(server: Any) -> list[dict[str, Any]]:
        async with await connect(server) as socket:
            return [json.loads(message) async for message in socket]

    with serve(mumbler, session_seconds=0.5) as server:
        began = time.monotonic()
        events = asyncio.run(talk(server))
        assert time.monotonic() - began >= 0.5
        assert events[-1]["error"]["code"] == "session_expired"
        assert server.empty()


def test_a_model_that_raises_costs_one_reply(serve: Any, mumbler: Any, monkeypatch: Any) -> None:
    """The reply fails with the protocol's event, the session is asked again and answers."""
    faults = [RuntimeError("the decoder broke")]
    whole = type(mumbler.codec).decode

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop()
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(type(mumbler.codec), "decode", broken)

    async def talk(server: Any) -> list[dict[str, Any]]:
        async with await connect(server) as socket:
            done = []
            for _ in range(2):
                text = {"type": "input_text", "text": "abc"}
                item = {"type": "message", "role": "user", "content": [text]}
                create = {"type": "conversation.item.create", "item": item}
                await socket.send(json.dumps(create))
                await socket.send(json.dumps({"type": "response.create"}))
                async with asyncio.timeout(60):
                    async for message in socket:
                        if json.loads(message)["type"] == "response.done":
                            done.append(json.loads(message)["response"])
                            break
            return done

    with serve(mumbler) as server:
        failed, fine = asyncio.run(talk(server))
        assert failed["status"] == "failed"
        assert "the decoder broke" in failed["status_details"]["error"]["message"]
        assert fine["status"] in ("completed", "incomplete")
        assert server.empty()


def test_pages_of_other_sites_cannot_talk(server: Any) -> None:
    """A browser would let them: the server looks at the origin."""

    async def first(origin: str) -> str:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime"
        async with websockets.connect(url, origin=origin) as socket:
            return json.loads(await socket.recv())["type"]

    assert asyncio.run(first(f"http://127.0.0.1:{server.port}")) == "session.created"
    assert asyncio.run(first("https://evil.example")) == "error"
    assert asyncio.run(first("null")) == "error"

    async def polling(origin: str) -> int:
        import aiohttp

        url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
        async with aiohttp.ClientSession() as web, web.get(url, headers={"Origin": origin}) as got:
            return got.status

    assert asyncio.run(polling("https://evil.example")) == 400
    assert asyncio.run(polling(f"http://127.0.0.1:{server.port}")) == 200


def test_metrics_count(server: Any) -> None:
    from urllib.request import urlopen

    asyncio.run(works(server))
    with urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        text = answer.read().decode()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(found["fo_sessions_opened_total"]) >= 1
    replies = [float(v) for k, v in found.items() if k.startswith("fo_replies_total")]
    assert sum(replies) >= 1
