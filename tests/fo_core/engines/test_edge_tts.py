"""The real ``edge_tts`` client against a service on the loopback that speaks its protocol.

Nothing of the client is replaced but the address. Each case would fail if the engine took what the
service does wrong for sound, gave up too early, or went on for ever.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("edge_tts")
from aiohttp import WSCloseCode, web

from fo_core.engines.endpoint import ServiceDown
from fo_core.engines.tts import edge_tts as module
from fo_core.errors import EngineError

RATE = 24000
SENTENCE = "The sky is blue today, said the old man."


def mp3(text: str) -> bytes:
    """60 ms of a tone for each letter as the service sends it: 48 kbit/s MP3, 24 kHz, mono.

    The encoder's first frame, which tells the length of a file, is not a part of a stream.
    """
    time_ = np.arange(int(RATE * 0.06 * len(text))) / RATE
    out = io.BytesIO()
    wave = 0.3 * np.sin(2 * np.pi * 220 * time_).astype(np.float32)
    settings = {"bitrate_mode": "CONSTANT", "compression_level": 0.75}
    soundfile.write(out, wave, RATE, format="MP3", **settings)
    data = out.getvalue()
    assert data[:3] == data[144:147] == b"\xff\xf3\x64"  # frames of 48 kbit/s
    return data[144:]


class Service:
    """One behaviour a connection, in turn; the last one stays."""

    def __init__(self) -> None:
        self.behaviours = ["speak"]
        self.calls: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.now = self.most = 0  # connections at the same time
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        assert self.ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        app = web.Application()
        app.router.add_get("/edge/v1", self.answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        self.loop.run_until_complete(self.runner.setup())
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        self.loop.run_until_complete(site.start())
        self.port = self.runner.addresses[0][1]
        self.ready.set()
        self.loop.run_forever()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        does = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        self.calls.append(does)
        if does.isdigit():  # refused before there is a web socket
            return web.Response(status=int(does), headers={"Retry-After": "0"})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.talk(socket, does)
        finally:
            self.now -= 1
        return socket

    async def talk(self, socket: web.WebSocketResponse, does: str) -> None:
        settings = (await socket.receive()).data
        assert "Path:speech.config" in settings and "audio-24khz-48kbitrate-mono-mp3" in settings
        ssml = (await socket.receive()).data
        assert "Path:ssml" in ssml
        said = unescape(re.search(r"<prosody[^>]*>(.*)</prosody>", ssml, re.S)[1])  # type: ignore[index]
        self.asked.append(
            {
                "text": said,
                "voice": re.search(r"<voice name='([^']*)'", ssml)[1],  # type: ignore[index]
                "rate": re.search(r"rate='([^']*)'", ssml)[1],  # type: ignore[index]
            }
        )
        await asyncio.sleep(0.05)
        if does == "hang":
            await asyncio.sleep(30)
        sentences = [s for s in re.split(r"(?<=[.!?])\s+", said) if s]
        sound = [mp3(s) for s in sentences]
        await socket.send_str(_text("turn.start", "{}"))
        await socket.send_str(_text("response", "{}"))
        if does == "close at once":
            await socket.close(code=WSCloseCode.GOING_AWAY)
            return
        at = 0.0
        for number, (sentence, data) in enumerate(zip(sentences, sound, strict=True)):
            if does == "odd path":
                await socket.send_str(_text("turn.surprise", "{}"))
            seconds = 0.06 * len(sentence)
            await socket.send_str(_text("audio.metadata", _boundary(sentence, at, seconds)))
            at += seconds
            if does == "no audio":
                continue
            if does == "rubbish":
                data = b"this is no MP3 at all" * 40
            if does == "close early":
                data = data[: len(data) // 3]
            for start in range(0, len(data), 720):
                await socket.send_bytes(_audio(data[start : start + 720]))
            if does == "close early":
                await socket.close(code=WSCloseCode.GOING_AWAY)
                return
            if does == "one sentence" and number == 0:
                await socket.close()
                return
        await socket.send_bytes(_audio(b"", kind=""))
        await socket.send_str(_text("turn.end", "{}"))


def _text(path: str, body: str) -> str:
    kind = "application/json; charset=utf-8"
    return f"X-RequestId:1\r\nContent-Type:{kind}\r\nPath:{path}\r\n\r\n{body}"


def _boundary(sentence: str, at: float, seconds: float) -> str:
    data = {
        "Offset": round(at * 1e7),
        "Duration": round(seconds * 1e7),
        "text": {"Text": sentence, "Length": len(sentence), "BoundaryType": "SentenceBoundary"},
    }
    return json.dumps({"Metadata": [{"Type": "SentenceBoundary", "Data": data}]})


def _audio(data: bytes, kind: str = "Content-Type:audio/mpeg\r\n") -> bytes:
    head = f"X-RequestId:1\r\n{kind}X-StreamId:2\r\nPath:audio\r\n".encode()
    return len(head).to_bytes(2, "big") + head + data


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    if "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile writes no MP3")
    made = Service()
    address = f"ws://127.0.0.1:{made.port}/edge/v1?TrustedClientToken=x"
    monkeypatch.setattr("edge_tts.communicate.WSS_URL", address)
    yield made
    made.stop()


def engine(**changes: Any) -> module.Engine:
    return module.Engine(**{"timeout": 10.0, "retries": 2, "pause": 0.01, **changes})


def test_a_sentence_comes_back_whole(service: Service) -> None:
    wave = engine().synthesize(SENTENCE, "zh-CN-XiaoxiaoNeural", 1.2)
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert len(wave) / RATE == pytest.approx(0.06 * len(SENTENCE), abs=0.15)
    assert 0.1 < np.abs(wave).max() <= 1.0
    (asked,) = service.asked
    assert asked["text"] == SENTENCE and asked["rate"] == "+20%"
    assert "(zh-CN, XiaoxiaoNeural)" in asked["voice"]  # the client's long form


def test_signs_of_xml_and_other_scripts_arrive_as_they_are(service: Service) -> None:
    engine().synthesize("Tom & Jerry <b> 你好 \x0b!", "en-US-AriaNeural")
    assert service.asked[0]["text"] == "Tom & Jerry <b> 你好  !"


def test_throttling_is_waited_out(service: Service) -> None:
    service.behaviours = ["429", "503", "speak"]
    assert len(engine().synthesize(SENTENCE)) > RATE
    assert service.calls == ["429", "503", "speak"]


def test_throttling_without_end_is_a_service_that_is_down(service: Service) -> None:
    service.behaviours = ["429"]
    with pytest.raises(ServiceDown, match=r"status 429.*piper.*lower the concurrency"):
        engine().synthesize(SENTENCE)
    assert len(service.calls) == 3


def test_a_403_is_asked_again_with_the_clock_set(service: Service) -> None:
    """The client itself asks once more, after it has read the service's clock."""
    service.behaviours = ["403", "speak"]
    assert len(engine(retries=0).synthesize(SENTENCE)) > RATE
    service.behaviours = ["403"]
    with pytest.raises(ServiceDown, match="status 403"):
        engine(retries=1).synthesize(SENTENCE)


