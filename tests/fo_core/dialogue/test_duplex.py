"""Both sides speak at once: turns, barge-in, what the history keeps, faults."""

import numpy as np
import pytest
from duplex_talk import CFG, CHUNK, check_context, hear, kinds, loud, of, quiet, sound

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.conversation import new_prefixes
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import DuplexConfig, TurnConfig
from fo_core.dialogue.states import DialogueState
from fo_core.errors import AudioError

SILENCE = TurnConfig(detect="server", silence_ms=300)
MANUAL = TurnConfig(detect="manual")


def test_a_question_in_order(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=SILENCE)
    events = hear(duplex, quiet(3), loud(4), quiet(3))
    assert kinds(events, ev.StateChanged) == [
        "SpeechStarted", "ChunkState", "SpeechStopped", "TurnEnded", "Transcript",
        "ReplyStarted", *kinds(of(events, ev.TextDelta) and [
            e for e in events if isinstance(e, ev.TextDelta | ev.AudioDelta)
        ]), "ReplyDone",
    ]  # fmt: skip
    started, ended = of(events, ev.SpeechStarted)[0], of(events, ev.TurnEnded)[0]
    assert started.start == 3 * CHUNK and abs(ended.end - 7 * CHUNK) <= 512
    assert ended.how == "silence"
    done = of(events, ev.ReplyDone)[0]
    assert "".join(e.text for e in of(events, ev.TextDelta)) == done.text
    assert sound(events, 0).size == done.samples > 0
    later = hear(duplex, quiet(2 + done.samples / 24000 / 0.16))
    assert kinds(later) == ["Played", "StateChanged"] and duplex.state is DialogueState.IDLE
    check_context(duplex)


@pytest.mark.parametrize("block", [37, 777, 20000])
def test_block_sizes_do_not_matter(tiny_model, vad, block):
    waves = quiet(1), loud(2), quiet(3), loud(2, 1), quiet(3)
    runs = []
    for size in (CHUNK, block):
        duplex = Duplex(tiny_model, CFG, vad=vad, turn=SILENCE, eager=True)
        runs.append(hear(duplex, *waves, block=size))
    assert kinds(runs[0]) == kinds(runs[1])
    for turn in (0, 1):
        assert np.array_equal(sound(runs[0], turn), sound(runs[1], turn))
    same = [[(e.at, e.how, e.start, e.end) for e in of(run, ev.TurnEnded)] for run in runs]
    assert same[0] == same[1]


def test_the_look_back_is_heard(tiny_model, vad):
    lengths = []
    for before in (0, 2):
        duplex = Duplex(tiny_model, replace(CFG, history_chunks=before), vad=vad, turn=SILENCE)
        hear(duplex, quiet(3), loud(2))
        lengths.append(duplex.conversation.turns[-1].chunks)
    assert lengths[1] == lengths[0] + 2


def test_state_2_leaves_the_bot_speaking(tiny_model, vad, head):
    head += ["continue", "respond"]
    alone = hear(Duplex(tiny_model, CFG, vad=vad), quiet(1), loud(2), quiet(1))
    head[:] = ["continue", "respond", "continue", "dismiss"]
    duplex = Duplex(tiny_model, CFG, vad=vad)
    events = hear(duplex, quiet(1), loud(2), loud(2, 1))
    assert [e.how for e in of(events, ev.TurnEnded)] == ["respond", "dismiss"]
    assert not of(events, ev.Interrupted) and duplex.engine.candidate is None
    assert [e.overlap for e in of(events, ev.ChunkState)] == [False, False, True, True]
    assert duplex.state is DialogueState.SPEAKING
    assert np.array_equal(sound(events, 0), sound(alone, 0))
    assert len(duplex.conversation.turns) == 1
    check_context(duplex)


