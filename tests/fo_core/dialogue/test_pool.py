"""Many users, few models: nothing mixes, nobody waits for a slow or dead one, nothing is left."""

import asyncio
import copy
import gc
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from duplex_talk import GREEDY_CFG as CFG

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.sessions.pool import Overflow, Pool, PoolConfig, PoolFull
from fo_core.errors import AudioError
from fo_core.models.steps import DecoderRequest, LLMRequest, run_together

CHUNK = 2560
FAST = PoolConfig(workers=2, max_sessions=4, clock="sound")


def sound(seed: int, *plan: float) -> np.ndarray:
    """Chunks of silence and noise in turn."""
    draw = np.random.default_rng(seed)
    parts = [
        (0.3 * (i % 2) * draw.standard_normal(int(CHUNK * size))).clip(-1, 1)
        for i, size in enumerate(plan)
    ]
    return np.concatenate(parts).astype(np.float32)


def question(seed: int) -> np.ndarray:
    return sound(seed, 1, 3, 3)


def until(talk, kind, count: int = 1, seconds: float = 60.0) -> list[ev.DuplexEvent]:
    """Events up to the ``count``-th of a kind."""
    found, end = [], time.monotonic() + seconds
    while sum(isinstance(event, kind) for event in found) < count:
        event = talk.get(timeout=end - time.monotonic())
        assert event is not None, f"no {kind.__name__} in {seconds} s: {found}"
        found.append(event)
    return found


def audio(events, turn: int) -> np.ndarray:
    pieces = [e for e in events if isinstance(e, ev.AudioDelta) and e.turn == turn]
    assert [p.position for p in pieces] == list(
        np.cumsum([0, *(p.audio.size for p in pieces)])[:-1]
    )
    return np.concatenate([piece.audio for piece in pieces])


def told(events) -> list[tuple]:
    """Everything but the audio's samples, in order."""
    rows = []
    for event in events:
        row = {k: v for k, v in vars(event).items() if k not in ("time", "audio")}
        rows.append((type(event).__name__, {k: v for k, v in row.items() if type(v) is not float}))
    return rows


@pytest.mark.parametrize("batch", [1, 8])
def test_sessions_together_give_what_each_gives_alone(tiny_model, vad, batch):
    # the third talks over its first reply
    waves = [sound(1, 1, 3, 12, 2, 4), sound(2, 2, 2, 5, 5, 5), sound(3, 0, 2, 2, 2, 6)]
    cfg = replace(FAST, batch=batch)

    def serve(chosen) -> list[list[ev.DuplexEvent]]:
        with Pool(tiny_model, CFG, cfg, vad) as pool:
            talks = [pool.open() for _ in chosen]
            for start in range(0, max(map(len, waves)), 1000):
                for talk, wave in zip(talks, chosen, strict=True):
                    talk.push(wave[start : start + 1000])
            return [until(talk, ev.ReplyDone, 2) for talk in talks]

    together = serve(waves)
    for events, wave in zip(together, waves, strict=True):
        alone = serve([wave])[0]
        assert told(events) == told(alone)
        for turn in (0, 1):
            assert np.array_equal(audio(events, turn), audio(alone, turn))
    assert any(isinstance(event, ev.Interrupted) for event in together[2])


def test_users_are_spread_over_the_models_and_get_what_they_get_alone(tiny_model, vad):
    """One model a device: a second copy answers the second user, with the first one's samples."""
    second = copy.deepcopy(tiny_model)
    waves = [question(1), question(2), question(3), question(4)]
    alone = []
    for wave in waves:
        with Pool(tiny_model, CFG, FAST, vad) as pool:
            talk = pool.open()
            talk.push(wave)
            alone.append(told(until(talk, ev.ReplyDone)))
    with Pool([tiny_model, second], CFG, FAST, vad) as pool:
        talks = [pool.open() for _ in waves]
        assert [pool._slots[talk].duplex.model is second for talk in talks] == [
            False,
            True,
            False,
            True,
        ]
        for talk, wave in zip(talks, waves, strict=True):
            talk.push(wave)
        assert [told(until(talk, ev.ReplyDone)) for talk in talks] == alone
        talks[0].close()
        assert pool._slots[pool.open()].duplex.model is tiny_model  # the place that became free


