"""How much of an answer was heard: whole pieces exactly, inside of a piece whole words."""

import pytest

from fo_core.dialogue.history import Spoken, Turn, tokens_heard
from fo_core.dialogue.playback import Playback
from fo_core.dialogue.speech.segmenter import Segment
from fo_core.dialogue.speech.writer import Answer
from fo_core.streaming import SAMPLE_RATE

WORDS = ["The", " cap", "ital", " is", " Rome", ".", " It", " is", " old", "."]


class Tokenizer:
    def decode(self, token_ids, /, skip_special_tokens=True):
        return "".join(WORDS[i] for i in token_ids)

    def encode(self, text, /, add_special_tokens=False):
        raise NotImplementedError


def piece(start: int, stop: int) -> Segment:
    text = "".join(WORDS[start:stop])
    return Segment(text, text, [], start, stop)


@pytest.fixture
def turn() -> Turn:
    answer = Answer(0, list(range(10)), ended=True, text="".join(WORDS))
    return Turn(0, answer=answer, pieces=[piece(0, 6), piece(6, 10)])


def heard(turn: Turn, spoken: list[Spoken], played: int) -> str:
    tokens = tokens_heard(turn, spoken, played, 24000, Tokenizer())
    return "".join(WORDS[:tokens])


def test_pieces_and_words(turn):
    spoken = [Spoken(0, 600, True), Spoken(600, 1000, True)]
    assert heard(turn, spoken, 0) == ""
    assert heard(turn, spoken, 99) == ""
    assert heard(turn, spoken, 250) == "The"  # in the middle of "capital"
    assert heard(turn, spoken, 300) == "The capital"
    assert heard(turn, spoken, 599) == "The capital is Rome"
    assert heard(turn, spoken, 600) == "The capital is Rome."
    assert heard(turn, spoken, 999) == "The capital is Rome. It is old"
    assert heard(turn, spoken, 1000) == "".join(WORDS)


def test_a_piece_whose_sound_is_not_all_made(turn):
    assert heard(turn, [Spoken(0, 600, True)], 600) == "The capital is Rome."
    late = [Spoken(0, 24000, False)]  # six tokens take about 1.8 s
    assert heard(turn, late, 24000) == "The capital"
    assert tokens_heard(Turn(0), late, 9, 24000, Tokenizer()) == 0


def test_the_playback_position():
    play = Playback(24000)
    play.begin_part()
    assert play.add(2400, clock=1000) == 0 and play.position(1000) == 0
    assert play.position(1800) == 1200 and not play.over(1800)
    assert play.position(90000) == 2400  # it waits for more
    assert play.add(2400, clock=90000) == 2400
    assert play.position(90160) == 2640 and play.ahead(90160) == pytest.approx(2160 / 24000)
    play.tell(3000)
    assert play.position(10 * SAMPLE_RATE * 60) == 3000  # who tells is believed
    play.tell(10)
    assert play.position(0) == 3000  # never back
    play.tell(10**9)
    play.done = True
    assert play.position(0) == 4800 and play.over(0)
