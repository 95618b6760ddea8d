"""What a duplex dialogue can be asked: turns and texts, interruptions, changes, replies apart."""

import numpy as np
import pytest
from duplex_talk import CFG, CHUNK, check_context, hear, kinds, loud, of, quiet, sound

from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import TurnConfig
from fo_core.dialogue.states import DialogueState
from fo_core.errors import ConfigError

SILENCE = TurnConfig(detect="server", silence_ms=300)
MANUAL = TurnConfig(detect="manual")


def test_the_client_commits(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    duplex.send(do.Commit())
    assert [e.code for e in of(duplex.run(), ev.Error)] == ["empty_commit"]
    events = hear(duplex, loud(2.5))
    assert not of(events, ev.TurnEnded) and len(of(events, ev.ChunkState)) == 2
    duplex.send(do.Commit())
    duplex.push(loud(2, 1))  # behind the commit
    events = list(duplex.run())
    assert of(events, ev.TurnEnded)[0].how == "commit" and of(events, ev.ReplyDone, 0)
    assert of(events, ev.ChunkState, 0)[-1].at == int(2.5 * CHUNK)
    assert [e.turn for e in of(events, ev.ChunkState)] == [0, 1, 1]
    duplex.send(do.Clear())
    assert kinds(duplex.run())[-1] == "Cleared" and duplex.conversation.forgotten == 1
    assert [turn.number for turn in duplex.conversation.turns] == [0]  # the second left no trace
    duplex.push(loud(0.6))
    duplex.send(do.Commit(answer=False))
    events = list(duplex.run())
    assert of(events, ev.TurnEnded) and not of(events, ev.ReplyStarted)
    duplex.send(do.Respond(speak=False, max_tokens=5))
    events = list(duplex.run())
    done = of(events, ev.ReplyDone)[0]
    assert done.samples == 0 and done.status == "incomplete" and not of(events, ev.AudioDelta)
    assert len(duplex.conversation.turns[-1].answer.token_ids) == 5
    duplex.send(do.Respond())
    assert [e.code for e in of(duplex.run(), ev.Error)] == ["nothing_to_answer"]
    check_context(duplex)


def test_typed_messages_and_the_history(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    duplex.send(do.HearText("hello", answer=False))
    duplex.send(do.SayText("good day"))
    duplex.send(do.HearText("who are you?"))
    events = list(duplex.run())
    assert [e.text for e in of(events, ev.Transcript)] == ["hello", "who are you?"]
    assert [t.answer.text for t in duplex.conversation.turns][0] == "good day"
    assert sound(events, 1).size
    check_context(duplex)
    length = duplex.conversation.length
    duplex.send(do.Delete(0))
    duplex.send(do.Delete(7))
    events = list(duplex.run())
    assert [e.code for e in of(events, ev.Error)] == ["no_such_turn"]
    assert duplex.conversation.length < length and [
        t.number for t in duplex.conversation.turns
    ] == [1]
    duplex.send(do.HearText(" "))
    assert [e.code for e in of(duplex.run(), ev.Error)] == ["empty_text"]


def test_a_typed_message_interrupts(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    duplex.send(do.HearText("hello"))
    events = list(duplex.run(steps=60))
    assert duplex.tasks.reply is not None
    duplex.send(do.Respond())
    duplex.send(do.HearText("stop it"))
    events += duplex.run()
    assert [e.code for e in of(events, ev.Error)] == ["reply_active"]
    assert of(events, ev.ReplyDone, 0)[0].status == "cancelled"
    assert of(events, ev.ReplyDone, 1)[0].status != "cancelled"
    check_context(duplex)


def test_interrupting_and_truncating(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    duplex.send(do.Interrupt())
    assert [e.code for e in of(duplex.run(), ev.Error)] == ["no_reply"]
    duplex.send(do.HearText("hello"))
    whole = of(duplex.run(), ev.ReplyDone)[0]
    duplex.send(do.Played(whole.samples // 2))
    duplex.send(do.Interrupt())
    cut = of(duplex.run(), ev.Interrupted)[0]
    assert cut.reason == "client" and cut.played == whole.samples // 2
    assert whole.text.startswith(cut.text) and 0 < len(cut.text) < len(whole.text)
    check_context(duplex)
    duplex.send(do.HearText("and then?"))
    list(duplex.run())
    duplex.send(do.Truncate(0, 0))  # an older answer: the context is read again
    duplex.send(do.Truncate(9, 0))
    events = list(duplex.run())
    assert of(events, ev.Truncated)[0].text == duplex.conversation.turns[0].answer.text == ""
    assert [e.code for e in of(events, ev.Error)] == ["no_such_turn"]
    check_context(duplex)


def test_settings_change(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    codes = tiny_model.codec.cfg.global_quantizer
    with pytest.raises(ConfigError, match="voice"):
        duplex.send(do.Configure(voice=[codes.codes] * codes.groups))
    duplex.send(do.HearText("hello"))
    events = list(duplex.run())
    other = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    other.send(do.Configure(voice=[1] * codes.groups, system="Shout."))
    other.send(do.HearText("hello"))
    changed = list(other.run())
    assert kinds(changed)[0] == "Configured"
    assert other.conversation.parts.system_ids != duplex.conversation.parts.system_ids
    fresh = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL, system="Shout.", voice=[1] * codes.groups)
    fresh.send(do.HearText("hello"))
    assert np.array_equal(sound(fresh.run(), 0), sound(changed, 0))
    assert sound(events, 0).size
    other.send(do.Respond(system="Whisper."))  # nothing waits: the text is what to do
    assert of(other.run(), ev.Transcript)[0].text == "Whisper."


def test_a_turn_may_be_deleted_while_it_plays(tiny_model, vad, head):
    for role in ("both", "user", "assistant"):
        for stop in (do.Interrupt(), None):
            head[:] = ["continue", "respond"]
            duplex = Duplex(tiny_model, CFG, vad=vad)
            hear(duplex, quiet(1), loud(2))
            duplex.send(do.Delete(0, role, id="mine"))
            events = list(duplex.run())
            assert of(events, ev.Deleted)[0].cause == "mine"
            head[:] = ["respond"]
            if stop is not None:
                duplex.send(stop)
                events = list(duplex.run())
            else:
                events = hear(duplex, loud(1, 1))
            assert of(events, ev.Interrupted)[0].turn == 0 and not of(events, ev.Error)
            duplex.send(do.HearText("go on"))
            assert of(duplex.run(), ev.ReplyDone)


def test_a_turn_that_is_deleted_while_the_user_speaks_is_gone(tiny_model, vad, head):
    head[:] = ["continue", "respond"]
    duplex = Duplex(tiny_model, CFG, vad=vad)
    duplex.send(do.HearText("hello"))
    duplex.send(do.HearText("again", answer=False))
    list(duplex.run())
    events = hear(duplex, loud(1))
    assert duplex.state is DialogueState.OVERLAP
    duplex.send(do.Delete(0))
    events += duplex.run()
    events += hear(duplex, loud(1, 1))
    assert of(events, ev.Interrupted) and of(events, ev.ReplyDone)
    assert [turn.number for turn in duplex.conversation.turns] == [1, 2]


def test_events_and_errors_name_the_command_that_caused_them(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    duplex.send(do.HearText("hello", answer=False, id="text"))
    duplex.send(do.Respond(id="first"))
    events = list(duplex.run(steps=40))
    assert duplex.tasks.reply is not None
    duplex.send(do.Delete(0, id="delete"))
    duplex.send(do.Respond(id="second"))
    duplex.send(do.Truncate(0, 0, id="cut"))
    duplex.send(do.Commit(id="commit"))
    events += duplex.run()
    causes = {e.cause: e.code for e in of(events, ev.Error)}
    assert causes == {
        "delete": "reply_active", "second": "reply_active", "commit": "empty_commit",
    }  # fmt: skip
    assert [e.cause for e in of(events, ev.Truncated)] == ["cut"]
    assert {e.cause for e in of(events, ev.Transcript)} == {"text"}
    for kind in (ev.ReplyStarted, ev.TextDelta, ev.AudioDelta, ev.ReplyDone):
        assert {e.cause for e in of(events, kind)} == {"first"}


def test_a_reply_may_be_asked_for_right_after_an_interruption(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    duplex.send(do.HearText("hello"))
    list(duplex.run(steps=40))
    duplex.send(do.Interrupt())
    duplex.send(do.HearText("again", answer=False))
    duplex.send(do.Respond())
    events = list(duplex.run())
    assert not of(events, ev.Error) and of(events, ev.ReplyDone, 1)


def test_a_command_that_waits_for_the_reply_makes_nothing_urgent(tiny_model, vad):
    """Else the reply would go on although its consumer reads nothing."""
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    duplex.send(do.HearText("hello"))
    list(duplex.run(steps=40))
    assert duplex.tasks.reply is not None and duplex.tasks.urgency() in (1, 2)
    level = duplex.tasks.urgency()
    for command in (do.HearText("and", answer=False), do.SayText("well"), do.Commit()):
        duplex.send(command)
        assert duplex.tasks.urgency() == level
    duplex.send(do.Interrupt())
    assert duplex.tasks.urgency() == 0


def test_a_reply_that_is_being_made_may_be_truncated(tiny_model, vad):
    """Stock clients do so right before they cancel it."""
    for cancel in (True, False):
        duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
        duplex.send(do.HearText("hello"))
        events = []
        while len(of(events, ev.AudioDelta)) < 3:
            events += duplex.run(steps=1)
        duplex.send(do.Truncate(0, 10))
        if cancel:
            duplex.send(do.Interrupt())
        events += duplex.run()
        assert not of(events, ev.Error) and duplex.state is DialogueState.IDLE
        assert len(of(events, ev.Interrupted)) == cancel and len(of(events, ev.Truncated)) != cancel
        assert duplex.conversation.turns[0].answer.text == ""
        check_context(duplex)


def test_a_reply_apart_leaves_no_trace(tiny_model, vad):
    """Out of band: with the history or without, and what comes after is as if it had not been."""
    duplexes = [Duplex(tiny_model, CFG, vad=vad, turn=MANUAL, speak=False) for _ in range(2)]
    for duplex in duplexes:
        duplex.send(do.HearText("hello"))
        list(duplex.run())
    apart, plain = duplexes
    length = apart.conversation.length
    told = do.Respond(apart=True, system="Name the topic.", id="mine")
    messages = do.Respond(apart=True, system="Shout.", messages=[("user", "hello")])
    answers = []
    for command in (told, messages):
        apart.send(command)
        events = list(apart.run())
        done = of(events, ev.ReplyDone)[0]
        answers.append(done.text)
        assert not of(events, ev.Transcript | ev.TurnEnded | ev.Error) and done.cause == command.id
        assert [turn.number for turn in apart.conversation.turns] == [0]
        assert apart.conversation.length == length and apart.state is DialogueState.IDLE
    fresh = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL, speak=False, system="Shout.")
    fresh.send(do.HearText("hello"))
    assert answers[1] == of(fresh.run(), ev.ReplyDone)[0].text
    for duplex in duplexes:
        duplex.send(do.HearText("and now?"))
    assert of(apart.run(), ev.ReplyDone)[0].text == of(plain.run(), ev.ReplyDone)[0].text
    apart.send(do.Respond(apart=True, id="empty"))
    assert [e.code for e in of(apart.run(), ev.Error)] == ["nothing_to_answer"]


def test_a_reply_apart_may_be_interrupted(tiny_model, vad):
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=MANUAL)
    duplex.send(do.HearText("hello"))
    list(duplex.run())
    duplex.send(do.Played(10**9))
    text = duplex.conversation.turns[0].answer.text
    duplex.send(do.Respond(apart=True, system="Name the topic."))
    list(duplex.run(steps=40))
    assert duplex.tasks.reply is not None
    duplex.send(do.Interrupt())
    events = list(duplex.run())
    assert of(events, ev.ReplyDone)[0].status == "cancelled" and not of(events, ev.Error)
    assert [turn.answer.text for turn in duplex.conversation.turns] == [text]
    check_context(duplex)