def test_a_batch_of_different_lengths_is_each_step_alone(tiny_model):
    llm, decoder = tiny_model.llm, tiny_model.speech_decoder
    thoughts, sentences = [], []
    for row in range(4):
        state = llm.init_state(1, 8)
        llm.step(llm.embed([5] * (3 + 4 * row)), state)
        thoughts.append(LLMRequest(llm, llm.embed([20 + row] * (1 + row % 3)), state))
        start = decoder.prefill(torch.randn(1, 2 + row, decoder.cfg.dim))
        sentences.append(DecoderRequest(decoder, torch.tensor([row]), start))
    for steps, cache in ((thoughts, lambda s: s.state.cache), (sentences, lambda s: s.state.cache)):
        lengths = [cache(step).length for step in steps]
        found = run_together(steps)
        grown = [cache(step).length for step in steps]
        for step, length, result in zip(steps, lengths, found, strict=True):
            cache(step).crop(length)
            torch.testing.assert_close(result, step.run(), rtol=0, atol=1e-4)
        assert grown == [cache(step).length for step in steps]


def test_steps_run_in_batches(tiny_model, vad):
    with Pool(tiny_model, CFG, replace(FAST, workers=1), vad) as pool:
        talks = [pool.open() for _ in range(4)]
        for seed, talk in enumerate(talks):
            talk.push(question(seed))
        for talk in talks:
            until(talk, ev.ReplyDone)
        stats = pool.stats()
    assert (
        stats.steps["DecoderRequest"] > 1.5 * stats.batches["DecoderRequest"]
        and stats.replies.total() == 4
    )


def test_the_models_own_system_text_is_read_once_and_a_users_own_by_him(tiny_model, vad):
    with Pool(tiny_model, CFG, FAST, vad) as pool:
        talks = [pool.open() for _ in range(3)]
        until_idle(pool, talks)
        assert not pool.stats().steps  # read before they came
        lengths = {pool._slots[talk].duplex.conversation.length for talk in talks}
        assert lengths == {len(tiny_model.chat.system_ids)} and lengths != {0}
        own = pool.open("Be long and merry.")
        until_idle(pool, [own])
        assert own.closed is None and pool._slots[own].duplex.conversation.length != lengths.pop()
        assert pool.stats().steps["LLMRequest"] > 0


def test_long_texts_of_several_users_are_not_read_in_one_batch(tiny_model, vad, monkeypatch):
    """Read together they would hold up everybody else for their summed length."""
    sizes: list[list[int]] = []

    def noted(steps):
        sizes.append([step.rows for step in steps])
        return run_together(steps)

    monkeypatch.setattr("fo_core.dialogue.sessions.pool.run_together", noted)
    monkeypatch.setattr("fo_core.dialogue.sessions.batching.ROWS", 8)
    cfg = replace(CFG, duplex=replace(CFG.duplex, refeed=6))
    with Pool(tiny_model, cfg, replace(FAST, workers=1), vad) as pool:
        talks = [pool.open("aeiou" * (3 + n)) for n in range(4)]
        for talk in talks:
            talk.send(do.HearText("hi"))
        for talk in talks:
            until(talk, ev.ReplyDone)
    assert [6] in sizes and any(len(batch) > 1 for batch in sizes)
    assert all(sum(batch) <= 8 or len(batch) == 1 for batch in sizes)


def until_idle(pool: Pool, talks) -> None:
    end = time.monotonic() + 60
    while any(pool.working(talk) for talk in talks):
        assert time.monotonic() < end, "the pool never came to rest"
        time.sleep(0.01)


def test_a_consumer_that_reads_nothing_stops_only_its_own_reply(tiny_model, vad):
    cfg = replace(FAST, output_seconds=0.05)
    with Pool(tiny_model, CFG, cfg, vad) as pool:
        slow, other = pool.open(), pool.open()
        slow.push(question(1))
        until_work_is_done(pool)
        assert pool._slots[slow].duplex.tasks.reply is not None  # it waits
        other.push(question(2))
        assert audio(until(other, ev.ReplyDone), 0).size
        assert audio(until(slow, ev.ReplyDone), 0).size  # it goes on when it is read


def until_work_is_done(pool: Pool) -> None:
    before = None
    for _ in range(600):
        time.sleep(0.1)
        stats = pool.stats()
        now = (stats.steps, stats.working)
        if now == before and stats.opened and stats.working == 0 and stats.steps:
            return
        before = now
    raise AssertionError("the pool never came to rest")


