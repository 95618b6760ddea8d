"""The endpoint engine against a small server of our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fo_core.engines.llm import Answer
from fo_core.engines.llm.openai import Engine
from fo_core.errors import EngineError


class Server(ThreadingHTTPServer):
    """Answers in capitals after failing ``fail`` times."""

    fail = 0
    status = 503
    body: dict | None = None
    asked: list[dict] = []
    keys: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(data)
        self.server.keys.append(self.headers.get("Authorization"))
        if self.server.fail > 0:
            self.server.fail -= 1
            self.send_error(self.server.status)
            return
        text = data["messages"][-1]["content"].upper()
        choice = {"message": {"content": f" {text} "}, "finish_reason": "stop"}
        if len(text) > data["max_tokens"]:
            choice = {"message": {"content": text[: data["max_tokens"]]}, "finish_reason": "length"}
        reply = json.dumps(self.server.body or {"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked, server.keys = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def engine(server: Server, **more) -> Engine:
    return Engine("some-model", f"http://127.0.0.1:{server.server_port}/v1", pause=0.01, **more)


def ask(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def test_answers_in_order_and_greedy(server: Server) -> None:
    texts = [f"text {i}" for i in range(20)]
    got = engine(server, api_key="k").answer(ask(*texts), max_new_tokens=30, batch_size=7)
    assert got == [Answer(text.upper(), True) for text in texts]
    assert {d["temperature"] for d in server.asked} == {0}
    assert set(server.keys) == {"Bearer k"}


def test_cut_answers_are_not_finished(server: Server) -> None:
    assert engine(server).answer(ask("abcdef"), max_new_tokens=3) == [Answer("ABC", False)]


def test_a_busy_server_is_asked_again_and_not_for_ever(server: Server) -> None:
    server.fail = 2
    assert engine(server).answer(ask("a"))[0].text == "A"
    server.fail = 9
    with pytest.raises(EngineError, match="no answer after 3 tries .status 503"):
        engine(server, tries=3).answer(ask("a"))


def test_an_answer_that_is_no_json_is_asked_for_again(server: Server) -> None:
    server.fail, server.status = 1, 200  # a page of a proxy
    assert engine(server).answer(ask("a"))[0].text == "A" and len(server.asked) == 2


def test_a_refusal_is_final(server: Server) -> None:
    server.fail, server.status = 9, 401
    with pytest.raises(EngineError, match="status 401"):
        engine(server).answer(ask("a"))
    assert len(server.asked) == 1


def test_foreign_reply_and_addresses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.body = {"text": "hello"}
    with pytest.raises(EngineError, match="another form"):
        engine(server).answer(ask("a"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(EngineError, match="OPENAI_BASE_URL"):
        Engine("m")
    with pytest.raises(EngineError, match="not an address"):
        Engine("m", "localhost")
    with pytest.raises(EngineError, match="no answer after 1 tries"):
        Engine("m", "http://127.0.0.1:1/v1", tries=1).answer(ask("a"))