def test_state_1_interrupts_and_the_history_holds_only_what_was_played(tiny_model, vad, head):
    head += ["continue", "respond", "continue", "continue", "respond"]
    duplex = Duplex(tiny_model, CFG, vad=vad)
    duplex.turns.configure(TurnConfig(interrupt="state"))
    events = hear(duplex, quiet(1), loud(2), quiet(2), loud(3, 1))
    names = kinds(events, ev.StateChanged, ev.ChunkState)
    assert names[names.index("Interrupted") - 1] == "TurnEnded"
    cut = of(events, ev.Interrupted)[0]
    whole = of(events, ev.ReplyDone, 0)[0]
    assert cut.turn == 0 and cut.reason == "turn_detected"
    # the bot spoke from the end of the question to the end of the interruption
    assert cut.played == min(whole.samples, (5 * CHUNK) * 3 // 2)
    first = duplex.conversation.turns[0].answer
    assert first.text == cut.text and whole.text.startswith(cut.text) and cut.text != whole.text
    begun = of(events, ev.SpeechStarted, 1)[0]
    heard_then = (begun.at - 3 * CHUNK) * 3 // 2
    kept = duplex.conversation.turns[0].pieces
    ends = {e.part: e.position + e.audio.size for e in of(events, ev.AudioDelta, 0)}
    assert all(ends[part] <= heard_then for part in range(len(kept)))
    after = events[events.index(cut) :]
    assert not of(after, ev.AudioDelta, 0) and of(after, ev.AudioDelta, 1)
    assert of(after, ev.ReplyDone, 1)[0].samples == sound(after, 1).size
    check_context(duplex)


def test_any_voice_interrupts_where_that_is_asked_for(tiny_model, vad, head):
    head += ["continue", "respond"]
    turn = TurnConfig(interrupt="voice")
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=turn)
    events = hear(duplex, quiet(1), loud(2), quiet(1), loud(1, 1))
    cut = of(events, ev.Interrupted)[0]
    assert type(events[events.index(cut) - 1]) is ev.SpeechStarted
    assert cut.at == 5 * CHUNK and cut.played == 2 * CHUNK * 3 // 2
    assert duplex.state is DialogueState.LISTENING and duplex.engine.candidate is None


def test_a_deaf_bot_is_not_interrupted(tiny_model, vad, head):
    head += ["continue", "respond", "respond"]
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=TurnConfig(interrupt="never"))
    events = hear(duplex, quiet(1), loud(2), loud(2, 1))
    assert len(of(events, ev.SpeechStarted)) == 1 and head == ["respond"]


def test_a_reply_that_is_being_made_is_cancelled(tiny_model, vad, head):
    head += ["continue", "respond", "continue", "respond"]
    duplex = Duplex(tiny_model, CFG, vad=vad)
    events = hear(duplex, quiet(1), loud(1))
    duplex.push(loud(1))
    while not of(events, ev.AudioDelta):
        events += duplex.run(steps=1)
    duplex.push(loud(2, 1))
    events += duplex.run()
    done = {e.turn: e.status for e in of(events, ev.ReplyDone)}
    assert done[0] == "cancelled" and done[1] in ("completed", "incomplete")
    last = max(i for i, e in enumerate(events) if isinstance(e, ev.AudioDelta) and e.turn == 0)
    assert last < events.index(of(events, ev.Interrupted)[0])
    check_context(duplex)


def test_when_the_reply_ends_first_the_fork_becomes_the_truth(tiny_model, vad, head):
    head += ["continue", "respond"]
    duplex = Duplex(tiny_model, CFG, vad=vad)
    events = hear(duplex, quiet(1), loud(2))
    duplex.send(do.Played(of(events, ev.ReplyDone)[0].samples - 100))
    events = hear(duplex, loud(1, 1))
    assert duplex.state is DialogueState.OVERLAP
    duplex.send(do.Played(10**9, turn=0))
    events += duplex.run()
    assert duplex.state is DialogueState.LISTENING and duplex.engine.candidate is None
    assert kinds(events)[-2:] == ["Played", "StateChanged"]
    head += ["respond"]
    events = hear(duplex, loud(1, 2))
    assert of(events, ev.ReplyDone, 1) and not of(events, ev.Interrupted)
    check_context(duplex)


def test_a_turn_without_verdict_ends(tiny_model, vad, head):
    turn = TurnConfig(end_of_turn_timeout_ms=640)
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=turn)
    events = hear(duplex, quiet(1), loud(1), quiet(6))
    assert [e.how for e in of(events, ev.TurnEnded)] == ["timeout"] and of(events, ev.ReplyDone)
    events = hear(duplex, loud(1), quiet(6))  # while the bot speaks: a noise
    assert [e.how for e in of(events, ev.TurnEnded)] == ["no_decision"]
    assert not of(events, ev.Interrupted)
    long = replace(CFG, duplex=DuplexConfig(max_turn_seconds=0.6))
    events = hear(Duplex(tiny_model, long, vad=vad), loud(8))
    assert of(events, ev.TurnEnded)[0].how == "too_long"


