"""An endpoint of an LLM on this machine, whose answers are a function of what it is asked."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

WORDS = "we you they like see know big small old new house river bread music light water".split()


class LlmServer(ThreadingHTTPServer):
    """Answers in eight words; a question with a mark such as ``!500`` fails in that way."""

    daemon_threads = True
    slow = 0.0  # s an answer takes
    asked: list[dict[str, Any]]
    down = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: LlmServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        question = body["messages"][-1]["content"]
        time.sleep(self.server.slow)
        if self.server.down or "!500" in question:
            self.send_error(500)
            return
        if "!400" in question:
            self.send_error(400)
            return
        if "!hang" in question:
            time.sleep(2.0)
        said = [body["messages"], body.get("seed", 0), body["temperature"]]
        digest = hashlib.sha256(json.dumps(said).encode()).digest()
        text = f"I think {' '.join(WORDS[b % len(WORDS)] for b in digest[:8])}."
        reason = "stop"
        if "!once" in question and not body["temperature"]:
            text = ""
        for mark, bad in (("!empty", ""), ("!null", None), ("!loop", "no no no no no no no"),
                          ("!same", "That is as it always was."), ("!number", 7),
                          ("!code", "Use `x = 1` for that.")):  # fmt: skip
            text = bad if mark in question else text
        reason = "length" if "!cut" in question else reason
        reply: Any = {"choices": [{"message": {"content": text}, "finish_reason": reason}]}
        for mark, other in (("!list", []), ("!none", None), ("!choices", {"choices": []}),
                            ("!error", {"error": "no"}), ("!msg", {"choices": [{}]})):  # fmt: skip
            reply = other if mark in question else reply
        data = b"{not json" if "!rubbish" in question else json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) + ("!short" in question) * 10))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def llm_server() -> Iterator[LlmServer]:
    server = LlmServer(("127.0.0.1", 0), _Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
