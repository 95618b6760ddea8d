"""Turns of a talk become the protocol's events in the documented order."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from fo_core.dialogue import events as ev
from fo_core.dialogue.settings import TurnConfig
from fo_core.server.items import Item
from fo_core.server.responses import Wanted
from fo_core.server.settings import SessionSettings, detection
from fo_core.server.translate import Asked, Translator

OPEN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
]
CLOSE = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
HEARD = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]


def make(detect: dict[str, Any] | None = None, **changes: Any) -> Translator:
    asked = {"type": "semantic_vad"} if detect is None else (detect or None)
    shown, turn = detection(asked, TurnConfig())
    settings = SessionSettings("demo", "", turn, shown)
    for name, value in changes.items():
        setattr(settings, name, value)
    return Translator(lambda: settings)


def run(translator: Translator, events: list[ev.DuplexEvent]) -> list[dict[str, Any]]:
    return [out for event in events for out in translator.translate(event)]


def asked(turn: int, start: int = 16000, how: Any = "respond") -> list[ev.DuplexEvent]:
    return [
        ev.SpeechStarted(turn, start),
        ev.ChunkState(turn, 0.9, 0.05, 0.05, False),
        ev.TurnEnded(turn, how, start, start + 16000, time=10.0),
        ev.Transcript(turn, "what is this", at=start + 16000),
    ]


def answered(turn: int, status: Any = "completed") -> list[ev.DuplexEvent]:
    audio = np.full(12000, 0.25, np.float32)
    return [
        ev.ReplyStarted(turn),
        ev.TextDelta(turn, 0, "It is "),
        ev.AudioDelta(turn, 0, 0, audio, time=10.5),
        ev.TextDelta(turn, 1, "a test."),
        ev.AudioDelta(turn, 1, 12000, audio, time=11.0),
        ev.ReplyDone(turn, status, "It is a test.", 24000),
    ]


def test_a_spoken_turn_and_its_reply(checked: Any) -> None:
    out = run(make(transcribe={"model": "self"}), asked(0) + answered(0))
    types = checked(out)
    said = [f"conversation.item.input_audio_transcription.{x}" for x in ("delta", "completed")]
    deltas = ["response.output_audio_transcript.delta", "response.output_audio.delta"] * 2
    assert types == HEARD + said + OPEN + deltas + CLOSE
    started, stopped = out[0], out[1]
    assert (started["audio_start_ms"], stopped["audio_end_ms"]) == (1000, 2000)
    assert len({e["item_id"] for e in out[:3]} | {out[3]["item"]["id"]}) == 1
    done = out[-1]["response"]
    assert done["status"] == "completed"
    assert done["output"][0]["content"][0]["transcript"] == "It is a test."
    assert done["metadata"] == {"first_audio_ms": "500"}
    pcm = b"".join(
        base64.b64decode(e["delta"]) for e in out if e["type"] == "response.output_audio.delta"
    )
    assert np.frombuffer(pcm, "<i2").tolist() == [round(0.25 * 32767)] * 24000
    ids = [e["item"]["id"] for e in out if e["type"] == "conversation.item.added"]
    before = [e["previous_item_id"] for e in out if e["type"] == "conversation.item.added"]
    assert before == [None, ids[0]]


def test_a_cough_over_the_answer_is_never_heard_of(checked: Any) -> None:
    translator = make()
    run(translator, asked(0) + answered(0)[:3])
    cough = [ev.SpeechStarted(1, 50000), ev.TurnEnded(1, "dismiss", 50000, 52000)]
    assert run(translator, cough) == []
    rest = checked(run(translator, answered(0)[3:]))
    assert rest[-1] == "response.done"


def test_a_cough_in_silence_is_told_and_cleared(checked: Any) -> None:
    out = run(make(), [ev.SpeechStarted(0, 0), ev.TurnEnded(0, "dismiss", 0, 8000)])
    kinds = ["speech_started", "speech_stopped", "cleared"]
    assert checked(out) == [f"input_audio_buffer.{kind}" for kind in kinds]


def test_giving_way_and_going_on_is_told() -> None:
    translator = make()
    first = run(translator, asked(0) + answered(0)[:3])
    item = next(e["item"]["id"] for e in first if e["type"] == "response.output_item.added")
    out = run(
        translator,
        [
            ev.Yielded(0, "pause", 32000, 6000),
            ev.SpeechStarted(1, 32000),
            ev.TurnEnded(1, "dismiss", 32000, 36000),
            ev.Resumed(0, 6000),
        ],
    )
    at = {"item_id": item, "audio_end_ms": 250}
    assert out == [
        {"type": "freeze_omni.playback_yielded", **at, "by": "pause", "audio_start_ms": 2000},
        {"type": "freeze_omni.playback_resumed", **at},
    ]


def test_a_long_voice_is_told_when_it_has_stopped_the_answer(checked: Any) -> None:
    """Clients stop playing at ``speech_started``."""
    translator = make()
    run(translator, asked(0) + answered(0))
    assert run(translator, [ev.SpeechStarted(1, 50000)]) == []
    out = run(translator, [ev.Interrupted(0, "turn_detected", 12000, "It is")])
    assert checked(out) == [HEARD[0], "conversation.item.truncated"]
    later = [ev.TurnEnded(1, "respond", 50000, 90000), ev.Transcript(1, "stop it")]
    assert checked(run(translator, later)) == HEARD[1:]


def test_a_translator_forgets_old_turns() -> None:
    translator = make()
    for turn in range(2000):
        run(translator, asked(turn) + answered(turn) + [ev.Played(turn)])
    kept = [v for v in vars(translator).values() if isinstance(v, dict | set)]
    assert kept and all(len(found) <= 300 for found in kept)


def test_an_interruption_cancels_and_keeps_what_was_played(checked: Any) -> None:
    translator = make()
    first = run(translator, asked(0) + answered(0)[:3])
    reply = next(e["item"]["id"] for e in first if e["type"] == "response.output_item.added")
    out = run(
        translator,
        [
            ev.SpeechStarted(1, 50000),
            ev.TurnEnded(1, "respond", 50000, 60000),
            ev.Interrupted(0, "turn_detected", 6000, "It is"),
            ev.ReplyDone(0, "cancelled", "It is ", 12000),
            ev.Transcript(1, "stop"),
            *answered(1),
        ],
    )
    types = checked(out)
    assert types == HEARD + CLOSE + ["conversation.item.truncated"] + OPEN + types[16:]
    cancelled = out[10]["response"]
    assert cancelled["status"] == "cancelled"
    assert cancelled["status_details"]["reason"] == "turn_detected"
    assert (out[11]["item_id"], out[11]["audio_end_ms"]) == (reply, 250)
    assert translator.conversation.get(reply).text == "It is"


def test_an_interruption_while_only_playing_truncates(checked: Any) -> None:
    translator = make()
    run(translator, asked(0) + answered(0))
    out = run(translator, [*asked(1)[:3], ev.Interrupted(0, "turn_detected", 12000, "It is")])
    assert checked(out) == HEARD + ["conversation.item.truncated"]


def test_after_the_answer_was_played_a_voice_is_told_at_once(checked: Any) -> None:
    translator = make()
    run(translator, asked(0) + answered(0) + [ev.Played(0)])
    assert checked(run(translator, [ev.SpeechStarted(1, 90000)])) == HEARD[:1]


def test_server_vad_tells_of_every_voice(checked: Any) -> None:
    translator = make({"type": "server_vad"})
    run(translator, asked(0, how="silence") + answered(0)[:3])
    out = run(
        translator,
        [
            ev.SpeechStarted(1, 50000),
            ev.Interrupted(0, "turn_detected", 100, ""),
            ev.ReplyDone(0, "cancelled", "It is ", 12000),
            ev.SpeechStopped(1, 55000),
            ev.TurnEnded(1, "silence", 50000, 55000),
        ],
    )
    types = checked(out)
    assert types[:1] == HEARD[:1] and types[-4:] == HEARD[1:]


def test_a_manual_turn(checked: Any) -> None:
    translator = make({})
    commit = translator.ask(Asked("e1"))
    out = run(translator, [ev.TurnEnded(0, "commit", 0, 16000, cause=commit)])
    assert checked(out) == HEARD[2:]
    respond = translator.ask(Asked("e2", Wanted(True, 9, {"mine": "1"})))
    events = answered(0)
    for event in events:
        event.cause = respond
    out = run(translator, events)
    assert checked(out)[:4] == OPEN
    assert out[0]["response"]["max_output_tokens"] == 9
    assert out[-1]["response"]["metadata"]["mine"] == "1"


def test_a_typed_turn_answered_in_text(checked: Any) -> None:
    translator = make(speak=False)
    item = Item("typed", "user", None, "hello", spoken=False)
    types = checked(list(translator.user(item)))
    assert types == HEARD[3:]
    typed = translator.ask(Asked(item=item))
    ended = [ev.TurnEnded(0, "text", 0, 0, cause=typed), ev.Transcript(0, "hello", cause=typed)]
    out = run(translator, [*ended, *answered(0)])
    types = checked(out)
    assert item.turn == 0
    assert types == [
        *OPEN,
        *["response.output_text.delta"] * 2,
        "response.output_text.done",
        *CLOSE[2:],
    ]
    assert out[-1]["response"]["output"][0]["content"][0]["type"] == "output_text"


@pytest.mark.parametrize(
    ("status", "reason"), [("incomplete", "max_output_tokens"), ("cancelled", "client_cancelled")]
)
def test_replies_that_end_early(status: str, reason: str, checked: Any) -> None:
    out = run(make(), asked(0) + answered(0, status))
    checked(out)
    done = out[-1]["response"]
    assert (done["status"], done["status_details"]["reason"]) == (status, reason)
    assert done["output"][0]["status"] == "incomplete"


def test_a_model_that_fails(checked: Any) -> None:
    events = [
        *answered(0)[:3],
        ev.Error("model", "it broke"),
        ev.ReplyDone(0, "failed", "It", 12000),
    ]
    out = run(make(), asked(0) + events)
    types = checked(out)
    assert types.count("error") == 1 and types[-1] == "response.done"
    done = out[-1]["response"]
    assert done["status_details"]["error"]["message"] == "it broke"


def test_errors_name_the_event_that_caused_them(checked: Any) -> None:
    translator = make()
    first, second = translator.ask(Asked("e1")), translator.ask(Asked("e2"))
    errors = [
        ev.Error("no_reply", "no", cause=second),
        ev.Error("empty_commit", "empty", cause=first),
    ]
    out = run(translator, errors)
    checked(out)
    assert [e["error"]["event_id"] for e in out] == ["e2", "e1"]
    codes = [e["error"]["code"] for e in out]
    assert codes == ["response_cancel_not_active", "input_audio_buffer_commit_empty"]


def test_states_are_sent_only_when_asked_for() -> None:
    assert run(make(), [ev.ChunkState(0, 0.1, 0.8, 0.1, False)]) == []
    shown, turn = detection({"type": "semantic_vad"}, TurnConfig())
    translator = Translator(lambda: SessionSettings("m", "", turn, shown), states=True)
    (state,) = run(translator, [ev.ChunkState(0, 0.1, 0.8, 0.1, False, at=32000)])
    assert (state["state"], state["audio_end_ms"]) == ("respond", 2000)
