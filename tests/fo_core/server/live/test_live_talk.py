"""A session of the Live protocol through the stock client of the openai package."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai.types.live")
from live_events import check
from live_talker import EAGER, HEARD, LONG, NOISE, RATE, RULE, SAID, Talker, talker

from fo_core.dialogue.settings import DuplexConfig
from fo_core.server.wire import WireFormat


@pytest.fixture(scope="module")
def eager(serve: Any, mumbler: Any) -> Iterator[Any]:
    """A server whose model answers any sound."""
    with serve(mumbler, talk=EAGER) as found:
        yield found


def conversation(server: Any) -> Any:
    """What the model of the only session has read."""
    (slot,) = server.pool._slots.values()
    return slot.duplex.conversation


def words(user: Talker, kind: str) -> str:
    return "".join(event["delta"] for event in user.of(kind))


def test_start_speak_hear_interrupt_close(eager: Any, sdk: Any, scripted: Any) -> None:
    scripted(LONG, *["b."] * 6)  # the model begins some in vain

    async def talk() -> Talker:
        async with talker(sdk(eager)) as user:
            user.say(NOISE[: round(0.8 * RATE)])
            await user.audible()
            await asyncio.sleep(0.8)
            seen = len(user.events)
            user.say(np.tile(NOISE, 2))  # over the answer
            await user.until(HEARD, seen)
            kept = conversation(eager).turns[0].answer.text
            assert words(user, SAID) == kept and kept != LONG and LONG.startswith(kept)
            await user.until(SAID, len(user.events))
            assert words(user, SAID) == kept + "b."
            await user.connection.session.close(event_id="bye")
            await user.until("session.closed")
            return user

    user = asyncio.run(talk())
    kinds = check(user.events)
    assert kinds[:2] == ["session.started", "info"] and kinds[-1] == "session.closed"
    last = user.events[-1]
    assert (last["reason"], last["client_event_id"]) == ("close_requested", "bye")
    assert last["session"]["id"] == user.events[0]["session"]["id"]
    assert last["usage"]["seconds"] == pytest.approx(user.times[-1] - user.times[0], abs=0.3)
    heard = user.of(HEARD)
    assert len(heard) > 1 and heard[0]["start_ms"] < 200 and 600 < heard[0]["end_ms"] < 1100
    spans = [(e["start_ms"], e["end_ms"]) for e in user.of(SAID)]
    assert all(start <= end for start, end in spans) and spans == sorted(spans)
    assert eager.empty()


def test_an_interruption_is_silent_at_once(eager: Any, sdk: Any, scripted: Any) -> None:
    """There is no event that says so: what was not sent is dropped, so the stream falls silent."""
    scripted(LONG, LONG)

    async def talk() -> None:
        async with talker(sdk(eager)) as user:
            user.say(NOISE[: round(0.8 * RATE)])
            await user.audible()
            before = len(user.sound())
            await asyncio.sleep(0.6)
            assert np.abs(user.sound()[before:]).max() > 1e-3
            onset = len(user.sound())
            user.say(np.tile(NOISE, 4))
            await asyncio.sleep(1.2)
            after = user.sound()[onset:]
            voiced = np.abs(after[:RATE]).reshape(-1, RATE // 25).max(axis=1) > 1e-3
            assert not voiced[-8:].all()  # the voice gave way within the second

    asyncio.run(talk())
    assert eager.empty()


def test_a_recording_is_answered_with_the_place_of_its_words(
    serve: Any, mumbler: Any, sdk: Any, speech: list[Path], scripted: Any
) -> None:
    from fo_core.io import audio

    wave = np.asarray(audio.read(speech[0], RATE), np.float32).reshape(-1)
    scripted(*["abc."] * 8)  # the eager model answers in the middle of it, too

    async def talk(server: Any) -> Talker:
        async with talker(sdk(server)) as user:
            await asyncio.sleep(0.3)
            user.say(wave)
            await user.until(SAID)
            return user

    talk_config = {"states": RULE, "duplex": DuplexConfig(vad="auto")}
    with serve(mumbler, talk=talk_config) as server:
        user = asyncio.run(talk(server))
        assert server.empty()
    check(user.events)
    assert words(user, SAID) == "abc."
    heard = user.of(HEARD)
    assert heard and 200 < heard[0]["start_ms"] < heard[0]["end_ms"] < 700 + 1000 * len(wave) / RATE


@pytest.mark.parametrize(
    ("kind", "rate"), [("audio/pcm", 16000), ("audio/pcmu", 8000), ("audio/pcma", 8000)]
)
def test_audio_comes_without_a_break_in_real_time_and_in_the_format_that_was_asked_for(
    eager: Any, sdk: Any, scripted: Any, kind: str, rate: int
) -> None:
    """The client sends its speech at once and nothing else: the model hears silence after it."""
    scripted("abc.")
    fmt = WireFormat(kind, rate)  # type: ignore[arg-type]

    async def talk() -> Talker:
        session = {"audio": {"format": {"type": kind, "rate": rate}}}
        async with talker(sdk(eager), session, speak=False) as user:
            speech = base64.b64encode(fmt.encode(NOISE[: round(0.8 * rate)])).decode()
            await user.connection.session.input_audio.append(audio=speech)
            await user.until(SAID)
            return user

    user = asyncio.run(talk())
    check(user.events)
    assert user.events[0]["session"]["audio"]["format"] == {"type": kind, "rate": rate}
    came = [n for n, e in enumerate(user.events) if e["type"] == "session.output_audio.delta"]
    waves = [fmt.decode(base64.b64decode(user.events[n]["delta"])) for n in came]
    seconds = sum(map(len, waves)) / rate
    assert seconds == pytest.approx(user.times[came[-1]] - user.times[0], abs=0.15)
    sound = np.concatenate(waves)
    loud = np.flatnonzero(np.abs(sound) > 1e-3)
    (said,) = user.of(SAID)
    assert 1000 * loud[0] / rate == pytest.approx(said["start_ms"], abs=150)
    assert 1000 * loud[-1] / rate == pytest.approx(said["end_ms"], abs=150)
    assert not np.abs(sound[: loud[0] // 2]).max() > 1e-3  # silence is sent, too


def test_muted_is_silent_and_unmuted_is_heard(eager: Any, sdk: Any, scripted: Any) -> None:
    scripted("abc.")

    async def talk() -> Talker:
        async with talker(sdk(eager)) as user:
            audio = user.connection.session.input_audio
            await audio.mute(event_id="one")
            await user.until("session.input_audio.muted")
            user.say(NOISE[: round(0.8 * RATE)])
            await asyncio.sleep(2)
            assert not user.of(HEARD) and not np.abs(user.sound()).max() > 1e-3
            await audio.unmute(event_id="two")
            await user.until("session.input_audio.unmuted")
            user.say(NOISE[: round(0.8 * RATE)])
            await user.until(SAID)
            return user

    user = asyncio.run(talk())
    check(user.events)
    assert user.of("session.input_audio.muted")[0]["client_event_id"] == "one"
    assert user.of("session.input_audio.unmuted")[0]["client_event_id"] == "two"


def test_instructions_history_voice_and_model_are_taken_and_told(
    eager: Any, sdk: Any, scripted: Any
) -> None:
    scripted("abc.")

    def message(role: str, text: str) -> dict[str, Any]:
        kind = "output_text" if role == "assistant" else "input_text"
        return {"role": role, "content": [{"type": kind, "text": text}]}

    history = [
        message("developer", "It rains."),
        message("user", "abc abc"),
        message("assistant", "cba"),
    ]
    session = {"model": "gpt-live-1", "instructions": "Speak of Rome.", "input": history}
    session |= {"audio": {"output": {"voice": "willow"}}, "safety_identifier": "x"}
    session |= {"delegation": {"type": "client"}, "store": False, "triggers": []}

    async def talk() -> Talker:
        async with talker(sdk(eager), session) as user:
            await asyncio.sleep(0.3)
            append = user.connection.session.instructions.append
            await append(content="Be kind.", delegation_id=None, event_id="more")
            await user.until("session.instructions.appended")
            user.say(NOISE[: round(0.8 * RATE)])
            await user.until(SAID)
            now = conversation(eager)
            assert now.system == "Speak of Rome.\nIt rains.\nBe kind."
            assert [turn.answer.text for turn in now.turns] == ["cba", "abc."]
            await user.connection.session.update(session={"delegation": {"type": "client"}})
            await user.until("session.updated")
            return user

    user = asyncio.run(talk())
    check(user.events)
    started, updated = user.events[0]["session"], user.of("session.updated")[0]["session"]
    assert started["model"] == "tiny" and started["input"] == history
    assert started["audio"]["output"]["voice"] == "default" and started["delegation"] is None
    assert started["instructions"] == "Speak of Rome.\nIt rains."
    assert updated["instructions"] == started["instructions"] + "\nBe kind."
    appended = user.of("session.instructions.appended")[0]
    assert appended["client_event_id"] == "more"
    assert 200 < appended["start_ms"] == appended["end_ms"] < 1500
    notes = {event["code"]: event["message"] for event in user.of("info")}
    assert "gpt-live-1" in notes["model_substituted"] and "willow" in notes["voice_substituted"]
    assert {"delegation_unavailable", "safety_identifier_unused", "developer_messages"} <= set(
        notes
    )
    assert not user.of("error")
    ratio = user.of("session.usage.updated")[-1]["context_window"]["usage_ratio"]
    assert 0 < ratio < 1
