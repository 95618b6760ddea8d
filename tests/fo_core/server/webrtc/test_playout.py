"""What is sent of a reply, when it counts as heard, and what an interruption drops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

from fo_core.dialogue import events as ev
from fo_core.dialogue.speech.ducking import DUCK_GAIN, DUCK_SECONDS
from fo_core.server.webrtc.media import Media
from fo_core.server.webrtc.playout import FADE, TELL, Playout

FRAME = 480


def playing() -> tuple[Playout, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    return Playout(lambda turn, position: told.append((turn, position))), told


def test_a_reply_is_sent_whole_and_in_order_and_its_position_is_told() -> None:
    playout, told = playing()
    wave = np.linspace(-1, 1, 12_345, dtype=np.float32)
    sent = []
    for start, stop in ((0, 1000), (1000, 1001), (1001, 9000), (9000, 12_345)):
        playout.add(3, start, wave[start:stop])
        sent.append(playout.take(FRAME))
    playout.made(3)
    while playout.waiting:
        sent.append(playout.take(FRAME))
    sound = np.concatenate(sent)
    assert np.array_equal(sound[: len(wave)], wave) and not sound[len(wave) :].any()
    assert playout.changes() == [("started", 3), ("stopped", 3)]
    positions = [position for turn, position in told if turn == 3]
    assert positions == sorted(set(positions)) and positions[-1] == len(wave)
    assert max(np.diff([0, *positions])) <= TELL + FRAME


def test_a_gap_in_the_making_is_silence_and_no_end() -> None:
    playout, _ = playing()
    playout.add(0, 0, np.ones(FRAME, np.float32))
    assert playout.take(FRAME).all() and not playout.take(FRAME).any()
    assert playout.changes() == [("started", 0)] and playout.turn == 0
    playout.add(0, FRAME, np.ones(FRAME, np.float32))
    playout.made(0)
    assert playout.take(FRAME).all()
    assert playout.changes() == [("stopped", 0)] and playout.turn is None


def test_what_is_cut_off_fades_and_nothing_of_it_follows() -> None:
    playout, told = playing()
    playout.add(1, 0, np.ones(10 * FRAME, np.float32))
    playout.take(2 * FRAME)
    playout.cut(1)
    assert told[-1] == (1, 2 * FRAME)  # what was heard, to the sample
    rest = playout.take(FRAME)
    assert np.all(np.diff(rest[:FADE]) < 0) and not rest[FADE:].any()
    playout.add(1, 10 * FRAME, np.ones(FRAME, np.float32))  # was on its way
    playout.made(1)
    assert not playout.take(FRAME).any()
    assert playout.changes() == [("started", 1), ("cleared", 1)]
    playout.add(2, 0, np.ones(FRAME, np.float32))
    playout.made(2)
    assert playout.take(FRAME).all()
    assert playout.changes() == [("started", 2), ("stopped", 2)]


def test_a_whole_reply_that_is_cut_off_leaves_the_next_one_alone() -> None:
    playout, _ = playing()
    playout.add(1, 0, np.ones(10 * FRAME, np.float32))
    playout.made(1)
    playout.take(FRAME)
    playout.add(2, 0, np.full(FRAME, 0.5, np.float32))
    playout.cut(1)
    sound = playout.take(2 * FRAME)
    assert np.all(sound[FADE : FADE + FRAME] == 0.5)
    assert playout.changes() == [("started", 1), ("cleared", 1), ("started", 2)]


def test_a_reply_without_sound_changes_nothing() -> None:
    playout, told = playing()
    playout.made(0)
    playout.cut(1)
    assert not playout.take(FRAME).any() and playout.changes() == [] and told == []


def test_a_reply_that_gives_way_goes_on_with_the_sample_after_the_last() -> None:
    playout, _ = playing()
    wave = np.arange(1, 4 * FRAME + 1, dtype=np.float32)
    playout.add(1, 0, wave)
    playout.made(1)
    sent = [playout.take(FRAME)]
    playout.give_way(1, "pause")
    assert not playout.take(FRAME).any() and playout.turn == 1
    playout.go_on(1)
    sent += [playout.take(FRAME) for _ in range(3)]
    assert np.array_equal(np.concatenate(sent), wave)
    playout.add(2, 0, wave)
    playout.take(FRAME)
    playout.give_way(2, "pause")
    playout.cut(2)  # it wanted an answer: the old reply does not hold up the new one
    playout.add(3, 0, wave)
    assert playout.take(2 * FRAME)[FADE:].any()


def test_a_reply_that_stands_still_stays_silent_when_it_is_cut_off() -> None:
    playout, _ = playing()
    playout.add(1, 0, np.ones(4 * FRAME, np.float32))
    playout.take(FRAME)
    playout.give_way(1, "pause")
    assert not playout.take(FRAME).any()
    playout.cut(1)
    assert not playout.take(FRAME).any() and playout.changes()[-1] == ("cleared", 1)


def test_a_reply_that_ducks_goes_on_in_a_low_voice_and_comes_back_without_a_click() -> None:
    playout, told = playing()
    playout.add(1, 0, np.ones(10 * FRAME, np.float32))
    playout.made(1)
    full = playout.take(FRAME)
    playout.give_way(1, "duck")
    lowered = [playout.take(FRAME), playout.take(FRAME)]
    playout.go_on(2)  # another reply's word changes nothing
    lowered.append(playout.take(FRAME))
    playout.go_on(1)
    raised = [playout.take(FRAME) for _ in range(6)]
    sound = np.concatenate([full, *lowered, *raised])
    ramp = round(DUCK_SECONDS * 24000)
    assert np.abs(np.diff(sound)).max() < 1.01 / ramp  # 10 ms from full to nothing
    assert np.allclose(sound[FRAME + ramp : 4 * FRAME], DUCK_GAIN)
    assert np.all(sound[:FRAME] == 1) and np.all(sound[4 * FRAME + ramp :] == 1)
    assert told[-1] == (1, 10 * FRAME)  # it was heard: no sample waits or is lost
    assert playout.changes() == [("started", 1), ("stopped", 1)]


def test_a_low_voice_that_is_cut_off_fades_and_the_next_reply_is_loud() -> None:
    playout, _ = playing()
    playout.add(1, 0, np.ones(10 * FRAME, np.float32))
    playout.take(FRAME)
    playout.give_way(1, "duck")
    playout.take(FRAME)
    playout.cut(1)
    playout.add(2, 0, np.ones(2 * FRAME, np.float32))
    sound = playout.take(FRAME)
    assert sound[0] == np.float32(DUCK_GAIN) and np.all(np.diff(sound[:FADE]) < 0)
    assert np.all(sound[FADE:] == 1)


def test_a_low_voice_that_ends_leaves_the_next_reply_loud() -> None:
    playout, _ = playing()
    playout.add(1, 0, np.ones(2 * FRAME, np.float32))
    playout.made(1)
    playout.give_way(1, "duck")
    playout.take(2 * FRAME)
    playout.add(2, 0, np.ones(FRAME, np.float32))
    assert np.all(playout.take(FRAME) == 1)


@pytest.mark.parametrize("by", ["pause", "duck"])
def test_the_talks_words_reach_what_is_sent(by: Literal["pause", "duck"]) -> None:
    media = Media(SimpleNamespace(send=lambda command: None), None)  # type: ignore[arg-type]
    media.follow(ev.AudioDelta(1, 0, 0, np.ones(10 * FRAME, np.float32)))
    media.playout.take(FRAME)
    media.follow(ev.Yielded(1, by, 0, FRAME))
    low = media.playout.take(2 * FRAME)[FRAME:]
    assert np.allclose(low, DUCK_GAIN if by == "duck" else 0.0)
    media.follow(ev.Resumed(1, 3 * FRAME))
    assert np.allclose(media.playout.take(2 * FRAME)[FRAME:], 1.0)
