"""A client of the published demo's dialect: 30 ms frames in, audio out, interruption."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
socketio = pytest.importorskip("socketio")

from fo_core.dialogue.settings import DuplexConfig, TurnConfig  # noqa: E402
from fo_core.dialogue.states import StateRule  # noqa: E402
from fo_core.errors import DataError  # noqa: E402
from fo_core.server.socketio import read_audio  # noqa: E402

EAGER = {
    "states": StateRule(respond_threshold=0.0, dismiss_threshold=1.0),
    "duplex": DuplexConfig(vad="energy", turn=TurnConfig(interrupt="yield")),
}


def frames(wave: np.ndarray, rate: int = 16000) -> list[str]:
    """As the published clients send it: lists of bytes, 30 ms each."""
    pcm = (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()
    step = 2 * int(0.03 * rate)
    return [
        json.dumps({"audio": list(pcm[i : i + step]), "sample_rate": rate})
        for i in range(0, len(pcm), step)
    ]


def noise(seconds: float) -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal(int(16000 * seconds))


class Client:
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.io = socketio.AsyncClient(reconnection=False)
        self.got: list[tuple[str, Any]] = []
        told = ("stop_tts", "pause_tts", "resume_tts", "prompt_success", "out_time")
        for name in ("audio", "too_many_users", *told):
            self.io.on(name, lambda data=None, name=name: self.got.append((name, data)))

    def names(self) -> list[str]:
        return [name for name, _ in self.got]

    async def until(self, name: str, count: int = 1) -> None:
        async with asyncio.timeout(60):
            while self.names().count(name) < count:
                await asyncio.sleep(0.02)

    async def say(self, wave: np.ndarray) -> None:
        for frame in frames(wave):
            await self.io.emit("audio", frame)


def test_a_client_is_answered_interrupts_and_goes_on(serve: Any, mumbler: Any) -> None:
    async def talk(server: Any) -> None:
        client = Client()
        await client.io.connect(f"http://127.0.0.1:{server.port}?yield=1")
        await client.io.emit("prompt_text", "Be kind.")
        await client.until("prompt_success")
        await client.say(noise(0.5))  # not recording yet: nobody hears it
        await client.io.emit("recording-started")
        await client.say(np.concatenate([noise(0.8), np.zeros(8000)]))
        await client.until("audio")
        heard = next(data for name, data in client.got if name == "audio")
        assert isinstance(heard, bytes) and len(heard) % 2 == 0
        assert np.abs(np.frombuffer(heard, "<i2")).max() > 0
        await client.say(np.concatenate([noise(0.8), np.zeros(8000)]))
        await client.until("stop_tts")
        stopped = client.names().index("stop_tts")
        assert ("pause_tts", "pause") in client.got[:stopped]  # this client can
        await client.until("audio", client.names()[:stopped].count("audio") + 1)
        await client.io.emit("recording-stopped")
        await client.io.disconnect()

    with serve(mumbler, talk=EAGER) as server:
        asyncio.run(talk(server))
        assert server.empty()


def test_one_user_too_many_is_told_and_put_out(serve: Any, mumbler: Any) -> None:
    async def talk(server: Any) -> None:
        first, second = Client(), Client()
        await first.io.connect(f"http://127.0.0.1:{server.port}")
        await second.io.connect(f"http://127.0.0.1:{server.port}")
        await second.until("too_many_users")
        async with asyncio.timeout(10):
            await second.io.wait()
        await first.io.emit("prompt_text", "still here")
        await first.until("prompt_success")
        await first.io.disconnect()

    with serve(mumbler, users=1) as server:
        asyncio.run(talk(server))
        assert server.empty()


def test_rubbish_is_put_out_in_the_end_and_others_go_on(serve: Any, mumbler: Any) -> None:
    rubbish = [
        None,
        3,
        "",
        "{",
        "[]",
        "{}",
        '{"audio": 1}',
        '{"audio": [999], "sample_rate": 16000}',
    ]
    rubbish += ['{"audio": [1], "sample_rate": 16000}', '{"audio": [1, 2], "sample_rate": 1e99}']

    async def talk(server: Any) -> None:
        good, bad = Client(), Client()
        await good.io.connect(f"http://127.0.0.1:{server.port}")
        await bad.io.connect(f"http://127.0.0.1:{server.port}")
        await bad.io.emit("recording-started")
        for _ in range(12):
            for message in rubbish:
                await bad.io.emit("audio", message)
        async with asyncio.timeout(10):
            await bad.io.wait()
        await good.io.emit("prompt_text", "still here")
        await good.until("prompt_success")
        await good.io.disconnect()

    with serve(mumbler) as server:
        asyncio.run(talk(server))
        assert server.empty()


def test_a_flood_is_put_out(serve: Any, mumbler: Any) -> None:
    async def talk(server: Any) -> None:
        bad = Client()
        await bad.io.connect(f"http://127.0.0.1:{server.port}")
        for _ in range(60):
            await bad.io.emit("prompt_text", "again")
        async with asyncio.timeout(10):
            await bad.io.wait()

    with serve(mumbler, messages_per_second=1, burst=20) as server:
        asyncio.run(talk(server))
        assert server.empty()


@pytest.mark.parametrize(
    "message",
    ["x" * (2**20 + 1), "[" * 50_000, '{"audio": [], "sample_rate": true}', b"{}", {"audio": []}],
)
def test_messages_of_another_form(message: Any) -> None:
    with pytest.raises(DataError):
        read_audio(message)


def test_a_frame_is_read() -> None:
    wave, rate = read_audio(frames(np.full(480, 0.5))[0])
    assert rate == 16000 and len(wave) == 480 and abs(wave[0] - 0.5) < 1e-3
