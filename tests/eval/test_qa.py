"""Scores worked out by hand on a scripted model and judge; runs that stop and go on."""

import functools
import json

import numpy as np
import pytest
import soundfile

from eval.qa import Spoken, evaluate, overview, questions
from fo_core.data.manifest import describe

HEARD = {"one": "what color is the sky", "two": "what color is grass"}
SAID = {"one": "The sky is blue.", "two": "Grass is grin."}


class Script:
    """A model and a judge in one: which question it is, it tells from the length of the wave."""

    def __init__(self, fail_at=None):
        self.fail_at, self.asked = fail_at, 0

    def name(self, wave):
        return {4000: "one", 8000: "two"}[len(wave)]

    def hear(self, wave):
        return HEARD[self.name(wave)].replace("grass", "glass")

    repeat = hear

    def states(self, wave, chunks):
        return [0] * (chunks - 1) + [1]

    def answer(self, wave):
        self.asked += 1
        if self.asked == self.fail_at:
            raise KeyboardInterrupt
        name = self.name(wave)
        long = {"one": 24000, "two": 0}[name]
        return Spoken(SAID[name], np.zeros(long, np.float32) + 0.1, 100.0 * self.asked, 0.5)

    def codec(self, wave):
        return wave

    def transcribe(self, wave):
        return "the sky is blew" if len(wave) == 16000 else "grass is green"


@pytest.fixture
def asked(tmp_path):
    rng = np.random.default_rng(0)

    def item(name, samples, rate=16000, **known):
        path = tmp_path / f"{samples}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(samples), rate)
        return describe(path, id=name, **known)

    user = [
        item("one", 4000, text="What colour is the sky?", answer="the sky is blue",
             answers=("blue",), states=(0, 1)),
        item("a/two", 8000, text="What color is grass?", answer="Grass is green.",
             answers=("green",), states=(0, 0, 0, 1)),
        item("noise", 4000, states=(0, 2)),
    ]  # fmt: skip
    return questions(user, [item("said", 12000, 24000, text="Grass is green.")])


def test_scores_by_hand(asked, tmp_path):
    found = evaluate(asked, Script, Script, tmp_path / "out", "m1")
    assert found["items"] == 2
    assert found["input1_wer"] == 1 / 9  # grass heard as glass
    assert found["answer_agreement"] == 0.5
    assert (found["text_accuracy"], found["answer_accuracy"], found["speech_accuracy"]) == (
        1,
        0.5,
        0,
    )
    assert (found["wer_original"], found["wer_codec"]) == (0, 0)
    assert found["wer_reply"] == 4 / 7  # blew for blue, and three words never said
    assert found["mute_replies"] == 1
    assert found["state_f1"]["confusion"] == [[5, 0, 0], [0, 2, 0], [0, 1, 0]]
    assert found["state_f1"]["dismiss"]["f1"] == 0
    assert found["state_f1"]["macro"] == pytest.approx((1 + 0.8 + 0) / 3)
    assert (found["first_audio_ms"], found["first_audio_ms_p90"]) == (150.0, 190.0)
    assert (tmp_path / "out" / "replies" / "one.flac").is_file()
    assert json.loads((tmp_path / "out" / "overview.json").read_text()) == found


def test_a_stopped_run_goes_on_and_another_model_starts_anew(asked, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate(asked, lambda: Script(fail_at=2), Script, tmp_path, "m1")
    seen = []
    script = Script()
    again = functools.partial(evaluate, asked, lambda: script, Script, tmp_path)
    again("m1", progress=lambda what, done, of: seen.append((done, of)))
    assert script.asked == 1 and seen[0] == (1, 3)
    again("m1")
    assert script.asked == 1  # all there
    again("m2")
    assert script.asked == 3


def test_two_processes_give_the_same_lines(asked, tmp_path):
    one = evaluate(asked, Script, Script, tmp_path / "1", "m")
    two = evaluate(asked, Script, Script, tmp_path / "2", "m", workers=2)
    for name in ("first_audio_ms", "first_audio_ms_p90"):  # the script counts within a process
        del one[name], two[name]
    assert one == two
    rows = (tmp_path / "2" / "items.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["one", "a/two", "noise"]


def test_nothing_measured_is_none_not_zero():
    found = overview([])
    assert found["input1_wer"] is None and found["rtf"] is None and found["state_f1"] == {}
    assert found["speech_accuracy"] is None
