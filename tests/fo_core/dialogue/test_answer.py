"""Whole questions, recorded and typed: turns, history, timings, and what ends a file."""

import pytest
import torch

from fo_core.config import replace
from fo_core.dialogue.conversation import new_prefixes
from fo_core.dialogue.drivers.answer import answer_wave, ask_text, ask_wave, file_talk
from fo_core.dialogue.settings import (
    DialogueConfig,
    DuplexConfig,
    read_dialogue,
    write_dialogue,
)
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.dialogue.states import StateRule
from fo_core.errors import ConfigError
from fo_core.io.files import write_json
from fo_core.models.steps import LLMRequest, drive
from fo_core.sampling import SamplingConfig

CFG = DialogueConfig(
    sampling=SamplingConfig(temperature=4.0, top_k=5),
    segmenter=SegmenterConfig(stops="aeiou.", min_tokens=3, max_tokens=24, careful=False),
    speaker=SpeakerConfig(
        max_tokens=30,
        vocoder=VocoderConfig(first_chunk=4, chunk=6, overlap=3, cut_window=201, onset=0.0),
    ),
    states=StateRule(respond_threshold=1.0, dismiss_threshold=1.0),
    duplex=DuplexConfig(vad="energy"),  # noise is speech to these tests
)
ANSWERS = replace(CFG, states=StateRule(respond_threshold=0.0, dismiss_threshold=1.0))
IGNORES = replace(CFG, states=StateRule(dismiss_threshold=0.0))


