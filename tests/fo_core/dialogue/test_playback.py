"""Audio that comes too late is counted, from when it could be heard."""

import pytest

from fo_core.dialogue.playback import Playback, Underruns


@pytest.fixture
def clock(monkeypatch):
    """The machine's clock, s; it stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr("fo_core.dialogue.playback.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def playback(clock):
    """Of a reply whose first 0.5 s came at the user's sample 0."""
    found = Playback(24000)
    found.begin_part()
    found.add(12000, clock=0)
    return found


def test_audio_that_comes_after_all_before_it_was_played_is_an_underrun():
    late = Underruns()
    for seconds, now in ((0.5, 1.0), (0.5, 1.4), (0.5, 2.25), (0.5, 2.5)):
        late.add(seconds, now)
    assert late.count == 1 and late.seconds == pytest.approx(0.25)  # 2.0 to 2.25


def test_audio_that_was_held_back_is_played_from_when_it_is_let_go(clock, playback):
    """Of a reply that was begun in a pause: the pause is no gap in it."""
    clock[0] += 3.0
    playback.start(clock=48000)
    clock[0] += 0.4
    playback.add(12000, clock=54400)
    assert playback.underruns.count == 0
    clock[0] += 1.0  # all is played 0.4 s before
    playback.add(12000, clock=70400)
    assert playback.underruns.count == 1
    assert playback.underruns.seconds == pytest.approx(0.4)


def test_a_pause_for_a_voice_is_no_gap_but_a_gap_before_and_after_it_is(clock, playback):
    clock[0] += 0.25
    playback.pause(clock=4000)
    clock[0] += 5.0
    playback.add(6000, clock=84000)  # 0.25 s, while it stands still
    assert playback.underruns.count == 0
    clock[0] += 5.0
    playback.resume(clock=164000)
    clock[0] += 0.75  # the rest of both is played 0.25 s before
    playback.add(12000, clock=176000)
    assert playback.underruns.count == 1
    assert playback.underruns.seconds == pytest.approx(0.25)
    clock[0] += 0.75
    playback.pause(clock=188000)
    clock[0] += 9.0
    playback.add(12000, clock=332000)  # 0.25 s of silence before the pause
    assert playback.underruns.count == 2
    assert playback.underruns.seconds == pytest.approx(0.5)
