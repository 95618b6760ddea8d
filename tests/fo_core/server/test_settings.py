from __future__ import annotations

from typing import Any

import pytest

from fo_core.dialogue.settings import TurnConfig
from fo_core.server.messages import Refused, read_event, read_message
from fo_core.server.settings import SessionSettings, detection, for_player, own_detection
from fo_core.server.wire import WireFormat


@pytest.fixture
def settings() -> SessionSettings:
    shown, turn = detection({"type": "semantic_vad"}, TurnConfig())
    return SessionSettings("demo", "Be brief.", turn, shown)


def test_the_first_session_is_what_the_protocol_knows(settings: SessionSettings) -> None:
    from openai.types.realtime import RealtimeSessionCreateRequest
    from openai.types.realtime.realtime_session_create_response import RealtimeSessionCreateResponse

    data = settings.to_dict("sess_1", 10)
    RealtimeSessionCreateResponse.model_validate(data)
    RealtimeSessionCreateRequest.model_validate(data)
    assert data["audio"]["input"]["turn_detection"]["type"] == "semantic_vad"


@pytest.mark.parametrize(
    ("asked", "ours"),
    [
        (None, {"detect": "manual", "answer": False}),
        (
            {"type": "semantic_vad", "eagerness": "high"},
            {
                "detect": "semantic",
                "end_of_turn_timeout_ms": 2000,
                "interrupt": "yield",
                "answer": True,
            },
        ),
        (
            {"type": "semantic_vad", "interrupt_response": False, "create_response": False},
            {"detect": "semantic", "interrupt": "never", "answer": False},
        ),
        (
            {"type": "server_vad", "silence_duration_ms": 300, "threshold": 0.7},
            {"detect": "server", "silence_ms": 300, "threshold": 0.7, "interrupt": "voice"},
        ),
        ({"type": "server_vad", "idle_timeout_ms": 5000}, {"idle_ms": 5000}),
    ],
)
def test_turn_detection(asked: Any, ours: dict[str, Any]) -> None:
    shown, turn = detection(asked, TurnConfig())
    assert {name: getattr(turn, name) for name in ours} == ours
    assert (shown is None) == (asked is None)