def speech(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(int(16000 * seconds), generator=generator)


def test_the_second_turn_sees_the_first(tiny_model):
    talk = file_talk(tiny_model, CFG)
    ask_wave(talk, speech(0.64, 1))
    said = talk.conversation
    length = said.length
    second = ask_wave(talk, speech(0.64, 2))
    assert said.length > length and len(said.turns) == 2 and said.turns[1].start == length
    alone = answer_wave(tiny_model, speech(0.64, 2), CFG)
    assert second.text != alone.text or not torch.equal(second.wave, alone.wave)


def test_two_talks_on_one_model_do_not_mix(tiny_model):
    waves = [speech(0.64, seed) for seed in (3, 4)]
    together = [file_talk(tiny_model, CFG) for _ in waves]
    for start in range(0, len(waves[0]) - 2560, 2560):
        for talk, wave in zip(together, waves, strict=True):
            talk.push(wave[start : start + 2560])
            list(talk.run())
    for talk, wave in zip(together, waves, strict=True):
        found, alone = ask_wave(talk, wave[-2560:]), answer_wave(tiny_model, wave, CFG)
        assert found.text == alone.text and torch.equal(found.wave, alone.wave)


def test_a_file_that_was_ignored_leaves_no_trace(tiny_model):
    """In a talk that may dismiss turns; the answer after it is as if it had not been."""
    talk = file_talk(tiny_model, CFG)
    length = talk.conversation.length
    talk.turns._rule = StateRule(dismiss_threshold=0.0)
    assert ask_wave(talk, speech(0.16)).ended_by == "dismiss"
    assert talk.conversation.length == length and not talk.conversation.find(0)
    talk.turns._rule = CFG.states
    found, fresh = ask_wave(talk, speech(0.64, 7)), file_talk(tiny_model, CFG)
    fresh.conversation.forgotten += 1  # the same stream of random numbers
    alone = ask_wave(fresh, speech(0.64, 7))
    assert found.text == alone.text and torch.equal(found.wave, alone.wave)


def test_probabilities_sum_to_one_and_open_words_leave_no_trace(tiny_model):
    talk = file_talk(tiny_model, CFG)
    said = talk.conversation
    length = said.length
    talk.push(speech(0.8))
    states = [e for e in talk.run() if type(e).__name__ == "ChunkState"]
    assert len(states) == 5
    for p in states:
        assert abs(p.continue_ + p.respond + p.dismiss - 1) < 1e-5
    if said.skips_silence:  # words that were not complete are gone from the cache again
        opening = len(said.parts.opening(True)) + tiny_model.prompt.used
        assert 0 <= said.length - length - opening <= 20


def test_answers_are_cut_to_what_was_heard(tiny_model):
    talk = file_talk(tiny_model, CFG)
    ask_wave(talk, speech(0.64, 5))
    said = talk.conversation
    turn, full = said.turns[0], said.length
    heard = said.fork()
    first = turn.pieces[0]
    assert heard.cut_answer(0, first.stop)
    assert heard.length == turn.answer.start + first.stop < full
    assert heard.turns[0].answer.text == first.text_raw
    assert said.length == full and len(turn.pieces) > 1  # the original is as it was
    assert said.cut_answer(0, 0)
    assert said.length == turn.answer.start and turn.answer.token_ids == []


def test_an_untrained_head_hears_what_was_before_in_one_step(tiny_model, monkeypatch):
    """And of a turn that is over nothing is kept for the state head when all is read again."""
    talk = file_talk(tiny_model, CFG).conversation
    monkeypatch.setattr(tiny_model.state_head, "left_out", True, raising=False)
    talk.begin(0)
    steps, run = [], LLMRequest.run
    monkeypatch.setattr(LLMRequest, "run", lambda step: steps.append(step) or run(step))
    drive(talk.hear_before([speech(0.16, n) for n in range(3)]))
    assert len(steps) == 1
    talk.turns[-1].open = False
    drive(talk.refeed(64, new_prefixes()))
    before = talk.turns[-1].states.told
    assert before is not None and before.shape[1] == 1
    talk.turns[-1].states.told = None
    drive(talk.refeed(64, new_prefixes()))
    assert talk.turns[-1].states.told is None


def test_a_typed_question_is_answered(tiny_model):
    talk = file_talk(tiny_model, CFG)
    found = ask_text(talk, "Who are you?")
    assert found.text == talk.conversation.turns[0].answer.text and len(found.wave) > 0
    again = ask_text(talk, "And then?")
    assert again.text and talk.conversation.turns[0].answer.text == found.text  # all was heard


def test_a_file_is_answered_with_timings(tiny_model):
    answer = answer_wave(tiny_model, speech(0.5), CFG)
    t = answer.timings
    assert answer.ended_by == "input-end" and len(answer.states) == t.chunks == 4
    legs = t.prefill_ms + t.first_text_ms + t.decoder_prefill_ms + t.first_tokens_ms + t.codec_ms
    assert abs(legs - t.first_audio_ms) < 1.0 and t.rtf > 0 and t.listen_rtf > 0
    assert answer.sample_rate == 24000 and answer.wave.numel() / 24000 == t.reply_seconds
    assert answer_wave(tiny_model, speech(0.5), IGNORES).ended_by == "input-end"
    early = answer_wave(tiny_model, speech(0.5), ANSWERS)
    assert early.ended_by == "respond" and early.timings.chunks == 1


def test_a_file_may_be_longer_than_a_turn_of_a_talk(tiny_model):
    cfg = replace(CFG, duplex=replace(CFG.duplex, max_turn_seconds=0.3))
    assert answer_wave(tiny_model, speech(0.8), cfg).timings.chunks == 5


def test_dialogue_json_round_trips(tmp_path):
    assert read_dialogue(tmp_path) == DialogueConfig()
    write_dialogue(tmp_path, CFG)
    assert read_dialogue(tmp_path) == CFG
    assert read_dialogue(tmp_path, ["seed=3"]).seed == 3


def test_an_old_dialogue_json_is_read_and_an_old_key_of_set_is_refused(tmp_path, caplog):
    old = {"states": {"answer_threshold": 0.9}, "duplex": {"turn": {"patience_ms": 2000}}}
    write_json(tmp_path / "dialogue.json", old | {"write_ahead": True})
    found = read_dialogue(tmp_path)
    assert found.states.respond_threshold == 0.9
    assert found.duplex.turn.end_of_turn_timeout_ms == 2000
    assert "write_ahead has no effect any more" in caplog.text
    write_json(tmp_path / "dialogue.json", {})
    with pytest.raises(ConfigError, match="patience_ms is duplex.turn.end_of_turn_timeout_ms now"):
        read_dialogue(tmp_path, ["duplex.turn.patience_ms=1"])


def test_reading_again_gives_the_same_context(tiny_model):
    talk = file_talk(tiny_model, CFG, speak=False)
    ask_wave(talk, speech(0.64, 8))
    said = talk.conversation
    before = said.length
    drive(said.refeed(64, new_prefixes()))
    # the token that was chosen last is fed only by reading again
    assert said.length - before in (0, 1)