def test_whoever_leaves_in_the_middle_leaves_nothing(tiny_model, vad):
    with Pool(tiny_model, CFG, FAST, vad) as pool:
        gone = []
        for number in range(12):
            talk = pool.open()
            talk.push(question(number))
            gone.append(weakref.ref(pool._slots[talk].duplex))
            if number % 3:
                until(talk, ev.SpeechStarted if number % 2 else ev.TextDelta)
            talk.close()
            talk.close()
            talk.push(question(0))  # nobody is there
            talk.send(do.Interrupt())
            assert until(talk, ev.Closed)[-1].reason == "client"
            assert isinstance(talk.get(), ev.Closed)
        stay = pool.open()
        stay.push(question(99))
        until(stay, ev.ReplyDone)
        assert pool.stats().sessions == 1 and pool.stats().closed["client"] == 12
        talk = None
        for _ in range(100):
            gc.collect()
            if not any(ref() is not None for ref in gone):
                break
            time.sleep(0.05)
        assert not any(ref() is not None for ref in gone)


def test_a_model_that_raises_for_one_harms_no_other(tiny_model, vad, monkeypatch):
    llm_step = tiny_model.llm.step

    def step(embeds, state, *rest):
        if any(state is one for one in marked):
            raise RuntimeError("it broke")
        return llm_step(embeds, state, *rest)

    def ragged(stack, rows, caches, shifts):
        if any(any(cache is state.cache for state in marked) for cache in caches):
            raise RuntimeError("the batch broke")
        return run_ragged(stack, rows, caches, shifts)

    import fo_core.models.llm.frozen_llm as frozen_llm

    marked: list = []
    run_ragged = frozen_llm.run_ragged
    monkeypatch.setattr(tiny_model.llm, "step", step)
    monkeypatch.setattr(frozen_llm, "run_ragged", ragged)
    with Pool(tiny_model, CFG, replace(FAST, workers=1), vad) as pool:
        talks = [pool.open() for _ in range(3)]
        for talk in talks:
            talk.send(do.HearText("hi"))
        for talk in talks:
            until(talk, ev.ReplyDone)
            talk.send(do.Played(10**9))
            until(talk, ev.Played)
        marked.append(pool._slots[talks[0]].duplex.conversation.cache)
        for seed, talk in enumerate(talks):
            talk.push(question(seed))
        error = until(talks[0], ev.Error)[-1]
        assert error.code == "model" and "broke" in error.message
        for talk in talks[1:]:
            done = [e for e in until(talk, ev.ReplyDone) if isinstance(e, ev.ReplyDone)]
            assert "failed" not in [event.status for event in done]


def test_limits(tiny_model, vad):
    cfg = replace(FAST, max_sessions=1, input_seconds=1.0)
    with Pool(tiny_model, CFG, cfg, vad) as pool:
        talk = pool.open()
        with pytest.raises(PoolFull, match="at capacity"):
            pool.open()
        with pytest.raises(Overflow, match="input buffer overflow"):
            talk.push(np.zeros(17000, np.float32))
        with pytest.raises(AudioError):
            talk.push(np.array([np.inf], np.float32))
        talk.push(question(1)[:16000])
        talk.close()
        assert pool.open()
    with pytest.raises(PoolFull):
        pool.open()


@pytest.mark.parametrize(
    ("limit", "reason"),
    [({"idle_seconds": 0.2}, "idle"), ({"stall_seconds": 0.2}, "stalled"),
     ({"session_seconds": 0.2}, "too_long")],
)  # fmt: skip
def test_sessions_end_by_themselves(tiny_model, vad, limit, reason):
    with Pool(tiny_model, CFG, replace(FAST, **limit), vad) as pool:
        talk = pool.open()
        talk.push(question(1))
        for _ in range(600):
            if talk.closed is not None:
                break
            time.sleep(0.05)
        assert talk.closed.reason == reason and pool.stats().sessions == 0


def test_closing_the_pool_ends_all(tiny_model, vad):
    pool = Pool(tiny_model, CFG, FAST, vad)
    talk = pool.open()
    talk.push(question(1))
    pool.close()
    assert until(talk, ev.Closed)[-1].reason == "shutdown"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pool-")]


def test_events_come_to_asyncio(tiny_model, vad):
    async def talk_to(pool: Pool, seed: int) -> list[ev.DuplexEvent]:
        talk = pool.open()
        talk.push(question(seed))
        found = []
        async for event in talk:
            found.append(event)
            if isinstance(event, ev.ReplyDone):
                talk.close()
        return found

    async def all_of_them() -> list:
        with Pool(tiny_model, CFG, FAST, vad) as pool:
            return await asyncio.gather(*(talk_to(pool, seed) for seed in range(3)))

    for events in asyncio.run(all_of_them()):
        assert audio(events, 0).size and isinstance(events[-1], ev.Closed)
        times = [event.time for event in events]
        assert times == sorted(times) and times[0] > 0