def test_an_update_changes_what_it_names_only(settings: SessionSettings) -> None:
    new = settings.updated(
        {
            "type": "realtime",
            "output_modalities": ["text"],
            "max_output_tokens": 20,
            "audio": {
                "input": {"format": {"type": "audio/pcm", "rate": 16000}},
                "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
            },
        }
    )
    assert new.audio_in == WireFormat("audio/pcm", 16000)
    assert new.audio_out == WireFormat("audio/pcmu", 8000)
    assert (new.speak, new.max_tokens) == (False, 20)
    assert (new.instructions, new.turn) == (settings.instructions, settings.turn)
    assert settings.speak and settings.audio_in.rate == 24000  # the old one is untouched
    shown = new.to_dict("s", 1)
    assert shown["audio"]["output"]["voice"] == "default"  # there is no voice "marin" here


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"type": "translation"}, "session.type"),
        ({"audio": 3}, "session.audio"),
        ({"audio": {"input": []}}, "session.audio.input"),
        ({"audio": {"input": [1]}}, "session.audio.input"),
        ({"audio": {"input": {"format": {"type": "opus"}}}}, "session.audio.input.format.type"),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 7}}}},
            "session.audio.input.format.rate",
        ),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": "x"}}}},
            "session.audio.input.format.rate",
        ),
        ({"output_modalities": ["audio", "text"]}, "session.output_modalities"),
        ({"output_modalities": ["video"]}, "session.output_modalities"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"instructions": 3}, "session.instructions"),
        ({"instructions": "x" * 40_000}, "session.instructions"),
        ({"tools": [{"type": "mcp", "server_label": "f"}]}, "session.tools"),
        ({"tools": [{"type": "function", "name": "f g"}]}, "session.tools.0.name"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "session.tool_choice"),
        ({"prompt": {"id": "p"}}, "session.prompt"),
        ({"input_audio_format": "opus"}, "session.input_audio_format"),
        ({"temprature": 0.8}, "session.temprature"),
        ({"temperature": "hot"}, "session.temperature"),
        ({"audio": {"input": {"gain": 2}}}, "session.audio.input.gain"),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 3}}}},
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "?"}}}},
            "session.audio.input.turn_detection",
        ),
        ({"audio": {"input": {"turn_detection": {"type": "ears"}}}}, "session.audio.input"),
    ],
)
def test_a_wrong_update_names_the_field(
    settings: SessionSettings, session: dict[str, Any], param: str
) -> None:
    before = settings.to_dict("s", 1)
    with pytest.raises(Refused) as refused:
        settings.updated(session)
    assert (refused.value.param or "").startswith(param)
    assert settings.to_dict("s", 1) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"x"', "{}", '{"type": 3}', "[" * 100_000]
)
def test_messages_that_are_none(text: str) -> None:
    with pytest.raises(Refused):
        read_message(text)


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({"type": "input_audio_buffer.append"}, "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "audio"),
        (
            {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0},
            "audio_end_ms",
        ),
        ({"type": "conversation.item.create", "item": {"type": "ghost"}}, "item.type"),
        ({"type": "response.craete"}, "type"),
    ],
)
def test_events_that_are_wrong(data: dict[str, Any], param: str) -> None:
    with pytest.raises(Refused) as refused:
        read_event(data)
    assert (refused.value.param or "").startswith(param)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (3, "item: wrong value; possible: an object"),
        ({"type": "message", "role": "x"}, "item.role: wrong value; possible: 'system', 'user', "),
        ({"type": "message", "role": "user", "content": 3}, "item.content: wrong value; possible"),
        ({"type": "message", "role": "user", "content": [{"type": "q"}]}, "item.content.0.type: "),
        ({"type": "function_call_output", "output": "x"}, "item.call_id: it is missing"),
    ],
)
def test_the_member_of_a_union_that_is_meant_is_the_one_that_is_wrong(item: Any, says: str) -> None:
    """The first member's first error was told, in pydantic's words."""
    with pytest.raises(Refused) as refused:
        read_event({"type": "conversation.item.create", "item": item})
    assert str(refused.value).startswith(says)


def test_nothing_is_converted(settings: SessionSettings) -> None:
    """ "no" was taken as false."""
    vad = {"type": "server_vad", "create_response": "no"}
    with pytest.raises(Refused, match=r"create_response: wrong value; possible: true, false"):
        settings.updated({"audio": {"input": {"turn_detection": vad}}})


def test_a_near_name_is_offered() -> None:
    with pytest.raises(Refused, match="did you mean 'response.create'"):
        read_event({"type": "response.craete"})


def test_the_paper_s_way_of_interrupting_stays_where_the_model_has_it() -> None:
    own = TurnConfig(interrupt="state")
    assert detection({"type": "semantic_vad"}, own)[1].interrupt == "state"
    assert detection({"type": "server_vad"}, own)[1].interrupt == "voice"


def test_a_session_begins_with_the_model_s_own_turn_taking() -> None:
    own = TurnConfig(detect="server", threshold=0.6, silence_ms=40, interrupt="yield")
    shown, turn = own_detection(own)
    assert turn == own and shown["type"] == "server_vad"
    assert (shown["threshold"], shown["silence_duration_ms"]) == (0.6, 40)
    shown, turn = own_detection(TurnConfig())
    assert (shown["type"], turn.detect, turn.interrupt) == ("semantic_vad", "semantic", "yield")


def test_only_a_client_that_says_so_is_taken_to_pause() -> None:
    """Else its playback position would stand still here while it plays on."""
    for own, asked, by in (
        ("pause", "1", "pause"),
        ("duck", "1", "duck"),
        ("pause", None, "none"),
        ("pause", "0", "none"),
    ):
        turn = for_player(TurnConfig(yield_by=own), asked)
        assert turn.yield_by == by and turn.interrupt == "yield"
        assert detection({"type": "semantic_vad"}, turn)[1].yield_by == by
    with pytest.raises(Refused, match="yield=2"):
        for_player(TurnConfig(), "2")
