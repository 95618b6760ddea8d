"""Scripted users: the script, what is noted of a reply, and what a run finds that differs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny_models import tiny_model

from eval.latency.load import Reply, User, alone, run, script
from fo_core.dialogue.settings import DialogueConfig, DuplexConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.dialogue.states import StateRule
from fo_core.errors import FoError
from fo_core.models.freeze_omni import PARTS
from fo_core.sampling import SamplingConfig

RATE = 16000


def test_a_script_takes_questions_in_turn() -> None:
    one, two = np.ones(RATE, "f4"), np.full(2 * RATE, 2, "f4")
    wave = script([one, two], 3.0, 9.5)
    assert wave.size == 9 * RATE  # whole slots only
    assert [wave[second * RATE] for second in range(9)] == [1, 0, 0, 2, 2, 0, 1, 0, 0]
    with pytest.raises(FoError, match=r"2\.0 s long, a slot 1\.5 s"):
        script([one, two], 1.5, 9.0)


def test_users_get_what_one_gets_alone_and_a_changed_sample_is_seen() -> None:
    model = tiny_model().eval()
    model.trained |= set(PARTS)
    dialogue = DialogueConfig(
        sampling=SamplingConfig(top_k=1),
        states=StateRule(respond_threshold=0.0, dismiss_threshold=1.0, min_chunks=3),  # one turn
        duplex=DuplexConfig(vad="energy"),
        segmenter=SegmenterConfig(min_tokens=3, max_tokens=24, careful=False),
        speaker=SpeakerConfig(
            max_tokens=30,
            vocoder=VocoderConfig(first_chunk=4, chunk=6, overlap=3, cut_window=201, onset=0.0),
        ),
    )
    noise = 0.3 * np.random.default_rng(0).standard_normal(RATE // 2).astype("f4")
    wave = script([noise], 2.0, 2.0)
    wanted = alone(model, dialogue, wave, 2)
    assert wanted and wanted[0].samples and wanted[0].in_order
    found = run(model, dialogue, wave, 2, 1, 2, wanted, stagger=0.1)
    assert found.sessions == 2 and found.replies == 2 * len(wanted)
    assert (found.differing, found.out_of_order, found.missing) == (0, 0, 0), found.faults
    assert len(found.memory_mib) and found.first_audio[0] > 0
    pieces = [wanted[0].pieces[0][::-1], *wanted[0].pieces[1:]]
    other = [dataclasses.replace(wanted[0], pieces=pieces), *wanted[1:]]
    assert run(model, dialogue, wave, 1, 1, 1, other).differing == 1


def test_a_reply_that_was_cut_is_compared_as_far_as_it_came_and_those_after_it_are_not() -> None:
    def user(*audios, **how) -> User:
        made = User(np.zeros(0))
        for turn, audio in enumerate(audios):
            reply = made.replies[turn] = Reply(text="words", status="completed", played=True)
            for sample in audio:
                reply.add(np.array([sample], np.float32))
        for name, value in how.items():
            setattr(made.replies[1], name, value)
        return made

    wanted = user([1], [2, 3], [4]).answered
    assert user([1], [2, 9], [4]).against(wanted) == (1, 0)
    cut = {"status": "cancelled", "overrun": True}
    assert user([1], [2], [5], **cut).against(wanted) == (0, 1)
    assert user([1], [9], [5], **cut).against(wanted) == (1, 1)
