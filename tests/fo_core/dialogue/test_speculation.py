"""Replies begun in pauses: the same as without, nothing of those that were for nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fo_core import shipped
from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.sessions.batching import Slot
from fo_core.dialogue.sessions.pool import Pool, PoolConfig
from fo_core.dialogue.settings import DuplexConfig, SpeculateConfig, TurnConfig, read_dialogue
from fo_core.dialogue.task_scheduler import SPARE
from fo_core.dialogue.tool_calls import ToolConfig
from fo_core.errors import ConfigError
from fo_core.io import audio
from fo_core.models import freeze_omni
from fo_core.models.adapter.word_adapter import WordAdapter
from fo_core.sampling import SamplingConfig
from tests.support.duplex_talk import CFG, CHUNK, check_context, hear, loud, of, quiet, sound

OFF = replace(CFG, speculate=SpeculateConfig(how="off"))
ANY = replace(CFG, speculate=SpeculateConfig(how="any"))
QUESTION = quiet(1), loud(2), quiet(3)  # heard with [-, 0, 0, .2, .2, 1] of `likely`
LIKELY = [0.0, 0.0, 0.2, 0.2, 1.0]  # of state 1, chunk by chunk


@pytest.fixture
def likely(tiny_model, monkeypatch):
    """Probabilities of state 1 that the head gives next, then 0."""
    script: list[float] = []

    def step(hidden, frames, memory):
        p = script.pop(0) if script else 0.0
        return torch.tensor([[[1.0 - p, p, 0.0]]]), memory

    monkeypatch.setattr(tiny_model.state_head, "step", step)
    return script


@pytest.fixture
def silent(tiny_model, monkeypatch):
    """A model whose adapter gives nothing for silence."""
    if not tiny_model.adapter.requires_ctc:
        pytest.skip("this adapter gives vectors for everything")
    whole, classify, loudness = Listener.hear, tiny_model.ctc_head.forward, [0.0]

    def hear_chunk(self, chunk):
        loudness[0] = float(chunk.abs().max())
        return whole(self, chunk)

    def classes(encoded):
        logits = classify(encoded)
        if loudness[0] < 0.01:
            logits[..., 0] += 1e4
        return logits

    monkeypatch.setattr(Listener, "hear", hear_chunk)
    monkeypatch.setattr(tiny_model.ctc_head, "forward", classes)
    return tiny_model


def told(events) -> list:
    """All that a client is told, samples and moments of the user's clock included."""
    rows = []
    for event in events:
        if not isinstance(event, ev.SpeculationBegun | ev.SpeculationEnded):
            row = {k: v for k, v in vars(event).items() if k not in ("time", "speculated")}
            row["audio"] = row["audio"].tobytes() if "audio" in row else b""
            rows.append((type(event).__name__, row))
    return rows


def ends(events) -> list[tuple[str, str]]:
    return [(e.outcome, e.why) for e in of(events, ev.SpeculationEnded)]


def keys(duplex) -> torch.Tensor:
    cache = duplex.conversation.cache.cache
    cache.claim()
    return cache.keys[:, :, :, : cache.length].clone()


@pytest.mark.parametrize("detect", ["semantic", "server"])
def test_the_reply_and_the_history_are_those_of_a_talk_without(silent, vad, likely, detect):
    """Bit for bit, with random sampling: text, samples, events, the LLM's cache, the next turn."""
    turn = TurnConfig(detect=detect, silence_ms=480)
    runs = []
    for cfg in (CFG, OFF):
        likely[:] = LIKELY * 2
        duplex = Duplex(silent, cfg, vad=vad, turn=turn)
        events = hear(duplex, *QUESTION)
        duplex.send(do.Played(2**40))
        events += duplex.run()
        events += hear(duplex, quiet(2), loud(2, 1), quiet(3.2))
        runs.append((events, keys(duplex), duplex.conversation))
    (with_it, cache, talk), (without, other, plain) = runs
    assert told(with_it) == told(without)
    assert torch.equal(cache, other)
    for mine, its in zip(talk.turns, plain.turns, strict=True):
        assert mine.answer == its.answer and mine.pieces == its.pieces and mine.answer.text
        assert (mine.start, mine.chunks, mine.voiced) == (its.start, its.chunks, its.voiced)
    assert [e.speculated for e in of(with_it, ev.ReplyStarted)] == ["exact", "exact"]
    assert ends(with_it) == [("committed", "turn_ended")] * 2
    assert not of(without, ev.SpeculationBegun)
    for begun, ended in zip(
        of(with_it, ev.SpeculationBegun), of(with_it, ev.SpeculationEnded), strict=True
    ):
        assert ended.at - begun.at >= CHUNK and ended.milliseconds > 0 < ended.text_tokens


