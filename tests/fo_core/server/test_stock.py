"""What stock clients send and expect: accepted, translated, or refused by name, never ignored."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Any, get_args
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from raw_client import Client, talking

from fo_core.errors import ConfigError
from fo_core.server.access.origins import allowed_origin, check_origin
from fo_core.server.beta import from_beta, to_beta

pytest.importorskip("fastapi")
websockets = pytest.importorskip("websockets")
SERVING = Path(__file__).parents[3] / "docs" / "serving.md"


def noise(seconds: float, rate: int = 24000) -> str:
    wave = 0.2 * np.random.default_rng(0).standard_normal(int(rate * seconds))
    return base64.b64encode((wave * 32767).clip(-32768, 32767).astype("<i2").tobytes()).decode()


MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


async def turn(client: Client, audio: str | None = None) -> list[dict[str, Any]]:
    await client.ask("session.updated", type="session.update", session=MANUAL)
    await client.socket.send(
        json.dumps({"type": "input_audio_buffer.append", "audio": audio or noise(0.5)})
    )
    await client.socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
    return await client.ask("response.done", "error", type="response.create")


def test_tracing_is_accepted_and_not_done(server: Any) -> None:
    async def story(client: Client) -> None:
        for tracing in ("auto", {"workflow_name": "w"}, None):
            updated = await client.update({"type": "realtime", "tracing": tracing})
            assert updated["type"] == "session.updated"
            assert updated["session"]["tracing"] is None

    talking(server, story)


def test_a_refused_update_says_that_nothing_was_applied(server: Any) -> None:
    async def story(client: Client) -> None:
        for wrong, param, code in (
            ({"temprature": 1}, "session.temprature", "unknown_parameter"),
            ({"prompt": {"id": "p"}}, "session.prompt", "unsupported"),
            ({"input_audio_format": "mp3"}, "session.input_audio_format", "invalid_value"),
            ({"audio": {"input": {"x": 1}}}, "session.audio.input.x", "unknown_parameter"),
        ):
            refused = await client.update({"instructions": "Shout.", **wrong})
            assert (refused["error"]["param"], refused["error"]["code"]) == (param, code)
            assert "nothing of this update was applied" in refused["error"]["message"]
        updated = await client.update({"output_modalities": ["text"]})
        assert updated["session"]["instructions"] == "Be brief."

    talking(server, story)


def test_fields_of_the_beta_are_translated(server: Any) -> None:
    """A phone client hears G.711, not static."""

    async def story(client: Client) -> None:
        phone = {
            "modalities": ["text", "audio"],
            "input_audio_format": "g711_ulaw",
            "output_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "whisper-1"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 200},
            "max_response_output_tokens": 20,
            "temperature": 0.8,
            "voice": "alloy",
        }
        updated = (await client.update(phone))["session"]
        assert updated["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        assert updated["audio"]["output"]["format"] == {"type": "audio/pcmu"}
        assert updated["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 200
        assert updated["audio"]["input"]["transcription"] == {"model": "whisper-1"}
        assert (updated["output_modalities"], updated["max_output_tokens"]) == (["audio"], 20)
        await client.update({"turn_detection": None})
        content = [{"type": "input_text", "text": "abc"}]
        item = {"type": "message", "role": "user", "content": content}
        await client.ask("conversation.item.done", type="conversation.item.create", item=item)
        for wanted, width in ({}, 1), ({"output_audio_format": "pcm16"}, 6):
            events = await client.ask(
                "response.done", "error", type="response.create",
                response={"modalities": ["audio", "text"], "instructions": "Go on.", **wanted},
            )  # fmt: skip
            sent = sum(
                len(base64.b64decode(e["delta"]))
                for e in events
                if e["type"] == "response.output_audio.delta"
            )
            item = events[-1]["response"]["output"][0]["id"]
            assert sent > 500 and item
            seconds = sent / width / 8000
            assert 0.02 < seconds < 10
        (wrong,) = await client.ask("error", type="response.create", response={"voicee": "x"})
        assert wrong["error"]["code"] == "unknown_parameter"
        assert wrong["error"]["param"] == "response.voicee"

    talking(server, story)


def test_fields_of_the_beta_one_by_one() -> None:
    assert from_beta({"modalities": ["text"]}, "s") == {"output_modalities": ["text"]}
    new = from_beta({"input_audio_format": "g711_alaw", "audio": {"output": {"speed": 1}}}, "s")
    assert new["audio"] == {"output": {"speed": 1}, "input": {"format": {"type": "audio/pcma"}}}
    ga = {"audio": {"input": {"turn_detection": None}}, "output_modalities": ["audio"]}
    assert from_beta(ga, "s") == ga
    old = to_beta({"type": "response.output_audio_transcript.delta", "delta": "x"})
    assert old == {"type": "response.audio_transcript.delta", "delta": "x"}
    assert to_beta({"type": "conversation.item.done"}) is None


def test_old_names_go_only_to_clients_that_ask_for_the_beta(server: Any) -> None:
    new = {e["type"] for e in talking(server, turn)}
    old = [e for e in talking(server, turn, **{"OpenAI-Beta": "realtime=v1"})]
    kinds = {e["type"] for e in old}
    assert "conversation.item.added" in new and "conversation.item.created" not in new
    assert "conversation.item.created" in kinds and "conversation.item.added" not in kinds
    assert "response.audio.delta" in kinds and "response.output_audio.delta" not in kinds
    assert old[0]["session"]["input_audio_format"] == "pcm16"
    assert old[0]["session"]["modalities"] == ["text", "audio"]


def test_every_response_has_usage_and_rate_limits(server: Any) -> None:
    events = talking(server, turn)
    usage = events[-1]["response"]["usage"]
    read, written = usage["input_token_details"], usage["output_token_details"]
    assert read["audio_tokens"] > 0 and read["text_tokens"] > 0
    assert usage["input_tokens"] == read["audio_tokens"] + read["text_tokens"]
    assert written["audio_tokens"] > 0 and written["text_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    limits = next(e for e in events if e["type"] == "rate_limits.updated")["rate_limits"]
    assert limits[0]["name"] == "requests" and 0 < limits[0]["remaining"] <= limits[0]["limit"]


def test_forty_seconds_in_one_message_are_taken_without_turn_detection(server: Any) -> None:
    async def story(client: Client) -> list[dict[str, Any]]:
        return await turn(client, noise(40))

    events = talking(server, story)
    assert events[-1]["type"] == "response.done", events[-1]
    assert "error" not in {e["type"] for e in events}


def test_a_refused_block_leaves_nothing_behind(serve: Any, mumbler: Any) -> None:
    """Not even what the resampler holds: a commit after it has nothing to commit."""

    async def story(client: Client) -> None:
        voice = {"type": "server_vad"}
        await client.update({"audio": {"input": {"turn_detection": voice}}})
        sent = {"type": "input_audio_buffer.append", "audio": noise(40)}
        (wrong,) = await client.ask("error", **sent)
        assert wrong["error"]["code"] == "overflow"
        await client.update(MANUAL)
        (wrong,) = await client.ask("error", type="input_audio_buffer.commit")
        assert wrong["error"]["code"] == "input_audio_buffer_commit_empty"

    with serve(mumbler) as server:
        talking(server, story)


def test_transcription_sessions_answer_nothing(server: Any, checked: Any) -> None:
    async def story(client: Client) -> list[dict[str, Any]]:
        heard = {"transcription": {"model": "self"}, "turn_detection": None}
        session = {"type": "transcription", "audio": {"input": heard}}
        updated = await client.update(session)
        assert updated["session"]["type"] == "transcription", updated
        await client.socket.send(
            json.dumps({"type": "input_audio_buffer.append", "audio": noise(0.5)})
        )
        kind = "conversation.item.input_audio_transcription.completed"
        events = await client.ask(kind, "error", type="input_audio_buffer.commit")
        (wrong,) = await client.ask("error", type="response.create")
        assert wrong["error"]["code"] == "unsupported"
        return events

    checked(talking(server, story))


def get(server: Any, path: str, **headers: str) -> tuple[int, bytes]:
    request = Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    try:
        with urlopen(request) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def test_metrics_and_models_want_the_key(serve: Any, mumbler: Any) -> None:
    with serve(mumbler, api_key="right") as server:
        for path in ("/metrics", "/v1/models"):
            assert get(server, path)[0] == 401
            assert get(server, path, Authorization="Bearer wrong")[0] == 401
            assert get(server, path, Authorization="Bearer right")[0] == 200
        assert get(server, "/healthz")[0] == 200


def test_the_models_are_listed(server: Any, sdk: Any) -> None:
    async def models() -> list[str]:
        return [model.id async for model in sdk(server).models.list()]

    assert asyncio.run(models()) == ["tiny"]


@pytest.mark.parametrize(
    ("origin", "host", "fine"),
    [
        (None, "127.0.0.1:8000", True),
        ("http://127.0.0.1:8000", "localhost:8000", True),
        ("http://localhost:8000", "[::1]:8000", True),
        ("https://talk.example", "talk.example", True),
        ("https://talk.example", "talk.example:443", True),
        ("http://talk.example:80", "talk.example", True),
        ("http://talk.example", "TALK.example", True),
        ("https://talk.example", "talk.example:8000", False),
        ("http://localhost:8001", "localhost:8000", False),
        ("https://evil.example", "127.0.0.1:8000", False),
        ("null", "127.0.0.1:8000", False),
        ("http://a:x", "127.0.0.1:8000", False),
        ("https://app.example", "127.0.0.1:8000", True),
        ("http://app.example", "127.0.0.1:8000", False),
    ],
)
def test_origins(origin: str | None, host: str, fine: bool) -> None:
    assert allowed_origin(origin, host, ["https://app.example"]) is fine


def test_an_origin_that_is_none_is_refused() -> None:
    assert check_origin("https://a.example:81") == "https://a.example:81"
    for wrong in ("a.example", "ftp://a", "https://a/b", "*"):
        with pytest.raises(ConfigError, match="such as https"):
            check_origin(wrong)


def test_the_page_is_served_behind_the_nginx_of_the_docs() -> None:
    """It passes on what its own page is compared with."""
    found = re.search(r"```nginx\n(.*?)```", SERVING.read_text(), re.DOTALL)
    assert found and "proxy_set_header Host $http_host;" in found[1]


def documented() -> tuple[dict[str, str], dict[str, str]]:
    """Client and server events of docs/serving.md, each with what becomes of it."""
    text = SERVING.read_text()
    tables = text.split("## Every event")[1].split("\n## ")[0].split("| server event")
    rows = [re.findall(r"^\| `([a-z_.]+)` \| (\w+)", table, re.MULTILINE) for table in tables]
    return dict(rows[0]), dict(rows[1])


def test_every_event_of_the_openai_package_is_accounted_for() -> None:
    from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent

    from fo_core.server.realtime import Realtime

    def kinds(union: Any) -> set[str]:
        members = get_args(get_args(union)[0])
        return {get_args(k.model_fields["type"].annotation)[0] for k in members}

    client, server = documented()
    assert set(client) == kinds(RealtimeClientEvent)
    assert set(server) == kinds(RealtimeServerEvent)
    accepted = {kind for kind, what in client.items() if what == "accepted"}
    assert accepted == {"session.update", *Realtime._handlers}
    source = "".join(
        p.read_text() for p in Path(SERVING.parents[1], "fo_core/server").rglob("*.py")
    )
    for kind, what in server.items():
        assert what in ("sent", "never")
        stem, _, last = kind.rpartition(".")
        if what == "sent":
            assert f'"{kind}"' in source or (f".{last}" in source and f"{stem}" in source), kind
        else:
            assert f'"{kind}"' not in source, kind
