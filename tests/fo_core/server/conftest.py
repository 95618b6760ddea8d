"""Every event that we send is read strictly by the types of the openai package."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch

from fo_core.dialogue.settings import DialogueConfig, DuplexConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.dialogue.states import StateRule
from fo_core.sampling import SamplingConfig

pytest.importorskip("openai")


def _kinds() -> dict[str, Any]:
    from openai.types.realtime import RealtimeServerEvent

    union = get_args(RealtimeServerEvent)[0]
    return {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(union)}


KINDS = _kinds()
TALK = DialogueConfig(
    sampling=SamplingConfig(temperature=4.0, top_k=5),
    segmenter=SegmenterConfig(stops="aeiou.", min_tokens=3, max_tokens=24, careful=False),
    speaker=SpeakerConfig(
        max_tokens=30,
        vocoder=VocoderConfig(first_chunk=4, chunk=6, overlap=3, cut_window=201, onset=0.0),
    ),
    states=StateRule(respond_threshold=1.0, dismiss_threshold=1.0),
    duplex=DuplexConfig(vad="energy"),  # noise is speech to these tests
)


def check_event(event: dict[str, Any]) -> None:
    """Fail unless the protocol knows this event with all its required fields, rightly typed."""
    if event["type"].startswith("freeze_omni."):
        return
    assert event["type"] in KINDS, f"the protocol has no event {event['type']}"
    KINDS[event["type"]].model_validate({"event_id": "event_x", **event})


@pytest.fixture
def checked() -> Any:
    """A function that checks a list of events and gives their types."""

    def check(events: list[dict[str, Any]]) -> list[str]:
        for event in events:
            check_event(event)
        return [event["type"] for event in events]

    return check


@contextmanager
def running(model: Any, **limits: Any) -> Iterator[Server]:
    """A server in a thread of its own on a free port of loopback, with a tiny model."""
    import uvicorn

    from fo_core.config import replace
    from fo_core.dialogue.sessions.pool import Pool, PoolConfig
    from fo_core.models.freeze_omni import PARTS
    from fo_core.server.app import ServeConfig, make_app
    from fo_core.server.drain import Drain

    users = limits.pop("users", 8)
    dialogue = replace(TALK, **limits.pop("talk", {}))
    idle = limits.pop("idle", 600.0)
    cfg = ServeConfig(**limits)
    model.trained |= set(PARTS)  # random weights talk nonsense, but they talk
    seconds = {"session_seconds": cfg.session_seconds, "idle_seconds": idle}
    pool = Pool(model, dialogue, PoolConfig(max_sessions=users, **seconds))
    drain = Drain(2.0)
    app = make_app(pool, dialogue, "tiny", "Be brief.", cfg, drain)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", ws_max_size=cfg.message_bytes)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        listening = server.servers[0]
        leave = functools.partial(listening.get_loop().call_soon_threadsafe, drain.begin)
        yield Server(listening.sockets[0].getsockname()[1], pool, leave)
    finally:
        server.should_exit = True
        thread.join(20)
        pool.close()


@dataclass
class Server:
    port: int
    pool: Any
    leave: Any  # makes it begin to end

    def sessions(self) -> int:
        return self.pool.stats().sessions

    def empty(self, seconds: float = 10.0) -> bool:
        """Whether all sessions are gone, in the end."""
        until = time.monotonic() + seconds
        while self.sessions() and time.monotonic() < until:
            time.sleep(0.02)
        return not self.sessions()


@pytest.fixture(scope="session")
def talk_config() -> DialogueConfig:
    """How the tiny model talks."""
    return TALK


@pytest.fixture(scope="session")
def serve() -> Any:
    """``with serve(model, users=1) as server``."""
    return running


@pytest.fixture
def sdk() -> Any:
    """``sdk(server)`` is the stock client of the openai package, sent to this machine."""
    return _client


def _client(server: Server, key: str = "none") -> Any:
    from openai import AsyncOpenAI

    url = f"127.0.0.1:{server.port}/v1"
    return AsyncOpenAI(api_key=key, base_url=f"http://{url}", websocket_base_url=f"ws://{url}")


SENTENCES = ("How is the weather in Rome today?", "Please tell me more about it.", "Thank you.")


@pytest.fixture(scope="session")
def speech(tmp_path_factory: Any) -> list[Any]:
    """Three spoken sentences, files of 24 kHz; skips where no engine can speak."""
    from fo_core.engines.tts import TTS
    from fo_core.errors import FoError
    from fo_core.io import audio

    folder = tmp_path_factory.mktemp("speech")
    for name in ("hibari", "flite", "espeak-ng"):
        try:
            engine = TTS.load(name).Engine()
            waves = [engine.synthesize(text, engine.voices("en")[0]) for text in SENTENCES]
        except (FoError, ImportError, IndexError):
            continue
        paths = [folder / f"{number}.wav" for number in range(len(waves))]
        for path, wave in zip(paths, waves, strict=True):
            audio.write(path, audio.resample(wave, engine.rate, 24000), 24000)
        return paths
    pytest.skip("no engine speaks here: hibari, flite, espeak-ng")


@pytest.fixture(scope="session")
def mumbler() -> Any:
    """A tiny model that says letters and never ends by itself."""
    import torch
    from tiny_models import tiny_model

    model = tiny_model().eval()
    ids = model.llm.tokenizer("abcdefghijklmnopqrstuvwxyz .", add_special_tokens=False)
    table = model.llm.embedding_table
    with torch.no_grad():
        silent = torch.ones(len(table), dtype=torch.bool)
        silent[ids["input_ids"]] = False
        table[silent] *= 0.01
        model.speech_decoder.out.bias[model.speech_decoder.eos] = -0.1
    return model


@pytest.fixture
def scripted(monkeypatch: Any, mumbler: Any) -> Any:
    """``scripted("first answer", "second")``: what the LLM writes next, in place of its own."""
    from fo_core.dialogue.speech.writer import Writer
    from fo_core.models.llm import chat

    texts: list[str] = []
    choose, tokenizer = Writer._choose, mumbler.llm.tokenizer

    def scripted_choose(self: Writer) -> torch.Tensor:
        if self._forced:
            return choose(self)
        if not hasattr(self, "script"):
            ids = [*chat.encode(tokenizer, texts.pop(0)), self._llm.end_id] if texts else None
            self.script = ids
        return torch.tensor([self.script.pop(0)]) if self.script else choose(self)

    monkeypatch.setattr(Writer, "_choose", scripted_choose)
    return lambda *said: texts.extend(said)


@pytest.fixture(scope="module")
def server(mumbler: Any) -> Iterator[Server]:
    with running(mumbler) as found:
        yield found
