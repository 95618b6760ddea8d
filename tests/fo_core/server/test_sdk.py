"""The stock openai client talks to the server on loopback."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai")
pytest.importorskip("fastapi")

OPEN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
]
CLOSE = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def sound(seconds: float, seed: int = 0, rate: int = 24000) -> str:
    wave = 0.2 * np.random.default_rng(seed).standard_normal(int(rate * seconds))
    return base64.b64encode((wave * 32767).clip(-32768, 32767).astype("<i2").tobytes()).decode()


async def until(connection: Any, *kinds: str) -> list[dict[str, Any]]:
    """Events up to one of these kinds."""
    found = []
    async with asyncio.timeout(60):
        async for event in connection:
            found.append(event.to_dict())
            if event.type in kinds:
                return found
    raise AssertionError(f"closed before {kinds}: {[e['type'] for e in found]}")


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def ask(connection: Any, seed: int) -> list[dict[str, Any]]:
    await connection.input_audio_buffer.append(audio=sound(0.5, seed))
    await connection.input_audio_buffer.commit()
    await connection.response.create()
    return await until(connection, "response.done", "error")


def test_a_talk_of_three_turns(server: Any, sdk: Any, checked: Any) -> None:
    async def talk() -> None:
        async with sdk(server).realtime.connect(model="tiny") as connection:
            first = await until(connection, "conversation.created")
            assert types(first) == ["session.created", "conversation.created"]
            assert first[0]["session"]["model"] == "tiny"
            await connection.session.update(session=MANUAL)
            (updated,) = await until(connection, "session.updated", "error")
            assert updated["session"]["audio"]["input"].get("turn_detection") is None
            previous = None
            for turn in range(3):
                events = await ask(connection, turn)
                kinds = checked(events)
                assert kinds[:3] == [
                    "input_audio_buffer.committed",
                    "conversation.item.added",
                    "conversation.item.done",
                ]
                assert kinds.pop(4) == "rate_limits.updated"
                assert kinds[3:7] == OPEN and kinds[-6:] == CLOSE
                deltas = {
                    "response.output_audio.delta",
                    "response.output_audio_transcript.delta",
                }
                assert set(kinds[7:-6]) == deltas
                assert events[0].get("previous_item_id") == previous
                done = events[-1]["response"]
                assert done["status"] in ("completed", "incomplete")
                pcm = b"".join(
                    base64.b64decode(e["delta"])
                    for e in events
                    if e["type"] == "response.output_audio.delta"
                )
                assert len(pcm) > 1000 and len(pcm) % 2 == 0
                words = "".join(
                    e["delta"] for e in events if e["type"].endswith("transcript.delta")
                )
                assert done["output"][0]["content"][0]["transcript"] == words
                previous = done["output"][0]["id"]
            assert len({e["event_id"] for e in events}) == len(events)

    asyncio.run(talk())
    assert server.empty()


def test_typed_questions_answered_in_text_and_in_speech(server: Any, sdk: Any) -> None:
    async def talk() -> None:
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            for modality, delta in (
                ("text", "response.output_text.delta"),
                ("audio", "response.output_audio.delta"),
            ):
                content = [{"type": "input_text", "text": "abc"}]
                await connection.conversation.item.create(
                    item={"type": "message", "role": "user", "content": content}
                )
                await connection.response.create(response={"output_modalities": [modality]})
                events = await until(connection, "response.done", "error")
                assert delta in types(events) and types(events)[-1] == "response.done"
                assert ("response.output_audio.delta" in types(events)) == (modality == "audio")

    asyncio.run(talk())


def test_cancel_truncate_retrieve_and_delete(server: Any, sdk: Any) -> None:
    async def talk() -> None:
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            await connection.session.update(session=MANUAL)
            await until(connection, "session.updated")
            events = await ask(connection, 1)
            item = events[-1]["response"]["output"][0]["id"]
            await connection.conversation.item.truncate(
                item_id=item, content_index=0, audio_end_ms=10**6
            )
            (wrong,) = await until(connection, "error")
            assert wrong["error"]["param"] == "audio_end_ms"
            await connection.conversation.item.truncate(
                item_id=item, content_index=0, audio_end_ms=0
            )
            (cut,) = await until(connection, "conversation.item.truncated", "error")
            assert (cut["item_id"], cut["audio_end_ms"]) == (item, 0)
            await connection.conversation.item.retrieve(item_id=item)
            (got,) = await until(connection, "conversation.item.retrieved")
            assert got["item"]["content"][0]["transcript"] == ""  # nothing was heard of it
            await connection.conversation.item.delete(item_id=item)
            await until(connection, "conversation.item.deleted")
            await connection.conversation.item.retrieve(item_id=item)
            (gone,) = await until(connection, "error")
            assert gone["error"]["code"] == "item_retrieve_invalid_item_id"
            # cancel in the middle of a reply
            await connection.input_audio_buffer.append(audio=sound(0.5, 2))
            await connection.input_audio_buffer.commit()
            await connection.response.create()
            await until(connection, "response.content_part.added")
            await connection.response.cancel()
            events = await until(connection, "response.done", "error")
            done = events[-1]["response"]
            if done["status"] == "cancelled":  # a tiny model may have been quicker
                assert done["status_details"]["reason"] == "client_cancelled"
            # and it goes on
            assert types(await ask(connection, 3))[-1] == "response.done"

    asyncio.run(talk())


def test_wrong_commands_are_errors_and_the_talk_goes_on(server: Any, sdk: Any) -> None:
    async def talk() -> None:
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            await connection.session.update(session=MANUAL)
            await until(connection, "session.updated")
            for send, code in (
                (connection.response.cancel(event_id="mine"), "response_cancel_not_active"),
                (
                    connection.input_audio_buffer.commit(event_id="mine"),
                    "input_audio_buffer_commit_empty",
                ),
                (connection.input_audio_buffer.append(audio="?", event_id="mine"), "invalid_value"),
            ):
                await send
                (wrong,) = await until(connection, "error")
                assert (wrong["error"]["code"], wrong["error"]["event_id"]) == (code, "mine")
            assert types(await ask(connection, 3))[-1] == "response.done"

    asyncio.run(talk())


@pytest.mark.parametrize("rate", [8000, 16000])
def test_other_formats(server: Any, sdk: Any, rate: int) -> None:
    fmt = {"type": "audio/pcmu"} if rate == 8000 else {"type": "audio/pcm", "rate": rate}

    async def talk() -> None:
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            audio = {"input": {"format": fmt, "turn_detection": None}, "output": {"format": fmt}}
            await connection.session.update(session={"type": "realtime", "audio": audio})
            await until(connection, "session.updated")
            await connection.input_audio_buffer.append(audio=sound(0.5, 0, rate))
            await connection.input_audio_buffer.commit()
            await connection.response.create()
            events = await until(connection, "response.done", "error")
            sent = sum(
                len(base64.b64decode(e["delta"]))
                for e in events
                if e["type"] == "response.output_audio.delta"
            )
            assert sent > 500

    asyncio.run(talk())


def test_semantic_and_server_vad_answer_by_themselves(serve: Any, sdk: Any, mumbler: Any) -> None:
    """With a state head that always says "answer" every stretch of noise is a question."""
    from fo_core.dialogue.settings import DuplexConfig
    from fo_core.dialogue.states import StateRule

    eager = {
        "states": StateRule(respond_threshold=0.0, dismiss_threshold=1.0),
        "duplex": DuplexConfig(vad="energy"),
    }

    async def talk(server: Any, kind: str) -> list[str]:
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            audio = {"input": {"turn_detection": {"type": kind}}}
            await connection.session.update(session={"type": "realtime", "audio": audio})
            await until(connection, "session.updated")
            await connection.input_audio_buffer.append(audio=sound(1.0))
            silence = base64.b64encode(bytes(2 * 24000)).decode()
            await connection.input_audio_buffer.append(audio=silence)
            return types(await until(connection, "response.done", "error"))

    with serve(mumbler, talk=eager) as server:
        for kind in ("semantic_vad", "server_vad"):
            kinds = asyncio.run(talk(server, kind))
            assert kinds[:3] == [
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
            ]
            assert kinds[-6:] == CLOSE


def test_full_and_locked_servers_say_so(serve: Any, sdk: Any, mumbler: Any) -> None:
    async def enter(server: Any, key: str) -> dict[str, Any]:
        async with sdk(server, key).realtime.connect(model="tiny") as connection:
            return (await until(connection, "session.created", "error"))[-1]

    async def two(server: Any) -> None:
        async with sdk(server, "right").realtime.connect(model="tiny") as connection:
            await until(connection, "session.created")
            refused = await enter(server, "right")
            assert refused["error"]["code"] == "too_many_sessions"

    with serve(mumbler, users=1, api_key="right") as server:
        assert asyncio.run(enter(server, "wrong"))["error"]["code"] == "invalid_api_key"
        asyncio.run(two(server))
        assert server.empty()
        assert asyncio.run(enter(server, "right"))["type"] == "session.created"


def test_a_limit_of_tokens_can_be_lifted_again(server: Any, sdk: Any) -> None:
    async def talk() -> list[str]:
        words = []
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            for limit in (3, "inf"):
                session = MANUAL | {"max_output_tokens": limit}
                await connection.session.update(session=session)
                await until(connection, "session.updated")
                done = (await ask(connection, 1))[-1]["response"]
                words.append(done["output"][0]["content"][0]["transcript"])
        return words

    short, long = asyncio.run(talk())
    assert len(short) < len(long)


def test_a_commit_in_which_nothing_was_heard_is_empty(server: Any, sdk: Any) -> None:
    """Silence is never answered: the buffer is cleared, the item of sound is taken back.

    Some clients (Pipecat) give up at an error event: there is none where they did nothing wrong.
    """

    async def talk() -> None:
        silence = base64.b64encode(bytes(48000)).decode()
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            await connection.session.update(session=MANUAL)
            await until(connection, "session.updated")
            await connection.input_audio_buffer.append(audio=silence)
            await connection.input_audio_buffer.commit(event_id="mine")
            events = await until(connection, "input_audio_buffer.cleared", "error")
            assert types(events) == ["input_audio_buffer.cleared"]
            content = [{"type": "input_audio", "audio": silence}]
            item = {"type": "message", "role": "user", "content": content, "id": "sound"}
            await connection.conversation.item.create(item=item)
            events = await until(connection, "error")
            assert {"conversation.item.deleted"} & set(types(events))
            assert events[-1]["error"]["code"] == "input_audio_buffer_commit_empty"
            await connection.response.create()
            events = await until(connection, "error", "response.done")
            assert types(events) == ["response.created", "response.done"]
            done = events[-1]["response"]
            assert (done["status"], done["output"]) == ("failed", [])
            assert done["status_details"]["error"]["code"] == "nothing_to_answer"


def test_responses_out_of_band_leave_no_trace(server: Any, sdk: Any) -> None:
    async def talk() -> None:
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            await connection.session.update(session=MANUAL)
            await until(connection, "session.updated")
            await ask(connection, 1)
            for response in (
                {"instructions": "Name the topic."},
                {"input": [message("hello")], "instructions": "Shout."},
                {"input": [message("hello")], "output_modalities": ["text"]},
            ):
                asked = {"conversation": "none", "metadata": {"for": "me"}, **response}
                await connection.response.create(response=asked)
                events = await until(connection, "response.done", "error")
                assert not [t for t in types(events) if t.startswith("conversation.item")]
                done = events[-1]["response"]
                assert done["conversation_id"] is None and done["metadata"]["for"] == "me"
                assert done["status"] != "failed" and done["output"][0]["content"]
            await connection.response.create(response={"conversation": "none", "input": []})
            events = await until(connection, "response.done", "error")
            wrong = events[-1]["response"]["status_details"]["error"]
            assert wrong["code"] == "nothing_to_answer"
            for response, field in (
                ({"input": [message("hello")]}, "response.input"),
                ({"conversation": "none", "input": [{"type": "item_reference", "id": "x"}]},
                 "response.input"),
            ):  # fmt: skip
                await connection.response.create(response=response)
                (refused,) = await until(connection, "error")
                assert refused["error"]["param"].startswith(field)
            await ask(connection, 2)  # and the talk goes on

    asyncio.run(talk())


def message(text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content}
