"""The dialogue's transitions and the rule that ends a turn."""

import itertools

import pytest

from fo_core.dialogue.states import (
    LEAST,
    TRANSITIONS,
    DialogueState,
    Event,
    StateProbabilities,
    StateRule,
    decide,
    transition,
)
from fo_core.errors import ConfigError


def walk(*events: Event) -> DialogueState:
    state = DialogueState.IDLE
    for event in events:
        state = transition(state, event)
    return state


def test_a_question_is_answered_and_then_it_is_quiet():
    heard = (Event.SPEECH_START, Event.CONTINUE, Event.RESPOND)
    assert walk(*heard) is DialogueState.SPEAKING
    assert walk(*heard, Event.REPLY_DONE) is DialogueState.IDLE


def test_a_noise_leaves_the_bot_speaking_and_a_question_interrupts_it():
    speaking = (Event.SPEECH_START, Event.RESPOND, Event.SPEECH_START)
    assert walk(*speaking) is DialogueState.OVERLAP
    assert walk(*speaking, Event.DISMISS) is DialogueState.SPEAKING
    assert walk(*speaking, Event.CONTINUE, Event.RESPOND) is DialogueState.SPEAKING
    assert walk(*speaking, Event.REPLY_DONE) is DialogueState.LISTENING


def test_every_state_can_be_left_and_stopped():
    for state in DialogueState:
        assert transition(state, Event.STOP) is DialogueState.IDLE
        assert any(s is state and t is not state for (s, _), t in TRANSITIONS.items())


def test_what_cannot_happen_is_an_error():
    for pair in itertools.product(DialogueState, Event):
        if pair not in TRANSITIONS:
            with pytest.raises(ValueError, match="cannot happen"):
                transition(*pair)


def p(listen: float, answer: float, ignore: float) -> StateProbabilities:
    return StateProbabilities(listen, answer, ignore)


def test_ignore_is_looked_at_before_answer():
    rule = StateRule(respond_threshold=0.3, dismiss_threshold=0.3)
    assert decide(rule, [p(0.1, 0.5, 0.4)]) is Event.DISMISS
    assert decide(rule, [p(0.5, 0.4, 0.1)]) is Event.RESPOND
    assert decide(rule, [p(0.8, 0.1, 0.1)]) is Event.CONTINUE


def test_smoothing_averages_the_newest_chunks_and_short_turns_cannot_end():
    rule = StateRule(smoothing=2)
    assert decide(rule, [p(1, 0, 0), p(0.1, 0.9, 0)]) is Event.CONTINUE
    assert decide(rule, [p(0, 1, 0), p(0.4, 0.6, 0), p(0.4, 0.6, 0)]) is Event.RESPOND
    assert decide(StateRule(min_chunks=3), [p(0, 1, 0), p(0, 1, 0)]) is Event.CONTINUE
    assert decide(rule, []) is Event.CONTINUE


def test_the_threshold_falls_in_silence_and_not_to_nothing():
    rule = StateRule(respond_threshold=0.9, respond_fall=0.5)
    half = [p(0.5, 0.5, 0)]
    assert [round(rule.respond_after(ms), 6) for ms in (0, 600, 1000)] == [0.9, 0.6, 0.4]
    assert decide(rule, half) is Event.CONTINUE
    assert decide(rule, half, 700) is Event.CONTINUE  # 0.55
    assert decide(rule, half, 900) is Event.RESPOND  # 0.45
    assert rule.respond_after(60_000) == LEAST
    assert decide(rule, [p(0.95, 0.05, 0)], 60_000) is Event.CONTINUE
    assert StateRule(respond_threshold=0.05, respond_fall=1).respond_after(9000) == 0.05
    never_at_once = StateRule(respond_threshold=1.2, respond_fall=1.0)
    assert decide(never_at_once, [p(0, 1, 0)], 160) is Event.CONTINUE
    assert decide(never_at_once, [p(0, 1, 0)], 320) is Event.RESPOND
    assert StateRule().respond_after(60_000) == 0.5  # off
    with pytest.raises(ConfigError, match=r"states\.respond_fall is -1"):
        StateRule(respond_fall=-1.0)
