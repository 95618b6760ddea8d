"""Stock clients on loopback: openai-agents, LiveKit's and Pipecat's Realtime services.

Each goes through two turns with a tool and an interruption, typed and then spoken into a
microphone, in a process of its own, run by the interpreter of ``.venv-clients``
(``make setup-clients``) or of ``FO_CLIENTS_PYTHON``: they pin versions that this project has
otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fo_core.dialogue.settings import DuplexConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig

ROOT = Path(__file__).parents[3]
PACKAGES = {"agents": "agents", "livekit": "livekit.plugins.openai", "pipecat": "pipecat"}
ROOM = SegmenterConfig(max_tokens=600, careful=False)
MORE = "The sun has been here all day. " * 8
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def interpreter(package: str) -> str:
    """A Python that has a package; skips where none has, but not for `make clients`."""
    found = [os.environ.get("FO_CLIENTS_PYTHON"), str(ROOT / ".venv-clients/bin/python")]
    for python in [*found, sys.executable]:
        if python and Path(python).is_file():
            probe = subprocess.run([python, "-c", f"import {package}"], capture_output=True)
            if probe.returncode == 0:
                return python
    missing = f"no interpreter has {package} (make setup-clients)"
    (pytest.fail if os.environ.get("FO_CLIENTS") == "wanted" else pytest.skip)(missing)


def story(client: str, server: Any, *recordings: Path) -> dict[str, Any]:
    """What a client lived through."""
    script = str(ROOT / "tests" / "clients" / f"{client}_client.py")
    env = {**os.environ, "OPENAI_API_KEY": "none", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    command = [interpreter(PACKAGES[client]), script, str(server.port), *map(str, recordings)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=150, env=env)
    assert found.returncode == 0, found.stderr[-2000:]
    assert server.empty()
    return json.loads(found.stdout.splitlines()[-1])


@pytest.mark.parametrize("client", PACKAGES)
def test_two_turns_with_a_tool_and_an_interruption(
    client: str, serve: Any, mumbler: Any, scripted: Any
) -> None:
    interpreter(PACKAGES[client])
    scripted("Let me look. " + CALL, "It is sunny in Rome.", MORE, "Welcome, good bye.")
    with serve(mumbler, talk={"segmenter": ROOM}) as server:
        found = story(client, server)
    assert found["asked"] == ["Rome"] and not found["errors"]
    assert found["audio"] > 10_000
    said = " | ".join(found["said"])
    assert "It is sunny in Rome." in said and "Welcome, good bye." in said


@pytest.mark.parametrize("client", PACKAGES)
def test_the_same_by_voice(
    client: str, serve: Any, mumbler: Any, scripted: Any, speech: list[Path]
) -> None:
    """Speech begins and ends turns; a tool's result is spoken; speech over an answer stops it."""
    interpreter(PACKAGES[client])
    scripted("Let me look. " + CALL, "It is sunny in Rome.", MORE, "Welcome, good bye.")
    talk = {"segmenter": ROOM, "duplex": DuplexConfig(vad="auto")}
    with serve(mumbler, talk=talk) as server:
        found = story(client, server, *speech)
        replies = server.pool.stats().replies
    assert found["asked"] == ["Rome"] and not found["errors"]
    said = " | ".join(found["said"])
    assert "It is sunny in Rome." in said and "Welcome, good bye." in said
    assert replies.total() == 4 and found["audio"] > 10_000


def test_the_openai_sdk_by_voice(
    serve: Any, sdk: Any, mumbler: Any, scripted: Any, speech: list[Path], monkeypatch: Any
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "clients"))
    from microphone import Microphone

    scripted("Let me look. " + CALL, "It is sunny in Rome.", MORE, "Welcome, good bye.")
    audio = {"input": {"turn_detection": {"type": "server_vad"}}}
    session = {"type": "realtime", "tools": [WEATHER], "audio": audio}
    said: list[tuple[str, str]] = []

    async def talk(server: Any) -> None:
        async with sdk(server).realtime.connect(model="any") as connection, asyncio.timeout(100):
            await connection.session.update(session=session)

            async def send(block: bytes) -> None:
                await connection.input_audio_buffer.append(audio=base64.b64encode(block).decode())

            microphone = Microphone(list(map(str, speech)), send)
            sound = asyncio.create_task(microphone.run())
            microphone.speak()
            async for event in connection:
                assert event.type != "error", event
                if event.type == "response.output_audio.delta" and len(said) == 2:
                    microphone.speak()  # over the answer
                    said.append(("", "interrupted"))
                if event.type != "response.done":
                    continue
                calls = [item for item in event.response.output if item.type == "function_call"]
                for call in calls:
                    assert json.loads(call.arguments) == {"city": "Rome"}
                    kind = "function_call_output"
                    item = {"type": kind, "call_id": call.call_id, "output": "sunny"}
                    await connection.conversation.item.create(item=item)
                    await connection.response.create()
                output = event.response.output
                words = [i.content[0].transcript for i in output if i.type == "message"]
                said.append((" ".join(words), event.response.status))
                if len(said) == 2:
                    await asyncio.sleep(1.0)  # it is played
                    microphone.speak()
                if len(said) == 5:
                    break
            sound.cancel()

    with serve(mumbler, talk={"segmenter": ROOM, "duplex": DuplexConfig(vad="auto")}) as server:
        asyncio.run(talk(server))
    texts, statuses = zip(*said, strict=True)
    assert texts[:2] == ("Let me look.", "It is sunny in Rome.")
    assert statuses[3] in ("cancelled", "completed") and texts[4] == "Welcome, good bye."
