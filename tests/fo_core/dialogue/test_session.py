"""A conversation: turns, history, interruption, and results that do not depend on threads."""

import pytest
import torch

from fo_core.config import replace
from fo_core.dialogue.answer import answer_wave
from fo_core.dialogue.context import forget_after
from fo_core.dialogue.segmenter import SegmenterConfig
from fo_core.dialogue.session import DialogueConfig, Session
from fo_core.dialogue.settings import read_dialogue, write_dialogue
from fo_core.dialogue.speaker import SpeakerConfig
from fo_core.dialogue.states import DialogueState, Event, StateRule
from fo_core.dialogue.turns import DuplexConfig
from fo_core.dialogue.vocoder import VocoderConfig
from fo_core.models.steps import drive
from fo_core.sampling import SamplingConfig

CFG = DialogueConfig(
    sampling=SamplingConfig(temperature=4.0, top_k=5),
    segmenter=SegmenterConfig(stops="aeiou.", min_tokens=3, max_tokens=24, careful=False),
    speaker=SpeakerConfig(
        max_tokens=30,
        vocoder=VocoderConfig(first_chunk=4, chunk=6, overlap=3, cut_window=201, onset=0.0),
    ),
    states=StateRule(answer_threshold=1.0, ignore_threshold=1.0),
    duplex=DuplexConfig(vad="energy"),  # noise is speech to these tests
)
ANSWERS = replace(CFG, states=StateRule(answer_threshold=0.0, ignore_threshold=1.0))
IGNORES = replace(CFG, states=StateRule(ignore_threshold=0.0))


