"""The bot gives way to a voice, goes on where it was, or stops for good; what the history keeps."""

import numpy as np
import pytest
import torch
from duplex_talk import CFG, CHUNK, check_context, hear, loud, of, quiet

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.conversation import Conversation
from fo_core.dialogue.drivers.live import Live
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.history import tokens_heard
from fo_core.dialogue.settings import TurnConfig
from fo_core.dialogue.speech.ducking import DUCK_GAIN
from fo_core.dialogue.speech.speaker import Speaker
from fo_core.dialogue.states import DialogueState

BLOCK, RATE = 320, 24000
SHORT = replace(CFG, segmenter=replace(CFG.segmenter, max_tokens=20))  # answers of 2 to 3 s
QUESTION = ["continue", "respond"]  # what the state head says of two chunks


class Deaf:
    """A user interface that does not tell how much it played."""

    def send(self, command):
        pass


class Room:
    """A user, a model and a loudspeaker on one clock."""

    def __init__(self, duplex: Duplex, tells: bool = True) -> None:
        self.duplex = duplex
        self.live = Live(duplex if tells else Deaf(), RATE)
        self.events: list[ev.DuplexEvent] = []
        self.live.clock = BLOCK  # what is played with a block sounds when it is over
        self.heard = np.zeros(BLOCK * RATE // 16000, np.float32)  # by the user

    def say(self, *waves: np.ndarray) -> None:
        wave = np.concatenate(waves)
        for block in np.split(wave, range(BLOCK, wave.size, BLOCK)):
            self.duplex.push(block)
            self._run()
            played = self.live.play(block.size * RATE // 16000)
            self.heard = np.concatenate([self.heard, played])

    def send(self, command: do.Command) -> None:
        self.duplex.send(command)
        self._run()

    def _run(self) -> None:
        for event in self.duplex.run():
            self.events.append(event)
            self.live.see(event)

    def of(self, *kinds):
        return [e for e in self.events if isinstance(e, kinds)]

    @property
    def made(self) -> np.ndarray:
        return np.concatenate([e.audio for e in self.of(ev.AudioDelta)])


def asked(tiny_model, vad, head, tells=True, **turn) -> Room:
    """A question was asked and 320 ms of its answer were heard."""
    head[:] = QUESTION
    room = Room(Duplex(tiny_model, SHORT, vad=vad, turn=TurnConfig(**turn)), tells)
    room.say(quiet(1), loud(2), quiet(2))
    return room


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_what_is_heard_is_the_uninterrupted_answer_with_a_gap(tiny_model, vad, head, tells, offset):
    """A back-channel: the bot is still after 64 ms and a block; no sample is lost or repeated."""
    room = asked(tiny_model, vad, head, tells)
    head[:] = ["continue", "dismiss"]
    room.say(quiet(offset))
    onset = room.duplex.turns.audio.looked
    room.say(loud(1, 1), quiet(20))
    gave, went = room.of(ev.Yielded, ev.Resumed)
    assert abs(gave.onset - onset) <= 512 and (gave.turn, gave.by) == (0, "pause")
    assert went.played == gave.played or tells  # a client may play on until it is told
    way = room.live.turns[0].gave_way[0]
    assert 0 < way.last_audio - way.onset <= 0.1 * 16000
    first = room.live.turns[0].first_audio * RATE // 16000
    heard = room.heard[first:]  # from the beginning of the answer on
    before = way.last_audio * RATE // 16000 - first
    gap = (way.resumed - way.last_audio) * RATE // 16000
    made = room.made
    assert gap > 0 and not heard[before : before + gap].any()
    whole = np.concatenate([heard[:before], heard[before + gap :]])[: made.size]
    assert np.array_equal(whole, made) and room.of(ev.Played)
    assert [e.how for e in room.of(ev.TurnEnded)] == ["respond", "dismiss"]
    assert not room.of(ev.Interrupted) and len(room.duplex.conversation.turns) == 1
    check_context(room.duplex)


def test_the_end_of_a_question_stops_it_for_good(tiny_model, vad, head):
    room = asked(tiny_model, vad, head)
    head[:] = ["continue", "continue", "respond"]
    room.say(loud(3, 1), quiet(2))
    (gave,), (cut,) = room.of(ev.Yielded), room.of(ev.Interrupted)
    assert cut.reason == "turn_detected" and not room.of(ev.Resumed)
    assert cut.played == room.live.turns[0].played <= gave.played + 2 * BLOCK * 3 // 2
    assert room.of(ev.ReplyStarted)[-1].turn == 1 and room.live.turns[1].played
    check_context(room.duplex)


@pytest.mark.parametrize("by", ["pause", "duck", "none"])
def test_a_long_voice_stops_it_for_good(tiny_model, vad, head, by):
    room = asked(tiny_model, vad, head, yield_by=by, yield_ms=500)
    room.say(loud(5, 1))
    (cut,) = room.of(ev.Interrupted)
    assert cut.at == 5 * CHUNK + 4 * CHUNK  # the first chunk's end after 500 ms of voice
    assert len(room.of(ev.Yielded)) == (by != "none")
    assert room.duplex.state is DialogueState.LISTENING
    assert room.duplex.engine.candidate is None and room.duplex.engine.reply is None
    head[:] = ["respond"]
    room.say(loud(1, 2), quiet(2))
    assert room.of(ev.ReplyStarted)[-1].turn == 1
    check_context(room.duplex)


def test_a_voice_that_ends_without_a_verdict_lets_it_go_on(tiny_model, vad, head):
    """A late verdict still stops it; the history keeps what was heard until then."""
    room = asked(tiny_model, vad, head, silence_ms=200)
    room.say(loud(1, 1), quiet(8))
    gave, went = room.of(ev.Yielded, ev.Resumed)
    assert went.played - gave.played <= 2 * BLOCK * 3 // 2
    assert room.duplex.state is DialogueState.OVERLAP
    head[:] = ["respond"]
    room.say(quiet(1))
    (cut,) = room.of(ev.Interrupted)
    assert cut.played == room.live.turns[0].played > went.played + 3 * CHUNK * 3 // 2
    answer, done = room.duplex.conversation.turns[0].answer, room.of(ev.ReplyDone)[0]
    assert answer.text == cut.text and done.text.startswith(cut.text) and cut.text != done.text
    pieces = [piece.stop for piece in room.duplex.conversation.turns[0].pieces]
    ends = {e.part: e.position + e.audio.size for e in room.of(ev.AudioDelta) if e.turn == 0}
    assert len(pieces) == sum(end <= cut.played for end in ends.values()) > 0
    check_context(room.duplex)


def test_who_speaks_again_is_given_way_to_again(tiny_model, vad, head):
    room = asked(tiny_model, vad, head, silence_ms=200)
    room.say(loud(1, 1), quiet(5), loud(1, 2), quiet(1))
    kinds = [type(e).__name__ for e in room.of(ev.Yielded, ev.Resumed)]
    assert kinds == ["Yielded", "Resumed", "Yielded"] and len(room.of(ev.SpeechStarted)) == 2
    head[:] = ["respond"]
    room.say(quiet(1))
    (cut,) = room.of(ev.Interrupted)
    second = room.of(ev.Yielded)[1]
    assert second.played <= cut.played <= second.played + 2 * BLOCK * 3 // 2
    check_context(room.duplex)


def test_what_is_truncated_right_after_it_went_on_is_what_was_heard(tiny_model, vad, head):
    for told in (True, False):
        room = asked(tiny_model, vad, head, told)
        head[:] = ["dismiss"]
        room.say(loud(1, 1), quiet(2))
        went = room.of(ev.Resumed)[0]
        whole = room.duplex.conversation.turns[0].copy()
        spoken = room.duplex.engine.spoken[0]
        room.send(do.Interrupt())
        cut = room.of(ev.Interrupted)[0]
        passed = round((room.duplex.turns.audio.looked - went.at) * 1.5)
        assert abs(cut.played - went.played - passed) <= 2 * BLOCK * 3 // 2
        llm = room.duplex.model.llm
        tokens = tokens_heard(whole, spoken, cut.played, RATE, llm.tokenizer)
        kept = room.duplex.conversation.turns[0].answer.token_ids
        assert kept == whole.answer.token_ids[:tokens] and len(kept) < len(whole.answer.token_ids)
        check_context(room.duplex)


def test_a_ducked_bot_speaks_on_in_a_low_voice(tiny_model, vad, head):
    room = asked(tiny_model, vad, head, yield_by="duck")
    head[:] = ["continue", "dismiss"]
    at = room.heard.size
    room.say(loud(1, 1), quiet(20))
    gave, went = room.of(ev.Yielded, ev.Resumed)
    assert gave.by == "duck" and went.played > gave.played + CHUNK
    start = room.live.turns[0].first_audio * 3 // 2  # of the answer in what is heard
    made, heard = room.made, room.heard[start:]
    low = slice(at - start + 4000, at - start + 5000)
    assert np.allclose(heard[low], DUCK_GAIN * made[low], atol=1e-6)
    assert np.array_equal(heard[: gave.played], made[: gave.played])
    again = went.played + 1500
    assert np.array_equal(heard[again : made.size], made[again:]) and room.of(ev.Played)


def test_a_reply_that_is_not_heard_yet_waits(tiny_model, vad, head):
    """The user goes on before the first sound of the answer: it waits, and is whole afterwards."""
    head[:] = [*QUESTION, "dismiss"]
    room = Room(Duplex(tiny_model, SHORT, vad=vad))
    room.say(quiet(1), loud(1))
    room.duplex.push(loud(1))
    room.events += room.duplex.run(steps=12)  # the reply has begun
    assert room.duplex.engine.reply is not None and not room.of(ev.AudioDelta)
    room.duplex.push(loud(0.5, 1))
    for event in room.events:
        room.live.see(event)
    room.say(loud(0.5, 1), quiet(1))
    gave, went = room.of(ev.Yielded, ev.Resumed)
    assert gave.played == went.played == 0
    room.say(quiet(22))
    made = room.made
    start = np.flatnonzero(room.heard)[0] - np.flatnonzero(made)[0]
    assert start >= room.live.turns[0].gave_way[0].resumed * 3 // 2 and room.of(ev.Played)
    assert np.array_equal(room.heard[start : start + made.size], made)


def test_a_low_voice_ends_with_its_reply(tiny_model, vad, head):
    """Else the next reply would be spoken in it."""
    room = asked(tiny_model, vad, head, yield_by="duck", yield_ms=60_000)
    room.say(loud(24, 1))
    assert [type(e) for e in room.of(ev.Yielded, ev.Resumed, ev.Played, ev.Interrupted)] == [
        ev.Yielded, ev.Resumed, ev.Played,
    ]  # fmt: skip
    assert room.duplex.state is DialogueState.LISTENING and not room.live.yielded
    assert room.of(ev.Resumed)[0].played == room.made.size


def test_a_reply_that_fails_unheard_while_it_waits_holds_up_no_player(
    tiny_model, vad, head, monkeypatch
):
    head[:] = QUESTION
    duplex = Duplex(tiny_model, SHORT, vad=vad)
    events = hear(duplex, quiet(1), loud(1))
    duplex.push(loud(1))
    events += duplex.run(steps=12)
    assert duplex.engine.reply is not None and not of(events, ev.AudioDelta)
    monkeypatch.setattr(Speaker, "advance", None)  # it cannot say anything
    duplex.push(loud(0.5, 1))
    events += duplex.run()
    assert [e.status for e in of(events, ev.ReplyDone)] == ["failed"]
    assert len(of(events, ev.Yielded)) == len(of(events, ev.Resumed)) == 1


def test_a_session_that_ends_turns_by_itself_from_now_on_holds_up_no_player(tiny_model, vad, head):
    room = asked(tiny_model, vad, head)
    room.say(loud(0.5, 1))
    assert room.of(ev.Yielded) and room.duplex.state is DialogueState.SPEAKING
    room.send(do.Configure(turn=TurnConfig(detect="manual")))
    room.say(loud(2, 1))
    assert len(room.of(ev.Resumed)) == 1 and not room.live.yielded
    assert room.duplex.state is DialogueState.LISTENING


def test_a_dismissed_voice_that_goes_on_is_talked_over(tiny_model, vad, head):
    """Background speech: one gap, and yield_ms does not count; after a silence it counts again."""
    room = asked(tiny_model, vad, head, yield_ms=800, silence_ms=200)
    head[:] = ["continue", "dismiss"]
    room.say(loud(10, 1))
    assert len(room.of(ev.Yielded)) == len(room.of(ev.Resumed)) == 1
    assert not room.of(ev.Interrupted) and room.duplex.state is DialogueState.OVERLAP
    head[:] = ["continue", "dismiss"]
    room.say(quiet(3), loud(1, 2))
    assert len(room.of(ev.Yielded)) == 2


@pytest.mark.parametrize("how", ["state", "voice", "never"])
def test_nobody_else_gives_way(tiny_model, vad, head, how):
    room = asked(tiny_model, vad, head, interrupt=how)
    room.say(loud(1, 1))
    assert not room.of(ev.Yielded, ev.Resumed)


def test_a_clear_and_a_typed_note_let_it_go_on(tiny_model, vad, head):
    for command in (do.Clear(), do.HearText("note", answer=False)):
        room = asked(tiny_model, vad, head)
        room.say(loud(0.5, 1))  # its chunk is not whole yet
        assert room.of(ev.Yielded) and room.duplex.state is DialogueState.SPEAKING
        room.send(command)
        assert len(room.of(ev.Resumed)) == 1
        room.say(quiet(20))
        assert room.of(ev.Played)


@pytest.mark.parametrize("block", [777, 20000])
def test_block_sizes_do_not_matter(tiny_model, vad, head, block):
    runs = []
    for size in (CHUNK, block):
        head[:] = [*QUESTION, "continue", "dismiss", "continue", "continue", "respond"]
        duplex = Duplex(tiny_model, SHORT, vad=vad, eager=True)
        waves = quiet(1), loud(2), quiet(2.3), loud(1, 1), quiet(1.7), loud(2.5, 2), quiet(3)
        runs.append(hear(duplex, *waves, block=size))
    told = ev.Yielded | ev.Resumed | ev.Interrupted | ev.TurnEnded
    lists = [[replace_time(e) for e in run if isinstance(e, told)] for run in runs]
    assert lists[0] == lists[1] and len(of(runs[0], ev.Yielded)) == 2


def replace_time(event: ev.DuplexEvent) -> dict:
    return {name: value for name, value in vars(event).items() if name != "time"}


def overtaken(tiny_model, vad, head, monkeypatch, command) -> Duplex:
    """A command comes while the candidate reads the history again; then the user goes on."""
    head[:] = QUESTION
    duplex = Duplex(tiny_model, SHORT, vad=vad)
    events = hear(duplex, quiet(1), loud(2))
    whole = of(events, ev.ReplyDone)[0]
    duplex.send(do.Played(whole.samples // 3))
    duplex.send(do.HearText("wait", answer=False))  # so that its answer cannot be cropped
    list(duplex.run())
    refeed, sent = Conversation.refeed, []

    def slowly(talk, size, prefixes):
        steps = refeed(talk, 16, prefixes)
        result = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration:
                return
            if not sent:
                sent.append(command)
                duplex.send(command)
            result = yield step

    monkeypatch.setattr(Conversation, "refeed", slowly)
    head[:] = ["continue", "respond"]
    duplex.push(loud(1, 1))
    events = list(duplex.run())
    monkeypatch.setattr(Conversation, "refeed", refeed)
    assert sent and not of(events, ev.Error)
    return duplex


def test_an_interrupt_while_the_candidate_reads_leaves_none(tiny_model, vad, head, monkeypatch):
    duplex = overtaken(tiny_model, vad, head, monkeypatch, do.Interrupt())
    assert duplex.engine.candidate is None and duplex.state is DialogueState.LISTENING
    assert [turn.number for turn in duplex.conversation.turns] == [0, 1, 2]
    assert duplex.conversation.turns[-1].open
    events = hear(duplex, loud(1, 2))
    assert of(events, ev.ReplyStarted)[0].turn == 2 and not of(events, ev.Error)
    assert duplex.conversation.turns[-1].answer.text
    check_context(duplex)


def test_the_end_of_a_reply_while_the_candidate_reads_leaves_none(
    tiny_model, vad, head, monkeypatch
):
    duplex = overtaken(tiny_model, vad, head, monkeypatch, do.Played(10**9))
    assert duplex.engine.candidate is None and duplex.state is DialogueState.LISTENING
    events = hear(duplex, loud(1, 2))
    assert of(events, ev.ReplyStarted)[0].turn == 2
    check_context(duplex)


@pytest.mark.parametrize("command", [do.Delete(0), do.Truncate(0, 0), do.Configure(system="Hm.")])
def test_a_change_while_the_candidate_reads_is_not_lost(
    tiny_model, vad, head, monkeypatch, command
):
    duplex = overtaken(tiny_model, vad, head, monkeypatch, command)
    hear(duplex, loud(1, 2))
    talk = duplex.conversation
    assert [turn.number for turn in talk.turns][-1] == 2
    if isinstance(command, do.Delete):
        assert talk.find(0) is None
    elif isinstance(command, do.Truncate):
        assert talk.find(0).answer.text == ""
    else:
        assert talk.system == "Hm."
    list(duplex.run())
    check_context(duplex)


def test_a_reply_that_is_stopped_while_it_reads_the_context_has_it_read_again(
    tiny_model, vad, monkeypatch
):
    duplex = Duplex(tiny_model, replace(CFG, duplex=replace(CFG.duplex, refeed=16)), vad=vad,
                    turn=TurnConfig(detect="manual"))  # fmt: skip
    duplex.send(do.HearText("hello, who are you and what do you do?"))
    list(duplex.run())
    duplex.send(do.Interrupt())
    duplex.send(do.HearText("well?", answer=False))
    list(duplex.run())
    duplex.send(do.Respond(system="Shout."))
    list(duplex.run(steps=2))
    assert duplex.tasks.reply is not None
    duplex.send(do.Interrupt())
    list(duplex.run())
    duplex.send(do.HearText("go on"))
    assert of(duplex.run(), ev.ReplyDone)
    check_context(duplex)


@pytest.fixture
def holding(tiny_model, monkeypatch):
    """An adapter of words holds the last one back until the question ends."""
    if not tiny_model.adapter.requires_ctc:
        pytest.skip("the paper's adapter holds nothing back")
    rows = torch.eye(tiny_model.ctc_head.classes)[[1, 2, 1, 2]] * 100
    monkeypatch.setattr(tiny_model.ctc_head, "forward", lambda x: rows[None])
    return tiny_model


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize(
    "then", [do.HearText("and?"), do.SayText("no"), do.Configure(system="Hm.")]
)
def test_a_question_whose_answer_was_stopped_at_once_keeps_its_last_word(
    holding, vad, head, steps, then
):
    head[:] = QUESTION
    plain = Duplex(holding, CFG, vad=vad, speak=False)
    hear(plain, loud(2))
    whole = torch.cat(plain.conversation.turns[0].heard, dim=1)
    head[:] = QUESTION
    duplex = Duplex(holding, CFG, vad=vad, speak=False)
    hear(duplex, loud(1))
    duplex.push(loud(2)[CHUNK:])
    events = list(duplex.run(steps=1))
    while duplex.tasks.reply is None:
        events += duplex.run(steps=1)
    events += duplex.run(steps=0)
    if steps:
        duplex.engine.unread = True  # the context is read first
        list(duplex.run(steps=steps))
    duplex.send(do.Interrupt())
    duplex.send(then)
    duplex.send(do.HearText("go on"))
    events += duplex.run()
    assert of(events, ev.Interrupted)
    assert torch.equal(torch.cat(duplex.conversation.turns[0].heard, dim=1), whole)


def test_a_turn_keeps_no_states_of_its_answer(tiny_model, vad):
    duplex = Duplex(tiny_model, SHORT, vad=vad, turn=TurnConfig(detect="manual"))
    duplex.send(do.HearText("hello"))
    list(duplex.run())
    kept = duplex.conversation.turns[0].pieces
    assert kept and not any(isinstance(v, torch.Tensor) for p in kept for v in vars(p).values())