def test_a_bad_request_is_not_asked_again(service: Service) -> None:
    service.behaviours = ["400"]
    with pytest.raises(EngineError, match="status 400"):
        engine().synthesize(SENTENCE)
    assert service.calls == ["400"]


@pytest.mark.parametrize("does", ["close early", "close at once", "no audio", "odd path"])
def test_a_broken_answer_is_asked_for_again(service: Service, does: str) -> None:
    service.behaviours = [does, "speak"]
    wave = engine().synthesize(SENTENCE)
    assert len(wave) / RATE == pytest.approx(0.06 * len(SENTENCE), abs=0.15)
    assert service.calls == [does, "speak"]


def test_half_an_answer_is_not_taken_for_a_whole_one(service: Service) -> None:
    """The client itself gives what came before the close as if it were everything."""
    service.behaviours = ["close early"]
    with pytest.raises(EngineError, match=r"Cut \(sound for"):
        engine().synthesize(SENTENCE)
    service.behaviours = ["one sentence"]
    with pytest.raises(EngineError, match=r"Cut \(only 'The first one\.' was said"):
        engine().synthesize("The first one. The second one is much longer than it.")
    assert len(service.calls) == 6


def test_no_audio_names_the_voice(service: Service) -> None:
    service.behaviours = ["no audio"]
    with pytest.raises(EngineError, match="NoAudioReceived.*check the voice's name") as caught:
        engine().synthesize(SENTENCE, "xx-XX-NobodyNeural")
    assert not isinstance(caught.value, ServiceDown)


def test_rubbish_is_no_sound(service: Service) -> None:
    service.behaviours = ["rubbish"]
    with pytest.raises(EngineError, match="no readable sound"):
        engine().synthesize(SENTENCE)


def test_a_hang_ends_at_the_time_limit(service: Service) -> None:
    service.behaviours = ["hang"]
    started = time.monotonic()
    with pytest.raises(ServiceDown, match="Timeout"):
        engine(timeout=0.3, retries=1).synthesize(SENTENCE)
    assert time.monotonic() - started < 10  # the hang itself is 30 s


def test_a_service_that_is_not_there_names_the_offline_engines(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_tts.communicate.WSS_URL", "ws://127.0.0.1:9/edge/v1?T=x")
    with pytest.raises(ServiceDown, match="out of reach.*piper.*internet connection"):
        engine().synthesize(SENTENCE)


def test_several_threads_ask_at_the_same_time(service: Service) -> None:
    one = engine(concurrency=4)
    with ThreadPoolExecutor(one.concurrency) as pool:
        waves = list(pool.map(one.synthesize, [f"{SENTENCE} Number {n}." for n in range(8)]))
    assert len(waves) == 8 and all(len(wave) > RATE for wave in waves)
    assert 2 <= service.most <= 4


def test_dialogues_are_spoken_through_all_that(service: Service, tmp_path: Path) -> None:
    """The step synthesize over a service that throttles, cuts off and says nothing now and then."""
    from data_prep.runner.run import RunConfig
    from data_prep.steps import synthesize
    from data_prep.steps.synthesize_turns import SynthesizeConfig, run
    from fo_core.config import load
    from fo_core.data import manifest

    options = {"timeout": 10.0, "retries": 3, "pause": 0.01}
    speaker = {"engine": "edge-tts", "voice": "en-US-AriaNeural", "options": options}
    cfg = load(SynthesizeConfig, {"users": [speaker], "assistants": [speaker]})
    rows = [
        {"id": f"d{n}", "turns": [{"user": f"Is it number {n}?", "assistant": f"It is {n}, yes."}]}
        for n in range(6)
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    service.behaviours = [
        "speak",
        "speak",
        "429",
        "close early",
        "no audio",
        "503",
        "odd path",
        "speak",
    ]
    synthesize._ENGINES.clear()
    report = run(cfg, source, tmp_path / "out", RunConfig(workers=1))
    items = manifest.read(tmp_path / "out" / "manifest.jsonl")
    assert report.made == 6 and len(items) == 12 and not report.rejected
    assert {"429", "503", "close early", "no audio", "odd path"} <= set(service.calls)
    assert 2 <= service.most <= 4
    for item in items:
        said = 0.06 * len(item.extra["spoken"])
        assert item.duration == pytest.approx(said, abs=0.2) and item.load_audio(16000).any()
