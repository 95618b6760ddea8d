"""What plays when, and the latencies that follow from it."""

import numpy as np

from fo_core.dialogue import events as ev
from fo_core.dialogue.drivers.live import Live


class Told:
    def __init__(self) -> None:
        self.heads: list[tuple[int, int | None]] = []

    def send(self, command):
        self.heads.append((command.position, command.turn))


def audio(turn: int, part: int, position: int, size: int) -> ev.AudioDelta:
    return ev.AudioDelta(turn, part, position, np.full(size, 0.1 * (part + 1), np.float32))


def test_a_turn_and_its_interruption():
    talk = Told()
    live = Live(talk, 24000)
    live.play(480 * 50)  # a second of silence
    live.see(ev.SpeechStarted(0, 1600))
    live.see(ev.TurnEnded(0, "respond", 1600, 12800, at=16000))
    live.see(ev.Transcript(0, "hello"))
    live.see(ev.TextDelta(0, 0, "One."))
    live.see(ev.TextDelta(0, 1, "Two."))
    assert not live.spoken and not live.playing
    live.see(audio(0, 0, 0, 600))
    live.see(audio(0, 1, 600, 2400))
    out = live.play(480)
    assert out.tolist() == [np.float32(0.1)] * 480 and list(live.spoken) == ["One."]
    live.play(480)
    assert list(live.spoken) == ["One.", "Two."] and talk.heads == [(480, 0), (960, 0)]
    live.see(ev.SpeechStarted(1, 16320))
    live.see(ev.Interrupted(0, "turn_detected", 960, "One.", at=16640))
    live.see(ev.ReplyDone(0, "cancelled", "One.Two.", 3000))
    assert not live.playing and not live.play(480).any()
    turn = live.turns[0]
    assert (turn.question, turn.answer, turn.heard) == ("hello", "One.Two.", "One.")
    assert (turn.played, turn.made) == (960, 3000)
    found = turn.latencies()
    assert found["decision_ms"] == 200 and found["first_audio_ms"] == 0
    assert found["response_ms"] == 200
    assert found["stop_ms"] == 20  # 16320 -> 16640: what sounded last
    assert found["stop_after_decision_ms"] == 0


def test_text_without_sound_and_dismissed_turns():
    live = Live(Told(), 24000)
    live.see(ev.TurnEnded(0, "dismiss", 0, 0))
    live.see(ev.TurnEnded(1, "text", 0, 0))
    live.see(ev.TextDelta(1, 0, "Hm."))
    live.see(ev.ReplyDone(1, "completed", "Hm.", 0))
    assert live.dismissed == 1 and list(live.spoken) == ["Hm."]
    assert live.turns[0].latencies()["first_audio_ms"] is None
