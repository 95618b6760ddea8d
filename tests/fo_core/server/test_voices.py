"""The voice of a session: in every dialect, settled once it was heard, listed where unknown."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.request import urlopen

import pytest
import tiny_models
from raw_client import Client, talking

from fo_core.config import replace
from fo_core.models.model_config import VoiceConfig
from fo_core.server.messages import Refused
from fo_core.server.voices import wanted_voice

pytest.importorskip("fastapi")
websockets = pytest.importorskip("websockets")
socketio = pytest.importorskip("socketio")


@pytest.fixture(scope="module")
def server(serve: Any) -> Any:
    model = tiny_models.tiny_model()
    size = model.codec.cfg.global_quantizer.groups
    found = {n: VoiceConfig((code,) * size) for n, code in (("heart", 3), ("bob", 200))}
    model.config = replace(model.config, voice=(3,) * size, voices=found)
    with serve(model) as running:
        yield running


async def heard(client: Client, response: dict[str, Any] | None = None) -> tuple[bytes, list[Any]]:
    content = [{"type": "input_text", "text": "abc"}]
    item = {"type": "message", "role": "user", "content": content}
    await client.ask("conversation.item.done", type="conversation.item.create", item=item)
    given = {} if response is None else {"response": response}
    events = await client.ask("response.done", "error", type="response.create", **given)
    deltas = [e["delta"] for e in events if e["type"] == "response.output_audio.delta"]
    return b"".join(base64.b64decode(delta) for delta in deltas), events


def voice(name: Any) -> dict[str, Any]:
    return {"audio": {"output": {"voice": name}, "input": {"turn_detection": None}}}


def test_the_models_voices_are_listed(server: Any) -> None:
    with urlopen(f"http://127.0.0.1:{server.port}/v1/models") as answer:
        assert json.load(answer)["data"][0]["voices"] == ["heart", "bob"]


def test_a_session_has_its_voice_and_keeps_it(server: Any) -> None:
    async def story(client: Client) -> None:
        told = await client.update(voice({"id": "bob"}))
        assert told["session"]["audio"]["output"]["voice"] == "bob"
        await heard(client)
        wrong = (await client.update(voice("heart")))["error"]
        assert wrong["code"] == "cannot_update_voice" and "stays 'bob'" in wrong["message"]
        assert wrong["param"] == "session.audio.output.voice"
        _, events = await heard(client, {"audio": {"output": {"voice": "heart"}}})
        assert events[-1]["error"]["param"] == "response.audio.output.voice"
        for same in ("bob", "alloy"):  # itself, and a client's preset
            told = await client.update(voice(same))
            assert told["session"]["audio"]["output"]["voice"] == "bob"

    first = talking(server, story)
    assert first[0]["session"]["audio"]["output"]["voice"] == "heart"


def test_a_response_can_name_the_voice_before_any_was_heard(server: Any) -> None:
    async def story(client: Client) -> None:
        await client.update(voice("heart"))
        sound, _ = await heard(client, {"audio": {"output": {"voice": "bob"}}})
        assert sound
        told = await client.update({"instructions": "Go on."})
        assert told["session"]["audio"]["output"]["voice"] == "bob"  # one voice a session

    talking(server, story)


def test_an_unknown_voice_lists_the_possible_ones(server: Any) -> None:
    async def story(client: Client) -> None:
        wrong = (await client.update(voice("eve")))["error"]
        assert "no voice 'eve'; possible: heart, bob" in wrong["message"]
        _, events = await heard(client, {"audio": {"output": {"voice": "eve"}}})
        assert "possible: heart, bob" in events[-1]["error"]["message"]

    talking(server, story)


def test_the_socketio_dialect_takes_a_voice(server: Any) -> None:
    async def story() -> list[tuple[str, Any]]:
        client, got = socketio.AsyncClient(reconnection=False), asyncio.Queue()
        for name in ("voice_success", "voice_error"):
            client.on(name, lambda data=None, name=name: got.put_nowait((name, data)))
        await client.connect(f"http://127.0.0.1:{server.port}")
        found = []
        for name in ("bob", "eve"):
            await client.emit("voice", name)
            found.append(await asyncio.wait_for(got.get(), 60))
        await client.disconnect()
        return found

    assert asyncio.run(story()) == [
        ("voice_success", None),
        ("voice_error", "no voice 'eve'; possible: heart, bob"),
    ]


def test_the_settings_a_session_begins_with_reach_the_dialogue(server: Any, sdk: Any) -> None:
    """Those of a client secret: they were shown and not obeyed."""

    async def story() -> None:
        async with sdk(server) as client:
            asked = {"type": "realtime", "instructions": "Speak of Rome.", **voice("bob")}
            made = await client.realtime.client_secrets.create(session=asked)
        url = f"ws://127.0.0.1:{server.port}/v1/realtime"
        keys = {"additional_headers": {"Authorization": f"Bearer {made.value}"}}
        async with websockets.connect(url, max_size=None, **keys) as socket:
            first = await Client(socket).ask("conversation.created")
            assert first[0]["session"]["audio"]["output"]["voice"] == "bob"
            await heard(Client(socket))
            (slot,) = server.pool._slots.values()
            talk = slot.duplex
            assert talk.conversation.system == "Speak of Rome."
            assert talk.conversation.voice == talk.model.config.voices["bob"].global_tokens
            assert talk.turns.cfg.detect == "manual"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("asked", "heard_already", "found"),
    [(None, True, "bob"), ("marin", True, "bob"), ("default", False, "heart"), ("eve", False, None),
     ({"id": "heart"}, False, "heart"), ("heart", True, None), (3, False, None)],
)  # fmt: skip
def test_what_a_client_may_ask_for(asked: Any, heard_already: bool, found: str | None) -> None:
    how = ("heart", "bob"), "bob", heard_already, "x"
    if found is None:
        with pytest.raises(Refused):
            wanted_voice(asked, *how)
    else:
        assert wanted_voice(asked, *how) == found