def test_nothing_is_handed_out_before_the_turn_is_over_and_no_more_is_made_than_the_first_audio(
    silent, vad, likely
):
    likely[:] = [0.0, 0.0, 0.2]
    duplex = Duplex(silent, CFG, vad=vad)
    events = hear(duplex, *QUESTION, quiet(5))
    assert len(of(events, ev.SpeculationBegun)) == 1
    assert not of(events, ev.TextDelta) and not of(events, ev.AudioDelta)
    held = of(duplex.engine.speculation._trial.job._held, ev.AudioDelta)
    assert len(held) == 1
    likely[:] = [1.0]
    after = hear(duplex, quiet(1))
    kinds = [type(event).__name__ for event in after]
    assert kinds[kinds.index("ReplyStarted") + 1 :][:2] == ["TextDelta", "AudioDelta"]
    assert np.array_equal(of(after, ev.AudioDelta)[0].audio, held[0].audio)
    assert duplex.engine.reply.playback.position(duplex.turns.audio.position) == 0, "not played yet"


def test_who_speaks_on_finds_no_trace_and_it_is_begun_so_often_at_most(silent, vad, likely):
    waves = [quiet(1), loud(2), quiet(2), loud(2, 1), quiet(2), loud(1, 2), quiet(3)]
    script = [0.0, 0.0, 0.2, 0.2, 0.0, 0.0, 0.2, 0.2, 0.0, 0.2, 0.2, 1.0]
    runs = []
    for cfg in (replace(CFG, speculate=SpeculateConfig(per_turn=2)), OFF):
        likely[:] = script
        runs.append(hear(Duplex(silent, cfg, vad=vad), *waves))
    assert told(runs[0]) == told(runs[1])
    assert len(of(runs[0], ev.SpeculationBegun)) == 2
    assert ends(runs[0]) == [("dropped", "voice")] * 2
    for ended in of(runs[0], ev.SpeculationEnded):
        assert ended.text_tokens >= 3 and ended.speech_tokens >= 4 and ended.milliseconds > 0
    assert of(runs[0], ev.ReplyStarted)[0].speculated == "no"


def test_an_adapter_that_hears_silence_is_marked_and_only_where_it_is_asked_for(
    tiny_model, vad, likely
):
    if tiny_model.adapter.requires_ctc:
        pytest.skip("this adapter gives nothing for silence")
    likely[:] = LIKELY
    assert not of(hear(Duplex(tiny_model, CFG, vad=vad), *QUESTION), ev.SpeculationBegun)
    likely[:] = LIKELY
    duplex = Duplex(tiny_model, ANY, vad=vad)
    events = hear(duplex, *QUESTION)
    assert of(events, ev.ReplyStarted)[0].speculated == "early"
    assert sound(events, 0).size == of(events, ev.ReplyDone)[0].samples > 0
    check_context(duplex)


def test_words_that_are_not_those_of_the_pause_are_answered_anew(
    tiny_model, vad, likely, monkeypatch
):
    """What the adapter says after the pause began, though no voice was found."""
    if not tiny_model.adapter.requires_ctc:
        pytest.skip("of an adapter that hands on words")
    runs = []
    for cfg in (CFG, OFF):  # the random head hears classes in silence
        likely[:] = LIKELY
        runs.append(hear(Duplex(tiny_model, cfg, vad=vad), *QUESTION))
    assert told(runs[0]) == told(runs[1])
    assert ends(runs[0]) == [("dropped", "changed")]


