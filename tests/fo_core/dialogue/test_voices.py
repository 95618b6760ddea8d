"""A voice for each session: chosen by name, side by side, and each as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest
from duplex_talk import GREEDY_CFG as CFG

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.sessions.pool import Pool, PoolConfig
from fo_core.errors import ConfigError
from fo_core.models.model_config import VoiceConfig

POOL = PoolConfig(workers=1, max_sessions=2, clock="sound")


@pytest.fixture
def voices(tiny_model, monkeypatch):
    """The tiny model with two more voices, told apart by its untrained codec."""
    config = replace(
        tiny_model.config,
        voice=(1, 2),
        voices={"ann": VoiceConfig((1, 2), "own"), "bob": VoiceConfig((7, 5), "a clip")},
    )
    monkeypatch.setattr(tiny_model, "config", config)
    return tiny_model


def sound_of(events) -> np.ndarray:
    return np.concatenate([e.audio for e in events if isinstance(e, ev.AudioDelta)])


def spoken(duplex: Duplex) -> np.ndarray:
    return sound_of(list(duplex.run()))


def answered(talk) -> np.ndarray:
    """The sound of the next reply."""
    events = []
    while not events or not isinstance(events[-1], ev.ReplyDone):
        event = talk.get(timeout=60)
        assert event is not None, events
        events.append(event)
    return sound_of(events)


def alone(model, vad, voice) -> np.ndarray:
    duplex = Duplex(model, CFG, vad=vad, voice=voice)
    duplex.send(do.HearText("abc"))
    return spoken(duplex)


def test_two_voices_in_one_pool_are_each_as_alone(voices, vad):
    """Steps of both are batched; the words are the same, the voices differ."""
    draw = np.random.default_rng(1)
    quiet = np.zeros(2560)
    question = np.concatenate([quiet, 0.3 * draw.standard_normal(3 * 2560), *3 * [quiet]])
    question = question.clip(-1, 1).astype(np.float32)
    with Pool(voices, CFG, POOL, vad) as pool:
        talks = [pool.open(voice=name) for name in ("ann", "bob")]
        for talk in talks:
            talk.push(question)
        together = [answered(talk) for talk in talks]
        for talk in talks:
            talk.close()
        for name, both in zip(("ann", "bob"), together, strict=True):
            talk = pool.open(voice=name)
            talk.push(question)
            np.testing.assert_allclose(both, answered(talk), atol=1e-6)
            talk.close()
    one, two = together
    assert len(one) == len(two) > 1000 and not np.allclose(one, two, atol=1e-3)


def test_a_voice_is_a_name_tokens_or_the_models_own(voices, vad):
    own = alone(voices, vad, None)
    for same in ("ann", "default", (1, 2)):
        np.testing.assert_array_equal(own, alone(voices, vad, same))
    np.testing.assert_array_equal(alone(voices, vad, "bob"), alone(voices, vad, (7, 5)))


def test_an_unknown_voice_lists_those_there_are(voices, vad):
    with pytest.raises(ConfigError, match="no voice 'eve'; possible: ann, bob"):
        Duplex(voices, CFG, vad=vad, voice="eve")
    duplex = Duplex(voices, CFG, vad=vad)
    for command in (do.Configure(voice="eve"), do.Respond(voice="eve")):
        with pytest.raises(ConfigError, match="possible: ann, bob"):
            duplex.send(command)
    with Pool(voices, CFG, POOL, vad) as pool:
        talk = pool.open()
        with pytest.raises(ConfigError, match="possible: ann, bob"):
            talk.send(do.Respond(voice="eve"))


def test_a_voice_for_one_reply_and_from_then_on(voices, vad):
    bob, ann = alone(voices, vad, "bob"), alone(voices, vad, "ann")
    once = Duplex(voices, CFG, vad=vad)
    once.send(do.HearText("abc", answer=False))
    once.send(do.Respond(voice="bob"))
    np.testing.assert_array_equal(spoken(once), bob)
    assert once.conversation.voice is None  # the next one is the model's own again
    changed = Duplex(voices, CFG, vad=vad, voice="bob")
    changed.send(do.Configure(voice="default"))
    changed.send(do.HearText("abc"))
    np.testing.assert_array_equal(spoken(changed), ann)
    apart = Duplex(voices, CFG, vad=vad)
    apart.send(do.Respond(apart=True, messages=(("user", "abc"),), voice="bob"))
    assert not np.allclose(spoken(apart)[:100], ann[:100], atol=1e-4)


def test_the_models_own_voice_for_one_reply_of_another_voice(voices, vad, monkeypatch):
    """Also where none is configured: it was the session's."""
    monkeypatch.setattr(voices, "config", replace(voices.config, voice=()))
    own = alone(voices, vad, (0, 0))
    duplex = Duplex(voices, CFG, vad=vad, voice="bob")
    duplex.send(do.HearText("abc", answer=False))
    duplex.send(do.Respond(voice="default"))
    np.testing.assert_array_equal(spoken(duplex), own)
    assert duplex.conversation.voice == (7, 5)
