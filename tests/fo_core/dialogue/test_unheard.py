"""A turn in which nothing was heard is never answered: silence, hum, noise, a muted microphone."""

import numpy as np
import pytest
import torch

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.audio_input import holds_voice
from fo_core.dialogue.drivers.answer import answer_wave
from fo_core.dialogue.drivers.transcribe import transcribe
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import DialogueConfig, TurnConfig
from fo_core.dialogue.states import DialogueState, StateRule

CHUNK = 2560
TIME = np.arange(16000) / 16000
SOUNDS = {
    "silence": np.zeros(16000),
    "hum": 0.2 * np.sin(2 * np.pi * 50 * TIME) + 0.05 * np.sin(2 * np.pi * 150 * TIME),
    "noise": 0.05 * np.random.default_rng(0).standard_normal(16000),
    "muted": 1e-5 * np.random.default_rng(1).standard_normal(16000),
}


@pytest.fixture(params=SOUNDS)
def sound(request) -> np.ndarray:
    return SOUNDS[request.param].astype(np.float32)


@pytest.fixture
def hears_nothing(tiny_model, monkeypatch):
    """The model; its CTC head, if the adapter asks it, finds blanks only."""
    if tiny_model.adapter.requires_ctc:
        head = tiny_model.ctc_head
        blank = torch.zeros(head.classes)
        blank[0] = 100.0
        monkeypatch.setattr(head, "forward", lambda x: blank.expand(*x.shape[:2], -1))
    return tiny_model


def hear(duplex: Duplex, wave: np.ndarray) -> list[ev.DuplexEvent]:
    found = []
    for block in np.split(wave, range(CHUNK, wave.size, CHUNK)):
        duplex.push(block)
        found += duplex.run()
    return found


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_an_unheard_file_is_not_answered(hears_nothing, sound):
    answer = answer_wave(hears_nothing, torch.from_numpy(sound))
    assert (answer.ended_by, answer.text, answer.wave.numel()) == ("unheard", "", 0)


def test_a_state_head_that_says_answer_does_not_answer_an_unheard_file(hears_nothing, sound):
    eager = DialogueConfig(states=StateRule(respond_threshold=0.0))
    answer = answer_wave(hears_nothing, torch.from_numpy(sound), eager)
    assert answer.ended_by == "unheard" and answer.timings.chunks == 7  # it heard on to the end


def test_an_unheard_commit_is_empty(hears_nothing, sound):
    duplex = Duplex(hears_nothing, turn=TurnConfig(detect="manual"))
    before = hear(duplex, np.zeros(0, np.float32)) or duplex.conversation.length
    events = hear(duplex, sound)
    duplex.send(do.Commit())
    events += duplex.run()
    assert [e.how for e in of(events, ev.TurnEnded)] == ["unheard"]
    assert not of(events, ev.ReplyStarted | ev.Transcript | ev.Error)
    assert duplex.state is DialogueState.IDLE and duplex.conversation.length == before
    duplex.send(do.Respond())
    assert [e.code for e in of(duplex.run(), ev.Error)] == ["nothing_to_answer"]


@pytest.mark.parametrize("detect", ["server", "semantic"])
def test_a_voice_without_words_is_not_answered(hears_nothing, vad, head, detect):
    """The detector takes it for a voice, the adapter finds nothing in it."""
    if not hears_nothing.adapter.requires_ctc:
        pytest.skip("with the paper's adapter the detector and the state head decide")
    head += ["continue", "respond", "respond", "respond"]
    turn = TurnConfig(detect=detect, silence_ms=300)
    duplex = Duplex(hears_nothing, vad=vad, turn=turn)
    list(duplex.run())
    length = duplex.conversation.length
    noise = 0.3 * np.random.default_rng(0).standard_normal(2 * CHUNK)
    events = hear(duplex, np.concatenate([noise, np.zeros(4 * CHUNK)]).astype(np.float32))
    assert [e.how for e in of(events, ev.TurnEnded)] == ["unheard"]
    assert not of(events, ev.ReplyStarted | ev.Transcript | ev.Error)
    assert duplex.state is DialogueState.IDLE and duplex.conversation.length == length


def test_an_unheard_voice_over_the_answer_does_not_stop_it(hears_nothing, vad, head):
    if not hears_nothing.adapter.requires_ctc:
        pytest.skip("with the paper's adapter the detector and the state head decide")
    head += ["respond"]
    duplex = Duplex(hears_nothing, vad=vad)
    duplex.send(do.HearText("hello"))
    assert of(duplex.run(), ev.ReplyDone)
    noise = 0.3 * np.random.default_rng(0).standard_normal(CHUNK)
    events = hear(duplex, noise.astype(np.float32))
    assert [e.how for e in of(events, ev.TurnEnded)] == ["unheard"]
    assert not of(events, ev.Interrupted) and duplex.engine.candidate is None
    assert duplex.state is DialogueState.SPEAKING


def test_an_unheard_transcript_is_empty(hears_nothing, sound):
    from eval.systems.hearing import Condition
    from eval.systems.hearing import hear as hear_wave

    assert transcribe(hears_nothing, torch.from_numpy(sound)).llm == ""
    for how in (Condition(), Condition(4, False)):
        found = hear_wave(hears_nothing, sound, how, ["llm"])
        assert (found["llm"], found["cut"]) == ("", False)


def test_a_question_that_was_deleted_is_not_answered(tiny_model, vad):
    duplex = Duplex(tiny_model, vad=vad, turn=TurnConfig(detect="manual"))
    duplex.send(do.HearText("hello", answer=False))
    list(duplex.run())
    duplex.send(do.Delete(0, "user"))
    duplex.send(do.Respond())
    events = list(duplex.run())
    assert [e.code for e in of(events, ev.Error)] == ["nothing_to_answer"]
    assert not of(events, ev.ReplyStarted)


def test_silence_and_a_voice_are_told_apart():
    loud = np.concatenate([np.zeros(8000), SOUNDS["noise"] * 5, np.zeros(8000)])
    assert holds_voice(loud.astype(np.float32), "energy")
    assert not holds_voice(SOUNDS["silence"].astype(np.float32), "energy")
    assert not any(holds_voice(wave.astype(np.float32)) for wave in SOUNDS.values())


def test_only_what_is_certain_ends_a_file_early(tiny_model):
    """A voice late in a file: the state head's early "respond" waits for it."""
    if tiny_model.adapter.requires_ctc:
        pytest.skip("random words are heard in anything")
    eager = replace(DialogueConfig(), states=StateRule(respond_threshold=0.0))
    assert answer_wave(tiny_model, torch.zeros(4 * CHUNK), eager).ended_by == "unheard"