def test_silence_is_told_once(tiny_model, vad, head):
    head += ["dismiss"]
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=TurnConfig(idle_ms=480))
    assert not of(hear(duplex, quiet(9)), ev.IdleTimeout)  # nobody has spoken yet
    assert len(of(hear(duplex, loud(1), quiet(9)), ev.IdleTimeout)) == 1


def test_a_full_context_forgets_the_oldest_turns(tiny_model, vad):
    small = replace(CFG, duplex=DuplexConfig(context=512, keep=0.5, refeed=16))
    duplex = Duplex(tiny_model, small, vad=vad, turn=MANUAL, speak=False)
    dropped = []
    for number in range(8):
        duplex.send(do.HearText(f"question {number} " + "abc " * 8))
        dropped += of(duplex.run(), ev.ContextDropped)
        assert duplex.conversation.length <= 512
    assert dropped and all(e.after <= 256 and e.before > 512 for e in dropped)
    assert [t.number for t in duplex.conversation.turns][-1] == 7
    check_context(duplex)


def test_a_model_that_raises_loses_the_reply_not_the_dialogue(tiny_model, vad, monkeypatch):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=SILENCE)
    step, count = tiny_model.speech_decoder.step, iter(range(10**6))

    def sometimes(token, state):
        if next(count) == 7:
            raise RuntimeError("out of memory")
        return step(token, state)

    monkeypatch.setattr(tiny_model.speech_decoder, "step", sometimes)
    events = hear(duplex, quiet(1), loud(2), quiet(3))
    assert "out of memory" in of(events, ev.Error)[0].message
    assert of(events, ev.ReplyDone)[0].status == "failed"
    again = hear(duplex, quiet(60), loud(2, 1), quiet(3))
    assert of(again, ev.ReplyDone, 1)[0].status != "failed" and sound(again, 1).size

    monkeypatch.setattr(tiny_model.speech_encoder, "step", lambda *_: 1 / 0)
    events = hear(duplex, quiet(60), loud(1))
    assert of(events, ev.Error) and duplex.state in (DialogueState.IDLE, DialogueState.SPEAKING)


@pytest.mark.parametrize(
    "block", [np.array([np.nan], np.float32), np.zeros((2, 5), np.float32), np.zeros(5, np.int16)]
)
def test_what_is_no_sound_is_refused(tiny_model, vad, block):
    with pytest.raises(AudioError):
        Duplex(tiny_model, CFG, vad=vad).push(block)


def test_system_texts_are_read_once_and_few_are_kept(tiny_model, vad):
    prefixes = new_prefixes()
    for number in range(12):
        duplex = Duplex(tiny_model, CFG, vad=vad, system=f"Rule {number}.", prefixes=prefixes)
        list(duplex.run())
    assert len(prefixes) == 8 and tuple(duplex.conversation.parts.system_ids) in prefixes
    again = Duplex(tiny_model, CFG, vad=vad, system="Rule 11.", prefixes=prefixes)
    steps = 0
    while again.tasks.urgency() is not None:
        steps += again.tasks.resume() is not None
    assert steps == 0 and again.conversation.length == duplex.conversation.length


def test_what_is_cut_is_the_reply_that_plays(tiny_model, vad, head):
    """A typed message came after it: it stays whole and unanswered, by any way of interrupting."""
    for stop in ("interrupt", "state", "voice"):
        how = TurnConfig(interrupt="voice" if stop == "voice" else "state")
        head[:] = ["continue", "respond"]
        duplex = Duplex(tiny_model, CFG, vad=vad, turn=how)
        events = hear(duplex, quiet(1), loud(2))
        whole = of(events, ev.ReplyDone)[0]
        duplex.send(do.Played(whole.samples // 3))
        duplex.send(do.HearText("wait", answer=False))
        list(duplex.run())
        head[:] = ["respond"]
        if stop == "interrupt":
            duplex.send(do.Interrupt())
            events = list(duplex.run())
        else:
            events = hear(duplex, loud(1, 1))
        cut = of(events, ev.Interrupted)[0]
        assert cut.turn == 0 and whole.text.startswith(cut.text) and cut.text != whole.text
        first, typed = duplex.conversation.turns[:2]
        assert first.answer.text == cut.text
        assert typed.heard and typed.answer is None
        list(duplex.run())
        check_context(duplex)