def speech(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(int(16000 * seconds), generator=generator)


def ask(session: Session, seed: int = 0, chunks: int = 4) -> list:
    for chunk in speech(0.16 * chunks, seed).split(2560):
        session.listen(chunk)
    session.end_turn()
    return list(session.reply())


def summary(events: list) -> tuple:
    audio = [event.audio for event in events if event.kind == "audio"]
    return [event.text for event in events if event.kind == "text"], torch.cat(audio)


def test_writing_ahead_changes_nothing(tiny_model):
    texts, audio = summary(ask(Session(tiny_model, CFG)))
    texts2, audio2 = summary(ask(Session(tiny_model, replace(CFG, write_ahead=False))))
    assert texts == texts2 and len(texts) > 1 and torch.equal(audio, audio2)
    assert audio.dtype == torch.float32 and len(audio) > 0


def test_nothing_is_written_ahead_before_the_first_audio(tiny_model):
    session = Session(tiny_model, CFG)
    for chunk in speech(0.64).split(2560):
        session.listen(chunk)
    session.end_turn()
    reply = session.reply()
    assert next(reply).kind == "text"
    reply.close()
    assert len(session.turns[0].parts) == 1


def test_text_comes_before_its_audio_and_times_rise(tiny_model):
    events = ask(Session(tiny_model, CFG))
    seconds = [event.seconds for event in events]
    assert seconds == sorted(seconds)
    written = set()
    for event in events:
        written |= {event.part} if event.kind == "text" else set()
        assert event.part in written


def test_the_second_turn_sees_the_first(tiny_model):
    session = Session(tiny_model, CFG)
    ask(session, seed=1)
    length = session.length
    second = summary(ask(session, seed=2))
    assert session.length > length and len(session.turns) == 2
    assert session.turns[1].start == length
    alone = summary(ask(Session(tiny_model, CFG), seed=2))
    assert second[0] != alone[0] or not torch.equal(second[1], alone[1])


def test_two_sessions_on_one_model_do_not_mix(tiny_model):
    waves = [speech(0.64, seed).split(2560) for seed in (3, 4)]
    together = [Session(tiny_model, CFG) for _ in waves]
    for chunks in zip(*waves, strict=True):
        for session, chunk in zip(together, chunks, strict=True):
            session.listen(chunk)
    for session, seed in zip(together, (3, 4), strict=True):
        session.end_turn()
        texts, audio = summary(list(session.reply()))
        alone = summary(ask(Session(tiny_model, CFG), seed))
        assert texts == alone[0] and torch.equal(audio, alone[1])


def test_the_state_head_ends_a_turn(tiny_model):
    session = Session(tiny_model, ANSWERS)
    drive(session.onset_steps(speech(0.32).split(2560)))  # the onset cannot end the turn
    assert session.state is DialogueState.LISTENING and session.turns[-1].chunks == 2
    assert session.listen(speech(0.16), may_end=False).event is Event.ANSWER
    assert session.state is DialogueState.LISTENING
    session.listen(speech(0.16))
    assert session.state is DialogueState.SPEAKING
    with pytest.raises(ValueError, match="fork"):
        session.listen(speech(0.16))
    assert list(session.reply(speak=False)) and session.state is DialogueState.IDLE


def test_an_ignored_turn_leaves_no_trace(tiny_model):
    session = Session(tiny_model, IGNORES)
    before = session.length
    assert session.listen(speech(0.16)).event is Event.IGNORE
    assert session.state is DialogueState.IDLE and session.length == before
    session.cfg = CFG
    texts, audio = summary(ask(session, seed=7))
    fresh = Session(tiny_model, CFG)
    fresh.turns.append(session.turns[0])  # the same stream of random numbers
    alone = summary(ask(fresh, seed=7))
    assert texts == alone[0] and torch.equal(audio, alone[1])


def test_probabilities_sum_to_one_and_do_not_depend_on_the_judge(tiny_model):
    session = Session(tiny_model, CFG)
    length = session.length
    for chunk in speech(0.8).split(2560):
        p = session.listen(chunk).probabilities
        assert abs(p.listen + p.answer + p.ignore - 1) < 1e-5
    if tiny_model.state_head.has_probe:  # the probes are gone from the cache again
        opening = len(session.parts.opening(True)) + tiny_model.prompt.used
        vectors = session.length - length - opening
        assert 0 <= vectors <= 20


def test_interrupted_answers_are_forgotten_past_what_was_heard(tiny_model):
    session = Session(tiny_model, CFG)
    ask(session, seed=5)
    turn, full = session.turns[0], session.length
    heard = session.fork()
    assert forget_after(heard, heard.turns[-1], turn.parts[0].segment.stop)
    assert heard.length == turn.answer.start + turn.parts[0].segment.stop < full
    assert heard.turns[0].answer.text == turn.parts[0].segment.text_raw
    assert session.length == full and len(turn.parts) > 1  # the original is as it was
    assert summary(ask(heard, seed=6))[0]
    assert forget_after(session, turn, 0)
    assert session.length == turn.answer.start and turn.answer.token_ids == []


def test_a_reply_may_be_left_early(tiny_model):
    session = Session(tiny_model, CFG)
    session.listen(speech(0.16))
    session.end_turn()
    events = session.reply()
    next(events)
    events.close()
    assert session.state is DialogueState.IDLE
    turn = session.turns[-1]
    assert forget_after(session, turn, turn.parts[0].segment.stop)
    assert ask(session)


def test_a_typed_question_is_answered(tiny_model):
    session = Session(tiny_model, CFG)
    session.hear_text("Who are you?")
    texts, audio = summary(list(session.reply()))
    assert "".join(texts) == session.turns[0].answer.text and len(audio) > 0


def test_nothing_to_answer_is_an_error(tiny_model):
    with pytest.raises(ValueError, match="nothing to answer"):
        next(Session(tiny_model, CFG).reply())


def test_a_file_is_answered_with_timings(tiny_model):
    answer = answer_wave(tiny_model, speech(0.5), CFG)
    t = answer.timings
    assert answer.ended_by == "input-end" and len(answer.states) == t.chunks == 4
    legs = t.prefill_ms + t.first_text_ms + t.decoder_prefill_ms + t.first_tokens_ms + t.codec_ms
    assert abs(legs - t.first_audio_ms) < 1.0 and t.rtf > 0 and t.listen_rtf > 0
    assert answer.sample_rate == 24000 and answer.wave.numel() / 24000 == t.reply_seconds
    assert answer_wave(tiny_model, speech(0.5), IGNORES).ended_by == "input-end"
    assert answer_wave(tiny_model, speech(0.5), ANSWERS).timings.chunks == 1


def test_dialogue_json_round_trips(tmp_path):
    assert read_dialogue(tmp_path) == DialogueConfig()
    write_dialogue(tmp_path, CFG)
    assert read_dialogue(tmp_path) == CFG
    assert read_dialogue(tmp_path, ["seed=3"]).seed == 3
