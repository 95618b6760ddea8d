"""The engine ``openai`` against an HTTP service on the loopback that behaves well, badly or not."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import soundfile

from fo_core.engines.endpoint import ServiceDown
from fo_core.engines.tts import TTS
from fo_core.engines.tts.openai import Engine
from fo_core.errors import EngineError

RATE = 22050  # of the service; the engine gives 24 kHz


class Service(ThreadingHTTPServer):
    """One behaviour a request, in turn; the last one stays."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours = ["speak"]
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append({"path": self.path, **body})
            server.headers.append(dict(self.headers))
            does = server.behaviours.pop(0) if len(server.behaviours) > 1 else server.behaviours[0]
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            self.answer(does, body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.now -= 1

    def answer(self, does: str, body: dict[str, Any]) -> None:
        if does == "hang":
            time.sleep(3)
        if does.isdigit():
            return self.send(int(does), b'{"error": {"message": "no such voice"}}')
        size = int(RATE * 0.06 * len(body["input"]) / body["speed"])
        wave = 0.3 * np.sin(np.arange(size) * 0.06).astype(np.float32)
        out = io.BytesIO()
        if body["response_format"] == "pcm":
            data = (wave * 32767).astype("<i2").tobytes() + b"\0"
        else:
            kind = {"mp3": "MP3", "flac": "FLAC", "wav": "WAV"}[body["response_format"]]
            soundfile.write(out, wave, RATE, format=kind)
            data = out.getvalue()
        if does == "json":
            data = b'{"audio": "not like this"}'
        if does == "empty":
            data = b""
        if does == "stereo":
            out = io.BytesIO()
            soundfile.write(out, np.stack([wave, wave], axis=1), RATE, format="WAV")
            data = out.getvalue()
        time.sleep(0.03)
        self.send(200, data, len(data) + 100 if does == "cut" else None)

    def send(self, status: int, data: bytes, said: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if said is None else said))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.shutdown()
    made.server_close()


def engine(service: Service, **changes: Any) -> Engine:
    settings = {"model": "tiny", "tries": 3, "pause": 0.01, "timeout": 5.0, **changes}
    return Engine(base_url=service.url + "/", **settings)


def test_a_sentence_comes_back_at_24_khz(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    wave = engine(service, instructions="calm").synthesize("The sky is blue.", "bob", 1.25)
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert len(wave) / 24000 == pytest.approx(0.06 * 16 / 1.25, abs=0.01)
    (asked,) = service.asked
    assert asked == {
        "path": "/v1/audio/speech",
        "model": "tiny",
        "input": "The sky is blue.",
        "voice": "bob",
        "response_format": "wav",
        "speed": 1.25,
        "instructions": "calm",
    }
    assert service.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("form", ["flac", "mp3", "pcm"])
def test_each_format_is_read(service: Service, form: str) -> None:
    if form == "mp3" and "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile writes no MP3")
    wave = engine(service, response_format=form).synthesize("The sky is blue.")
    rate = 24000 if form != "pcm" else RATE  # raw samples are taken to be at 24 kHz
    assert len(wave) / rate == pytest.approx(0.96, abs=0.06)


def test_two_channels_become_one(service: Service) -> None:
    service.behaviours = ["stereo"]
    assert engine(service).synthesize("The sky is blue.").ndim == 1


@pytest.mark.parametrize("does", ["429", "500", "cut"])
def test_a_busy_service_is_asked_again(service: Service, does: str) -> None:
    service.behaviours = [does, "speak"]
    assert len(engine(service).synthesize("The sky is blue.")) > 20000
    assert len(service.asked) == 2


def test_a_service_without_answer_is_down(service: Service) -> None:
    service.behaviours = ["503"]
    with pytest.raises(ServiceDown, match=r"no answer after 3 tries \(status 503\)"):
        engine(service).synthesize("Hello.")
    service.behaviours = ["hang"]
    with pytest.raises(ServiceDown, match="timed out"):
        engine(service, timeout=0.1, tries=2).synthesize("Hello.")
    with pytest.raises(ServiceDown, match="refused"):
        Engine(base_url="http://127.0.0.1:9/v1", tries=2, pause=0.01).synthesize("Hello.")


def test_a_refusal_is_not_asked_again(service: Service) -> None:
    service.behaviours = ["400"]
    with pytest.raises(EngineError, match="status 400.*no such voice") as caught:
        engine(service).synthesize("Hello.", "nobody")
    assert len(service.asked) == 1 and not isinstance(caught.value, ServiceDown)


@pytest.mark.parametrize("does", ["json", "empty"])
def test_what_is_no_sound_is_shown(service: Service, does: str) -> None:
    service.behaviours = [does]
    with pytest.raises(EngineError, match="no readable sound.*response_format 'wav'"):
        engine(service).synthesize("Hello.")


def test_several_threads_ask_at_the_same_time(service: Service) -> None:
    one = engine(service, concurrency=4)
    with ThreadPoolExecutor(one.concurrency) as pool:
        assert all(len(w) for w in pool.map(one.synthesize, ["Hello there."] * 12))
    assert 2 <= service.most <= 4


def test_no_address_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(EngineError, match="set OPENAI_BASE_URL"):
        TTS.load("openai").Engine()
    with pytest.raises(EngineError, match="'nonsense' is not an address"):
        TTS.load("openai").Engine(base_url="nonsense")
