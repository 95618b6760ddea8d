"""Recognisers by name; an LLM judge behind a real (local) endpoint that may go down."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from eval.harness import Evaluation, Pass, run
from eval.judges import JudgeSpec, LLMJudge, check, grade_prompt, read_grade
from eval.spoken_qa import _graded
from fo_core.engines import endpoint as endpoint_calls
from fo_core.errors import EngineError


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Yes", True),
        ("no.", False),
        ("<think>no, maybe yes</think>\n**Yes**", True),
        ("Yes and no", None),
        ("I cannot tell", None),
        ("", None),
        ("Nothing is known", None),
    ],
)
def test_grades(text, grade):
    assert read_grade(text) is grade


def test_a_prompt_holds_everything_and_not_a_hundred_aliases():
    (message,) = grade_prompt("Who?", [f"alias {n}" for n in range(100)], "")
    assert "Who?" in message["content"] and "(nothing)" in message["content"]
    assert "alias 19" in message["content"] and "alias 20" not in message["content"]


def test_a_result_names_its_judge():
    pytest.importorskip("faster_whisper")
    key = JudgeSpec().key()
    assert "tiny.en" in key["model"] and key["version"].startswith("faster-whisper 1")
    assert JudgeSpec(model="a/b").key()["model"] == "a/b"


def test_a_judge_that_is_not_installed_says_what_to_do(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "funasr", None)
    monkeypatch.delitem(__import__("sys").modules, "fo_core.engines.asr.funasr", raising=False)
    with pytest.raises(EngineError, match="'funasr' needs the package 'funasr'.*pip install"):
        check("funasr")
    with pytest.raises(EngineError, match="did you mean 'whisper'"):
        check("wisper")


def test_a_judge_of_another_language_is_refused():
    pytest.importorskip("faster_whisper")
    pytest.importorskip("pocketsphinx")
    with pytest.raises(EngineError, match="tiny.en does not hear 'zh'.*--judge-model"):
        JudgeSpec(language="zh").open()
    with pytest.raises(EngineError, match="pocketsphinx does not have the language 'zh'"):
        JudgeSpec("pocketsphinx", language="zh").open()


class Endpoint(BaseHTTPRequestHandler):
    """Says yes to replies with "Paris"; is gone after so many questions."""

    left = 10**6

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        type(self).left -= 1
        if type(self).left < 0:
            self.send_response(503)
            self.end_headers()
            return
        said = "Yes" if "Reply to grade: Paris" in text else "No"
        reply = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setattr(endpoint_calls.time, "sleep", lambda seconds: None)
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    Endpoint.left = 10**6


ROWS = [
    {"id": f"q{n}", "question": "?", "answers": ["Paris"], "answer": "Paris" if n % 2 else "Rome"}
    for n in range(6)
]


def graded(url):
    judge = LLMJudge("m", url)
    work = Pass("llm-judge", judge.key(), lambda: _graded(judge, {"answer": "answer"}), batch=2)
    return Evaluation("e", [work], lambda row: {"right": (row["grade_answer"], 1)})


def test_an_llm_grades(endpoint, tmp_path):
    found = run(graded(endpoint), ROWS, tmp_path)
    assert found["metrics"]["right"]["value"] == 0.5


def test_an_endpoint_that_goes_down_in_the_middle(endpoint, tmp_path):
    Endpoint.left = 4
    with pytest.raises(EngineError, match="llm-judge stopped after 4 of 6 items.*goes on"):
        run(graded(endpoint), ROWS, tmp_path)
    assert json.loads((tmp_path / "overview.json").read_text())["items"] == 4
    Endpoint.left = 2  # enough for the two that are missing, and for no more
    assert run(graded(endpoint), ROWS, tmp_path)["metrics"]["right"]["value"] == 0.5


def test_no_address_is_said_before_any_work(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(EngineError, match="no endpoint.*OPENAI_BASE_URL"):
        LLMJudge("m").check()


def test_a_judge_writes_no_more_than_anybody_could_have_said(monkeypatch):
    pytest.importorskip("faster_whisper")
    ears = JudgeSpec().open()
    limits = []
    hear = ears._model.transcribe

    def watched(*args, **options):
        limits.append(options["max_new_tokens"])
        return hear(*args, **options)

    monkeypatch.setattr(ears._model, "transcribe", watched)
    for seconds in (0.1, 3.0, 45.0):
        ears.transcribe(np.zeros(int(16000 * seconds), dtype=np.float32))
    assert limits == [11, 46, 370]