@pytest.mark.parametrize(
    "command",
    [
        do.HearText("stop that"),
        do.SayText("by the way"),
        do.Configure(temperature=2.0),
        do.Configure(system="Be long.", max_tokens=12),
        do.Configure(speak=False),
        do.Clear(),
        do.Respond(apart=True, system="Say hello."),
        do.Delete(0),
        do.Interrupt(),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_command_in_the_pause_ends_it_and_has_the_effect_it_has_without(
    silent, vad, likely, command
):
    runs = []
    for cfg in (CFG, OFF):
        likely[:] = [0.0, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        duplex = Duplex(silent, cfg, vad=vad)
        events = hear(duplex, *QUESTION[:2], quiet(1.5))
        duplex.send(command)
        events += hear(duplex, quiet(2.5), loud(2, 1), quiet(3))
        runs.append((events, duplex))
    assert told(runs[0][0]) == told(runs[1][0])
    assert ("dropped", "command") in ends(runs[0][0])
    assert torch.equal(keys(runs[0][1]), keys(runs[1][1]))


def test_what_counts_as_played_and_a_commit_end_no_speculation(silent, vad, likely):
    runs = []
    for cfg in (CFG, OFF):
        likely[:] = [0.0, 0.0, 0.2, 0.2]
        duplex = Duplex(silent, cfg, vad=vad)
        events = hear(duplex, *QUESTION[:2], quiet(1.5))
        duplex.send(do.Played(0))
        duplex.send(do.Commit())
        runs.append(events + list(duplex.run()))
    assert told(runs[0]) == told(runs[1])
    assert ends(runs[0]) == [("committed", "turn_ended")]


@pytest.mark.parametrize("interrupt", ["state", "yield"])
def test_a_question_over_the_bots_voice_too(silent, vad, likely, interrupt):
    """On a branch of the barge-in candidate, which is a branch itself."""
    turn, runs = TurnConfig(interrupt=interrupt), []
    for cfg in (CFG, OFF):
        likely[:] = [0.0, 0.0, 1.0, 0.0, 0.0, 0.2, 0.2, 1.0]
        duplex = Duplex(silent, cfg, vad=vad, turn=turn)
        runs.append((hear(duplex, *QUESTION[:2], quiet(3), loud(2, 1), quiet(4)), keys(duplex)))
        check_context(duplex)
    assert told(runs[0][0]) == told(runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert of(runs[0][0], ev.Interrupted)
    assert [e.speculated for e in of(runs[0][0], ev.ReplyStarted)] == ["no", "exact"]


def test_a_dismissed_turn_drops_it(silent, vad, monkeypatch):
    rows = [[0.9, 0.0, 0.1], [0.9, 0.0, 0.1], [0.7, 0.2, 0.1], [0.0, 0.0, 1.0]]
    script = iter(rows)
    monkeypatch.setattr(
        silent.state_head, "step", lambda *_: (torch.tensor([[next(script)]]), None)
    )
    duplex = Duplex(silent, CFG, vad=vad)
    events = hear(duplex, quiet(1), loud(2), quiet(2))
    assert ends(events) == [("dropped", "given_up")] and not duplex.conversation.turns


def test_a_short_reply_is_whole_before_it_is_asked_for(silent, vad, likely):
    short = replace(CFG.segmenter, max_tokens=3), replace(CFG.speaker, max_tokens=3)
    runs = []
    for how in ("exact", "off"):
        likely[:] = LIKELY
        speculate = SpeculateConfig(how=how)
        cfg = replace(CFG, segmenter=short[0], speaker=short[1], speculate=speculate)
        duplex = Duplex(silent, cfg, vad=vad)
        runs.append(hear(duplex, *QUESTION))
        assert duplex.tasks.reply is None and duplex.tasks.spare is None
    assert told(runs[0]) == told(runs[1])
    assert of(runs[0], ev.ReplyStarted)[0].speculated == "exact" and of(runs[0], ev.ReplyDone)


def test_an_answer_in_text_alone_and_a_bound_of_tokens(silent, vad, likely):
    bounded = replace(CFG, speculate=SpeculateConfig(max_tokens=2))
    runs = []
    for cfg in (bounded, OFF):
        likely[:] = LIKELY
        runs.append(hear(Duplex(silent, cfg, vad=vad, speak=False), *QUESTION))
    assert told(runs[0]) == told(runs[1])
    assert of(runs[0], ev.SpeculationEnded)[0].text_tokens == 2


def test_functions_are_called_once_the_turn_is_over(silent, vad, likely):
    tool = {"type": "function", "name": "dim", "parameters": {"type": "object"}}
    runs = []
    for cfg in (CFG, OFF):
        likely[:] = LIKELY
        duplex = Duplex(silent, cfg, vad=vad)
        duplex.send(do.Configure(tools=ToolConfig((tool,), choice="required")))
        events = hear(duplex, *QUESTION)
        runs.append([row for row in told(events) if row[0] != "FunctionCall"])
        before = events.index(of(events, ev.ReplyStarted)[0])
        assert not of(events[:before], ev.FunctionCall)
    assert runs[0] == runs[1]


def test_one_that_fails_is_given_up_and_the_reply_is_made(silent, vad, likely, monkeypatch, caplog):
    likely[:] = LIKELY
    wanted = told(hear(Duplex(silent, OFF, vad=vad), *QUESTION))
    likely[:] = LIKELY
    duplex = Duplex(silent, CFG, vad=vad)
    whole, broken = type(silent.speech_decoder).prefill, [True]

    def prefill(self, *args, **kwargs):
        if broken.pop() if broken else False:
            raise RuntimeError("out of memory")
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(type(silent.speech_decoder), "prefill", prefill)
    events = hear(duplex, *QUESTION)
    assert ends(events)[0] == ("dropped", "failed") and "out of memory" in caplog.text
    assert told(events) == wanted


def test_as_if_the_model_took_no_time_none_is_begun(silent, vad, likely):
    likely[:] = LIKELY
    assert not of(hear(Duplex(silent, CFG, vad=vad, eager=True), *QUESTION), ev.SpeculationBegun)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="speculate.threshold"):
        SpeculateConfig(threshold=1.0)
    with pytest.raises(ConfigError, match="speculate.per_turn"):
        SpeculateConfig(per_turn=0)


# --- in a pool ---


def test_it_waits_while_the_machine_works_for_others(tiny_model, vad):
    """Alone it is worked on; beside a user who is served, or is to be, it is not."""
    with Pool(tiny_model, CFG, PoolConfig(workers=1, max_sessions=4), vad) as pool:
        group = pool._groups[0]
        with pool.lock:
            waiting = [_slot(SPARE), _slot(SPARE)]
            group.slots = list(waiting)
            assert group.pick(8, 10**9) == waiting[:1], "one at a time"
            waiting[1].busy = True
            assert group.pick(8, 10**9) == []
            other = _slot(1)
            group.slots = [waiting[0], other]
            for _ in range(7):  # however long it waited
                assert group.pick(8, 10**9) == [other]
            waiting[0].incoming.append(quiet(1))  # its user's sound must not wait for long
            assert waiting[0] in group.pick(8, 10**9)
            group.slots = []


def _slot(level: int) -> Slot:
    step = SimpleNamespace(model=None, rows=1)
    return Slot(talk=None, duplex=object(), touched=0.0, step=step, level=level)


def test_a_pool_counts_them_and_those_of_sessions_that_close(silent, vad, likely):
    turn = TurnConfig(detect="server", silence_ms=480)
    cfg = replace(CFG, duplex=DuplexConfig(turn=turn))
    with Pool(silent, cfg, PoolConfig(workers=2, max_sessions=2), vad) as pool:
        talk = pool.open()
        talk.push(np.concatenate((quiet(1), loud(2), quiet(2))))
        while not isinstance(talk.get(timeout=30), ev.SpeculationBegun):
            pass
        talk.push(quiet(2))
        while not isinstance(talk.get(timeout=30), ev.ReplyDone):
            pass
        stats = pool.stats()
        assert stats.speculations == {"begun": 1, "committed": 1}
        assert stats.speculation_seconds["committed"] > 0 and not stats.discarded_tokens
        leaver = pool.open()
        leaver.push(np.concatenate((quiet(1), loud(2), quiet(2))))
        while not isinstance(leaver.get(timeout=30), ev.SpeculationBegun):
            pass
        while pool.working(leaver):
            pass
        leaver.close()
        stats = pool.stats()
        assert stats.speculations == {"begun": 2, "committed": 1, "dropped": 1}
        assert stats.discarded_tokens["speech"] >= 4 and stats.speculation_seconds["dropped"] > 0


# --- the shipped model ---


def test_the_shipped_models_replies_are_the_same_to_the_bit_and_so_is_the_next_turn(monkeypatch):
    """Its adapter writes words; those held back at the flush and those that become complete in
    the pause are read alike."""
    folder = shipped.model_folder("fo-smol")
    model = freeze_omni.load(folder)
    assert isinstance(model.adapter, WordAdapter)
    cfg = read_dialogue(folder)
    cfg = replace(
        cfg,
        sampling=SamplingConfig(temperature=0.8, top_k=20),
        segmenter=replace(cfg.segmenter, max_tokens=8),
        states=replace(cfg.states, smoothing=4),
    )
    wave = audio.read(shipped.recording("example"), 16000)
    runs = []
    for how in ("exact", "off"):
        duplex = Duplex(model, replace(cfg, speculate=replace(cfg.speculate, how=how)))
        events = []
        for _ in range(2):
            events += hear(duplex, wave, quiet(5), block=CHUNK)
            duplex.send(do.Played(2**40))
            events += duplex.run()
        runs.append((events, keys(duplex)))
    assert told(runs[0][0]) == told(runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert [e.speculated for e in of(runs[0][0], ev.ReplyStarted)] == ["exact", "exact"]
    assert all(e.answer.text for e in duplex.conversation.turns)
