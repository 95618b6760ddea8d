"""For whoever runs the server: health, metrics by convention, request ids, logs, a good end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fo_core.config import replace
from fo_core.dialogue.settings import DialogueConfig, write_dialogue
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.models.freeze_omni import PARTS
from fo_core.server import logs
from fo_core.server.drain import SAYS

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "freeze-omni.json"
ASK = {
    "type": "conversation.item.create",
    "item": {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Tell me a long story."}],
    },
}


def get(port: int, path: str, **headers: str) -> tuple[int, str, Message]:
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", headers=headers)) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except HTTPError as error:
        return error.code, error.read().decode(), error.headers


def test_live_and_ready_are_told_apart(serve: Any, mumbler: Any) -> None:
    with serve(mumbler, users=1) as server:
        assert get(server.port, "/healthz/live")[0] == get(server.port, "/healthz/ready")[0] == 200
        talk = server.pool.open()
        status, body, _ = get(server.port, "/healthz/ready")
        assert status == 503 and json.loads(body) == {"status": "at capacity"}
        assert get(server.port, "/healthz/live")[0] == 200
        talk.close()
        assert get(server.port, "/healthz/ready")[0] == 200


def test_metrics_have_names_by_convention_and_the_dashboard_asks_for_them(
    serve: Any, mumbler: Any
) -> None:
    async def talk() -> None:
        async with connect(f"ws://127.0.0.1:{server.port}/v1/realtime") as client:
            await client.send(json.dumps({"type": "nonsense"}))
            for event in (ASK, {"type": "response.create"}):
                await client.send(json.dumps(event))
            async for message in client:
                if json.loads(message)["type"] == "response.done":
                    return

    with serve(mumbler) as server:
        asyncio.run(talk())
        text = get(server.port, "/metrics")[1]
    families = {f.name: f for f in text_string_to_metric_families(text)}
    for name, family in families.items():
        assert family.documentation, name
        assert name.startswith(("fo_", "process_"))
        if family.type == "counter":
            assert all(s.name.endswith(("_total", "_created")) for s in family.samples), name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb)\b", name), name
    assert {"fo_first_audio_seconds", "fo_response_seconds", "fo_work_seconds"} <= set(families)
    counted = {s.name: s.value for s in families["fo_response_seconds"].samples if not s.labels}
    assert counted["fo_response_seconds_count"] == 1
    (errors,) = [s for s in families["fo_errors"].samples if s.name == "fo_errors_total"]
    assert errors.value == 1
    known = {s.name for f in families.values() for s in f.samples} | set(families)
    known |= {f"{name}_bucket" for name, f in families.items() if f.type == "histogram"}
    known |= {f"{name}_total" for name, f in families.items() if f.type == "counter"}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            asked = set(re.findall(r"\b(?:fo|process)_\w+", target["expr"]))
            assert asked and asked <= known, panel["title"]


def test_a_request_keeps_its_id_and_the_log_has_no_key(
    serve: Any, mumbler: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def visit() -> str:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime?api_key=sesame"
        async with connect(url, additional_headers={"X-Request-ID": "from-the-proxy-1"}) as client:
            await client.recv()
            return client.response.headers["x-request-id"]

    old = {name: logging.getLogger(name).handlers[:] for name in ("fo", "uvicorn", "fo_core")}
    logs.setup("json", "info", sys.stderr)
    try:
        with serve(mumbler, api_key="sesame") as server:
            path = "/v1/models?api_key=sesame"
            assert get(server.port, path, **{"X-Request-ID": "a-1"})[2]["X-Request-ID"] == "a-1"
            odd = get(server.port, path, **{"X-Request-ID": "no spaces please"})[2]["X-Request-ID"]
            assert odd.startswith("req_")
            assert asyncio.run(visit()) == "from-the-proxy-1" and server.empty()
            assert get(server.port, "/healthz/live")[0] == 200
    finally:
        for name, handlers in old.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = handlers, True
            logger.setLevel(logging.NOTSET)
    said = capsys.readouterr().err
    lines = [json.loads(line) for line in said.splitlines()]
    assert "sesame" not in said and all({"time", "level", "event"} <= set(x) for x in lines)
    talk = [x for x in lines if x.get("request_id") == "from-the-proxy-1"]
    assert [x["event"] for x in talk] == ["session opened", "session closed"]
    assert len({x["session"] for x in talk}) == 1
    asked = [x for x in lines if x["event"] == "request"]
    assert {x["path"] for x in asked} == {"/v1/models"}  # health checks are for debug


def test_text_lines_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    line = logs._Line("text")
    record = logging.LogRecord("fo.server", logging.INFO, "", 0, "session opened", None, None)
    record.fields = {"session": "sess_1"}
    assert line.format(record).endswith("INFO    session opened session=sess_1")


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, mumbler: Any, talk_config: DialogueConfig
) -> Path:
    """A tiny model that talks for some seconds."""
    place = tmp_path_factory.mktemp("mumbler")
    mumbler.save(place, PARTS)
    vocoder = VocoderConfig(first_chunk=4, chunk=6, overlap=3, cut_window=201, onset=0.0)
    long = replace(
        talk_config,
        segmenter=SegmenterConfig(stops="aeiou.", min_tokens=3, max_tokens=200, careful=False),
        speaker=SpeakerConfig(max_tokens=60, vocoder=vocoder),
    )
    write_dialogue(place, long)
    return place


@contextlib.contextmanager
def process(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``fo serve`` in a process of its own; yields it and its port."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", "from fo_cli.main import app; app()", "serve"]
    run += ["--model", str(folder), "--port", str(port), "--log-format", "json", *more]
    made = subprocess.Popen(run, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert made.stderr is not None
        for line in made.stderr:
            if '"server started"' in line:
                break
        else:
            pytest.fail("the server did not start")
        yield made, port
    finally:
        made.kill()
        made.communicate()


async def eight(
    port: int, server: subprocess.Popen[str], look: bool
) -> tuple[list[list[Any]], list[Any]]:
    """Eight talks, a SIGTERM when all of them hear an answer; their events and close codes."""
    speaking = [asyncio.Event() for _ in range(8)]

    async def talk(number: int) -> tuple[list[Any], Any]:
        events: list[Any] = []
        client = await open_one(port)
        for event in (ASK, {"type": "response.create"}):
            await client.send(json.dumps(event))
        try:
            while True:
                events.append(json.loads(await client.recv()))
                if events[-1]["type"] == "response.output_audio.delta":
                    speaking[number].set()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return events, closed.rcvd.code

    async def stop() -> list[Any]:
        for event in speaking:
            await event.wait()
        server.send_signal(signal.SIGTERM)
        if not look:
            return []
        await asyncio.sleep(0.3)
        status = await asyncio.to_thread(get, port, "/healthz/ready")
        late = await open_one(port)
        refusal = json.loads(await late.recv())
        return [status[0], json.loads(status[1])["status"], refusal["error"]["code"]]

    found = await asyncio.gather(*(talk(number) for number in range(8)), stop())
    return [list(pair) for pair in found[:8]], found[8]


async def open_one(port: int) -> Any:
    for _ in range(200):
        with contextlib.suppress(OSError):
            return await connect(f"ws://127.0.0.1:{port}/v1/realtime", max_size=None)
        await asyncio.sleep(0.1)
    raise TimeoutError("the server does not listen")


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM on Windows")
@pytest.mark.parametrize(("seconds", "status"), [("60", "incomplete"), ("0", "cancelled")])
def test_sigterm_in_the_middle_of_eight_talks(folder: Path, seconds: str, status: str) -> None:
    """Replies end, or are closed by the protocol's own event; exit 0, and nothing is left.

    This model never ends by itself: at the end of its tokens a reply of it is "incomplete".
    """
    with process(folder, "--drain-seconds", seconds) as (server, port):
        found, late = asyncio.run(asyncio.wait_for(eight(port, server, seconds != "0"), 120))
        out, errors = server.communicate(timeout=60)
    assert late == ([503, "shutting down", "server_shutdown"] if seconds != "0" else [])
    for events, code in found:
        kinds = [event["type"] for event in events]
        done = [event for event in events if event["type"] == "response.done"]
        assert [event["response"]["status"] for event in done] == [status]
        assert kinds.index("response.done") < len(kinds) - 1
        assert events[-1]["type"] == "error" and events[-1]["error"]["message"] == SAYS
        assert events[-1]["error"]["code"] == "server_shutdown" and code == 1001
    assert server.returncode == 0 and not out
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [x["event"] for x in lines if x["event"] == "session closed"] == ["session closed"] * 8
    assert lines[-1]["event"] == "server ended" and "Traceback" not in errors
